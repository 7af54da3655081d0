//! Archives made byte by byte, with everything that real ones have, and what none should.

use tar::Header;

/// An archive that is being made.
#[derive(Default, Clone)]
pub(crate) struct Archive(Vec<u8>);

/// One entry of an archive.
#[derive(Clone)]
pub(crate) struct Entry {
    path: Vec<u8>,
    header: Header,
    link: Vec<u8>,
    data: Vec<u8>,
    records: Vec<u8>,
}

pub(crate) fn directory(path: impl AsRef<[u8]>) -> Entry {
    Entry::new(b'5', path.as_ref()).mode(0o755)
}

pub(crate) fn file(path: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Entry {
    Entry { data: data.as_ref().to_vec(), ..Entry::new(b'0', path.as_ref()) }
}

pub(crate) fn hard_link(path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Entry {
    Entry { link: target.as_ref().to_vec(), ..Entry::new(b'1', path.as_ref()) }
}

pub(crate) fn symlink(path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Entry {
    Entry { link: target.as_ref().to_vec(), ..Entry::new(b'2', path.as_ref()) }.mode(0o777)
}

pub(crate) fn device(typeflag: u8, path: &str, major: u32, minor: u32) -> Entry {
    let mut entry = Entry::new(typeflag, path.as_bytes());
    entry.header.set_device_major(major).unwrap();
    entry.header.set_device_minor(minor).unwrap();
    entry
}

pub(crate) fn fifo(path: &str) -> Entry {
    Entry::new(b'6', path.as_bytes())
}

impl Entry {
    pub(crate) fn new(typeflag: u8, path: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.as_old_mut().linkflag = [typeflag];
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        Self { path: path.to_vec(), header, link: vec![], data: vec![], records: vec![] }
    }

    pub(crate) fn mode(mut self, mode: u32) -> Self {
        self.header.set_mode(mode);
        self
    }

    pub(crate) fn owner(mut self, uid: u64, gid: u64) -> Self {
        self.header.set_uid(uid);
        self.header.set_gid(gid);
        self
    }

    pub(crate) fn mtime(mut self, seconds: u64) -> Self {
        self.header.set_mtime(seconds);
        self
    }

    pub(crate) fn data(mut self, data: &[u8]) -> Self {
        self.data = data.to_vec();
        self
    }

    /// Adds a pax record, in a header of its own before the entry's.
    pub(crate) fn pax(mut self, key: &str, value: impl AsRef<[u8]>) -> Self {
        self.records.extend(record(key, value.as_ref()));
        self
    }

    pub(crate) fn xattr(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.pax(&format!("SCHILY.xattr.{name}"), value)
    }

    pub(crate) fn header(mut self, change: impl FnOnce(&mut Header)) -> Self {
        change(&mut self.header);
        self
    }
}

pub(crate) fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let digits = (1..20).find(|digits| (rest + digits).to_string().len() == *digits).unwrap();
    [format!("{} {key}=", rest + digits).as_bytes(), value, b"\n"].concat()
}

impl Archive {
    pub(crate) fn new(entries: impl IntoIterator<Item = Entry>) -> Self {
        entries.into_iter().fold(Self::default(), Self::with)
    }

    pub(crate) fn with(mut self, entry: Entry) -> Self {
        if !entry.records.is_empty() {
            self.push(b'x', &entry.records);
        }
        if entry.path.len() > 100 {
            self.push(b'L', &[&entry.path[..], b"\0"].concat());
        }
        if entry.link.len() > 100 {
            self.push(b'K', &[&entry.link[..], b"\0"].concat());
        }
        let mut header = entry.header;
        let old = header.as_old_mut();
        copy(&mut old.name, &entry.path);
        copy(&mut old.linkname, &entry.link);
        if header.as_old().size == [0; 12] {
            header.set_size(entry.data.len() as u64);
        }
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.raw(&entry.data)
    }

    /// Adds an extension header.
    pub(crate) fn extension(mut self, typeflag: u8, data: &[u8]) -> Self {
        self.push(typeflag, data);
        self
    }

    /// Adds bytes as they are, padded to blocks.
    pub(crate) fn raw(mut self, data: &[u8]) -> Self {
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn push(&mut self, typeflag: u8, data: &[u8]) {
        let mut header = Header::new_gnu();
        header.as_old_mut().linkflag = [typeflag];
        copy(&mut header.as_old_mut().name, b"././@LongLink");
        header.set_size(data.len() as u64);
        header.set_mode(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        *self = std::mem::take(self).raw(data);
    }

    /// The bytes, without the blocks that mark the end.
    pub(crate) fn unfinished(self) -> Vec<u8> {
        self.0
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

fn copy(field: &mut [u8], bytes: &[u8]) {
    let length = bytes.len().min(field.len());
    field[..length].copy_from_slice(&bytes[..length]);
}

//! Headers of a tar archive: ustar, and pax records for what it has no room for.

use std::fmt::Write;

use tar::EntryType;
use transfer::Time;

use super::body::Body;

/// Bytes of a header, and what everything is padded to.
pub(super) const BLOCK: usize = 512;
/// The largest number that seven octal digits hold.
const MAX_SEVEN: u32 = 0o7_777_777;
/// The largest number that eleven octal digits hold.
const MAX_ELEVEN: u64 = 0o77_777_777_777;
/// The names that records and sparse files have for a reader that knows neither.
const RECORDS_NAME: &[u8] = b"PaxHeaders.0";
const SPARSE_NAME: &[u8] = b"GNUSparseFile.0";

/// What a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Type {
    Directory,
    File { size: u64 },
    Symlink(Vec<u8>),
    Link(Vec<u8>),
    Fifo,
    Character(u32, u32),
    Block(u32, u32),
}

/// A member of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    /// From the root, which is empty.
    pub(super) path: Vec<u8>,
    pub(super) kind: Type,
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) modified: Time,
    /// Full names and values.
    pub(super) attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

type Records = Vec<(Vec<u8>, Vec<u8>)>;

impl Member {
    /// Writes the headers. A file's content follows.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let size = if let Type::File { size } = self.kind { size } else { 0 };
        let path = match (&self.kind, self.path.as_slice()) {
            (Type::Directory, b"") => b"./".to_vec(),
            (Type::Directory, path) => [path, b"/"].concat(),
            (_, path) => path.to_vec(),
        };
        self.write_as(&path, size, Records::new(), out);
    }

    /// Writes the headers of a file that has data in `segments` only, and the list of them that its content begins
    /// with: <https://www.gnu.org/software/tar/manual/html_node/Sparse-Formats.html>. What is returned follows.
    pub(super) fn write_sparse(&self, segments: Vec<(u64, u64)>, out: &mut Vec<u8>) -> Body {
        let Type::File { size } = self.kind else { unreachable!("only files have segments") };
        let mut map = format!("{}\n", segments.len());
        for (offset, length) in &segments {
            let _ = write!(map, "{offset}\n{length}\n");
        }
        let mut map = map.into_bytes();
        map.resize(map.len().next_multiple_of(BLOCK), 0);
        let body = Body::new(segments, size);
        let records = vec![
            (b"GNU.sparse.major".to_vec(), b"1".to_vec()),
            (b"GNU.sparse.minor".to_vec(), b"0".to_vec()),
            (b"GNU.sparse.name".to_vec(), self.path.clone()),
            (b"GNU.sparse.realsize".to_vec(), size.to_string().into_bytes()),
        ];
        self.write_as(SPARSE_NAME, map.len() as u64 + body.stored(), records, out);
        out.extend(map);
        body
    }

    fn write_as(&self, path: &[u8], size: u64, mut records: Records, out: &mut Vec<u8>) {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(self.entry_type());
        header.set_mode(self.mode.into());
        let mut long = |name: &str, value: String| records.push((name.into(), value.into_bytes()));
        for (name, id) in [("uid", self.uid), ("gid", self.gid)] {
            let fitting = if id > MAX_SEVEN { 0 } else { id };
            match name {
                "uid" => header.set_uid(fitting.into()),
                _ => header.set_gid(fitting.into()),
            }
            if id > MAX_SEVEN {
                long(name, id.to_string());
            }
        }
        header.set_size(if size > MAX_ELEVEN { 0 } else { size });
        if size > MAX_ELEVEN {
            long("size", size.to_string());
        }
        let seconds = u64::try_from(self.modified.seconds).ok().filter(|seconds| *seconds <= MAX_ELEVEN);
        header.set_mtime(seconds.unwrap_or(0));
        if seconds.is_none() || self.modified.nanoseconds > 0 {
            long("mtime", decimal(self.modified));
        }
        if let Type::Character(major, minor) | Type::Block(major, minor) = self.kind {
            // Linux has no larger ones.
            let fits = header.set_device_major(major.min(MAX_SEVEN));
            fits.and_then(|()| header.set_device_minor(minor.min(MAX_SEVEN)))
                .expect("ustar has both numbers");
        }
        if !place(&mut header.as_old_mut().name, path) {
            records.push((b"path".to_vec(), path.to_vec()));
        }
        if let Type::Symlink(target) | Type::Link(target) = &self.kind
            && !place(&mut header.as_old_mut().linkname, target)
        {
            records.push((b"linkpath".to_vec(), target.clone()));
        }
        let attributes = self.attributes.iter();
        records
            .extend(attributes.map(|(name, value)| ([b"SCHILY.xattr.", &name[..]].concat(), value.clone())));
        write_records(records, out);
        header.set_cksum();
        out.extend_from_slice(header.as_bytes());
    }

    fn entry_type(&self) -> EntryType {
        match self.kind {
            Type::Directory => EntryType::Directory,
            Type::File { .. } => EntryType::Regular,
            Type::Symlink(_) => EntryType::Symlink,
            Type::Link(_) => EntryType::Link,
            Type::Fifo => EntryType::Fifo,
            Type::Character(..) => EntryType::Char,
            Type::Block(..) => EntryType::Block,
        }
    }
}

/// Puts as much of `text` into a header's field as fits, and tells whether that is all.
fn place(field: &mut [u8], text: &[u8]) -> bool {
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
    length == text.len()
}

/// A time with its fraction, without zeros at the end.
fn decimal(time: Time) -> String {
    let (sign, seconds, nanoseconds) = match (time.seconds, time.nanoseconds) {
        (seconds @ ..0, 0) => ("-", seconds.unsigned_abs(), 0),
        // A second more on one side is less on the other.
        (seconds @ ..0, nanoseconds) => ("-", (seconds + 1).unsigned_abs(), 1_000_000_000 - nanoseconds),
        (seconds, nanoseconds) => ("", seconds.unsigned_abs(), nanoseconds),
    };
    if nanoseconds == 0 {
        return format!("{sign}{seconds}");
    }
    let text = format!("{sign}{seconds}.{nanoseconds:09}");
    text.trim_end_matches('0').to_owned()
}

/// Writes the records as a member of their own, by name; none if there are none.
fn write_records(mut records: Records, out: &mut Vec<u8>) {
    if records.is_empty() {
        return;
    }
    records.sort_unstable();
    let mut text = Vec::new();
    for (name, value) in &records {
        text.extend(record(name, value));
    }
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(EntryType::XHeader);
    place(&mut header.as_old_mut().name, RECORDS_NAME);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(text.len() as u64);
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
    text.resize(text.len().next_multiple_of(BLOCK), 0);
    out.extend(text);
}

/// `LENGTH NAME=VALUE` and a line's end; the length is that of all of it.
fn record(name: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = name.len() + value.len() + 3;
    let digits = |number: usize| number.to_string().len();
    let mut length = rest + digits(rest);
    if digits(length) > digits(rest) {
        length += 1;
    }
    [format!("{length} ").as_bytes(), name, b"=", value, b"\n"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_records_length_counts_itself() {
        assert_eq!(record(b"a", b"b"), b"6 a=b\n");
        assert_eq!(record(b"path", b"xxxx"), b"13 path=xxxx\n");
        for length in 0..300 {
            let record = record(b"k", &vec![b'v'; length]);
            let told: usize =
                std::str::from_utf8(&record).unwrap().split(' ').next().unwrap().parse().unwrap();
            assert_eq!(told, record.len());
        }
    }

    #[test]
    fn times_have_the_fraction_that_they_need() {
        let time = |seconds, nanoseconds| decimal(Time { seconds, nanoseconds });
        assert_eq!(time(5, 0), "5");
        assert_eq!(time(5, 500_000_000), "5.5");
        assert_eq!(time(5, 1), "5.000000001");
        assert_eq!(time(-5, 0), "-5");
        assert_eq!(time(-2, 750_000_000), "-1.25");
        assert_eq!(time(-1, 999_999_999), "-0.000000001");
    }
}

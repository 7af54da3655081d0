use std::collections::BTreeMap;
use std::fs::File;

use erofs::FileType;
use proptest::prelude::*;
use rootfs::{LayerBlob, Limits};
use transfer::Writer;

use super::*;

const ANY: Time = Time { seconds: 1_700_000_000, nanoseconds: 0 };

fn disk() -> DiskSize {
    "64m".parse().unwrap()
}

fn entry<'a>(path: &'a [u8], kind: Kind<'a>) -> Header<'a> {
    Header::Entry(Entry { path, kind, mode: 0o644, uid: 0, gid: 0, modified: ANY })
}

fn root() -> Header<'static> {
    entry(b"", Kind::Directory)
}

/// A stream of these headers; data are bytes of the letter x.
fn stream(headers: &[Header<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for header in headers {
        Writer::new(&mut bytes).header(header).unwrap();
        if let Header::Data { length, .. } = header {
            bytes.resize(bytes.len() + *length as usize, b'x');
        }
    }
    bytes
}

fn tar(stream: &[u8], disk: DiskSize) -> Result<Vec<u8>, LayerError> {
    let mut tar = LayerTar::new(stream, None, disk, |_| ());
    let mut bytes = Vec::new();
    match tar.read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(_) => Err(tar.into_failure().unwrap()),
    }
}

fn refused(headers: &[Header<'_>]) -> String {
    tar(&stream(headers), disk()).unwrap_err().to_string()
}

/// What the image that `layers` make has: each path with what it is.
fn converted(layers: &[Vec<u8>]) -> BTreeMap<String, String> {
    let directory = tempfile::tempdir().unwrap();
    let blob = |(number, layer): (usize, &Vec<u8>)| {
        let path = directory.path().join(number.to_string());
        std::fs::write(&path, layer).unwrap();
        let digest = image::Digest::of(layer).bytes();
        LayerBlob { path, digest, diff_id: digest, size: layer.len() as u64 }
    };
    let blobs: Vec<_> = layers.iter().enumerate().map(blob).collect();
    let image = tempfile::tempfile().unwrap();
    rootfs::convert(&blobs, &image, &Limits::default(), &mut |_| {}).unwrap();
    let reader = erofs::Reader::open(&image).unwrap();
    reader.check().unwrap();
    let mut found = BTreeMap::new();
    list(&reader, reader.root(), "", &mut found);
    found
}

fn list(reader: &erofs::Reader<'_, File>, nid: u64, path: &str, found: &mut BTreeMap<String, String>) {
    let inode = reader.inode(nid).unwrap();
    let attributes = inode.attributes;
    let content = match inode.file_type {
        FileType::Symlink => String::from_utf8_lossy(&reader.target(&inode).unwrap()).into_owned(),
        FileType::Regular => {
            let mut content = vec![0; inode.size as usize];
            reader.read_at(&inode, 0, &mut content).unwrap();
            summary(&content)
        }
        _ => inode.device.map_or_else(String::new, |device| format!("{}:{}", device.major(), device.minor())),
    };
    let xattrs = reader.xattrs(&inode).unwrap();
    let xattrs: Vec<_> = xattrs.iter().map(|(name, value)| shown(name, value)).collect();
    let time = (attributes.mtime.seconds, attributes.mtime.nanoseconds);
    let seen = describe(
        &format!("{:?}", inode.file_type),
        attributes.mode,
        (attributes.uid, attributes.gid),
        time,
        &content,
        &xattrs,
    );
    found.insert(path.to_owned(), seen);
    if inode.file_type == FileType::Directory {
        for entry in reader.entries(&inode).unwrap() {
            let name = entry.name.escape_ascii().to_string();
            if name != "." && name != ".." {
                list(reader, entry.nid, &format!("{path}/{name}"), found);
            }
        }
    }
}

fn shown(name: &[u8], value: &[u8]) -> String {
    format!("{}={}", name.escape_ascii(), value.escape_ascii())
}

/// A content in few words.
fn summary(content: &[u8]) -> String {
    format!("{} {}", content.len(), image::Digest::of(content))
}

fn describe(
    kind: &str,
    mode: u16,
    owner: (u32, u32),
    time: (i64, u32),
    content: &str,
    xattrs: &[String],
) -> String {
    format!("{kind} {mode:o} {owner:?} {time:?} {content} {xattrs:?}")
}

/// What is in an archive, with the types of its members.
fn members(tar: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(tar);
    let shown = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
        let entry = entry.unwrap();
        format!("{:?} {}", entry.header().entry_type(), entry.path_bytes().escape_ascii())
    };
    archive.entries().unwrap().map(shown).collect()
}

#[test]
fn what_is_gone_is_a_whiteout_and_what_hides_is_opaque() {
    let gone = || Kind::Character { major: 0, minor: 0 };
    let headers = [
        root(),
        entry(b"a", gone()),
        entry(b"d", Kind::Directory),
        Header::Attribute { name: OPAQUE.as_bytes(), value: b"y" },
        entry(b"d/b", gone()),
        entry(b"null", Kind::Character { major: 1, minor: 3 }),
        Header::End,
    ];
    let layer = tar(&stream(&headers), disk()).unwrap();
    let expected = [
        "Directory ./",
        "Regular .wh.a",
        "Directory d/",
        "Regular d/.wh..wh..opq",
        "Regular d/.wh.b",
        "Char null",
    ];
    assert_eq!(members(&layer), expected);
    let lower = [root(), entry(b"a", Kind::Fifo), entry(b"d", Kind::Directory), entry(b"d/c", Kind::Fifo)];
    let lower = tar(&stream(&[&lower[..], &[Header::End]].concat()), disk()).unwrap();
    let found: Vec<_> = converted(&[lower, layer]).into_keys().collect();
    assert_eq!(found, ["", "/d", "/null"]);
}

#[test]
fn a_hidden_root_says_so_in_the_root() {
    let mark = Header::Attribute { name: OPAQUE.as_bytes(), value: b"y" };
    let layer = tar(&stream(&[root(), mark, Header::End]), disk()).unwrap();
    assert_eq!(members(&layer), ["Directory ./", "Regular .wh..wh..opq"]);
}

#[test]
fn plain_headers_need_no_records_and_nothing_of_the_day_is_in_them() {
    let headers = [root(), entry(b"file", Kind::File { size: 3 }), Header::Data { offset: 0, length: 3 }];
    let bytes = stream(&[&headers[..], &[Header::End]].concat());
    let layer = tar(&bytes, disk()).unwrap();
    assert_eq!(layer.len(), 5 * 512);
    assert_eq!(layer, tar(&bytes, disk()).unwrap());
    let text = String::from_utf8_lossy(&layer);
    assert!(!text.contains("PaxHeaders"), "{text}");
}

#[test]
fn a_file_of_holes_takes_what_its_data_take() {
    let size = 40 << 30;
    let headers = [
        root(),
        entry(b"sparse", Kind::File { size }),
        Header::Segments(vec![(0, 100_000), (1 << 30, 1000), (size - 10, 10)]),
        Header::Data { offset: 50_000, length: 7 },
        Header::Data { offset: 1 << 30, length: 1000 },
        Header::Data { offset: size - 10, length: 10 },
        entry(b"hole", Kind::File { size: 1 << 20 }),
        Header::Segments(vec![]),
        Header::End,
    ];
    let layer = tar(&stream(&headers), disk()).unwrap();
    assert!(layer.len() < 110_000, "{}", layer.len());
    // Python's is an implementation that is not ours.
    let path = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(path.path(), layer).unwrap();
    let script = "import sys, tarfile\n\
        found = {m.name: m for m in tarfile.open(sys.argv[1])}\n\
        print(found['sparse'].size, found['hole'].size, sorted(found))\n\
        f = tarfile.open(sys.argv[1]).extractfile('sparse')\n\
        f.seek(49999); print(f.read(9)); f.seek((1 << 30) + 998); print(f.read(3)); f.seek(-11, 2); print(f.read())\n";
    let output = std::process::Command::new("python3").args(["-c", script]).arg(path.path()).output();
    let output = output.expect("`python3` is missing: sudo apt-get install python3-minimal");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let expected = format!(
        "{size} {} ['.', 'hole', 'sparse']\nb'\\x00xxxxxxx\\x00'\nb'xx\\x00'\nb'\\x00xxxxxxxxxx'\n",
        1 << 20
    );
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
}

#[test]
fn what_cannot_be_in_a_layer_is_told() {
    let (file, data) = (|| Kind::File { size: 10 }, |offset, length| Header::Data { offset, length });
    let attribute = |name: &'static [u8]| Header::Attribute { name, value: b"" };
    let cases: [(&[Header<'_>], &str); 11] = [
        (&[root(), entry(b"d/.wh.x", Kind::Fifo)], "`d/.wh.x` cannot be in a layer"),
        (&[root(), entry(b".wh.d/x", Kind::Fifo)], "`.wh.d/x` cannot be in a layer"),
        (&[root(), entry(b"l", Kind::Link { to: b".wh.x" })], "`.wh.x` cannot be in a layer"),
        (
            &[root(), entry(b"f", Kind::Fifo), attribute(b"user.a=b")],
            "`f` has the extended attribute `user.a=b`",
        ),
        (&[root(), entry(b"f", Kind::Fifo), attribute(b"trusted.x")], "an attribute is of no known kind"),
        (&[root(), entry(b"f", file()), attribute(OPAQUE.as_bytes()), data(0, 1)], "no directory is opaque"),
        (&[entry(b"", file())], "the root is no directory"),
        (&[entry(b"", Kind::Content)], "content is no change"),
        (
            &[root(), entry(b"f", file()), Header::Segments(vec![(0, 2), (5, 5)]), data(2, 3)],
            "outside of its",
        ),
        (
            &[root(), entry(b"f", file()), Header::Segments(vec![(0, 2), (5, 5)]), data(1, 3)],
            "outside of its",
        ),
        (&[root(), Header::Failed("no such luck")], "in the workspace: no such luck"),
    ];
    for (headers, reason) in cases {
        let error = refused(&[headers, &[Header::End]].concat());
        assert!(error.contains(reason), "{headers:?}: {error}");
    }
    assert!(matches!(tar(&stream(&[root()]), disk()), Err(LayerError::Cut)));
}

#[test]
fn a_layer_is_not_larger_than_its_disk_accounts_for() {
    // Neither zeros that nobody sent nor names without end.
    let zeros = [root(), entry(b"f", Kind::File { size: 1 << 40 }), Header::End];
    let stream = stream(&zeros);
    let mut tar = LayerTar::new(&stream[..], None, disk(), |_| ());
    let failed = std::io::copy(&mut tar, &mut std::io::sink());
    assert!(failed.is_err());
    let error = tar.into_failure().unwrap().to_string();
    assert!(error.contains("than a disk of 64m accounts for"), "{error}");
}

/// A file of a tree that is made up.
#[derive(Debug, Clone)]
struct Made {
    name: Vec<u8>,
    what: What,
    mode: u16,
    owner: (u32, u32),
    time: Time,
    xattr: Option<Vec<u8>>,
}

#[derive(Debug, Clone)]
enum What {
    Directory,
    File { size: u64, data: Vec<(u64, u32)>, sparse: bool },
    Symlink(Vec<u8>),
    Device(u32, u32),
}

fn what() -> impl Strategy<Value = What> {
    let data = proptest::collection::vec((0_u64..5000, 1_u32..3000), 0..4);
    let file = (data, 0_u64..5000, any::<bool>()).prop_map(|(steps, rest, sparse)| {
        let mut end = 0;
        let mut place = |(gap, length): (u64, u32)| {
            let start = end + gap;
            end = start + u64::from(length);
            (start, length)
        };
        let data: Vec<_> = steps.into_iter().map(&mut place).collect();
        What::File { size: end + rest, data, sparse }
    });
    prop_oneof![
        Just(What::Directory),
        file,
        proptest::collection::vec(1_u8.., 1..300).prop_map(What::Symlink),
        (1_u32..4096, 0_u32..1 << 20).prop_map(|(major, minor)| What::Device(major, minor)),
    ]
}

fn made() -> impl Strategy<Value = Made> {
    // Names of any bytes but those that names cannot have, or layers have other uses for.
    let byte = (1_u8..).prop_filter("no slash", |byte| *byte != b'/');
    let name = proptest::collection::vec(byte, 1..250)
        .prop_filter("a name of its own", |name| name != b"." && name != b".." && !name.starts_with(b".wh."));
    let time = (-5_000_000_000_i64..20_000_000_000, prop_oneof![Just(0), 0_u32..1_000_000_000]);
    let time = time.prop_map(|(seconds, nanoseconds)| Time { seconds, nanoseconds });
    let owner = (0..u32::MAX, prop_oneof![0_u32..70_000, 0..u32::MAX]);
    let xattr = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200));
    (name, what(), 0_u16..0o10000, owner, time, xattr)
        .prop_map(|(name, what, mode, owner, time, xattr)| Made { name, what, mode, owner, time, xattr })
}

impl Made {
    fn headers<'a>(&'a self, path: &'a [u8]) -> Vec<Header<'a>> {
        let kind = match &self.what {
            What::Directory => Kind::Directory,
            What::File { size, .. } => Kind::File { size: *size },
            What::Symlink(target) => Kind::Symlink { target },
            What::Device(major, minor) => Kind::Block { major: *major, minor: *minor },
        };
        let (uid, gid) = self.owner;
        let entry = Entry { path, kind, mode: self.mode, uid, gid, modified: self.time };
        let mut headers = vec![Header::Entry(entry)];
        headers.extend(self.xattr.as_ref().map(|value| Header::Attribute { name: b"user.x", value }));
        if let What::File { data, sparse, .. } = &self.what {
            let wide: Vec<_> = data.iter().map(|(offset, length)| (*offset, u64::from(*length))).collect();
            headers.extend(sparse.then_some(Header::Segments(wide)));
            headers.extend(
                data.iter().map(|(offset, length)| Header::Data { offset: *offset, length: *length }),
            );
        }
        headers
    }

    fn description(&self) -> String {
        let (kind, content) = match &self.what {
            What::Directory => ("Directory", String::new()),
            What::File { size, data, .. } => {
                let mut content = vec![0; *size as usize];
                for (offset, length) in data {
                    content[*offset as usize..][..*length as usize].fill(b'x');
                }
                ("Regular", summary(&content))
            }
            What::Symlink(target) => ("Symlink", String::from_utf8_lossy(target).into_owned()),
            What::Device(major, minor) => ("BlockDevice", format!("{major}:{minor}")),
        };
        let xattrs: Vec<_> = self.xattr.iter().map(|value| shown(b"user.x", value)).collect();
        let time = (self.time.seconds, self.time.nanoseconds);
        describe(kind, self.mode, self.owner, time, &content, &xattrs)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn changes_are_in_the_image_as_they_were(files in proptest::collection::vec(made(), 0..12)) {
        let mut paths = BTreeMap::new();
        let mut directory: Vec<u8> = Vec::new();
        for file in &files {
            let path = if directory.is_empty() {
                file.name.clone()
            } else {
                [&directory[..], b"/", &file.name].concat()
            };
            if paths.contains_key(&path) {
                continue;
            }
            if matches!(file.what, What::Directory) && path.len() < 2000 {
                directory.clone_from(&path);
            }
            paths.insert(path, file);
        }
        let mut headers = vec![root()];
        headers.extend(paths.iter().flat_map(|(path, file)| file.headers(path)));
        headers.push(Header::End);
        let layer = tar(&stream(&headers), disk()).unwrap();
        let mut found = converted(&[layer]);
        found.remove("");
        let name = |path: &[u8]| {
            let names = path.split(|byte| *byte == b'/').map(|name| name.escape_ascii().to_string());
            format!("/{}", names.collect::<Vec<_>>().join("/"))
        };
        let expected: BTreeMap<_, _> =
            paths.iter().map(|(path, file)| (name(path), file.description())).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn no_stream_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let start = stream(&[root(), entry(b"f", Kind::File { size: 100_000 })]);
        let _ = tar(&[start, bytes].concat(), disk());
    }
}

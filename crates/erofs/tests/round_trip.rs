//! Trees of all shapes survive being written and read, and satisfy `fsck.erofs`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::File;
use std::process::Command;

use erofs::{
    Attributes, Content, Device, Entry, FileType, Inode, InodeId, Reader, Timestamp, Tree, Writer, Xattrs,
};
use microagent_erofs as erofs;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Node {
    Directory(Vec<(Vec<u8>, Node)>),
    File(Vec<u8>),
    Symlink(Vec<u8>),
    Special(bool),
}

#[derive(Debug, Clone)]
struct Meta {
    attributes: Attributes,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

const ROOT: Attributes =
    Attributes { mode: 0o755, uid: 0, gid: 0, mtime: Timestamp { seconds: 0, nanoseconds: 0 } };

fn name() -> impl Strategy<Value = Vec<u8>> {
    let plain = |byte| if byte == b'/' { b'_' } else { byte };
    let byte = prop_oneof![Just(b'!'), Just(b'.'), Just(b'a'), (1..=255u8).prop_map(plain)];
    prop_oneof![
        proptest::collection::vec(byte.clone(), 1..12),
        proptest::collection::vec(byte, 200..256),
        (0..2000u32).prop_map(|number| format!("{number:040}").into_bytes()),
    ]
    .prop_map(|name| if matches!(&name[..], b"." | b"..") { b"...".to_vec() } else { name })
}

fn node() -> impl Strategy<Value = Node> {
    let bytes = |range: std::ops::Range<usize>| proptest::collection::vec(any::<u8>(), range);
    let target = |range: std::ops::Range<usize>| proptest::collection::vec(1..=255u8, range);
    let leaf = prop_oneof![
        prop_oneof![bytes(0..10), bytes(4090..4100), Just(vec![0; 20_000])].prop_map(Node::File),
        prop_oneof![target(1..20), target(3900..4096)].prop_map(Node::Symlink),
        any::<bool>().prop_map(Node::Special),
    ];
    leaf.prop_recursive(4, 40, 30, |inner| {
        proptest::collection::vec((name(), inner), 0..30).prop_map(Node::Directory)
    })
}

fn meta(seed: usize) -> Meta {
    let attributes = Attributes {
        mode: (seed * 7919 % 0o10000) as u16,
        uid: (seed as u32).wrapping_mul(0x9e37_79b9),
        gid: seed as u32,
        mtime: Timestamp {
            seconds: seed.cast_signed() as i64 * 1_000_003 - 50_000_000,
            nanoseconds: 999_999_999 - seed as u32,
        },
    };
    let length = [0, 1, 100, 4000, 60_000][seed % 5];
    let xattrs = match seed % 7 {
        0 => vec![(b"user.a".to_vec(), vec![1; length]), (b"security.capability".to_vec(), vec![2; 20])],
        1 => vec![(b"system.posix_acl_access".to_vec(), vec![3; 28])],
        _ => vec![],
    };
    Meta { attributes, xattrs }
}

struct Build<'w, 'f> {
    tree: Tree,
    writer: &'w mut Writer<'f>,
    seed: usize,
}

impl Build<'_, '_> {
    fn add(&mut self, node: &Node) -> InodeId {
        self.seed += 1;
        let Meta { attributes, xattrs: pairs } = meta(self.seed);
        let mut xattrs = Xattrs::default();
        for (name, value) in pairs {
            xattrs.insert(&name, &value).unwrap();
        }
        let content = match node {
            Node::Directory(_) => Content::Directory(erofs::Directory::default()),
            Node::File(data) => {
                let mut file = self.writer.file().unwrap();
                file.write(data).unwrap();
                Content::File(file.finish())
            }
            Node::Symlink(target) => Content::Symlink(target.clone().into()),
            Node::Special(true) => Content::CharDevice(Device::new(1, 300).unwrap()),
            Node::Special(false) => Content::Fifo,
        };
        let id = self.tree.add(Inode { attributes, xattrs, content }).unwrap();
        if let Node::Directory(children) = node {
            self.fill(id, children);
        }
        id
    }

    fn fill(&mut self, id: InodeId, children: &[(Vec<u8>, Node)]) {
        for (name, child) in children {
            let inode = self.add(child);
            self.tree.directory_mut(id).unwrap().insert(name, Entry { inode, tag: 0 });
        }
    }
}

/// Walks the image in the order in which the tree was built, and compares.
fn compare(reader: &Reader<'_, File>, nid: u64, node: &Node, seed: &mut usize) {
    let inode = reader.inode(nid).unwrap();
    *seed += 1;
    if *seed > 1 {
        let expected = meta(*seed - 1);
        assert_eq!(inode.attributes, expected.attributes);
        let mut pairs = expected.xattrs;
        pairs.sort();
        let mut found: Vec<_> = reader
            .xattrs(&inode)
            .unwrap()
            .iter()
            .map(|(name, value)| (name.to_vec(), value.to_vec()))
            .collect();
        found.sort();
        assert_eq!(found, pairs);
    }
    match node {
        Node::Directory(children) => {
            let entries = reader.entries(&inode).unwrap();
            let last = |name: &[u8]| children.iter().rposition(|(known, _)| known == name);
            let mut names: Vec<_> = children.iter().map(|(name, _)| &name[..]).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(entries.len(), names.len() + 2);
            for (index, (name, child)) in children.iter().enumerate() {
                if last(name) == Some(index) {
                    let entry = entries.iter().find(|entry| entry.name == *name).unwrap();
                    compare(reader, entry.nid, child, seed);
                } else {
                    *seed += count(child);
                }
            }
        }
        Node::File(data) => {
            let mut found = vec![0; data.len() + 1];
            assert_eq!(reader.read_at(&inode, 0, &mut found).unwrap(), data.len());
            assert_eq!(found[..data.len()], data[..]);
        }
        Node::Symlink(target) => assert_eq!(reader.target(&inode).unwrap(), *target),
        Node::Special(true) => assert_eq!(inode.device, Device::new(1, 300)),
        Node::Special(false) => assert_eq!(inode.file_type, FileType::Fifo),
    }
}

fn count(node: &Node) -> usize {
    match node {
        Node::Directory(children) => 1 + children.iter().map(|(_, child)| count(child)).sum::<usize>(),
        _ => 1,
    }
}

fn write(file: &File, children: &[(Vec<u8>, Node)]) -> erofs::Written {
    let mut writer = Writer::new(file, u64::MAX).unwrap();
    let mut build = Build { tree: Tree::new(ROOT), writer: &mut writer, seed: 0 };
    build.fill(build.tree.root(), children);
    let tree = build.tree;
    writer.finish(&tree).unwrap()
}

fn fsck(path: &std::path::Path) {
    let output = Command::new("fsck.erofs")
        .arg(path)
        .output()
        .expect("`fsck.erofs` runs; without it: apt-get install erofs-utils");
    assert!(output.status.success(), "{output:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn what_was_written_is_read(children in proptest::collection::vec((name(), node()), 0..40)) {
        let image = tempfile::NamedTempFile::new().unwrap();
        let written = write(image.as_file(), &children);
        let reader = Reader::open(image.as_file()).unwrap();
        prop_assert_eq!(reader.check().unwrap().inodes, written.inodes);
        compare(&reader, reader.root(), &Node::Directory(children), &mut 0);
        fsck(image.path());
    }
}

#[test]
fn a_directory_of_many_blocks_is_read_back() {
    let file = |number| (format!("{number:0100}").into_bytes(), Node::File(vec![]));
    let children: Vec<_> = (0..3000).map(file).collect();
    let image = tempfile::NamedTempFile::new().unwrap();
    write(image.as_file(), &children);
    let reader = Reader::open(image.as_file()).unwrap();
    reader.check().unwrap();
    compare(&reader, reader.root(), &Node::Directory(children), &mut 0);
    fsck(image.path());
}

#[test]
fn the_same_files_give_the_same_bytes() {
    let children =
        [(b"b".to_vec(), Node::File(vec![1; 5000])), (b"a".to_vec(), Node::Symlink(b"b".to_vec()))];
    let images = [(); 2].map(|()| {
        let image = tempfile::NamedTempFile::new().unwrap();
        write(image.as_file(), &children);
        std::fs::read(image.path()).unwrap()
    });
    assert!(images[0] == images[1]);
}

#[test]
fn no_flipped_bit_makes_the_reader_panic() {
    let children = [
        (
            b"dir".to_vec(),
            Node::Directory(vec![
                (b"x".to_vec(), Node::Special(true)),
                (b"!".to_vec(), Node::File(vec![5; 10])),
            ]),
        ),
        (b"link".to_vec(), Node::Symlink(b"dir/x".to_vec())),
    ];
    let image = tempfile::NamedTempFile::new().unwrap();
    write(image.as_file(), &children);
    let mut bytes = std::fs::read(image.path()).unwrap();
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Ok(reader) = Reader::open(&bytes[..]) {
            let _ = reader.check();
        }
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

//! What an overlay keeps of changes, as a stream.
#![allow(clippy::unwrap_used, reason = "what a test is built on may fail it")]

use std::fmt::Write;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, SystemTime};

use microagent_transfer::{Header, Kind, OPAQUE, Reader, Scaffold, pack_changes};
use rustix::fs::{CWD, FileType, Mode, XattrFlags};

const SCAFFOLDS: [Scaffold<'static>; 4] = [
    Scaffold::Directory { path: "tmp", mode: 0o1777 },
    Scaffold::Directory { path: "etc", mode: 0o755 },
    Scaffold::File { path: "etc/hosts" },
    Scaffold::File { path: "etc/resolv.conf" },
];

/// An upper layer and an image.
struct Layers {
    directory: tempfile::TempDir,
}

impl Layers {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for layer in ["upper", "image"] {
            fs::create_dir(directory.path().join(layer)).unwrap();
        }
        Self { directory }
    }

    fn upper(&self, path: &str) -> std::path::PathBuf {
        self.directory.path().join("upper").join(path)
    }

    fn image(&self, path: &str) -> std::path::PathBuf {
        self.directory.path().join("image").join(path)
    }

    fn packed(&self) -> Vec<u8> {
        let open = |path: &Path| File::open(path).unwrap();
        let mut stream = Vec::new();
        let (upper, image) = (open(&self.upper("")), open(&self.image("")));
        pack_changes(upper.as_fd(), image.as_fd(), &SCAFFOLDS, &mut stream, None).unwrap();
        stream
    }

    /// Each path below the root, and what follows it.
    fn told(&self) -> Vec<String> {
        let stream = self.packed();
        let mut reader = Reader::new(&stream[..]);
        let mut told: Vec<String> = Vec::new();
        loop {
            match reader.next_header().unwrap() {
                Header::Entry(entry) => {
                    let kind = match entry.kind {
                        Kind::Directory => "directory",
                        Kind::File { .. } => "file",
                        Kind::Symlink { .. } => "symlink",
                        Kind::Link { .. } => "link",
                        Kind::Character { major: 0, minor: 0 } => "gone",
                        _ => "other",
                    };
                    told.push(format!("{kind} {}", String::from_utf8_lossy(entry.path)));
                }
                Header::Attribute { name, .. } => {
                    write!(told.last_mut().unwrap(), " {}", String::from_utf8_lossy(name)).unwrap();
                }
                Header::Segments(segments) => write!(told.last_mut().unwrap(), " {segments:?}").unwrap(),
                Header::Data { .. } | Header::Exchanged { .. } => {}
                Header::End => return told.split_off(1),
                Header::Failed(reason) => panic!("{reason}"),
            }
        }
    }
}

/// As init makes it.
fn scaffold(path: &Path) {
    fs::write(path, "").unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
}

fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

#[test]
fn whiteouts_and_sockets_over_the_image_are_what_is_gone() {
    let layers = Layers::new();
    fs::write(layers.image("replaced"), "").unwrap();
    // Making a whiteout takes no rights; mknod(2).
    let nothing = rustix::fs::makedev(0, 0);
    rustix::fs::mknodat(CWD, layers.upper("gone"), FileType::CharacterDevice, Mode::empty(), nothing)
        .unwrap();
    let _replacing = UnixListener::bind(layers.upper("replaced")).unwrap();
    let _new = UnixListener::bind(layers.upper("socket")).unwrap();
    symlink("x", layers.upper("link")).unwrap();
    fs::write(layers.upper("one"), "").unwrap();
    fs::hard_link(layers.upper("one"), layers.upper("two")).unwrap();
    assert_eq!(layers.told(), ["gone gone", "symlink link", "file one", "gone replaced", "link two"]);
    assert_eq!(layers.packed(), layers.packed());
}

#[test]
fn what_the_kernel_notes_stays_behind_but_for_what_a_directory_hides() {
    let layers = Layers::new();
    for name in ["hiding", "plain"] {
        fs::create_dir(layers.upper(name)).unwrap();
        rustix::fs::setxattr(layers.upper(name), "user.kept", b"v", XattrFlags::empty()).unwrap();
    }
    let set = |path: &str, name: &str, value: &[u8]| {
        rustix::fs::setxattr(layers.upper(path), name, value, XattrFlags::empty())
    };
    // Who is not root cannot make the marks, and nothing hides anything.
    assert_eq!(set("hiding", OPAQUE, b"y").is_ok(), is_root());
    assert_eq!(set("plain", OPAQUE, b"n").is_ok(), is_root());
    assert_eq!(set("plain", "trusted.overlay.impure", b"y").is_ok(), is_root());
    fs::create_dir(layers.image("hiding")).unwrap();
    fs::write(layers.image("hiding/below"), "").unwrap();
    let _socket = UnixListener::bind(layers.upper("hiding/below")).unwrap();
    let hiding = if is_root() {
        vec![format!("directory hiding {OPAQUE} user.kept")]
    } else {
        vec!["directory hiding user.kept".to_owned(), "gone hiding/below".to_owned()]
    };
    assert_eq!(layers.told(), [&hiding[..], &["directory plain user.kept".to_owned()]].concat());
}

#[test]
fn a_file_that_is_not_all_there_is_an_error() {
    let layers = Layers::new();
    fs::write(layers.upper("part"), "").unwrap();
    let marked =
        rustix::fs::setxattr(layers.upper("part"), "trusted.overlay.metacopy", b"", XattrFlags::empty());
    assert_eq!(marked.is_ok(), is_root());
    let (upper, image) = (File::open(layers.upper("")).unwrap(), File::open(layers.image("")).unwrap());
    let packed = pack_changes(upper.as_fd(), image.as_fd(), &[], &mut Vec::new(), None);
    assert_eq!(packed.is_err(), is_root());
}

#[test]
fn scaffolding_is_no_change_until_somebody_changes_it() {
    // Only root's is any.
    if !is_root() {
        let layers = Layers::new();
        fs::create_dir(layers.upper("etc")).unwrap();
        assert_eq!(layers.told(), ["directory etc"]);
        return;
    }
    let layers = Layers::new();
    fs::create_dir(layers.upper("tmp")).unwrap();
    fs::set_permissions(layers.upper("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::create_dir(layers.upper("etc")).unwrap();
    scaffold(&layers.upper("etc/hosts"));
    scaffold(&layers.upper("etc/resolv.conf"));
    assert!(layers.told().is_empty());
    fs::write(layers.upper("etc/hosts"), "127.0.0.1 me").unwrap();
    assert_eq!(layers.told(), ["directory etc", "file etc/hosts"]);
    fs::write(layers.upper("tmp/file"), "").unwrap();
    assert_eq!(layers.told(), ["directory etc", "file etc/hosts", "directory tmp", "file tmp/file"]);
}

#[test]
fn scaffolding_over_the_image_is_told_from_changes_to_it() {
    if !is_root() {
        // The image's owner is nobody's to say but root's; the case before says what others see.
        return;
    }
    let layers = Layers::new();
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    for etc in [layers.image("etc"), layers.upper("etc")] {
        fs::create_dir(&etc).unwrap();
    }
    fs::create_dir(layers.image("tmp")).unwrap();
    symlink("../nowhere", layers.image("etc/resolv.conf")).unwrap();
    scaffold(&layers.upper("etc/resolv.conf"));
    let touch = |path: &Path| File::open(path).unwrap().set_modified(old).unwrap();
    touch(&layers.image("etc"));
    touch(&layers.upper("etc"));
    assert!(layers.told().is_empty(), "a copy of the image's with nothing but scaffolding");
    // A directory that was modified, and a file of the image that is empty now.
    File::open(layers.upper("etc")).unwrap().set_modified(SystemTime::now()).unwrap();
    assert_eq!(layers.told(), ["directory etc"]);
    touch(&layers.upper("etc"));
    fs::write(layers.image("etc/hosts"), "x").unwrap();
    scaffold(&layers.upper("etc/hosts"));
    assert_eq!(layers.told(), ["directory etc", "file etc/hosts"]);
}

#[test]
fn the_data_of_a_file_with_holes_are_announced() {
    let layers = Layers::new();
    let make = |name: &str, size: u64, places: &[u64]| {
        let file = File::create(layers.upper(name)).unwrap();
        file.set_len(size).unwrap();
        for place in places {
            file.write_all_at(&[1; 4096], *place).unwrap();
        }
    };
    make("dense", 4096, &[0]);
    make("hole", 1 << 30, &[]);
    make("sparse", 1 << 30, &[0, 1 << 20, (1 << 20) + 8192, 1 << 29]);
    let small = [0, 8192];
    make("small holes", 16384, &small);
    let expected = [
        "file dense".to_owned(),
        "file hole []".to_owned(),
        "file small holes".to_owned(),
        format!("file sparse [(0, 4096), ({}, 12288), ({}, 4096)]", 1 << 20, 1 << 29),
    ];
    let mut told = layers.told();
    told.sort();
    let mut expected = expected.to_vec();
    expected.sort();
    assert_eq!(told, expected);
    // With very many, small holes are filled.
    let places: Vec<u64> = (0..2100).map(|number| number * 128 * 1024).collect();
    make("many", 1 << 40, &places);
    let many = layers.told().into_iter().find(|told| told.starts_with("file many")).unwrap();
    assert_eq!(many, format!("file many [(0, {})]", 2099 * 128 * 1024 + 4096));
}

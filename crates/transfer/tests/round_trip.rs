//! Trees that go through a stream, and streams that try to get out of their tree.
#![allow(clippy::unwrap_used, reason = "what a test is built on may fail it")]

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use microagent_transfer::{
    Destination, Entry, Header, Kind, Owners, PackOptions, Policy, Report, Time, UnpackError, Writer, pack,
    source_name, unpack,
};

const PLAIN: Policy = Policy { owners: Owners::Own, privileged: false };

fn packed(source: &Path, options: PackOptions) -> Vec<u8> {
    let mut stream = Vec::new();
    pack(source, options, &mut stream, None).unwrap();
    stream
}

fn made(stream: &[u8], path: &Path, name: Option<&str>) -> Result<Report, UnpackError> {
    let name = name.map(|name| name.as_bytes().to_vec());
    unpack(stream, None, &Destination { path: path.to_owned(), name, merge: false }, PLAIN, &mut |_| ())
}

fn copy(source: &Path, destination: &Path) -> Result<Report, UnpackError> {
    let name = source_name(source.as_os_str().as_bytes(), b"/").map(|name| String::from_utf8(name).unwrap());
    made(&packed(source, PackOptions::default()), destination, name.as_deref())
}

/// Everything that a copy keeps, by path.
fn listing(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(path) = waiting.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let content = if metadata.is_symlink() {
            format!("to {}", fs::read_link(&path).unwrap().display())
        } else if metadata.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            String::new()
        } else {
            format!("{} {}", metadata.nlink(), String::from_utf8_lossy(&fs::read(&path).unwrap()))
        };
        let (mode, seconds, nanoseconds) = (metadata.mode(), metadata.mtime(), metadata.mtime_nsec());
        let relative = path.strip_prefix(root).unwrap().to_owned();
        found.insert(relative, format!("{mode:o} {seconds}.{nanoseconds} {content}"));
    }
    found
}

fn odd_tree(root: &Path) {
    fs::create_dir_all(root.join("deep/er")).unwrap();
    fs::write(root.join("deep/er/file"), "deep").unwrap();
    fs::write(root.join("new\nline and\ttab"), "odd").unwrap();
    fs::write(root.join(std::ffi::OsStr::from_bytes(b"not utf-8 \xff")), "bytes").unwrap();
    fs::write(root.join("-rf"), "").unwrap();
    fs::write(root.join("x".repeat(255)), "long").unwrap();
    fs::hard_link(root.join("deep/er/file"), root.join("linked")).unwrap();
    symlink("deep/er/file", root.join("link")).unwrap();
    symlink("/nowhere/at/all", root.join("dangling")).unwrap();
    fs::create_dir(root.join("closed")).unwrap();
    fs::write(root.join("closed/in"), "in").unwrap();
    fs::set_permissions(root.join("closed/in"), Permissions::from_mode(0o400)).unwrap();
    fs::set_permissions(root.join("closed"), Permissions::from_mode(0o500)).unwrap();
    let old = File::open(root.join("deep")).unwrap();
    old.set_modified(SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789)).unwrap();
}

#[test]
fn a_tree_arrives_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("source");
    odd_tree(&source);
    let report = copy(&source, &directory.path().join("copy")).unwrap();
    let copied = listing(&directory.path().join("copy"));
    assert_eq!(copied, listing(&source));
    assert_eq!(report.entries, copied.len() as u64);
    assert_eq!(packed(&source, PackOptions::default()), packed(&source, PackOptions::default()));
    // Once more over what is there: nothing else comes of it.
    made(&packed(&source, PackOptions::default()), &directory.path().join("copy"), None).unwrap();
    assert_eq!(listing(&directory.path().join("copy")).len(), copied.len());
}

#[test]
fn what_is_sparse_stays_sparse() {
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("source");
    let file = File::create(&source).unwrap();
    file.set_len(1 << 30).unwrap();
    file.write_all_at(b"middle", 500 << 20).unwrap();
    let stream = packed(&source, PackOptions::default());
    assert!(stream.len() < 1 << 20, "{}", stream.len());
    made(&stream, &directory.path().join("copy"), None).unwrap();
    let copy = fs::metadata(directory.path().join("copy")).unwrap();
    assert_eq!(copy.len(), 1 << 30);
    assert!(copy.blocks() * 512 < 1 << 20, "{}", copy.blocks());
    let mut middle = [0; 6];
    File::open(directory.path().join("copy")).unwrap().read_exact_at(&mut middle, 500 << 20).unwrap();
    assert_eq!(&middle, b"middle");
}

#[test]
fn places_are_those_of_docker() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::create_dir(at("tree")).unwrap();
    fs::write(at("tree/file"), "tree").unwrap();
    fs::write(at("file"), "one").unwrap();
    fs::create_dir(at("there")).unwrap();

    copy(&at("file"), &at("new")).unwrap();
    copy(&at("file"), &at("there")).unwrap();
    copy(&at("file"), &at("there/")).unwrap();
    copy(&at("tree"), &at("there")).unwrap();
    copy(&at("tree"), &at("made")).unwrap();
    copy(&at("tree/."), &at("there")).unwrap();
    copy(&at("tree/."), &at("made2/")).unwrap();
    for (path, content) in [
        ("new", "one"),
        ("there/tree/file", "tree"),
        ("made/file", "tree"),
        ("made2/file", "tree"),
        ("there/file", "tree"),
    ] {
        assert_eq!(fs::read_to_string(at(path)).unwrap(), content, "{path}");
    }
    fs::create_dir(at("there/file2")).unwrap();
    fs::write(at("file2"), "").unwrap();
    symlink("new", at("to-new")).unwrap();
    symlink("to-itself", at("to-itself")).unwrap();
    for (source, destination, why) in [
        ("tree", "file", "which is not a directory"),
        ("file", "absent/", "no directory"),
        ("file", "absent/name", "no directory"),
        ("file", "file/", "not a directory"),
        ("file2", "there", "cannot replace the directory"),
        ("tree", "absent/.", "no directory"),
        ("file", "to-itself", "Too many levels"),
    ] {
        let error = copy(&at(source), &at(destination)).unwrap_err();
        let told = format!("{error} {:?}", std::error::Error::source(&error));
        assert!(told.contains(why), "{source} {destination}: {told}");
    }
    // A link that was named is what it leads to.
    copy(&at("tree/file"), &at("to-new")).unwrap();
    assert_eq!(fs::read_to_string(at("new")).unwrap(), "tree");
    assert!(fs::symlink_metadata(at("to-new")).unwrap().is_symlink());
    symlink("there/later", at("to-nothing")).unwrap();
    copy(&at("file"), &at("to-nothing")).unwrap();
    assert_eq!(fs::read_to_string(at("there/later")).unwrap(), "one");
    fs::create_dir(at("into")).unwrap();
    copy(&at("tree/../made/.."), &at("into")).unwrap();
    let name = directory.path().file_name().unwrap();
    assert!(at("into").join(name).join("made/file").exists());
}

#[test]
fn a_source_that_is_a_link_is_one_unless_it_is_followed() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("file"), "content").unwrap();
    symlink("file", at("link")).unwrap();
    copy(&at("link"), &at("as-link")).unwrap();
    assert_eq!(fs::read_link(at("as-link")).unwrap(), Path::new("file"));
    let followed = packed(&at("link"), PackOptions { follow: true, ..PackOptions::default() });
    made(&followed, &at("as-file"), None).unwrap();
    assert!(fs::symlink_metadata(at("as-file")).unwrap().is_file());
}

fn stream(headers: &[Header<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes);
    for header in headers {
        writer.header(header).unwrap();
    }
    bytes
}

fn entry<'a>(path: &'a str, kind: Kind<'a>) -> Header<'a> {
    let modified = Time { seconds: 0, nanoseconds: 0 };
    Header::Entry(Entry { path: path.as_bytes(), kind, mode: 0o4755, uid: 12, gid: 34, modified })
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn nothing_gets_out_of_its_tree() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::create_dir(at("outside")).unwrap();
    fs::create_dir(at("there")).unwrap();
    let outside = at("outside").to_string_lossy().into_owned();
    let target = outside.as_bytes();
    let through_a_link = stream(&[
        entry("", Kind::Directory),
        entry("link", Kind::Symlink { target }),
        entry("link/file", Kind::File { size: 0 }),
        Header::End,
    ]);
    let over_a_link = stream(&[
        entry("", Kind::Directory),
        entry("link", Kind::Symlink { target }),
        entry("link", Kind::Directory),
        entry("link/file", Kind::File { size: 0 }),
        Header::End,
    ]);
    let linked = stream(&[
        entry("", Kind::Directory),
        entry("link", Kind::Symlink { target }),
        entry("file", Kind::Link { to: b"link/secret" }),
        Header::End,
    ]);
    fs::write(at("outside/secret"), "secret").unwrap();
    for bytes in [&through_a_link, &over_a_link, &linked] {
        made(bytes, &at("new"), None).unwrap_err();
        assert!(!at("new").exists(), "half a tree is none");
        assert!(made(bytes, &at("there"), None).unwrap_err().to_string().contains("1 files were copied"));
        fs::remove_file(at("there/link")).unwrap();
    }
    assert_eq!(names(&at("outside")), ["secret"]);
    assert!(names(&at("there")).is_empty());
    assert_eq!(names(directory.path()), ["outside", "there"]);
}

#[test]
fn a_link_in_the_destination_is_replaced_and_not_written_through() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::create_dir(at("there")).unwrap();
    fs::write(at("victim"), "as it was").unwrap();
    symlink("../victim", at("there/file")).unwrap();
    let bytes = stream(&[entry("", Kind::Directory), entry("file", Kind::File { size: 3 }), Header::End]);
    made(&bytes, &at("there"), None).unwrap();
    assert_eq!(fs::read_to_string(at("victim")).unwrap(), "as it was");
    assert_eq!(fs::symlink_metadata(at("there/file")).unwrap().len(), 3);
}

/// A tree with `files` files, each with `content`.
fn many(root: &Path, files: u32, content: &str) {
    fs::create_dir_all(root.join("inner")).unwrap();
    for file in 0..files {
        let directory = if file % 2 == 0 { "" } else { "inner" };
        fs::write(root.join(directory).join(file.to_string()), format!("{content} {file}")).unwrap();
    }
}

#[test]
fn a_tree_over_another_replaces_its_files_and_leaves_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    many(&at("source"), 100, "new");
    fs::write(at("source/large"), vec![1; 300 << 10]).unwrap();
    many(&at("there"), 50, "old");
    fs::write(at("there/large"), vec![0; 300 << 10]).unwrap();
    fs::write(at("there/inner/other"), "other").unwrap();
    fs::hard_link(at("there/0"), at("second name")).unwrap();
    let inode = fs::metadata(at("there/large")).unwrap().ino();

    made(&packed(&at("source"), PackOptions::default()), &at("there"), None).unwrap();
    assert_eq!(fs::read_to_string(at("second name")).unwrap(), "old 0", "it is another file's now");
    assert_eq!(fs::metadata(at("second name")).unwrap().nlink(), 1);
    assert_ne!(fs::metadata(at("there/large")).unwrap().ino(), inode);
    assert_eq!(fs::read_to_string(at("there/inner/other")).unwrap(), "other");
    fs::remove_file(at("there/inner/other")).unwrap();
    let files = |root: &Path| {
        let mut files = listing(root);
        files.retain(|path, _| root.join(path).is_file());
        files
    };
    assert_eq!(files(&at("there")), files(&at("source")));
    assert_eq!(names(&at("there")), names(&at("source")), "nothing that was in between is left");
}

#[test]
fn a_tree_over_another_that_ends_early_leaves_whole_files() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    many(&at("source"), 20, "new");
    let whole = packed(&at("source"), PackOptions::default());
    for length in (100..whole.len() - 1).step_by(61) {
        many(&at("there"), 20, "old");
        made(&whole[..length], &at("there"), None).unwrap_err();
        assert_eq!(names(&at("there")), names(&at("source")));
        for file in 0..20 {
            let path = if file % 2 == 0 { format!("there/{file}") } else { format!("there/inner/{file}") };
            let content = fs::read_to_string(at(&path)).unwrap();
            assert!([format!("old {file}"), format!("new {file}")].contains(&content), "{content}");
        }
    }
}

#[test]
fn what_a_directory_gives_its_files_they_have() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    many(&at("source"), 4, "new");
    many(&at("there"), 2, "old");
    let group = if rustix::process::geteuid().is_root() { 4321 } else { rustix::process::getegid().as_raw() };
    std::os::unix::fs::chown(at("there/inner"), None, Some(group)).unwrap();
    fs::set_permissions(at("there/inner"), Permissions::from_mode(0o2755)).unwrap();
    made(&packed(&at("source"), PackOptions::default()), &at("there"), None).unwrap();
    for file in ["1", "3"] {
        assert_eq!(fs::metadata(at("there/inner").join(file)).unwrap().gid(), group, "{file}");
    }
    assert_eq!(names(&at("there/inner")), ["1", "3"]);
}

#[test]
fn a_file_does_not_replace_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::create_dir_all(at("there/file")).unwrap();
    let bytes = stream(&[entry("", Kind::Directory), entry("file", Kind::File { size: 3 }), Header::End]);
    let error = made(&bytes, &at("there"), None).unwrap_err();
    assert!(error.to_string().contains("cannot replace the directory"), "{error}");
    assert_eq!(names(&at("there")), ["file"]);
    assert!(at("there/file").is_dir());
}

/// Whoever owns the destination swaps a directory in it for a link, again and again, while files are made in there.
#[test]
fn a_directory_that_becomes_a_link_meanwhile_leads_nowhere() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for name in ["source/inner", "there/inner", "outside"] {
        fs::create_dir_all(at(name)).unwrap();
    }
    symlink("../outside", at("there/link")).unwrap();
    for file in 0..300 {
        fs::write(at(&format!("source/inner/{file}")), "content").unwrap();
    }
    let bytes = packed(&at("source"), PackOptions::default());
    let over = AtomicBool::new(false);
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        scope.spawn(|| {
            let (inner, link) = (at("there/inner"), at("there/link"));
            while !over.load(Ordering::Relaxed) {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(rustix::fs::CWD, &inner, rustix::fs::CWD, &link, flags).unwrap();
            }
        });
        let outcomes = (0..50).map(|_| made(&bytes, &at("there"), None)).collect();
        over.store(true, Ordering::Relaxed);
        outcomes
    });
    assert!(outcomes.iter().any(Result::is_err), "the link was never met");
    assert_eq!(names(&at("outside")), Vec::<String>::new());
}

#[test]
fn what_is_made_gives_nobody_rights() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = stream(&[
        entry("", Kind::Directory),
        entry("device", Kind::Block { major: 8, minor: 0 }),
        entry("program", Kind::File { size: 0 }),
        Header::End,
    ]);
    let report = made(&bytes, &directory.path().join("new"), None).unwrap();
    assert_eq!((report.entries, report.left_out), (2, 1));
    let program = fs::metadata(directory.path().join("new/program")).unwrap();
    assert_eq!(program.mode() & 0o7777, 0o755);
    assert_eq!(program.uid(), fs::metadata(directory.path()).unwrap().uid());
    assert_eq!(names(&directory.path().join("new")), ["program"]);
}

#[test]
fn a_stream_that_ends_early_leaves_the_target_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    odd_tree(&at("source"));
    fs::write(at("file"), "x".repeat(1000)).unwrap();
    fs::write(at("old"), "old").unwrap();
    let before = names(directory.path());
    for (source, destination) in [("source", "new"), ("file", "new"), ("file", "old")] {
        let whole = packed(&at(source), PackOptions::default());
        for length in (0..whole.len() - 1).step_by(37) {
            let error = made(&whole[..length], &at(destination), None).unwrap_err();
            assert!(error.to_string().contains("ended early"), "{error}");
        }
    }
    assert_eq!(names(directory.path()), before);
    assert_eq!(fs::read_to_string(at("old")).unwrap(), "old");
}

#[test]
fn what_cannot_be_read_is_said_at_both_ends() {
    let directory = tempfile::tempdir().unwrap();
    let mut bytes = Vec::new();
    let gone = directory.path().join("gone");
    let error = pack(&gone, PackOptions::default(), &mut bytes, None).unwrap_err();
    assert_eq!(error.to_string(), format!("there is no `{}`", gone.display()));
    assert_eq!(made(&bytes, &directory.path().join("new"), None).unwrap_err().to_string(), error.to_string());
}

//! Bytes taken for a tree of files that a guest sends.

use std::path::Path;

use transfer::{Destination, Owners, Policy, unpack};

/// Makes the tree that `bytes` describe, beside a file that no stream may reach.
///
/// # Panics
///
/// If anything but the tree, or less than nothing of a tree that is not whole, is there afterwards.
pub fn receive_tree(bytes: &[u8]) {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let outside = directory.path().join("outside");
    let inside = directory.path().join("inside");
    std::fs::create_dir(&outside).expect("a directory can be made");
    std::fs::create_dir(&inside).expect("a directory can be made");
    std::fs::write(outside.join("file"), "as it was").expect("a file can be made");
    // A file's size is free to lie; disks of this machine are not to be filled with holes for it.
    let policy = Policy { owners: Owners::Own, privileged: false };
    for (path, merge) in [(inside.join("new"), false), (inside.clone(), true)] {
        let name = Some(b"name".to_vec());
        let outcome =
            unpack(bytes, None, &Destination { path: path.clone(), name, merge }, policy, &mut |_| ());
        assert!(merge || outcome.is_ok() || !path.exists(), "half a tree is there");
    }
    assert_eq!(names(directory.path()), ["inside", "outside"]);
    assert_eq!(names(&outside), ["file"]);
    assert_eq!(std::fs::read(outside.join("file")).expect("it is there"), b"as it was");
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("it is there");
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.expect("it can be read").file_name();
    let mut names: Vec<_> = entries.map(|entry| name(entry).to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

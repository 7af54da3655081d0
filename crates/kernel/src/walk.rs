//! The regular files below a directory.

use std::io;
use std::path::{Path, PathBuf};

/// No module lies deeper below its tree than this.
pub(crate) const MAX_DEPTH: usize = 16;

/// The regular files below `root`, relative to it and sorted. Links are not followed, depth is limited.
pub(crate) fn regular_files(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut pending = vec![(PathBuf::new(), 0)];
    while let Some((directory, depth)) = pending.pop() {
        for entry in fs_err::read_dir(root.join(&directory))? {
            let entry = entry?;
            let path = directory.join(entry.file_name());
            let kind = entry.file_type()?;
            if kind.is_file() {
                files.push(path);
            } else if kind.is_dir() && depth < MAX_DEPTH {
                pending.push((path, depth + 1));
            }
        }
    }
    files.sort();
    Ok(files)
}

//! A real distribution, made by `mmdebstrap` and unpacked by `umoci`, has the same files.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::image::{Layers, summary};
use crate::listing::{of_directory, of_image};
use crate::tools::{assert_same, run, unpack_with_umoci};

/// Enough to pass 300 MB.
const PACKAGES: &str = "--include=perl,python3,git,gcc";

#[test]
fn umoci_makes_the_same_files_of_debian() {
    let archive = std::fs::read(debian()).unwrap();
    assert!(archive.len() > 300 << 20, "{}", archive.len());
    let layers = Layers::new().gzip(&archive);
    drop(archive);
    let image = layers.convert().unwrap();
    assert!(summary(image.as_file()).data > 250 << 20);
    let work = tempfile::tempdir().unwrap();
    layers.write_layout(&work.path().join("layout"));
    unpack_with_umoci(&work.path().join("layout"), &work.path().join("bundle"));
    assert_same(&of_image(image.as_file()), &of_directory(&work.path().join("bundle")));
}

/// The distribution's archive, made once for each build directory.
fn debian() -> PathBuf {
    let archive = Path::new(env!("CARGO_TARGET_TMPDIR")).join("debian.tar");
    if !archive.exists() {
        let new = archive.with_extension("new");
        let mut command = Command::new("mmdebstrap");
        command.args(["--format=tar", "--variant=minbase", PACKAGES, "bookworm"]).arg(&new);
        run("mmdebstrap", &mut command);
        std::fs::rename(new, &archive).unwrap();
    }
    archive
}

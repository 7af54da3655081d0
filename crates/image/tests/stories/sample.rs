//! A small image, made by umoci from a layer of our own, and the tools that turn it into every format.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use microagent_image::{Image, LoadOptions, Platform, Store};
use tempfile::TempDir;

/// An OCI image layout with the image `small:1` of two layers.
pub(crate) struct Sample {
    directory: TempDir,
}

impl Sample {
    pub(crate) fn new() -> Self {
        let sample = Self { directory: tempfile::tempdir().unwrap() };
        let image = sample.tagged();
        run(tool("umoci", "umoci").arg("init").arg("--layout").arg(sample.layout()));
        run(tool("umoci", "umoci").args(["new", "--image", &image]));
        let busybox = std::fs::read("/bin/busybox").expect("missing: apt-get install busybox-static");
        for (name, content) in [("bin/sh", busybox.as_slice()), ("etc/motd", b"hello\n")] {
            let layer = sample.path("layer.tar");
            std::fs::write(&layer, tar_of(name, content)).unwrap();
            run(tool("umoci", "umoci").args(["raw", "add-layer", "--image", &image]).arg(&layer));
        }
        run(tool("umoci", "umoci").args(["config", "--image", &image, "--config.cmd", "/bin/sh"]));
        sample
    }

    /// The layout's directory.
    pub(crate) fn layout(&self) -> PathBuf {
        self.path("layout")
    }

    /// A place for something made of the image.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Copies the image to `destination`, as skopeo spells it.
    pub(crate) fn copy_to(&self, destination: &str) {
        skopeo_copy(&format!("oci:{}", self.tagged()), destination, &[]);
    }

    fn tagged(&self) -> String {
        format!("{}:small", self.layout().display())
    }
}

/// A tar with one file.
pub(crate) fn tar_of(name: &str, content: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o755);
    builder.append_data(&mut header, name, content).unwrap();
    builder.into_inner().unwrap()
}

pub(crate) fn skopeo_copy(source: &str, destination: &str, options: &[&str]) {
    run(tool("skopeo", "skopeo")
        .args(["--insecure-policy", "copy", "-q"])
        .args(options)
        .args([source, destination]));
}

/// Podman with its storage in a directory of its own.
pub(crate) fn podman(storage: &TempDir) -> Command {
    let mut podman = tool("podman", "podman");
    podman.arg("--root").arg(storage.path().join("root")).arg("--runroot").arg(storage.path().join("run"));
    podman.args(["--storage-driver", "vfs"]);
    podman
}

/// A command whose absence fails the test with what installs it.
pub(crate) fn tool(name: &str, package: &str) -> Command {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths).any(|directory| directory.join(name).is_file());
    assert!(found, "`{name}` is missing: apt-get install {package}");
    Command::new(name)
}

pub(crate) fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A store of its own, removed at the end.
pub(crate) struct TestStore {
    directory: TempDir,
    pub(crate) store: Store,
}

impl TestStore {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        Self { directory, store }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn image(&self, name: &str) -> Option<Image> {
        self.store.find(&name.parse().unwrap(), &Platform::of_host()).unwrap()
    }

    /// How many files a directory of the store has.
    pub(crate) fn count(&self, directory: &str) -> usize {
        std::fs::read_dir(self.path().join(directory)).unwrap().count()
    }
}

pub(crate) fn options() -> LoadOptions {
    LoadOptions { platform: Platform::of_host(), name: None, archive_size: 64 << 30 }
}

/// Fails unless the image is the sample: its layers are there, unpack to their diff IDs, and hold what they should.
pub(crate) fn assert_is_sample(image: &Image) {
    assert_eq!(image.config.config().as_ref().unwrap().cmd().as_deref(), Some(&["/bin/sh".to_owned()][..]));
    assert_eq!(image.layers.len(), 2);
    for (layer, name) in image.layers.iter().zip(["bin/sh", "etc/motd"]) {
        let tar = unpacked(layer).unwrap();
        assert_eq!(microagent_image::Digest::of(&tar), layer.diff_id);
        let mut archive = tar::Archive::new(tar.as_slice());
        let entry = archive.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(entry.path().unwrap(), Path::new(name));
    }
}

fn unpacked(layer: &microagent_image::Layer) -> io::Result<Vec<u8>> {
    use io::Read;
    use microagent_image::Compression;
    let blob = std::fs::read(&layer.path)?;
    assert_eq!(microagent_image::Digest::of(&blob), layer.digest);
    assert_eq!(blob.len() as u64, layer.size);
    let mut tar = Vec::new();
    match layer.compression {
        Compression::None => return Ok(blob),
        Compression::Gzip => flate2::read::MultiGzDecoder::new(blob.as_slice()).read_to_end(&mut tar)?,
        Compression::Zstd => zstd::stream::read::Decoder::new(blob.as_slice())?.read_to_end(&mut tar)?,
    };
    Ok(tar)
}

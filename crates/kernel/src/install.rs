//! Installing kernels: from the distribution's packages, from package files, from the host, from files.

mod apt;
mod command;
mod deb;
mod staging;

use std::io;
use std::path::{Path, PathBuf};

use crate::bzimage::BzImageError;
use crate::walk::regular_files;
use crate::{Kernel, Kernels, Release, Source, StoreError};

pub use command::CommandError;
pub use deb::{DebError, READ_PACKAGE, UnreadablePackage};
use staging::{Member, Staging};

/// What an installation is about to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Fetch the lists of packages, since the host's own lack the kernel or are outdated.
    UpdateLists,
    /// Fetch these packages.
    Download {
        /// Their names.
        packages: Vec<String>,
    },
    /// Take the kernel out of a package.
    Unpack {
        /// The package's file name.
        package: String,
    },
    /// Copy the kernel and its modules.
    Copy,
    /// Check the kernel, unpack its ELF image, and put it in its place.
    Finish,
}

/// Why a kernel could not be installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// A command of apt failed.
    #[error("failed to fetch the kernel's packages")]
    Apt(#[from] CommandError),
    /// No package of the asked name, or none of the usual ones, is known to apt.
    #[error("apt knows no package `{}`", packages.join("` or `"))]
    NoPackage {
        /// The names that were looked for.
        packages: Vec<String>,
    },
    /// A name that cannot be a package's.
    #[error("invalid package name `{0}`")]
    PackageName(String),
    /// A package could not be read.
    #[error("failed to read the package `{}`", path.display())]
    Deb {
        /// The package's file.
        path: PathBuf,
        /// What is wrong with it.
        source: DebError,
    },
    /// The host shows no image of the kernel that it runs.
    #[error("the host has no image of its kernel `{release}`")]
    NoHostImage {
        /// The host's kernel.
        release: String,
    },
    /// The host's kernel image may be read by root only.
    #[error("the host's kernel image `{}` is not readable by you", path.display())]
    HostImageForbidden {
        /// The image.
        path: PathBuf,
    },
    /// There is no kernel image in what was given.
    #[error("no kernel image was found")]
    NoImage,
    /// There are no modules in what was given.
    #[error("no modules of the kernel `{release}` were found")]
    NoModules {
        /// The kernel.
        release: Release,
    },
    /// Image and modules belong to different kernels.
    #[error("the kernel image is of release `{image}`, the modules are of `{modules}`")]
    Mismatch {
        /// The image's release.
        image: Release,
        /// The modules' release.
        modules: Release,
    },
    /// The kernel image is not one that can be booted.
    #[error("the kernel image cannot be used")]
    Image(#[from] BzImageError),
    /// The kernel is larger than any real one.
    #[error("the kernel and its modules are larger than {limit} bytes or more than {files} files")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
        /// The limit in files.
        files: u32,
    },
    /// The installed kernels could not be read or changed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file could not be read or written.
    #[error("failed to copy the kernel")]
    Copy(#[from] io::Error),
}

impl InstallError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Apt(CommandError::Missing { .. }) => {
                Some("this host has no apt: install a kernel from a .deb file, from the host, or from files")
            }
            Self::Apt(_) => Some("check the network and the package sources in /etc/apt"),
            Self::NoPackage { .. } => {
                Some("check the network and the package sources in /etc/apt, or name a package")
            }
            Self::NoHostImage { .. } => Some("fetch a kernel from the distribution, or give its files"),
            Self::HostImageForbidden { .. } => Some(
                "let your user read it (`sudo chmod +r` on that file), or fetch a kernel from the distribution",
            ),
            Self::NoModules { .. } => {
                Some("some distributions ship the modules in a package of their own: give it too")
            }
            _ => None,
        }
    }
}

impl Kernels {
    /// Installs the distribution's kernel, or that of `package`, with `apt-get download`; root is not needed.
    pub fn install_from_apt(
        &self,
        package: Option<&str>,
        progress: &mut dyn FnMut(Step),
    ) -> Result<Kernel, InstallError> {
        let mut staging = Staging::new(self)?;
        let fetched = apt::fetch(package, staging.work(), progress)?;
        for path in &fetched.files {
            unpack(path, &mut staging, progress)?;
        }
        progress(Step::Finish);
        staging.finish(Source::Apt { packages: fetched.packages })
    }

    /// Installs the kernel in the package files `debs`: its image, and its modules if they come apart.
    pub fn install_deb(
        &self,
        debs: &[PathBuf],
        progress: &mut dyn FnMut(Step),
    ) -> Result<Kernel, InstallError> {
        let mut staging = Staging::new(self)?;
        for path in debs {
            unpack(path, &mut staging, progress)?;
        }
        progress(Step::Finish);
        staging.finish(Source::Deb { files: debs.to_vec() })
    }

    /// Installs the kernel that runs the host.
    pub fn install_from_host(&self, progress: &mut dyn FnMut(Step)) -> Result<Kernel, InstallError> {
        let uname = rustix::system::uname();
        let release = uname.release().to_string_lossy();
        let modules = Path::new("/lib/modules").join(&*release);
        let image = [Path::new("/boot").join(format!("vmlinuz-{release}")), modules.join("vmlinuz")]
            .into_iter()
            .find(|path| path.exists())
            .ok_or_else(|| InstallError::NoHostImage { release: release.clone().into_owned() })?;
        if rustix::fs::access(&image, rustix::fs::Access::READ_OK).is_err() {
            return Err(InstallError::HostImageForbidden { path: image });
        }
        self.install_copy(&image, &modules, Source::Host, progress)
    }

    /// Installs the kernel `image` with the modules of the directory `modules`, a `/lib/modules/<release>`.
    /// If the directory's name is a release, it must be the image's.
    pub fn install_files(
        &self,
        image: &Path,
        modules: &Path,
        progress: &mut dyn FnMut(Step),
    ) -> Result<Kernel, InstallError> {
        let source = Source::Files { image: image.to_owned(), modules: modules.to_owned() };
        self.install_copy(image, modules, source, progress)
    }

    fn install_copy(
        &self,
        image: &Path,
        modules: &Path,
        source: Source,
        progress: &mut dyn FnMut(Step),
    ) -> Result<Kernel, InstallError> {
        progress(Step::Copy);
        let mut staging = Staging::new(self)?;
        if let Some(release) = modules.file_name().and_then(|name| name.to_str()?.parse().ok()) {
            staging.expect_release(&release)?;
        }
        staging.take(&Member::Image, &mut fs_err::File::open(image)?)?;
        for path in regular_files(modules)? {
            if let Some(member) = Member::of_module_tree(&path) {
                staging.take(&member, &mut fs_err::File::open(modules.join(path))?)?;
            }
        }
        progress(Step::Finish);
        staging.finish(source)
    }
}

fn unpack(
    path: &Path,
    staging: &mut Staging<'_>,
    progress: &mut dyn FnMut(Step),
) -> Result<(), InstallError> {
    let package = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    progress(Step::Unpack { package });
    deb::unpack(path, staging)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bzimage::tests::{image, vmlinux};
    use crate::modinfo::tests::module;
    use home::Home;

    fn kernel_files(release: &str) -> Vec<(String, Vec<u8>)> {
        vec![
            (format!("./boot/vmlinuz-{release}"), image(release, &vmlinux(18, *b"Xen\0"))),
            (format!("./lib/modules/{release}/kernel/fs/a.ko"), module(b"depends=")),
            (format!("./lib/modules/{release}/modules.builtin"), b"kernel/fs/ext4.ko\n".to_vec()),
            ("./etc/passwd".to_owned(), b"root".to_vec()),
        ]
    }

    fn deb(path: &Path, data: &[u8]) {
        let mut deb = b"!<arch>\n".to_vec();
        for (name, content) in
            [("debian-binary", b"2.0\n".as_slice()), ("control.tar.xz", b"odd"), ("data.tar.xz", data)]
        {
            deb.extend(
                format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, content.len()).bytes(),
            );
            deb.extend(content);
            deb.extend(vec![b'\n'; content.len() % 2]);
        }
        std::fs::write(path, deb).unwrap();
    }

    fn tar_xz(files: &[(String, Vec<u8>)]) -> Vec<u8> {
        let mut archive = tar::Builder::new(liblzma::write::XzEncoder::new(Vec::new(), 1));
        for (path, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, path, content.as_slice()).unwrap();
        }
        archive.into_inner().unwrap().finish().unwrap()
    }

    struct Fixture {
        directory: tempfile::TempDir,
        kernels: Kernels,
    }

    impl Fixture {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let home = Home::open(Some(&directory.path().join("home"))).unwrap();
            Self { directory, kernels: Kernels::open(&home) }
        }

        fn install(&self, files: &[(String, Vec<u8>)]) -> Result<Kernel, InstallError> {
            let path = self.directory.path().join("kernel.deb");
            deb(&path, &tar_xz(files));
            self.kernels.install_deb(&[path], &mut |_| {})
        }

        /// What is in the kernels' directory, and in that of work in progress.
        fn entries(&self) -> Vec<String> {
            let list = |part: &str| std::fs::read_dir(self.directory.path().join("home").join(part)).unwrap();
            let entries = list("kernels").chain(list("tmp"));
            let mut names: Vec<_> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    #[test]
    fn a_package_gives_a_kernel_and_nothing_else() {
        let fixture = Fixture::new();
        let kernel = fixture.install(&kernel_files("6.1.0-1")).unwrap();
        assert_eq!(kernel.release.as_str(), "6.1.0-1");
        assert_eq!(std::fs::read(kernel.vmlinux.as_ref().unwrap()).unwrap(), vmlinux(18, *b"Xen\0"));
        assert_eq!(kernel.modules_for(&["a", "ext4"], &[]).unwrap().len(), 1);
        let files = regular_files(kernel.image.parent().unwrap()).unwrap();
        let expected =
            ["kernel.json", "modules/kernel/fs/a.ko", "modules/modules.builtin", "vmlinux", "vmlinuz"];
        assert_eq!(files, expected.map(PathBuf::from));
        assert_eq!(fixture.entries(), ["6.1.0-1", "default", "lock"]);
    }

    #[test]
    fn a_path_too_long_for_a_header_is_understood() {
        let fixture = Fixture::new();
        let mut files = kernel_files("6.1.0-1");
        let long = format!("./lib/modules/6.1.0-1/kernel/{}/long.ko", "d".repeat(150));
        files.push((long, module(b"depends=a")));
        let kernel = fixture.install(&files).unwrap();
        assert_eq!(kernel.modules_for(&["long"], &[]).unwrap().len(), 2);
    }

    #[test]
    fn the_first_kernel_is_the_default_until_another_is_chosen() {
        let fixture = Fixture::new();
        let first = fixture.install(&kernel_files("6.1.0-2")).unwrap();
        let second = fixture.install(&kernel_files("6.1.0-1")).unwrap();
        assert_eq!(fixture.kernels.default().unwrap().unwrap().release, first.release);
        fixture.kernels.set_default(&second.release).unwrap();
        assert_eq!(fixture.kernels.default().unwrap().unwrap().release, second.release);
        assert!(fixture.kernels.set_default(&"6.1.0-3".parse().unwrap()).is_err());
        assert_eq!(fixture.kernels.list().unwrap().len(), 2);
    }

    #[test]
    fn installing_again_replaces_all_of_the_kernel() {
        let fixture = Fixture::new();
        let mut files = kernel_files("6.1.0-1");
        files.push(("./lib/modules/6.1.0-1/kernel/gone.ko".to_owned(), module(b"")));
        fixture.install(&files).unwrap();
        let kernel = fixture.install(&kernel_files("6.1.0-1")).unwrap();
        assert!(!kernel.modules.join("kernel/gone.ko").exists());
        assert_eq!(fixture.entries(), ["6.1.0-1", "default", "lock"]);
    }

    #[test]
    fn an_image_and_modules_of_different_kernels_are_refused() {
        let fixture = Fixture::new();
        let mut files = kernel_files("6.1.0-1");
        files[0].1 = image("6.1.0-2", &[]);
        assert!(matches!(fixture.install(&files), Err(InstallError::Mismatch { .. })));
        files.push(("./boot/vmlinuz-6.1.0-3".to_owned(), Vec::new()));
        assert!(matches!(fixture.install(&files), Err(InstallError::Mismatch { .. })));
        assert_eq!(fixture.entries(), [""; 0]);
    }

    #[test]
    fn half_a_kernel_is_refused() {
        let fixture = Fixture::new();
        let files = kernel_files("6.1.0-1");
        assert!(matches!(fixture.install(&files[..1]), Err(InstallError::NoModules { .. })));
        assert!(matches!(fixture.install(&files[1..]), Err(InstallError::NoImage)));
        assert_eq!(fixture.entries(), [""; 0]);
    }

    #[test]
    fn a_truncated_or_foreign_package_is_refused() {
        let fixture = Fixture::new();
        let path = fixture.directory.path().join("kernel.deb");
        deb(&path, &tar_xz(&kernel_files("6.1.0-1")));
        let whole = std::fs::read(&path).unwrap();
        for length in [0, 4, 40, 100, whole.len() / 2, whole.len() - 50] {
            std::fs::write(&path, &whole[..length]).unwrap();
            let error = fixture.kernels.install_deb(std::slice::from_ref(&path), &mut |_| {}).unwrap_err();
            assert!(matches!(error, InstallError::Deb { .. } | InstallError::Copy(_)), "{length}: {error}");
        }
        assert_eq!(fixture.entries(), [""; 0]);
    }

    #[test]
    fn files_are_copied_and_links_are_not_followed() {
        let fixture = Fixture::new();
        let modules = fixture.directory.path().join("6.1.0-1");
        std::fs::create_dir_all(modules.join("kernel")).unwrap();
        std::fs::write(modules.join("kernel/a.ko"), module(b"depends=")).unwrap();
        std::os::unix::fs::symlink("/", modules.join("kernel/build")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", modules.join("kernel/link.ko")).unwrap();
        let image_file = fixture.directory.path().join("bzImage");
        std::fs::write(&image_file, image("6.1.0-1", &[])).unwrap();
        let kernel = fixture.kernels.install_files(&image_file, &modules, &mut |_| {}).unwrap();
        assert_eq!(regular_files(&kernel.modules).unwrap(), [PathBuf::from("kernel/a.ko")]);
        assert_eq!(kernel.vmlinux, None);
        std::fs::write(&image_file, image("6.1.0-2", &[])).unwrap();
        let error = fixture.kernels.install_files(&image_file, &modules, &mut |_| {}).unwrap_err();
        assert!(matches!(error, InstallError::Mismatch { .. }), "{error}");
    }
}

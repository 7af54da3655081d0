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
pub use deb::DebError;
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
                Some("name a package that contains a kernel: see `apt-cache search linux-image`")
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
    let file = fs_err::File::open(path)?;
    let failed = |source| InstallError::Deb { path: path.to_owned(), source };
    let mut data = deb::data_member(file).map_err(failed)?;
    deb::each_kernel_file(&mut data, failed, &mut |release, member, reader| {
        staging.expect_release(release)?;
        staging.take(member, reader)
    })
}

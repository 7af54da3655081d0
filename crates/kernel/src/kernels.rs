//! The kernels that are installed, and which of them is the default.

use std::io;
use std::path::{Path, PathBuf};

use home::{Exclusive, Home, LockError, Record, RecordError, read_record, write_record};
use jiff::Timestamp;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::{Deserialize, Serialize};

use crate::Release;

/// The kernels of one state directory.
#[derive(Debug, Clone)]
pub struct Kernels {
    home: Home,
}

/// One installed kernel.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// Its release; the name it is found by.
    pub release: Release,
    /// The bzImage.
    pub image: PathBuf,
    /// The uncompressed ELF image, present if a loader can enter it by its PVH note.
    pub vmlinux: Option<PathBuf>,
    /// The tree of its modules, laid out as below `/lib/modules/<release>`.
    pub modules: PathBuf,
    /// The SHA-256 digest of the bzImage, in hexadecimal.
    pub digest: String,
    /// Where it came from.
    pub source: Source,
    /// When it was installed.
    pub installed_at: Timestamp,
    /// The size of the bzImage in bytes.
    pub image_size: u64,
    /// The size of all its modules as kept, in bytes.
    pub modules_size: u64,
}

/// Where a kernel came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Source {
    /// Packages that apt fetched and verified, by name.
    Apt {
        /// The names of the packages.
        packages: Vec<String>,
    },
    /// Package files that the user gave.
    Deb {
        /// The paths as given.
        files: Vec<PathBuf>,
    },
    /// The kernel that ran the host.
    Host,
    /// A kernel image and a module tree that the user gave.
    Files {
        /// The image's path as given.
        image: PathBuf,
        /// The module tree's path as given.
        modules: PathBuf,
    },
}

/// Why the installed kernels cannot be told or changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No such kernel is installed.
    #[error("no kernel `{0}` is installed")]
    Unknown(Release),
    /// A record could not be read or written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The lock of the kernels could not be taken.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The directory of the kernels could not be read or changed.
    #[error("failed to access the installed kernels")]
    Access(#[from] io::Error),
}

/// What `kernel.json` holds.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct KernelRecord {
    pub(crate) release: Release,
    pub(crate) source: Source,
    pub(crate) installed_at: Timestamp,
    pub(crate) image_sha256: String,
    pub(crate) image_size: u64,
    pub(crate) modules_size: u64,
}

impl Record for KernelRecord {
    const VERSION: u32 = 1;
}

#[derive(Debug, Serialize, Deserialize)]
struct DefaultRecord {
    release: Release,
}

impl Record for DefaultRecord {
    const VERSION: u32 = 1;
}

impl Kernels {
    /// The kernels in `home`.
    pub fn open(home: &Home) -> Self {
        Self { home: home.clone() }
    }

    /// All installed kernels, by release.
    pub fn list(&self) -> Result<Vec<Kernel>, StoreError> {
        let mut kernels = Vec::new();
        for entry in fs_err::read_dir(self.home.kernels())? {
            let name = entry?.file_name();
            let Some(release) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            kernels.extend(self.find(&release)?);
        }
        kernels.sort_by(|one, other| one.release.cmp(&other.release));
        Ok(kernels)
    }

    /// The kernel of this release, if it is installed.
    pub fn find(&self, release: &Release) -> Result<Option<Kernel>, StoreError> {
        let directory = self.place_of(release);
        let record = read_record::<KernelRecord>(&directory.join("kernel.json"))?;
        Ok(record.map(|record| Kernel::from_record(&directory, record)))
    }

    /// The kernel that is booted unless another is asked for: the chosen one, else the longest installed.
    pub fn default(&self) -> Result<Option<Kernel>, StoreError> {
        if let Some(chosen) = read_record::<DefaultRecord>(&self.default_file())?
            && let Some(kernel) = self.find(&chosen.release)?
        {
            return Ok(Some(kernel));
        }
        Ok(self.list()?.into_iter().min_by_key(|kernel| kernel.installed_at))
    }

    /// Makes an installed kernel the default.
    pub fn set_default(&self, release: &Release) -> Result<(), StoreError> {
        if self.find(release)?.is_none() {
            return Err(StoreError::Unknown(release.clone()));
        }
        write_record(&self.default_file(), &DefaultRecord { release: release.clone() })?;
        Ok(())
    }

    pub(crate) fn home(&self) -> &Home {
        &self.home
    }

    /// Moves the finished kernel in `staged` to its place. What was there before is in `staged` afterwards,
    /// for the caller to delete.
    pub(crate) fn publish(&self, staged: &Path, release: &Release) -> Result<Kernel, StoreError> {
        let _lock = Exclusive::wait(&self.home.kernels().join("lock"))?;
        let had_default = self.default()?.is_some();
        let place = self.place_of(release);
        if place.exists() {
            exchange(staged, &place)?;
        } else {
            fs_err::rename(staged, &place)?;
        }
        home::sync_directory(&self.home.kernels())?;
        if !had_default {
            self.set_default(release)?;
        }
        self.find(release)?.ok_or_else(|| StoreError::Unknown(release.clone()))
    }

    fn place_of(&self, release: &Release) -> PathBuf {
        self.home.kernels().join(release.as_str())
    }

    fn default_file(&self) -> PathBuf {
        self.home.kernels().join("default")
    }
}

/// Swaps two directories in one step where the file system can, else in two with nothing half in between.
fn exchange(staged: &Path, place: &Path) -> io::Result<()> {
    match renameat_with(CWD, staged, CWD, place, RenameFlags::EXCHANGE) {
        Err(rustix::io::Errno::INVAL) => {}
        other => return Ok(other?),
    }
    let replaced = staged.with_extension("replaced");
    fs_err::rename(place, &replaced)?;
    fs_err::rename(staged, place)?;
    fs_err::rename(&replaced, staged)
}

impl Kernel {
    fn from_record(directory: &Path, record: KernelRecord) -> Self {
        let vmlinux = directory.join("vmlinux");
        Self {
            image: directory.join("vmlinuz"),
            vmlinux: vmlinux.exists().then_some(vmlinux),
            modules: directory.join("modules"),
            release: record.release,
            digest: record.image_sha256,
            source: record.source,
            installed_at: record.installed_at,
            image_size: record.image_size,
            modules_size: record.modules_size,
        }
    }
}

//! The state directory: where things are, who holds them, and how small facts are kept.
//!
//! ```text
//! $MICROAGENT_HOME, else $XDG_DATA_HOME/microagent, else ~/.local/share/microagent     0700
//! ├── images/       the OCI store: one image layout, shared by all images
//! ├── rootfs/       <chain id>.erofs: read-only root file systems made from layers
//! ├── kernels/      <release>/: guest kernels and their modules
//! ├── boot/         initramfs images by content, blank disks by size
//! ├── templates/    <key>/: booted machines to restore
//! ├── spares/       sockets and locks of restored machines that wait for a run
//! ├── workspaces/   <name>/: record, lock and disk of each workspace
//! ├── volumes/      <name>/: record and disk of each named volume
//! ├── networks/     <name>/: record of each named network, and who is on it
//! ├── bundles/      <digest>.erofs: archives as read-only file systems
//! ├── events/       what happened to workspaces
//! └── tmp/          work in progress, each entry locked by its maker
//! ```
//!
//! This crate knows names, locks, records and limits; what they mean is known to the crates above it.

pub mod as_text;
mod fault;
mod hexadecimal;
mod limits;
mod lock;
mod marks;
mod name;
mod place;
mod record;
mod scratch;

pub use fault::fault_point;
pub use hexadecimal::hexadecimal;
pub use limits::{ContentLimits, Limit, LimitsError, configuration_directory};
pub use lock::{Exclusive, LockError, Shared, is_still_at, open_shared};
pub use marks::{MARKS_VARIABLE, mark, monotonic_nanoseconds};
pub use name::{InvalidName, Name, names_in};
pub use place::{Keeps, Place, try_files};
pub use record::{Record, RecordError, read_record, write_record};
pub use scratch::{Scratch, Unfinished, replace_file, sync_directory};

use std::path::{Path, PathBuf};

/// The state directory, existing and private to its owner.
#[derive(Debug, Clone)]
pub struct Home {
    root: PathBuf,
}

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Neither a directory was given nor does the environment name one.
    #[error("cannot tell where to keep state: neither `XDG_DATA_HOME` nor `HOME` is set")]
    Unlocated,
    /// The directory is another user's, who could change it under us.
    #[error("the state directory `{}` belongs to user {owner}, not to you", path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// Its owner's user ID.
        owner: u32,
    },
    /// The directory could be neither found nor made.
    #[error("failed to prepare the state directory")]
    Prepare(#[from] std::io::Error),
}

impl Home {
    /// Opens the state directory at `explicit`, or where the environment says, making it if needed.
    pub fn open(explicit: Option<&Path>) -> Result<Self, HomeError> {
        let root = match explicit {
            Some(path) => std::path::absolute(path)?,
            None => default_root().ok_or(HomeError::Unlocated)?,
        };
        make_private(&root)?;
        let owner = std::os::unix::fs::MetadataExt::uid(&fs_err::metadata(&root)?);
        if owner != rustix::process::geteuid().as_raw() {
            return Err(HomeError::Foreign { path: root, owner });
        }
        let home = Self { root };
        for part in [
            "images",
            "rootfs",
            "kernels",
            "boot",
            "templates",
            "spares",
            "workspaces",
            "volumes",
            "networks",
            "bundles",
            "tmp",
        ] {
            make_private(&home.root.join(part))?;
        }
        Ok(home)
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The OCI image layout.
    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// Root file systems by chain ID.
    pub fn rootfs(&self) -> PathBuf {
        self.root.join("rootfs")
    }

    /// Guest kernels by release.
    pub fn kernels(&self) -> PathBuf {
        self.root.join("kernels")
    }

    /// What a boot needs beside kernel and image: initramfs images and blank disks.
    pub fn boot(&self) -> PathBuf {
        self.root.join("boot")
    }

    /// Booted machines by key.
    pub fn templates(&self) -> PathBuf {
        self.root.join("templates")
    }

    /// Machines that wait for a run, by their template's key.
    pub fn spares(&self) -> PathBuf {
        self.root.join("spares")
    }

    /// Workspaces by name.
    pub fn workspaces(&self) -> PathBuf {
        self.root.join("workspaces")
    }

    /// Named volumes by name.
    pub fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }

    /// Named networks by name.
    pub fn networks(&self) -> PathBuf {
        self.root.join("networks")
    }

    /// Archives as read-only file systems, by content.
    pub fn bundles(&self) -> PathBuf {
        self.root.join("bundles")
    }

    /// What happened to workspaces, also to those that are gone.
    pub fn events(&self) -> PathBuf {
        self.root.join("events")
    }

    /// Work in progress; see [`Scratch`].
    pub fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }
}

fn default_root() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
        .map(|base| base.join("microagent"))
}

fn make_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    if path.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|source| {
        std::io::Error::new(
            source.kind(),
            format!("failed to create directory `{}`: {source}", path.display()),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_new_home_is_private() {
        let parent = tempfile::tempdir().unwrap();
        let home = Home::open(Some(&parent.path().join("a/b"))).unwrap();
        for path in [home.root().to_owned(), home.images(), home.tmp()] {
            assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o700);
        }
    }

    #[test]
    fn a_home_that_cannot_be_made_names_the_path() {
        let parent = tempfile::tempdir().unwrap();
        let file = parent.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = Home::open(Some(&file.join("home"))).unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("file/home"), "{source}");
    }
}

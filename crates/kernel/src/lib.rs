//! Guest kernels and their modules: finding, fetching and keeping them.
//!
//! ```text
//! kernels/
//! ├── default            the release that `run` boots
//! ├── lock               held while a kernel is put in its place
//! └── <release>/         e.g. 6.1.0-56-cloud-amd64
//!     ├── kernel.json    where it came from, when, its digest and sizes
//!     ├── vmlinuz        the bzImage as shipped
//!     ├── vmlinux        the ELF inside it, if it has a PVH entry point
//!     └── modules/       what the release has of kernel/**.ko[.xz|.zst|.gz] and modules.*
//! ```
//!
//! A kernel is built in a scratch directory and renamed into place: it is there whole, or not at all.
//! Packages and images are taken apart by a [`reader`], a process that may do nothing else, and only kernels and modules are
//! taken from them; nothing of them is run.

mod bzimage;
mod decompress;
mod install;
mod kernels;
mod modinfo;
mod modules;
mod release;
mod walk;

pub use bzimage::{BzImageError, UNPACK_IMAGE, UnreadableImage};
pub use install::{CommandError, DebError, InstallError, READ_PACKAGE, Step, UnreadablePackage};
pub use kernels::{Kernel, Kernels, Source, StoreError};
pub use modinfo::ModinfoError;
pub use modules::{Module, ModuleError};
pub use release::{InvalidRelease, Release};

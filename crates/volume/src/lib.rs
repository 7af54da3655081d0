//! Disks: blank ones and copies, named volumes, bundles, and files that are disk images.
//!
//! ```text
//! -v SOURCE:/PATH[:ro]       a `Mount`: what is asked for
//!    │
//!    ├── name                volumes/<name>/{volume.json, disk.ext4}    a `Volume`, which outlives workspaces
//!    ├── x.tar[.gz|.zst]     bundles/<digest>.erofs                     made once for each content
//!    └── x.ext4, x.img       the file itself
//!    │
//!    └──▶ `Attachment`       an open file, locked for as long as any process has it open
//! ```
//!
//! The host makes blank file systems and read-only ones out of archives; it never reads one that a guest has written.

mod attachment;
mod bundle;
mod disk;
mod mount;
mod volume;

pub use attachment::{AttachError, Attachment, Content};
pub use bundle::{BundleError, unneeded_bundles};
pub use disk::{
    DiskError, DiskSize, InvalidDiskSize, blank_name, fill_blank, named_copy, named_disk, scratch_copy,
    scratch_disk, try_file_system,
};
pub use mount::{Access, InvalidMount, Mount, MountPoint, Source};
pub use volume::{Found, Use, Volume, VolumeError, VolumeRecord};

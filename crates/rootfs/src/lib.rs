//! Image layers to one EROFS image, blank writable disks, and the initramfs.

mod chain;
mod convert;
pub mod initramfs;
mod layer;
mod locked;
mod merge;

pub use chain::chain_id;
pub use convert::{ArchiveFile, ConvertError, Converted, Limits, convert, convert_archive, convert_arriving};
pub use layer::{LayerBlob, LayerError};
pub use locked::{READ_LAYERS, Told, read_layers};
pub use merge::{EntryError, LeftOut};

//! Image layers to one EROFS image, blank writable disks, and the initramfs.

pub mod initramfs;

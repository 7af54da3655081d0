//! Layers made here and by others, converted and read back.
//!
//! What other tools make of the same layers is compared file by file; that needs root, as they make devices
//! and files of other owners.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod archive;
mod arriving;
mod damage;
mod debian;
mod extensions;
mod image;
mod listing;
mod model;
mod semantics;
mod tools;

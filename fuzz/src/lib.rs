//! What the fuzz targets do with their input, apart from the fuzzer, so that plain tests can replay the corpus.
//!
//! ```text
//! RUSTC_BOOTSTRAP=1 cargo fuzz run layer      finds new inputs
//! cargo test                                  replays those in corpus/
//! ```

mod erofs_reader;
mod layer;
mod network;
mod protocol;
mod transfer;

pub use erofs_reader::read_image;
pub use layer::convert_layer;
pub use network::take_frames;
pub use protocol::read_session;
pub use transfer::receive_tree;

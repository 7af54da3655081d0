//! What the fuzz targets do with their input, apart from the fuzzer, so that plain tests can replay the corpus.
//!
//! ```text
//! RUSTC_BOOTSTRAP=1 cargo fuzz run layer      finds new inputs
//! cargo test                                  replays those in corpus/
//! ```

mod agent;
mod archive;
mod configuration;
mod control;
mod documents;
mod erofs_reader;
mod kernel_package;
mod layer;
mod network;
mod protocol;
mod records;
mod sealed;
mod transfer;
mod words;

pub use agent::speak_with_guest;
pub use archive::load_archive;
pub use configuration::read_configuration;
pub use control::{hear_monitor, read_line};
pub use documents::read_documents;
pub use erofs_reader::read_image;
pub use kernel_package::install_kernel;
pub use layer::{convert_bundle, convert_layer};
pub use network::take_frames;
pub use protocol::read_session;
pub use records::{read_records, read_settings};
pub use transfer::receive_tree;
pub use words::read_words;

/// A program that begins in Rust ignores the signal that nobody reads a pipe any more; libFuzzer's does not.
fn ignore_broken_pipes() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    // SAFETY: nothing is called.
    ONCE.call_once(|| unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
    });
}

/// Waits for `future` on a runtime of its own.
fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be made").block_on(future)
}

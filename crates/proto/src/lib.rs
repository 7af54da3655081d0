//! The bytes between host and guest, and nothing else.
//!
//! Both sides speak over one virtio-serial port, a byte stream each way. A session starts with the host's
//! greeting, which the guest answers; a greeting that arrives later starts a new session (the guest was
//! restored and a new host is at the other end). After the greeting, a stream is a sequence of frames.
//!
//! ```text
//! greeting   "\xffuAG" | version: u32 LE                       8 bytes, frozen for all versions
//! frame      length: u32 LE, 1..=MAX_FRAME | message           message: postcard of ToGuest or ToHost
//! ```
//!
//! The first byte pair of a greeting, read as a length, is larger than any frame, so the two are never
//! confused. A process's streams are flow-controlled one by one: a sender may have [`WINDOW`] bytes on the
//! way that the receiver has not credited back, so a slow reader of one stream holds up nothing else.
//! Requests about the machine are answered in the order in which they were sent.
//!
//! Everything that the guest says is untrusted: lengths are bounded before anything is kept, and a message
//! that does not decode is an error and not a panic.

mod codec;
mod message;

pub use codec::{
    Decoder, Incoming, ProtocolError, decode_received, encode, encode_greeting, encode_received,
};
pub use message::{
    Arrangement, Attach, Command, DiskContent, ExitStatus, Identity, Network, Network6, Outcome,
    OutputStream, ProcessId, Received, ReceivedFiles, Resolver, Root, SpawnFailure, SpawnFailureKind, Stdio,
    TerminalSize, Tmpfs, ToGuest, ToHost, Transfer, Usage, Writable,
};

/// The version that this release speaks; both sides must speak the same.
pub const VERSION: u32 = 7;

/// The name of the virtio-serial port that carries the protocol.
pub const PORT_NAME: &str = "org.microagent.agent";

/// The serial number of the disk through which large files go. It has no file system: `transfer` says what is on it.
pub const EXCHANGE_DISK: &str = "exchange";

/// The longest message, in bytes.
pub const MAX_FRAME: usize = 128 * 1024;

/// The most data that one message carries, in bytes.
pub const MAX_DATA: usize = 64 * 1024;

/// How many bytes of one stream may be on the way before the receiver has taken any.
pub const WINDOW: u32 = 256 * 1024;

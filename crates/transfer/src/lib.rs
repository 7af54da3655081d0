//! A tree of files as a stream: [`pack`] reads one, [`unpack`] makes one. Both run on both sides, in the guest and
//! on the host, so that neither side ever parses the other's file system.
//!
//! ```text
//! stream     header* of one tree: the first is the tree's root, with an empty path; a directory comes before
//!            what is in it; the last is `End` or `Failed`
//! header     length: u32 LE, 1..=MAX_HEADER | postcard of Header
//! data       after `Header::Data`, as many bytes as it says, as they are; after `Header::Exchanged` they are elsewhere
//! ```
//!
//! [`pack_changes`] packs what an overlay keeps of changes, for a layer of an image: what is gone is a character
//! device 0/0, and a directory that hides the one below it has the attribute [`OPAQUE`].
//!
//! What a stream says is untrusted: [`Reader`] bounds every length before anything is kept, takes no path that
//! leads out of the tree, and no data beyond a file's size; [`unpack`] follows no symbolic link below its
//! destination. Holes are not sent, so what is sparse stays sparse.

mod attributes;
mod destination;
mod exchange;
mod pack;
mod page_cache;
mod stream;
mod unpack;

pub use attributes::{OPAQUE, is_kept};
pub use destination::{Destination, PlaceError};
pub use exchange::{BLOCK, BLOCKS, PageCache, REGION, Receiving, Region, Sending};
pub use pack::changes::{Scaffold, pack_changes};
pub use pack::{PackError, PackOptions, pack, source_name};
pub use stream::{Entry, Header, Kind, MAX_HEADER, Reader, StreamError, Time, Upcoming, Writer, is_inside};
pub use unpack::{Owners, Policy, Report, UnpackError, unpack};

//! The guest's name server: answers what it knows itself, and asks the host's name servers for the rest.
//!
//! ```text
//! guest ─ datagrams, or a stream ─▶ reach: may it be known ─▶ own names ─▶ pending ─▶ a name server of the host's
//!                                        answers: the addresses are pinned to the name ◀─┘
//! ```
//!
//! Each question goes out from a socket of its own, under a number of its own, so that an answer can only come from
//! whom was asked. Questions on their way are bounded; the oldest gives way.

mod message;
mod pending;
mod servers;
mod stream;

pub(crate) use message::{Question, answer, found};
pub(crate) use pending::{Asker, Pending, Resolved};
pub(crate) use servers::Servers;
pub(crate) use stream::{NameStream, Next};

/// How long names of the workspace's own may be kept, in seconds.
pub(crate) const OWN_LIFETIME: u32 = 60;

/// Response codes (RFC 1035, 4.1.1).
pub(crate) const SERVER_FAILURE: u8 = 2;
pub(crate) const NO_SUCH_NAME: u8 = 3;

#[cfg(test)]
pub(crate) use message::query;

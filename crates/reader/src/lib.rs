//! Foreign bytes, read by a process that may do nothing else.
//!
//! What strangers wrote and a program has to take apart, archives and what is packed, is read by this very program, started
//! again under all that confines QEMU and less: it opens no file, starts nothing and speaks to nobody. Whoever takes it over
//! has the bytes that came in, and can choose those that go out.
//!
//! ```text
//!  input ──pump──pipe 5──▶ the reader: a Job's work ──pipe 4──▶ items: a head, and content, in frames ──▶ whoever asked
//!                 └─ request ──────▶ socket 3 ──▶ outcome: a line of JSON each
//! ```
//!
//! | frame | bytes |
//! |---|---|
//! | length, little-endian | 4; of a head at most 64 KiB, of a piece of content at most 1 MiB |
//! | a head as JSON, or a piece of content | as many |
//!
//! An item is a head, pieces, and an empty frame. After the last item the pipe ends, and the outcome is said. What comes out is
//! as foreign as what went in: whoever asked bounds, checks and hashes it.
//!
//! The program says at its start how it is started as a reader ([`read_in`]). In one that does not, as the tests of
//! libraries, a thread does the same work.

mod ask;
mod program;
mod wire;

pub use ask::{Asked, Fed, Input, Items, Job, ReadError, ask, ask_of_file, serve};
pub use program::{Descriptors, Program, Reader, lock_in, program, read_in};
pub use wire::{LONGEST_LINE, Output, read_line, say};

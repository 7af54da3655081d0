//! A network, measured from both of its ends; `scripts/bench-network` has two of them compared.
//!
//! ```text
//! bench host PAIRS                   waits for two guests, `ours` and `other`, and has them measure in turn
//! bench guest ADDRESS:PORT NAME      does what the host says
//!
//! host to guest   WHAT AMOUNT STREAMS PORT
//! guest to host   NANOSECONDS MEDIAN 99TH_PERCENTILE LOST      all as the guest's clock has it
//! ```
//!
//! The standard library is all that it needs, so one `rustc` makes a static program of it, for any guest.

mod guest;
mod host;
mod services;

use std::io;

fn main() -> io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["host", pairs] => host::measure(pairs.parse().map_err(io::Error::other)?),
        ["guest", host, name] => guest::obey(host, name),
        _ => Err(io::Error::other("usage: bench host PAIRS | bench guest ADDRESS:PORT NAME")),
    }
}

//! Messages on their way to the host.
//!
//! It cannot grow without bound: data is limited by the credit that the host gave, and every other message
//! answers one of the host's.

use std::os::fd::AsFd;

use proto::ToHost;

/// Encoded messages that the port has not taken yet.
#[derive(Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
}

impl Outbox {
    pub(crate) fn greet(&mut self) {
        // A new session: what was meant for the last host is not for this one.
        self.bytes.clear();
        self.sent = 0;
        self.bytes.extend_from_slice(&proto::encode_greeting());
    }

    pub(crate) fn send(&mut self, message: &ToHost<'_>) {
        proto::encode(message, &mut self.bytes);
    }

    /// Writes as much as the port takes.
    pub(crate) fn flush(&mut self, port: impl AsFd) {
        while self.sent < self.bytes.len() {
            match rustix::io::write(&port, &self.bytes[self.sent..]) {
                Ok(written) => self.sent += written,
                Err(rustix::io::Errno::INTR) => {}
                // Full, or nobody at the other end: the port tells when that changes.
                Err(_) => return,
            }
        }
        self.bytes.clear();
        self.sent = 0;
    }

    /// Whether everything was handed to the host.
    pub(crate) fn is_empty(&self) -> bool {
        self.sent == self.bytes.len()
    }
}

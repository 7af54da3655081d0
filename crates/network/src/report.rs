//! What a network has done, and is doing.

use serde::{Deserialize, Serialize};

/// Counters since the network was made, and what is there now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// TCP connections that there are now.
    pub tcp_connections: u64,
    /// UDP conversations and pings that there are now.
    pub udp_conversations: u64,
    /// Questions for names that wait for an answer.
    pub dns_pending: u64,
    /// TCP connections that there have been.
    pub tcp_total: u64,
    /// UDP conversations and pings that there have been.
    pub udp_total: u64,
    /// Questions for names that there have been.
    pub dns_total: u64,
    /// Frames and bytes from the guest.
    pub frames_sent: u64,
    /// See above.
    pub bytes_sent: u64,
    /// Frames and bytes to the guest.
    pub frames_received: u64,
    /// See above.
    pub bytes_received: u64,
    /// What was refused because it may not be reached.
    pub refused: u64,
    /// What found a limit: too many connections, conversations or questions.
    pub limited: u64,
    /// Decisions that were not told to anybody, since there were too many at once.
    #[serde(default)]
    pub unheard: u64,
    /// Frames that are in a capture, and those for which it had no room.
    #[serde(default)]
    pub captured: u64,
    /// See above.
    #[serde(default)]
    pub capture_missed: u64,
    /// Parts of packets, which are not put together.
    #[serde(default)]
    pub fragments: u64,
    /// Frames that made no sense, or were not the guest's to send.
    pub dropped: u64,
}

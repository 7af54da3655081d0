//! The bytes between host and guest, and nothing else.

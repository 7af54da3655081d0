//! What members of a network say to each other. They are of one user and one release; what makes no sense is dropped all
//! the same.
//!
//! ```text
//! stream    caller ─▶ version 1 | 0 | number 1 | 0 | its port 2 | the other's port 2      then bytes both ways
//!                  ◀─ 1                                           once the other guest has answered
//! datagram  version 1 | kind 1 | number 1 | 0 | from 2 | to 2 | payload      ports; of pings identifier and sequence
//! ```
//!
//! `number` is the last part of the caller's address; numbers of two bytes are big-endian.

/// The version of this form.
const VERSION: u8 = 1;

/// The length of what precedes the payload.
pub(crate) const HEADER: usize = 8;

/// What a datagram is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ParcelKind {
    Udp,
    EchoRequest,
    EchoReply,
}

/// A connection that a member asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call {
    /// The caller's number, and its port.
    pub(crate) number: u8,
    pub(crate) from: u16,
    pub(crate) to: u16,
}

impl Call {
    pub(crate) fn bytes(self) -> [u8; HEADER] {
        header(0, self.number, self.from, self.to)
    }

    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let (kind, number, from, to) = read(bytes)?;
        (kind == 0 && bytes.len() == HEADER).then_some(Self { number, from, to })
    }
}

/// A datagram of a member's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parcel {
    pub(crate) kind: ParcelKind,
    pub(crate) number: u8,
    pub(crate) from: u16,
    pub(crate) to: u16,
}

impl Parcel {
    pub(crate) fn bytes(self, payload: &[u8]) -> Vec<u8> {
        let kind = match self.kind {
            ParcelKind::Udp => 0,
            ParcelKind::EchoRequest => 1,
            ParcelKind::EchoReply => 2,
        };
        let mut bytes = header(kind, self.number, self.from, self.to).to_vec();
        bytes.extend_from_slice(payload);
        bytes
    }

    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let (kind, number, from, to) = read(bytes)?;
        let kind = match kind {
            0 => ParcelKind::Udp,
            1 => ParcelKind::EchoRequest,
            2 => ParcelKind::EchoReply,
            _ => return None,
        };
        Some(Self { kind, number, from, to })
    }
}

fn header(kind: u8, number: u8, from: u16, to: u16) -> [u8; HEADER] {
    let ([a, b], [c, d]) = (from.to_be_bytes(), to.to_be_bytes());
    [VERSION, kind, number, 0, a, b, c, d]
}

fn read(bytes: &[u8]) -> Option<(u8, u8, u16, u16)> {
    let (header, _) = bytes.split_first_chunk::<HEADER>()?;
    let [VERSION, kind, number, 0, a, b, c, d] = *header else { return None };
    Some((kind, number, u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parcels_are_read_as_they_are_written(number: u8, from: u16, to: u16, payload: Vec<u8>) {
            let call = Call { number, from, to };
            prop_assert_eq!(Call::parse(&call.bytes()), Some(call));
            for kind in [ParcelKind::Udp, ParcelKind::EchoRequest, ParcelKind::EchoReply] {
                let parcel = Parcel { kind, number, from, to };
                let bytes = parcel.bytes(&payload);
                prop_assert_eq!(Parcel::parse(&bytes), Some(parcel));
                prop_assert_eq!(&bytes[HEADER..], &payload[..]);
            }
        }

        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            let _ = (Call::parse(&bytes), Parcel::parse(&bytes));
        }
    }
}

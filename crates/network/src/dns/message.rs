//! DNS messages (RFC 1035, 4), as far as they concern us: one question, and answers that are addresses.
//!
//! ```text
//! number 2 | flags 2 | questions 2 | answers 2 | authorities 2 | additional 2
//! question: labels, each after its length, then 0 | type 2 | class 2
//! answer:   pointer to the question's name 2 | type 2 | class 2 | lifetime 4 | length 2 | address
//! ```

use std::net::IpAddr;

const HEADER: usize = 12;
const A: u16 = 1;
const AAAA: u16 = 28;
const INTERNET: u16 = 1;

/// The longest name, in bytes (RFC 1035, 2.3.4).
const LONGEST_NAME: usize = 255;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    /// In small letters, with dots between labels.
    pub(crate) name: String,
    kind: u16,
    /// Where the question ends in its message.
    end: usize,
}

impl Question {
    /// The question in a query; `None` if it is no query with one question.
    pub(crate) fn parse(query: &[u8]) -> Option<Self> {
        let header = query.get(..HEADER)?;
        // A query, of the standard kind, with one question.
        if header[2] & 0xf8 != 0 || header[4..6] != [0, 1] {
            return None;
        }
        Self::read(query)
    }

    fn read(message: &[u8]) -> Option<Self> {
        let mut at = HEADER;
        let mut name = String::new();
        loop {
            let length = usize::from(*message.get(at)?);
            at += 1;
            if length == 0 {
                break;
            }
            // Longer ones are pointers, which a first name has nothing to point at.
            let label = message.get(at..at + length).filter(|_| length <= 63)?;
            at += length;
            if at - HEADER > LONGEST_NAME {
                return None;
            }
            if !name.is_empty() {
                name.push('.');
            }
            // A label may hold any byte, and one that is no letter, digit or sign is in no list of ours.
            name.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
        }
        let kind = u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?);
        let class = u16::from_be_bytes(message.get(at + 2..at + 4)?.try_into().ok()?);
        (class == INTERNET).then_some(Self { name, kind, end: at + 4 })
    }

    pub(crate) fn is_aaaa(&self) -> bool {
        self.kind == AAAA
    }

    /// Whether it asks for addresses of this kind.
    pub(crate) fn wants(&self, address: IpAddr) -> bool {
        self.kind == if address.is_ipv4() { A } else { AAAA }
    }
}

/// The reply to `query`: a response code, and addresses.
pub(crate) fn answer(
    query: &[u8],
    question: &Question,
    code: u8,
    addresses: &[IpAddr],
    lifetime: u32,
) -> Vec<u8> {
    let mut message = query[..question.end].to_vec();
    // A response, recursion available; what was desired stays.
    message[2] = 0x80 | (query[2] & 1);
    message[3] = 0x80 | code;
    message[4..HEADER].copy_from_slice(&[0, 1, 0, addresses.len().min(255) as u8, 0, 0, 0, 0]);
    for address in addresses.iter().take(255) {
        let octets = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        message.extend_from_slice(&[0xc0, HEADER as u8]);
        message.extend_from_slice(&question.kind.to_be_bytes());
        message.extend_from_slice(&INTERNET.to_be_bytes());
        message.extend_from_slice(&lifetime.to_be_bytes());
        message.extend_from_slice(&(octets.len() as u16).to_be_bytes());
        message.extend_from_slice(&octets);
    }
    message
}

/// Whether it is a reply to this question under this number.
pub(super) fn is_reply(message: &[u8], number: u16, question: &Question) -> bool {
    let Some(header) = message.get(..HEADER) else { return false };
    if header[..2] != number.to_be_bytes() || header[2] & 0x80 == 0 {
        return false;
    }
    // A server that failed need not repeat the question.
    header[4..6] == [0, 0] || Question::read(message).as_ref() == Some(question)
}

/// A query for `name`.
#[cfg(test)]
pub(super) fn query(number: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut message = number.to_be_bytes().to_vec();
    message.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.trim_end_matches('.').split('.') {
        message.push(label.len() as u8);
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&INTERNET.to_be_bytes());
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_question_is_read_as_it_is_asked() {
        let question = Question::parse(&query(1, "WWW.Example", AAAA)).unwrap();
        assert_eq!((question.name.as_str(), question.is_aaaa()), ("www.example", true));
        let mut reply = query(1, "a", A);
        reply[2] |= 0x80;
        assert_eq!(Question::parse(&reply), None);
        assert_eq!(Question::parse(&query(1, &"a".repeat(64), A)), None);
        assert_eq!(Question::parse(&query(1, &["a".repeat(63).as_str(); 5].join("."), A)), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            if let Some(question) = Question::parse(&bytes) {
                let reply = answer(&bytes, &question, 0, &["::1".parse().unwrap()], 1);
                prop_assert!(is_reply(&reply, u16::from_be_bytes([bytes[0], bytes[1]]), &question));
            }
        }
    }
}

//! DNS messages (RFC 1035, 4), as far as they concern us: one question, and answers that are addresses.
//!
//! ```text
//! number 2 | flags 2 | questions 2 | answers 2 | authorities 2 | additional 2
//! question: labels, each after its length, then 0 | type 2 | class 2
//! answer:   name, or a pointer to one 2 | type 2 | class 2 | lifetime 4 | length 2 | address, or another name
//! ```

use std::net::IpAddr;

const HEADER: usize = 12;
const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;
const INTERNET: u16 = 1;

/// The longest name, in bytes (RFC 1035, 2.3.4).
const LONGEST_NAME: usize = 255;

/// How often a name may go on elsewhere, how many other names a name may have, and how many records are read.
const MOST_JUMPS: usize = 16;
const MOST_ALIASES: usize = 16;
const MOST_RECORDS: usize = 256;

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
        // A first name has nothing to point at.
        let (name, at) = read_name(message, HEADER, 0)?;
        let (kind, class) = (word(message, at)?, word(message, at + 2)?);
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

/// The name at `at` in small letters, and where it ends. It may go on elsewhere so many times.
fn read_name(message: &[u8], mut at: usize, mut jumps: usize) -> Option<(String, usize)> {
    let (mut name, mut end) = (String::new(), None);
    loop {
        let length = usize::from(*message.get(at)?);
        match length {
            0 => break,
            1..=63 => {}
            0xc0..=0xff => {
                jumps = jumps.checked_sub(1)?;
                end.get_or_insert(at + 2);
                at = usize::from(word(message, at)? & 0x3fff);
                continue;
            }
            _ => return None,
        }
        let label = message.get(at + 1..at + 1 + length)?;
        at += 1 + length;
        if name.len() + length + 1 > LONGEST_NAME {
            return None;
        }
        if !name.is_empty() {
            name.push('.');
        }
        name.extend(label.iter().map(|byte| shown(*byte)));
    }
    Some((name, end.unwrap_or(at + 1)))
}

/// A label may hold any byte. One that is no letter, digit or sign is in no list of ours, and a dot must not look like
/// an end of the label.
fn shown(byte: u8) -> char {
    if byte == b'.' { '\u{fffd}' } else { char::from(byte.to_ascii_lowercase()) }
}

fn word(message: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?))
}

/// What a reply says of what was asked.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// The name that was asked for, and those that it is another name of.
    pub(crate) names: Vec<String>,
    /// Their addresses, each with its lifetime in seconds.
    pub(crate) addresses: Vec<(IpAddr, u32)>,
}

/// A record of a reply, if it is an address or another name.
struct Record {
    owner: String,
    lifetime: u32,
    content: Content,
}

enum Content {
    Address(IpAddr),
    Alias(String),
    Other,
}

/// What the reply says of the name that was asked for, also by way of other names. What does not parse says nothing.
pub(crate) fn found(reply: &[u8], question: &Question) -> Found {
    let mut found = Found { names: vec![question.name.clone()], addresses: Vec::new() };
    let (Some(asked), Some(number)) = (word(reply, 4), word(reply, 6)) else { return found };
    if asked != 1 {
        return found;
    }
    let (mut at, mut records) = (question.end, Vec::new());
    for _ in 0..usize::from(number).min(MOST_RECORDS) {
        let Some((record, end)) = read_record(reply, at) else { break };
        records.push(record);
        at = end;
    }
    let mut name = question.name.as_str();
    while let Some(alias) = records.iter().find_map(|record| record.alias_of(name)) {
        if found.names.len() > MOST_ALIASES || found.names.iter().any(|known| known == alias) {
            break;
        }
        found.names.push(alias.to_owned());
        name = alias;
    }
    let its = |record: &&Record| found.names.contains(&record.owner);
    found.addresses = records.iter().filter(its).filter_map(Record::address).collect();
    found
}

fn read_record(reply: &[u8], at: usize) -> Option<(Record, usize)> {
    let (owner, at) = read_name(reply, at, MOST_JUMPS)?;
    let (kind, class) = (word(reply, at)?, word(reply, at + 2)?);
    let lifetime = u32::from_be_bytes(reply.get(at + 4..at + 8)?.try_into().ok()?);
    let start = at + 10;
    let end = start + usize::from(word(reply, at + 8)?);
    let data = reply.get(start..end)?;
    let content = match (kind, class) {
        (A, INTERNET) => Content::Address(<[u8; 4]>::try_from(data).ok()?.into()),
        (AAAA, INTERNET) => Content::Address(<[u8; 16]>::try_from(data).ok()?.into()),
        (CNAME, INTERNET) => Content::Alias(read_name(reply, start, MOST_JUMPS)?.0),
        _ => Content::Other,
    };
    Some((Record { owner, lifetime, content }, end))
}

impl Record {
    fn alias_of(&self, name: &str) -> Option<&str> {
        match &self.content {
            Content::Alias(alias) if self.owner == name => Some(alias),
            _ => None,
        }
    }

    fn address(&self) -> Option<(IpAddr, u32)> {
        match self.content {
            Content::Address(address) => Some((address, self.lifetime)),
            _ => None,
        }
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
pub(crate) fn query(number: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut message = number.to_be_bytes().to_vec();
    message.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    message.extend(self::name(name));
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&INTERNET.to_be_bytes());
    message
}

#[cfg(test)]
fn name(name: &str) -> Vec<u8> {
    let mut message = Vec::new();
    for label in name.trim_end_matches('.').split('.') {
        message.push(label.len() as u8);
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
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

    /// A record for `owner`, written out.
    fn record(owner: &str, kind: u16, lifetime: u32, data: &[u8]) -> Vec<u8> {
        let mut record = name(owner);
        record.extend_from_slice(&kind.to_be_bytes());
        record.extend_from_slice(&INTERNET.to_be_bytes());
        record.extend_from_slice(&lifetime.to_be_bytes());
        record.extend_from_slice(&(data.len() as u16).to_be_bytes());
        record.extend_from_slice(data);
        record
    }

    fn reply(asked: &str, records: &[Vec<u8>]) -> (Vec<u8>, Question) {
        let mut reply = query(1, asked, A);
        let question = Question::parse(&reply).unwrap();
        reply[2] |= 0x80;
        reply[7] = records.len() as u8;
        reply.extend(records.concat());
        (reply, question)
    }

    #[test]
    fn addresses_are_those_of_what_was_asked_also_by_way_of_other_names() {
        let (reply, question) = reply(
            "www.example",
            &[
                record("cdn.test", A, 30, &[192, 0, 2, 1]),
                record("WWW.example", CNAME, 5, &name("edge.test")),
                record("edge.test", CNAME, 5, &name("cdn.test")),
                record("bystander.example", A, 5, &[192, 0, 2, 66]),
                record("cdn.test", 16, 5, b"\x02hi"),
                record("cdn.test", AAAA, 5, &[0x20; 16]),
            ],
        );
        let found = found(&reply, &question);
        assert_eq!(found.names, ["www.example", "edge.test", "cdn.test"]);
        let sixth = IpAddr::from([0x20_u8; 16]);
        assert_eq!(found.addresses, [(IpAddr::from([192, 0, 2, 1]), 30), (sixth, 5)]);
    }

    #[test]
    fn names_that_go_round_in_circles_come_to_an_end() {
        let circle = [record("a", CNAME, 5, &name("b")), record("b", CNAME, 5, &name("a"))];
        let (round, question) = reply("a", &circle);
        assert_eq!(found(&round, &question).names, ["a", "b"]);
        let (mut pointing, question) = reply("a", &[Vec::new()]);
        let at = pointing.len() as u16;
        pointing.extend_from_slice(&(0xc000 | at).to_be_bytes());
        assert_eq!(found(&pointing, &question), Found { names: vec!["a".to_owned()], addresses: Vec::new() });
    }

    #[test]
    fn a_dot_in_a_label_is_no_end_of_it() {
        let mut odd = query(1, "a-example", A);
        odd[14] = b'.';
        assert_eq!(Question::parse(&odd).unwrap().name, "a\u{fffd}example");
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            if let Some(question) = Question::parse(&bytes) {
                let reply = answer(&bytes, &question, 0, &["::1".parse().unwrap()], 1);
                prop_assert!(is_reply(&reply, u16::from_be_bytes([bytes[0], bytes[1]]), &question));
                found(&bytes, &question);
            }
        }
    }
}

//! Two guests on one network, each with a stack of its own.

use std::net::IpAddr;

use home::{Home, Name};

use super::*;
use crate::{Membership, NamedNetwork};

struct Two {
    web: Guest,
    db: Guest,
    web_address: IpAddr,
    db_address: IpAddr,
    _directory: tempfile::TempDir,
}

fn two() -> Two {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::open(Some(directory.path())).unwrap();
    let network: Name = "backend".parse().unwrap();
    NamedNetwork::create(&home, &network).unwrap();
    let guest = |name: &str| {
        let membership = Membership::join(&home, &network, &name.parse().unwrap()).unwrap();
        let address = IpAddr::from(membership.address());
        let policy = crate::Policy { egress: Some(crate::Egress::Deny), ..crate::Policy::default() };
        let settings = Settings { policy, ..Settings::default() };
        let fittings = Fittings { memberships: vec![membership], ..Fittings::default() };
        (Guest::fitted(settings, fittings), address)
    };
    let ((web, web_address), (db, db_address)) = (guest("web"), guest("db"));
    Two { web, db, web_address, db_address, _directory: directory }
}

/// A connection from web to a port of db's; what each says next, and acknowledges.
struct Connected {
    from: (SocketAddr, SocketAddr),
    to: (SocketAddr, SocketAddr),
    web: (u32, u32),
    db: (u32, u32),
}

fn connect(two: &mut Two) -> Connected {
    let from = ((GUEST, 40_000).into(), (two.db_address, 5432).into());
    two.web.segment(from, (100, 0), Flags::SYN, b"");
    let call = first(&mut two.db, Flags::SYN);
    assert!(!call.flags.has(Flags::ACK), "{call:?}");
    assert_eq!((call.from, call.to), ((two.web_address, 40_000).into(), (GUEST, 5432).into()));
    let to = (call.to, call.from);
    let theirs = call.sequence.wrapping_add(1);
    two.db.segment(to, (500, theirs), Flags::SYN.and(Flags::ACK), b"");
    assert!(two.db.got().flags.has(Flags::ACK));
    let answer = first(&mut two.web, Flags::SYN);
    assert!(answer.flags.has(Flags::ACK), "{answer:?}");
    let web = (101, answer.sequence.wrapping_add(1));
    two.web.segment(from, web, Flags::ACK, b"");
    Connected { from, to, web, db: (501, theirs) }
}

/// The next segment with this flag.
fn first(guest: &mut Guest, flag: Flags) -> Got {
    loop {
        let got = guest.got();
        if got.flags.has(flag) {
            return got;
        }
    }
}

/// The next segment that has data or an end.
fn said(guest: &mut Guest) -> Got {
    loop {
        let got = guest.got();
        if !got.payload.is_empty() || got.flags.has(Flags::FIN) || got.flags.has(Flags::RST) {
            return got;
        }
    }
}

#[test]
fn members_find_each_other_by_name_and_connect() {
    let mut two = two();
    for name in ["db", "DB.backend"] {
        assert_eq!(ask(&mut two.web, name).1, <[u8; 4]>::try_from(octets(two.db_address)).unwrap(), "{name}");
    }
    assert_eq!(ask(&mut two.web, "example.com").0, 3);
    let open = connect(&mut two);
    two.web.segment(open.from, open.web, Flags::ACK.and(Flags::FIN), b"question");
    let heard = said(&mut two.db);
    assert_eq!(heard.payload, b"question");
    two.db.segment(open.to, (open.db.0, open.db.1 + 8), Flags::ACK, b"");
    if !heard.flags.has(Flags::FIN) {
        assert!(said(&mut two.db).flags.has(Flags::FIN));
    }
    two.db.segment(open.to, (open.db.0, open.db.1 + 9), Flags::ACK.and(Flags::FIN), b"answer");
    let heard = said(&mut two.web);
    assert_eq!(heard.payload, b"answer");
    let end = if heard.flags.has(Flags::FIN) { heard } else { said(&mut two.web) };
    assert!(end.flags.has(Flags::FIN) && !end.flags.has(Flags::RST), "{end:?}");
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

#[test]
fn who_does_not_listen_refuses_and_so_does_who_is_not_there() {
    let mut two = two();
    let from = ((GUEST, 40_000).into(), (two.db_address, 1).into());
    two.web.segment(from, (100, 0), Flags::SYN, b"");
    let call = two.db.got();
    let refused = Flags::RST.and(Flags::ACK);
    two.db.segment((call.to, call.from), (0, call.sequence.wrapping_add(1)), refused, b"");
    assert!(two.web.got().flags.has(Flags::RST));
    let nobody: IpAddr = "10.89.0.1".parse().unwrap();
    for address in [nobody, "10.89.1.9".parse().unwrap(), "198.51.100.1".parse().unwrap()] {
        two.web.segment(((GUEST, 40_001).into(), (address, 80).into()), (100, 0), Flags::SYN, b"");
        assert!(two.web.got().flags.has(Flags::RST), "{address}");
    }
}

#[test]
fn a_reset_or_a_crash_of_one_is_a_reset_for_the_other_and_never_an_end() {
    let mut two = two();
    let open = connect(&mut two);
    two.web.segment(open.from, open.web, Flags::ACK, b"half");
    assert_eq!(said(&mut two.db).payload, b"half");
    two.web.segment(open.from, (open.web.0 + 4, open.web.1), Flags::RST.and(Flags::ACK), b"");
    assert!(said(&mut two.db).flags.has(Flags::RST));
    let open = connect(&mut two);
    two.web.segment(open.from, open.web, Flags::ACK, b"half");
    assert_eq!(said(&mut two.db).payload, b"half");
    drop(two.web);
    assert!(said(&mut two.db).flags.has(Flags::RST));
    assert_eq!(ask(&mut two.db, "web").0, 3, "it is gone");
}

#[test]
fn datagrams_and_pings_go_between_members() {
    let mut two = two();
    let (from, to) = ((GUEST, 1000).into(), (two.db_address, 53).into());
    two.web.say(|out| emit_datagram(out, [0; 6], from, to, b"ping"));
    let frame = two.db.frame();
    let Content::Ip(packet) = wire::parse(&frame).unwrap().content else { panic!("it is a packet") };
    let heard = Datagram::parse(&packet).unwrap();
    assert_eq!(
        (heard.from, heard.to, heard.payload),
        ((two.web_address, 1000).into(), (GUEST, 53).into(), &b"ping"[..])
    );
    two.db.say(|out| emit_datagram(out, [0; 6], heard.to, heard.from, b"pong"));
    let frame = two.web.frame();
    let Content::Ip(packet) = wire::parse(&frame).unwrap().content else { panic!("it is a packet") };
    let heard = Datagram::parse(&packet).unwrap();
    assert_eq!((heard.from, heard.payload), ((two.db_address, 53).into(), &b"pong"[..]));

    let echo = wire::Echo { identifier: 7, sequence: 9, payload: b"data" };
    let (web, db) = (two.web_address, two.db_address);
    two.web.say(|out| wire::echo_request(out, [0; 6], GUEST.into(), db, echo));
    let frame = two.db.frame();
    let Content::Ip(packet) = wire::parse(&frame).unwrap().content else { panic!("it is a packet") };
    let asked = wire::echo(&packet).unwrap();
    assert_eq!((packet.from, asked), (web, echo));
    two.db.say(|out| wire::echo_reply(out, [0; 6], GUEST.into(), web, asked));
    let frame = two.web.frame();
    let Content::Ip(packet) = wire::parse(&frame).unwrap().content else { panic!("it is a packet") };
    assert_eq!((packet.from, wire::echo_replied(&packet)), (db, Some(echo)));
}

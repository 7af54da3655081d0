//! The whole stack, with a guest that says what a test has it say.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::*;
use crate::HostAccess;
use crate::addresses::GUEST;
use crate::wire::{self, Content, Datagram, Flags, Segment, Sending, emit_datagram, emit_segment};

mod members;

const PATIENCE: Duration = Duration::from_secs(10);

struct Guest {
    cable: UnixStream,
    network: Network,
}

/// A segment that the guest got.
#[derive(Debug)]
struct Got {
    from: SocketAddr,
    to: SocketAddr,
    sequence: u32,
    flags: Flags,
    payload: Vec<u8>,
}

impl Guest {
    fn new(host: HostAccess, listeners: Vec<Listener>) -> Self {
        Self::with(Settings { host, ..Settings::default() }, listeners, Audit::default())
    }

    fn with(settings: Settings, listeners: Vec<Listener>, audit: Audit) -> Self {
        Self::fitted(settings, Fittings { listeners, audit, ..Fittings::default() })
    }

    fn fitted(settings: Settings, fittings: Fittings) -> Self {
        let network = Network::start(settings, fittings).unwrap();
        let (cable, theirs) = UnixStream::pair().unwrap();
        cable.set_read_timeout(Some(PATIENCE)).unwrap();
        network.plug(theirs.into());
        Self { cable, network }
    }

    fn say(&mut self, emit: impl FnOnce(&mut Vec<u8>)) {
        let mut frame = vec![0; 4];
        emit(&mut frame);
        let length = (frame.len() - 4) as u32;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        self.cable.write_all(&frame).unwrap();
    }

    fn segment(&mut self, ends: (SocketAddr, SocketAddr), at: (u32, u32), flags: Flags, data: &[u8]) {
        let (sequence, acknowledged) = at;
        let window = 0xffff;
        let sending =
            Sending { from: ends.0, to: ends.1, sequence, acknowledged, flags, window, options: None };
        self.say(|out| emit_segment(out, [0; 6], &sending, [data, &[]]));
    }

    fn frame(&mut self) -> Vec<u8> {
        let mut length = [0; 4];
        self.cable.read_exact(&mut length).unwrap();
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.cable.read_exact(&mut frame).unwrap();
        frame
    }

    fn got(&mut self) -> Got {
        let frame = self.frame();
        let Content::Ip(packet) = wire::parse(&frame).unwrap().content else { panic!("it is a packet") };
        let segment = Segment::parse(&packet).unwrap();
        let Segment { from, to, sequence, flags, payload, .. } = segment;
        Got { from, to, sequence, flags, payload: payload.to_vec() }
    }

    /// Opens a connection; what the guest is to say next, and to acknowledge.
    fn connect(&mut self, port: u16) -> ((SocketAddr, SocketAddr), (u32, u32)) {
        let ends = ((GUEST, 40_000).into(), (crate::GATEWAY, port).into());
        self.segment(ends, (100, 0), Flags::SYN, b"");
        let answer = self.got();
        assert!(answer.flags.has(Flags::SYN) && answer.flags.has(Flags::ACK), "{answer:?}");
        let at = (101, answer.sequence.wrapping_add(1));
        self.segment(ends, at, Flags::ACK, b"");
        (ends, at)
    }
}

fn server() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

fn accept(listener: &TcpListener) -> TcpStream {
    let stream = listener.accept().unwrap().0;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[test]
fn data_goes_both_ways_and_each_side_ends_by_itself() {
    let (listener, port) = server();
    let mut guest = Guest::new(HostAccess::Allowed, Vec::new());
    let (ends, (own, theirs)) = guest.connect(port);
    let mut peer = accept(&listener);
    let fin = Flags::ACK.and(Flags::FIN);
    guest.segment(ends, (own, theirs), fin, b"question");
    let mut heard = String::new();
    peer.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "question");
    assert!(guest.got().flags.has(Flags::ACK));
    // The guest has no more to say, and hears on.
    peer.write_all(b"answer").unwrap();
    let answer = guest.got();
    assert_eq!((answer.payload.as_slice(), answer.sequence), (&b"answer"[..], theirs));
    drop(peer);
    let end = guest.got();
    assert!(end.flags.has(Flags::FIN), "{end:?}");
    guest.segment(ends, (own + 9, theirs + 7), Flags::ACK, b"");
    // It is over: what comes now is answered as nobody's.
    guest.segment(ends, (own + 9, theirs + 7), Flags::ACK, b"late");
    assert!(guest.got().flags.has(Flags::RST));
}

#[test]
fn data_that_comes_twice_or_out_of_order_is_heard_once_and_in_order() {
    let (listener, port) = server();
    let mut guest = Guest::new(HostAccess::Allowed, Vec::new());
    let (ends, (own, theirs)) = guest.connect(port);
    let mut peer = accept(&listener);
    guest.segment(ends, (own + 3, theirs), Flags::ACK, b"def");
    guest.segment(ends, (own, theirs), Flags::ACK, b"abc");
    guest.segment(ends, (own, theirs), Flags::ACK, b"abcd");
    guest.segment(ends, (own + 2, theirs), Flags::ACK.and(Flags::FIN), b"cdef");
    let mut heard = String::new();
    peer.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "abcdef");
}

#[test]
fn what_is_not_acknowledged_is_sent_again() {
    let (listener, port) = server();
    let mut guest = Guest::new(HostAccess::Allowed, Vec::new());
    let (ends, (own, theirs)) = guest.connect(port);
    accept(&listener).write_all(b"once").unwrap();
    let (mut first, mut again) = (guest.got(), guest.got());
    if first.payload.is_empty() {
        (first, again) = (again, guest.got());
    }
    while again.payload.is_empty() {
        again = guest.got();
    }
    assert_eq!((first.payload, first.sequence), (again.payload, again.sequence));
    guest.segment(ends, (own, theirs), Flags::RST.and(Flags::ACK), b"");
}

#[test]
fn a_reset_is_a_reset_on_the_other_side() {
    let (listener, port) = server();
    let mut guest = Guest::new(HostAccess::Allowed, Vec::new());
    let (ends, (own, theirs)) = guest.connect(port);
    let mut peer = accept(&listener);
    guest.segment(ends, (own, theirs), Flags::RST.and(Flags::ACK), b"");
    assert_eq!(peer.read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn this_host_and_made_up_addresses_are_refused() {
    let (_listener, port) = server();
    let mut guest = Guest::new(HostAccess::Refused, Vec::new());
    for address in ["10.0.2.2", "127.0.0.1", "169.254.169.254", "10.0.2.99"] {
        let to = SocketAddr::new(address.parse().unwrap(), port);
        guest.segment(((GUEST, 1000).into(), to), (1, 0), Flags::SYN, b"");
        let answer = guest.got();
        assert!(answer.flags.has(Flags::RST) && answer.from == to, "{answer:?}");
    }
    assert_eq!(guest.network.report().refused, 4);
    // What does not come from the guest's own address is nobody's.
    let spoofed = "10.0.2.16:1000".parse().unwrap();
    guest.segment((spoofed, "192.0.2.1:80".parse().unwrap()), (1, 0), Flags::SYN, b"");
    while guest.network.report().dropped == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_client_of_a_published_port_reaches_the_guest() {
    let listeners = crate::bind(&["127.0.0.1:0:80".parse().unwrap()]).unwrap();
    let address = listeners[0].published().address;
    let mut guest = Guest::new(HostAccess::Refused, listeners);
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let call = guest.got();
    assert!(call.flags.has(Flags::SYN) && call.to == (GUEST, 80).into(), "{call:?}");
    let ends = (call.to, call.from);
    let theirs = call.sequence.wrapping_add(1);
    guest.segment(ends, (500, theirs), Flags::SYN.and(Flags::ACK), b"");
    guest.segment(ends, (501, theirs), Flags::ACK, b"welcome");
    let mut heard = [0; 7];
    client.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"welcome");
}

#[test]
fn datagrams_go_both_ways_through_a_published_port() {
    let listeners = crate::bind(&["127.0.0.1:0:80/udp".parse().unwrap()]).unwrap();
    let address = listeners[0].published().address;
    let mut guest = Guest::new(HostAccess::Refused, listeners);
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.send_to(b"ping", address).unwrap();
    let frame = guest.frame();
    let Content::Ip(packet) = wire::parse(&frame).unwrap().content else { panic!("it is a packet") };
    let datagram = Datagram::parse(&packet).unwrap();
    assert_eq!(datagram.payload, b"ping");
    guest.say(|out| emit_datagram(out, [0; 6], datagram.to, datagram.from, b"pong"));
    let mut room = [0; 16];
    assert_eq!(client.recv_from(&mut room).unwrap(), (4, address));
}

#[test]
fn a_flood_of_questions_and_conversations_is_bounded() {
    let mut guest = Guest::new(HostAccess::Allowed, Vec::new());
    let sink = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = (crate::GATEWAY, sink.local_addr().unwrap().port()).into();
    for port in 1024..4096 {
        guest.say(|out| emit_datagram(out, [0; 6], (GUEST, port).into(), to, b"x"));
    }
    let mut report = guest.network.report();
    while report.frames_sent < 3072 {
        std::thread::sleep(Duration::from_millis(1));
        report = guest.network.report();
    }
    assert_eq!(report.udp_conversations, MOST_CONVERSATIONS as u64);
    assert_eq!(report.limited, 3072 - MOST_CONVERSATIONS as u64);
}

#[test]
fn what_is_no_frame_ends_the_guest_s_network_and_nothing_else() {
    let mut guest = Guest::new(HostAccess::Allowed, Vec::new());
    guest.cable.write_all(&[0xff; 64]).unwrap();
    assert_eq!(guest.cable.read(&mut [0]).unwrap(), 0);
    guest.network.report();
}

/// What the name server answers, in a datagram: its code, and its last four bytes.
fn ask(guest: &mut Guest, name: &str) -> (u8, [u8; 4]) {
    let ends = ((GUEST, 5353).into(), (crate::NAMESERVER, 53).into());
    let query = crate::dns::query(7, name, 1);
    guest.say(|out| emit_datagram(out, [0; 6], ends.0, ends.1, &query));
    let frame = guest.frame();
    let Content::Ip(packet) = wire::parse(&frame).unwrap().content else { panic!("it is a packet") };
    let answer = Datagram::parse(&packet).unwrap().payload;
    (answer[3] & 0xf, answer[answer.len() - 4..].try_into().unwrap())
}

fn with_rules() -> Settings {
    let names = ["db.example:192.0.2.9", "web.example:192.0.2.8"].map(|entry| entry.parse().unwrap());
    let rules = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    let policy = crate::Policy {
        allow: rules(&["db.example:5432", "192.0.2.0/28:80"]),
        deny: rules(&["web.example"]),
        ..crate::Policy::default()
    };
    Settings { policy, names: names.to_vec(), ..Settings::default() }
}

#[test]
fn rules_decide_about_names_and_connections_and_each_decision_is_told() {
    let (audit, decisions) = Audit::heard();
    let mut guest = Guest::with(with_rules(), Vec::new(), audit);
    assert_eq!(ask(&mut guest, "db.example"), (0, [192, 0, 2, 9]));
    assert_eq!(ask(&mut guest, "web.example").0, 3);
    assert_eq!(ask(&mut guest, "other.example").0, 3);
    for (port, address) in
        [(22, [192, 0, 2, 9]), (5432, [192, 0, 2, 10]), (80, [192, 0, 2, 8]), (80, [192, 0, 3, 1])]
    {
        guest.segment(((GUEST, 1000).into(), (address, port).into()), (1, 0), Flags::SYN, b"");
        assert!(guest.got().flags.has(Flags::RST), "{address:?} {port}");
    }
    drop(guest);
    let told: Vec<_> = decisions
        .iter()
        .map(|decision| {
            let to = decision.to.map_or_else(String::new, |to| to.to_string());
            format!("{} {to} {:?} {:?}", decision.traffic, decision.name, decision.refusal)
        })
        .collect();
    assert_eq!(
        told,
        [
            r#"name  Some("db.example") None"#,
            r#"name  Some("web.example") Some(Denied)"#,
            r#"name  Some("other.example") Some(NotAllowed)"#,
            r#"tcp 192.0.2.9:22 Some("db.example") Some(NotAllowed)"#,
            "tcp 192.0.2.10:5432 None Some(NotAllowed)",
            r#"tcp 192.0.2.8:80 Some("web.example") Some(Denied)"#,
            "tcp 192.0.3.1:80 None Some(NotAllowed)",
        ]
    );
}

#[test]
fn names_are_answered_in_a_stream_by_the_same_rules() {
    let mut guest = Guest::with(with_rules(), Vec::new(), Audit::default());
    let ends = ((GUEST, 40_000).into(), (crate::NAMESERVER, 53).into());
    guest.segment(ends, (100, 0), Flags::SYN, b"");
    let start = guest.got();
    assert!(start.flags.has(Flags::SYN) && start.flags.has(Flags::ACK), "{start:?}");
    let mut asked = Vec::new();
    for name in ["db.example", "other.example"] {
        let query = crate::dns::query(9, name, 1);
        asked.extend_from_slice(&(query.len() as u16).to_be_bytes());
        asked.extend_from_slice(&query);
    }
    guest.segment(ends, (101, start.sequence.wrapping_add(1)), Flags::ACK, &asked);
    let mut heard = Vec::new();
    while heard.len() < asked.len() + 16 {
        heard.extend(guest.got().payload);
    }
    assert_eq!(heard[2..6], [0, 9, 0x81, 0x80]);
    let second = 2 + usize::from(heard[1]);
    assert_eq!(heard[second - 4..second], [192, 0, 2, 9]);
    assert_eq!(heard[second + 5] & 0xf, 3, "no such name");
    // What is no question ends the stream.
    let at = (101 + asked.len() as u32, start.sequence.wrapping_add(1 + heard.len() as u32));
    guest.segment(ends, at, Flags::ACK, b"\0\x02no");
    while !guest.got().flags.has(Flags::FIN) {}
}

#[test]
fn listeners_that_are_slow_hold_nothing_up() {
    let (audit, decisions) = Audit::heard();
    let mut guest = Guest::with(with_rules(), Vec::new(), audit);
    for _ in 0..5000 {
        assert_eq!(ask(&mut guest, "other.example").0, 3);
    }
    let report = guest.network.report();
    assert!(report.unheard >= 900 && report.refused == 5000, "{report:?}");
    drop(guest);
    assert_eq!(decisions.iter().count() as u64 + report.unheard, 5000);
}

//! The guest's name server: answers what it knows itself, and asks the host's name servers for the rest.
//!
//! Each question goes out from a socket of its own, under a number of its own, so that an answer can only come from
//! whom was asked. Questions on their way are bounded; the oldest gives way.

mod message;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant, SystemTime};

use crate::addresses::{GATEWAY, HOST_NAME};
use crate::reach::{HostAccess, has_ipv6};
pub(crate) use message::{Question, answer};

/// Where the host's name servers are listed; resolv.conf(5).
const CONFIGURATION: &str = "/etc/resolv.conf";

/// How long a name server has before the next is asked, and how many times one is asked.
const PATIENCE: Duration = Duration::from_secs(3);
const MOST_TRIES: usize = 4;

/// How long names of the workspace's own may be kept, in seconds.
const OWN_LIFETIME: u32 = 60;

/// Response codes (RFC 1035, 4.1.1).
pub(crate) const SERVER_FAILURE: u8 = 2;

/// What names mean, without asking anybody.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    /// In small letters, without the last dot.
    pub(crate) own: Vec<(String, IpAddr)>,
    pub(crate) access: HostAccess,
}

impl Names {
    /// The answer to `query`, if it is known here.
    pub(crate) fn answer(&self, query: &[u8], question: &Question) -> Option<Vec<u8>> {
        let name = question.name.as_str();
        let mut found: Vec<IpAddr> =
            self.own.iter().filter(|(own, _)| own == name).map(|(_, address)| *address).collect();
        let mut known = !found.is_empty();
        if name == HOST_NAME {
            known = true;
            if self.access == HostAccess::Allowed && found.is_empty() {
                found.push(GATEWAY.into());
            }
        }
        if known {
            found.retain(|address| question.wants(*address));
            return Some(answer(query, question, 0, &found, OWN_LIFETIME));
        }
        // What cannot be reached need not be known.
        (question.is_aaaa() && !has_ipv6()).then(|| answer(query, question, 0, &[], 0))
    }
}

/// The host's name servers.
#[derive(Debug, Default)]
pub(crate) struct Servers {
    wanted: Vec<IpAddr>,
    found: Vec<SocketAddr>,
    changed: Option<SystemTime>,
}

impl Servers {
    /// Those that are named, or else the host's.
    pub(crate) fn new(wanted: Vec<IpAddr>) -> Self {
        Self { wanted, ..Self::default() }
    }

    /// All of them. The host's may change while a guest runs.
    pub(crate) fn now(&mut self) -> &[SocketAddr] {
        let address = |server: &IpAddr| SocketAddr::new(*server, 53);
        if !self.wanted.is_empty() {
            self.found = self.wanted.iter().map(address).collect();
            return &self.found;
        }
        let changed = fs::metadata(CONFIGURATION).and_then(|metadata| metadata.modified()).ok();
        if changed.is_none() || changed != self.changed {
            self.changed = changed;
            let text = fs::read_to_string(CONFIGURATION).unwrap_or_default();
            self.found = listed(&text).iter().map(address).collect();
        }
        &self.found
    }
}

/// The name servers that resolv.conf(5) lists; without any, the one on this host.
fn listed(text: &str) -> Vec<IpAddr> {
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    let servers: Vec<IpAddr> = lines.filter_map(|server| server.trim().parse().ok()).collect();
    if servers.is_empty() { vec![Ipv4Addr::LOCALHOST.into()] } else { servers }
}

/// A question that somebody else answers.
#[derive(Debug)]
pub(crate) struct Pending {
    socket: UdpSocket,
    query: Vec<u8>,
    question: Question,
    /// Under which number it went out.
    number: u16,
    /// Who asked whom.
    pub(crate) guest: SocketAddr,
    pub(crate) asked: SocketAddr,
    pub(crate) deadline: Instant,
    tries: usize,
}

/// What became of a question.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Resolved {
    /// The answer.
    Answer(Vec<u8>),
    /// Nothing yet.
    Waits,
}

impl Pending {
    /// Sends the question out. `number` is random.
    pub(crate) fn ask(
        (query, question): (&[u8], Question),
        (guest, asked): (SocketAddr, SocketAddr),
        servers: &[SocketAddr],
        number: u16,
        now: Instant,
    ) -> Option<Self> {
        let socket = sent(servers.first()?, query, number)?;
        let (query, deadline) = (query.to_vec(), now + PATIENCE);
        Some(Self { socket, query, question, number, guest, asked, deadline, tries: 1 })
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Takes what arrived.
    pub(crate) fn receive(&self, room: &mut [u8]) -> Resolved {
        while let Ok(length) = self.socket.recv(room) {
            let reply = &room[..length];
            // Answers to questions that were never asked are somebody's guesses.
            if !message::is_reply(reply, self.number, &self.question) {
                continue;
            }
            let mut answer = reply.to_vec();
            answer[..2].copy_from_slice(&self.query[..2]);
            return Resolved::Answer(answer);
        }
        Resolved::Waits
    }

    /// Its time is up: asks the next server, if it was not asked too often. Tells whether it still waits.
    pub(crate) fn late(&mut self, servers: &[SocketAddr], now: Instant) -> bool {
        let next = servers.get(self.tries % servers.len().max(1));
        let again = next.filter(|_| self.tries < MOST_TRIES);
        let Some(socket) = again.and_then(|server| sent(server, &self.query, self.number)) else {
            return false;
        };
        self.socket = socket;
        self.tries += 1;
        self.deadline = now + PATIENCE;
        true
    }

    /// That nobody knows.
    pub(crate) fn failure(&self) -> Vec<u8> {
        answer(&self.query, &self.question, SERVER_FAILURE, &[], 0)
    }
}

/// A socket from which the query was sent.
fn sent(server: &SocketAddr, query: &[u8], number: u16) -> Option<UdpSocket> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { IpAddr::from([0_u16; 8]) };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.set_nonblocking(true).ok()?;
    socket.connect(server).ok()?;
    let mut query = query.to_vec();
    query.get_mut(..2)?.copy_from_slice(&number.to_be_bytes());
    socket.send(&query).ok()?;
    Some(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_read_as_the_host_lists_them() {
        let text = "# x\nsearch a.example\nnameserver 192.0.2.1\n nameserver\t2001:db8::1 \nnameserver fe80::1%eth0\n";
        let expected: [IpAddr; 2] = ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        assert_eq!(listed(text), expected);
        assert_eq!(listed(""), [IpAddr::from(Ipv4Addr::LOCALHOST)]);
    }

    #[test]
    fn names_of_the_workspace_are_answered_and_the_host_s_only_where_it_may_be_reached() {
        let query = message::query(7, "Db.Example.", 1);
        let question = Question::parse(&query).unwrap();
        let own = vec![("db.example".to_owned(), "192.0.2.9".parse().unwrap())];
        let names = Names { own, access: HostAccess::Refused };
        let answer = names.answer(&query, &question).unwrap();
        assert!(answer.ends_with(&[192, 0, 2, 9]), "{answer:?}");
        let query = message::query(7, HOST_NAME, 1);
        let question = Question::parse(&query).unwrap();
        let refused = names.answer(&query, &question).unwrap();
        assert_eq!(refused[6..8], [0, 0], "no answers");
        let allowed = Names { access: HostAccess::Allowed, ..names }.answer(&query, &question).unwrap();
        assert!(allowed.ends_with(&GATEWAY.octets()));
    }

    #[test]
    fn an_answer_comes_from_whom_was_asked_and_to_what_was_asked() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let query = message::query(7, "a.example", 1);
        let question = Question::parse(&query).unwrap();
        let ends = ("10.0.2.15:1000".parse().unwrap(), "10.0.2.3:53".parse().unwrap());
        let servers = [server.local_addr().unwrap()];
        let now = Instant::now();
        let mut pending = Pending::ask((&query, question.clone()), ends, &servers, 99, now).unwrap();
        let mut room = [0; 512];
        let (length, client) = server.recv_from(&mut room).unwrap();
        assert_eq!(room[..2], [0, 99]);
        let good = answer(&room[..length], &question, 0, &["192.0.2.1".parse().unwrap()], 5);
        let other = message::query(99, "b.example", 1);
        let other = answer(&other, &Question::parse(&other).unwrap(), 0, &[], 5);
        let mut guessed = good.clone();
        guessed[1] = 98;
        for bad in [&guessed, &other, &b"x".to_vec()] {
            server.send_to(bad, client).unwrap();
        }
        assert_eq!(pending.receive(&mut room), Resolved::Waits);
        server.send_to(&good, client).unwrap();
        let Resolved::Answer(answer) = pending.receive(&mut room) else { panic!("there is an answer") };
        assert_eq!(answer[..2], [0, 7]);
        for _ in 1..MOST_TRIES {
            assert!(pending.late(&servers, now));
        }
        assert!(!pending.late(&servers, now));
        assert_eq!(pending.failure()[3] & 0xf, SERVER_FAILURE);
    }
}

//! A question that somebody else answers: over UDP, or over TCP for who asked so.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use super::message::is_reply;
use super::{Question, SERVER_FAILURE, answer};
use crate::slab::Key;

/// How long a name server has before the next is asked, and how many times one is asked.
const PATIENCE: Duration = Duration::from_secs(3);
const MOST_TRIES: usize = 4;

/// Who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    /// Who sent a datagram from `guest` to `asked`.
    Datagram { guest: SocketAddr, asked: SocketAddr },
    /// Who has this stream.
    Stream(Key),
}

/// A question that somebody else answers.
#[derive(Debug)]
pub(crate) struct Pending {
    socket: Socket,
    query: Vec<u8>,
    pub(crate) question: Question,
    /// Under which number it went out.
    number: u16,
    pub(crate) asker: Asker,
    pub(crate) deadline: Instant,
    tries: usize,
}

/// Where the question went out from.
#[derive(Debug)]
enum Socket {
    Datagrams(UdpSocket),
    /// With what is still to be sent, and what was received.
    Stream {
        stream: TcpStream,
        out: Vec<u8>,
        input: Vec<u8>,
    },
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
        asker: Asker,
        servers: &[SocketAddr],
        number: u16,
        now: Instant,
    ) -> Option<Self> {
        let socket = Socket::sent(servers.first()?, asker, query, number)?;
        let (query, deadline) = (query.to_vec(), now + PATIENCE);
        Some(Self { socket, query, question, number, asker, deadline, tries: 1 })
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Datagrams(socket) => socket.as_fd(),
            Socket::Stream { stream, .. } => stream.as_fd(),
        }
    }

    /// Takes what arrived.
    pub(crate) fn receive(&mut self, room: &mut [u8]) -> Resolved {
        let reply = match &mut self.socket {
            Socket::Datagrams(socket) => loop {
                let Ok(length) = socket.recv(room) else { break None };
                // Answers to questions that were never asked are somebody's guesses.
                if is_reply(&room[..length], self.number, &self.question) {
                    break Some(room[..length].to_vec());
                }
            },
            Socket::Stream { stream, out, input } => {
                go_on(stream, out, input).filter(|reply| is_reply(reply, self.number, &self.question))
            }
        };
        let Some(mut answer) = reply else { return Resolved::Waits };
        answer[..2].copy_from_slice(&self.query[..2]);
        Resolved::Answer(answer)
    }

    /// Its time is up: asks the next server, if it was not asked too often. Tells whether it still waits.
    pub(crate) fn late(&mut self, servers: &[SocketAddr], now: Instant) -> bool {
        let next = servers.get(self.tries % servers.len().max(1));
        let again = next.filter(|_| self.tries < MOST_TRIES);
        let asked = |server| Socket::sent(server, self.asker, &self.query, self.number);
        let Some(socket) = again.and_then(asked) else { return false };
        self.socket = socket;
        self.tries += 1;
        self.deadline = now + PATIENCE;
        true
    }

    /// That nobody knows.
    pub(crate) fn failure(&self) -> Vec<u8> {
        self.bare(SERVER_FAILURE)
    }

    /// The answer with this response code, and nothing else.
    pub(crate) fn bare(&self, code: u8) -> Vec<u8> {
        answer(&self.query, &self.question, code, &[], 0)
    }
}

impl Socket {
    /// A socket from which the query was sent, or will be.
    fn sent(server: &SocketAddr, asker: Asker, query: &[u8], number: u16) -> Option<Self> {
        let mut query = query.to_vec();
        query.get_mut(..2)?.copy_from_slice(&number.to_be_bytes());
        if let Asker::Stream(_) = asker {
            let mut out = u16::try_from(query.len()).ok()?.to_be_bytes().to_vec();
            out.append(&mut query);
            let stream = crate::tcp::connect(*server).ok()?.into();
            return Some(Self::Stream { stream, out, input: Vec::new() });
        }
        let any: IpAddr =
            if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { IpAddr::from([0_u16; 8]) };
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.set_nonblocking(true).ok()?;
        socket.connect(server).ok()?;
        socket.send(&query).ok()?;
        Some(Self::Datagrams(socket))
    }
}

/// Sends and receives what goes; the reply once it is whole.
fn go_on(stream: &mut TcpStream, out: &mut Vec<u8>, input: &mut Vec<u8>) -> Option<Vec<u8>> {
    while !out.is_empty() {
        match stream.write(out) {
            Ok(length) => drop(out.drain(..length)),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    loop {
        if let Some((prefix, rest)) = input.split_first_chunk::<2>() {
            let length = usize::from(u16::from_be_bytes(*prefix));
            if let Some(reply) = rest.get(..length) {
                return Some(reply.to_vec());
            }
        }
        let mut room = [0; 4096];
        match stream.read(&mut room) {
            Ok(0) => return None,
            Ok(length) => input.extend_from_slice(&room[..length]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::super::message;
    use super::*;

    fn asker() -> Asker {
        Asker::Datagram { guest: "10.0.2.15:1000".parse().unwrap(), asked: "10.0.2.3:53".parse().unwrap() }
    }

    #[test]
    fn an_answer_comes_from_whom_was_asked_and_to_what_was_asked() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let query = message::query(7, "a.example", 1);
        let question = Question::parse(&query).unwrap();
        let servers = [server.local_addr().unwrap()];
        let now = Instant::now();
        let mut pending = Pending::ask((&query, question.clone()), asker(), &servers, 99, now).unwrap();
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

    #[test]
    fn who_asks_in_a_stream_is_answered_from_one() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let query = message::query(7, "a.example", 1);
        let question = Question::parse(&query).unwrap();
        let servers = [server.local_addr().unwrap()];
        let stream = Asker::Stream(Key::from_bits(0));
        let mut pending = Pending::ask((&query, question), stream, &servers, 99, Instant::now()).unwrap();
        let mut peer = server.accept().unwrap().0;
        let mut room = [0; 512];
        assert_eq!(pending.receive(&mut room), Resolved::Waits);
        let mut heard = vec![0; 2 + query.len()];
        peer.read_exact(&mut heard).unwrap();
        assert_eq!(heard[..4], [0, query.len() as u8, 0, 99]);
        heard[4] |= 0x80;
        let (first, second) = heard.split_at(5);
        peer.write_all(first).unwrap();
        assert_eq!(pending.receive(&mut room), Resolved::Waits);
        peer.write_all(second).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        let answer = loop {
            match pending.receive(&mut room) {
                Resolved::Answer(answer) => break answer,
                Resolved::Waits => assert!(Instant::now() < deadline),
            }
        };
        assert_eq!(answer[..2], [0, 7]);
    }
}

//! The guest's end: it measures what the host says.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

/// How long the host is waited for, and a datagram.
const PATIENCE: Duration = Duration::from_secs(60);
const LOST: Duration = Duration::from_secs(1);

/// The name server of both networks.
const NAMESERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 2, 3)), 53);

/// A query for `bench.test`, of type A.
const QUERY: &[u8] = b"\0\0\x01\0\0\x01\0\0\0\0\0\0\x05bench\x04test\0\0\x01\0\x01";

/// What an act was measured to take.
struct Measured {
    each: Vec<Duration>,
    lost: usize,
}

/// Does what the host says until it says no more.
pub(crate) fn obey(host: &str, name: &str) -> io::Result<()> {
    let address: SocketAddr = host.parse().map_err(io::Error::other)?;
    let mut control = reached(address)?;
    writeln!(control, "{name}")?;
    for line in BufReader::new(control.try_clone()?).lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        let [what, amount, streams, port] = words[..] else { return Err(io::Error::other(line)) };
        let (amount, streams) = (number(amount)?, number(streams)?);
        let peer = SocketAddr::new(address.ip(), port.parse().map_err(io::Error::other)?);
        let begin = Instant::now();
        let mut measured = act(what, amount, streams, peer)?;
        let whole = begin.elapsed().as_nanos();
        measured.each.sort_unstable();
        let at = |percent: usize| {
            let index = (measured.each.len() * percent / 100).min(measured.each.len().saturating_sub(1));
            measured.each.get(index).map_or(0, Duration::as_nanos)
        };
        writeln!(control, "{whole} {} {} {}", at(50), at(99), measured.lost)?;
    }
    Ok(())
}

/// The network may need a moment more than the machine.
fn reached(address: SocketAddr) -> io::Result<TcpStream> {
    let begin = Instant::now();
    loop {
        match TcpStream::connect(address) {
            Err(_) if begin.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(100)),
            outcome => return outcome,
        }
    }
}

fn number(word: &str) -> io::Result<usize> {
    word.parse().map_err(io::Error::other)
}

fn act(what: &str, amount: usize, streams: usize, peer: SocketAddr) -> io::Result<Measured> {
    match what {
        "send" => at_once(streams, move || send(peer, amount / streams)),
        "receive" => at_once(streams, move || receive(peer, amount / streams)),
        "connect" => times(amount, || TcpStream::connect(peer).map(|_| true)),
        "echo" => {
            let mut stream = TcpStream::connect(peer)?;
            times(amount, || {
                stream.write_all(b"x")?;
                stream.read_exact(&mut [0]).map(|()| true)
            })
        }
        "datagram" => ask(peer, b"x", amount),
        "name" => ask(NAMESERVER, QUERY, amount),
        _ => Err(io::Error::other("no such act")),
    }
}

fn at_once<F>(streams: usize, act: F) -> io::Result<Measured>
where
    F: Fn() -> io::Result<()> + Clone + Send + 'static,
{
    let threads: Vec<_> = (0..streams).map(|_| thread::spawn(act.clone())).collect();
    for thread in threads {
        thread.join().map_err(|_| io::Error::other("a stream failed"))??;
    }
    Ok(Measured { each: Vec::new(), lost: 0 })
}

fn send(peer: SocketAddr, amount: usize) -> io::Result<()> {
    let mut stream = TcpStream::connect(peer)?;
    let piece = vec![7; 64 * 1024];
    for _ in 0..amount / piece.len() {
        stream.write_all(&piece)?;
    }
    stream.shutdown(Shutdown::Write)?;
    stream.read_exact(&mut [0])
}

fn receive(peer: SocketAddr, amount: usize) -> io::Result<()> {
    let mut stream = TcpStream::connect(peer)?;
    stream.write_all(&(amount as u64).to_be_bytes())?;
    let (mut room, mut got) = (vec![0; 64 * 1024], 0);
    loop {
        match stream.read(&mut room)? {
            0 if got == amount => return Ok(()),
            0 => return Err(io::Error::other(format!("{got} bytes of {amount} came"))),
            length => got += length,
        }
    }
}

fn ask(peer: SocketAddr, question: &[u8], amount: usize) -> io::Result<Measured> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(peer)?;
    socket.set_read_timeout(Some(LOST))?;
    let (mut question, mut room, mut count) = (question.to_vec(), [0; 512], 0_u8);
    times(amount, || {
        count = count.wrapping_add(1);
        question[0] = count;
        socket.send(&question)?;
        // An answer that comes too late is not taken for the next one.
        loop {
            match socket.recv(&mut room) {
                Ok(_) if room[0] == count => return Ok(true),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    })
}

/// Does it so many times; it tells whether there was an answer.
fn times(amount: usize, mut act: impl FnMut() -> io::Result<bool>) -> io::Result<Measured> {
    let mut measured = Measured { each: Vec::with_capacity(amount), lost: 0 };
    for _ in 0..amount {
        let begin = Instant::now();
        measured.lost += usize::from(!act()?);
        measured.each.push(begin.elapsed());
    }
    Ok(measured)
}

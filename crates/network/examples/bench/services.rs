//! What guests speak to: each service listens on this host's loopback interface, and goes on for ever.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::thread;

/// The ports of the services.
pub(crate) struct Ports {
    pub(crate) sink: u16,
    pub(crate) source: u16,
    pub(crate) door: u16,
    pub(crate) echo: u16,
    pub(crate) datagrams: u16,
}

/// Starts them all, and the name server, which needs the right to port 53.
pub(crate) fn start() -> io::Result<Ports> {
    let datagrams = UdpSocket::bind("127.0.0.1:0")?;
    let ports = Ports {
        sink: serve(sink)?,
        source: serve(source)?,
        door: serve(|_| Ok(()))?,
        echo: serve(echo)?,
        datagrams: datagrams.local_addr()?.port(),
    };
    answer(datagrams, |_| ());
    answer(UdpSocket::bind("127.0.0.1:53")?, make_reply);
    Ok(ports)
}

fn serve(service: fn(TcpStream) -> io::Result<()>) -> io::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // What a client breaks off is told by what it measures.
            thread::spawn(move || drop(service(stream)));
        }
    });
    Ok(port)
}

/// Takes all, and says when it has it.
fn sink(mut stream: TcpStream) -> io::Result<()> {
    let mut room = vec![0; 256 * 1024];
    while stream.read(&mut room)? > 0 {}
    stream.write_all(b".")
}

/// Gives as many bytes as it is told.
fn source(mut stream: TcpStream) -> io::Result<()> {
    let mut length = [0; 8];
    stream.read_exact(&mut length)?;
    let mut left = u64::from_be_bytes(length);
    let piece = vec![7; 256 * 1024];
    while left > 0 {
        let next = usize::try_from(left).map_or(piece.len(), |left| left.min(piece.len()));
        left -= stream.write(&piece[..next])? as u64;
    }
    Ok(())
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut room = [0; 1024];
    loop {
        match stream.read(&mut room)? {
            0 => return Ok(()),
            length => stream.write_all(&room[..length])?,
        }
    }
}

fn answer(socket: UdpSocket, change: fn(&mut Vec<u8>)) {
    thread::spawn(move || {
        let mut room = [0; 2048];
        while let Ok((length, client)) = socket.recv_from(&mut room) {
            let mut reply = room[..length].to_vec();
            change(&mut reply);
            let _ = socket.send_to(&reply, client);
        }
    });
}

/// Makes a query for one name its reply: the address 192.0.2.1.
fn make_reply(query: &mut Vec<u8>) {
    if query.len() < 12 {
        return;
    }
    query[2] |= 0x80;
    query[7] = 1;
    query.extend(b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x01");
}

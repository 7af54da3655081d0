//! Many datagrams, many questions, many connections: nothing is lost, and the memory for them is given back.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use microagent_tests::World;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

/// Echoes over TCP at port 80, one process a connection, and over UDP at port 81.
const ECHO: &str = r#"
use IO::Socket::INET; $SIG{CHLD} = "IGNORE";
unless (fork) {
    my $udp = IO::Socket::INET->new(LocalPort => 81, Proto => "udp") or die;
    while (defined $udp->recv(my $heard, 65000)) { $udp->send($heard) }
}
my $listener = IO::Socket::INET->new(LocalPort => 80, Listen => 999, ReuseAddr => 1) or die;
while (my $client = $listener->accept) {
    next if fork;
    while (sysread $client, my $heard, 65536) { print $client $heard; $client->flush }
    exit 0;
}
"#;

fn document(world: &World, words: &[&str]) -> Value {
    let text = world.microagent(words.iter().chain(&["--json"])).outcome().success();
    serde_json::from_str(&text).unwrap()
}

/// The ports of this host for the guest's 80 and 81.
fn echo(world: &World) -> (u16, u16) {
    let words = ["-p", "127.0.0.1:0:80", "-p", "127.0.0.1:0:81/udp", "--add-host", "own.example:192.0.2.7"];
    // Nobody answers there, so questions wait.
    let words = [&words[..], &["--dns", "192.0.2.1", "debian:12", "perl", "-e", ECHO]].concat();
    world.run(["-d", "--name", "echo"]).args(words).outcome().success();
    let ports = document(world, &["port", "echo"]);
    let port = |guest: u64| {
        let port = ports.as_array().unwrap().iter().find(|port| port["guest_port"] == guest).unwrap();
        port["host_port"].as_u64().unwrap().try_into().unwrap()
    };
    let (tcp, udp) = (port(80), port(81));
    let deadline = Instant::now() + PATIENCE;
    while !is_up(tcp) {
        assert!(Instant::now() < deadline, "{}", world.microagent(["logs", "echo"]).outcome().success());
        std::thread::sleep(Duration::from_millis(100));
    }
    (tcp, udp)
}

/// Whether its service listens already.
fn is_up(port: u16) -> bool {
    let mut stream = connect(port);
    stream.write_all(b"x").is_ok() && stream.read(&mut [0]).is_ok_and(|length| length == 1)
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends so many bytes and has them back.
fn exchange(port: u16, length: usize) {
    let mut stream = connect(port);
    let sent: Vec<u8> = (0..length).map(|at| (at * 7 % 251) as u8).collect();
    let mut writer = stream.try_clone().unwrap();
    let mut heard = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            writer.write_all(&sent).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        stream.read_to_end(&mut heard).unwrap();
    });
    assert!(heard == sent, "{} of {length} bytes came back", heard.len());
}

/// The memory of the supervisor, in bytes.
fn memory(world: &World) -> u64 {
    let pid = document(world, &["status", "echo"])[0]["supervisor_pid"].as_u64().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    resident.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn datagrams_come_back_whatever_their_size() {
    let world = World::own().warm_machine();
    let (_, udp) = echo(&world);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(("127.0.0.1", udp)).unwrap();
    let mut room = vec![0; 65_536];
    for number in 0..1000_usize {
        let sent = vec![number as u8; 1 + number * 61 % 60_000];
        socket.send(&sent).unwrap();
        let length = socket.recv(&mut room).unwrap();
        assert!(room[..length] == sent, "datagram {number}");
    }
    world.microagent(["kill", "echo"]).outcome().success();
}

#[test]
fn a_flood_of_questions_is_bounded_and_others_are_answered() {
    let world = World::own().warm_machine();
    let (tcp, _) = echo(&world);
    let flood = r#"use IO::Socket::INET; use Socket;
        my $s = IO::Socket::INET->new(PeerAddr => "10.0.2.3", PeerPort => 53, Proto => "udp") or die;
        for my $n (1..20000) {
            my $l = "n$n";
            $s->send(pack("n", $n & 65535) . "\1\0\0\1\0\0\0\0\0\0" . chr(length $l) . $l . "\4test\0\0\1\0\1");
        }
        print join(".", unpack("C4", inet_aton("own.example"))), "\n";"#;
    let outcome =
        world.microagent(["exec", "echo", "--", "perl", "-e", flood]).deadline(2 * PATIENCE).outcome();
    assert_eq!(outcome.success(), "192.0.2.7\n");
    let traffic = document(&world, &["network", "echo"])["traffic"].clone();
    let counter = |name: &str| traffic[name].as_u64().unwrap();
    assert!(counter("dns_total") > 10_000 && counter("limited") > 5000, "{traffic}");
    assert!(counter("dns_pending") <= 256, "{traffic}");
    exchange(tcp, 100_000);
    assert!(memory(&world) < 64 << 20, "{}", memory(&world));
    world.microagent(["kill", "echo"]).outcome().success();
}

#[test]
fn memory_is_flat_while_connections_come_and_go() {
    let time = std::env::var("MICROAGENT_NETWORK_SOAK").ok().and_then(|seconds| seconds.parse().ok());
    let time = Duration::from_secs(time.unwrap_or(8));
    let world = World::own().warm_machine();
    let (port, _) = echo(&world);
    // What the first connections make stays for the next.
    let round = || {
        std::thread::scope(|scope| {
            for length in [10, 1000, 100_000, 2_000_000] {
                scope.spawn(move || exchange(port, length));
            }
        });
    };
    for _ in 0..5 {
        round();
    }
    let settled = memory(&world);
    let (begin, mut connections, mut most) = (Instant::now(), 0, 0);
    while begin.elapsed() < time {
        round();
        // Those that are never used, and those that go without a word.
        let idle: Vec<TcpStream> = (0..20).map(|_| connect(port)).collect();
        drop(idle);
        connections += 24;
        most = most.max(memory(&world));
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        let traffic = document(&world, &["network", "echo"])["traffic"].clone();
        if traffic["tcp_connections"] == 0 {
            assert!(traffic["tcp_total"].as_u64().unwrap() >= connections, "{traffic}");
            break;
        }
        assert!(Instant::now() < deadline, "{traffic}");
        std::thread::sleep(Duration::from_millis(200));
    }
    let end = memory(&world);
    println!("{connections} connections in {time:?}: {settled} bytes, at most {most}, {end} in the end");
    assert!(end < settled + (4 << 20), "{settled} bytes have become {end}");
    world.microagent(["kill", "echo"]).outcome().success();
}

//! What a guest reaches: other machines, and this host where it is allowed.

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use microagent_tests::World;

use super::elsewhere::elsewhere;

const HOST: &str = "host.microagent.internal";

/// A server on this host's loopback interface that says `answer` to one client; what it heard.
fn server() -> (u16, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"answer\n").unwrap();
        let mut heard = String::new();
        stream.read_to_string(&mut heard).unwrap();
        heard
    });
    (port, server)
}

#[test]
fn a_guest_reaches_this_host_where_it_is_allowed() {
    let world = World::shared();
    let (port, server) = server();
    let script = format!("echo hello | nc {HOST} {port}; cat /etc/resolv.conf; ip -o addr show eth0");
    let shown = world.run(["--allow-host", "busybox", "sh", "-c", &script]).outcome().success();
    assert!(shown.starts_with("answer\n") && shown.contains("nameserver 10.0.2.3"), "{shown}");
    assert!(shown.contains("10.0.2.15/24") && shown.contains("fd6d:6963:726f::f/64"), "{shown}");
    assert_eq!(server.join().unwrap(), "hello\n");
}

#[test]
fn this_host_is_refused_by_any_of_its_addresses() {
    let world = World::shared();
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let addresses = std::process::Command::new("hostname").arg("-I").output().unwrap().stdout;
    let own = String::from_utf8(addresses).unwrap();
    let own = own.split_whitespace().find(|address| address.contains('.')).unwrap_or("127.0.0.2");
    let script = format!(
        "for a in 10.0.2.2 169.254.169.254 {own}; do nc -w 5 $a {port} </dev/null && echo reached $a; done; \
         nslookup -type=a {HOST} | grep 10.0.2.2; echo end"
    );
    assert_eq!(world.script(&script).outcome().success(), "end\n");
    assert!(listener.accept().is_err(), "nobody came");
}

#[test]
fn datagrams_and_names_of_its_own() {
    let world = World::shared();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let port = socket.local_addr().unwrap().port();
    let echo = std::thread::spawn(move || {
        let mut room = [0; 2048];
        let (length, client) = socket.recv_from(&mut room).unwrap();
        socket.send_to(&room[..length], client).unwrap();
    });
    let script = format!(
        "exec 3<>/dev/udp/mirror/{port}; echo ping >&3; head -n 1 <&3; getent hosts db.Example | grep -c 192.0.2.7"
    );
    let words = ["--allow-host", "--add-host", "mirror:host-gateway", "--add-host", "DB.example:192.0.2.7"];
    let shown = world.run(words).args(["debian:12", "bash", "-c", &script]).outcome().success();
    assert_eq!(shown, "ping\n1\n");
    echo.join().unwrap();
}

#[test]
fn a_connection_that_ends_and_begins_again_loses_nothing() {
    let world = World::shared();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        // What was sent comes back, and its end with it.
        for _ in 0..3 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut heard = Vec::new();
            stream.read_to_end(&mut heard).unwrap();
            stream.write_all(&heard).unwrap();
        }
    });
    let script = format!(
        "head -c 8000000 /dev/urandom > /tmp/x; for i in 1 2 3; do nc {HOST} {port} < /tmp/x | cmp - /tmp/x || exit 9; done"
    );
    world.run(["--allow-host", "busybox", "sh", "-c", &script]).outcome().success();
    server.join().unwrap();
}

#[test]
fn another_machine_is_reached_by_name_over_both_families_and_by_ping() {
    let world = World::shared();
    let script = "for i in 1 2 3 4 5 6 7 8 9; do wget -qO- http://web.example/ && break; sleep 0.2; done; \
                  wget -qO- 'http://[2001:db8::7]/'; ping -c 1 -W 9 198.51.100.7 | grep -c ' 1 packets received'; \
                  nc -w 5 198.51.100.7 81 </dev/null || echo refused; nc -w 5 198.51.100.1 80 </dev/null || echo refused";
    let run = world.run(["--dns", "198.51.100.7", "busybox", "sh", "-c", script]);
    let outcome = elsewhere(&world, run).outcome();
    assert_eq!(outcome.success(), "elsewhere\nelsewhere\n1\nrefused\nrefused\n");
}

//! Published ports.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use microagent_tests::World;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

/// Serves what it gets, again and again, over TCP at port 80 and over UDP at port 81; and its name at port 82.
const MIRROR: &str = r#"
use IO::Socket::INET;
unless (fork) {
    my $udp = IO::Socket::INET->new(LocalPort => 81, Proto => "udp") or die;
    while (defined $udp->recv(my $heard, 2000)) { $udp->send($heard) }
}
my @listeners = map { IO::Socket::INET->new(LocalPort => $_, Listen => 9, ReuseAddr => 1) or die } 80, 82;
unless (fork) {
    while (my $client = $listeners[1]->accept) { open my $file, "/etc/hostname"; print $client readline($file); close $client }
}
while (my $client = $listeners[0]->accept) { print $client $_ while <$client>; close $client }
"#;

fn document(world: &World, words: &[&str]) -> Value {
    let text = world.microagent(words.iter().chain(&["--json"])).outcome().success();
    serde_json::from_str(&text).unwrap()
}

/// The port of this host through which the guest's is reached.
fn host_port(world: &World, name: &str, guest: u64) -> u16 {
    let ports = document(world, &["port", name]);
    let port = ports.as_array().unwrap().iter().find(|port| port["guest_port"] == guest).unwrap();
    port["host_port"].as_u64().unwrap().try_into().unwrap()
}

/// What a mirror at this port answers, once it does.
fn mirrored(port: u16, text: &str) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(heard) = ask(port, text).filter(|heard| !heard.is_empty()) {
            return heard;
        }
        assert!(Instant::now() < deadline, "nobody answers at port {port}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn ask(port: u16, text: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(text.as_bytes()).ok()?;
    stream.shutdown(std::net::Shutdown::Write).ok()?;
    let mut heard = String::new();
    stream.read_to_string(&mut heard).ok()?;
    Some(heard)
}

#[test]
fn ports_are_reached_shown_and_changed_while_a_workspace_runs_and_stay_across_restarts() {
    let world = World::own().warm_machine();
    let words = ["-p", "127.0.0.1::80", "-p", "127.0.0.1:0:81/udp", "debian:12", "perl", "-e", MIRROR];
    world.run(["-d", "--name", "web"]).args(words).outcome().success();
    let port = host_port(&world, "web", 80);
    assert_eq!(mirrored(port, "hello"), "hello");

    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.set_read_timeout(Some(PATIENCE)).unwrap();
    udp.send_to(b"datagram", ("127.0.0.1", host_port(&world, "web", 81))).unwrap();
    let mut room = [0; 64];
    assert_eq!(udp.recv(&mut room).unwrap(), 8);

    for verb in [&["ps"][..], &["status", "web"], &["port", "web"], &["network", "web"]] {
        let shown = world.microagent(verb).outcome().success();
        assert!(shown.contains(&format!("127.0.0.1:{port}")), "{verb:?}: {shown}");
    }
    let traffic = &document(&world, &["network", "web"])["traffic"];
    assert!(traffic["tcp_total"].as_u64().unwrap() >= 1 && traffic["bytes_sent"].as_u64().unwrap() > 0);

    world.microagent(["port", "add", "web", "127.0.0.1:0:82"]).outcome().success();
    let added = host_port(&world, "web", 82);
    let mut stream = TcpStream::connect(("127.0.0.1", added)).unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    assert_eq!(page, "web\n");
    // Those that were chosen go by the number that they have now, and of a range some.
    world.microagent(["port", "add", "web", "127.0.0.1:0:83-85"]).outcome().success();
    world.microagent(["port", "remove", "web", "84"]).outcome().success();
    world.microagent(["port", "remove", "web", &format!("{port}:80")]).outcome().success();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    assert!(
        world.microagent(["port", "remove", "web", "80"]).outcome().error(1).contains("does not publish")
    );

    world.microagent(["restart", "web"]).outcome().success();
    let guests: Vec<u64> = document(&world, &["port", "web"])
        .as_array()
        .unwrap()
        .iter()
        .map(|port| port["guest_port"].as_u64().unwrap())
        .collect();
    assert_eq!(guests, [81, 82, 83, 85]);
    world.microagent(["quarantine", "--reason", "test", "web"]).outcome().success();
    assert!(document(&world, &["port", "web"]).as_array().unwrap().is_empty());
    world.microagent(["quarantine", "--release", "--reason", "test", "web"]).outcome().success();
}

#[test]
fn a_port_survives_a_guest_that_ends_and_starts_again() {
    let world = World::own().warm_machine();
    let script = "echo once | nc -l -p 80";
    let words = ["-p", "127.0.0.1:0:80", "--restart", "always", "busybox", "sh", "-c", script];
    world.run(["-d", "--name", "again"]).args(words).outcome().success();
    let port = host_port(&world, "again", 80);
    for _ in 0..2 {
        assert_eq!(mirrored(port, ""), "once\n");
    }
    world.microagent(["kill", "again"]).outcome().success();
}

#[test]
fn a_port_that_is_taken_is_an_error_before_anything_boots() {
    let world = World::own();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let ports = format!("127.0.0.1:{}:80", taken.local_addr().unwrap().port());
    let outcome = world.run(["-p", &ports, "busybox", "true"]).outcome();
    assert!(outcome.error(125).contains("is taken"));
    assert!(outcome.elapsed < Duration::from_secs(10));
    world.microagent(["create", "--name", "web", "--image", "busybox", "-p", &ports]).outcome().success();
    let error = world.microagent(["start", "web"]).outcome().error(1);
    assert!(error.contains("is taken") && error.contains("ss -ltnp"), "{error}");
    drop(taken);
    world.microagent(["start", "web"]).outcome().success();
    world.microagent(["kill", "web"]).outcome().success();
}

#[test]
fn an_isolated_guest_publishes_nothing() {
    let world = World::own();
    let isolated = ["--network", "isolated", "-p", "8080:80"];
    let error = world.run(isolated).args(["busybox", "true"]).outcome().error(125);
    assert!(error.contains("cannot publish ports"), "{error}");
    let create = ["create", "--image", "busybox"];
    world.microagent(create.iter().chain(&isolated)).outcome().error(2);
    assert_eq!(world.microagent(["list", "-q"]).outcome().success(), "");
}

#[test]
fn a_run_in_the_foreground_publishes_ports_too() {
    let world = World::shared();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let ports = format!("127.0.0.1:{free}:80");
    let run = world.run(["-p", &ports, "busybox", "sh", "-c", "echo welcome | nc -l -p 80"]).start();
    assert_eq!(mirrored(free, "x"), "welcome\n");
    run.wait().success();
    assert!(TcpStream::connect(("127.0.0.1", free)).is_err());
}

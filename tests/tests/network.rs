//! Networks: `user` reaches out, `isolated` has none.

use std::io::{Read, Write};
use std::net::TcpListener;

use microagent_tests::World;

/// Where the guest finds the host's loopback interface.
const GATEWAY: &str = "10.0.2.2";

#[test]
fn a_guest_reaches_out() {
    let world = World::shared();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut question = [0; 6];
        stream.read_exact(&mut question).unwrap();
        stream.write_all(b"answer\n").unwrap();
        question
    });
    let script =
        format!("echo hello | nc -w 20 {GATEWAY} {port}; cat /etc/resolv.conf; ip -o -4 addr show eth0");
    let shown = world.script(&script).outcome().success();
    assert!(
        shown.starts_with("answer\n") && shown.contains("nameserver ") && shown.contains("eth0"),
        "{shown}"
    );
    assert_eq!(&server.join().unwrap(), b"hello\n");
}

#[test]
fn an_isolated_guest_has_no_device() {
    let world = World::shared().cold();
    let script =
        "ls /sys/class/net; ping -c 1 -W 5 localhost >/dev/null && echo local; ping -c 1 -W 1 10.0.2.2";
    let outcome = world.run(["--network", "isolated", "busybox", "sh", "-c", script]).outcome();
    assert_eq!(outcome.output(1).lines().take(2).collect::<Vec<_>>(), ["lo", "local"]);
}

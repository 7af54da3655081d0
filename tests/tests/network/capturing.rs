//! Packets in a file, as tcpdump reads it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use microagent_tests::World;

/// What tcpdump says of a file.
fn read(path: &Path) -> String {
    let output = Command::new("tcpdump").args(["-nn", "-v", "-r"]).arg(path).output();
    let output = output.expect("tcpdump is installed: apt-get install tcpdump");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && !said.contains("truncated"), "{said}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_a_run_sends_and_receives_is_in_a_file() {
    let world = World::shared();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        std::io::copy(&mut listener.accept().unwrap().0, &mut std::io::sink()).unwrap()
    });
    let script = format!("head -c 500000 /dev/zero | nc host.microagent.internal {port}; ping -c 1 10.0.2.2");
    let path = world.path().join("run.pcap");
    let run = world
        .run(["--allow-host", "--pcap", "run.pcap", "busybox", "sh", "-c", &script])
        .directory(world.path());
    run.outcome().success();
    assert_eq!(server.join().unwrap(), 500_000);
    let shown = read(&path);
    for part in [
        "10.0.2.15.".to_owned(),
        format!("> 10.0.2.2.{port}: Flags [S]"),
        "A? host.microagent.internal.".to_owned(),
        "ICMP echo reply".to_owned(),
        "cksum".to_owned(),
    ] {
        assert!(shown.contains(&part), "{part}: {shown}");
    }
    assert!(!shown.contains("incorrect") && !shown.contains("bad cksum"), "{shown}");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_workspace_is_captured_by_its_settings_or_for_one_start() {
    let world = World::own().warm_machine();
    let (own, once) = (world.path().join("own.pcap"), world.path().join("once.pcap"));
    let create = ["create", "--name", "box", "--image", "busybox", "--pcap", "own.pcap", "sh", "-c"];
    let script = "ping -c 1 -s 33 10.0.2.2; sleep 1000";
    world.microagent(create).args([script]).directory(world.path()).outcome().success();
    world.microagent(["start", "box"]).outcome().success();
    let captured = || world.microagent(["network", "box"]).outcome().success();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !captured().contains("packets, 0 more found no room") || !read(&own).contains("echo reply") {
        assert!(std::time::Instant::now() < deadline, "{}", captured());
    }
    world.microagent(["kill", "box"]).outcome().success();
    let before = std::fs::read(&own).unwrap();
    world.microagent(["start", "box", "--pcap", once.to_str().unwrap()]).outcome().success();
    while !read(&once).contains("echo reply") {
        assert!(std::time::Instant::now() < deadline);
    }
    world.microagent(["kill", "box"]).outcome().success();
    assert_eq!(std::fs::read(&own).unwrap(), before, "the other start has a file of its own");
}

#[test]
fn a_file_that_cannot_be_is_told_before_anything_boots() {
    let world = World::own();
    let error = world.run(["--pcap", "/nowhere/x.pcap", "busybox", "true"]).outcome().error(125);
    assert!(error.contains("failed to write captured packets to `/nowhere/x.pcap`"), "{error}");
    let isolated =
        world.run(["--network", "isolated", "--pcap", "x", "busybox", "true"]).outcome().error(125);
    assert!(isolated.contains("leaves the network out"), "{isolated}");
    world.microagent(["create", "--name", "box", "--image", "busybox", "--pcap", "/"]).outcome().success();
    let error = world.microagent(["start", "box"]).outcome().error(1);
    assert!(error.contains("failed to write captured packets to `/`"), "{error}");
    let two = world.microagent(["start", "--pcap", "x", "box", "bax"]).outcome().error(2);
    assert_eq!(two.matches("one file").count(), 1, "{two}");
}

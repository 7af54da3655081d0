//! What a guest may reach by rules, and what is told of it.

use std::time::Duration;

use microagent_tests::World;
use serde_json::Value;

use super::elsewhere::elsewhere;

const DNS: [&str; 2] = ["--dns", "198.51.100.7"];

/// What a guest with these rules says that it reached, and what it was told.
fn reached(rules: &[&str], script: &str) -> (String, String) {
    let world = World::shared();
    // The name server may need a moment more than the machine.
    let begin = "until nslookup -type=a up.example >/dev/null 2>&1 || [ $((n += 1)) -gt 40 ]; do sleep 0.1; done\n\
                 get() { wget -qO- http://$1/ >/dev/null 2>&1 && echo $1; }\n";
    let script = format!("{begin}{script}\ntrue");
    let run = world.run(DNS).args(rules).args(["busybox", "sh", "-c", &script]);
    let outcome = elsewhere(&world, run).outcome();
    (outcome.success(), String::from_utf8_lossy(&outcome.stderr).into_owned())
}

#[test]
fn a_list_of_names_opens_the_addresses_that_they_lead_to_and_nothing_else() {
    let script = "get other.test; get web.example; get a198-51-100-9.example; nc -w 5 198.51.100.7 53 </dev/null && echo port\n\
                  nslookup -type=a other.test >/dev/null 2>&1 || echo unknown";
    let (shown, told) = reached(&["--allow", "*.example:80"], script);
    assert_eq!(shown, "web.example\nunknown\n");
    assert!(told.contains("not reached: name other.test, since no rule of --allow names it"), "{told}");
    assert!(told.contains("198.51.100.7:53 (up.example), since no rule of --allow names it"), "{told}");
}

#[test]
fn an_address_is_opened_by_a_name_only_once_that_was_asked_for() {
    let world = World::shared();
    let script = "wget -qO- http://198.51.100.7/ || echo refused";
    let run = world.run(["--allow", "*.example", "--dns", "198.51.100.7", "busybox", "sh", "-c", script]);
    let outcome = elsewhere(&world, run).outcome();
    assert_eq!(outcome.success(), "refused\n");
    let told = String::from_utf8_lossy(&outcome.stderr).into_owned();
    assert!(told.contains("not reached: tcp 198.51.100.7:80, since no rule of --allow names it"), "{told}");
}

#[test]
fn names_that_lead_to_this_host_or_into_private_networks_open_nothing() {
    let script = "for a in 127-0-0-1 10-0-2-2 169-254-169-254 192-168-0-1 198-51-100-1; do get a$a.example; done; echo end";
    let (shown, told) = reached(&["--allow", "*.example"], script);
    assert_eq!(shown, "end\n");
    for (address, reason) in [
        ("10.0.2.2:80 (a10-0-2-2.example)", "it is this host"),
        ("169.254.169.254:80 (a169-254-169-254.example)", "it is a link-local address"),
        ("192.168.0.1:80 (a192-168-0-1.example)", "its name leads into a private network"),
        ("198.51.100.1:80 (a198-51-100-1.example)", "it is this host"),
    ] {
        assert!(told.contains(&format!("not reached: tcp {address}, since {reason}")), "{told}");
    }
}

#[test]
fn what_is_denied_is_so_by_name_by_alias_by_address_and_by_port() {
    let (shown, _) =
        reached(&["--deny", "*.evil.test"], "get web.evil.test; get alias.example; get web.test");
    assert_eq!(shown, "web.test\n");
    let (shown, _) = reached(
        &["--deny", "[2001:db8::/32]:80", "--deny", "198.51.100.7:80"],
        "get '[2001:db8::7]'; get web.test; nc -w 5 198.51.100.7 53 </dev/null && echo port",
    );
    assert_eq!(shown, "port\n");
}

#[test]
fn nothing_is_reached_and_no_name_known_where_all_is_denied() {
    let (shown, told) = reached(
        &["--egress", "deny"],
        "get web.example; get 198.51.100.7; nslookup -type=a web.example 198.51.100.7; ping -c 1 -W 1 198.51.100.7; cat /etc/resolv.conf",
    );
    assert!(shown.ends_with("nameserver 10.0.2.3\n") && !shown.contains("198.51.100.7\n"), "{shown}");
    for target in ["tcp 198.51.100.7:80", "udp 198.51.100.7:53", "ping 198.51.100.7", "name web.example"] {
        assert!(told.contains(target), "{target}: {told}");
    }
}

#[test]
fn names_are_asked_for_over_tcp_too() {
    let world = World::shared();
    let ask = r#"use IO::Socket::INET; my $s;
        for (1..50) { last if $s = IO::Socket::INET->new(PeerAddr => "10.0.2.3", PeerPort => 53) } $s or die;
        for my $name (@ARGV) {
            my $q = "\0\x07\1\0\0\1\0\0\0\0\0\0" . join("", map { chr(length) . $_ } split /\./, $name) . "\0\0\1\0\1";
            print $s pack("n", length $q), $q; $s->flush;
            read($s, my $n, 2) == 2 or die; read($s, my $r, unpack("n", $n));
            print ord(substr($r, 3, 1)) & 15, " ", join(".", unpack("C4", substr($r, -4))), "\n";
        }"#;
    let words = ["--allow", "*.example", "--add-host", "db.example:192.0.2.9"];
    let run = world.run(DNS).args(words).args([
        "debian:12",
        "perl",
        "-e",
        ask,
        "db.example",
        "web.example",
        "web.test",
    ]);
    let outcome = elsewhere(&world, run).outcome();
    let shown = outcome.success();
    assert!(shown.starts_with("0 192.0.2.9\n0 198.51.100.7\n3 "), "{shown}");
}

#[test]
fn this_host_is_opened_by_port() {
    let world = World::shared();
    let listeners = [0, 0].map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let ports = listeners.each_ref().map(|listener| listener.local_addr().unwrap().port());
    let [open, _closed] = listeners;
    let server = std::thread::spawn(move || drop(open.accept().unwrap()));
    let allow = format!("host.microagent.internal:{}", ports[0]);
    let script = format!(
        "for p in {} {}; do nc -w 5 host.microagent.internal $p </dev/null && echo $p; done; echo end",
        ports[0], ports[1]
    );
    let shown = world.run(["--allow", &allow, "busybox", "sh", "-c", &script]).outcome().success();
    assert_eq!(shown, format!("{}\nend\n", ports[0]));
    server.join().unwrap();
}

#[test]
fn rules_are_kept_shown_and_what_they_decide_is_on_record() {
    let world = World::own().warm_machine();
    let script =
        "for i in 1 2 3; do nc -w 1 192.0.2.1 80; done; nslookup a.test; nslookup b.example; sleep 1000";
    let rules = ["--allow", "*.example:443", "--deny", "192.0.2.0/24", "--egress", "deny"];
    let create =
        world.microagent(["create", "--name", "box", "--image", "busybox", "--dns", "127.0.0.1"]).args(rules);
    create.args(["sh", "-c", script]).outcome().success();
    let shown = world.microagent(["status", "box"]).outcome().success();
    assert!(shown.contains("deny 192.0.2.0/24, allow *.example:443, deny all else"), "{shown}");
    let spec = world.microagent(["status", "--spec", "box"]).outcome().success();
    assert!(spec.contains("egress: deny\nallow:\n- '*.example:443'\ndeny:\n- 192.0.2.0/24\n"), "{spec}");
    let document = world.microagent(["--json", "network", "box"]).outcome().success();
    let document: Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document["egress"]["otherwise"], "deny");

    let follow = world.microagent(["network", "box", "--log", "--refused", "-f"]);
    world.microagent(["start", "box"]).outcome().success();
    let followed = follow.deadline(Duration::from_secs(90)).start();
    let log = |words: &[&str]| world.microagent(["network", "box", "--log"]).args(words).outcome().success();
    eventually("it is told", || log(&[]).contains("allowed  name b.example"));
    let log = log(&["--refused"]);
    assert!(log.contains("refused  tcp 192.0.2.1:80: a rule of --deny names it"), "{log}");
    assert!(
        log.contains("refused  name a.test: no rule of --allow names it") && !log.contains("b.example"),
        "{log}"
    );
    let lines = world.microagent(["--json", "network", "box", "--log"]).outcome().success();
    crate::schemas::lines_fit("network-line", &lines);
    let entry: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&entry["verdict"], &entry["address"], &entry["port"]),
        (&"refused".into(), &"192.0.2.1".into(), &80.into())
    );
    let events = world.microagent(["events", "box"]).outcome().success();
    assert!(events.contains("not reached: tcp 192.0.2.1:80, since a rule of --deny names it"), "{events}");
    world.microagent(["kill", "box"]).outcome().success();
    let followed = followed.wait().success();
    assert!(followed.contains("192.0.2.1") && !followed.contains("allowed"), "{followed}");
}

#[test]
fn rules_that_make_no_sense_are_refused_before_anything_boots() {
    let world = World::shared();
    for (words, said) in [
        (&["--allow", "https://example.com"][..], "it is a URL"),
        (&["--egress", "maybe"], "allow, deny"),
        (&["--network", "isolated", "--deny", "a.test"], "leaves the network out"),
    ] {
        let error = world.run(words).args(["busybox", "true"]).outcome().error(125);
        assert!(error.contains(said), "{error}");
    }
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(std::time::Instant::now() < deadline, "it did not happen: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

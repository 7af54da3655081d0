//! What is added to names that a guest asks for.

use microagent_tests::{Invocation, World};

use super::elsewhere::elsewhere;

/// On a host whose resolv.conf is this.
fn on_host(world: &World, text: &str, invocation: Invocation) -> Invocation {
    let file = world.path().join("resolv.conf");
    std::fs::write(&file, text).unwrap();
    let bind = "mount --bind \"$1\" /etc/resolv.conf && shift && exec \"$@\"";
    invocation.through(&["unshare", "-m", "sh", "-c", bind, "sh", file.to_str().unwrap()])
}

/// What a guest that is started with `words` on such a host has in its resolv.conf.
fn told(world: &World, host: &str, words: &[&str]) -> String {
    let run = world.run(words).args(["busybox", "cat", "/etc/resolv.conf"]);
    on_host(world, host, run).outcome().success()
}

const HOST: &str = "search corp.example lab.test\noptions ndots:3 rotate\nnameserver 192.0.2.1\n";

#[test]
fn a_guest_has_the_hosts_domains_or_those_it_is_given() {
    let world = World::shared();
    let server = "nameserver 10.0.2.3\n";
    let hosts = format!("search corp.example lab.test\n{server}options ndots:3\n");
    // Each of them is a copy of one template, with what it is told itself.
    assert_eq!(told(&world, HOST, &[]), hosts);
    assert_eq!(told(&world, "nameserver 192.0.2.1\n", &[]), server);
    assert_eq!(told(&world, HOST, &["--dns-search", "."]), server);
    assert_eq!(told(&world, HOST, &["--cold"]), hosts);
    let own = ["--dns-search", "A.example.", "--dns-search", "b", "--dns-option", "ndots:2"];
    assert_eq!(told(&world, HOST, &own), format!("search a.example b\n{server}options ndots:2\n"));
    // A name of its own is asked for first.
    let named = told(&world, HOST, &["--add-host", "db:192.0.2.7"]);
    assert!(named.ends_with("options ndots:0\n"), "{named}");
    let listed = told(&world, HOST, &["--allow", "db.lab.test"]);
    assert_eq!(listed, format!("search lab.test\n{server}options ndots:3\n"));
    let garbage = format!(
        "search a..b ok.example {}\n\u{1b}[31m\0\noptions ndots:\nnameserver x\n",
        "x".repeat(70_000)
    );
    assert_eq!(told(&world, &garbage, &[]), format!("search ok.example\n{server}"));
}

#[test]
fn a_name_is_decided_on_with_the_domain_that_was_added_to_it() {
    let world = World::shared();
    let script = "until nslookup -type=a up.example >/dev/null 2>&1 || [ $((n += 1)) -gt 40 ]; do sleep 0.1; done\n\
                  wget -qO- http://web/ && wget -qO- http://web.example/; wget -qO- http://alias/ || echo refused";
    let words = ["--dns", "198.51.100.7", "--dns-search", "other.test", "--dns-search", "example"];
    let rules = ["--allow", "*.example", "--deny", "*.evil.test"];
    let run = world.run(words).args(rules).args(["busybox", "sh", "-c", script]);
    let outcome = elsewhere(&world, run).outcome();
    assert_eq!(outcome.success(), "elsewhere\nelsewhere\nrefused\n");
    let told = String::from_utf8_lossy(&outcome.stderr).into_owned();
    for name in [
        "web.other.test, since no rule of --allow names it",
        "web.evil.test, since a rule of --deny names it",
    ] {
        assert!(told.contains(&format!("not reached: name {name}")), "{told}");
    }
}

#[test]
fn domains_of_a_workspace_are_kept_shown_and_given_at_each_start() {
    let world = World::own().warm_machine();
    let words = ["--dns-search", "a.example", "--dns-option", "ndots:2", "busybox", "sleep", "1000"];
    world.run(["-d", "--name", "box"]).args(words).outcome().success();
    let shown = world.microagent(["network", "box"]).outcome().success();
    assert!(
        shown.contains("Search        a.example\n") && shown.contains("DNS options   ndots:2\n"),
        "{shown}"
    );
    let json = |words: &[&str]| -> serde_json::Value {
        serde_json::from_str(&world.microagent(["--json"]).args(words).outcome().success()).unwrap()
    };
    let network = json(&["network", "box"]);
    assert_eq!(network["dns_search"], serde_json::json!(["a.example"]));
    assert_eq!(network["dns_options"], serde_json::json!(["ndots:2"]));
    let status = &json(&["status", "box"])[0];
    assert_eq!(status["network"]["search"], serde_json::json!(["a.example"]));
    world.run(["-d", "--name", "other", "--dns-search", "."]).args(&words[4..]).outcome().success();
    let template = &json(&["status", "other"])[0]["template"];
    assert!(template.is_string() && *template == status["template"], "{template}");
    world.microagent(["restart", "box"]).outcome().success();
    let inside = world.microagent(["exec", "box", "cat", "/etc/resolv.conf"]).outcome().success();
    assert_eq!(inside, "search a.example\nnameserver 10.0.2.3\noptions ndots:2\n");
    let spec = world.microagent(["status", "--spec", "box"]).outcome().success();
    assert!(spec.contains("dns_search:\n- a.example\ndns_option:\n- ndots:2\n"), "{spec}");
}

#[test]
fn domains_that_make_no_sense_are_refused_before_anything_is_made() {
    let world = World::shared();
    let long = "x".repeat(300);
    for (words, why) in [
        (&["--dns-search", "a b"][..], "each has a --dns-search of its own"),
        (&["--dns-search", "a\nnameserver 192.0.2.1"], "is no domain"),
        (&["--dns-search", &long], "longer than 253 bytes"),
        (&["--dns-search", ""], "is no domain"),
        (&["--dns-search", ".", "--dns-search", "a"], "`.` stands alone"),
        (&["--dns-option", "ndots 2"], "no option of resolv.conf"),
        (&["--network", "isolated", "--dns-search", "a"], "leaves the network out"),
    ] {
        let error = world.run(words).args(["busybox", "true"]).outcome().error(125);
        assert!(error.contains(why), "{words:?}: {error}");
    }
}

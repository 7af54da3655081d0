//! Networks that workspaces share.

use std::time::{Duration, Instant};

use microagent_tests::World;
use serde_json::Value;

/// Serves its host name over HTTP, and what it hears over UDP at port 81.
const SERVER: &str = "mkdir /www; hostname > /www/name; httpd -p 80 -h /www; \
                      while :; do nc -l -p 99 </dev/null; done";

fn document(world: &World, words: &[&str]) -> Value {
    let text = world.microagent(words.iter().chain(&["--json"])).outcome().success();
    serde_json::from_str(&text).unwrap()
}

/// A world with the network `backend`.
fn backend() -> World {
    let world = World::own().warm_machine();
    assert_eq!(world.microagent(["network", "create", "backend"]).outcome().success(), "backend\n");
    world
}

fn serve(world: &World, name: &str, words: &[&str]) {
    world.run(["-d", "--name", name]).args(words).args(["busybox", "sh", "-c", SERVER]).outcome().success();
}

/// What a command in a workspace says, once it says something.
fn says(world: &World, name: &str, script: &str) -> String {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let outcome = world.microagent(["exec", name, "--", "sh", "-c", script]).outcome();
        let said = String::from_utf8_lossy(&outcome.stdout).into_owned();
        if !said.is_empty() || Instant::now() > deadline {
            return said;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn workspaces_on_a_network_find_each_other_and_nobody_else() {
    let world = backend();
    serve(&world, "db", &["--network", "backend"]);
    serve(&world, "web", &["--network", "user", "--network", "backend", "-p", "127.0.0.1:0:80"]);
    serve(&world, "stranger", &[]);
    for name in ["db", "db.backend"] {
        assert_eq!(says(&world, "web", &format!("wget -qO- http://{name}/name")), "db\n");
    }
    assert_eq!(
        says(&world, "db", "wget -qO- http://web/name; ping -c 1 -W 20 web | grep -o ' 0% packet loss'"),
        "web\n 0% packet loss\n"
    );
    // Who does not listen refuses, so that one may wait for who will.
    let refused = Instant::now();
    assert_eq!(
        says(&world, "web", "nc -w 20 db 81 </dev/null 2>&1; echo end"),
        "nc: can't connect to remote host (10.89.0.N): Connection refused\nend\n"
            .replace('N', &last_part(&world, "db"))
    );
    assert!(refused.elapsed() < Duration::from_secs(15));
    for (who, whom) in [
        ("stranger", "db"),
        ("db", "stranger"),
        ("stranger", "10.89.0.2"),
        ("db", "192.0.2.1"),
        ("db", "10.0.2.2"),
    ] {
        let said = says(&world, who, &format!("wget -qO- http://{whom}/name 2>/dev/null; echo end"));
        assert_eq!(said, "end\n", "{who} {whom}");
    }
    // A run is a member as long as it lasts.
    let run = world.run(["--network", "backend", "busybox", "wget", "-qO-", "http://db/name"]);
    assert_eq!(run.outcome().success(), "db\n");

    let shown = document(&world, &["network", "inspect", "backend"]);
    for (schema, words) in [("network-list", &["network", "ls"][..]), ("network", &["network", "web"])] {
        crate::schemas::fits(schema, &document(&world, words).to_string());
    }
    let names: Vec<_> =
        shown[0]["members"].as_array().unwrap().iter().map(|member| &member["name"]).collect();
    assert!(names.len() == 2 && names.contains(&&"db".into()), "{shown}");
    assert_eq!(shown[0]["workspaces"], serde_json::json!(["db", "web"]));
    let own = document(&world, &["network", "web"]);
    assert_eq!((&own["mode"], &own["networks"][0]["name"]), (&"user".into(), &"backend".into()));
    assert!(world.microagent(["network", "db"]).outcome().success().starts_with("Mode          backend\n"));
    let log = world.microagent(["network", "db", "--log"]).outcome().success();
    assert!(log.contains(":80 (web)") && log.contains("refused  tcp 192.0.2.1:80"), "{log}");

    let in_use = world.microagent(["network", "rm", "backend"]).outcome().error(1);
    assert!(in_use.contains("cannot delete network `backend`"), "{in_use}");
    world.microagent(["delete", "--force", "db", "web", "stranger"]).outcome().success();
    assert_eq!(world.microagent(["network", "rm", "backend"]).outcome().success(), "backend\n");
}

/// The last part of the address that a workspace has on its network.
fn last_part(world: &World, name: &str) -> String {
    let address = document(world, &["network", name])["networks"][0]["address"].as_str().unwrap().to_owned();
    address.rsplit('.').next().unwrap().to_owned()
}

#[test]
fn a_member_that_dies_harms_no_other_and_is_found_again_when_it_is_back() {
    let world = backend();
    for name in ["one", "two", "three"] {
        serve(&world, name, &["--network", "backend"]);
    }
    assert_eq!(says(&world, "one", "wget -qO- http://two/name"), "two\n");
    let address = last_part(&world, "two");
    // A connection that is open when its other end goes.
    let open =
        world.microagent(["exec", "one", "--", "sh", "-c", "nc two 80; echo over"]).open_input().start();
    std::thread::sleep(Duration::from_secs(2));
    let supervisor = document(&world, &["status", "two"])[0]["supervisor_pid"].as_i64().unwrap();
    let pid = rustix::process::Pid::from_raw(supervisor.try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    assert_eq!(open.wait().success(), "over\n");
    assert_eq!(
        says(&world, "one", "wget -qO- http://two/name 2>/dev/null; wget -qO- http://three/name"),
        "three\n"
    );
    let members = document(&world, &["network", "ls"])[0]["members"].as_array().unwrap().len();
    assert_eq!(members, 2);
    world.microagent(["start", "two"]).outcome().success();
    assert_eq!(says(&world, "three", "wget -qO- http://two/name"), "two\n");
    assert_eq!(last_part(&world, "two"), address);
    world.microagent(["rename", "two", "four"]).outcome().success();
    assert_eq!(
        says(&world, "three", "wget -qO- http://four/name"),
        "two\n",
        "its host name is that of its start"
    );
    assert_eq!(says(&world, "three", "wget -qO- http://two/name 2>/dev/null; echo end"), "end\n");
    world.microagent(["delete", "--force", "one", "three", "four"]).outcome().success();
}

#[test]
fn what_makes_no_sense_on_a_network_is_refused_before_anything_boots() {
    let world = World::own();
    for (words, said) in [
        (&["--network", "nosuch"][..], "there is no network `nosuch`"),
        (&["--network", "isolated", "--network", "backend"], "cannot be isolated and on a network"),
        (&["--network", "backend", "--allow", "a.test"], "lead nowhere else"),
        (&["--network", "backend", "--allow-host"], "add --network user"),
        (&["--network", "a/b"], "invalid name"),
    ] {
        let error = world.run(words).args(["busybox", "true"]).outcome().error(125);
        assert!(error.contains(said), "{words:?}: {error}");
    }
    world.microagent(["create", "--network", "nosuch", "--image", "busybox"]).outcome().error(1);
    assert_eq!(world.microagent(["list", "-q"]).outcome().success(), "");
    for word in ["ls", "user", "host"] {
        let error = world.microagent(["network", "create", word]).outcome().error(2);
        assert!(error.contains("the word means something else"), "{error}");
    }
    // One that was only half made is none.
    let crash =
        world.microagent(["network", "create", "backend"]).env("MICROAGENT_FAULT", "network.made").outcome();
    assert!(!crash.status.success());
    assert_eq!(document(&world, &["network", "ls"]), serde_json::json!([]));
    world.microagent(["network", "create", "backend"]).outcome().success();
    world.microagent(["network", "create", "backend"]).outcome().error(1);
    world.microagent(["network", "delete", "backend", "nosuch"]).outcome().success();
    let error = world.microagent(["network", "connect", "backend", "web"]).outcome().error(2);
    assert!(error.contains("does not exist"), "{error}");
}

#[test]
fn networks_that_nobody_needs_are_pruned_and_no_others() {
    let world = World::own().warm_machine();
    for name in ["joined", "needed", "unneeded", "other"] {
        world.microagent(["network", "create", name]).outcome().success();
    }
    let words = ["--network", "joined", "busybox", "sleep", "1000"];
    world.run(["-d", "--name", "box"]).args(words).outcome().success();
    world.microagent(["create", "--network", "needed", "--image", "busybox"]).outcome().success();
    let refused = world.microagent(["network", "prune"]).outcome();
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.error(2).contains("network prune --yes"));
    assert!(told.contains("unneeded  10.89.2.0/24\n") && !told.contains("joined"), "{told}");
    let pruned = document(&world, &["network", "prune", "--yes"]);
    assert_eq!(pruned, serde_json::json!({ "removed": ["other", "unneeded"] }));
    assert_eq!(world.microagent(["network", "list", "-q"]).outcome().success(), "joined\nneeded\n");
    assert_eq!(world.microagent(["network", "prune"]).outcome().success(), "");
}

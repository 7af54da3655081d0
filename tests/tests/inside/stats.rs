//! What workspaces use.

use serde_json::Value;

use super::idle;

#[test]
fn use_is_told_as_the_host_and_the_guest_see_it() {
    let world = idle();
    world.microagent(["exec", "-d", "box", "sh", "-c", "while :; do :; done"]).outcome().success();
    world
        .microagent(["exec", "box", "sh", "-c", "head -c 5000000 /dev/urandom > /f; sync"])
        .outcome()
        .success();
    let said = world.microagent(["stats", "--no-stream", "--json"]).outcome().success();
    let said: Vec<Value> = serde_json::from_str(&said).unwrap();
    let one = &said[0];
    let number = |field: &str| one[field].as_f64().unwrap();
    assert_eq!((said.len(), &one["name"]), (1, &"box".into()));
    assert!(number("cpu_percent") > 20.0 && number("guest_cpu_percent") > 20.0, "{one}");
    assert!(number("memory") > 50e6 && number("guest_memory") > 10e6, "{one}");
    assert!(number("guest_memory") < number("guest_memory_size"), "{one}");
    assert!(number("disk_written") >= 5e6 && number("disk_read") > 0.0, "{one}");
    assert!(one["network_sent"].is_u64(), "{one}");

    let mut terminal = world.microagent(["stats"]).on_terminal(24, 140);
    for _ in 0..2 {
        terminal.expect("NAME");
        terminal.expect("box");
    }
    terminal.send(b"\x03");
    terminal.wait();
    world.microagent(["halt", "box"]).outcome().success();
    let table = world.microagent(["stats", "--no-stream"]).outcome().success();
    assert_eq!(table.lines().count(), 1, "{table}");
    let table = world.microagent(["stats", "--no-stream", "box"]).outcome().success();
    assert!(table.contains("box   -"), "{table}");
    assert!(world.microagent(["stats", "nobody"]).outcome().error(1).contains("no workspace `nobody`"));
}

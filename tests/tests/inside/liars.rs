//! Guests whose agent lies: a workload that is root takes the agent's port, and says what it likes.

use std::time::Duration;

use microagent_tests::{World, peak_memory};
use serde_json::Value;

use super::super::workspaces::eventually;

/// Takes the agent's port from the first process (`pidfd_getfd(2)`), and writes what `$said` is, again and again.
const TAKE_PORT: &str = r#"
    my ($port, $number);
    for my $link (glob '/proc/1/fd/*') {
        $number = $1 if (readlink $link // '') =~ /vport/ && $link =~ /(\d+)$/;
    }
    my $process = syscall(434, 1, 0);
    my $descriptor = syscall(438, $process, $number + 0, 0);
    die "no port: $!" if $descriptor < 0;
    open($port, '>&=', $descriptor) or die $!;
    binmode $port;
    fcntl($port, 4, fcntl($port, 3, 0) & ~2048);
"#;

fn lie(world: &World, name: &str, said: &str) {
    let script =
        format!("{TAKE_PORT} my $said = {said}; for (1 .. 2000) {{ syswrite $port, $said or last; }}");
    world.microagent(["exec", "-d", name, "perl", "-e", &script]).outcome().success();
}

fn status(world: &World, name: &str) -> Value {
    let text = world.microagent(["status", "--json", name]).outcome().success();
    let mut all: Vec<Value> = serde_json::from_str(&text).unwrap();
    all.remove(0)
}

#[test]
fn a_lying_agent_ends_its_own_machine_and_nothing_else() {
    let world = World::own().warm_machine();
    world.run(["-d", "--name", "honest", "busybox", "sleep", "100000"]).outcome().success();
    world
        .microagent(["create", "--name", "liar", "--image", "debian:12", "sleep", "100000"])
        .outcome()
        .success();
    let cases = [
        // Bytes that are no frames.
        ("garbage", "join('', map { chr(int(rand(256))) } 1 .. 60000)"),
        // A frame of 4 GiB.
        ("huge length", r#""\xff\xff\xff\x7f" x 1000"#),
        // Output of processes that nobody started: `ToHost::Output`, process 7777, standard output, "lie".
        ("wrong numbers", r#""\x08\x00\x00\x00\x04\xe1\x3c\x00\x03lie""#),
        // Answers to nothing: `ToHost::Done(Ok(()))`.
        ("answers to nothing", r#""\x02\x00\x00\x00\x00\x00""#),
        // A frame that never ends.
        ("half a frame", r#""\x00\xff\x01\x00" . "\x00" x 1000"#),
    ];
    for (what, said) in cases {
        world.microagent(["start", "liar"]).outcome().success();
        let before = status(&world, "liar");
        let supervisor = i32::try_from(before["supervisor_pid"].as_u64().unwrap()).unwrap();
        let supervisor = rustix::process::Pid::from_raw(supervisor).unwrap();
        let copying = world.microagent(["cp", "liar:/usr", "copied"]).start();
        lie(&world, "liar", said);
        let mut peak = 0;
        eventually(&format!("the lie is seen: {what}"), || {
            peak = peak_memory(supervisor).unwrap_or(0).max(peak);
            status(&world, "liar")["state"] == "failed"
        });
        assert!(peak < 64 << 20, "{what}: {peak}");
        let after = status(&world, "liar");
        let reason = after["last_end"]["reason"].as_str().unwrap().to_owned();
        assert!(reason.contains("guest"), "{what}: {reason}");
        let copied = copying.wait();
        assert_eq!(copied.code(), 1, "{what}: {}", String::from_utf8_lossy(&copied.stderr));
        assert!(!world.path().join("copied").exists());
        // Everybody else goes on.
        let said =
            world.microagent(["exec", "honest", "echo", "on"]).deadline(Duration::from_secs(20)).outcome();
        assert_eq!(said.success(), "on\n");
    }
}

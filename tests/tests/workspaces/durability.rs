//! What a guest was told is on its disk stays there.

use microagent_tests::World;

use super::{eventually, said, status};

/// Appends numbered records; says each number once the record is on the disk.
const RECORDER: &str = "trap 'exit 0' TERM; n=$(wc -l < /records 2>/dev/null || echo 0); \
    echo from $n; while :; do n=$((n+1)); \
    echo $n | dd of=/records oflag=append conv=notrunc,fsync 2>/dev/null && echo kept $n; done";

/// The highest number that was said to be kept.
fn acknowledged(said: &str) -> u64 {
    said.lines().filter_map(|line| line.strip_prefix("kept ")?.parse().ok()).max().unwrap_or(0)
}

#[test]
fn no_acknowledged_record_is_lost_however_the_machine_ends() {
    let world = World::own().warm_machine();
    world.run(["-d", "--name", "box", "busybox", "sh", "-c", RECORDER]).outcome().success();
    let endings = [&["halt"][..], &["stop"], &["kill"], &["kill"], &["pull the plug"], &["halt"]];
    for (starts, ending) in (2..).zip(endings) {
        let before = acknowledged(&said(&world, "box"));
        eventually("it records", || acknowledged(&said(&world, "box")) > before + 5);
        if ending == ["pull the plug"] {
            let supervisor = status(&world, "box")["supervisor_pid"].as_u64().unwrap();
            let pid = rustix::process::Pid::from_raw(i32::try_from(supervisor).unwrap()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        } else {
            world.microagent(ending).args(["box"]).outcome().success();
        }
        eventually("it is down", || status(&world, "box")["supervisor_pid"].is_null());
        let kept = acknowledged(&said(&world, "box"));
        world.microagent(["start", "box"]).outcome().success();
        eventually("it goes on", || said(&world, "box").matches("from ").count() == starts);
        let said = said(&world, "box");
        let from: u64 =
            said.lines().filter_map(|line| line.strip_prefix("from ")?.parse().ok()).next_back().unwrap();
        assert!(from >= kept, "{ending:?}: {kept} were kept, and {from} are there");
    }
    world.microagent(["delete", "--force", "box"]).outcome().success();
}

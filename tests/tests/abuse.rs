//! Guests that mean harm: whatever one does to its machine, the host stays as it was, its neighbour goes on, `kill` and
//! `delete` work, and what it costs is bounded.
//!
//! What a guest says over the agent's port is in `inside/liars.rs`, damaged disks are in `workspaces/damage.rs`, and a
//! full host is in `workspaces/hosts.rs`.

use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use microagent_tests::{Outcome, World, peak_memory, processes_of, wait_until};
use rustix::process::Pid;
use serde_json::Value;

use super::workspaces::eventually;

/// How long the others may wait, on a loaded machine without KVM, while one does its worst.
const RESPONSIVE: Duration = Duration::from_secs(30);

/// A supervisor's memory; debug builds are fat.
const SUPERVISOR: u64 = 96 << 20;

/// What an abused machine of 256 MiB may take: its memory, and what QEMU has beside it. The translator keeps up to a
/// gibibyte of code.
const MACHINE: u64 = (256 << 20) + (1 << 30) + (256 << 20);

/// What an abuser with a disk of 64 MiB may take of the host's disk: that, a log of 40 MiB, and what is small.
const DISK: u64 = (64 << 20) + (40 << 20) + (8 << 20);

/// Something that a guest does.
struct Abuse {
    what: &'static str,
    image: &'static str,
    /// A shell's line, which is the service's or, after `exec`, a command's.
    line: &'static str,
    lasts: Duration,
}

const fn abuse(what: &'static str, line: &'static str) -> Abuse {
    Abuse { what, image: "busybox", line, lasts: Duration::from_secs(2) }
}

/// A world in which an honest workspace runs.
fn with_a_neighbour() -> World {
    let world = World::own().warm_machine();
    world.microagent(["template", "warm", "--memory", "256m"]).outcome().success();
    let flags = ["-d", "--name", "honest", "-m", "256m", "busybox", "sh", "-c"];
    world.run(flags).args(["while :; do sleep 1; done"]).outcome().success();
    world
}

fn call(world: &World, words: &[&str]) -> Outcome {
    world.microagent(words).deadline(RESPONSIVE).outcome()
}

fn status(world: &World, name: &str) -> Value {
    let all: Vec<Value> = serde_json::from_str(&call(world, &["status", "--json", name]).success()).unwrap();
    all[0].clone()
}

fn pid(status: &Value, of: &str) -> Option<Pid> {
    Pid::from_raw(i32::try_from(status[of].as_u64()?).unwrap())
}

fn start(world: &World, abuse: &Abuse) {
    let flags =
        ["run", "-d", "--name", "abuser", "-m", "256m", "--disk-size", "64m", abuse.image, "sh", "-c"];
    call(world, &[&flags[..], &["while :; do sleep 1; done"]].concat()).success();
}

/// Has a guest do it twice, and ends it once with `kill` and once with `delete`.
fn is_survived(world: &World, abuse: &Abuse) {
    start(world, abuse);
    for last in [false, true] {
        let before = status(world, "abuser");
        // Whoever is asked to do harm may not live to say that he does.
        call(world, &["exec", "-d", "abuser", "--", "sh", "-c", abuse.line]);
        let until = Instant::now() + abuse.lasts;
        while Instant::now() < until {
            is_unharmed(world, abuse.what);
            stays_bounded(world, &before, abuse.what);
        }
        if last {
            call(world, &["delete", "--force", "abuser"]).success();
        } else {
            call(world, &["kill", "abuser"]).success();
            assert!(pid(&status(world, "abuser"), "machine_pid").is_none(), "{}", abuse.what);
            call(world, &["start", "abuser"]).success();
        }
    }
    let honest =
        [pid(&status(world, "honest"), "supervisor_pid"), pid(&status(world, "honest"), "machine_pid")];
    let others = || {
        let mut all = processes_of(world.home());
        all.retain(|process| !honest.contains(&Pid::from_raw(process.pid)));
        all
    };
    wait_until(Duration::from_secs(60), others);
    assert!(!world.home().join("workspaces/abuser").exists(), "{}", abuse.what);
}

fn is_unharmed(world: &World, what: &str) {
    let said = call(world, &["exec", "honest", "sh", "-c", "echo on > /file; cat /file"]);
    assert_eq!(said.success(), "on\n", "{what}");
    let list = call(world, &["list", "-q"]).success();
    assert!(list.contains("honest") && list.contains("abuser"), "{what}: {list}");
}

fn stays_bounded(world: &World, abuser: &Value, what: &str) {
    for (of, most) in [("supervisor_pid", SUPERVISOR), ("machine_pid", MACHINE)] {
        let peak = pid(abuser, of).and_then(peak_memory).unwrap_or(0);
        assert!(peak < most, "{what}: {of} takes {peak} bytes");
    }
    let disk = allocated(&world.home().join("workspaces/abuser"));
    assert!(disk < DISK, "{what}: {disk} bytes of disk");
}

/// What the files below a directory take of the disk, in bytes.
fn allocated(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let size = |path: &Path| match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => allocated(path),
        Ok(metadata) => metadata.blocks() * 512,
        // It was rotated away.
        Err(_) => 0,
    };
    entries.map(|entry| size(&entry.path())).sum()
}

#[test]
fn what_takes_all_there_is_takes_it_from_itself_alone() {
    let world = with_a_neighbour();
    let all = [
        abuse("fork bomb", "f() { f | f & }; f; while :; do :; done"),
        abuse("memory hog", "for i in 1 2 3 4 5 6 7 8; do tail /dev/zero & done; wait"),
        abuse("memory hog in a file system", "mount -t tmpfs -o size=100g t /mnt; cat /dev/zero > /mnt/file"),
        abuse("disk filler", "while :; do cat /dev/urandom > /big; sync; rm /big; done"),
        abuse(
            "filler of inodes",
            "mkdir /many; cd /many; while :; do i=$((i+1)); : > f$i || sleep 0.1; done",
        ),
        abuse(
            "descriptors",
            "while :; do sh -c 'while :; do exec 3<>/dev/null; i=$((i+1)); sleep 1000 & done'; done",
        ),
    ];
    for abuse in &all {
        is_survived(&world, abuse);
    }
}

#[test]
fn what_floods_the_host_with_words_is_kept_within_bounds() {
    let world = with_a_neighbour();
    let all = [
        abuse("console flood", "cat /dev/zero > /dev/console"),
        abuse("noise on the console", "while :; do cat /dev/urandom > /dev/ttyS0; done"),
        abuse("kernel log flood", "while :; do echo '<0>spam spam spam' > /dev/kmsg; done"),
        abuse(
            "flood through the service's output",
            "yes > /proc/$(pidof sh | tr ' ' '\\n' | sort -n | head -1)/fd/1",
        ),
    ];
    for abuse in &all {
        is_survived(&world, abuse);
    }
    // The same from the service itself, whose output is kept: the log is rotated, and can be read while it grows.
    for line in ["yes", "cat /dev/urandom", "while :; do echo; done", "cat /dev/zero"] {
        let flags = [
            "run",
            "-d",
            "--name",
            "abuser",
            "-m",
            "256m",
            "--disk-size",
            "64m",
            "busybox",
            "sh",
            "-c",
            line,
        ];
        call(&world, &flags).success();
        let before = status(&world, "abuser");
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until {
            is_unharmed(&world, line);
            stays_bounded(&world, &before, line);
            assert_eq!(call(&world, &["logs", "--tail", "1", "abuser"]).code(), 0);
        }
        call(&world, &["kill", "abuser"]).success();
        call(&world, &["delete", "--yes", "abuser"]).success();
    }
}

#[test]
fn what_attacks_its_own_init_or_clock_ends_or_goes_on_and_can_be_ended() {
    let world = with_a_neighbour();
    let all = [
        abuse("agent killer", "while :; do kill -9 -1; kill -STOP 1; kill -SEGV 1; done"),
        abuse(
            "kernel's own killer",
            "while :; do echo i > /proc/sysrq-trigger; echo f > /proc/sysrq-trigger; sleep 0.1; done",
        ),
        abuse(
            "holes in init",
            "for i in $(seq 100); do dd if=/dev/urandom of=/proc/1/mem bs=4096 count=1 \
               seek=$((0x$(sed -n \"$i{s/-.*//;p}\" /proc/1/maps) / 4096)) conv=notrunc; done",
        ),
        abuse(
            "device nodes gone",
            "rm -rf /dev/* /run/*; mount -t tmpfs t /proc; mount -t tmpfs t /sys; mount -t tmpfs t /dev",
        ),
        abuse("root file system gone", "mount -o remount,ro /; umount -l /; umount -l -a; swapoff -a"),
        abuse(
            "clock changer",
            "while :; do date -s @100000; date -s @2147483647; date -s @4102444800; date -s 1970-01-02; done",
        ),
        abuse("kernel that stands still", "echo 0 > /proc/sys/kernel/panic; echo c > /proc/sysrq-trigger"),
        abuse(
            "processor of its own",
            "for i in 1 2 3; do chrt -f 99 sh -c 'while :; do :; done' & done; wait",
        ),
    ];
    for abuse in &all {
        is_survived(&world, abuse);
    }
}

#[test]
fn a_guest_whose_clock_is_wrong_is_halted_and_its_history_is_in_order() {
    let world = with_a_neighbour();
    start(&world, &abuse("", ""));
    for time in ["@100000", "@4102444800", "@86400"] {
        call(&world, &["exec", "abuser", "date", "-s", time]).success();
        let there = call(&world, &["exec", "abuser", "date", "+%s"]).success();
        assert!(there.trim().parse::<u64>().unwrap().abs_diff(time[1..].parse().unwrap()) < 60, "{there}");
        let result: Value =
            serde_json::from_str(&call(&world, &["exec", "--json", "abuser", "true"]).success()).unwrap();
        assert!(result["duration_ms"].as_u64().unwrap() < 30_000, "{result}");
        assert!(result["started_at"].as_str() <= result["finished_at"].as_str(), "{result}");
    }
    call(&world, &["pause", "abuser"]).success();
    call(&world, &["resume", "abuser"]).success();
    let seconds = call(&world, &["exec", "abuser", "date", "+%s"]).success();
    let here = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(seconds.trim().parse::<u64>().unwrap().abs_diff(here) < 30, "{seconds}: {here}");
    call(&world, &["exec", "abuser", "date", "-s", "@100000"]).success();
    call(&world, &["halt", "abuser"]).success();
    let events = call(&world, &["events", "--json", "abuser"]).success();
    let events: Vec<Value> = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let times: Vec<&str> = events.iter().map(|event| event["time"].as_str().unwrap()).collect();
    assert!(times.is_sorted() && times[0] > "2020", "{times:?}");
    call(&world, &["start", "abuser"]).success();
    assert_eq!(status(&world, "abuser")["state"], "running");
}

#[test]
fn garbage_in_the_registers_and_rings_of_devices_reaches_nobody_else() {
    let world = with_a_neighbour();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/abuse/virtio.pl");
    // Rings alone, with and without a reset between; everything; and the configuration space.
    for (rounds, mode) in [(2, "1 0 0 300"), (2, "0 0 0 300"), (2, "1 0 3000 100"), (1, "0 300 0 0")] {
        start(&world, &Abuse { image: "debian:12", ..abuse("", "") });
        for _ in 0..rounds {
            call(&world, &["start", "abuser"]).success();
            let before = status(&world, "abuser");
            call(&world, &["cp", &script.to_string_lossy(), "abuser:/virtio.pl"]).success();
            let line = format!("perl /virtio.pl {mode}");
            let running = world.microagent(["exec", "abuser", "--", "sh", "-c", &line]).start();
            let until = Instant::now() + Duration::from_secs(4);
            while Instant::now() < until {
                is_unharmed(&world, mode);
                stays_bounded(&world, &before, mode);
            }
            call(&world, &["kill", "abuser"]).success();
            let said = running.wait();
            let said = String::from_utf8_lossy(&said.stdout).into_owned();
            assert!(said.starts_with("6 devices\n"), "{mode}: {said}");
            let driven = said.contains("resource4");
            assert_eq!(driven, mode != "0 300 0 0", "the registers are written to: {said}");
        }
        call(&world, &["delete", "--force", "abuser"]).success();
    }
    is_honest_alone(&world);
}

fn is_honest_alone(world: &World) {
    let list = call(world, &["list", "-q"]).success();
    assert_eq!(list, "honest\n");
    eventually("the machines are gone", || {
        processes_of(world.home()).iter().filter(|process| process.name.starts_with("qemu")).count() == 1
    });
}

#[test]
fn hundreds_of_open_streams_and_two_thousand_silent_clients_hold_nobody_up() {
    let world = with_a_neighbour();
    start(&world, &abuse("", ""));
    // Some say more than anybody reads, the others wait for input.
    let streams: Vec<_> = (0..120)
        .map(|number| {
            let (reader, writer) = std::io::pipe().unwrap();
            let program = if number % 10 == 0 { "yes" } else { "cat" };
            let running =
                world.microagent(["exec", "-i", "abuser", program]).open_input().output_to(writer).start();
            (running, reader)
        })
        .collect();
    eventually("they run", || {
        call(&world, &["exec", "abuser", "sh", "-c", "ps | grep -c '[c]at'"]).success().trim() == "108"
    });
    let socket = world.home().join("workspaces/abuser/control.sock");
    let before = status(&world, "abuser");
    let silent: Vec<_> = (0..2000).map_while(|_| connect(&socket)).collect();
    is_unharmed(&world, "silent clients");
    stays_bounded(&world, &before, "silent clients");
    call(&world, &["kill", "abuser"]).success();
    drop((silent, streams));
    call(&world, &["start", "abuser"]).success();
    assert_eq!(call(&world, &["exec", "abuser", "echo", "on"]).success(), "on\n");
    call(&world, &["delete", "--force", "abuser"]).success();
    is_honest_alone(&world);
}

/// A connection that says nothing; none if no more are taken.
fn connect(socket: &Path) -> Option<UnixStream> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let path = socket.to_owned();
    std::thread::spawn(move || sender.send(UnixStream::connect(path)));
    receiver.recv_timeout(Duration::from_millis(500)).ok()?.ok()
}

//! The machine that a command finds: its kernel, its size, its file systems, its clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use microagent_tests::World;

#[test]
fn the_kernel_is_not_the_hosts() {
    let world = World::shared();
    let shown = world
        .run(["busybox", "sh", "-c", "uname -r; cat /proc/sys/kernel/random/boot_id"])
        .outcome()
        .success();
    let kernels = world.microagent(["kernel", "list", "--json"]).outcome().success();
    let kernels: serde_json::Value = serde_json::from_str(&kernels).unwrap();
    let mut lines = shown.lines();
    assert_eq!(lines.next(), kernels[0]["release"].as_str());
    let hosts = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert_ne!(lines.next(), Some(hosts.trim()));
}

#[test]
fn memory_and_processors_are_as_asked() {
    let world = World::shared().cold();
    let script = "free -m | awk '/Mem:/ { print $2 }'; nproc";
    let shown = world.run(["-m", "384m", "--cpus", "2", "busybox", "sh", "-c", script]).outcome().success();
    let numbers: Vec<u64> = shown.lines().map(|line| line.parse().unwrap()).collect();
    assert!((300..=384).contains(&numbers[0]), "{shown}");
    assert_eq!(numbers[1], 2, "{shown}");
}

#[test]
fn the_disk_is_as_large_as_asked() {
    let world = World::shared().cold();
    let script =
        "df -m / | awk 'END { print $2 }'; dd if=/dev/zero of=/large bs=1M count=200 2>/dev/null; echo $?";
    let shown = world.run(["--disk-size", "128m", "busybox", "sh", "-c", script]).outcome().success();
    let numbers: Vec<u64> = shown.lines().map(|line| line.parse().unwrap()).collect();
    assert!((64..=128).contains(&numbers[0]), "{shown}");
    assert_eq!(numbers[1], 1, "{shown}");
}

#[test]
fn the_clock_is_the_hosts() {
    let world = World::shared();
    let before = SystemTime::now();
    let shown = world.run(["busybox", "date", "+%s"]).outcome().success();
    let guest = UNIX_EPOCH + Duration::from_secs(shown.trim().parse().unwrap());
    let slack = Duration::from_secs(2);
    assert!(guest + slack >= before && guest <= SystemTime::now() + slack, "{shown}");
}

#[test]
fn names_are_as_asked_and_resolve() {
    let world = World::shared();
    let script = "hostname; cat /etc/hostname; ping -c 1 -W 5 $(hostname) >/dev/null && echo reachable; \
                  ping -c 1 -W 5 localhost >/dev/null && echo local";
    let shown = world.run(["--hostname", "web-1", "busybox", "sh", "-c", script]).outcome().success();
    assert_eq!(shown.lines().collect::<Vec<_>>(), ["web-1", "web-1", "reachable", "local"]);
    let shown = world.run(["--name", "a-name", "busybox", "hostname"]).outcome().success();
    assert_eq!(shown, "a-name\n");
}

#[test]
fn the_file_systems_that_programs_expect_are_there() {
    let world = World::shared();
    let script = r"
        stat -c '%a %n' /tmp /dev/shm /dev/null /dev/ptmx /dev/pts/ptmx
        for place in /proc /sys /dev /dev/pts /dev/shm; do grep -q \ $place\  /proc/mounts || echo no $place; done
        echo a > /dev/shm/a && cat /dev/shm/a
        echo b | cat /dev/stdin
        echo c | cat /dev/fd/0
        head -c 4 /dev/urandom | wc -c
        grep -c . /etc/machine-id
        ls /disk /image 2>&1 | wc -l
    ";
    let shown = world.script(script).outcome().success();
    let expected = [
        "1777 /tmp",
        "1777 /dev/shm",
        "666 /dev/null",
        "777 /dev/ptmx",
        "666 /dev/pts/ptmx",
        "a",
        "b",
        "c",
        "4",
        "1",
        "2",
    ];
    assert_eq!(shown.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn processes_without_parents_are_reaped() {
    let world = World::shared();
    let script = r"
        for i in $(seq 200); do (true &) ; done
        for i in $(seq 50); do (sleep 0.2 &) ; done
        for i in $(seq 100); do
            left=$(cat /proc/[0-9]*/stat 2>/dev/null | grep -c ') Z ')
            [ $left = 0 ] && [ $i -gt 10 ] && break
            sleep 0.1
        done
        echo $left
    ";
    assert_eq!(world.script(script).outcome().success(), "0\n");
}

#[test]
fn each_machine_is_another() {
    let world = World::shared();
    let script = "cat /etc/machine-id; head -c 16 /dev/urandom | xxd -p; cat /proc/sys/kernel/random/boot_id";
    let [one, two] = [(); 2].map(|()| world.script(script).outcome().success());
    for (one, two) in one.lines().zip(two.lines()) {
        assert_ne!(one, two);
    }
}

#[test]
fn what_a_run_changes_is_gone_with_it() {
    let world = World::shared();
    let script = "cat /file 2>/dev/null; echo text > /file; rm /etc/passwd && cat /file";
    for _ in 0..2 {
        assert_eq!(world.script(script).outcome().success(), "text\n");
    }
}

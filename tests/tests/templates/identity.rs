//! Copies of one machine differ in everything that identifies a machine, or must not be guessed.

use std::collections::HashSet;
use std::time::Duration;

use microagent_tests::{Running, World};

use super::{restores, script, warm_world, with_templates};

/// A line for each value.
const VALUES: &str = "head -c 16 /dev/urandom | xxd -p; cat /proc/sys/kernel/random/boot_id /etc/machine-id \
                      /proc/sys/kernel/random/uuid; mktemp; hostname; cat /proc/$$/maps";

/// Starts `call` so many times, four at a time.
fn many(times: usize, call: impl Fn() -> Running) -> Vec<String> {
    let mut outputs = Vec::new();
    while outputs.len() < times {
        let batch: Vec<_> = (0..4.min(times - outputs.len())).map(|_| call()).collect();
        outputs.extend(batch.into_iter().map(|running| running.wait().success()));
    }
    outputs
}

/// Where `mapping` starts.
fn address<'a>(output: &'a str, mapping: &str) -> &'a str {
    let line = output.lines().find(|line| line.ends_with(mapping));
    line.and_then(|line| line.split('-').next()).unwrap_or_else(|| panic!("no {mapping}: {output}"))
}

#[test]
fn fifty_restores_have_nothing_in_common() {
    let (world, key) = warm_world();
    restores(&world, &key, || {
        let outputs = many(50, || with_templates(world.script(VALUES)).start());
        let values: Vec<_> = outputs.iter().flat_map(|output| output.lines().take(5)).collect();
        let distinct: HashSet<_> = values.iter().collect();
        assert_eq!((distinct.len(), values.len()), (250, 250), "{values:?}");
        // Names and addresses have fewer bits: a few may meet, but are never the template's.
        let names: HashSet<_> = outputs.iter().filter_map(|output| output.lines().nth(5)).collect();
        assert!(names.len() >= 48, "{names:?}");
        for mapping in ["[stack]", "[heap]"] {
            let addresses: HashSet<_> = outputs.iter().map(|output| address(output, mapping)).collect();
            assert!(addresses.len() >= 40, "{mapping}: {addresses:?}");
        }
    });
}

#[test]
fn a_run_time_that_seeds_itself_finds_another_seed() {
    let world = World::shared();
    let python = "import os, random\nprint(os.urandom(16).hex(), random.random(), hash('x'))\n\
                  print(open('/proc/self/maps').read())";
    let call = || with_templates(world.run(["debian:12", "python3", "-c", python])).start();
    let outputs = many(4, call);
    let values: Vec<_> = outputs.iter().flat_map(|output| output.split_whitespace().take(3)).collect();
    let libraries = outputs.iter().map(|output| address(output, "/libc.so.6"));
    let places = outputs.iter().map(|output| address(output, "[heap]")).chain(libraries);
    let all: Vec<_> = values.into_iter().chain(places).collect();
    let distinct: HashSet<_> = all.iter().collect();
    assert_eq!(distinct.len(), 20, "{all:?}");
}

#[test]
fn a_copy_goes_by_its_own_name() {
    let (world, _) = warm_world();
    let shown =
        script(&world, "hostname; cat /etc/hostname; grep -c -w $(hostname) /etc/hosts; cat /etc/hosts");
    let lines: Vec<_> = shown.lines().collect();
    assert_eq!((lines[0], lines[2]), (lines[1], "1"), "{shown}");
    let call = world.run(["--hostname", "web-1", "busybox", "cat", "/etc/hosts"]);
    let hosts = with_templates(call).outcome().success();
    assert!(hosts.contains("\tweb-1\n") && !hosts.contains(lines[0]), "{hosts}");
}

#[test]
fn a_copy_has_its_network_from_the_start() {
    let (world, _) = warm_world();
    let state = script(&world, "cat /sys/class/net/eth0/operstate; ip route");
    assert!(state.starts_with("up\n") && state.contains("default via 10.0.2.2"), "{state}");
}

#[test]
fn twenty_copies_at_once_all_work() {
    let (world, key) = warm_world();
    restores(&world, &key, || {
        let name = |number: usize| format!("copy-{number}");
        let call = |number| {
            let call = world.run(["--name", &name(number), "busybox", "hostname"]);
            with_templates(call).deadline(Duration::from_secs(240)).start()
        };
        let running: Vec<_> = (0..20).map(call).collect();
        for (number, run) in running.into_iter().enumerate() {
            assert_eq!(run.wait().success().trim(), name(number));
        }
    });
}

//! Templates that are gone, damaged, or do not work: a run then boots, and nobody else notices.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use microagent_tests::processes_of;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Uses, at_rest, last_uses, restores, script, warm_world, with_templates};

/// Does something to a template's directory.
type Damage = fn(&Path);

#[test]
fn a_damaged_template_is_replaced() {
    let damages: [(&str, Damage); 4] = [
        ("a state that is cut off", |place| shorten(&place.join("state"))),
        ("a state with a wrong bit", |place| flip_a_bit(&place.join("state"))),
        ("a memory that is cut off", |place| shorten(&place.join("memory"))),
        ("a record that is none", |place| std::fs::write(place.join("template.json"), "{").unwrap()),
    ];
    let (world, key) = warm_world();
    for (damage, inflict) in damages {
        inflict(&world.home().join("templates").join(&key));
        assert_eq!(script(&world, "echo hello"), "hello\n", "{damage}");
        at_rest(&world);
        restores(&world, &key, || assert_eq!(script(&world, "echo hello"), "hello\n", "{damage}"));
    }
}

#[test]
fn a_template_that_does_not_work_costs_a_boot_and_is_gone() {
    let damages: [(&str, Damage); 3] = [
        ("a state that QEMU refuses", |place| {
            rewrite_state(place, |state| {
                let name = b"virtio-console";
                let at = state.windows(name.len()).position(|window| window == name).unwrap();
                state[at] = b'x';
            });
        }),
        ("a state that ends early", |place| rewrite_state(place, |state| state.truncate(state.len() / 2))),
        ("a memory of zeros", |place| {
            let memory = File::options().write(true).open(place.join("memory")).unwrap();
            let size = memory.metadata().unwrap().len();
            memory.set_len(0).unwrap();
            memory.set_len(size).unwrap();
        }),
    ];
    for (damage, inflict) in damages {
        let (world, key) = warm_world();
        inflict(&world.home().join("templates").join(&key));
        assert_eq!(script(&world, "echo hello"), "hello\n", "{damage}");
        assert_eq!(last_uses(&world), Uses::new(), "{damage}");
        assert_eq!(processes_of(world.home()), [], "{damage}");
    }
}

#[test]
fn a_copy_that_does_not_wake_up_is_given_up() {
    let (world, key) = warm_world();
    rewrite_state(&world.home().join("templates").join(&key), |state| {
        // QEMU restores a machine as what it was saved as.
        let (running, paused) = (b"running", b"paused\0");
        let at = state.windows(running.len()).position(|window| window == running).unwrap();
        state[at..at + paused.len()].copy_from_slice(paused);
    });
    assert_eq!(script(&world, "echo hello"), "hello\n");
    assert_eq!(last_uses(&world), Uses::new());
    assert_eq!(processes_of(world.home()), []);
}

#[test]
fn a_template_in_use_survives_its_deletion() {
    let (world, key) = warm_world();
    let first = "echo begun; sleep 2; cat /bin/busybox | wc -c; ls / | wc -l; echo ok";
    let mut running = with_templates(world.script(first)).start();
    running.wait_for("begun");
    world.microagent(["template", "delete", &key]).outcome().success();
    assert_eq!(last_uses(&world), Uses::new());
    assert!(running.wait().success().ends_with("ok\n"));
}

fn shorten(path: &Path) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
}

fn flip_a_bit(path: &Path) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let middle = file.metadata().unwrap().len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, middle).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], middle).unwrap();
}

/// Changes the devices' state, and the record so that it fits.
fn rewrite_state(place: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut state = std::fs::read(place.join("state")).unwrap();
    change(&mut state);
    std::fs::write(place.join("state"), &state).unwrap();
    let path = place.join("template.json");
    let mut record: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let digest: Vec<_> = Sha256::digest(&state).iter().map(|byte| format!("{byte:02x}")).collect();
    record["state_sha256"] = digest.concat().into();
    record["state_size"] = state.len().into();
    std::fs::write(path, record.to_string()).unwrap();
}

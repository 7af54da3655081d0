//! Many at once.

use std::path::PathBuf;
use std::time::Duration;

use microagent_tests::World;

#[test]
fn ten_runs_at_once_all_succeed() {
    let world = World::own().warm();
    let before = world.listing();
    let running: Vec<_> = (0..10)
        .map(|number| {
            world.script(&format!("echo {number}; exit {number}")).deadline(Duration::from_secs(240)).start()
        })
        .collect();
    for (number, run) in (0..).zip(running) {
        assert_eq!(run.wait().output(number), format!("{number}\n"));
    }
    assert_eq!(world.new_since(&before), Vec::<PathBuf>::new());
}

#[test]
fn the_first_use_of_an_image_may_happen_many_times_at_once() {
    let world = World::own();
    for part in ["rootfs", "boot"] {
        for entry in std::fs::read_dir(world.home().join(part)).unwrap() {
            std::fs::remove_file(entry.unwrap().path()).unwrap();
        }
    }
    let running: Vec<_> = (0..3).map(|_| world.run(["busybox", "echo", "first"]).start()).collect();
    for run in running {
        assert_eq!(run.wait().success(), "first\n");
    }
}

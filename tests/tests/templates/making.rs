//! How templates come to be: after a first run or on demand, once, and whole or not at all.

use std::path::PathBuf;
use std::time::Duration;

use microagent_tests::{World, processes_of, wait_until};
use rustix::process::Signal;
use serde_json::Value;

use super::{at_rest, last_uses, restores, script, warm, with_templates};

const MOMENTS: u64 = 5;
/// The first so many milliseconds of a making.
const SPAN: u64 = 3000;

#[test]
fn a_run_makes_a_template_and_the_next_starts_from_it() {
    let world = World::own();
    script(&world, "true");
    at_rest(&world);
    let key = last_uses(&world).into_keys().next().unwrap();
    restores(&world, &key, || assert_eq!(script(&world, "echo hello"), "hello\n"));
    assert_eq!(processes_of(world.home()), []);
}

#[test]
fn of_four_that_make_a_template_at_once_one_does() {
    let world = World::own();
    let call = || with_templates(world.microagent(["template", "warm", "--json", "busybox"])).start();
    let running: Vec<_> = (0..4).map(|_| call()).collect();
    let answers: Vec<Value> =
        running.into_iter().map(|run| serde_json::from_str(&run.wait().success()).unwrap()).collect();
    let made = answers.iter().filter(|answer| answer["made"] == true).count();
    assert_eq!(made, 1, "{answers:?}");
    let keys: Vec<_> = last_uses(&world).into_keys().collect();
    assert!(answers.iter().all(|answer| answer["key"] == *keys[0]), "{answers:?}");
    assert_eq!((keys.len(), work_in_progress(&world)), (1, Vec::new()));
}

#[test]
fn a_maker_that_is_killed_leaves_nothing_for_long() {
    let world = World::own();
    for number in 1..=MOMENTS {
        let moment = Duration::from_millis((number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % SPAN);
        let maker = with_templates(world.microagent(["template", "warm", "busybox"])).start();
        std::thread::sleep(moment);
        maker.signal(Signal::KILL);
        maker.wait();
        wait_until(Duration::from_secs(5), || processes_of(world.home()));
        for key in last_uses(&world).keys() {
            // It was whole before it was killed.
            restores(&world, key, || assert_eq!(script(&world, "echo sound"), "sound\n"));
            world.microagent(["template", "delete", key]).outcome().success();
        }
    }
    let key = warm(&world, &["busybox"]);
    assert_eq!(last_uses(&world).into_keys().collect::<Vec<_>>(), [key]);
    assert_eq!(work_in_progress(&world), Vec::<PathBuf>::new());
}

/// What lies in the state directory beside what is finished.
fn work_in_progress(world: &World) -> Vec<PathBuf> {
    let paths = |place: &str| {
        let entries = std::fs::read_dir(world.home().join(place)).unwrap();
        entries.map(|entry| entry.unwrap().path())
    };
    let locks = paths("templates").filter(|path| path.extension().is_some());
    paths("tmp").chain(locks).collect()
}

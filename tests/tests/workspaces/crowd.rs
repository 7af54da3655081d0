//! Many at once.

use std::time::Duration;

use microagent_tests::{World, processes_of, wait_until};

use super::{SERVICE, state};

#[test]
fn thirty_workspaces_live_and_die_by_eight_hands() {
    let world = World::own().warm_machine();
    let names: Vec<String> = (0..30).map(|number| format!("box-{number}")).collect();
    let each = |call: &(dyn Fn(&str) + Sync)| {
        std::thread::scope(|scope| {
            for hand in 0..8 {
                let names = &names;
                scope.spawn(move || names.iter().skip(hand).step_by(8).for_each(|name| call(name)));
            }
        });
    };
    each(&|name| {
        let flags = ["create", "--image", "busybox", "--memory", "1g", "--name", name];
        world.microagent(flags).args(["sh", "-c", SERVICE]).outcome().success();
        world.microagent(["start", name]).outcome().success();
    });
    let running = world.microagent(["ps", "-q"]).outcome().success();
    assert_eq!(running.lines().count(), 30);
    each(&|name| {
        world.microagent(["stop", "--timeout", "60", name]).outcome().success();
        world.microagent(["delete", "--yes", name]).outcome().success();
    });
    assert_eq!(world.microagent(["list", "-q"]).outcome().success(), "");
    wait_until(Duration::from_secs(10), || processes_of(world.home()));
}

#[test]
fn starts_of_the_same_workspace_at_once_make_one_machine() {
    let world = World::own().warm_machine();
    world
        .microagent(["create", "--name", "box", "--image", "busybox", "sh", "-c", SERVICE])
        .outcome()
        .success();
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| world.microagent(["start", "box"]).outcome().success());
        }
    });
    let events = world.microagent(["events", "box"]).outcome().success();
    assert_eq!(events.matches("started").count(), 1, "{events}");
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| world.microagent(["halt", "box"]).outcome().success());
        }
    });
    assert_eq!(state(&world, "box"), "halted");
}

#[test]
fn creations_of_the_same_name_at_once_make_one_workspace() {
    let world = World::own();
    let codes: Vec<i32> = std::thread::scope(|scope| {
        let create =
            || world.microagent(["create", "--name", "box", "--image", "busybox", "true"]).outcome().code();
        let hands: Vec<_> = (0..6).map(|_| scope.spawn(create)).collect();
        hands.into_iter().map(|hand| hand.join().unwrap()).collect()
    });
    assert_eq!(codes.iter().filter(|code| **code == 0).count(), 1, "{codes:?}");
}

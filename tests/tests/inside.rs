//! Inside a workspace that runs: commands, shells, consoles.

use microagent_tests::World;

mod artifacts;
mod connect;
mod copy;
mod exec;
mod liars;
mod stats;

/// A workspace `box` that runs and does nothing.
fn idle() -> World {
    let world = World::own().warm_machine();
    world
        .run(["-d", "--name", "box", "-e", "FROM=service", "busybox", "sleep", "100000"])
        .outcome()
        .success();
    world
}

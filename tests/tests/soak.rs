//! Many clients at once, who do anything to anybody's workspaces while processes are killed at random.
//!
//! ```text
//! seed ─▶ plan ─▶ client 1 ─┐ operations on five workspaces and two volumes     ledger: what was acknowledged
//!              ─▶ client … ─┤──────────────────────────────────────────────▶   history: what was done, and how it
//!              ─▶ client 4 ─┘ `kill -9` of whoever is there                              ended
//!                                                    then: each survivor is sound and has what was acknowledged,
//!                                                          and when all is deleted nothing at all is left
//! ```
//!
//! `MICROAGENT_SOAK_OPERATIONS` says how many operations there are (200), `MICROAGENT_SOAK_SEED` which. The same seed is
//! the same plan; how its clients overlap is the scheduler's. `make soak` is a long one.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use microagent_tests::World;

mod history;
mod ledger;
mod leftovers;
mod operation;
mod plan;
mod survivors;

use history::History;
use ledger::Ledger;
use leftovers::Leftovers;
use plan::Plan;

const CLIENTS: usize = 4;

/// What a client has at hand.
struct Scene<'a> {
    world: &'a World,
    ledger: Ledger,
    history: History,
}

#[test]
fn nothing_is_lost_and_nothing_is_left_whoever_is_killed() {
    let seed = setting("MICROAGENT_SOAK_SEED", 20_261_125);
    let operations = setting("MICROAGENT_SOAK_OPERATIONS", 200);
    let world = World::own().warm().warm_machine();
    world.microagent(["template", "warm", "--disk-slots", "1"]).outcome().success();
    let before = Leftovers::before(&world);
    let scene = Scene { world: &world, ledger: Ledger::default(), history: History::new(seed, operations) };
    let started = Instant::now();
    let plans: Vec<Plan> = (0..CLIENTS).map(|client| Plan::new(seed, client, operations / CLIENTS)).collect();
    let trouble = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for (client, plan) in plans.into_iter().enumerate() {
            let (scene, trouble) = (&scene, &trouble);
            scope.spawn(move || {
                for operation in plan {
                    if let Err(unexpected) = operation.perform(client, scene) {
                        trouble.lock().unwrap().push(unexpected);
                    }
                }
            });
        }
    });
    let trouble = trouble.into_inner().unwrap();
    assert!(trouble.is_empty(), "{}\n\n{}", scene.history, trouble.join("\n"));
    let took = started.elapsed();
    survivors::check(&scene);
    survivors::delete(&scene);
    before.must_be_all(&world, &scene.history);
    scene.history.must_have_done_something(&scene.ledger);
    summary(&scene, took);
}

#[expect(clippy::print_stderr, reason = "the numbers are what a long one is run for")]
fn summary(scene: &Scene<'_>, took: Duration) {
    eprintln!("{}\n{took:.0?}, then nothing was left", scene.history.summary(&scene.ledger));
}

fn setting<T: std::str::FromStr>(name: &str, default: T) -> T {
    let Ok(text) = std::env::var(name) else { return default };
    text.parse().unwrap_or_else(|_| panic!("`{name}` is no number: {text}"))
}

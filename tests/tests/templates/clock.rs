//! A copy's clocks: the time of day is the host's, and seconds have their length.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use microagent_tests::World;

use super::with_templates;

/// Generous, for loaded machines; on quiet ones the error is a hundredth of it.
const SLACK: Duration = Duration::from_secs(1);

#[test]
fn the_time_is_the_hosts_however_old_the_template() {
    let world = World::shared();
    for _ in 0..3 {
        let before = SystemTime::now();
        let shown = with_templates(world.run(["debian:12", "date", "+%s%N"])).outcome().success();
        let after = SystemTime::now();
        let guest = UNIX_EPOCH + Duration::from_nanos(shown.trim().parse().unwrap());
        assert!(guest + SLACK >= before && guest <= after + SLACK, "{before:?} {guest:?} {after:?}");
    }
}

#[test]
fn a_second_takes_a_second() {
    let world = World::shared();
    let read = "read -r up rest </proc/uptime; echo $up";
    let started = Instant::now();
    let mut running =
        with_templates(world.script(&format!("echo begun; {read}; sleep 1; {read}; echo over"))).start();
    running.wait_for("begun");
    let begun = Instant::now();
    running.wait_for("over");
    let slept = begun.elapsed();
    let shown = running.wait().success();
    let times: Vec<f64> = shown.lines().filter_map(|line| line.parse().ok()).collect();
    let counted = times[1] - times[0];
    // The guest's sleep lies within what passed here, but for what output and rounding take.
    assert!(counted > 0.9 && counted < started.elapsed().as_secs_f64() + 0.1, "{counted}");
    assert!(slept > Duration::from_millis(800), "{slept:?}");
}

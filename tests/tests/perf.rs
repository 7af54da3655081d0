//! Measurements: complete, and without a gap. What they measure is not for tests to judge.

use microagent_tests::World;
use serde_json::Value;

fn measured(world: &World, words: &[&str]) -> Value {
    let document = world.microagent(["perf", "--json"]).args(words).outcome().success();
    if words[0] == "density" {
        crate::schemas::fits("perf-density", &document);
    } else {
        crate::schemas::fits("perf", &document);
    }
    serde_json::from_str(&document).unwrap()
}

#[test]
fn phases_follow_each_other_without_a_gap() {
    let world = World::own().warm().warm_machine();
    let phases: [(&[&str], &[&str]); 6] = [
        (&["run"], &["program", "found", "machine", "agent", "set up", "started", "ended", "teardown"]),
        (
            &["start"],
            &["program", "supervisor", "found", "machine", "agent", "set up", "started", "teardown"],
        ),
        (&["exec"], &["program", "agent", "started", "ended", "teardown"]),
        (&["copy"], &["program", "agent", "copied", "teardown"]),
        (&["copy", "--out"], &["program", "agent", "copied", "teardown"]),
        (&["boot"], &["program", "found", "machine", "agent"]),
    ];
    for (words, expected) in phases {
        let report = measured(&world, &[words, &["--samples", "2", "--image", "busybox"]].concat());
        let names: Vec<_> = report["phases"].as_array().unwrap().iter().map(|phase| &phase["name"]).collect();
        assert_eq!(names, expected);
        assert_eq!(report["samples"], 2);
        assert!(report["accounted"].as_f64().unwrap() > 0.95, "{report}");
        assert!(report["total"]["p50"].as_f64().unwrap() > 0.0, "{report}");
    }
    assert_eq!(world.microagent(["list", "-q"]).outcome().success(), "", "what was measured with is gone");
}

#[test]
fn machines_are_weighed() {
    let world = World::own().warm();
    let density = measured(&world, &["density", "--machines", "2", "--image", "busybox"]);
    for key in ["restored_pss_each", "booted_pss"] {
        assert!(density[key].as_u64().unwrap() > 1 << 20, "{density}");
    }
}

#[test]
fn without_an_image_there_is_nothing_to_measure() {
    let world = World::fresh();
    let error = world.microagent(["perf", "run"]).outcome().error(1);
    assert!(error.contains("no image") && error.contains("microagent pull"), "{error}");
    let error = world.microagent(["perf", "run", "--image", "nothere"]).outcome().error(1);
    assert!(error.contains("`nothere:latest` is not in the store"), "{error}");
}

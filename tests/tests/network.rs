//! Networks: `user` reaches out, `isolated` has none, and ports of a guest are published on this host.

#[path = "network/capturing.rs"]
mod capturing;
#[path = "network/egress.rs"]
mod egress;
#[path = "network/elsewhere.rs"]
mod elsewhere;
#[path = "network/loads.rs"]
mod loads;
#[path = "network/named.rs"]
mod named;
#[path = "network/publishing.rs"]
mod publishing;
#[path = "network/reaching.rs"]
mod reaching;
#[path = "network/searching.rs"]
mod searching;
#[path = "network/services.rs"]
mod services;

use microagent_tests::World;

#[test]
fn an_isolated_guest_has_no_device() {
    let world = World::shared().cold();
    let script =
        "ls /sys/class/net; ping -c 1 -W 5 localhost >/dev/null && echo local; ping -c 1 -W 1 10.0.2.2";
    let outcome = world.run(["--network", "isolated", "busybox", "sh", "-c", script]).outcome();
    assert_eq!(outcome.output(1).lines().take(2).collect::<Vec<_>>(), ["lo", "local"]);
}

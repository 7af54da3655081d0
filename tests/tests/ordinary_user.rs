//! Nothing needs root: a user without an account, from nothing to a running microVM.

use std::os::unix::fs::chown;
use std::time::Duration;

use microagent_tests::{Invocation, World, kernel_package, processes_of, wait_until};

const USER: u32 = 54_321;

fn as_user(call: Invocation) -> Invocation {
    let user = format!("--reuid={USER}");
    let group = format!("--regid={USER}");
    call.through(&["setpriv", &user, &group, "--clear-groups", "--no-new-privs", "--bounding-set=-all"])
}

fn needs_root() {
    assert!(
        rustix::process::geteuid().is_root(),
        "this story becomes another user: run it as root (sudo -E)"
    );
}

#[test]
fn a_user_without_an_account_needs_nobody() {
    needs_root();
    let world = World::of_user(USER).cold();
    let package = world.path().join("kernel.deb");
    std::fs::copy(kernel_package(), &package).unwrap();
    chown(&package, Some(USER), Some(USER)).unwrap();
    let package = package.to_str().unwrap().to_owned();
    as_user(world.microagent(["kernel", "install", "--deb", &package])).outcome().success();
    let load = as_user(world.microagent(["load", "--name", "busybox"]));
    load.input_from(world.busybox_archive()).outcome().success();
    let call = as_user(world.run(["busybox", "sh", "-c", "id -u; nproc; echo text > /file && cat /file"]));
    assert_eq!(call.outcome().success(), "0\n1\ntext\n");
    wait_until(Duration::from_secs(5), || processes_of(world.home()));
}

#[test]
fn a_kernel_is_installed_with_apt_without_root() {
    needs_root();
    let world = World::of_user(USER).cold();
    let call = as_user(world.microagent(["kernel", "install"]));
    let release = call.deadline(Duration::from_secs(600)).outcome().success();
    let listed = as_user(world.microagent(["kernel", "list"])).outcome().success();
    assert!(listed.contains(release.trim()), "{listed}");
}

#[test]
fn another_users_home_is_refused() {
    needs_root();
    let world = World::of_user(USER).cold();
    let foreign = world.path().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    let call = as_user(world.microagent(["images", "--home", foreign.to_str().unwrap()]));
    let error = call.outcome().error(1);
    assert!(error.contains("belongs to user 0") && error.contains("hint:"), "{error}");
}

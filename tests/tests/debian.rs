//! A real distribution as an image.

use microagent_tests::World;

#[test]
fn owners_modes_and_capabilities_are_the_images() {
    let world = World::shared();
    let script = "stat -c '%A %U:%G %n' /etc/shadow /bin/su /tmp /var/mail; \
                  python3 -c 'import os; print(len(os.getxattr(\"/bin/ping\", \"security.capability\")))'";
    let shown = world.run(["debian:12", "bash", "-c", script]).outcome().success();
    let expected = [
        "-rw-r----- root:shadow /etc/shadow",
        "-rwsr-xr-x root:root /bin/su",
        "drwxrwxrwt root:root /tmp",
        "drwxrwsr-x root:mail /var/mail",
        "20",
    ];
    assert_eq!(shown.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn its_programs_run() {
    let world = World::shared();
    let shown = world.run(["debian:12", "apt-get", "--version"]).outcome().success();
    assert!(shown.starts_with("apt 2."), "{shown}");
    let python = "import sys; print(sum(range(1000))); sys.exit(7)";
    assert_eq!(world.run(["debian:12", "python3", "-c", python]).outcome().output(7), "499500\n");
}

#[test]
fn packages_can_be_removed_and_files_replaced() {
    let world = World::shared();
    let script = "dpkg --purge iputils-ping >/dev/null && ! test -e /bin/ping && dpkg -l | grep -c '^ii' && \
                  mv /etc/apt /etc/other && ls /etc/other && ! ls /etc/apt 2>/dev/null";
    let shown = world.run(["debian:12", "bash", "-c", script]).outcome().success();
    assert!(shown.contains("sources.list"), "{shown}");
}

#[test]
fn an_ordinary_user_uses_a_setuid_program() {
    let world = World::shared();
    let script = "passwd -S; id -u";
    let shown = world.run(["-u", "nobody", "debian:12", "bash", "-c", script]).outcome().success();
    assert!(shown.starts_with("nobody ") && shown.ends_with("\n65534\n"), "{shown}");
}

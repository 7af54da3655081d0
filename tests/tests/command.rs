//! What is started: the image's configuration, and what the user says instead.

use microagent_tests::World;

fn lines(text: &str) -> Vec<&str> {
    text.lines().collect()
}

#[test]
fn the_images_configuration_is_honoured() {
    let world = World::shared();
    assert_eq!(world.run(["configured"]).outcome().success(), "entry command\n");
    assert_eq!(world.run(["configured", "other", "words"]).outcome().success(), "entry other words\n");
    let script = "pwd; id -u; id -g; id -G; echo $ORIGIN; echo $GREETING; echo $PATH; echo $HOME";
    let shown = world.run(["--entrypoint", "sh", "configured", "-c", script]).outcome().success();
    let expected =
        ["/srv/work", "1000", "1000", "1000 44", "image", "hello from the image", "/bin", "/home/app"];
    assert_eq!(lines(&shown), expected);
}

#[test]
fn an_image_without_more_words_runs_its_command() {
    let world = World::shared();
    let outcome = world.run(["-i", "busybox"]).bytes("echo from the shell\n").outcome();
    assert_eq!(outcome.success(), "from the shell\n");
}

#[test]
fn variables_come_from_the_image_then_files_then_flags() {
    let world = World::shared();
    let file = world.path().join("variables");
    std::fs::write(&file, "# a comment\n\nA=file\nB=file with spaces\nFROM_HOST\nORIGIN=file\n").unwrap();
    let file = file.to_str().unwrap();
    let arguments =
        ["--env-file", file, "-e", "A=flag", "-e", "PASSED", "-e", "ABSENT", "-e", "EMPTY=", "-e", "TWO=a=b"];
    let script = "echo $A; echo \"$B\"; echo $FROM_HOST; echo $ORIGIN; echo $PASSED; echo ${ABSENT-unset}; \
                  echo \"[${EMPTY-unset}]\"; echo $TWO";
    let call = world.run(arguments).args(["--entrypoint", "sh", "configured", "-c", script]);
    let shown = call.env("PASSED", "on").env("FROM_HOST", "host").outcome().success();
    assert_eq!(lines(&shown), ["flag", "file with spaces", "host", "file", "on", "unset", "[]", "a=b"]);
}

#[test]
fn the_hosts_environment_stays_on_the_host() {
    let world = World::shared();
    let shown = world.run(["busybox", "env"]).env("SECRET", "of the host").outcome().success();
    assert!(!shown.contains("SECRET") && !shown.contains("MICROAGENT"), "{shown}");
}

#[test]
fn an_environment_file_that_is_not_there_is_named() {
    let world = World::shared();
    let error = world.run(["--env-file", "/no/such", "busybox", "true"]).outcome().error(125);
    assert!(error.contains("`/no/such`"), "{error}");
}

#[test]
fn the_working_directory_is_made_if_it_is_missing() {
    let world = World::shared();
    let shown = world.run(["-w", "/a/new/one", "busybox", "sh", "-c", "pwd; echo $PWD"]).outcome().success();
    assert_eq!(lines(&shown), ["/a/new/one"; 2]);
    let error = world.run(["-w", "a/b", "busybox", "true"]).outcome().error(125);
    assert!(error.contains("`a/b`"), "{error}");
}

#[test]
fn users_and_groups_are_the_images() {
    let world = World::shared();
    let users = [
        ("app", "1000 1000 1000 44 /home/app"),
        ("1000", "1000 1000 1000 44 /home/app"),
        ("1000:45", "1000 45 45 /home/app"),
        ("app:extra", "1000 44 44 /home/app"),
        ("4000", "4000 0 0 /"),
        ("4000:4001", "4000 4001 4001 /"),
    ];
    for (user, expected) in users {
        let script = "echo $(id -u) $(id -g) $(id -G) $HOME";
        let shown = world.run(["-u", user, "busybox", "sh", "-c", script]).outcome().success();
        assert_eq!(shown.trim(), expected, "{user}");
    }
}

#[test]
fn a_user_that_is_not_in_the_image_is_125() {
    let world = World::shared();
    let error = world.run(["-u", "stranger", "busybox", "true"]).outcome().error(125);
    assert!(error.contains("no user `stranger`"), "{error}");
}

#[test]
fn an_ordinary_user_can_write_where_ordinary_users_can() {
    let world = World::shared();
    let script = "echo text > /tmp/file && echo text > /dev/shm/file && echo text >&2 && \
                  ! touch /etc/file 2>/dev/null && echo ok > /dev/stdout";
    assert_eq!(world.run(["-u", "app", "busybox", "sh", "-c", script]).outcome().success(), "ok\n");
}

#[test]
fn words_that_look_like_flags_are_the_commands() {
    let world = World::shared();
    let words = ["--json", "-i", "--", "--help", "", "a b", "$HOME", "ünïcode"];
    let shown = world.run(["busybox", "printf", "%s\\n"]).args(words).outcome().success();
    assert_eq!(lines(&shown), words);
}

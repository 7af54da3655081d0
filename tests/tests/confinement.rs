//! What QEMU is confined by, tried from inside; and hosts that lack parts of it.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use microagent_tests::{Invocation, World, succeed, wait_until};
use rustix::process::Pid;
use serde_json::Value;

/// Attempts that need a right that a container's root may lack, or a device that a host may lack.
const NOT_FOR_EVERY_ROOT: [&str; 8] = [
    "raise a limit",
    "take capabilities",
    "open a disk of the host",
    "make a vsock socket",
    "use io_uring",
    "make a BPF map",
    "keep a key in the kernel",
    "use userfaultfd",
];

/// Where the parts are each by itself: what Landlock refuses without the others.
const BY_LANDLOCK: [&str; 12] = [
    "read a file of the user",
    "write a file of the user",
    "shorten a file of the user",
    "rename a file of the user",
    "make a file beside it",
    "list its directory",
    "read /etc/passwd",
    "list processes",
    "read another process's environment",
    "open another process's memory",
    "steer the kernel through /proc/sys",
    "execute a shell",
];

/// What a supervisor takes away from itself.
const NOT_FOR_SUPERVISORS: [&str; 13] = [
    "read a file of the user",
    "write a file of the user",
    "shorten a file of the user",
    "rename a file of the user",
    "make a file beside it",
    "make a directory beside it",
    "list its directory",
    "read another process's environment",
    "open another process's memory",
    "steer the kernel through /proc/sys",
    "signal the process that started it",
    "trace it",
    "read its memory",
];

/// What namespaces refuse without the others.
const BY_NAMESPACES: [&str; 9] = [
    "connect to a TCP service",
    "send a UDP datagram",
    "connect to an abstract Unix socket",
    "signal the process that started it",
    "open a handle on it",
    "trace it",
    "read its memory",
    "make a user namespace",
    "become another user",
];

/// What the filter refuses without the others.
const BY_FILTER: [&str; 16] = [
    "connect to a TCP service",
    "listen on a TCP port",
    "connect to a Unix socket",
    "connect to an abstract Unix socket",
    "make a netlink socket",
    "signal the process that started it",
    "open a handle on it",
    "start a process",
    "use io_uring",
    "share memory by number",
    "change its mode",
    "watch its directory",
    "make a user namespace",
    "make a network namespace",
    "mount a file system",
    "change the root directory",
];

/// Delegates a part of the hierarchy of control groups to user 1000, as a service manager does, and has that user run a line
/// in it. Its last word is the line.
const DELEGATED: &str = r#"
cd /sys/fs/cgroup || exit
[ -e cgroup.procs ] || mount -t cgroup2 none . && cd /sys/fs/cgroup || exit
mkdir -p given/leaf
echo '+cpu +memory +pids' > cgroup.subtree_control || exit
echo '+cpu +memory +pids' > given/cgroup.subtree_control || exit
chown 1000 given given/cgroup.procs given/leaf given/leaf/cgroup.procs
echo $$ > given/leaf/cgroup.procs || exit
exec setpriv --reuid 1000 --clear-groups --inh-caps=-all /grouped "$0"
"#;

#[test]
fn where_control_groups_are_delegated_each_process_has_one_and_leaves_none() {
    let world = World::own().warm_machine();
    world.run(["-d", "--name", "box", "debian:12", "sleep", "1000"]).outcome().success();
    world.microagent(["cp", env!("CARGO_BIN_EXE_grouped"), "box:/grouped"]).outcome().success();
    let grouped = |script: &str, line: &str| -> Value {
        let call = world.microagent(["exec", "box", "bash", "-c", script, line]);
        serde_json::from_str(&call.outcome().success()).unwrap()
    };
    let limits = "exec >&2; cat /proc/self/cgroup; cd /sys/fs/cgroup/given/microagent-*; \
        cat memory.max pids.max cpu.max memory.oom.group";
    let found = grouped(DELEGATED, limits);
    let group = found["group"].as_str().unwrap();
    assert!(group.starts_with("/sys/fs/cgroup/given/microagent-"), "{found}");
    let expected = [
        &format!("0::{}", group.strip_prefix("/sys/fs/cgroup").unwrap()),
        "67108864",
        "10",
        "200000 100000",
        "1",
    ];
    assert_eq!(found["said"].as_str().unwrap().lines().collect::<Vec<_>>(), expected);
    assert_eq!((&found["ended"], &found["left"]), (&"exit status: 0".into(), &false.into()));

    let found = grouped(DELEGATED, "tail /dev/zero");
    assert_eq!((&found["ended"], &found["left"]), (&"signal: 9 (SIGKILL)".into(), &false.into()));
    // To a user to whom nothing is delegated.
    let found = grouped("exec setpriv --reuid 1001 --clear-groups --inh-caps=-all /grouped \"$0\"", "exit 3");
    assert_eq!((&found["ended"], &found["group"]), (&"exit status: 3".into(), &Value::Null));
}

/// What the kernel says of a process.
fn told(pid: u64, file: &str) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap()
}

/// The kernel's account of a machine's process: the parts that it tells of, as they are in the process that runs the guest.
fn is_confined(machine: u64) {
    let status = told(machine, "status");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(field("NoNewPrivs:"), ["1"]);
    assert_eq!(field("CapEff:"), ["0000000000000000"]);
    assert_eq!(field("CapPrm:"), ["0000000000000000"]);
    assert_eq!(field("Seccomp_filters:"), ["3"], "two of ours and QEMU's own");
    assert_eq!(field("NSpid:")[1..], ["1"], "the first of its namespace");
    assert_eq!(told(machine, "environ"), "");
    assert_eq!(told(machine, "net/dev").lines().count(), 3, "two lines of heading, and `lo`");
    let namespace = |pid: &str, kind: &str| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
    for kind in ["user", "pid", "net", "mnt", "ipc", "uts"] {
        assert_ne!(namespace(&machine.to_string(), kind), namespace("self", kind), "{kind}");
    }
    no_dumps(machine);
    reads_its_template_only(machine);
}

/// What it has open of the template that it was restored from.
fn reads_its_template_only(machine: u64) {
    let open = std::fs::read_dir(format!("/proc/{machine}/fd")).unwrap().map(|entry| entry.unwrap().path());
    let of_template: Vec<_> = open
        .filter(|path| std::fs::read_link(path).is_ok_and(|to| to.ends_with("memory") && to.is_absolute()))
        .map(|path| path.file_name().unwrap().to_owned().into_string().unwrap())
        .collect();
    assert_eq!(of_template.len(), 2, "what it was given, and what it opened");
    for descriptor in of_template {
        let about = told(machine, &format!("fdinfo/{descriptor}"));
        let flags = about.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
        assert_eq!(i32::from_str_radix(flags, 8).unwrap() & 0o3, 0, "open for reading: {about}");
    }
}

fn is_hardened(supervisor: u64) {
    assert!(told(supervisor, "status").contains("NoNewPrivs:\t1"));
    no_dumps(supervisor);
}

fn no_dumps(pid: u64) {
    let limits = told(pid, "limits");
    let line = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
    assert_eq!(line.split_whitespace().take(2).collect::<Vec<_>>(), ["1", "1"], "{limits}");
}

/// The attempts and how each was refused.
struct Trial {
    held: Value,
    attempts: Vec<(String, Option<String>)>,
}

impl Trial {
    fn of(call: Invocation) -> Self {
        let trial: Value = serde_json::from_str(&call.outcome().success()).unwrap();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let attempts = trial["attempts"].as_array().unwrap().iter();
        let attempts = attempts.map(|one| (text(&one["what"]).unwrap(), text(&one["refused"]))).collect();
        Self { held: trial["held"].clone(), attempts }
    }

    fn succeeded(&self) -> Vec<&str> {
        self.attempts.iter().filter(|(_, refused)| refused.is_none()).map(|(what, _)| &**what).collect()
    }

    fn refused(&self, what: &str) -> bool {
        let found = self.attempts.iter().find(|(name, _)| name == what);
        found.unwrap_or_else(|| panic!("nobody tried to {what}")).1.is_some()
    }
}

fn attempts(world: &World, words: &[&str]) -> Invocation {
    world.microagent(["try-confinement"]).args(words)
}

fn lesser_host(call: Invocation, lacking: &str) -> Invocation {
    call.through(&[env!("CARGO_BIN_EXE_lesser-host"), lacking])
}

/// Secrets of the state directory, which a file that is not among QEMU's own may be.
fn secrets(world: &World) -> Vec<PathBuf> {
    let home = world.home();
    ["images/index.json", "kernels", "templates", "workspaces"].map(|name| home.join(name)).to_vec()
}

#[test]
fn everything_is_refused_from_inside_and_nothing_outside() {
    let world = World::shared();
    let secrets = secrets(&world);
    let secrets: Vec<_> = secrets.iter().map(|path| path.to_str().unwrap()).collect();
    let inside = Trial::of(attempts(&world, &secrets));
    assert_eq!(inside.held["missing"], serde_json::json!([]), "this host lacks a part");
    assert_eq!(inside.succeeded(), [""; 0]);
    assert!(inside.attempts.len() >= 54 + secrets.len(), "{}", inside.attempts.len());

    let outside = Trial::of(attempts(&world, &secrets).args(["--unconfined"]));
    assert_eq!(outside.attempts.len(), inside.attempts.len());
    let refused = outside.attempts.iter().filter(|(_, refused)| refused.is_some()).map(|(what, _)| &**what);
    let refused: Vec<_> = refused.filter(|what| !NOT_FOR_EVERY_ROOT.contains(what)).collect();
    if rustix::process::geteuid().is_root() {
        assert_eq!(refused, [""; 0], "an attempt that fails anyway shows nothing");
    }
}

#[test]
fn everything_is_refused_to_an_ordinary_user_too() {
    assert!(rustix::process::geteuid().is_root(), "this becomes another user: run it as root (sudo -E)");
    let world = World::of_user(54_321).cold();
    let user = ["setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups", "--bounding-set=-all"];
    let inside = Trial::of(attempts(&world, &[]).through(&user));
    assert_eq!(inside.held["missing"], serde_json::json!([]), "this host lacks a part");
    assert_eq!(inside.succeeded(), [""; 0]);
    let outside = Trial::of(attempts(&world, &["--unconfined"]).through(&user));
    for what in
        ["read a file of the user", "connect to a TCP service", "make a user namespace", "execute a shell"]
    {
        assert!(!outside.refused(what), "{what}");
    }
}

#[test]
fn each_part_holds_without_the_others() {
    let world = World::shared();
    let only = |others: [&str; 2], expected: &[&str]| {
        let words: Vec<_> = others.iter().flat_map(|part| ["--leave-out", part]).collect();
        let trial = Trial::of(attempts(&world, &words));
        let open: Vec<_> = expected.iter().filter(|what| !trial.refused(what)).collect();
        assert!(open.is_empty(), "without {others:?} these succeed: {open:?}");
        assert!(!trial.succeeded().is_empty(), "what is left out is left out");
    };
    only(["namespaces", "filter"], &BY_LANDLOCK);
    only(["landlock", "filter"], &BY_NAMESPACES);
    only(["landlock", "namespaces"], &BY_FILTER);
}

#[test]
fn a_supervisor_cannot_reach_the_users_other_files_and_processes() {
    let world = World::shared();
    let trial = Trial::of(attempts(&world, &["--as", "supervisor"]));
    let open: Vec<_> = NOT_FOR_SUPERVISORS.iter().filter(|what| !trial.refused(what)).collect();
    assert!(open.is_empty(), "these succeed: {open:?}");
    assert!(!trial.refused("connect to a TCP service"), "the network is the guest's");
    assert!(!trial.refused("start a process"), "it starts QEMU");
}

#[test]
fn a_run_in_the_foreground_cannot_reach_the_users_other_files_and_processes() {
    let world = World::shared();
    let place = world.path().join("outputs");
    std::fs::create_dir_all(&place).unwrap();
    let trial = Trial::of(attempts(&world, &["--as", "run"]).directory(&place));
    let open: Vec<_> = NOT_FOR_SUPERVISORS.iter().filter(|what| !trial.refused(what)).collect();
    assert!(open.is_empty(), "these succeed: {open:?}");
    assert!(!trial.refused("connect to a TCP service"), "the network is the guest's");

    // The real one: each of its threads, and where its output goes.
    let run =
        world.run(["--output", "made=/made:out/made", "-i", "busybox", "sh", "-c", "echo up; cat >/made"]);
    std::fs::create_dir_all(place.join("out")).unwrap();
    let mut running = run.directory(&place).open_input().start();
    running.wait_for("up");
    let pid = running.pid().as_raw_nonzero();
    let threads =
        std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(|thread| thread.unwrap().path());
    for thread in threads {
        let status = std::fs::read_to_string(thread.join("status")).unwrap();
        assert!(status.contains("NoNewPrivs:\t1"), "a thread is as free as before: {status}");
    }
    is_hardened(u64::try_from(pid.get()).unwrap());
    running.input.as_mut().unwrap().write_all(b"content").unwrap();
    running.wait().success();
    assert_eq!(std::fs::read_to_string(place.join("out/made")).unwrap(), "content");
}

#[test]
fn what_reads_foreign_bytes_can_do_nothing_else() {
    let world = World::shared();
    // It is shown without the parts that it is launched with beside: what is listed here it takes away from itself.
    let trial = Trial::of(attempts(&world, &["--as", "reader"]));
    assert_eq!(trial.succeeded(), [""; 0]);
}

/// The process that a command started to read foreign bytes, once it has locked itself in.
fn reader_of(command: Pid) -> u64 {
    let command = command.as_raw_nonzero();
    let children = || {
        let path = format!("/proc/{command}/task/{command}/children");
        let children = std::fs::read_to_string(path).unwrap_or_default();
        children.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<u64>>()
    };
    // The filter that it is launched with, and the one that it puts on itself.
    let locked = |pid: &u64| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|line| line == "Seccomp_filters:\t2")
    };
    wait_until(Duration::from_secs(60), || {
        if children().iter().any(locked) { vec![] } else { vec!["no reader is locked in"] }
    });
    children().into_iter().find(locked).unwrap()
}

#[test]
fn archives_and_packages_are_read_by_a_process_that_has_none_of_the_users_files() {
    let world = World::shared();
    let pipe = world.path().join("package.deb");
    succeed(Command::new("mkfifo").arg(&pipe));
    // Each begins, and goes on when its reader was looked at; what goes on is none of these.
    let cases: [(&[&str], &str, &[u8]); 3] = [
        (&["load"], "archive", &[b'x'; 64]),
        (&["import", "-", "none:1"], "packed", b"\x1f\x8b\x08\0\0\0"),
        (&["kernel", "install", "--deb", pipe.to_str().unwrap()], "kernel-package", b"!<arch>\n"),
    ];
    for (words, job, beginning) in cases {
        let mut running = world.microagent(words).open_input().start();
        let mut input: Box<dyn Write> = if job == "kernel-package" {
            Box::new(File::options().write(true).open(&pipe).unwrap())
        } else {
            Box::new(running.input.take().unwrap())
        };
        input.write_all(beginning).unwrap();
        let reader = reader_of(running.pid());
        assert!(
            told(reader, "cmdline").ends_with(&format!("\0read\0{job}\0")),
            "{}",
            told(reader, "cmdline")
        );
        let mut open: Vec<_> = std::fs::read_dir(format!("/proc/{reader}/fd"))
            .unwrap()
            .map(|entry| std::fs::read_link(entry.unwrap().path()).unwrap().display().to_string())
            .map(|target| target.split(':').next().unwrap().to_owned())
            .collect();
        open.sort();
        assert_eq!(open, ["/dev/null", "/dev/null", "pipe", "pipe", "pipe", "socket"], "{job}");
        assert_eq!(told(reader, "net/dev").lines().count(), 3, "two lines of heading, and `lo`");
        assert_eq!(told(reader, "environ"), "");
        no_dumps(reader);
        drop(input);
        running.wait().error(1);
    }
}

#[test]
fn what_a_reader_leaves_out_of_an_image_is_told() {
    let world = World::own();
    let mut layer = tar::Builder::new(Vec::new());
    layer.append_pax_extensions([("SCHILY.xattr.odd.attribute", &b"1"[..])]).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_size(0);
    layer.append_data(&mut header, "file", std::io::empty()).unwrap();
    world.microagent(["import", "-", "odd:1"]).bytes(layer.into_inner().unwrap()).outcome().success();
    // It needs no machine, so it gets none.
    let run = world.microagent(["-v", "run", "--require-confinement", "odd:1", "true"]);
    let said = lesser_host(run, "namespaces").outcome().error(125);
    assert!(said.contains("dropped an extended attribute path=\"file\" name=\"odd.attribute\""), "{said}");
}

#[test]
fn a_host_that_lacks_a_part_is_told_and_confines_with_the_others() {
    let world = World::shared();
    for (lacking, part, still) in [
        ("landlock", "landlock", "connect to a TCP service"),
        ("namespaces", "namespaces", "read a file of the user"),
        ("read-only", "read_only", "read a file of the user"),
    ] {
        let trial = Trial::of(lesser_host(attempts(&world, &[]), lacking));
        let missing = trial.held["missing"].as_array().unwrap();
        assert_eq!(missing.len(), 1, "{missing:?}");
        assert_eq!(missing[0]["part"], part);
        assert!(trial.refused(still), "{still}");

        let doctor = lesser_host(world.microagent(["doctor"]), lacking).outcome().success();
        let line = doctor.lines().find(|line| line.contains("confinement")).unwrap();
        assert!(
            line.starts_with('⚠') && line.to_lowercase().contains(&format!("has not {lacking}")),
            "{line}"
        );

        let run = lesser_host(world.run(["busybox", "echo", "here"]), lacking);
        assert_eq!(run.outcome().success(), "here\n");
    }
}

#[test]
fn what_is_required_is_there_or_nothing_boots() {
    let world = World::shared();
    let run = |required: bool| {
        let words: &[&str] = if required { &["--require-confinement"] } else { &[] };
        world.run(words.iter().copied().chain(["busybox", "echo", "here"]))
    };
    assert_eq!(run(true).outcome().success(), "here\n");
    for (lacking, part) in [
        ("landlock", "Landlock"),
        ("namespaces", "namespaces"),
        ("landlock,namespaces", "Landlock"),
        ("read-only", "read-only templates"),
    ] {
        let error = lesser_host(run(true), lacking).outcome().error(125);
        assert!(error.contains(part) && error.contains("microagent doctor"), "{error}");
        let by_environment = run(false).env("MICROAGENT_REQUIRE_CONFINEMENT", "1");
        let error =
            lesser_host(by_environment.env("MICROAGENT_OUTPUT", "json"), lacking).outcome().error(125);
        assert!(error.contains("\"kind\":\"confinement\""), "{error}");
    }
}

#[test]
fn a_workspace_keeps_what_it_requires_and_status_tells_what_it_got() {
    let world = World::own().warm_machine();
    world
        .microagent([
            "create",
            "--name",
            "strict",
            "--require-confinement",
            "--image",
            "busybox",
            "sleep",
            "999",
        ])
        .outcome()
        .success();
    world.microagent(["create", "--name", "lax", "--image", "busybox", "sleep", "999"]).outcome().success();
    let status = |name: &str| world.microagent(["--json", "status", name]).outcome().success();
    assert!(status("strict").contains("\"require_confinement\": true"));

    let refused = lesser_host(world.microagent(["start", "strict"]), "namespaces").outcome().error(1);
    assert!(refused.contains("no namespaces"), "{refused}");
    let refused = world.microagent(["start", "--require-confinement", "lax"]);
    let refused = lesser_host(refused, "landlock").outcome().error(1);
    assert!(refused.contains("no Landlock"), "{refused}");

    sealed_machines_are_confined_or_do_not_boot(&world);

    world.microagent(["start", "strict"]).outcome().success();
    lesser_host(world.microagent(["start", "lax"]), "namespaces").outcome().success();
    let whole: Value = serde_json::from_str(&status("strict")).unwrap();
    assert_eq!(whole[0]["confinement"]["missing"], serde_json::json!([]));
    is_confined(whole[0]["machine_pid"].as_u64().unwrap());
    is_hardened(whole[0]["supervisor_pid"].as_u64().unwrap());
    let lacking: Value = serde_json::from_str(&status("lax")).unwrap();
    assert_eq!(lacking[0]["confinement"]["missing"][0]["part"], "namespaces");
    let shown = world.microagent(["status", "lax"]).outcome().success();
    assert!(
        shown.lines().any(|line| line.starts_with("Confined by") && line.contains("not by namespaces")),
        "{shown}"
    );
    world.microagent(["kill", "strict", "lax"]).outcome().success();
}

/// What reads disks of what is at rest, and makes templates: where the workspace demands it, or the command does.
fn sealed_machines_are_confined_or_do_not_boot(world: &World) {
    world.microagent(["volume", "create", "data"]).outcome().success();
    let file = world.path().join("file");
    let file = file.to_str().unwrap();
    std::fs::write(file, "content").unwrap();
    let refused = |words: &[&str]| {
        let call = world.microagent(["--json"]).args(words);
        let error = lesser_host(call, "namespaces").outcome().error(1);
        assert!(
            error.contains("\"kind\":\"confinement\"") && error.contains("no namespaces"),
            "{words:?}: {error}"
        );
    };
    refused(&["cp", file, "strict:/file"]);
    refused(&["cp", "strict:/etc/passwd", "/dev/null"]);
    refused(&["commit", "strict", "made:1"]);
    refused(&["resize", "strict", "--size", "20g"]);
    refused(&["--require-confinement", "cp", file, "lax:/file"]);
    refused(&["cp", "--require-confinement", file, "lax:/file"]);
    refused(&["volume", "resize", "data", "--size", "20g", "--require-confinement"]);
    let by_environment = world.microagent(["--json", "cp", file, "lax:/file"]);
    let by_environment = by_environment.env("MICROAGENT_REQUIRE_CONFINEMENT", "1");
    assert!(lesser_host(by_environment, "landlock").outcome().error(1).contains("no Landlock"));
    // Of a machine that no other test has.
    let template = ["--templates", "4g", "template", "warm", "--memory", "333m", "--require-confinement"];
    let error = lesser_host(world.microagent(template), "namespaces").outcome().error(1);
    assert!(error.contains("no namespaces"), "{error}");
    // Where nobody demands it, and where it is there, they do their work.
    lesser_host(world.microagent(["cp", file, "lax:/file"]), "namespaces").outcome().success();
    world.microagent(["cp", file, "strict:/file"]).outcome().success();
}

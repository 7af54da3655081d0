//! Nothing passes from one run to another through the template, nor from the first run into it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use microagent_tests::{World, tool};
use rustix::fs::SeekFrom as Extent;

use super::{at_rest, last_uses, restores, script, warm_world, with_templates};

const LEAVE_TRACES: &str = "for place in / /tmp /dev/shm /root /var /etc /home/app; do
        mkdir -p $place; echo text > $place/left-behind; done
    hostname left-behind; echo left-behind > /proc/sys/kernel/domainname; date -s 2001-01-01 >/dev/null
    ip addr add 10.9.8.7/32 dev lo; mkdir /mnt; mount -t tmpfs left-behind /mnt
    setsid sleep 600 & (sleep 601 &)
    sync; echo left; wait";

/// Built in commands alone, so that there are no processes but those that were there.
const FIND_TRACES: &str = "for process in /proc/[0-9]*; do
        read -r line < $process/stat && echo \"process $line\"; done
    find / -name left-behind 2>/dev/null | sed 's/^/found: /'
    { hostname; cat /proc/sys/kernel/domainname /etc/hosts /proc/mounts; ip addr; date; } | grep -E 'left-behind|10[.]9[.]8[.]7|2001'";

#[test]
fn no_file_process_or_setting_of_another_run_is_seen() {
    let (world, key) = warm_world();
    restores(&world, &key, || {
        let mut first = with_templates(world.script(LEAVE_TRACES)).start();
        first.wait_for("left");
        let beside = with_templates(world.script(FIND_TRACES)).outcome().output(1);
        first.signal(rustix::process::Signal::INT);
        first.signal(rustix::process::Signal::INT);
        first.signal(rustix::process::Signal::INT);
        first.wait();
        let afterwards = with_templates(world.script(FIND_TRACES)).outcome().output(1);
        for shown in [beside, afterwards] {
            let lines = shown.lines().filter(|line| !is_of_the_kernel(line));
            let processes: Vec<_> = lines.map(|line| line.split(' ').nth(2).unwrap_or(line)).collect();
            assert_eq!(processes, ["(init)", "(sh)"], "{shown}");
        }
    });
}

/// Whether a line is a process that runs no program: the kernel's second process, or a child of it.
fn is_of_the_kernel(line: &str) -> bool {
    let Some((process, rest)) = line.strip_prefix("process ").and_then(|line| line.rsplit_once(") ")) else {
        return false;
    };
    process.starts_with("2 ") || rest.split(' ').nth(1) == Some("2")
}

#[test]
fn runs_change_nothing_in_the_template() {
    let (world, key) = warm_world();
    let place = world.home().join("templates").join(&key);
    let facts = || {
        ["memory", "state", "disk"].map(|name| {
            let metadata = std::fs::metadata(place.join(name)).unwrap();
            let blocks = std::os::unix::fs::MetadataExt::blocks(&metadata);
            (metadata.modified().unwrap(), blocks)
        })
    };
    let before = facts();
    script(
        &world,
        "dd if=/dev/zero of=/large bs=1M count=20 2>/dev/null; dd if=/large of=/dev/shm/large; sync",
    );
    rustix::fs::sync();
    assert_eq!(facts(), before);
}

#[test]
fn a_secret_of_the_first_run_is_not_in_its_template() {
    let world = World::own();
    let secret = secret();
    let [named, given, typed, host] =
        ["named", "given", "typed", "host"].map(|way| format!("{way}-{secret}"));
    let line = format!("read typed; echo $typed $NAME {given} > /kept; sync; cat /kept");
    let call =
        world.run(["-i", "-e", &format!("NAME={named}"), "--hostname", &format!("h-{secret}"), "busybox"]);
    let call = call.args(["sh", "-c", &line]).env("HOST_SECRET", host).bytes(format!("{typed}\n"));
    assert_eq!(with_templates(call).outcome().success(), format!("{typed} {named} {given}\n"));
    at_rest(&world);
    let uses = last_uses(&world);
    assert_eq!(uses.len(), 1, "the run makes a template");
    let place = world.home().join("templates").join(uses.keys().next().unwrap());
    for entry in std::fs::read_dir(&place).unwrap() {
        assert!(!holds(&entry.unwrap().path(), &secret));
    }
    assert!(holds(&place.join("memory"), "Linux version "), "what is there is found");
}

fn secret() -> String {
    let mut bytes = [0; 16];
    File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    format!("{:032x}", u128::from_le_bytes(bytes))
}

/// Whether a file, which may be sparse, holds a text.
fn holds(path: &Path, text: &str) -> bool {
    let mut search: Command = tool("grep", "grep");
    // What zeros separate counts as lines.
    search.args(["--quiet", "--null-data", "--text", "--fixed-strings", text]).env("LC_ALL", "C");
    let mut search = search.stdin(Stdio::piped()).spawn().unwrap();
    // It hangs up when it has found the text.
    let _ = copy_data(&mut File::open(path).unwrap(), &mut search.stdin.take().unwrap());
    search.wait().unwrap().success()
}

/// Copies what of a file is not a hole.
fn copy_data(file: &mut File, to: &mut impl Write) -> std::io::Result<()> {
    let mut position = 0;
    while let Ok(start) = rustix::fs::seek(&*file, Extent::Data(position)) {
        position = rustix::fs::seek(&*file, Extent::Hole(start))?;
        file.seek(SeekFrom::Start(start))?;
        std::io::copy(&mut Read::by_ref(file).take(position - start), to)?;
    }
    Ok(())
}

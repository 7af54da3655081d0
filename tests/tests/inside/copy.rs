//! Files in and out, of workspaces that run and of those that do not.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use microagent_tests::{World, peak_memory};
use rustix::process::Signal;

use super::super::workspaces::eventually;
use super::idle;

/// Everything that a copy keeps, by path; of the root itself only that it is there.
fn listing(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(path) = waiting.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let content = if metadata.is_symlink() {
            format!("to {}", fs::read_link(&path).unwrap().display())
        } else if metadata.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            String::new()
        } else {
            format!("{} {}", metadata.nlink(), String::from_utf8_lossy(&fs::read(&path).unwrap()))
        };
        let (mode, seconds, nanoseconds) = (metadata.mode(), metadata.mtime(), metadata.mtime_nsec());
        let relative = path.strip_prefix(root).unwrap().to_owned();
        found.insert(relative, format!("{mode:o} {seconds}.{nanoseconds} {content}"));
    }
    found.insert(PathBuf::new(), String::new());
    found
}

fn assert_same(root: &Path, expected: &BTreeMap<PathBuf, String>) {
    let found = listing(root);
    let differs = found.iter().find(|(path, what)| expected.get(*path) != Some(*what));
    assert_eq!(
        differs.map(|(path, what)| (path, Some(what), expected.get(path))),
        None,
        "{}",
        root.display()
    );
    assert_eq!(found.len(), expected.len(), "{}", root.display());
}

/// 10,000 files with odd names, links and modes.
fn odd_tree(root: &Path) {
    for directory in 0..100 {
        let directory = root.join(format!("directory {directory}\n\u{1f4a5}"));
        fs::create_dir_all(&directory).unwrap();
        for file in 0..97 {
            let path = directory.join(format!("-{file} '\"$(x)\\\u{e9}"));
            fs::write(&path, "x".repeat(file * 11)).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o400 + u32::try_from(file).unwrap())).unwrap();
        }
        fs::hard_link(directory.join("-1 '\"$(x)\\\u{e9}"), directory.join("hard")).unwrap();
        symlink("/etc/passwd", directory.join("absolute")).unwrap();
        symlink("../nowhere", directory.join("dangling")).unwrap();
        fs::set_permissions(&directory, Permissions::from_mode(0o750)).unwrap();
    }
    let sparse = File::create(root.join("sparse")).unwrap();
    sparse.set_len(1 << 30).unwrap();
    sparse.write_all_at(b"end", (1 << 30) - 3).unwrap();
}

fn copy(world: &World, from: &str, to: &str) {
    world.microagent(["cp", from, to]).outcome().success();
}

#[test]
fn ten_thousand_odd_files_come_back_as_they_were() {
    let world = idle();
    let tree = world.path().join("tree");
    odd_tree(&tree);
    let sparse = |root: &Path| fs::metadata(root.join("sparse")).unwrap();
    assert!(sparse(&tree).blocks() * 512 < 1 << 20);
    copy(&world, "tree", "box:/srv");
    copy(&world, "box:/srv", "running");
    assert!(sparse(&world.path().join("running")).blocks() * 512 < 1 << 20);
    fs::remove_file(tree.join("sparse")).unwrap();
    fs::remove_file(world.path().join("running/sparse")).unwrap();
    let expected = listing(&tree);
    assert!(expected.len() > 10_000);
    assert_same(&world.path().join("running"), &expected);
    // A sparse file takes no room in the guest either.
    let taken = world.microagent(["exec", "box", "du", "-k", "/srv/sparse"]).outcome().success();
    assert!(taken.split('\t').next().unwrap().parse::<u32>().unwrap() < 1000, "{taken}");
    world.microagent(["exec", "box", "rm", "/srv/sparse"]).outcome().success();

    world.microagent(["halt", "box"]).outcome().success();
    copy(&world, "box:/srv", "halted");
    assert_same(&world.path().join("halted"), &expected);
    copy(&world, "tree", "box:/again");
    copy(&world, "box:/again", "from-rest");
    assert!(
        listing(&world.path().join("from-rest")) == expected,
        "what was put there at rest is another tree"
    );
    let status = world.microagent(["status", "box"]).outcome().success();
    assert!(status.contains("halted"), "{status}");
    world.microagent(["start", "box"]).outcome().success();
    let count = world
        .microagent(["exec", "box", "sh", "-c", "find /srv /again -print0 | tr -cd '\\0' | wc -c"])
        .outcome()
        .success();
    assert_eq!(count.trim(), (2 * expected.len()).to_string());
}

#[test]
fn places_are_those_of_docker_and_mistakes_say_what_to_do() {
    let world = idle();
    let at = |name: &str| world.path().join(name);
    fs::write(at("file"), "content").unwrap();
    fs::create_dir(at("directory")).unwrap();
    fs::write(at("directory/in"), "in").unwrap();
    copy(&world, "file", "box:/tmp");
    copy(&world, "file", "box:tmp/named");
    copy(&world, "directory", "box:/tmp");
    copy(&world, "directory", "box:/tmp/made");
    copy(&world, "directory/.", "box:/tmp/made");
    let said = world.microagent(["exec", "box", "sh", "-c", "cd /tmp && find . -type f | sort"]).outcome();
    assert_eq!(said.success(), "./directory/in\n./file\n./made/in\n./named\n");
    let owner = world.microagent(["exec", "box", "stat", "-c", "%u:%g", "/tmp/named"]).outcome();
    assert_eq!(owner.success(), "0:0\n");

    let before = world.listing();
    for (words, code, why) in [
        (["file", "box:/no/where/"], 1, "no directory `/no/where/`"),
        (["directory", "box:/tmp/file"], 1, "not a directory"),
        (["box:/nothing", "x"], 1, "there is no `/nothing`"),
        (["box:/tmp/file", "no/where"], 1, "no directory `no`"),
        (["absent", "box:/"], 1, "cannot read `absent`"),
        (["file", "directory"], 2, "microagent cp FILE NAME:/PATH"),
        (["box:/a", "box:/b"], 2, "microagent cp box:PATH - | microagent cp - box:DIRECTORY"),
        (["nobody:/a", "b"], 1, "no workspace `nobody`"),
        (["box:", "b"], 2, "box:/"),
    ] {
        let error = world.microagent(["cp"]).args(words).outcome().error(code);
        assert!(error.contains(why), "{words:?}: {error}");
    }
    assert_eq!(world.new_since(&before), Vec::<PathBuf>::new());
    let report = world.microagent(["cp", "--json", "directory", "box:/reported"]).outcome().success();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!((&report["entries"], &report["bytes"]), (&2.into(), &2.into()));
}

#[test]
fn archives_are_tars() {
    let world = idle();
    fs::create_dir(world.path().join("tree")).unwrap();
    fs::write(world.path().join("tree/file"), "content").unwrap();
    symlink("file", world.path().join("tree/link")).unwrap();
    let tar = |words: &[&str]| Command::new("tar").args(words).current_dir(world.path()).output().unwrap();
    let archive = tar(&["c", "tree"]).stdout;
    world.microagent(["cp", "-", "box:/srv"]).bytes(archive.clone()).outcome().error(1);
    world.microagent(["exec", "box", "mkdir", "/srv"]).outcome().success();
    world.microagent(["cp", "-", "box:/srv"]).bytes(archive).outcome().success();
    let back = world.microagent(["cp", "box:/srv/tree", "-"]).outcome();
    fs::write(world.path().join("back.tar"), &back.stdout).unwrap();
    let listed = String::from_utf8(tar(&["tf", "back.tar"]).stdout).unwrap();
    assert_eq!(listed, "tree\ntree/file\ntree/link\n");
    fs::create_dir(world.path().join("out")).unwrap();
    assert!(tar(&["xf", "back.tar", "-C", "out"]).status.success());
    assert_eq!(fs::read_to_string(world.path().join("out/tree/link")).unwrap(), "content");
    let escaping = tar(&["cP", "--transform", "s,tree/file,../../escaped,", "tree/file"]).stdout;
    let error = world.microagent(["cp", "-", "box:/srv"]).bytes(escaping).outcome().error(1);
    assert!(error.contains("`../../escaped` leads out of it"), "{error}");
    let error =
        world.microagent(["cp", "-", "box:/srv"]).bytes(*b"\x1f\x8b\x08 and so on").outcome().error(1);
    assert!(error.contains("it is compressed") && error.contains("gzip -dc"), "{error}");
    let error = world.microagent(["cp", "-", "box:/srv"]).bytes(vec![b'x'; 2000]).outcome().error(1);
    assert!(error.contains("cannot use the archive"), "{error}");
}

#[test]
fn owners_are_kept_when_it_is_asked_for() {
    let world = idle();
    let file = world.path().join("file");
    fs::write(&file, "").unwrap();
    std::os::unix::fs::chown(&file, Some(1234), Some(5678)).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o4755)).unwrap();
    world.microagent(["cp", "-a", "file", "box:/kept"]).outcome().success();
    let kept = world.microagent(["exec", "box", "stat", "-c", "%u:%g %a", "/kept"]).outcome();
    assert_eq!(kept.success(), "1234:5678 4755\n");
    world.microagent(["cp", "-a", "box:/kept", "archived"]).outcome().success();
    copy(&world, "box:/kept", "plain");
    let owner = |name: &str| {
        let metadata = fs::metadata(world.path().join(name)).unwrap();
        (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777)
    };
    assert_eq!(owner("archived"), (1234, 5678, 0o755));
    let own = rustix::process::getuid().as_raw();
    assert_eq!(owner("plain"), (own, rustix::process::getgid().as_raw(), 0o755));
}

#[test]
fn a_gigabyte_goes_both_ways_in_little_memory() {
    let world = idle();
    let zeros = Command::new("head").args(["-c", "1073741824", "/dev/zero"]).stdout(Stdio::piped()).spawn();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let source = zeros.unwrap().stdout.unwrap();
    let counting = std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()).unwrap());
    let call = world.microagent(["exec", "-i", "box", "cat"]).input_from(source).output_to(writer);
    let client = call.deadline(Duration::from_secs(200)).start();
    let status = world.microagent(["status", "--json", "box"]).outcome().success();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let supervisor = i32::try_from(status[0]["supervisor_pid"].as_u64().unwrap()).unwrap();
    let supervisor = rustix::process::Pid::from_raw(supervisor).unwrap();
    let mut peaks = [0, 0];
    while !counting.is_finished() {
        for (peak, pid) in peaks.iter_mut().zip([client.pid(), supervisor]) {
            *peak = peak_memory(pid).unwrap_or(0).max(*peak);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(client.wait().code(), 0);
    assert_eq!(counting.join().unwrap(), 1 << 30);
    assert!(peaks.iter().all(|peak| *peak < 64 << 20), "{peaks:?}");
    let init = world.microagent(["exec", "box", "grep", "VmHWM", "/proc/1/status"]).outcome().success();
    let kilobytes: u64 = init.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kilobytes < 16 << 10, "{init}");
}

#[test]
fn a_copy_that_is_interrupted_leaves_nothing() {
    let world = idle();
    let big = File::create(world.path().join("big")).unwrap();
    for block in 0..300 {
        big.write_all_at(&vec![1; 1 << 20], block << 20).unwrap();
    }
    let in_guest = |line: &str| world.microagent(["exec", "box", "sh", "-c", line]).outcome().success();
    for signal in [Signal::INT, Signal::KILL] {
        let client = world.microagent(["cp", "big", "box:/srv"]).start();
        eventually("it is on its way", || in_guest("ls -a /").contains(".microagent-"));
        client.signal(signal);
        drop(client.wait());
        eventually("nothing is left", || !in_guest("ls -a /").contains(".microagent-"));
        assert!(!in_guest("ls /").contains("srv"));
    }
    copy(&world, "big", "box:/srv");
    let before = world.listing();
    let mut client = world.microagent(["cp", "box:/srv", "out"]).start();
    eventually("it is on its way", || !world.new_since(&before).is_empty());
    client.signal(Signal::INT);
    client.input = None;
    assert_eq!(client.wait().code(), 130);
    assert_eq!(world.new_since(&before), Vec::<PathBuf>::new());
    // One that was killed a while ago left something, on either side; the next removes it.
    let left = ".microagent-77-17b31e8dd4f2a9c0-1";
    fs::write(world.path().join(left), "half").unwrap();
    in_guest(&format!("mkdir -p /{left}/deep"));
    copy(&world, "box:/etc/passwd", "passwd");
    copy(&world, "passwd", "box:/passwd");
    assert!(!world.path().join(left).exists());
    assert!(!in_guest("ls -a /").contains(left));
}

#[test]
fn copies_at_once_do_not_meet() {
    let world = idle();
    let content = |copy: usize| -> Vec<u8> {
        (0..9_000_001).map(|index| (index / 4096 * 7 + index % 251 + copy * 31) as u8).collect()
    };
    // More than have a region of the disk for exchange.
    let copies = 0..7;
    for copy in copies.clone() {
        fs::write(world.path().join(format!("in{copy}")), content(copy)).unwrap();
    }
    let all = |of: &dyn Fn(usize) -> [String; 2]| {
        let calls: Vec<_> = copies
            .clone()
            .map(|copy| {
                let [from, to] = of(copy);
                world.microagent(["cp", &from, &to]).start()
            })
            .collect();
        for call in calls {
            call.wait().success();
        }
    };
    all(&|copy| [format!("in{copy}"), format!("box:/f{copy}")]);
    all(&|copy| [format!("box:/f{copy}"), format!("out{copy}")]);
    for copy in copies.clone() {
        assert!(fs::read(world.path().join(format!("out{copy}"))).unwrap() == content(copy), "{copy}");
    }
    // Both ways at once.
    all(&|copy| {
        let ends = [format!("box:/f{copy}"), format!("again{copy}")];
        if copy % 2 == 0 { ends } else { [format!("in{copy}"), format!("box:/g{copy}")] }
    });
    all(&|copy| {
        let name = if copy % 2 == 0 { "f" } else { "g" };
        [format!("box:/{name}{copy}"), format!("last{copy}")]
    });
    for copy in copies {
        assert!(fs::read(world.path().join(format!("last{copy}"))).unwrap() == content(copy), "{copy}");
    }
}

#[test]
fn a_guest_that_writes_all_over_the_disk_for_exchange_spoils_its_own_copy_alone() {
    let world = idle();
    let scribble = "for disk in /sys/block/*; do
            [ \"$(cat $disk/serial 2>/dev/null)\" = exchange ] && device=/dev/${disk##*/}
        done
        head -c 50000000 /dev/urandom >/big; sync; echo ready
        while :; do cat /bin/busybox /dev/urandom | dd of=$device bs=1M count=32 2>/dev/null; done";
    let mut scribbling = world.microagent(["exec", "box", "sh", "-c", scribble]).start();
    scribbling.wait_for("ready");
    for _ in 0..3 {
        let copied = world.microagent(["cp", "box:/big", "out"]).deadline(Duration::from_secs(60)).outcome();
        assert_eq!(copied.code(), 0, "{}", String::from_utf8_lossy(&copied.stderr));
        assert_eq!(fs::metadata(world.path().join("out")).unwrap().len(), 50_000_000);
        fs::remove_file(world.path().join("out")).unwrap();
    }
    scribbling.signal(Signal::INT);
    drop(scribbling.wait());
    copy(&world, "box:/big", "whole");
    let sum = |text: String| text.split_whitespace().next().unwrap().to_owned();
    let inside = sum(world.microagent(["exec", "box", "md5sum", "/big"]).outcome().success());
    let here = Command::new("md5sum").arg(world.path().join("whole")).output().unwrap().stdout;
    assert_eq!(sum(String::from_utf8(here).unwrap()), inside);
}

#[test]
fn every_state_is_reached_or_says_what_to_do() {
    let world = World::own().warm_machine();
    fs::write(world.path().join("file"), "content").unwrap();
    world
        .microagent(["create", "--name", "box", "--image", "busybox", "sleep", "100000"])
        .outcome()
        .success();
    // Before its first start.
    copy(&world, "file", "box:/first");
    world.microagent(["start", "box"]).outcome().success();
    assert_eq!(world.microagent(["exec", "box", "cat", "/first"]).outcome().success(), "content");
    world.microagent(["pause", "box"]).outcome().success();
    let error = world.microagent(["cp", "file", "box:/x"]).outcome().error(1);
    assert!(error.contains("cannot copy to") && error.contains("microagent resume box"), "{error}");
    world.microagent(["resume", "box"]).outcome().success();
    world.microagent(["exec", "box", "sh", "-c", "echo synced > /synced; sync"]).outcome().success();
    // A disk that was not put away, and one that nobody may touch.
    world.microagent(["kill", "box"]).outcome().success();
    copy(&world, "box:/synced", "after-kill");
    world.microagent(["quarantine", "--reason", "looked into", "box"]).outcome().success();
    copy(&world, "box:/synced", "from-quarantine");
    let error = world.microagent(["cp", "file", "box:/x"]).outcome().error(1);
    assert!(error.contains("cannot copy to workspace `box`: it is quarantined"), "{error}");
    for name in ["after-kill", "from-quarantine"] {
        assert_eq!(fs::read_to_string(world.path().join(name)).unwrap(), "synced\n");
    }
    world.microagent(["quarantine", "--release", "--reason", "done", "box"]).outcome().success();
    world.microagent(["start", "box"]).outcome().success();
    world.microagent(["quarantine", "--reason", "while it ran", "box"]).outcome().success();
    copy(&world, "box:/synced", "frozen");
    assert_eq!(fs::read_to_string(world.path().join("frozen")).unwrap(), "synced\n");
    // What is in quarantine would go on after this test.
    world.microagent(["quarantine", "--release", "--reason", "done", "box"]).outcome().success();
}

//! Disks whose file system is damaged, as by a guest that means harm: each verb says so in time, the host is as it
//! was, and what can be read is read.
//!
//! The layout is that of ext4(5) and the kernel's `Documentation/filesystems/ext4`; only this test knows it.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use microagent_tests::World;

use super::eventually;

/// Where the superblock is.
const SUPERBLOCK: u64 = 1024;

/// How long a verb may take, on a loaded machine without KVM.
const DEADLINE: Duration = Duration::from_secs(150);

/// A disk at rest.
struct Disk {
    path: PathBuf,
    file: File,
    block_size: u64,
}

impl Disk {
    fn of(world: &World, name: &str) -> Self {
        let path = disk_of(world, name);
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let mut log = [0; 4];
        file.read_exact_at(&mut log, SUPERBLOCK + 0x18).unwrap();
        Self { path, file, block_size: 1024 << u32::from_le_bytes(log) }
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        self.file.write_all_at(bytes, at).unwrap();
    }

    /// Overwrites what is at `at` with what is no structure.
    fn garble(&self, at: u64, length: u64) {
        let noise = (0..length).map(|index| (index.wrapping_mul(0x9e37_79b9) >> 7) as u8 | 1);
        self.write(at, &noise.collect::<Vec<_>>());
    }

    fn garble_block(&self, block: u64) {
        self.garble(block * self.block_size, self.block_size);
    }

    fn ask(&self, request: &str) -> String {
        let output = Command::new("/sbin/debugfs").args(["-R", request]).arg(&self.path).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The first block of a file or directory.
    fn block_of(&self, path: &str) -> u64 {
        let said = self.ask(&format!("blocks {path}"));
        said.split_whitespace().next().and_then(|block| block.parse().ok()).expect(path)
    }

    /// Where its inode is.
    fn inode_of(&self, path: &str) -> u64 {
        let said = self.ask(&format!("imap {path}"));
        let (_, place) = said.split_once("located at block ").expect("debugfs says where it is");
        let (block, offset) = place.trim().split_once(", offset 0x").unwrap();
        block.parse::<u64>().unwrap() * self.block_size + u64::from_str_radix(offset, 16).unwrap()
    }

    /// The superblock's checksum, which the kernel checks first, made good again: CRC-32C of what is before it.
    fn seal(&self) {
        let mut superblock = [0; 1020];
        self.file.read_exact_at(&mut superblock, SUPERBLOCK).unwrap();
        let checksum = superblock.iter().fold(u32::MAX, |checksum, byte| {
            (0..8).fold(checksum ^ u32::from(*byte), |checksum, _| {
                (checksum >> 1) ^ (0x82f6_3b78 * (checksum & 1))
            })
        });
        self.write(SUPERBLOCK + 1020, &checksum.to_le_bytes());
    }
}

fn disk_of(world: &World, name: &str) -> PathBuf {
    world.home().join("workspaces").join(name).join("disk.ext4")
}

/// What a verb may be expected to do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expect {
    /// The file system is mounted, whatever is wrong deeper in it.
    Mounts,
    /// It is not, and what is on it can be read all the same.
    Rescued,
    /// It is not, and nothing can be read.
    Lost,
    /// Whatever it does, it does it in time and says so.
    Ends,
}

type Damage = (&'static str, Expect, fn(&Disk));

fn corpus() -> Vec<Damage> {
    use Expect::{Ends, Lost, Mounts, Rescued};
    vec![
        ("no magic number", Lost, |disk| disk.write(SUPERBLOCK + 0x38, &[0, 0])),
        ("no superblock", Lost, |disk| disk.garble(SUPERBLOCK, 1024)),
        ("an unsealed superblock", Lost, |disk| disk.write(SUPERBLOCK + 0x78, b"garbled")),
        ("a feature from the future", Lost, |disk| {
            disk.write(SUPERBLOCK + 0x60, &0x8000_02c2_u32.to_le_bytes());
            disk.seal();
        }),
        ("more blocks than the disk has", Lost, |disk| {
            disk.write(SUPERBLOCK + 0x04, &u32::MAX.to_le_bytes());
            disk.seal();
        }),
        ("blocks of two gibibytes", Lost, |disk| {
            disk.write(SUPERBLOCK + 0x18, &21_u32.to_le_bytes());
            disk.seal();
        }),
        ("a wish to panic at errors, and errors", Mounts, |disk| {
            // s_state: clean no more, with errors; s_errors: panic.
            disk.write(SUPERBLOCK + 0x3a, &[2, 0, 3, 0]);
            disk.seal();
            disk.garble_block(disk.block_of("/upper/directory"));
        }),
        ("no group descriptors", Lost, |disk| disk.garble_block(SUPERBLOCK / disk.block_size + 1)),
        ("no journal", Rescued, |disk| disk.garble_block(disk.block_of("<8>"))),
        ("a journal to play back that is none", Rescued, |disk| {
            let mut features = [0; 4];
            disk.file.read_exact_at(&mut features, SUPERBLOCK + 0x60).unwrap();
            disk.write(SUPERBLOCK + 0x60, &(u32::from_le_bytes(features) | 4).to_le_bytes());
            disk.seal();
            disk.garble_block(disk.block_of("<8>"));
        }),
        ("a root directory that is none", Lost, |disk| disk.garble(disk.inode_of("<2>"), 128)),
        ("a root directory of noise", Ends, |disk| disk.garble_block(disk.block_of("<2>"))),
        ("a directory of noise", Ends, |disk| disk.garble_block(disk.block_of("/upper"))),
        ("extents of noise", Mounts, |disk| disk.garble(disk.inode_of("/upper/file") + 0x28, 60)),
        ("an inode of noise", Mounts, |disk| disk.garble(disk.inode_of("/upper/file"), 256)),
    ]
}

#[test]
fn a_damaged_disk_is_told_of_and_harms_nothing_else() {
    let world = World::own().warm_machine();
    let call = |words: &[&str]| world.microagent(words).deadline(DEADLINE).outcome();
    let flags = ["run", "-d", "--name", "sound", "--disk-size", "64m", "busybox", "sleep", "100000"];
    call(&flags).success();
    let script = "mkdir /directory; echo kept > /kept; head -c 300000 /dev/urandom > /file; \
                  for i in $(seq 100); do echo $i > /directory/$i; done";
    call(&["exec", "sound", "sh", "-c", script]).success();
    call(&["halt", "sound"]).success();
    let before = leftovers(&world);
    for (what, expected, damage) in corpus() {
        call(&["clone", "sound", "damaged"]).success();
        damage(&Disk::of(&world, "damaged"));
        // What cannot be mounted can be copied and grown as a file all the same, or it is said why not.
        call(&["clone", "damaged", "copy"]).success();
        assert_said(what, &call(&["resize", "copy", "--size", "128m"]));
        call(&["delete", "--yes", "copy"]).success();

        let out = call(&["cp", "damaged:/kept", "kept"]);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        match expected {
            Expect::Mounts => assert!(out.code() == 0 && !said.contains("damaged"), "{what}: {said}"),
            Expect::Rescued => {
                assert!(said.contains("the disk of `damaged` is damaged"), "{what}: {said}");
                assert_eq!(out.code(), 0, "{what}: {said}");
            }
            Expect::Lost => assert_eq!(out.code(), 1, "{what}: {said}"),
            Expect::Ends => assert_said(what, &out),
        }
        if out.code() == 0 {
            assert_eq!(fs::read_to_string(world.path().join("kept")).unwrap(), "kept\n", "{what}");
            fs::remove_file(world.path().join("kept")).unwrap();
        }
        let deeper: &[&str] = if out.code() == 0 { &["file", "directory"] } else { &[] };
        for name in deeper {
            assert_said(what, &call(&["cp", &format!("damaged:/{name}"), "taken"]));
            let taken = world.path().join("taken");
            let _ = fs::remove_file(&taken).or_else(|_| fs::remove_dir_all(&taken));
        }

        // As somebody's disk image, and as a layer of an image.
        let attached = world.path().join("disk.ext4");
        fs::copy(disk_of(&world, "damaged"), &attached).unwrap();
        let volume = format!("{}:/mnt", attached.display());
        assert_said(
            what,
            &call(&["run", "-v", &volume, "busybox", "sh", "-c", "find /mnt > /dev/null; true"]),
        );
        fs::remove_file(&attached).unwrap();
        assert_said(what, &call(&["commit", "damaged", "made:1"]));

        let started = call(&["start", "damaged"]);
        assert_said(what, &started);
        if matches!(expected, Expect::Rescued | Expect::Lost) {
            let error = started.error(1);
            assert!(error.contains("failed to start workspace `damaged`"), "{what}: {error}");
            assert!(error.contains("hint: ") && error.contains("microagent cp"), "{what}: {error}");
        }
        if call(&["ps", "-q"]).success().contains("damaged") {
            let look = "cat /file /directory/* > /dev/null; ls /directory; echo x > /new; rm -r /directory; sync; true";
            assert_said(what, &call(&["exec", "--timeout", "60", "damaged", "sh", "-c", look]));
            call(&["kill", "damaged"]);
        }
        call(&["delete", "--force", "damaged"]).success();
        // A template for the next run like one of these may be in the making.
        eventually(&format!("nothing is left: {what}"), || leftovers(&world) == before);
    }
    call(&["start", "sound"]).success();
    assert_eq!(call(&["exec", "sound", "cat", "/kept"]).success(), "kept\n");
}

/// It went well, or it says why not, and nothing of ours broke.
fn assert_said(what: &str, outcome: &microagent_tests::Outcome) {
    let said = String::from_utf8_lossy(&outcome.stderr);
    assert!(outcome.code() < 126, "{what}: {said}");
    assert!(!said.contains("panicked at"), "{what}: {said}");
    assert!(outcome.code() == 0 || !said.trim().is_empty(), "{what}: nothing is said");
}

/// What is in the state directory beside templates, and what runs from it.
fn leftovers(world: &World) -> (Vec<PathBuf>, usize) {
    let names = |directory: &Path| -> Vec<PathBuf> {
        fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    };
    let mut found = names(&world.home().join("workspaces"));
    found.extend(names(&world.home().join("tmp")));
    found.sort();
    let home = world.home().as_os_str().as_encoded_bytes();
    let running = names(Path::new("/proc")).into_iter().filter(|process| {
        let line = fs::read(process.join("cmdline")).unwrap_or_default();
        line.windows(home.len()).any(|part| part == home)
    });
    (found, running.count())
}

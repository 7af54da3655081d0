//! Standard streams: separate, binary, bounded, and over when they are over.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use microagent_tests::{World, peak_memory};
use sha2::{Digest, Sha256};

#[test]
fn output_and_errors_are_apart() {
    let world = World::shared();
    let outcome = world.script("echo out; echo err >&2; echo more").outcome();
    assert_eq!(outcome.success(), "out\nmore\n");
    assert_eq!(outcome.error(0), "err\n");
}

#[test]
fn every_byte_passes_both_ways() {
    let world = World::shared();
    let every: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let outcome = world.run(["-i", "busybox", "sh", "-c", "tee /dev/stderr"]).bytes(every.clone()).outcome();
    outcome.success();
    assert!(outcome.stdout == every, "{} bytes came back", outcome.stdout.len());
    assert!(outcome.stderr == every, "{} bytes came back", outcome.stderr.len());
}

#[test]
fn large_streams_pass_whole_and_in_little_memory() {
    const MEBIBYTES: usize = 200;
    let world = World::shared();
    let path = world.path().join("input");
    let mut file = File::create_new(&path).unwrap();
    let mut sent = Sha256::new();
    for index in 0..MEBIBYTES {
        let block: Vec<u8> = (0..1u64 << 17).flat_map(|word| mixed(word << 8 | index as u64)).collect();
        sent.update(&block);
        file.write_all(&block).unwrap();
    }
    let output = File::create(world.path().join("output")).unwrap();
    let call = world.run(["-i", "busybox", "cat"]).input_from(File::open(&path).unwrap());
    let running = call.output_to(output).deadline(Duration::from_secs(240)).start();
    let pid = running.pid();
    let watcher = std::thread::spawn(move || {
        let mut peak = 0;
        while let Some(now) = peak_memory(pid) {
            peak = now;
            std::thread::sleep(Duration::from_millis(50));
        }
        peak
    });
    running.wait().success();
    let received = std::fs::read(world.path().join("output")).unwrap();
    assert_eq!(received.len(), MEBIBYTES << 20);
    assert_eq!(Sha256::digest(received), sent.finalize());
    let peak = watcher.join().unwrap();
    assert!(peak > 0 && peak < 60 << 20, "{peak} bytes");
}

/// Eight bytes without a pattern.
fn mixed(word: u64) -> [u8; 8] {
    let word = word.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (word ^ word >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9).to_le_bytes()
}

#[test]
fn input_that_ends_ends_the_commands() {
    let world = World::shared();
    let mut running = world.run(["-i", "busybox", "sh", "-c", "cat; echo over"]).open_input().start();
    running.input.as_mut().unwrap().write_all(b"some\n").unwrap();
    running.wait_for("some\n");
    assert_eq!(running.wait().success(), "some\nover\n");
}

#[test]
fn without_i_the_command_has_no_input() {
    let world = World::shared();
    let outcome = world.script("cat; echo over").bytes("not for it").outcome();
    assert_eq!(outcome.success(), "over\n");
}

#[test]
fn input_that_nobody_reads_holds_nothing_up() {
    let world = World::shared();
    let endless = File::open("/dev/zero").unwrap();
    world.run(["-i", "busybox", "true"]).input_from(endless).outcome().success();
}

#[test]
fn input_that_never_ends_does_not_outlive_the_command() {
    let world = World::shared();
    let mut running = world.run(["-i", "busybox", "echo", "over"]).open_input().start();
    let input = running.input.take();
    assert_eq!(running.wait().success(), "over\n");
    drop(input);
}

#[test]
fn a_reader_that_leaves_ends_the_command() {
    let world = World::shared();
    let (mut ours, theirs) = std::io::pipe().unwrap();
    let running = world.run(["busybox", "yes"]).output_to(theirs).start();
    let mut start = [0; 4];
    ours.read_exact(&mut start).unwrap();
    assert_eq!(&start, b"y\ny\n");
    drop(ours);
    let left = Instant::now();
    let outcome = running.wait();
    assert_ne!(outcome.code(), 0);
    assert!(left.elapsed() < Duration::from_secs(20), "{:?}", left.elapsed());
}

#[test]
fn a_background_process_that_holds_the_output_does_not_hold_up_the_end() {
    let world = World::shared();
    let outcome = world.script("sleep 1000 & echo started").outcome();
    assert_eq!(outcome.success(), "started\n");
    assert!(outcome.elapsed < Duration::from_secs(60), "{:?}", outcome.elapsed);
}

#[test]
fn output_can_go_to_a_full_disk_without_a_hang() {
    let world = World::shared();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let outcome = world.run(["busybox", "yes"]).output_to(full).start().wait();
    assert_ne!(outcome.code(), 0);
}

#[test]
fn a_closed_standard_input_is_an_empty_one() {
    let world = World::shared();
    let call = world.run(["-i", "busybox", "sh", "-c", "cat; echo over"]);
    let closing = ["sh", "-c", "exec \"$@\" <&-", "sh"];
    assert_eq!(call.through(&closing).outcome().success(), "over\n");
}

#[test]
fn files_can_be_read_from_where_they_are() {
    let world = World::shared();
    let path = world.path().join("text");
    std::fs::write(&path, "first\nsecond\n").unwrap();
    let mut file = File::open(&path).unwrap();
    file.seek(std::io::SeekFrom::Start(6)).unwrap();
    let outcome = world.run(["-i", "busybox", "cat"]).input_from(Stdio::from(file)).outcome();
    assert_eq!(outcome.success(), "second\n");
}

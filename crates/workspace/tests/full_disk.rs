//! A log whose disk is full. A limit on the size of files does what a full disk does; it counts for the whole process,
//! so this test program has one test.
#![allow(clippy::unwrap_used, reason = "what a test is built on may fail it")]

use microagent_workspace::{LogFilter, LogItem, LogReader, LogSource, LogWriter};
use nix::sys::signal::{SigSet, Signal};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[test]
fn entries_that_find_no_room_are_counted_and_others_are_whole() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("logs");
    let mut writer = LogWriter::open(&path).unwrap();
    let line = |number| format!("{number} {}\n", "x".repeat(1000));
    // Many entries at once, of which the room ends within one; then one by itself.
    let lines: String = (0..100).map(line).collect();
    limited_to(20_000, || writer.write(LogSource::Stdout, lines.as_bytes()));
    limited_to(20_000, || writer.write(LogSource::Stdout, line(100).as_bytes()));
    for number in 101..110 {
        writer.write(LogSource::Stdout, line(number).as_bytes());
    }
    let items: Vec<_> = LogReader::open(&path, LogFilter::default()).unwrap().map(Result::unwrap).collect();
    let (mut kept, mut lost) = (Vec::new(), 0);
    for item in items {
        match item {
            LogItem::Entry(entry) => kept.push(String::from_utf8(entry.bytes).unwrap()),
            LogItem::Lost { entries, .. } => {
                assert!((10..20).contains(&kept.len()), "it stands where they are missing: {}", kept.len());
                lost += entries;
            }
        }
    }
    let before = kept.len() - 9;
    assert_eq!(before as u64 + lost, 101, "each is kept or counted");
    let expected: Vec<_> = (0..before).chain(101..110).map(line).collect();
    assert_eq!(kept, expected, "what is kept is whole and in order");
}

/// Does something while files cannot grow beyond `bytes`.
fn limited_to(bytes: u64, act: impl FnOnce()) {
    // The signal that comes with the error is none for this test.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGXFSZ);
    signals.thread_block().unwrap();
    let before = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, Rlimit { current: Some(bytes), maximum: before.maximum }).unwrap();
    act();
    setrlimit(Resource::Fsize, before).unwrap();
}

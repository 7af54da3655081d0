use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use super::*;

struct Log {
    parent: tempfile::TempDir,
}

impl Log {
    fn new() -> Self {
        Self { parent: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.parent.path().join("logs")
    }

    fn writer(&self) -> LogWriter {
        LogWriter::open(&self.path()).unwrap()
    }

    fn read(&self, filter: LogFilter) -> Vec<LogEntry> {
        entries(LogReader::open(&self.path(), filter).unwrap())
    }
}

fn entries(items: impl Iterator<Item = std::io::Result<LogItem>>) -> Vec<LogEntry> {
    let entry = |item| match item {
        LogItem::Entry(entry) => entry,
        LogItem::Lost { .. } => panic!("lost"),
    };
    items.map(|item| entry(item.unwrap())).collect()
}

fn texts(entries: &[LogEntry]) -> Vec<String> {
    entries.iter().map(|entry| String::from_utf8_lossy(&entry.bytes).into_owned()).collect()
}

fn bytes_of(entries: &[LogEntry], source: LogSource) -> Vec<u8> {
    entries.iter().filter(|entry| entry.source == source).flat_map(|entry| entry.bytes.clone()).collect()
}

#[test]
fn a_log_that_was_never_written_is_empty() {
    let log = Log::new();
    assert!(log.read(LogFilter::default()).is_empty());
    assert!(!log.path().exists());
}

#[test]
fn lines_have_their_time_and_source_and_survive_restarts() {
    let log = Log::new();
    let before = jiff::Timestamp::now();
    for text in ["one\ntwo\n", "three\n"] {
        log.writer().write(LogSource::Stdout, text.as_bytes());
    }
    let entries = log.read(LogFilter::default());
    assert_eq!(texts(&entries), ["one\n", "two\n", "three\n"]);
    assert!(entries.is_sorted_by_key(|entry| entry.time));
    assert!(entries[0].time >= before && entries[0].source == LogSource::Stdout);
}

#[test]
fn a_line_in_pieces_is_one_entry_with_the_time_of_its_first() {
    let log = Log::new();
    let mut writer = log.writer();
    writer.write(LogSource::Stdout, b"on");
    let middle = jiff::Timestamp::now();
    writer.write(LogSource::Stderr, b"between\n");
    writer.write(LogSource::Stdout, b"e\n");
    let entries = log.read(LogFilter::default());
    assert_eq!(texts(&entries), ["between\n", "one\n"]);
    assert!(entries[1].time <= middle && !entries[1].continued);
}

#[test]
fn what_has_no_newline_is_there_after_a_while_and_goes_on_later() {
    let log = Log::new();
    let mut writer = log.writer();
    assert!(writer.next_late().is_none());
    writer.write(LogSource::Stdout, b"name? ");
    assert!(writer.next_late().is_some());
    assert!(log.read(LogFilter::default()).is_empty());
    writer.flush_partial();
    assert!(writer.next_late().is_none());
    writer.write(LogSource::Stdout, b"ada\nnext\n");
    let entries = log.read(LogFilter::default());
    assert_eq!(texts(&entries), ["name? ", "ada\n", "next\n"]);
    assert_eq!(entries.iter().map(|entry| entry.continued).collect::<Vec<_>>(), [false, true, false]);
    writer.write(LogSource::Stdout, b"last words");
    drop(writer);
    assert_eq!(texts(&log.read(LogFilter::default())).last().unwrap(), "last words");
}

#[test]
fn a_writer_that_nobody_flushes_keeps_nothing_back_for_long() {
    let log = Log::new();
    let mut writer = log.writer();
    writer.write(LogSource::Stdout, b"prompt");
    std::thread::sleep(Duration::from_millis(1100));
    writer.write(LogSource::Stderr, b"line\n");
    assert_eq!(texts(&log.read(LogFilter::default())).concat(), "line\nprompt");
}

#[test]
fn a_long_line_is_kept_in_parts_between_characters() {
    let log = Log::new();
    let text = format!("a{}\n", "ä".repeat(40_000));
    log.writer().write(LogSource::Console, text.as_bytes());
    let entries = log.read(LogFilter::default());
    assert!(entries.len() > 4 && entries.iter().all(|entry| std::str::from_utf8(&entry.bytes).is_ok()));
    assert_eq!(bytes_of(&entries, LogSource::Console), text.as_bytes());
    assert_eq!(entries.iter().filter(|entry| !entry.continued).count(), 1);
    assert_eq!(log.read(LogFilter { tail: Some(1), ..LogFilter::default() }), entries);
}

#[test]
fn hostile_bytes_take_little_more_room_than_they_are() {
    for hostile in [&b"\0"[..], b"\xff", b"\x1b", b"\xf0", b"\"", b"\\"] {
        let log = Log::new();
        let content = hostile.repeat(1 << 20);
        log.writer().write(LogSource::Stderr, &content);
        let read = log.read(LogFilter::default());
        assert_eq!(bytes_of(&read, LogSource::Stderr), content);
        let on_disk = std::fs::read(log.path().join("00000001.jsonl")).unwrap();
        assert!(on_disk.len() < 9 << 18, "{hostile:?} {}", on_disk.len());
        let longest = on_disk.split(|byte| *byte == b'\n').map(<[u8]>::len).max().unwrap();
        assert!(longest < crate::journal::LONGEST_LINE, "{longest}");
    }
}

#[test]
fn a_log_is_bounded() {
    let log = Log::new();
    let mut writer = log.writer();
    let line = [b"x".repeat(1023), b"\n".to_vec()].concat();
    for _ in 0..60 << 10 {
        writer.write(LogSource::Stdout, &line);
    }
    let files = std::fs::read_dir(log.path()).unwrap();
    let sizes: Vec<_> = files.map(|file| file.unwrap().metadata().unwrap().len()).collect();
    assert_eq!(sizes.len(), 4);
    assert!(sizes.iter().sum::<u64>() <= 40 << 20, "{sizes:?}");
}

#[test]
fn a_filter_selects_by_source_time_and_number_of_lines() {
    let log = Log::new();
    let mut writer = log.writer();
    for number in 0..10 {
        let source = if number % 2 == 0 { LogSource::Stdout } else { LogSource::Stderr };
        writer.write(source, format!("{number}\n").as_bytes());
    }
    let numbers = |filter| texts(&log.read(filter)).concat().replace('\n', "");
    let all = log.read(LogFilter::default());
    let errors = LogFilter { sources: vec![LogSource::Stderr], ..LogFilter::default() };
    assert_eq!(numbers(errors.clone()), "13579");
    assert_eq!(numbers(LogFilter { tail: Some(2), ..errors }), "79");
    let until = LogFilter { until: Some(all[6].time), ..LogFilter::default() };
    assert_eq!(numbers(until.clone()), "012345");
    assert_eq!(numbers(LogFilter { tail: Some(3), since: Some(all[1].time), ..until }), "345");
    for (tail, expected) in [(0, ""), (1, "9"), (10, "0123456789"), (u64::MAX, "0123456789")] {
        assert_eq!(numbers(LogFilter { tail: Some(tail), ..LogFilter::default() }), expected);
    }
}

#[test]
fn the_last_lines_may_be_of_several_segments() {
    let log = Log::new();
    let mut writer = log.writer();
    let padding = "x".repeat(1000);
    for number in 0..25_000 {
        writer.write(LogSource::Stdout, format!("{number} {padding}\n").as_bytes());
    }
    let read = texts(&log.read(LogFilter { tail: Some(15_000), ..LogFilter::default() }));
    assert_eq!(read.len(), 15_000);
    assert!(read[0].starts_with("10000 ") && read[14_999].starts_with("24999 "));
}

#[test]
fn a_line_that_makes_no_sense_is_passed_over() {
    let log = Log::new();
    log.writer().write(LogSource::Stdout, b"one\n");
    let path = log.path().join("00000001.jsonl");
    let foreign = "not json\n{}\n{\"time\":\"2026-01-31T12:00:00Z\",\"source\":\"radio\",\"text\":\"x\"}\n\
        {\"time\":\"2026-01-31T12:00:00Z\",\"source\":\"stdout\",\"base64\":\"!\"}\n";
    let content = std::fs::read_to_string(&path).unwrap() + foreign;
    std::fs::write(&path, content).unwrap();
    log.writer().write(LogSource::Stdout, b"two\n");
    assert_eq!(texts(&log.read(LogFilter::default())), ["one\n", "two\n"]);
}

#[test]
fn followers_get_everything_while_it_rotates_and_end_with_the_writer() {
    let log = Log::new();
    let mut writer = log.writer();
    let alive = Arc::new(AtomicBool::new(true));
    let followers: Vec<_> = (0..3)
        .map(|_| {
            let (path, alive) = (log.path(), Arc::clone(&alive));
            let is_alive = move || alive.load(Ordering::SeqCst);
            let follow = LogReader::follow(&path, LogFilter::default(), is_alive).unwrap();
            std::thread::spawn(move || entries(follow))
        })
        .collect();
    // The bound is four segments; this is less than that, so a slow follower misses nothing either.
    for number in 0..22_000 {
        writer.write(LogSource::Stdout, format!("{number} {}\n", "x".repeat(1000)).as_bytes());
    }
    writer.write(LogSource::Stdout, b"the end");
    drop(writer);
    alive.store(false, Ordering::SeqCst);
    for follower in followers {
        let read = texts(&follower.join().unwrap());
        assert_eq!(read.len(), 22_001);
        assert!(read.iter().take(22_000).enumerate().all(|(at, line)| line.starts_with(&format!("{at} "))));
        assert_eq!(read[22_000], "the end");
    }
}

#[test]
fn a_follower_of_a_workspace_that_does_not_run_ends_with_what_is_there() {
    let log = Log::new();
    let follow = || LogReader::follow(&log.path(), LogFilter::default(), || false).unwrap();
    assert!(entries(follow()).is_empty());
    log.writer().write(LogSource::Stdout, b"line\n");
    assert_eq!(texts(&entries(follow())), ["line\n"]);
}

#[test]
fn a_follower_ends_when_its_time_is_up() {
    let log = Log::new();
    let mut writer = log.writer();
    writer.write(LogSource::Stdout, b"line\n");
    let until = jiff::Timestamp::now() + jiff::SignedDuration::from_millis(300);
    let filter = LogFilter { until: Some(until), ..LogFilter::default() };
    let read = entries(LogReader::follow(&log.path(), filter, || true).unwrap());
    assert_eq!(texts(&read), ["line\n"]);
}

fn source() -> impl Strategy<Value = LogSource> {
    prop_oneof![Just(LogSource::Console), Just(LogSource::Stdout), Just(LogSource::Stderr)]
}

fn said() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        "[a-zä\n]{0,200}".prop_map(String::into_bytes),
        (any::<u8>(), 0..40_000usize).prop_map(|(byte, length)| vec![byte; length]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_goes_in_comes_out(
        writes in prop::collection::vec((source(), said(), any::<bool>()), 0..20),
    ) {
        let log = Log::new();
        let mut writer = log.writer();
        for (source, bytes, flush) in &writes {
            writer.write(*source, bytes);
            if *flush {
                writer.flush_partial();
            }
        }
        drop(writer);
        let read = log.read(LogFilter::default());
        for source in LogSource::ALL {
            let said = writes.iter().filter(|write| write.0 == source);
            let said: Vec<_> = said.flat_map(|write| write.1.clone()).collect();
            prop_assert_eq!(bytes_of(&read, source), said);
        }
    }
}

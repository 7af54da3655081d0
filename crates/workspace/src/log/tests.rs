use super::*;
use proptest::prelude::*;

fn bytes_of(entries: &[LogEntry], source: LogSource) -> Vec<u8> {
    entries.iter().filter(|entry| entry.source == source).flat_map(|entry| entry.bytes.clone()).collect()
}

fn read(directory: &Path) -> Vec<LogEntry> {
    LogReader::new(directory, LogFilter::default()).read().unwrap()
}

fn lines(entries: &[LogEntry]) -> Vec<String> {
    entries.iter().map(|entry| String::from_utf8_lossy(&entry.bytes).into_owned()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_byte_comes_back(chunks: Vec<(bool, Vec<u8>)>) {
        let directory = tempfile::tempdir().unwrap();
        let mut writer = LogWriter::open(directory.path()).unwrap();
        let mut sent = [Vec::new(), Vec::new()];
        for (stderr, chunk) in &chunks {
            let source = if *stderr { LogSource::Stderr } else { LogSource::Stdout };
            writer.write(source, chunk);
            sent[usize::from(*stderr)].extend_from_slice(chunk);
        }
        writer.flush_partial();
        let entries = read(directory.path());
        prop_assert_eq!(bytes_of(&entries, LogSource::Stdout), sent[0].clone());
        prop_assert_eq!(bytes_of(&entries, LogSource::Stderr), sent[1].clone());
    }
}

#[test]
fn a_torn_line_spoils_no_other() {
    let directory = tempfile::tempdir().unwrap();
    LogWriter::open(directory.path()).unwrap().write(LogSource::Stdout, b"one\n");
    let mut file = File::options().append(true).open(file_name(directory.path(), 0)).unwrap();
    file.write_all(b"{\"time\":\"2026").unwrap();
    LogWriter::open(directory.path()).unwrap().write(LogSource::Stdout, b"two\n");
    assert_eq!(lines(&read(directory.path())), ["one\n", "two\n"]);
}

#[test]
fn the_tail_is_counted_in_lines_and_filtered_by_source() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = LogWriter::open(directory.path()).unwrap();
    for number in 0..5 {
        writer.write(LogSource::Stdout, format!("out {number}\n").as_bytes());
        writer.write(LogSource::Stderr, format!("err {number}\n").as_bytes());
    }
    writer.write(LogSource::Stdout, b"pro");
    writer.flush_partial();
    writer.write(LogSource::Stdout, b"mpt\n");
    let tail = |sources: &[LogSource], tail| {
        let filter = LogFilter { sources: sources.to_vec(), tail: Some(tail), ..LogFilter::default() };
        lines(&LogReader::new(directory.path(), filter).read().unwrap())
    };
    assert_eq!(tail(&[LogSource::Stderr], 2), ["err 3\n", "err 4\n"]);
    assert_eq!(tail(&[LogSource::Stdout], 2), ["out 4\n", "pro", "mpt\n"]);
    assert_eq!(tail(&[], 0), Vec::<String>::new());
}

#[test]
fn readers_that_follow_lose_and_repeat_nothing_while_files_are_replaced() {
    const LINES: usize = 3000;
    let directory = tempfile::tempdir().unwrap();
    let mut writer = LogWriter::open(directory.path()).unwrap();
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let mut reader = LogReader::new(directory.path(), LogFilter::default());
            std::thread::spawn(move || {
                let mut seen = Vec::new();
                while seen.len() < LINES {
                    seen.extend(reader.follow(&mut || true).unwrap());
                }
                seen
            })
        })
        .collect();
    let padding = "x".repeat(8000);
    for number in 0..LINES {
        writer.write(LogSource::Stdout, format!("{number} {padding}\n").as_bytes());
        // Readers are given the time that they would have with a service that speaks slower than a loop.
        std::thread::sleep(Duration::from_micros(200));
    }
    assert!(file_name(directory.path(), 1).exists());
    for reader in readers {
        let numbers: Vec<usize> = lines(&reader.join().unwrap())
            .iter()
            .map(|line| line.split(' ').next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(numbers, (0..LINES).collect::<Vec<_>>());
    }
}

#[test]
fn the_oldest_goes_when_the_bound_is_reached() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = LogWriter::open(directory.path()).unwrap();
    let padding = "x".repeat(15_000);
    for number in 0..3500 {
        writer.write(LogSource::Stdout, format!("{number} {padding}\n").as_bytes());
    }
    let total: u64 = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!(total <= BOUND * u64::from(FILES), "{total}");
    let last = lines(&read(directory.path())).pop().unwrap();
    assert!(last.starts_with("3499 "));
}

#[test]
fn what_a_full_disk_did_not_take_is_counted() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = LogWriter::open(directory.path()).unwrap();
    writer.file = Some(File::options().write(true).open("/dev/full").unwrap());
    writer.write(LogSource::Stdout, b"gone\n");
    writer.write(LogSource::Stdout, b"here\n");
    let entries = lines(&read(directory.path()));
    assert_eq!(entries, ["microagent: 1 entries of this log were lost\n", "here\n"]);
}

#[test]
fn a_line_without_an_end_is_not_held_back_for_ever() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = LogWriter::open(directory.path()).unwrap();
    assert!(writer.next_late().is_none());
    writer.write(LogSource::Stdout, b"login: ");
    writer.flush_late();
    assert!(read(directory.path()).is_empty());
    std::thread::sleep(PATIENCE);
    writer.flush_late();
    assert_eq!(lines(&read(directory.path())), ["login: "]);
}

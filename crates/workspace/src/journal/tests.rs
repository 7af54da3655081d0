use std::io::Write;
use std::os::unix::fs::FileExt;

use super::*;

const SMALL: Bounds = Bounds { segment: 100, segments: 3 };

fn appender(path: &Path) -> Appender {
    Appender::open(Directory::make(path).unwrap(), SMALL).unwrap()
}

fn cursor(path: &Path) -> Cursor {
    Cursor::at(Directory::open(path).unwrap(), Position::START)
}

fn rest(cursor: &mut Cursor) -> Vec<String> {
    let mut lines = Vec::new();
    while let Some(line) = cursor.next_line().unwrap() {
        lines.push(String::from_utf8(line.to_vec()).unwrap());
    }
    lines
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| format!("line {number}")).collect()
}

fn append(appender: &mut Appender, range: std::ops::Range<u32>) {
    for line in numbers(range) {
        appender.append(format!("{line}\n").as_bytes()).unwrap();
    }
}

#[test]
fn lines_are_read_in_order_across_segments_and_openings() {
    let parent = tempfile::tempdir().unwrap();
    for start in [0, 8, 16] {
        append(&mut appender(parent.path()), start..start + 8);
    }
    assert_eq!(rest(&mut cursor(parent.path())), numbers(0..24));
    assert_eq!(Directory::open(parent.path()).unwrap().segments().unwrap(), [1, 2]);
}

#[test]
fn the_oldest_segments_are_driven_out() {
    let parent = tempfile::tempdir().unwrap();
    append(&mut appender(parent.path()), 0..1000);
    let left = rest(&mut cursor(parent.path()));
    assert_eq!(left.last().unwrap(), "line 999");
    assert!(left.len() < 3 * 12, "{}", left.len());
    assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 3);
}

#[test]
fn a_reader_that_keeps_up_misses_nothing_and_gets_nothing_twice() {
    let parent = tempfile::tempdir().unwrap();
    let mut appender = appender(parent.path());
    let (mut every, mut seldom) = (cursor(parent.path()), cursor(parent.path()));
    let (mut by_every, mut by_seldom) = (Vec::new(), Vec::new());
    for number in 0..500 {
        append(&mut appender, number..number + 1);
        by_every.extend(rest(&mut every));
        if number % 17 == 0 {
            by_seldom.extend(rest(&mut seldom));
        }
    }
    by_seldom.extend(rest(&mut seldom));
    assert_eq!(by_every, numbers(0..500));
    assert_eq!(by_seldom, numbers(0..500));
}

#[test]
fn readers_beside_an_appender_that_rotates_read_all() {
    let parent = tempfile::tempdir().unwrap();
    let bounds = Bounds { segment: 2000, segments: 1000 };
    let mut appender = Appender::open(Directory::make(parent.path()).unwrap(), bounds).unwrap();
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let mut cursor = cursor(parent.path());
            std::thread::spawn(move || {
                let mut lines = Vec::new();
                while lines.last().is_none_or(|line| line != "line 19999") {
                    lines.extend(rest(&mut cursor));
                }
                lines
            })
        })
        .collect();
    append(&mut appender, 0..20_000);
    for reader in readers {
        assert_eq!(reader.join().unwrap(), numbers(0..20_000));
    }
}

#[test]
fn a_reader_that_was_overtaken_goes_on_with_what_is_left() {
    let parent = tempfile::tempdir().unwrap();
    let mut appender = appender(parent.path());
    append(&mut appender, 0..5);
    let mut cursor = cursor(parent.path());
    assert_eq!(rest(&mut cursor), numbers(0..5));
    append(&mut appender, 5..500);
    let seen = rest(&mut cursor);
    // The segment that it has open is read to its end, though it has no name any more.
    assert_eq!(seen[..3], numbers(5..8));
    assert_eq!(seen.last().unwrap(), "line 499");
    assert!(seen.is_sorted_by_key(|line| line[5..].parse::<u32>().unwrap()));
}

#[test]
fn a_torn_line_is_passed_over_and_cut_off_by_the_next_appender() {
    let parent = tempfile::tempdir().unwrap();
    append(&mut appender(parent.path()), 0..2);
    let path = parent.path().join("00000001.jsonl");
    File::options().append(true).open(&path).unwrap().write_all(&[b'x'; 5000]).unwrap();
    let mut reader = cursor(parent.path());
    assert_eq!(rest(&mut reader), numbers(0..2));
    append(&mut appender(parent.path()), 2..4);
    assert_eq!(rest(&mut reader), numbers(2..4));
    assert_eq!(rest(&mut cursor(parent.path())), numbers(0..4));
}

#[test]
fn a_segment_that_is_only_a_torn_line_becomes_empty() {
    let parent = tempfile::tempdir().unwrap();
    std::fs::write(parent.path().join("00000007.jsonl"), "torn").unwrap();
    append(&mut appender(parent.path()), 0..1);
    assert_eq!(rest(&mut cursor(parent.path())), numbers(0..1));
    assert_eq!(Directory::open(parent.path()).unwrap().segments().unwrap(), [7]);
}

#[test]
fn a_line_that_is_too_long_is_passed_over_alone() {
    let parent = tempfile::tempdir().unwrap();
    let long = "x".repeat(LONGEST_LINE);
    let content = format!("a\n{long}\n{long}y\n{long}{long}{long}{long}\nb\n");
    std::fs::write(parent.path().join("00000001.jsonl"), content).unwrap();
    assert_eq!(rest(&mut cursor(parent.path())), ["a", &long, "b"]);
}

#[test]
fn other_files_are_no_segments() {
    let parent = tempfile::tempdir().unwrap();
    for name in ["1.jsonl", "00000001.json", "lock", "-0000001.jsonl", "00000002.jsonl"] {
        std::fs::write(parent.path().join(name), "").unwrap();
    }
    assert_eq!(Directory::open(parent.path()).unwrap().segments().unwrap(), [2]);
    assert_eq!(segment_number("123456789.jsonl"), Some(123_456_789));
}

#[test]
fn lines_are_visited_backwards_until_the_visitor_has_enough() {
    let parent = tempfile::tempdir().unwrap();
    append(&mut appender(parent.path()), 0..24);
    let directory = Directory::open(parent.path()).unwrap();
    let mut seen = Vec::new();
    let mut last = None;
    let visit = |position, line: &[u8]| {
        seen.push(String::from_utf8(line.to_vec()).unwrap());
        last = Some(position);
        if seen.len() == 20 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    directory.lines_backwards(visit).unwrap();
    seen.reverse();
    assert_eq!(seen, numbers(4..24));
    assert_eq!(rest(&mut Cursor::at(directory, last.unwrap())), numbers(4..24));
}

#[test]
fn a_reader_of_what_is_there_now_ends_though_it_is_added_to() {
    let parent = tempfile::tempdir().unwrap();
    let mut appender = appender(parent.path());
    let now = || cursor(parent.path()).until_now().unwrap();
    let mut of_nothing = now();
    append(&mut appender, 0..10);
    let (mut at_once, mut late, mut too_late) = (now(), now(), now());
    let mut seen = Vec::new();
    let mut next = 10;
    while let Some(line) = at_once.next_line().unwrap() {
        seen.push(String::from_utf8(line.to_vec()).unwrap());
        append(&mut appender, next..next + 1);
        next += 1;
    }
    assert_eq!(seen, numbers(0..10));
    append(&mut appender, next..22);
    assert_eq!(rest(&mut late), numbers(0..10));
    assert_eq!(rest(&mut of_nothing), numbers(0..0));
    // All of it was driven out.
    append(&mut appender, 22..100);
    assert_eq!(rest(&mut too_late), numbers(0..0));
}

#[test]
fn a_directory_that_is_renamed_stays_the_journals() {
    let parent = tempfile::tempdir().unwrap();
    let (old, new) = (parent.path().join("old"), parent.path().join("new"));
    let mut appender = appender(&old);
    append(&mut appender, 0..1);
    let mut cursor = cursor(&old);
    std::fs::rename(&old, &new).unwrap();
    append(&mut appender, 1..20);
    assert_eq!(rest(&mut cursor), numbers(0..20));
    assert_eq!(std::fs::read_dir(&new).unwrap().count(), 2);
}

#[test]
fn a_watch_sees_growth_and_an_appenders_end() {
    let parent = tempfile::tempdir().unwrap();
    let mut appender = appender(parent.path());
    let watch = Watch::new(&Directory::open(parent.path()).unwrap());
    let long = std::time::Duration::from_secs(20);
    assert_eq!(watch.wait(std::time::Duration::ZERO).unwrap(), Seen::Nothing);
    append(&mut appender, 0..1);
    assert_eq!(watch.wait(long).unwrap(), Seen::Growth);
    drop(appender);
    assert_eq!(watch.wait(long).unwrap(), Seen::Closed);
}

#[test]
fn what_is_there_of_a_write_that_failed_is_whole_lines() {
    let parent = tempfile::tempdir().unwrap();
    let mut appender = appender(parent.path());
    append(&mut appender, 0..1);
    // As a write leaves it that ends midway.
    let path = parent.path().join("00000001.jsonl");
    File::options().write(true).open(path).unwrap().write_all_at(b"line 1\nli", 7).unwrap();
    drop(appender);
    let mut reader = cursor(parent.path());
    assert_eq!(rest(&mut reader), numbers(0..2));
    append(&mut super::tests::appender(parent.path()), 2..3);
    assert_eq!(rest(&mut reader), numbers(2..3));
}

use std::sync::mpsc::channel;
use std::time::{Duration, SystemTime};

use super::*;
use crate::journal::{Cursor, Directory, Position};

fn decision(port: u16, refusal: Option<Refusal>) -> Decision {
    let to = Some(SocketAddr::from(([192, 0, 2, 7], port)));
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
    Decision { time, traffic: Traffic::Tcp, to, name: Some("a.example".to_owned()), refusal }
}

fn kept(directory: &std::path::Path) -> Vec<NetworkLogEntry> {
    let mut cursor = Cursor::at(Directory::open(&directory.join(DIRECTORY)).unwrap(), Position::START);
    let mut entries = Vec::new();
    while let Some(line) = cursor.next_line().unwrap() {
        entries.push(serde_json::from_slice(line).unwrap());
    }
    entries
}

/// A keeper that was given these, and what it told.
fn keep(
    directory: Option<&std::path::Path>,
    decisions: impl IntoIterator<Item = Decision>,
) -> Vec<NetworkLogEntry> {
    let (sender, told) = channel();
    let listener = Box::new(move |entry: &NetworkLogEntry| sender.send(entry.clone()).unwrap());
    let (keeper, audit) = Keeper::start(directory, listener).unwrap();
    for decision in decisions {
        while !audit.tell(decision.clone()) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    drop(audit);
    keeper.finish();
    told.iter().collect()
}

#[test]
fn the_same_in_a_moment_is_one_line_and_refusals_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let refused = Some(Refusal::NotAllowed);
    let decisions = [decision(443, None), decision(80, refused), decision(443, None), decision(443, None)];
    let told = keep(Some(directory.path()), decisions);
    let entries = kept(directory.path());
    let times: Vec<_> = entries.iter().map(|entry| (entry.verdict, entry.port, entry.times)).collect();
    assert_eq!(times, [(Verdict::Allowed, Some(443), 3), (Verdict::Refused, Some(80), 1)]);
    assert_eq!(told, entries[1..]);
    assert_eq!(entries[0].target(), "tcp 192.0.2.7:443 (a.example)");
}

#[test]
fn a_guest_that_tries_everything_fills_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let all = (1..=20_000).map(|port| decision(port, Some(Refusal::NotAllowed)));
    let told = keep(Some(directory.path()), all);
    assert_eq!(told.len(), 16);
    let entries = kept(directory.path());
    assert!(entries.len() < 5000, "{}", entries.len());
    let in_lines: u64 = entries.iter().map(|entry| entry.times + entry.left_out).sum();
    assert!((19_000..=20_000).contains(&in_lines), "all but the last are in lines or counted: {in_lines}");
}

#[test]
fn without_a_directory_refusals_are_told_all_the_same() {
    let told = keep(None, [decision(80, Some(Refusal::Host))]);
    assert_eq!(told.len(), 1);
}

#[test]
fn who_tries_the_same_again_and_again_does_not_keep_others_from_being_told() {
    let (sender, told) = channel();
    let listener = Box::new(move |entry: &NetworkLogEntry| sender.send(entry.clone()).unwrap());
    let (keeper, audit) = Keeper::start(None, listener).unwrap();
    for _ in 0..4 {
        audit.tell(decision(80, Some(Refusal::Denied)));
        // Each in a moment of its own.
        std::thread::sleep(Duration::from_millis(250));
    }
    audit.tell(decision(81, Some(Refusal::Denied)));
    drop(audit);
    keeper.finish();
    let told: Vec<_> = told.iter().map(|entry| (entry.port, entry.left_out)).collect();
    assert_eq!(told, [(Some(80), 0), (Some(81), 3)]);
}

use super::*;

fn event(kind: EventKind) -> Event {
    Event { time: Timestamp::now(), workspace: "web".parse().unwrap(), kind }
}

fn home() -> (tempfile::TempDir, Home) {
    let parent = tempfile::tempdir().unwrap();
    let home = Home::open(Some(parent.path())).unwrap();
    (parent, home)
}

fn read(home: &Home, filter: EventFilter) -> Vec<Event> {
    EventReader::new(home, filter).unwrap().map(Result::unwrap).collect()
}

fn all(home: &Home) -> Vec<Event> {
    read(home, EventFilter::default())
}

#[test]
fn events_are_read_as_they_were_noted() {
    let (_parent, home) = home();
    assert!(all(&home).is_empty());
    let noted = [
        event(EventKind::Created),
        event(EventKind::Started { restored: true }),
        event(EventKind::ServiceExited { exit: Exit::Signal(9) }),
        event(EventKind::Renamed { to: "other".parse().unwrap() }),
        event(EventKind::Health { health: Health::Healthy }),
        event(EventKind::Quarantined { reason: "it \"lies\"\n".to_owned() }),
    ];
    for event in &noted {
        append_event(&home, event).unwrap();
    }
    assert_eq!(all(&home), noted);
}

#[test]
fn a_torn_line_is_left_out() {
    let (_parent, home) = home();
    append_event(&home, &event(EventKind::Created)).unwrap();
    let path = home.events().join("00000001.jsonl");
    let torn = std::fs::read_to_string(&path).unwrap() + "{\"time\":\"20";
    std::fs::write(&path, torn).unwrap();
    append_event(&home, &event(EventKind::Halted)).unwrap();
    let kinds: Vec<_> = all(&home).into_iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventKind::Created, EventKind::Halted]);
}

#[test]
fn what_a_newer_release_noted_is_handed_on() {
    let (_parent, home) = home();
    append_event(&home, &event(EventKind::Created)).unwrap();
    let newer = [
        r#"{"time":"2026-01-01T00:00:00Z","workspace":"a","event":"beamed","to":"mars"}"#,
        r#"{"time":"2026-01-01T00:00:00Z","workspace":"a","event":"started","how":"cloned"}"#,
    ];
    std::fs::write(home.events().join("00000001.jsonl"), newer.join("\n") + "\n").unwrap();
    for (event, text) in all(&home).iter().zip(newer) {
        assert!(matches!(event.kind, EventKind::Other(_)), "{event:?}");
        let again: serde_json::Value = serde_json::to_value(event).unwrap();
        assert_eq!(again, serde_json::from_str::<serde_json::Value>(text).unwrap());
    }
    assert_eq!(all(&home)[0].kind.words(), r#"{"event":"beamed","to":"mars"}"#);
}

#[test]
fn a_reason_is_bounded() {
    let (_parent, home) = home();
    for reason in ["\0".repeat(10_000), "ä".repeat(10_000)] {
        append_event(&home, &event(EventKind::Failed { reason })).unwrap();
    }
    assert_eq!(all(&home).len(), 2);
    let text = std::fs::read_to_string(home.events().join("00000001.jsonl")).unwrap();
    assert!(text.lines().all(|line| line.len() < 4096));
}

#[test]
fn events_are_filtered_by_workspace_and_time() {
    let (_parent, home) = home();
    let noted: Vec<_> = [("web", 1), ("db", 2), ("web", 3), ("web", 4)]
        .map(|(name, second)| Event {
            time: Timestamp::from_second(second).unwrap(),
            workspace: name.parse().unwrap(),
            kind: EventKind::Created,
        })
        .into();
    for event in &noted {
        append_event(&home, event).unwrap();
    }
    let renamed = event(EventKind::Renamed { to: "db".parse().unwrap() });
    append_event(&home, &renamed).unwrap();
    let second = |second| Some(Timestamp::from_second(second).unwrap());
    let web = EventFilter { workspace: "web".parse().ok(), since: second(3), until: second(4) };
    assert_eq!(read(&home, web), noted[2..3]);
    let db = EventFilter { workspace: "db".parse().ok(), ..EventFilter::default() };
    assert_eq!(read(&home, db), [noted[1].clone(), renamed]);
}

#[test]
fn a_follower_hears_of_each_event_once_while_many_note_them_and_segments_are_replaced() {
    const EACH: u32 = 6000;
    let (_parent, home) = home();
    append_event(&home, &event(EventKind::Created)).unwrap();
    let mut follower = EventReader::follow(&home, EventFilter::default()).unwrap();
    assert_eq!(follower.next().unwrap().unwrap().kind, EventKind::Created);
    let appenders: Vec<_> = (0..3u32)
        .map(|by| {
            let home = home.clone();
            std::thread::spawn(move || {
                for number in 0..EACH {
                    let reason = format!("{by}-{number} {}", "x".repeat(400));
                    append_event(&home, &event(EventKind::Failed { reason })).unwrap();
                }
            })
        })
        .collect();
    let mut seen = std::collections::BTreeSet::new();
    for event in follower.take(3 * EACH as usize) {
        let EventKind::Failed { reason } = event.unwrap().kind else { panic!("failed") };
        assert!(seen.insert(reason.split(' ').next().unwrap().to_owned()), "twice: {reason}");
    }
    assert_eq!(seen.len(), 3 * EACH as usize);
    for appender in appenders {
        appender.join().unwrap();
    }
    assert!(std::fs::read_dir(home.events()).unwrap().count() > 2, "it was replaced");
}

#[test]
fn a_follower_ends_when_its_time_is_up() {
    let (_parent, home) = home();
    append_event(&home, &event(EventKind::Created)).unwrap();
    let until = Timestamp::now() + jiff::SignedDuration::from_millis(200);
    let filter = EventFilter { until: Some(until), ..EventFilter::default() };
    assert_eq!(EventReader::follow(&home, filter).unwrap().count(), 1);
}

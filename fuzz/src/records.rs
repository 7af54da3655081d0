//! Bytes taken for the facts that are kept on disk, and for the settings of a workspace.

use home::{Home, Record, read_record};
use workspace::{
    EventFilter, EventReader, LogFilter, LogReader, StateRecord, WorkspaceRecord, WorkspaceSpec,
};

/// Reads `bytes` as each record, as a log, and as a history.
///
/// # Panics
///
/// If a record that was read cannot be kept and read again.
pub fn read_records(bytes: &[u8]) {
    let directory = tempfile::tempdir().expect("a directory can be made");
    is_kept::<WorkspaceRecord>(directory.path(), bytes);
    is_kept::<StateRecord>(directory.path(), bytes);
    is_kept::<volume::VolumeRecord>(directory.path(), bytes);
    let logs = directory.path().join("logs");
    std::fs::create_dir(&logs).expect("a directory can be made");
    std::fs::write(logs.join("00000001.jsonl"), bytes).expect("a file can be written");
    if let Ok(mut log) = LogReader::open(&logs, LogFilter::default()) {
        log.by_ref().take(10_000).for_each(drop);
    }
    let home = Home::open(Some(&directory.path().join("home"))).expect("a home can be made");
    let events = home.root().join("events");
    std::fs::create_dir_all(&events).expect("a directory can be made");
    std::fs::write(events.join("00000001.jsonl"), bytes).expect("a file can be written");
    if let Ok(events) = EventReader::new(&home, EventFilter::default()) {
        events.take(10_000).for_each(drop);
    }
}

fn is_kept<T: Record>(directory: &std::path::Path, bytes: &[u8]) {
    let path = directory.join("record.json");
    std::fs::write(&path, bytes).expect("a file can be written");
    if let Ok(Some(record)) = read_record::<T>(&path) {
        home::write_record(&path, &record).expect("a file can be written");
        read_record::<T>(&path).expect("what was written can be read").expect("it is there");
    }
}

/// Reads `bytes` as a `workspace.yaml`.
///
/// # Panics
///
/// If settings that were read are not, once they are written as `status --spec` does.
pub fn read_settings(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(settings) = serde_yaml_ng::from_str::<WorkspaceSpec>(text) {
        let again = serde_yaml_ng::to_string(&settings).expect("settings are plain data");
        serde_yaml_ng::from_str::<WorkspaceSpec>(&again).unwrap_or_else(|error| panic!("{error}: {again}"));
    }
}

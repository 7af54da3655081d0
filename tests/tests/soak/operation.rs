//! One thing that a client does, and which ends of it are in order.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use microagent_tests::{Outcome, processes_of};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::Scene;
use super::history::End;

/// How long anything may take, on a loaded machine without KVM.
const PATIENCE: Duration = Duration::from_secs(180);

const SERVICE: &str = "trap 'exit 0' TERM; echo up; while :; do sleep 0.2; done";

/// Why a verb may be refused or fail while others act on the same workspace and processes are killed.
const IN_ORDER: [&str; 19] = [
    "boot_failed",
    "busy",
    "commit_failed",
    "copy_failed",
    "disk",
    "guest",
    "machine",
    "machine_ended",
    "name_taken",
    "not_clean",
    "run_failed",
    "state",
    "still_up",
    "supervisor",
    "volume",
    "volume_in_use",
    "volume_not_found",
    "workspace",
    "workspace_not_found",
];

/// The name of a workspace or a volume.
#[derive(Clone)]
pub(super) struct Place(pub(super) String);

/// What a client does.
pub(super) enum Operation {
    Record(Place),
    RecordInVolume(Place),
    Look(Place, u64),
    Run { code: u64, spare: bool },
    Create(Place, Vec<String>),
    Detach(Place, Vec<String>),
    Verb(&'static str, Place),
    Pair(&'static str, Place, Place),
    Delete(Place),
    CopyIn(Place),
    CopyOut(Place),
    Quarantine(Place),
    Release(Place),
    Commit(Place),
    DeleteVolume(Place),
    KillSomebody(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Operation {
    /// Does it and notes how it ended; what may not be is an error.
    pub(super) fn perform(&self, client: usize, scene: &Scene<'_>) -> Result<(), String> {
        if let Self::KillSomebody(number) = self {
            let killed = kill_somebody(scene, *number);
            let end = if killed.is_some() { End::Done } else { End::Refused };
            let what = killed.unwrap_or_else(|| "nobody".to_owned());
            scene.history.note(client, &format!("kill-9 {what}"), end, "");
            return Ok(());
        }
        // Else most would only be told that the workspace is not in the state for it.
        match self {
            Self::Record(place) => Self::Verb("start", place.clone()).perform(client, scene)?,
            Self::Pair("clone", place, _) => Self::Verb("halt", place.clone()).perform(client, scene)?,
            _ => {}
        }
        let serial = scene.ledger.next();
        let words = self.words(serial, scene);
        let mut call = scene.world.microagent(["--json"]).args(&words).deadline(PATIENCE);
        if matches!(self, Self::Run { spare: true, .. }) {
            call = call.env("MICROAGENT_SPARES", "1").env("MICROAGENT_SPARE_TIME", "2");
        }
        let begun = format!("{} {}", serial, words.join(" "));
        let outcome = call.outcome();
        let (end, detail) = self.judge(&outcome);
        scene.history.note(client, &begun, end, &detail);
        if end == End::Done && matches!(self, Self::Record(_) | Self::RecordInVolume(_)) {
            let said = self.said(&outcome);
            let holder = said.trim().strip_prefix("kept ").ok_or(format!("{begun}: `{said}`"))?;
            scene.ledger.acknowledge(holder, serial);
        }
        if end == End::Wrong { Err(format!("{begun}: {detail}")) } else { Ok(()) }
    }

    fn words(&self, serial: u64, scene: &Scene<'_>) -> Vec<String> {
        let words: Vec<String> = match self {
            Self::Record(place) => {
                vec!["exec".into(), place.0.clone(), "--".into(), "sh".into(), "-c".into(), record(serial)]
            }
            Self::RecordInVolume(place) => {
                let volume = format!("{place}:/data");
                let script = record_in_volume(serial);
                return words(&["run", "-v", &volume, "busybox", "sh", "-c", &script]);
            }
            Self::Look(place, 0) => words(&["status", &place.0]),
            Self::Look(place, 1) => words(&["logs", &place.0]),
            Self::Look(place, 2) => words(&["stats", "--no-stream", &place.0]),
            Self::Look(_, 3) => words(&["df"]),
            Self::Look(..) => words(&["list"]),
            Self::Run { code, .. } => {
                words(&["run", "busybox", "sh", "-c", &format!("echo {serial}; exit {code}")])
            }
            Self::Create(place, settings) => new(&["create", "--image", "busybox"], place, settings, &[]),
            Self::Detach(place, settings) => new(&["run", "-d"], place, settings, &["busybox"]),
            Self::Verb(verb, place) => words(&[verb, &place.0]),
            Self::Pair(verb, from, to) => words(&[verb, &from.0, &to.0]),
            Self::Delete(place) => words(&["delete", "--force", &place.0]),
            Self::CopyIn(place) => {
                let file = scene.world.program().to_string_lossy().into_owned();
                words(&["cp", &file, &format!("{place}:/copied")])
            }
            Self::CopyOut(place) => {
                let target = scene.world.path().join(format!("out-{serial}"));
                words(&["cp", &format!("{place}:/etc"), &target.to_string_lossy()])
            }
            Self::Quarantine(place) => words(&["quarantine", "--reason", "soak", &place.0]),
            Self::Release(place) => words(&["quarantine", "--release", "--reason", "soak", &place.0]),
            Self::Commit(place) => words(&["commit", &place.0, "committed"]),
            Self::DeleteVolume(place) => words(&["volume", "delete", "--yes", &place.0]),
            Self::KillSomebody(_) => Vec::new(),
        };
        words
    }

    /// What the guest's command said on its standard output.
    fn said(&self, outcome: &Outcome) -> String {
        let text = String::from_utf8_lossy(&outcome.stdout).into_owned();
        let Self::Record(_) = self else { return text };
        let document: Value = serde_json::from_str(&text).unwrap_or_default();
        document["stdout"].as_str().unwrap_or(&text).to_owned()
    }

    fn judge(&self, outcome: &Outcome) -> (End, String) {
        let error = String::from_utf8_lossy(&outcome.stderr).into_owned();
        if outcome.status.signal() == Some(Signal::KILL.as_raw()) {
            return (End::Killed, String::new());
        }
        let Some(code) = outcome.status.code() else {
            return (End::Wrong, format!("{}: {error}", outcome.status));
        };
        if error.contains("panicked at") {
            return (End::Wrong, error);
        }
        match self {
            Self::Run { code: wanted, .. } if u64::try_from(code) == Ok(*wanted) => {
                return (End::Done, String::new());
            }
            Self::Record(_) | Self::RecordInVolume(_) if code != 0 && code != 125 => {
                // The command died with what was around it.
                let end = if matches!(code, 129 | 137 | 143) { End::Refused } else { End::Wrong };
                return (end, format!("{code}: {error}{}", self.said(outcome)));
            }
            _ if code == 0 => return (End::Done, String::new()),
            _ => {}
        }
        let line = error.lines().last().unwrap_or_default();
        let document: Value = serde_json::from_str(line).unwrap_or_default();
        let kind = document["error"]["kind"].as_str().unwrap_or_default();
        let message = document["error"]["message"].as_str().unwrap_or(&error);
        let in_order = matches!(code, 1 | 125) && IN_ORDER.contains(&kind);
        (if in_order { End::Refused } else { End::Wrong }, format!("{code} {kind}: {message}"))
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn new(verb: &[&str], place: &Place, settings: &[String], image: &[&str]) -> Vec<String> {
    let mut all = words(verb);
    all.extend(words(&["--name", &place.0]));
    all.extend(settings.iter().cloned());
    all.extend(words(image));
    all.extend(words(&["sh", "-c", SERVICE]));
    all
}

/// A script that writes a record, and says `kept HOLDER` when it is on the disk.
fn record(serial: u64) -> String {
    format!(
        "m=$(cat /etc/machine-id); mkdir -p /kept; echo {serial} | \
         dd of=/kept/$m-{serial} conv=fsync 2>/dev/null && echo kept $m"
    )
}

fn record_in_volume(serial: u64) -> String {
    format!(
        "[ -s /data/identity ] || tr -d - < /proc/sys/kernel/random/uuid | dd of=/data/identity conv=fsync 2>/dev/null; \
         i=$(cat /data/identity); echo {serial} | dd of=/data/$i-{serial} conv=fsync 2>/dev/null && echo kept $i"
    )
}

/// Kills one of the processes that have to do with the home: clients, supervisors, machines, whoever.
fn kill_somebody(scene: &Scene<'_>, number: u64) -> Option<String> {
    let mut all = processes_of(scene.world.home());
    all.retain(|process| process.name.starts_with("microagent") || process.name.starts_with("qemu"));
    all.sort_by_key(|process| process.pid);
    let count = u64::try_from(all.len()).ok().filter(|count| *count > 0)?;
    let victim = &all[usize::try_from(number % count).ok()?];
    // It may have ended by itself.
    kill_process(Pid::from_raw(victim.pid)?, Signal::KILL).ok()?;
    Some(format!("{} {}", victim.name, victim.pid))
}

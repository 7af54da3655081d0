//! What of documents belongs to other crates, which know no schemas: the same keys with the same types. The tests in
//! `tests/tests/schemas.rs` hold real documents against them, and refuse a key that is not here.

#![expect(dead_code, reason = "only their schemas are of use")]

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

/// A line of `logs --json`. It has `text`, or `base64` where the bytes are no plain text, or `lost`.
#[derive(Serialize, JsonSchema)]
pub(crate) struct LogLine {
    /// When its first byte arrived.
    time: String,
    source: Option<LogSource>,
    /// With its newline if it ends a line.
    text: Option<String>,
    base64: Option<String>,
    /// It goes on with the line before it from this source; absent if not.
    continued: Option<bool>,
    /// So many entries are not kept, for want of room; nothing else is then there but the time.
    lost: Option<u64>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum LogSource {
    Console,
    Stdout,
    Stderr,
}

/// A line of `events --json`. What is there beside the first three depends on the event.
#[derive(Serialize, JsonSchema)]
pub(crate) struct EventLine {
    time: String,
    workspace: String,
    /// Such as `created`, `started`, `service_exited`, `halted`; later releases may have others.
    event: String,
    /// Of `started`: whether the machine is the copy of a template.
    restored: Option<bool>,
    /// Of `service_exited`.
    exit: Option<Exit>,
    /// Of `failed`, `quarantined`, `released` and `stalled`, and a word for it of `egress_refused`.
    reason: Option<String>,
    /// Of `renamed` and `cloned`.
    to: Option<String>,
    /// Of `committed`.
    image: Option<String>,
    /// Of `resized`, as `--disk-size` is written.
    size: Option<String>,
    /// Of `health`.
    health: Option<String>,
    /// Of `egress_refused`: what the guest wanted to reach, how many times in a moment, and how many refusals before are
    /// in no event.
    target: Option<String>,
    times: Option<u64>,
    left_out: Option<u64>,
}

/// A line of `network NAME --log --json`: a decision, or several of a moment that are the same.
#[derive(Serialize, JsonSchema)]
pub(crate) struct NetworkLine {
    time: String,
    verdict: Verdict,
    /// What the guest wanted: `tcp`, `udp`, `ping` or `name`.
    traffic: String,
    /// Absent where it asked for a name.
    address: Option<String>,
    port: Option<u16>,
    /// The name that it asked for, or that leads to the address.
    name: Option<String>,
    /// Why it was refused, in a word.
    reason: Option<String>,
    times: u64,
    /// How many decisions before are in no line.
    left_out: u64,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Allowed,
    Refused,
}

/// How a service ended.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Exit {
    Code(u8),
    Signal(u8),
}

/// `boot` of `status --json`: the last one.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Boot {
    /// Its number among the workspace's boots, from 1.
    number: u64,
    started_at: String,
    acceleration: Option<String>,
    template: Option<String>,
    /// What confines its machine, as it is on record.
    confinement: Option<Held>,
}

/// `last_end` of `status --json`.
#[derive(Serialize, JsonSchema)]
pub(crate) struct End {
    /// The boot's number.
    boot: u64,
    how: Ending,
    at: String,
    /// How the service ended, if it did before its machine.
    exit: Option<Exit>,
    reason: Option<String>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Ending {
    Halted,
    Stopped,
    Killed,
    Failed,
}

/// `quarantine` of `status --json`.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Quarantine {
    reason: String,
    since: String,
}

/// `service` of `status --json`: the process that its image and its settings come to.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Service {
    argv: Vec<String>,
    env: Vec<String>,
    directory: String,
    /// Empty for root.
    user: String,
    tty: bool,
    interactive: bool,
    stop_signal: Option<String>,
    /// In seconds.
    grace: f64,
    health: Option<HealthCheck>,
}

/// Times are in seconds.
#[derive(Serialize, JsonSchema)]
struct HealthCheck {
    argv: Vec<String>,
    interval: f64,
    timeout: f64,
    start_period: f64,
    retries: u32,
}

/// `spec` of `status --json`, and an entry of `status --spec --json`: the settings, as `create --file` takes them. What is
/// absent, the image says. Sizes, addresses, volumes and the like are written as their flags are.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Spec {
    image: String,
    command: Option<Vec<String>>,
    entrypoint: Option<String>,
    service_command: Option<String>,
    env: Option<Vec<String>>,
    workdir: Option<String>,
    user: Option<String>,
    tty: bool,
    interactive: bool,
    hostname: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    memory: String,
    cpus: u32,
    disk_size: String,
    network: String,
    networks: Option<Vec<String>>,
    publish: Option<Vec<String>>,
    host_access: String,
    dns: Option<Vec<String>>,
    dns_search: Option<Vec<String>>,
    dns_option: Option<Vec<String>>,
    add_host: Option<Vec<String>>,
    pcap: Option<String>,
    egress: Option<String>,
    allow: Option<Vec<String>>,
    deny: Option<Vec<String>>,
    accel: String,
    require_confinement: Option<bool>,
    kernel: Option<String>,
    restart: String,
    stop_signal: Option<String>,
    /// In seconds.
    stop_timeout: f64,
    outputs: Option<Vec<String>>,
    volumes: Option<Vec<String>>,
    tmpfs: Option<Vec<String>>,
    read_only: Option<bool>,
    health: Option<HealthSpec>,
}

/// Times are in seconds.
#[derive(Serialize, JsonSchema)]
struct HealthSpec {
    command: Option<String>,
    disable: bool,
    interval: Option<f64>,
    timeout: Option<f64>,
    start_period: Option<f64>,
    retries: Option<u32>,
}

/// What confines a machine.
#[derive(Serialize, JsonSchema)]
struct Held {
    /// The version of the kernel's Landlock that it is under.
    landlock: Option<u32>,
    missing: Vec<Missing>,
    /// The control group that it has to itself; not there where none is delegated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cgroup: Option<String>,
}

/// A part that does not hold.
#[derive(Serialize, JsonSchema)]
struct Missing {
    part: String,
    reason: String,
}

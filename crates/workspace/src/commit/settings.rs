//! What a workspace was asked to be, as changes to its image's configuration: what Docker's commit does.
//!
//! The machine's part (memory, network, disk) is no image's, nor are its host name, terminal and restart policy.

use std::time::Duration;

use image::{Change, Configuration};
use serde_json::{Value, json};

use crate::spec::{HealthSpec, WorkspaceSpec};

/// Makes the settings of `spec` those of the image.
pub(super) fn carry_on(spec: &WorkspaceSpec, config: &mut Configuration) {
    config.change(&changes(spec));
    if let Some(health) = &spec.health {
        config.set_health_check(health_check(health));
    }
}

fn changes(spec: &WorkspaceSpec) -> Vec<Change> {
    let mut changes = Vec::new();
    match (&spec.service_command, &spec.entrypoint) {
        (Some(line), _) => {
            changes.push(Change::Entrypoint(Vec::new()));
            changes.push(Change::Cmd(["/bin/sh", "-c", line].map(str::to_owned).to_vec()));
        }
        // An empty one only takes the image's away.
        (None, Some(program)) if program.is_empty() => changes.push(Change::Entrypoint(Vec::new())),
        (None, Some(program)) => changes.push(Change::Entrypoint(vec![program.clone()])),
        (None, None) => {}
    }
    if !spec.command.is_empty() {
        changes.push(Change::Cmd(spec.command.clone()));
    }
    let variables = spec.env.iter().filter_map(|entry| entry.split_once('='));
    let variables: Vec<_> = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    if !variables.is_empty() {
        changes.push(Change::Env(variables));
    }
    if !spec.labels.is_empty() {
        let labels = spec.labels.iter().map(|(name, value)| (name.clone(), value.clone()));
        changes.push(Change::Label(labels.collect()));
    }
    changes.extend(spec.workdir.clone().map(Change::Workdir));
    changes.extend(spec.user.clone().map(Change::User));
    changes.extend(spec.stop_signal.map(|signal| Change::StopSignal(signal.to_string())));
    changes
}

/// Members of Docker's `Healthcheck`; times are in nanoseconds.
fn health_check(health: &HealthSpec) -> Vec<(&'static str, Value)> {
    let test = match &health.command {
        _ if health.disable => Some(json!(["NONE"])),
        Some(line) => Some(json!(["CMD-SHELL", line])),
        None => None,
    };
    let time =
        |time: Option<Duration>| time.map(|time| json!(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)));
    let members = [
        ("Test", test),
        ("Interval", time(health.interval)),
        ("Timeout", time(health.timeout)),
        ("StartPeriod", time(health.start_period)),
        ("Retries", health.retries.map(|retries| json!(retries))),
    ];
    members.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The member `config` of an image that a workspace of `spec` becomes, `before` being its image's.
    fn carried(before: &[&str], spec: &WorkspaceSpec) -> Value {
        let mut config = Configuration::empty(&image::Platform::of_host());
        let before: Vec<Change> = before.iter().map(|change| change.parse().unwrap()).collect();
        config.change(&before);
        carry_on(spec, &mut config);
        serde_json::from_slice::<Value>(&config.to_bytes()).unwrap()["config"].clone()
    }

    #[test]
    fn what_was_said_replaces_what_the_image_says() {
        let before = ["ENTRYPOINT [\"e\"]", "CMD [\"c\"]", "ENV A=1 B=2", "USER old", "LABEL a=1"];
        let nothing = WorkspaceSpec::default();
        let kept = json!({
            "Entrypoint": ["e"], "Cmd": ["c"], "Env": ["A=1", "B=2"], "User": "old", "Labels": { "a": "1" },
        });
        assert_eq!(carried(&before, &nothing), kept);
        let spec = WorkspaceSpec {
            command: vec!["x".into(), "y".into()],
            env: vec!["B=3".into(), "C=4=5".into()],
            workdir: Some("/srv".into()),
            user: Some("me".into()),
            labels: [("b".to_owned(), "2".to_owned())].into(),
            stop_signal: Some("INT".parse().unwrap()),
            ..WorkspaceSpec::default()
        };
        let config = carried(&before, &spec);
        let expected = json!({
            "Entrypoint": ["e"], "Cmd": ["x", "y"], "Env": ["A=1", "B=3", "C=4=5"], "WorkingDir": "/srv",
            "User": "me", "Labels": { "a": "1", "b": "2" }, "StopSignal": config["StopSignal"],
        });
        assert_eq!(config, expected);
        assert!(config["StopSignal"].as_str().unwrap().contains("INT"), "{config}");
    }

    #[test]
    fn an_entrypoint_takes_the_images_command_away() {
        let before = ["ENTRYPOINT [\"e\"]", "CMD [\"c\"]"];
        let with = |entrypoint: Option<&str>, line: Option<&str>| WorkspaceSpec {
            entrypoint: entrypoint.map(str::to_owned),
            service_command: line.map(str::to_owned),
            ..WorkspaceSpec::default()
        };
        assert_eq!(carried(&before, &with(Some("n"), None)), json!({ "Entrypoint": ["n"] }));
        assert_eq!(carried(&before, &with(Some(""), None)), json!({ "Entrypoint": [] }));
        let line = json!({ "Entrypoint": [], "Cmd": ["/bin/sh", "-c", "a | b"] });
        assert_eq!(carried(&before, &with(None, Some("a | b"))), line);
    }

    #[test]
    fn a_health_check_is_changed_where_something_was_said() {
        let before = ["HEALTHCHECK --timeout=3s CMD a"];
        let with = |health| WorkspaceSpec { health: Some(health), ..WorkspaceSpec::default() };
        let slower = HealthSpec { interval: Some(Duration::from_millis(1500)), ..HealthSpec::default() };
        let expected =
            json!({ "Test": ["CMD-SHELL", "a"], "Timeout": 3_000_000_000_u64, "Interval": 1_500_000_000 });
        assert_eq!(carried(&before, &with(slower))["Healthcheck"], expected);
        let none = HealthSpec { disable: true, ..HealthSpec::default() };
        assert_eq!(carried(&before, &with(none))["Healthcheck"]["Test"], json!(["NONE"]));
        let other = HealthSpec { command: Some("b".into()), retries: Some(2), ..HealthSpec::default() };
        let check = carried(&[], &with(other));
        assert_eq!(check["Healthcheck"], json!({ "Test": ["CMD-SHELL", "b"], "Retries": 2 }));
    }
}

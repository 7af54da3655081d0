//! Changes to how an image wants to be run, in the words of a Dockerfile.
//!
//! ```text
//! CMD ["program", "argument"]  or a line for /bin/sh      USER name[:group]      WORKDIR /path
//! ENTRYPOINT likewise                                     STOPSIGNAL TERM        VOLUME /path …  or a JSON array
//! ENV NAME=VALUE …   LABEL NAME=VALUE …                   EXPOSE 80 53/udp …     HEALTHCHECK NONE | [options] CMD …
//! SHELL ["program", "argument"]                           ONBUILD an instruction of a Dockerfile
//! ```
//!
//! A line is for the shell that the image names, or a change before names; `/bin/sh -c` if none does.

use std::str::FromStr;

use serde_json::{Map, Value, json};

/// A change to an image's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The command.
    Cmd(Vec<String>),
    /// The command, as a line for the shell.
    CmdLine(String),
    /// The program that the command is given to.
    Entrypoint(Vec<String>),
    /// The same, as a line for the shell.
    EntrypointLine(String),
    /// The shell that lines are for, with the arguments before them.
    Shell(Vec<String>),
    /// An instruction for whoever builds on the image.
    OnBuild(String),
    /// Environment variables, each a name and a value.
    Env(Vec<(String, String)>),
    /// Labels, each a name and a value.
    Label(Vec<(String, String)>),
    /// Ports that are listened on, as `80/tcp`.
    Expose(Vec<String>),
    /// Directories that hold data.
    Volume(Vec<String>),
    /// The user and maybe the group.
    User(String),
    /// The working directory; one that is relative goes on from the one before.
    Workdir(String),
    /// The signal that asks the command to end.
    StopSignal(String),
    /// How to tell whether the command is well, as Docker's `Healthcheck`.
    HealthCheck(HealthCheck),
}

/// Docker's `Healthcheck`; times are in nanoseconds, and what is zero is the default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HealthCheck {
    test: Vec<String>,
    times: Vec<(&'static str, u64)>,
    retries: u32,
}

/// A text that is no change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid change `{text}`: {reason}")]
pub struct InvalidChange {
    text: String,
    reason: &'static str,
}

const KINDS: &str = "it begins with CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL, STOPSIGNAL, USER, VOLUME or WORKDIR";

impl FromStr for Change {
    type Err = InvalidChange;

    fn from_str(text: &str) -> Result<Self, InvalidChange> {
        parse(text.trim()).map_err(|reason| InvalidChange { text: text.chars().take(200).collect(), reason })
    }
}

fn parse(text: &str) -> Result<Change, &'static str> {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let rest = rest.trim();
    match word.to_ascii_uppercase().as_str() {
        "CMD" => Ok(words_or_line(rest).map_or_else(Change::CmdLine, Change::Cmd)),
        "ENTRYPOINT" => Ok(words_or_line(rest).map_or_else(Change::EntrypointLine, Change::Entrypoint)),
        _ if rest.is_empty() => Err(KINDS),
        "ENV" => pairs(rest).map(Change::Env),
        "LABEL" => pairs(rest).map(Change::Label),
        "EXPOSE" => rest.split_whitespace().map(port).collect::<Result<_, _>>().map(Change::Expose),
        "VOLUME" => Ok(Change::Volume(json_words(rest).map_or_else(|| words(rest), Ok)?)),
        "USER" => one_word(rest).map(Change::User),
        "WORKDIR" => Ok(Change::Workdir(rest.to_owned())),
        "STOPSIGNAL" => one_word(rest).map(Change::StopSignal),
        "SHELL" => json_words(rest)
            .filter(|words| !words.is_empty())
            .map(Change::Shell)
            .ok_or("it takes a JSON array, such as [\"/bin/bash\", \"-c\"]"),
        "ONBUILD" => match rest.split_whitespace().next().unwrap_or_default().to_ascii_uppercase().as_str() {
            // Docker's rule: they make no sense there.
            "ONBUILD" | "FROM" | "MAINTAINER" => Err("it takes no FROM, MAINTAINER or ONBUILD"),
            _ => Ok(Change::OnBuild(rest.to_owned())),
        },
        "HEALTHCHECK" => health_check(rest).map(Change::HealthCheck),
        _ => Err(KINDS),
    }
}

/// A JSON array is the command itself, anything else a line for the shell.
fn words_or_line(text: &str) -> Result<Vec<String>, String> {
    match json_words(text) {
        Some(words) => Ok(words),
        None if text.is_empty() => Ok(Vec::new()),
        None => Err(text.to_owned()),
    }
}

fn json_words(text: &str) -> Option<Vec<String>> {
    serde_json::from_str(text).ok()
}

fn one_word(text: &str) -> Result<String, &'static str> {
    match words(text)?.as_slice() {
        [word] => Ok(word.clone()),
        _ => Err("it takes one word"),
    }
}

/// `NAME=VALUE` and more of them, or the old form `NAME VALUE`.
fn pairs(text: &str) -> Result<Vec<(String, String)>, &'static str> {
    let split = words(text);
    let is_old = |first: Option<&String>| first.is_some_and(|first| !first.contains('='));
    if split.as_ref().map_or(!text.contains('='), |words| is_old(words.first())) {
        let (name, value) = text.split_once(char::is_whitespace).ok_or("it takes NAME=VALUE")?;
        return Ok(vec![(name.to_owned(), value.trim().to_owned())]);
    }
    let pair = |word: String| {
        let (name, value) = word.split_once('=').ok_or("it takes NAME=VALUE")?;
        if name.is_empty() { Err("a name is empty") } else { Ok((name.to_owned(), value.to_owned())) }
    };
    split?.into_iter().map(pair).collect()
}

/// Splits at white space, which quotes and backslashes keep together.
fn words(text: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => {
                word.get_or_insert_default().push(characters.next().ok_or("it ends in a backslash")?);
            }
            (None, _) if character.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed");
    }
    words.extend(word);
    Ok(words)
}

fn port(text: &str) -> Result<String, &'static str> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let is_number = |text: &str| text.parse::<u16>().is_ok_and(|port| port > 0);
    let (first, last) = number.split_once('-').unwrap_or((number, number));
    if is_number(first) && is_number(last) && ["tcp", "udp", "sctp"].contains(&protocol) {
        return Ok(format!("{number}/{protocol}"));
    }
    Err("a port is written like 80, 8000-8010 or 53/udp")
}

fn health_check(text: &str) -> Result<HealthCheck, &'static str> {
    let mut check = HealthCheck::default();
    let mut rest = text;
    while let Some(option) = rest.strip_prefix("--") {
        let (option, after) =
            option.split_once(char::is_whitespace).ok_or("it takes CMD after its options")?;
        let (name, value) = option.split_once('=').ok_or("an option is written --NAME=VALUE")?;
        let time = |name| nanoseconds(value).map(|time| (name, time)).ok_or(TIME);
        match name {
            "interval" => check.times.push(time("Interval")?),
            "timeout" => check.times.push(time("Timeout")?),
            "start-period" => check.times.push(time("StartPeriod")?),
            "retries" => check.retries = value.parse().map_err(|_| "retries are a number")?,
            _ => return Err("its options are --interval, --timeout, --start-period and --retries"),
        }
        rest = after.trim_start();
    }
    let (kind, command) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    check.test = match (kind.to_ascii_uppercase().as_str(), json_words(command)) {
        ("NONE", _) if command.is_empty() => vec!["NONE".to_owned()],
        ("CMD", Some(words)) => [vec!["CMD".to_owned()], words].concat(),
        ("CMD", None) if !command.trim().is_empty() => {
            vec!["CMD-SHELL".to_owned(), command.trim().to_owned()]
        }
        _ => return Err("it takes NONE, or CMD and a command"),
    };
    Ok(check)
}

/// Go's way to write a duration: `1m30s`, `500ms`.
fn nanoseconds(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total = 0_u64;
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let units = [
            ("ms", 1_000_000),
            ("us", 1_000),
            ("ns", 1),
            ("h", 3600 * SECOND),
            ("m", 60 * SECOND),
            ("s", SECOND),
        ];
        let (unit, size) = units.into_iter().find(|(unit, _)| rest.starts_with(unit))?;
        total = total.checked_add(number.checked_mul(size)?)?;
        rest = &rest[unit.len()..];
    }
    (total > 0).then_some(total)
}

const TIME: &str = "a time is written like 30s, 1m30s or 500ms";
const SECOND: u64 = 1_000_000_000;

impl Change {
    /// Whether it sets the command.
    pub(super) fn is_command(&self) -> bool {
        matches!(self, Self::Cmd(_) | Self::CmdLine(_))
    }

    /// Program and arguments, if it says any; a line is for the shell that `config` names.
    fn argv(&self, config: &Map<String, Value>) -> Value {
        match self {
            Self::Cmd(words) | Self::Entrypoint(words) => json!(words),
            Self::CmdLine(line) | Self::EntrypointLine(line) => {
                let shell = config.get("Shell").and_then(Value::as_array).filter(|words| !words.is_empty());
                let mut words = shell.cloned().unwrap_or_else(|| vec![json!("/bin/sh"), json!("-c")]);
                words.push(json!(line));
                Value::Array(words)
            }
            _ => Value::Null,
        }
    }

    /// Makes the change in the member `config`.
    pub(super) fn apply(&self, config: &mut Map<String, Value>, keeps_command: bool) {
        let argv = self.argv(config);
        let mut set = |name: &str, value: Value| drop(config.insert(name.to_owned(), value));
        match self {
            Self::Cmd(_) | Self::CmdLine(_) => set("Cmd", argv),
            Self::Entrypoint(_) | Self::EntrypointLine(_) => {
                set("Entrypoint", argv);
                if !keeps_command {
                    config.remove("Cmd");
                }
            }
            Self::Shell(words) => set("Shell", json!(words)),
            Self::OnBuild(instruction) => super::list(config, "OnBuild").push(json!(instruction)),
            Self::Env(pairs) => {
                let variables = super::list(config, "Env");
                for (name, value) in pairs {
                    let same = |old: &Value| {
                        old.as_str().and_then(|old| old.split_once('=')).map(|old| old.0) == Some(name)
                    };
                    let new = json!(format!("{name}={value}"));
                    match variables.iter_mut().find(|old| same(old)) {
                        Some(old) => *old = new,
                        None => variables.push(new),
                    }
                }
            }
            Self::Label(pairs) => {
                let labels = pairs.iter().map(|(name, value)| (name.clone(), json!(value)));
                super::object(config, "Labels").extend(labels);
            }
            Self::Expose(ports) => {
                super::object(config, "ExposedPorts")
                    .extend(ports.iter().map(|port| (port.clone(), json!({}))));
            }
            Self::Volume(paths) => {
                super::object(config, "Volumes").extend(paths.iter().map(|path| (path.clone(), json!({}))));
            }
            Self::User(user) => set("User", json!(user)),
            Self::Workdir(path) => {
                let before = config.get("WorkingDir").and_then(Value::as_str).unwrap_or_default();
                let joined = if path.starts_with('/') {
                    path.clone()
                } else {
                    format!("{}/{path}", before.trim_end_matches('/'))
                };
                config.insert("WorkingDir".to_owned(), json!(joined));
            }
            Self::StopSignal(signal) => set("StopSignal", json!(signal)),
            Self::HealthCheck(check) => set("Healthcheck", check.to_json()),
        }
    }
}

impl HealthCheck {
    fn to_json(&self) -> Value {
        let mut check = Map::new();
        check.insert("Test".to_owned(), json!(self.test));
        check.extend(self.times.iter().map(|(name, time)| ((*name).to_owned(), json!(time))));
        if self.retries > 0 {
            check.insert("Retries".to_owned(), json!(self.retries));
        }
        Value::Object(check)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(before: &str, changes: &[&str]) -> String {
        let mut config: Map<String, Value> = serde_json::from_str(before).unwrap();
        let changes: Vec<Change> = changes.iter().map(|text| text.parse().unwrap()).collect();
        for change in &changes {
            change.apply(&mut config, changes.iter().any(Change::is_command));
        }
        serde_json::to_string(&config).unwrap()
    }

    #[test]
    fn commands_are_arrays_or_lines() {
        assert_eq!(changed("{}", &[r#"CMD ["a", "b c"]"#]), r#"{"Cmd":["a","b c"]}"#);
        assert_eq!(changed("{}", &["cmd a  'b'"]), r#"{"Cmd":["/bin/sh","-c","a  'b'"]}"#);
        assert_eq!(changed(r#"{"Cmd":["x"]}"#, &["ENTRYPOINT [\"e\"]"]), r#"{"Entrypoint":["e"]}"#);
        let both = changed("{}", &["CMD [\"c\"]", "ENTRYPOINT [\"e\"]"]);
        assert_eq!(both, r#"{"Cmd":["c"],"Entrypoint":["e"]}"#);
        assert_eq!(changed(r#"{"Cmd":["x"]}"#, &["CMD []"]), r#"{"Cmd":[]}"#);
    }

    #[test]
    fn a_line_is_for_the_shell_that_is_named() {
        let lines = [r#"SHELL ["/bin/bash", "-o", "pipefail", "-c"]"#, "CMD a | b", "ENTRYPOINT c"];
        let expected = r#"{"Cmd":["/bin/bash","-o","pipefail","-c","a | b"],"Entrypoint":["/bin/bash","-o","pipefail","-c","c"],"Shell":["/bin/bash","-o","pipefail","-c"]}"#;
        assert_eq!(changed("{}", &lines), expected);
        assert_eq!(changed(r#"{"Shell":["s"]}"#, &["CMD x"]), r#"{"Cmd":["s","x"],"Shell":["s"]}"#);
    }

    #[test]
    fn instructions_for_builds_are_added() {
        let changes = ["ONBUILD RUN make", "onbuild COPY . /src"];
        assert_eq!(
            changed(r#"{"OnBuild":["ADD a b"]}"#, &changes),
            r#"{"OnBuild":["ADD a b","RUN make","COPY . /src"]}"#
        );
    }

    #[test]
    fn variables_and_labels_are_added_or_replaced() {
        let before = r#"{"Env":["PATH=/bin","A=1"],"Labels":null}"#;
        let changes = [r#"ENV A="two words" B='it'\''s'"#, "LABEL maintainer me and you", r#"LABEL "a b"=c"#];
        let expected =
            r#"{"Env":["PATH=/bin","A=two words","B=it's"],"Labels":{"a b":"c","maintainer":"me and you"}}"#;
        assert_eq!(changed(before, &changes), expected);
    }

    #[test]
    fn places_ports_and_users_are_set() {
        let changes = [
            "EXPOSE 80 53/udp",
            "VOLUME /data",
            r#"VOLUME ["/a b"]"#,
            "USER me:us",
            "WORKDIR /srv",
            "WORKDIR app",
            "STOPSIGNAL SIGINT",
        ];
        let expected = r#"{"ExposedPorts":{"53/udp":{},"80/tcp":{}},"StopSignal":"SIGINT","User":"me:us","Volumes":{"/a b":{},"/data":{}},"WorkingDir":"/srv/app"}"#;
        assert_eq!(changed("{}", &changes), expected);
    }

    #[test]
    fn health_checks_are_dockers() {
        let check = "HEALTHCHECK --interval=1m30s --timeout=500ms --retries=2 CMD curl -f localhost";
        let expected = r#"{"Healthcheck":{"Interval":90000000000,"Retries":2,"Test":["CMD-SHELL","curl -f localhost"],"Timeout":500000000}}"#;
        assert_eq!(changed("{}", &[check]), expected);
        assert_eq!(changed("{}", &["HEALTHCHECK NONE"]), r#"{"Healthcheck":{"Test":["NONE"]}}"#);
        assert_eq!(changed("{}", &[r#"HEALTHCHECK CMD ["a"]"#]), r#"{"Healthcheck":{"Test":["CMD","a"]}}"#);
    }

    #[test]
    fn what_is_no_change_is_refused() {
        for bad in [
            "",
            "RUN x",
            "SHELL /bin/sh",
            "SHELL []",
            "ONBUILD",
            "ONBUILD FROM x",
            "ONBUILD onbuild RUN x",
            "ENV",
            "ENV A",
            "ENV =x",
            "ENV A=\"x",
            "EXPOSE 0",
            "EXPOSE 80/icmp",
            "USER a b",
            "HEALTHCHECK",
            "HEALTHCHECK --interval=x CMD a",
            "HEALTHCHECK CMD",
            "LABEL a=b\\",
        ] {
            assert!(bad.parse::<Change>().is_err(), "{bad}");
        }
    }
}

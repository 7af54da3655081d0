//! Docker's flags of commands other than `run` and `create` that are not ours.

use super::Instead::{Command, LeaveOut, LeaveOutAnd, Words};
use super::Takes::{Nothing, Value};
use super::quote::line;
use super::{DockerFlag, flag};

/// Flags that some commands have in Docker.
pub(super) struct VerbFlags {
    /// The commands, as they are called here.
    pub(super) verbs: &'static [&'static str],
    /// Their flags.
    pub(super) flags: &'static [DockerFlag],
}

const NO_TEMPLATES: &str = "does not exist: there is no language of templates";

/// In the order of the page in the guide. A command may be in several entries.
pub(super) static OTHER_FLAGS: &[VerbFlags] = &[
    VerbFlags {
        verbs: &[
            "ps",
            "list",
            "images",
            "image list",
            "volume list",
            "stats",
            "version",
            "events",
            "df",
            "network",
            "image history",
            "template list",
            "kernel list",
        ],
        flags: &[
            flag(&["--format"], Value("{{.Names}}"), NO_TEMPLATES, Words(|_| vec!["--json".to_owned()])),
            flag(
                &["--no-trunc"],
                Nothing,
                "is not needed: what is not shown on a terminal is never cut",
                LeaveOutAnd("a pipe or --json gives all of it"),
            ),
        ],
    },
    VerbFlags {
        verbs: &["status", "image inspect", "volume status"],
        flags: &[
            flag(
                &["--format", "-f"],
                Value("{{.State}}"),
                NO_TEMPLATES,
                Words(|_| vec!["--json".to_owned()]),
            ),
            flag(
                &["--type"],
                Value("container"),
                "does not exist: images and volumes are told apart by `image inspect` and `volume inspect`",
                LeaveOut,
            ),
        ],
    },
    VerbFlags {
        verbs: &["ps", "list", "status"],
        flags: &[flag(
            &["--size", "-s"],
            Nothing,
            "does not exist: what a workspace takes of the disk is in its status",
            LeaveOutAnd("`microagent df` adds it up"),
        )],
    },
    VerbFlags {
        verbs: &["ps", "list"],
        flags: &[
            flag(
                &["--last", "-n"],
                Value("5"),
                "does not exist: workspaces are shown all, or by a filter",
                LeaveOutAnd("--filter chooses"),
            ),
            flag(
                &["--latest", "-l"],
                Nothing,
                "does not exist: workspaces are named, and not numbered",
                LeaveOutAnd("--filter chooses"),
            ),
        ],
    },
    VerbFlags {
        verbs: &["images", "image list"],
        flags: &[
            flag(&["--all", "-a"], Nothing, "is not needed: all images are shown", LeaveOut),
            flag(&["--digests"], Nothing, "is not shown in the table", Words(|_| vec!["--json".to_owned()])),
            flag(&["--tree"], Nothing, "does not exist: each platform has a line of its own", LeaveOut),
            flag(&["-q"], Nothing, "is --ids here", Words(|_| vec!["--ids".to_owned()])),
            flag(
                &["--filter", "-f"],
                Value("dangling=true"),
                "does not exist for images",
                LeaveOutAnd("--json with another program's filter does it"),
            ),
        ],
    },
    VerbFlags {
        verbs: &["exec"],
        flags: &[
            flag(
                &["--privileged"],
                Nothing,
                "is not needed: the command has all rights in the workspace's machine",
                LeaveOut,
            ),
            flag(
                &["--detach-keys"],
                Value("ctrl-x"),
                "does not exist: `microagent connect` is left with Ctrl-] or Ctrl-P Ctrl-Q",
                LeaveOut,
            ),
            flag(
                &["--latest", "-l"],
                Nothing,
                "does not exist: workspaces are named, and not numbered",
                LeaveOutAnd("name it"),
            ),
        ],
    },
    VerbFlags {
        verbs: &["start"],
        flags: &[
            flag(
                &["--attach", "-a"],
                Nothing,
                "does not exist: a started workspace goes on by itself",
                Command(|names| {
                    let first = names.first().map_or("NAME", String::as_str);
                    format!(
                        "microagent {} && microagent {}",
                        line(&["start", first]),
                        line(&["logs", "-f", first])
                    )
                }),
            ),
            flag(
                &["--interactive", "-i"],
                Nothing,
                "does not exist: what a service reads is settled when its workspace is made",
                Command(|names| {
                    let first = names.first().map_or("NAME", String::as_str);
                    format!(
                        "microagent {} && microagent {}",
                        line(&["start", first]),
                        line(&["connect", first])
                    )
                }),
            ),
            flag(
                &["--detach-keys"],
                Value("ctrl-x"),
                "does not exist: `microagent connect` is left with Ctrl-] or Ctrl-P Ctrl-Q",
                LeaveOut,
            ),
            flag(
                &["--checkpoint", "--checkpoint-dir"],
                Value("one"),
                "does not exist: a running machine is paused, or halted; its disk is cloned",
                LeaveOut,
            ),
        ],
    },
    VerbFlags {
        verbs: &["stop"],
        flags: &[flag(
            &["--signal", "-s"],
            Value("INT"),
            "is settled when a workspace is made, by --stop-signal",
            LeaveOutAnd("`microagent kill --signal SIGNAL NAME` sends any"),
        )],
    },
    VerbFlags {
        verbs: &["restart"],
        flags: &[
            flag(
                &["--timeout", "--time", "-t"],
                Value("5"),
                "is settled when a workspace is made, by --stop-timeout",
                LeaveOut,
            ),
            flag(
                &["--signal", "-s"],
                Value("INT"),
                "is settled when a workspace is made, by --stop-signal",
                LeaveOut,
            ),
        ],
    },
    VerbFlags {
        verbs: &["delete"],
        flags: &[
            flag(
                &["--volumes", "-v"],
                Nothing,
                "is not needed: a workspace's disk goes with it, and a named volume never does",
                LeaveOut,
            ),
            flag(&["--link", "-l"], Nothing, "does not exist: workspaces are not linked", LeaveOut),
        ],
    },
    VerbFlags {
        verbs: &["logs"],
        flags: &[
            flag(&["--details"], Nothing, "does not exist: lines have no more than their time", LeaveOut),
            flag(&["--names"], Nothing, "does not exist: the log of one workspace is shown", LeaveOut),
        ],
    },
    VerbFlags {
        verbs: &["events"],
        flags: &[flag(
            &["--filter"],
            Value("event=die"),
            "does not exist: events are chosen by the workspace's name",
            LeaveOutAnd("--json with another program's filter does it"),
        )],
    },
    VerbFlags {
        verbs: &["stats"],
        flags: &[flag(&["--all", "-a"], Nothing, "does not exist: what does not run uses nothing", LeaveOut)],
    },
    VerbFlags {
        verbs: &["pull", "image pull"],
        flags: &[
            flag(&["-q"], Nothing, "is --quiet here", Words(|_| vec!["--quiet".to_owned()])),
            flag(&["--all-tags", "-a"], Nothing, "does not exist: images are pulled one by one", LeaveOut),
            flag(
                &["--disable-content-trust"],
                Nothing,
                "does not exist: an image is what its digest says, and no signature is asked for",
                LeaveOut,
            ),
        ],
    },
    VerbFlags {
        verbs: &["load", "image load", "push", "image push"],
        flags: &[flag(&["-q"], Nothing, "is --quiet here", Words(|_| vec!["--quiet".to_owned()]))],
    },
    VerbFlags {
        verbs: &["push", "image push"],
        flags: &[flag(
            &["--all-tags", "-a"],
            Nothing,
            "does not exist: images are pushed one by one",
            LeaveOut,
        )],
    },
    VerbFlags {
        verbs: &["cp"],
        flags: &[flag(&["--overwrite"], Nothing, "is not needed: a file takes the place of one", LeaveOut)],
    },
    VerbFlags {
        verbs: &["prune"],
        flags: &[
            flag(
                &["--volumes"],
                Nothing,
                "does not exist: volumes are removed on their own",
                LeaveOutAnd("microagent volume prune"),
            ),
            flag(&["--filter"], Value("until=24h"), "does not exist: what would go is shown first", LeaveOut),
        ],
    },
];

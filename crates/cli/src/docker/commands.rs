//! Docker's commands, and Podman's, that are not ours.

use super::DockerCommand;
use super::quote::line;

const fn command(
    names: &'static [&'static str],
    example: &'static [&'static str],
    why: &'static str,
    instead: fn(&[String]) -> String,
) -> DockerCommand {
    DockerCommand { names, why, instead, example }
}

const NO_CLUSTER: &str = "does not exist: there is no cluster; each command works on this host";

/// In the order of the page in the guide. A name of two words is looked up first.
pub(super) static COMMANDS: &[DockerCommand] = &[
    command(
        &["build", "image build", "builder"],
        &["-t", "mine:1", "."],
        "does not exist: images are built elsewhere, and run here",
        build,
    ),
    command(
        &["buildx", "bake"],
        &["build", "-t", "mine:1", "."],
        "does not exist: images are built elsewhere, and run here",
        |words| {
            let words = words.strip_prefix(&["build".to_owned()]).unwrap_or(words);
            build(words)
        },
    ),
    command(
        &["compose", "docker-compose", "stack"],
        &["up"],
        "does not exist: each service is a workspace of its own",
        |_| {
            "start each: microagent run -d --name NAME IMAGE; or keep its settings in a file: \
             microagent create --name NAME --file workspace.yaml"
                .to_owned()
        },
    ),
    command(
        &["attach"],
        &["web"],
        "is `connect`, which opens a shell, or `logs`, which shows what was said",
        |words| {
            let name = name(words);
            format!("microagent {}; microagent {}", line(&["connect", &name]), line(&["logs", "-f", &name]))
        },
    ),
    command(
        &["export"],
        &["web"],
        "does not exist under that name: a workspace's files are copied out as a tar",
        |words| {
            let from = format!("{}:/", name(words));
            let file = value_of(words, &["-o", "--output"]).unwrap_or_else(|| "files.tar".to_owned());
            format!("microagent {} >{}", line(&["cp", &from, "-"]), super::quote::quoted(&file))
        },
    ),
    command(&["top"], &["web"], "does not exist: ask the workspace itself", |words| {
        format!("microagent {}", line(&["exec", &name(words), "--", "ps"]))
    }),
    command(
        &["diff"],
        &["web"],
        "does not exist: the host never reads a disk that a guest has written",
        |words| {
            let name = name(words);
            format!(
                "see what is newer than the image in it: microagent {}",
                line(&["exec", &name, "--", "find", "/", "-xdev", "-newer", "/etc/hostname"])
            )
        },
    ),
    command(
        &["update"],
        &["--memory", "2g", "web"],
        "does not exist: settings are made with the workspace",
        |words| {
            let name = words.last().filter(|word| !word.starts_with('-')).cloned();
            let name = name.unwrap_or_else(|| "NAME".to_owned());
            format!(
                "keep them, change them, and make one anew: microagent {} >workspace.yaml; \
                 microagent create --name NEW-NAME --file workspace.yaml; a larger disk: microagent {}",
                line(&["status", "--spec", &name]),
                line(&["resize", &name, "--size", "20g"])
            )
        },
    ),
    command(&["system df"], &[], "is `df`", |_| "microagent df".to_owned()),
    command(&["system prune"], &["-f"], "is `prune`", |words| {
        let force = words.iter().any(|word| ["-f", "--force", "-af", "-fa"].contains(&word.as_str()));
        let all = words.iter().any(|word| ["-a", "--all", "-af", "-fa"].contains(&word.as_str()));
        let mut command = vec!["microagent", "prune"];
        command.extend(all.then_some("--all"));
        command.extend(force.then_some("--yes"));
        line(&command)
    }),
    command(&["system events"], &[], "is `events`", |_| "microagent events".to_owned()),
    command(
        &["system info", "info", "system"],
        &[],
        "is `doctor`: what this host can do, and what is missing",
        |_| "microagent doctor; what is kept: microagent df".to_owned(),
    ),
    command(
        &["container", "pod"],
        &["ls", "-a"],
        "is not needed: the commands for workspaces have no word before them",
        container,
    ),
    command(&["login"], &["ghcr.io"], "is `registry login`", |words| {
        format!("microagent registry {}", line(&with("login", words)))
    }),
    command(&["logout"], &["ghcr.io"], "is `registry logout`", |words| {
        format!("microagent registry {}", line(&with("logout", words)))
    }),
    command(&["history"], &["debian:12"], "is `image history`", |words| {
        format!("microagent image {}", line(&with("history", words)))
    }),
    command(
        &["manifest"],
        &["inspect", "debian:12"],
        "does not exist: an image is shown as it is in the store",
        |words| {
            let image = words.last().filter(|_| words.len() > 1).map_or("IMAGE", String::as_str);
            format!("microagent {}", line(&["image", "inspect", image]))
        },
    ),
    command(
        &["search"],
        &["nginx"],
        "does not exist: images are named, and pulled from any registry",
        |words| {
            let image = words.first().map_or("IMAGE", String::as_str);
            format!("microagent {}", line(&["pull", image]))
        },
    ),
    command(
        &["trust"],
        &["inspect", "debian:12"],
        "does not exist: no signatures are checked; a digest pins what an image is",
        |_| "pin an image as NAME@sha256:...; its digest is shown by: microagent --json images".to_owned(),
    ),
    command(&["scout", "sbom"], &["debian:12"], "does not exist: no image is looked into", |words| {
        let image = words.last().map_or("IMAGE", String::as_str);
        format!("give the image to a program that does: microagent {} >image.tar", line(&["save", image]))
    }),
    command(
        &["context"],
        &["ls"],
        "does not exist: there is no daemon to choose; a state directory is chosen with --home",
        |_| "microagent --home DIR list".to_owned(),
    ),
    command(&["plugin"], &["ls"], "does not exist: there are no plugins", |_| {
        "see what there is: microagent --help".to_owned()
    }),
    command(&["swarm", "service", "node"], &["ls"], NO_CLUSTER, |_| {
        "see what runs here: microagent ps".to_owned()
    }),
    command(
        &["secret", "config"],
        &["ls"],
        "does not exist: nothing keeps secrets or settings for all workspaces",
        |_| "pass a variable on with -e NAME, or bring a file in: microagent cp FILE NAME:/PATH".to_owned(),
    ),
    command(
        &["checkpoint"],
        &["create", "web", "one"],
        "does not exist: a machine is frozen with `pause`, and the disk of one that is halted is copied with `clone`",
        |words| {
            let name = words.get(1).map_or("NAME", String::as_str);
            format!(
                "microagent {} && microagent {}",
                line(&["halt", name]),
                line(&["clone", name, "NEW-NAME"])
            )
        },
    ),
    command(&["healthcheck"], &["run", "web"], "does not exist: checks run by themselves", |words| {
        format!(
            "see what they found: microagent {}",
            line(&["status", words.last().map_or("NAME", String::as_str)])
        )
    }),
    command(
        &["network connect", "network disconnect"],
        &["backend"],
        "does not exist: a workspace is on the networks with which it was made",
        |_| "say it when it is made: microagent create --network backend --image IMAGE".to_owned(),
    ),
    command(
        &["machine", "kube", "play", "generate", "unshare", "farm"],
        &["init"],
        "does not exist: every workspace is a machine of its own",
        |_| "microagent run -d --name NAME IMAGE".to_owned(),
    ),
    command(
        &["mount", "unmount", "umount"],
        &["web"],
        "does not exist: the host never reads a disk that a guest has written",
        |words| {
            format!("copy files out: microagent {}", line(&["cp", &format!("{}:/PATH", name(words)), "."]))
        },
    ),
    command(
        &[
            "init",
            "debug",
            "desktop",
            "extension",
            "model",
            "mcp",
            "sandbox",
            "ai",
            "offload",
            "dockerd",
            "daemon",
        ],
        &[],
        "does not exist: this program runs images, and is no part of Docker's desktop",
        |_| "see what there is: microagent --help".to_owned(),
    ),
];

/// Built with what builds images, and handed over as an archive.
fn build(words: &[String]) -> String {
    let tag = value_of(words, &["-t", "--tag"]).unwrap_or_else(|| "mine:1".to_owned());
    let mut words = words.to_vec();
    if value_of(&words, &["-t", "--tag"]).is_none() {
        words.splice(0..0, ["-t".to_owned(), tag.clone()]);
    }
    format!("docker {} && docker {} | microagent load", line(&with("build", &words)), line(&["save", &tag]))
}

/// The same without `container`; some of its commands have other names here.
fn container(words: &[String]) -> String {
    let Some((verb, rest)) = words.split_first() else {
        return "microagent --help".to_owned();
    };
    let is_all = |word: &String| word == "-a" || word == "--all";
    let (verb, rest): (&str, Vec<String>) = match verb.as_str() {
        "ls" | "list" | "ps" if rest.iter().any(is_all) => {
            ("list", rest.iter().filter(|word| !is_all(word)).cloned().collect())
        }
        "ls" | "list" | "ps" => ("ps", rest.to_vec()),
        "prune" => ("prune", vec!["--workspaces".to_owned()]),
        other => (other, rest.to_vec()),
    };
    // What is not ours either has an answer of its own.
    match look_up(&[verb.to_owned()]) {
        Some((command, _)) => (command.instead)(&rest),
        None => format!("microagent {}", line(&with(verb, &rest))),
    }
}

/// The command that the first words are, and the words that follow it.
pub(super) fn look_up(words: &[String]) -> Option<(&'static DockerCommand, &[String])> {
    let find = |count: usize| {
        let typed = words.get(..count)?.join(" ");
        let found = COMMANDS.iter().find(|command| command.names.contains(&typed.as_str()));
        found.map(|command| (command, &words[count..]))
    };
    find(2).or_else(|| find(1))
}

fn with(first: &str, words: &[String]) -> Vec<String> {
    std::iter::once(first.to_owned()).chain(words.iter().cloned()).collect()
}

/// The first word that is no flag, nor looks like a flag's value.
fn name(words: &[String]) -> String {
    let mut value_follows = false;
    for word in words {
        let is_value = std::mem::replace(
            &mut value_follows,
            word == "-o" || word == "--output" || word == "--detach-keys",
        );
        if !is_value && !word.starts_with('-') {
            return word.clone();
        }
    }
    "NAME".to_owned()
}

fn value_of(words: &[String], flags: &[&str]) -> Option<String> {
    words.iter().enumerate().find_map(|(index, word)| {
        if flags.contains(&word.as_str()) {
            return words.get(index + 1).cloned();
        }
        let (flag, value) = word.split_once('=')?;
        flags.contains(&flag).then(|| value.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(typed: &str) -> String {
        let words = super::super::quote::words(typed);
        let (command, rest) = look_up(&words).unwrap();
        (command.instead)(rest)
    }

    #[test]
    fn the_users_own_words_are_filled_in() {
        assert_eq!(
            answer("build -f Dockerfile.ci --tag=app:2 ."),
            "docker build -f Dockerfile.ci --tag=app:2 . && docker save app:2 | microagent load"
        );
        assert_eq!(answer("export -o 'my files.tar' web"), "microagent cp web:/ - >'my files.tar'");
        assert_eq!(answer("top web -ef"), "microagent exec web -- ps");
        assert_eq!(answer("login -u me ghcr.io"), "microagent registry login -u me ghcr.io");
        assert_eq!(answer("system prune -af"), "microagent prune --all --yes");
    }

    #[test]
    fn what_follows_container_is_translated_too() {
        assert_eq!(answer("container ls -a --json"), "microagent list --json");
        assert_eq!(answer("container ps"), "microagent ps");
        assert_eq!(answer("container rm -f web"), "microagent rm -f web");
        assert_eq!(answer("container top web"), "microagent exec web -- ps");
        assert_eq!(answer("container"), "microagent --help");
    }
}

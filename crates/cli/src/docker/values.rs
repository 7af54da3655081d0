//! Values that Docker's flags take and ours, of the same name, do not: the host's networks and directories.

use std::path::Path;

use super::Instead::{LeaveOut, LeaveOutAnd, Prepared, Words};
use super::Takes::Value;
use super::{DockerFlag, Preparation};

/// For the page in the guide, one entry for each kind of value.
pub(super) static VALUES: &[&DockerFlag] =
    &[&NETWORK_HOST, &NETWORK_NONE, &NETWORK_CONTAINER, &DIRECTORY, &MOUNT, &SOCKET, &ANONYMOUS];

static NETWORK_HOST: DockerFlag = DockerFlag {
    names: &["--network host", "--network bridge"],
    takes: Value("host"),
    why: "does not exist: a machine has a network card and addresses of its own, and reaches out through the host",
    instead: LeaveOutAnd("publish ports with -p HOST:GUEST"),
};

static NETWORK_NONE: DockerFlag = DockerFlag {
    names: &["--network none"],
    takes: Value("none"),
    why: "is spelled differently here: a machine without a network card is isolated",
    instead: Words(|_| vec!["--network".to_owned(), "isolated".to_owned()]),
};

static NETWORK_CONTAINER: DockerFlag = DockerFlag {
    names: &["--network container:X"],
    takes: Value("container:web"),
    why: "does not exist: each machine has its own network",
    instead: LeaveOutAnd(
        "publish the other's port with -p, or run the command in it: microagent exec NAME COMMAND",
    ),
};

static DIRECTORY: DockerFlag = DockerFlag {
    names: &["-v /DIR:/DIR"],
    takes: Value("/srv/site:/site"),
    why: "shares nothing of the host: a guest never sees a live file system of the host's",
    instead: Prepared(bundle),
};

static MOUNT: DockerFlag = DockerFlag {
    names: &["--mount"],
    takes: Value("type=bind,src=/srv/site,dst=/site"),
    why: "is written as -v or --tmpfs here, and a guest never sees a live file system of the host's",
    instead: Prepared(mount),
};

static SOCKET: DockerFlag = DockerFlag {
    names: &["-v /var/run/docker.sock:..."],
    takes: Value("/var/run/docker.sock:/var/run/docker.sock"),
    why: "hands in no socket: a guest reaches no program of the host, and there is no daemon here",
    instead: LeaveOut,
};

static ANONYMOUS: DockerFlag = DockerFlag {
    names: &["-v /DIR"],
    takes: Value("/data"),
    why: "needs a name: there are no volumes without one",
    instead: Words(|path| vec!["-v".to_owned(), format!("{}:{path}", base_name(path))]),
};

/// The answer to `value` of the flag whose long name is `flag`, where it is one that this program does not take.
pub(super) fn look_up(flag: &str, value: &str) -> Option<&'static DockerFlag> {
    match flag {
        "network" | "net" => network(value),
        "volume" => volume(value),
        "mount" => Some(&MOUNT),
        _ => None,
    }
}

/// Whether a value follows a flag of this name, which is one of those above even if this program has no such flag.
pub(super) fn takes(name: &str) -> bool {
    matches!(long_name(name), "network" | "net" | "volume" | "mount")
}

/// The long name of a flag that may be short.
pub(super) fn long_name(name: &str) -> &str {
    if name == "-v" { "volume" } else { name.trim_start_matches('-') }
}

fn network(value: &str) -> Option<&'static DockerFlag> {
    match value {
        "user" | "isolated" => None,
        "none" => Some(&NETWORK_NONE),
        "host" | "bridge" | "default" | "slirp4netns" | "pasta" | "private" => Some(&NETWORK_HOST),
        _ if value.starts_with("container:") => Some(&NETWORK_CONTAINER),
        // A named network.
        _ => None,
    }
}

/// A directory of the host; what is a name, a bundle or a disk image is a volume.
fn volume(value: &str) -> Option<&'static DockerFlag> {
    let Some((source, _)) = value.split_once(':') else {
        return value.starts_with('/').then_some(&ANONYMOUS);
    };
    if Path::new(source).extension().is_some_and(|extension| extension == "sock") {
        return Some(&SOCKET);
    }
    let is_path = source.starts_with(['/', '.', '~']) || source.contains('/');
    let kept = [".tar", ".tar.gz", ".tgz", ".tar.zst", ".ext4", ".img"];
    let is_volume = kept.iter().any(|end| source.ends_with(end)) && !Path::new(source).is_dir();
    (is_path && !is_volume).then_some(&DIRECTORY)
}

/// The directory as a bundle, and the flag that hands it in.
fn bundle(value: &str) -> Preparation {
    let mut parts = value.split(':');
    let (source, target) = (parts.next().unwrap_or_default(), parts.next().unwrap_or("/PATH"));
    let options = parts.next().filter(|options| options.split(',').any(|option| option == "ro"));
    handed_in(source, target, options.is_some())
}

fn handed_in(source: &str, target: &str, read_only: bool) -> Preparation {
    let path = Path::new(source);
    // One file is a bundle of one, for the directory that it is to be in.
    let (directory, entry, target) = if path.is_file() {
        (path.parent().unwrap_or(path), base_name(source), parent(target))
    } else {
        (path, ".".to_owned(), target.to_owned())
    };
    let directory = if directory.as_os_str().is_empty() { ".".into() } else { directory.to_string_lossy() };
    let archive = format!("/tmp/{}.tar", base_name(source));
    let words = ["tar", "-C", &directory, "-cf", &archive, &entry];
    let suffix = if read_only { ":ro" } else { "" };
    Preparation {
        line: Some(super::quote::line(&words)),
        words: vec!["-v".to_owned(), format!("{archive}:{target}{suffix}")],
    }
}

fn parent(target: &str) -> String {
    let parent = Path::new(target).parent().map(|parent| parent.to_string_lossy().into_owned());
    parent.filter(|parent| !parent.is_empty()).unwrap_or_else(|| "/".to_owned())
}

/// The last part of a path, as far as it can be a name.
fn base_name(path: &str) -> String {
    let last = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let name: String =
        last.chars().filter(|letter| letter.is_ascii_alphanumeric() || "_.-".contains(*letter)).collect();
    let name = name.trim_start_matches(['.', '-', '_']).to_owned();
    if name.is_empty() { "files".to_owned() } else { name }
}

/// What Docker's long form of `-v` and `--tmpfs` is here.
fn mount(value: &str) -> Preparation {
    let mut fields = value.split(',').map(|field| field.split_once('=').unwrap_or((field, "true")));
    let field = |names: &[&str]| {
        let found = fields.clone().find(|(name, _)| names.contains(name));
        found.map(|(_, value)| value.to_owned())
    };
    let kind = field(&["type"]).unwrap_or_else(|| "volume".to_owned());
    let target = field(&["dst", "destination", "target"]).unwrap_or_else(|| "/PATH".to_owned());
    let source = field(&["src", "source"]);
    let read_only = fields.any(|(name, value)| ["ro", "readonly"].contains(&name) && value != "false");
    match (kind.as_str(), source) {
        ("tmpfs", _) => Preparation { line: None, words: vec!["--tmpfs".to_owned(), target] },
        ("bind", Some(source)) => handed_in(&source, &target, read_only),
        (_, source) => {
            let name = source.unwrap_or_else(|| base_name(&target));
            let suffix = if read_only { ":ro" } else { "" };
            Preparation { line: None, words: vec!["-v".to_owned(), format!("{name}:{target}{suffix}")] }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_told_from_directories_by_their_shape() {
        for volume_like in
            ["data:/data", "data:/data:ro", "./site.tar:/site", "/x/disk.ext4:/d:ro", "a.img:/b"]
        {
            assert!(volume(volume_like).is_none(), "{volume_like}");
        }
        for directory in ["/srv:/srv", ".:/app", "./site:/site:ro", "~/x:/x", "sub/dir:/x"] {
            assert!(std::ptr::eq(volume(directory).unwrap(), &raw const DIRECTORY), "{directory}");
        }
        assert!(volume("/data").unwrap().why.contains("name"));
        assert!(volume("/run/docker.sock:/run/docker.sock").unwrap().why.contains("socket"));
    }

    #[test]
    fn a_directory_becomes_a_bundle() {
        let made = bundle("/srv/my site:/site:ro");
        assert_eq!(made.line.unwrap(), "tar -C '/srv/my site' -cf /tmp/mysite.tar .");
        assert_eq!(made.words, ["-v", "/tmp/mysite.tar:/site:ro"]);
        assert_eq!(bundle(".:/app").words, ["-v", "/tmp/files.tar:/app"]);
        let file = bundle("/etc/hostname:/etc/app/name");
        assert_eq!(file.line.unwrap(), "tar -C /etc -cf /tmp/hostname.tar hostname");
        assert_eq!(file.words, ["-v", "/tmp/hostname.tar:/etc/app"]);
    }

    #[test]
    fn the_long_form_becomes_the_short_one() {
        assert_eq!(mount("type=volume,source=data,target=/d,readonly").words, ["-v", "data:/d:ro"]);
        assert_eq!(mount("type=tmpfs,dst=/scratch,tmpfs-size=1g").words, ["--tmpfs", "/scratch"]);
        assert_eq!(mount("dst=/var/data").words, ["-v", "data:/var/data"]);
        assert_eq!(mount("type=bind,src=/srv,dst=/site").words, ["-v", "/tmp/srv.tar:/site"]);
        assert_eq!(mount("nonsense").words, ["-v", "PATH:/PATH"]);
    }
}

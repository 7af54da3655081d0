//! Docker's flags of `run` and `create`, and Podman's, that are not ours.

use super::Instead::{InGuest, LeaveOut, LeaveOutAnd, Words};
use super::Takes::{Nothing, Value};
use super::{DockerFlag, flag};

/// In the order of the page in the guide: what shares the host, what limits, what names, what streams.
pub(super) static RUN_FLAGS: &[DockerFlag] = &[
    flag(
        &["--privileged"],
        Nothing,
        "is not needed: the command has all rights in a machine of its own, and none on the host",
        LeaveOut,
    ),
    flag(
        &["--cap-add"],
        Value("NET_ADMIN"),
        "is not needed: the command has every capability in a machine of its own",
        LeaveOut,
    ),
    flag(
        &["--cap-drop"],
        Value("ALL"),
        "does not exist: what the command may do ends at its machine, whatever its capabilities",
        LeaveOutAnd("-u USER runs it as another user"),
    ),
    flag(
        &["--device"],
        Value("/dev/fuse"),
        "hands in no device: a machine has devices of its own, and none of the host",
        LeaveOut,
    ),
    flag(
        &["--device-cgroup-rule"],
        Value("c 1:3 mr"),
        "does not exist: the machine has its own devices, and the command may use them all",
        LeaveOut,
    ),
    flag(&["--gpus"], Value("all"), "does not exist: no device of the host reaches a machine", LeaveOut),
    flag(
        &["--pid"],
        Value("host"),
        "does not exist: a machine has processes of its own, and the host's stay with it",
        LeaveOutAnd("see a workspace's processes with: microagent exec NAME ps"),
    ),
    flag(
        &["--ipc"],
        Value("host"),
        "does not exist: a machine shares no memory with the host or with another",
        LeaveOut,
    ),
    flag(
        &["--uts"],
        Value("host"),
        "does not exist: a machine has a host name of its own",
        LeaveOutAnd("--hostname NAME sets it"),
    ),
    flag(
        &["--userns"],
        Value("host"),
        "does not exist: the users of a machine are its kernel's, and none is a user of the host",
        LeaveOut,
    ),
    flag(
        &["--cgroupns"],
        Value("host"),
        "does not exist: a machine has a kernel of its own, and so control groups of its own",
        LeaveOut,
    ),
    flag(
        &["--security-opt"],
        Value("seccomp=unconfined"),
        "does not exist: the boundary is the machine, and no filter in it is needed or in the way",
        LeaveOut,
    ),
    flag(
        &["--runtime"],
        Value("runc"),
        "does not exist: there is one runtime, a microVM",
        LeaveOutAnd("--accel chooses between KVM and translation"),
    ),
    flag(
        &["--isolation"],
        Value("default"),
        "does not exist: the isolation is always a machine of its own",
        LeaveOut,
    ),
    flag(
        &["--cgroup-parent", "--cgroups", "--cgroup-conf"],
        Value("/limits"),
        "does not exist: what a command may use is the size of its machine",
        LeaveOutAnd("--memory and --cpus set it"),
    ),
    flag(
        &["--link"],
        Value("db"),
        "does not exist: workspaces find each other by name on a network that they share",
        LeaveOutAnd("give both --network NAME, after: microagent network create NAME"),
    ),
    flag(
        &["--network-alias", "--net-alias"],
        Value("db"),
        "does not exist: on a network a workspace is known by its own name",
        LeaveOutAnd("--name names it, and --add-host NAME:ADDRESS names an address for the command"),
    ),
    flag(
        &["--ip", "--ip6", "--link-local-ip", "--mac-address"],
        Value("10.0.2.20"),
        "does not exist: addresses are given, and others find a workspace by name",
        LeaveOutAnd("publish a port with -p, or share a network"),
    ),
    flag(
        &["--expose"],
        Value("8080"),
        "does not exist: a port is reached when it is published, and else not at all",
        LeaveOutAnd("publish it with -p HOST:GUEST"),
    ),
    flag(
        &["--publish-all", "-P"],
        Nothing,
        "does not exist: ports are published one by one",
        LeaveOutAnd("publish each with -p HOST:GUEST; host port 0 takes one that is free"),
    ),
    flag(
        &["--volumes-from"],
        Value("db"),
        "does not exist: machines share no disk that one of them writes",
        LeaveOutAnd("name the volume: -v NAME:/PATH, with :ro where several read it"),
    ),
    flag(
        &["--volume-driver"],
        Value("local"),
        "does not exist: a volume is a disk in microagent's own directory",
        LeaveOut,
    ),
    flag(
        &["--shm-size"],
        Value("1g"),
        "does not exist: shared memory may take half of the machine's",
        LeaveOutAnd("--memory sets that"),
    ),
    flag(
        &["--sysctl"],
        Value("net.ipv4.ip_forward=1"),
        "does not exist: the command has a kernel of its own, and may set it up itself",
        InGuest(sysctl),
    ),
    flag(
        &["--ulimit"],
        Value("nofile=1024:2048"),
        "does not exist: limits are set by a shell, in the machine",
        InGuest(ulimit),
    ),
    flag(
        &["--group-add"],
        Value("audio"),
        "does not exist: the command's groups are those of its user in the image",
        LeaveOutAnd("-u USER:GROUP sets its first group"),
    ),
    flag(
        &[
            "--cpu-quota",
            "--cpu-period",
            "--cpu-rt-period",
            "--cpu-rt-runtime",
            "--cpu-count",
            "--cpu-percent",
        ],
        Value("50000"),
        "does not exist: a machine has whole virtual processors",
        LeaveOutAnd("--cpus NUMBER sets how many"),
    ),
    flag(
        &["--cpuset-cpus"],
        Value("0-1"),
        "does not exist: a machine has so many virtual processors, on any of the host's",
        Words(cpus),
    ),
    flag(
        &["--cpu-shares", "-c", "--cpuset-mems"],
        Value("512"),
        "does not exist: machines share the host's processors as any programs do",
        LeaveOutAnd("--cpus NUMBER bounds how many it can use"),
    ),
    flag(
        &["--memory-swap", "--memory-reservation", "--memory-swappiness", "--kernel-memory"],
        Value("2g"),
        "does not exist: a machine has a size of memory, and its own kernel deals with it",
        LeaveOutAnd("--memory SIZE sets it"),
    ),
    flag(
        &["--oom-kill-disable"],
        Nothing,
        "does not exist: when the machine has no memory left, its own kernel ends a process",
        LeaveOutAnd("--memory SIZE gives it more"),
    ),
    flag(
        &["--oom-score-adj"],
        Value("-500"),
        "does not exist: when the machine has no memory left, its own kernel ends a process",
        LeaveOutAnd("--memory SIZE gives it more"),
    ),
    flag(
        &["--pids-limit"],
        Value("100"),
        "does not exist: processes are the machine's own, and cannot use up the host's",
        LeaveOut,
    ),
    flag(
        &[
            "--blkio-weight",
            "--blkio-weight-device",
            "--device-read-bps",
            "--device-read-iops",
            "--device-write-bps",
            "--device-write-iops",
            "--io-maxbandwidth",
            "--io-maxiops",
        ],
        Value("/dev/sda:1mb"),
        "does not exist: a machine's disk is a file, whose size is bounded and whose speed is not",
        LeaveOutAnd("--disk-size SIZE bounds it"),
    ),
    flag(
        &["--storage-opt"],
        Value("size=20G"),
        "is spelled differently here: the disk has a size of its own",
        Words(disk_size),
    ),
    flag(
        &["--log-driver", "--log-opt"],
        Value("none"),
        "does not exist: what a workspace says is kept, up to a bound, and read with `microagent logs`",
        LeaveOut,
    ),
    flag(
        &["--cidfile"],
        Value("box.id"),
        "does not exist: a workspace is known by its name",
        LeaveOutAnd("choose it with --name; -d prints it"),
    ),
    flag(
        &["--domainname"],
        Value("example.org"),
        "does not exist: a host name may have dots",
        LeaveOutAnd("--hostname HOST.DOMAIN sets both"),
    ),
    flag(
        &["--annotation"],
        Value("team=web"),
        "does not exist: what is noted about a workspace is a label",
        Words(|value| vec!["--label".to_owned(), value.to_owned()]),
    ),
    flag(
        &["--label-file"],
        Value("labels"),
        "does not exist: labels are given one by one",
        LeaveOutAnd("-l NAME=VALUE sets one; --file workspace.yaml of `create` takes many"),
    ),
    flag(
        &["--health-start-interval"],
        Value("2s"),
        "does not exist: there is one time between checks",
        Words(|value| vec!["--health-interval".to_owned(), value.to_owned()]),
    ),
    flag(
        &["--attach", "-a"],
        Value("stdout"),
        "is not needed: output, errors and, with -i, input are the command's own",
        LeaveOut,
    ),
    flag(&["--sig-proxy"], Nothing, "is not needed: signals are always passed on to the command", LeaveOut),
    flag(
        &["--detach-keys"],
        Value("ctrl-x"),
        "does not exist: `microagent connect` is left with Ctrl-] or Ctrl-P Ctrl-Q",
        LeaveOut,
    ),
    flag(&["-q"], Nothing, "is --quiet here", Words(|_| vec!["--quiet".to_owned()])),
    flag(
        &["--disable-content-trust"],
        Nothing,
        "does not exist: an image is what its digest says, and no signature is asked for",
        LeaveOutAnd("IMAGE@sha256:... pins what is run"),
    ),
    flag(
        &["--use-api-socket"],
        Nothing,
        "does not exist: there is no daemon, so there is no socket to hand in",
        LeaveOut,
    ),
    flag(
        &["--pod", "--pod-id-file", "--infra-name", "--requires"],
        Value("web"),
        "does not exist: each workspace is a machine of its own, and there are no pods",
        LeaveOut,
    ),
    flag(
        &["--secret"],
        Value("token"),
        "does not exist: nothing keeps secrets here",
        LeaveOutAnd("-e NAME passes this shell's value on; `microagent cp` brings a file in"),
    ),
    flag(
        &["--systemd"],
        Value("always"),
        "does not exist: the first process of a machine is microagent's",
        LeaveOut,
    ),
    flag(
        &["--replace"],
        Nothing,
        "does not exist: nothing that is kept is replaced unasked",
        LeaveOutAnd("delete the other first: microagent delete --yes NAME"),
    ),
    flag(
        &["--tz"],
        Value("local"),
        "does not exist: the machine's clock is in UTC",
        LeaveOutAnd("-e TZ=ZONE sets the command's time zone, if the image knows it"),
    ),
    flag(
        &["--umask"],
        Value("0022"),
        "does not exist: a shell sets it, in the machine",
        InGuest(|value| format!("umask {}", super::quote::quoted(value))),
    ),
];

/// The kernel's own file, since not every image has a `sysctl`.
fn sysctl(value: &str) -> String {
    let (name, value) = value.split_once('=').unwrap_or((value, "VALUE"));
    format!("echo {} >{}", super::quote::quoted(value), super::quote::quoted(&sysctl_file(name)))
}

fn sysctl_file(name: &str) -> String {
    format!("/proc/sys/{}", name.replace('.', "/"))
}

fn ulimit(value: &str) -> String {
    let (name, limit) = value.split_once('=').unwrap_or((value, "LIMIT"));
    let soft = limit.split(':').next().unwrap_or(limit);
    let letter = match name {
        "as" => 'v',
        "core" => 'c',
        "cpu" => 't',
        "data" => 'd',
        "fsize" => 'f',
        "memlock" => 'l',
        "nproc" => 'u',
        "stack" => 's',
        _ => 'n',
    };
    format!("ulimit -{letter} {}", super::quote::quoted(soft))
}

/// As many processors as `0-3` or `0,2` name.
fn cpus(value: &str) -> Vec<String> {
    let count = |part: &str| match part.split_once('-') {
        Some((first, last)) => {
            let (first, last) = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
            last.checked_sub(first)?.checked_add(1)
        }
        None => part.parse::<u32>().ok().map(|_| 1),
    };
    let counted = value.split(',').try_fold(0_u32, |sum, part| sum.checked_add(count(part)?));
    let number = counted.unwrap_or(1).clamp(1, 64);
    vec!["--cpus".to_owned(), number.to_string()]
}

fn disk_size(value: &str) -> Vec<String> {
    let size = value.strip_prefix("size=").unwrap_or("SIZE");
    vec!["--disk-size".to_owned(), size.to_ascii_lowercase()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_counted() {
        let of = |value| cpus(value)[1].clone();
        assert_eq!([of("0-3"), of("0,2"), of("1"), of("0-1,4-5")], ["4", "2", "1", "4"]);
        assert_eq!([of("x"), of("3-1"), of("0-4294967295")], ["1", "1", "1"]);
    }

    #[test]
    fn limits_and_kernel_settings_become_lines_for_a_shell() {
        assert_eq!(ulimit("nofile=1024:2048"), "ulimit -n 1024");
        assert_eq!(ulimit("core=0"), "ulimit -c 0");
        assert_eq!(sysctl("net.ipv4.ip_forward=1"), "echo 1 >/proc/sys/net/ipv4/ip_forward");
        assert_eq!(sysctl("kernel.domainname=a b"), "echo 'a b' >/proc/sys/kernel/domainname");
    }
}

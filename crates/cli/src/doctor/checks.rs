//! Facts in words: each as one line, with what to do where something is to be done.

use std::io;

use confine::Part;
use engine::{KvmProblem, LaunchError, OLDEST_QEMU, QemuVersion};
use home::{Home, HomeError, Keeps, Place};
use kernel::{Kernel, StoreError};
use workspace::{DiskError, causes};

use super::Check;
use crate::confinement::Trial;
use crate::output::size;

/// Less than this is soon used up by an image and its root file system.
const LITTLE_SPACE: u64 = 5 << 30;

/// With less than this not even a kernel can be installed.
const NO_SPACE: u64 = 256 << 20;

/// A machine's memory if nothing else is said.
const USUAL_MEMORY: u64 = 1 << 30;

const SLOW: &str = "translation (TCG), which is slow, and no security boundary by QEMU's own policy";

/// Whether the processor runs guests, and whether QEMU starts with it.
pub(super) fn acceleration(
    problem: Option<&KvmProblem>,
    with_kvm: Option<&Result<(), LaunchError>>,
) -> Check {
    const NAME: &str = "acceleration";
    match (problem, with_kvm) {
        (None, Some(Err(error))) => Check::failure(
            NAME,
            format!("KVM answers, and QEMU does not start with it: {}", causes(error)),
            "run with --accel tcg until the host's KVM works",
        ),
        (None, _) => Check::ok(NAME, "KVM"),
        (Some(problem), _) => Check::warning(NAME, format!("{SLOW}: {problem}"), kvm_remedy(problem)),
    }
}

fn kvm_remedy(problem: &KvmProblem) -> String {
    match problem {
        KvmProblem::Denied => "sudo usermod -aG kvm $USER, then log in again".to_owned(),
        KvmProblem::Absent => "on a machine of your own: enable virtualization in the firmware, then sudo modprobe kvm_intel or \
                               kvm_amd; on a virtual one: ask for nested virtualization"
            .to_owned(),
        KvmProblem::NoProcessorSupport | KvmProblem::OtherKind => {
            "ask whoever runs this virtual machine for nested virtualization, or use a host of its own; do not run what you \
             distrust here"
                .to_owned()
        }
        KvmProblem::Unopenable(_) | KvmProblem::NoMachine(_) => {
            "see the host's kernel log: sudo dmesg | grep -i kvm".to_owned()
        }
    }
}

/// Whether QEMU is there, new enough, and starts confined as always.
pub(super) fn qemu(
    version: &Result<String, LaunchError>,
    launched: Option<&Result<(), LaunchError>>,
) -> Check {
    const NAME: &str = "qemu";
    const INSTALL: &str = "sudo apt-get install qemu-system-x86";
    let version = match version {
        Ok(version) => version,
        Err(error) => return Check::failure(NAME, causes(error), INSTALL),
    };
    let oldest = format!("{}.{}", OLDEST_QEMU.major, OLDEST_QEMU.minor);
    match version.parse::<QemuVersion>() {
        Ok(found) if found < OLDEST_QEMU => Check::failure(
            NAME,
            format!("{version} is too old"),
            format!("install {oldest} or newer, from a newer release of the distribution"),
        ),
        Err(error) => Check::failure(NAME, error.to_string(), INSTALL),
        Ok(_) => match launched {
            Some(Err(error)) => Check::failure(
                NAME,
                format!("{version} does not start: {}", causes(error)),
                error.hint().unwrap_or_else(|| format!("install it anew: {INSTALL}")),
            ),
            _ => Check::ok(NAME, version.clone()),
        },
    }
}

/// Whether a usual machine has room in memory.
pub(super) fn memory(available: Option<u64>) -> Check {
    const NAME: &str = "memory";
    match available {
        None => Check::warning(NAME, "the kernel does not tell", "mount /proc"),
        Some(bytes) if bytes < USUAL_MEMORY => Check::warning(
            NAME,
            format!("{} available, less than a machine usually has", size(bytes)),
            "give machines less: --memory 256m",
        ),
        Some(bytes) => Check::ok(NAME, format!("{} available", size(bytes))),
    }
}

/// What holds QEMU, tried from inside.
pub(super) fn confinement(trial: &Result<Trial, LaunchError>) -> Check {
    const NAME: &str = "confinement";
    let trial = match trial {
        Ok(trial) => trial,
        Err(error) => {
            return Check::warning(
                NAME,
                format!("it cannot be tried: {}", causes(error)),
                "see the lines above; it is tried in QEMU's stead",
            );
        }
    };
    let held = trial.held.clone().unwrap_or_default();
    let landlock = held.landlock.map(|version| format!("Landlock {version}"));
    let around = landlock.clone().unwrap_or_else(|| "nothing of ours".to_owned());
    let has = |part, words: &str| held.has(part).then(|| words.to_owned());
    let parts = [
        landlock,
        has(Part::Namespaces, "namespaces of its own"),
        has(Part::Filter, "a system-call filter"),
        has(Part::ReadOnly, "read-only templates"),
    ];
    let parts = parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
    let parts = if parts.is_empty() { "nothing of ours, only QEMU's own filter".to_owned() } else { parts };
    let open: Vec<_> = trial
        .attempts
        .iter()
        .filter(|attempt| attempt.refused.is_none())
        .map(|attempt| &*attempt.what)
        .collect();
    let tried = trial.attempts.len();
    let tried = match open.len() {
        0 => format!("{tried} attempts from inside were refused"),
        _ => format!("of {tried} attempts from inside these succeed: {}", open.join(", ")),
    };
    let limits = match &held.cgroup {
        Some(_) => "limits, and a cgroup of its own",
        None => "limits in place of a cgroup, which nobody delegates here",
    };
    let found = format!("QEMU has {parts}, and {limits}; what runs it has {around}; {tried}");
    match held.missing.first() {
        None if open.is_empty() => Check::ok(NAME, found),
        None => Check::warning(NAME, found, "use a newer kernel"),
        Some(_) => {
            let lacking = held.missing.iter().map(|why| format!("{} ({})", why.part, why.reason));
            let found = format!("{found}; this host has not {}", lacking.collect::<Vec<_>>().join(", "));
            let remedies = held.missing.iter().map(|why| part_remedy(why.part));
            Check::warning(NAME, found, remedies.collect::<Vec<_>>().join("; "))
        }
    }
}

/// How a host comes to have a part of the confinement.
pub(crate) fn part_remedy(part: Part) -> &'static str {
    match part {
        Part::Landlock => {
            "use a kernel with Landlock (5.13 or newer) in its list of security modules: lsm=landlock,..."
        }
        Part::Namespaces => {
            "sudo sysctl kernel.unprivileged_userns_clone=1 user.max_user_namespaces=15000, or on Ubuntu \
             kernel.apparmor_restrict_unprivileged_userns=0; in a container, allow user namespaces"
        }
        Part::Filter => "use a kernel with seccomp filters: CONFIG_SECCOMP_FILTER=y",
        Part::ReadOnly => {
            "use a kernel with seccomp listeners (5.9 or newer), and in a container have its own filter listen to nothing"
        }
    }
}

/// Whether ports can be published and names looked up.
pub(super) fn network(port: io::Result<()>, name_servers: usize) -> Check {
    const NAME: &str = "network";
    if let Err(error) = port {
        return Check::warning(
            NAME,
            format!("no port of the loopback interface can be opened: {error}"),
            "sudo ip link set lo up; without it no port is published",
        );
    }
    match name_servers {
        0 => Check::warning(
            NAME,
            "there is no name server",
            "name one in /etc/resolv.conf; guests ask the host's",
        ),
        _ => Check::ok(
            NAME,
            "without root; guests reach out through this program, and ask the host's name servers",
        ),
    }
}

pub(super) fn user(is_root: bool) -> Check {
    const NAME: &str = "user";
    if is_root {
        return Check::warning(
            NAME,
            "you are root, and so is QEMU: what breaks out of it is root too",
            "use an ordinary account; nothing here needs root",
        );
    }
    Check::ok(NAME, "an ordinary one, which is all that is needed")
}

pub(super) fn no_directory(error: &HomeError) -> Check {
    Check::failure("directory", causes(error), "name a directory of your own with --home or MICROAGENT_HOME")
}

/// Whether state can be kept where it is to be.
pub(super) fn directory(home: &Home, place: io::Result<Place>, files: io::Result<bool>) -> Check {
    const NAME: &str = "directory";
    const ELSEWHERE: &str = "keep state on a disk of this host: --home DIR or MICROAGENT_HOME";
    let path = home.root().display();
    let place = match place {
        Ok(place) => place,
        Err(error) => return Check::failure(NAME, format!("cannot look at `{path}`: {error}"), ELSEWHERE),
    };
    let found = format!("`{path}` on {}, {} free", place.file_system, size(place.free));
    match files {
        Err(error) => {
            return Check::failure(NAME, format!("{found}: files cannot be kept there: {error}"), ELSEWHERE);
        }
        Ok(_) if place.free < NO_SPACE || place.free_files.is_some_and(|free| free < 1000) => {
            return Check::failure(
                NAME,
                format!("{found}: it is full"),
                format!("microagent prune; or {ELSEWHERE}"),
            );
        }
        Ok(false) => {
            let found = format!("{found}: files have no holes there, so disks take their whole size");
            return Check::warning(NAME, found, ELSEWHERE);
        }
        Ok(true) => {}
    }
    match place.keeps {
        Keeps::InMemory => Check::warning(
            NAME,
            format!("{found}: it is in memory, and gone when the host restarts"),
            ELSEWHERE,
        ),
        Keeps::Elsewhere => {
            let found = format!(
                "{found}: it is not on this host, so disks are slow, and locks hold only as far as it keeps them"
            );
            Check::warning(NAME, found, ELSEWHERE)
        }
        Keeps::OnDisk if place.free < LITTLE_SPACE => Check::warning(
            NAME,
            format!("{found}: images take much"),
            format!("microagent prune; or {ELSEWHERE}"),
        ),
        Keeps::OnDisk => Check::ok(NAME, found),
    }
}

pub(super) fn disks(made: Result<(), DiskError>) -> Check {
    const NAME: &str = "disks";
    match made {
        Ok(()) => Check::ok(NAME, "a file system was made"),
        Err(error) => {
            let remedy = error
                .hint()
                .unwrap_or_else(|| "see what it says; `microagent df` shows what is kept".to_owned());
            Check::failure(NAME, causes(&error), remedy)
        }
    }
}

pub(super) fn sockets(made: io::Result<()>) -> Check {
    const NAME: &str = "sockets";
    match made {
        Ok(()) => Check::ok(NAME, "one was listened on, and connected to"),
        Err(error) => Check::failure(
            NAME,
            format!("there can be no socket in the state directory: {error}"),
            "keep state on a disk of this host: --home DIR or MICROAGENT_HOME",
        ),
    }
}

/// Whether there is a kernel that could be booted: the file that was installed, as long as it was.
pub(super) fn kernel(kernel: Result<Option<Kernel>, StoreError>) -> Check {
    const NAME: &str = "kernel";
    const INSTALL: &str = "microagent kernel install; no root is needed";
    match kernel {
        Err(error) => Check::failure(NAME, causes(&error), INSTALL),
        Ok(None) => Check::failure(NAME, "no guest kernel is installed", INSTALL),
        Ok(Some(kernel)) => match std::fs::metadata(&kernel.image) {
            Ok(metadata) if metadata.len() == kernel.image_size => {
                Check::ok(NAME, kernel.release.to_string())
            }
            _ => Check::failure(NAME, format!("{} is damaged", kernel.release), INSTALL),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;
    use confine::{Attempt, Held, Why};

    fn place(file_system: &str, keeps: Keeps, free: u64) -> Place {
        Place { file_system: file_system.to_owned(), keeps, free, size: 1 << 40, free_files: None }
    }

    #[test]
    fn each_kind_of_kvm_has_its_own_remedy() {
        assert_eq!(acceleration(None, Some(&Ok(()))).verdict, Verdict::Ok);
        let broken = Err(LaunchError::Control("nothing".to_owned()));
        assert_eq!(acceleration(None, Some(&broken)).verdict, Verdict::Failure);
        let error = || io::Error::from_raw_os_error(5);
        let problems = [
            (KvmProblem::Absent, "modprobe"),
            (KvmProblem::Denied, "usermod"),
            (KvmProblem::NoProcessorSupport, "nested"),
            (KvmProblem::OtherKind, "nested"),
            (KvmProblem::NoMachine(error()), "dmesg"),
            (KvmProblem::Unopenable(error()), "dmesg"),
        ];
        for (problem, remedy) in problems {
            let check = acceleration(Some(&problem), None);
            assert_eq!(check.verdict, Verdict::Warning, "machines run all the same");
            assert!(check.found.contains("no security boundary"), "{}", check.found);
            assert!(check.remedy.unwrap().contains(remedy));
        }
    }

    #[test]
    fn qemu_is_missing_old_broken_or_well() {
        assert!(qemu(&Err(LaunchError::Missing), None).remedy.unwrap().contains("apt-get"));
        let old = qemu(&Ok("5.2.0 (Debian)".to_owned()), Some(&Ok(())));
        assert!(old.verdict == Verdict::Failure && old.found.contains("too old"));
        let broken = Err(LaunchError::Control("nothing".to_owned()));
        assert_eq!(qemu(&Ok("8.0.1".to_owned()), Some(&broken)).verdict, Verdict::Failure);
        assert_eq!(qemu(&Ok("10.0.1".to_owned()), Some(&Ok(()))).verdict, Verdict::Ok);
    }

    #[test]
    fn what_confines_is_told_part_by_part() {
        let attempt = |refused: Option<&str>| Attempt {
            what: "read a file".to_owned(),
            refused: refused.map(str::to_owned),
        };
        let trial = |landlock, missing: &[Part], refused| {
            let missing = missing.iter().map(|part| Why { part: *part, reason: "why".to_owned() }).collect();
            confinement(&Ok(Trial {
                held: Some(Held { landlock, missing, cgroup: None }),
                attempts: vec![attempt(refused)],
            }))
        };
        let whole = trial(Some(4), &[], Some("no"));
        assert_eq!(whole.verdict, Verdict::Ok);
        assert!(whole.found.contains("Landlock 4") && whole.found.contains("1 attempts"), "{}", whole.found);
        let lacking = trial(None, &[Part::Landlock, Part::Namespaces], Some("no"));
        assert_eq!(lacking.verdict, Verdict::Warning);
        assert!(lacking.found.contains("has not Landlock (why), namespaces (why)"), "{}", lacking.found);
        let remedy = lacking.remedy.unwrap();
        assert!(remedy.contains("lsm=landlock") && remedy.contains("userns"), "{remedy}");
        let open = trial(Some(1), &[], None);
        assert!(
            open.verdict == Verdict::Warning && open.found.contains("succeed: read a file"),
            "{}",
            open.found
        );
        assert!(trial(None, &Part::ALL, None).found.contains("only QEMU's own"));
        assert_eq!(confinement(&Err(LaunchError::Missing)).verdict, Verdict::Warning);
    }

    #[test]
    fn a_directory_serves_or_not() {
        let parent = tempfile::tempdir().unwrap();
        let home = Home::open(Some(parent.path())).unwrap();
        let of = |place, files| directory(&home, Ok(place), files);
        assert_eq!(of(place("ext4", Keeps::OnDisk, 1 << 40), Ok(true)).verdict, Verdict::Ok);
        let full = of(place("ext4", Keeps::OnDisk, 1 << 20), Ok(true));
        assert!(full.verdict == Verdict::Failure && full.remedy.unwrap().contains("prune"));
        let warned = [
            (place("tmpfs", Keeps::InMemory, 1 << 40), true, "in memory"),
            (place("nfs", Keeps::Elsewhere, 1 << 40), true, "not on this host"),
            (place("ext4", Keeps::OnDisk, 1 << 30), true, "much"),
            (place("vfat", Keeps::OnDisk, 1 << 40), false, "holes"),
        ];
        for (place, holes, words) in warned {
            let check = of(place, Ok(holes));
            assert!(check.verdict == Verdict::Warning && check.found.contains(words), "{}", check.found);
        }
        let unwritable = of(place("ext4", Keeps::OnDisk, 1 << 40), Err(io::Error::from_raw_os_error(30)));
        assert_eq!(unwritable.verdict, Verdict::Failure);
    }

    #[test]
    fn the_network_and_the_memory_are_judged() {
        assert_eq!(network(Ok(()), 1).verdict, Verdict::Ok);
        assert!(network(Ok(()), 0).remedy.unwrap().contains("resolv.conf"));
        assert_eq!(network(Err(io::Error::from_raw_os_error(99)), 1).verdict, Verdict::Warning);
        assert_eq!(memory(Some(2 << 30)).verdict, Verdict::Ok);
        assert!(memory(Some(1 << 20)).remedy.unwrap().contains("--memory"));
        assert_eq!((user(true).verdict, user(false).verdict), (Verdict::Warning, Verdict::Ok));
    }
}

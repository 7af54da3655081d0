//! A process that begins confined: nothing of what it is ran before the confinement held.
//!
//! ```text
//! launch: open what rules name, copy descriptors out of the way, allocate all that is needed
//!    │ clone(2), with its namespaces                        system calls only from here
//!    ├──▶ die with the launching thread, a group of its own
//!    │    descriptors onto their numbers, all others closed on exec
//!    │    limits, no_new_privs, no capabilities
//!    │    a listener on opening what is only to be read, sent to the launcher
//!    │    Landlock, then the filter, which forbids to do any of this again
//!    │    execve(2), with an empty environment
//!    │       what fails is written to a pipe, as the step and the error
//!    ▼
//! reads the pipe: at its end the program runs; else the part is given up, and all is done again without it
//! ```
//!
//! The process is the first of its PID namespace, so there is nobody in it but itself, and its user is not mapped: it
//! has the rights on files of whoever launched it, and those of nobody else, and no namespace can be made in its own.
//! Nothing under `/proc` needs to be written for that, which a launcher may be forbidden itself.

mod enter;

pub use enter::no_new_privileges;
pub(crate) use enter::restrict_self;

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::ptr;

use crate::files::{Beside, landlock_version};
use crate::group::Group;
use crate::opener::Opener;
use crate::{Child, Demand, Files, Filter, Held, Limits, Part, Share, delegated_group};
use enter::{Failed, Step};

/// A process to launch.
#[derive(Debug)]
pub struct Launch {
    /// The program's file, found already.
    pub program: PathBuf,
    /// Its arguments, without its name.
    pub arguments: Vec<OsString>,
    /// What it finds open, by number, from 3; nothing else is, but `/dev/null` as its input and output.
    pub descriptors: Vec<(RawFd, OwnedFd)>,
    /// What it may open. The program is not among it by itself.
    pub files: Files,
    /// What it may use.
    pub limits: Limits,
    /// What it may take of this host, where a control group of its own can be had.
    pub share: Option<Share>,
    /// The system calls it may make.
    pub filter: Filter,
    /// What becomes of it where this host lacks a part.
    pub demand: Demand,
    /// Parts to leave out though this host has them, to see what the others hold by themselves. None but in trials.
    pub left_out: Vec<Part>,
}

/// Why a process was not launched.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// This host lacks a part, and all were demanded.
    #[error("this host does not confine processes with {part}")]
    Lacks {
        /// The part.
        part: Part,
        /// What the kernel said.
        source: io::Error,
    },
    /// The program could not be executed.
    #[error("failed to execute `{}`", program.display())]
    Execute {
        /// The program.
        program: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The process could not be made.
    #[error("failed to start a process")]
    Process(#[from] io::Error),
}

/// Copies of descriptors are made above all numbers that a process is to find.
const OUT_OF_THE_WAY: RawFd = 128;

const NO_ARGUMENT: &str = "an argument has a NUL in it";

impl Launch {
    /// Launches it; its standard error is the end of a pipe whose other end this returns.
    ///
    /// It must be called on a thread that lives as long as the process is to.
    pub fn launch(self) -> Result<(Child, File, Held), LaunchError> {
        let prepared = Prepared::new(self)?;
        let mut held = Held { landlock: landlock_version(), missing: Vec::new(), cgroup: None };
        for part in prepared.launch.left_out.clone() {
            held.miss(part, &io::Error::other("it was left out"));
        }
        // Each part can be given up once.
        for _ in 0..=Part::ALL.len() {
            match prepared.attempt(&held) {
                Ok((child, stderr)) => {
                    held.cgroup = child.group().map(Path::to_owned);
                    return Ok((child, stderr, held));
                }
                Err(Failed { step: Step::Part(part), error }) if held.has(part) => {
                    prepared.give_up(&mut held, part, error)?;
                }
                Err(Failed { step: Step::Execute, error: source }) => {
                    return Err(LaunchError::Execute { program: prepared.launch.program, source });
                }
                Err(Failed { error, .. }) => return Err(error.into()),
            }
        }
        Err(io::Error::other("the kernel refuses what it has been asked for already").into())
    }
}

/// All that is allocated and opened before the process is made.
struct Prepared {
    launch: Launch,
    /// The program's path, and its arguments with its name.
    path: CString,
    arguments: Vec<CString>,
    null: OwnedFd,
}

impl Prepared {
    fn new(mut launch: Launch) -> io::Result<Self> {
        let text = |word: OsString| {
            CString::new(word.into_vec())
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, NO_ARGUMENT))
        };
        let path = text(launch.program.clone().into_os_string())?;
        let words = std::mem::take(&mut launch.arguments);
        let arguments =
            std::iter::once(Ok(path.clone())).chain(words.into_iter().map(text)).collect::<Result<_, _>>()?;
        for (number, descriptor) in &mut launch.descriptors {
            assert!((3..OUT_OF_THE_WAY).contains(number), "descriptors have numbers from 3");
            *descriptor = out_of_the_way(descriptor)?;
        }
        launch.descriptors.sort_by_key(|(number, _)| *number);
        let null = out_of_the_way(&File::options().read(true).write(true).open("/dev/null")?.into())?;
        Ok(Self { launch, path, arguments, null })
    }

    fn give_up(&self, held: &mut Held, part: Part, error: io::Error) -> Result<(), LaunchError> {
        if self.launch.demand == Demand::Whole {
            return Err(LaunchError::Lacks { part, source: error });
        }
        tracing::warn!(%part, %error, "this host lacks a part of the confinement");
        held.miss(part, &error);
        if part == Part::Landlock {
            held.landlock = None;
        }
        Ok(())
    }

    /// One attempt, with the parts that are not given up.
    fn attempt(&self, held: &Held) -> Result<(Child, File), Failed> {
        let (stderr, stderr_theirs) = pipe().map_err(Failed::process)?;
        let (report, report_theirs) = pipe().map_err(Failed::process)?;
        let opener = self.opener(held).map_err(Failed::process)?;
        let rules = self.rules(held)?;
        let plan = enter::Plan {
            path: self.path.as_ptr(),
            arguments: self.arguments.iter().map(|word| word.as_ptr()).chain([ptr::null()]).collect(),
            descriptors: self.descriptors(&stderr_theirs),
            namespaces: held.has(Part::Namespaces),
            limits: &self.launch.limits,
            rules: rules.as_ref().map(AsRawFd::as_raw_fd),
            opener: opener.as_ref().map(Opener::plan),
            filter: Some(&self.launch.filter).filter(|_| held.has(Part::Filter)),
            report: report_theirs.as_raw_fd(),
        };
        let group = self.group();
        let (pid, handle) = enter::clone(&plan)?;
        // It is still on its way, and has taken nothing yet.
        let group = group.filter(|group| told(group.take(pid)));
        let mut child = Child::new(pid, handle, group);
        drop((stderr_theirs, report_theirs));
        let mut said = Vec::new();
        File::from(report).read_to_end(&mut said).map_err(Failed::process)?;
        match Failed::read(&said) {
            None => {
                opener.map_or(Ok(()), Opener::serve).map_err(Failed::process)?;
                Ok((child, File::from(stderr)))
            }
            Some(failed) => {
                let _ = child.wait();
                Err(failed)
            }
        }
    }
}

impl Prepared {
    /// A group for the process. It is no part of the confinement, and a host that lacks it is no lesser one.
    fn group(&self) -> Option<Group> {
        let share = self.launch.share?;
        let made = Group::make(&delegated_group()?, share);
        made.inspect_err(|error| tracing::debug!(%error, "a control group cannot be had")).ok()
    }

    /// What answers where a file is only to be read.
    fn opener(&self, held: &Held) -> io::Result<Option<Opener>> {
        let file = self.launch.files.only_read().filter(|_| held.has(Part::ReadOnly));
        file.map(Opener::new).transpose()
    }

    fn rules(&self, held: &Held) -> Result<Option<OwnedFd>, Failed> {
        if !held.has(Part::Landlock) {
            return Ok(None);
        }
        let rules = self.launch.files.rule_set(Beside::Everything, held.has(Part::ReadOnly));
        let rules = rules.and_then(|rules| out_of_the_way(&rules));
        rules.map(Some).map_err(|error| Failed { step: Step::Part(Part::Landlock), error })
    }

    /// The source and the number of each descriptor.
    fn descriptors(&self, stderr: &OwnedFd) -> Vec<(RawFd, RawFd)> {
        let null = self.null.as_raw_fd();
        let given = self.launch.descriptors.iter().map(|(number, file)| (file.as_raw_fd(), *number));
        [(null, 0), (null, 1), (stderr.as_raw_fd(), 2)].into_iter().chain(given).collect()
    }
}

fn told(moved: io::Result<()>) -> bool {
    moved.inspect_err(|error| tracing::debug!(%error, "a process cannot have its control group")).is_ok()
}

/// A pipe's reading and writing end, both out of the way.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    Ok((reader, out_of_the_way(&writer)?))
}

pub(crate) fn out_of_the_way(descriptor: &OwnedFd) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(descriptor, OUT_OF_THE_WAY)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Namespaces;

    fn launch(program: &str, words: &[&str]) -> Launch {
        let mut files = Files::default();
        for path in ["/usr", "/lib", "/lib64", "/bin"] {
            files.run(path);
        }
        Launch {
            program: Path::new(program).canonicalize().unwrap_or_else(|_| program.into()),
            arguments: words.iter().map(OsString::from).collect(),
            descriptors: Vec::new(),
            files,
            limits: Limits { descriptors: 64, file_size: 1 << 20, address_space: 4 << 30, threads: 8 },
            share: None,
            filter: Filter::refusing(&[], Namespaces::Allowed),
            demand: Demand::WhatThereIs,
            left_out: Vec::new(),
        }
    }

    fn said(launch: Launch) -> (String, std::process::ExitStatus, Held) {
        let (mut child, mut stderr, held) = launch.launch().unwrap();
        let mut text = String::new();
        stderr.read_to_string(&mut text).unwrap();
        (text, child.wait().unwrap(), held)
    }

    #[test]
    fn a_process_is_alone_without_environment_and_with_its_descriptors() {
        let script =
            "exec >&2; echo $$; set | grep -c HOME=; cat <&9; ls /proc/self/fd/ | tr '\\n' ' '; ulimit -n";
        let mut launch = launch("/bin/sh", &["-c", script]);
        let (reader, writer) = pipe().unwrap();
        rustix::io::write(&writer, b"given\n").unwrap();
        drop(writer);
        // Those that the launcher uses itself have numbers that others are to find.
        let others = (3..9).map(|number| (number, File::open("/dev/null").unwrap().into()));
        launch.descriptors.extend(others);
        launch.descriptors.push((9, reader));
        let (text, status, held) = said(launch);
        assert_eq!(held.has(Part::Landlock), landlock_version().is_some(), "{held:?}");
        assert!(status.success(), "{text}");
        let lines: Vec<_> = text.lines().collect();
        assert!(lines.contains(&"given"), "{text}");
        assert_eq!(lines[1], "0", "{text}");
        if held.has(Part::Namespaces) {
            assert_eq!(lines[0], "1", "the first of its namespace: {text}");
        }
        assert_eq!(lines.last(), Some(&"64"), "{text}");
    }

    #[test]
    fn a_program_that_is_not_there_is_told() {
        match launch("/no/such/program", &[]).launch() {
            Err(LaunchError::Execute { source, .. }) => assert_eq!(source.kind(), io::ErrorKind::NotFound),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn it_ends_with_its_holder() {
        let (child, mut stderr, _) = launch("/bin/sleep", &["1000"]).launch().unwrap();
        drop(child);
        // The pipe ends when the last process that has it does.
        assert_eq!(stderr.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn it_ends_with_the_thread_that_launched_it() {
        let launching = std::thread::spawn(|| launch("/bin/sleep", &["1000"]).launch().unwrap());
        let (mut child, ..) = launching.join().unwrap();
        assert!(!child.wait().unwrap().success());
    }
}

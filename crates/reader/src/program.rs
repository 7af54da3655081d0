//! The process: how it is started, what it finds open, and how it locks itself in.
#![allow(unsafe_code, reason = "descriptors that were inherited are only known by number")]

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::sync::OnceLock;

use confine::{Child, Demand, Files, Filter, Launch, LaunchError, Limits};

/// What a reader finds open.
const CONTROL: RawFd = 3;
const OUTPUT: RawFd = 4;
const INPUT: RawFd = 5;

/// What the linker needs to start it. Once it runs, it opens nothing any more.
const LIBRARIES: &[&str] = &["/lib64/ld-linux-x86-64.so.2", "/lib/ld-musl-x86_64.so.1", "/etc/ld.so.cache"];
const LIBRARY_DIRECTORIES: &[&str] =
    &["/usr/lib", "/usr/lib64", "/lib", "/lib64", "/nix/store", "/gnu/store"];

/// How this program is started as a reader.
#[derive(Debug)]
pub struct Program {
    /// Its file.
    pub program: PathBuf,
    /// The arguments that have it read; the name of a job follows.
    pub arguments: Vec<OsString>,
}

static PROGRAM: OnceLock<Program> = OnceLock::new();

/// From now on foreign bytes are read by `program`. The first to say so counts.
pub fn read_in(program: Program) {
    let _ = PROGRAM.set(program);
}

/// The program that reads foreign bytes, if there is one.
pub fn program() -> Option<&'static Program> {
    PROGRAM.get()
}

/// What a reader has open, at either side.
#[derive(Debug)]
pub struct Descriptors<T> {
    /// Requests and outcomes.
    pub control: T,
    /// What it makes of the input.
    pub output: T,
    /// The foreign bytes.
    pub input: T,
}

impl Descriptors<File> {
    /// Those that a process finds that was started as a reader. It is for such a process, once; where they are not
    /// open each use fails.
    pub fn inherited() -> Self {
        // SAFETY: whoever starts a reader has these open, nothing in this process has them yet, and where they are not
        // open each use fails.
        let file = |number| unsafe { File::from_raw_fd(number) };
        Self { control: file(CONTROL), output: file(OUTPUT), input: file(INPUT) }
    }
}

/// A reader that runs. It is ended when this is dropped.
#[derive(Debug)]
pub struct Reader {
    child: Child,
    stderr: Option<File>,
}

impl Program {
    /// Starts it for `job`, on a thread that lives as long as the reader is to.
    pub fn launch(
        &self,
        job: &str,
        descriptors: Descriptors<OwnedFd>,
        limits: Limits,
    ) -> Result<Reader, LaunchError> {
        let Descriptors { control, output, input } = descriptors;
        let mut arguments = self.arguments.clone();
        arguments.push(job.into());
        let launch = Launch {
            program: self.program.clone(),
            arguments,
            descriptors: vec![(CONTROL, control), (OUTPUT, output), (INPUT, input)],
            files: self.files(),
            limits,
            share: None,
            filter: Filter::for_guests(),
            demand: Demand::WhatThereIs,
            left_out: Vec::new(),
        };
        let (child, stderr, _) = launch.launch()?;
        Ok(Reader { child, stderr: Some(stderr) })
    }

    fn files(&self) -> Files {
        let mut files = Files::default();
        files.run(&self.program);
        for path in LIBRARIES {
            files.run(path);
        }
        for path in LIBRARY_DIRECTORIES {
            files.read(path);
        }
        files
    }
}

impl Reader {
    /// Ends it.
    pub fn kill(&mut self) {
        self.child.kill();
    }

    /// Why it ended that was not asked to, as far as it and the kernel say; it is ended if it has not.
    pub fn last_words(&mut self) -> String {
        let mut said = Vec::new();
        if let Some(stderr) = self.stderr.take() {
            let _ = stderr.take(4096).read_to_end(&mut said);
        }
        let status = self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        let said = String::from_utf8_lossy(&said);
        let printable: String =
            said.lines().last().unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
        format!("({status}) {printable}").trim_end().to_owned()
    }
}

/// From here on this process works on what it has open, with threads, and nothing else.
pub fn lock_in() -> io::Result<()> {
    confine::no_new_privileges()?;
    if confine::landlock_version().is_some() {
        confine::restrict_files(&Files::default())?;
    }
    Filter::for_readers().install()
}

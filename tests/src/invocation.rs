//! One call of `microagent`: what goes in, what comes out, and a deadline.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::terminal::Terminal;

/// How long a call may take where nothing else is said.
pub const DEADLINE: Duration = Duration::from_secs(90);

/// A shell has what it starts in the background ignore Ctrl-C, and what is ignored stays so in whatever that starts.
#[allow(unsafe_code, reason = "there is no safe call for it")]
fn heed_interrupts() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    // SAFETY: the default is no code.
    ONCE.call_once(|| unsafe {
        libc::signal(libc::SIGINT, libc::SIG_DFL);
        libc::signal(libc::SIGQUIT, libc::SIG_DFL);
    });
}

/// A call that has not started.
#[derive(Debug)]
pub struct Invocation {
    words: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    directory: Option<PathBuf>,
    input: Input,
    /// In place of a pipe that the harness reads.
    output: Option<Stdio>,
    deadline: Duration,
}

#[derive(Debug)]
enum Input {
    Bytes(Vec<u8>),
    From(Stdio),
    /// The test writes it, through [`Running::input`].
    Open,
}

/// A call that has started.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// The way into its standard input, if it was left open.
    pub input: Option<ChildStdin>,
    streams: [Stream; 2],
    started: Instant,
    deadline: Duration,
}

/// A standard stream, read in the background.
#[derive(Debug)]
struct Stream {
    bytes: Arc<Mutex<Vec<u8>>>,
    ended: Receiver<()>,
}

/// How a call ended.
#[derive(Debug)]
pub struct Outcome {
    /// Its exit status.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
    /// How long it took.
    pub elapsed: Duration,
}

impl Invocation {
    /// A call of `program` with `home` as state directory, without input, in an environment with nothing else but
    /// `PATH`.
    pub(crate) fn new(program: &Path, home: &Path) -> Self {
        let mut invocation = Self {
            words: vec![program.into()],
            environment: Vec::new(),
            directory: None,
            input: Input::From(Stdio::null()),
            output: None,
            deadline: DEADLINE,
        };
        invocation = invocation.env("MICROAGENT_HOME", home).env("LANG", "C.UTF-8");
        // A machine that waits for the next run is no leftover, but looks like one.
        invocation = invocation.env("MICROAGENT_SPARES", "0");
        invocation.env("PATH", std::env::var_os("PATH").unwrap_or_default())
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.words.extend(words.into_iter().map(|word| word.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable; the last setting counts.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Starts it in `directory`.
    #[must_use]
    pub fn directory(mut self, directory: &Path) -> Self {
        self.directory = Some(directory.to_owned());
        self
    }

    /// Has `wrapper`, a command that executes what follows its own arguments, start it.
    #[must_use]
    pub fn through(mut self, wrapper: &[&str]) -> Self {
        self.words.splice(0..0, wrapper.iter().map(OsString::from));
        self
    }

    /// Gives it `bytes` as standard input.
    #[must_use]
    pub fn bytes(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Input::Bytes(bytes.into());
        self
    }

    /// Gives it this standard input.
    #[must_use]
    pub fn input_from(mut self, input: impl Into<Stdio>) -> Self {
        self.input = Input::From(input.into());
        self
    }

    /// Leaves its standard input open, for [`Running::input`].
    #[must_use]
    pub fn open_input(mut self) -> Self {
        self.input = Input::Open;
        self
    }

    /// Has its standard output go there.
    #[must_use]
    pub fn output_to(mut self, output: impl Into<Stdio>) -> Self {
        self.output = Some(output.into());
        self
    }

    /// Lets it take so long.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Starts it and waits for its end.
    pub fn outcome(self) -> Outcome {
        self.start().wait()
    }

    /// Starts it.
    pub fn start(mut self) -> Running {
        let input = std::mem::replace(&mut self.input, Input::Open);
        let mut command = self.command();
        let (bytes, open) = match input {
            Input::Bytes(bytes) => (Some(bytes), false),
            Input::From(stdio) => {
                command.stdin(stdio);
                (None, false)
            }
            Input::Open => (None, true),
        };
        if bytes.is_some() || open {
            command.stdin(Stdio::piped());
        }
        command.stdout(self.output.take().unwrap_or_else(Stdio::piped)).stderr(Stdio::piped());
        let started = Instant::now();
        let mut child = command.spawn().expect("the program starts");
        // What the command holds of the child's side would keep the streams open.
        drop(command);
        let stdout = match child.stdout.take() {
            Some(stdout) => Stream::read(stdout),
            None => Stream::read(std::io::empty()),
        };
        let stderr = Stream::read(child.stderr.take().expect("standard error is a pipe"));
        let mut input = child.stdin.take();
        if let Some(bytes) = bytes {
            let mut pipe = input.take().expect("standard input is a pipe");
            // A program that does not read it all is not the writer's concern.
            std::thread::spawn(move || pipe.write_all(&bytes));
        }
        Running { child, input, streams: [stdout, stderr], started, deadline: self.deadline }
    }

    /// Starts it on a terminal of so many rows and columns.
    pub fn on_terminal(self, rows: u16, columns: u16) -> Terminal {
        Terminal::start(|| self.through(&["setsid", "--ctty"]).command(), rows, columns)
    }

    fn command(&self) -> Command {
        heed_interrupts();
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).env_clear().envs(self.environment.iter().cloned());
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        command
    }
}

impl Stream {
    fn read(mut source: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let (end, ended) = channel();
        let target = Arc::clone(&bytes);
        std::thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(length @ 1..) = source.read(&mut buffer) {
                target.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..length]);
            }
            // Whoever waited may have failed already.
            let _ = end.send(());
        });
        Self { bytes, ended }
    }

    fn so_far(&self) -> Vec<u8> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Running {
    /// Its process.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(self.pid(), signal).expect("a child can be signalled");
    }

    /// Waits until its standard output contains `text`.
    pub fn wait_for(&mut self, text: &str) {
        let contains = |bytes: &[u8]| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        while !contains(&self.streams[0].so_far()) {
            let ended = self.child.try_wait().expect("a child can be waited for");
            if let Some(status) = ended.filter(|_| !contains(&self.streams[0].so_far())) {
                self.give_up(&format!("it ended ({status}) without saying `{text}`"));
            }
            self.check_deadline();
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Outcome {
        drop(self.input.take());
        let status = loop {
            match self.child.try_wait().expect("a child can be waited for") {
                Some(status) => break status,
                None => self.check_deadline(),
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let elapsed = self.started.elapsed();
        for stream in &self.streams {
            let ended = stream.ended.recv_timeout(Duration::from_secs(10));
            assert!(ended.is_ok(), "somebody still holds a standard stream of a program that ended");
        }
        let [stdout, stderr] = self.streams.each_ref().map(Stream::so_far);
        Outcome { status, stdout, stderr, elapsed }
    }

    fn check_deadline(&mut self) {
        if self.started.elapsed() > self.deadline {
            self.give_up("it took too long");
        }
    }

    fn give_up(&mut self, reason: &str) -> ! {
        // It may have ended by now.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let [stdout, stderr] = self.streams.each_ref().map(|stream| shown(&stream.so_far()));
        panic!("{reason}\nstandard output: {stdout}\nstandard error: {stderr}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A test that failed leaves no program behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Outcome {
    /// Its exit code.
    pub fn code(&self) -> i32 {
        self.status
            .code()
            .unwrap_or_else(|| panic!("it did not exit: {}; {}", self.status, shown(&self.stderr)))
    }

    /// Its standard output, if it exited with 0.
    pub fn success(&self) -> String {
        self.output(0)
    }

    /// Its standard output, if it exited with `code`.
    pub fn output(&self, code: i32) -> String {
        assert_eq!(self.code(), code, "output: {}\nerror: {}", shown(&self.stdout), shown(&self.stderr));
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Its standard error, if it exited with `code`.
    pub fn error(&self, code: i32) -> String {
        self.output(code);
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
}

fn shown(bytes: &[u8]) -> String {
    let end = bytes.len().min(8000);
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

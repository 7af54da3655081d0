//! What host and guest say to each other.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A process that the host asked for; the host chooses the number and uses it once a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProcessId(pub u32);

/// Host to guest.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToGuest<'a> {
    /// Mount the root file system; answered by [`ToHost::Done`].
    Mount(Root),
    /// Become this one machine among all that share an image; answered by [`ToHost::Done`].
    Identify(Identity),
    /// Configure the network device; answered by [`ToHost::Done`].
    Connect(Network),
    /// Have programs add domains to names, in the network that is configured; answered by [`ToHost::Done`].
    Resolve(Resolver),
    /// Set the wall clock, after the machine was frozen; answered by [`ToHost::Done`].
    SetClock {
        /// The time since the Unix epoch in UTC, at the moment of sending.
        clock: Duration,
    },
    /// Arrange places in the root file system, which is mounted; answered by [`ToHost::Done`].
    Arrange(Arrangement),
    /// Tell how much of the machine is used; answered by [`ToHost::Measured`].
    Measure,
    /// Make a disk visible at a path of the root file system, once that is mounted; answered by [`ToHost::Done`].
    Attach(Attach),
    /// Tell how much of an attached disk is used; answered by [`ToHost::Measured`], with nothing else in it.
    MeasureDisk {
        /// The disk's serial number.
        disk: String,
    },
    /// Make the file system on a disk fill this many bytes of it; answered by [`ToHost::Done`].
    Grow {
        /// The serial number of an attached disk; the one that takes changes if absent.
        disk: Option<String>,
        /// The disk's new size in bytes.
        size: u64,
    },
    /// End all processes, write everything to disk, unmount, say [`ToHost::Done`], and power off.
    ShutDown {
        /// How long processes have between SIGTERM and SIGKILL.
        grace: Duration,
    },
    /// Start a process; answered by [`ToHost::Spawned`] or [`ToHost::SpawnFailed`].
    Spawn {
        /// The number for it.
        process: ProcessId,
        /// What to start.
        command: Command,
    },
    /// Start a process that packs or unpacks files; answered as [`ToGuest::Spawn`] is.
    Transfer {
        /// The number for it.
        process: ProcessId,
        /// What it does.
        transfer: Transfer,
        /// The region of the disk for exchange that it has for what is large; everything goes through its streams if
        /// absent. A byte frees the oldest block in use: at its standard input where it packs, and from its standard
        /// error where it unpacks.
        region: Option<u32>,
    },
    /// Data for a process's standard input or terminal.
    Input {
        /// The process.
        process: ProcessId,
        /// At most [`crate::MAX_DATA`] bytes.
        #[serde(borrow, serialize_with = "at_once")]
        data: &'a [u8],
    },
    /// Standard input ends here.
    EndInput {
        /// The process.
        process: ProcessId,
    },
    /// The host has taken this many bytes of an output stream.
    Credit {
        /// The process.
        process: ProcessId,
        /// The stream.
        stream: OutputStream,
        /// The bytes taken.
        bytes: u32,
    },
    /// Nobody reads this output stream any more: close it, so that its writer gets SIGPIPE.
    CloseOutput {
        /// The process.
        process: ProcessId,
        /// The stream.
        stream: OutputStream,
    },
    /// Send a signal to the process's group.
    Signal {
        /// The process.
        process: ProcessId,
        /// The signal's Linux number.
        signal: i32,
    },
    /// The terminal has a new size.
    Resize {
        /// The process.
        process: ProcessId,
        /// Its new size.
        size: TerminalSize,
    },
}

/// Guest to host.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToHost<'a> {
    /// The oldest unanswered request about the machine is done, or failed.
    Done(Outcome),
    /// How much of the machine is used; the answer to the oldest unanswered [`ToGuest::Measure`].
    Measured(Usage),
    /// The process runs.
    Spawned {
        /// The process.
        process: ProcessId,
        /// Its process ID inside the guest.
        pid: u32,
    },
    /// The process could not be started; nothing more is said of it.
    SpawnFailed {
        /// The process.
        process: ProcessId,
        /// Why.
        failure: SpawnFailure,
    },
    /// Data from a process.
    Output {
        /// The process.
        process: ProcessId,
        /// The stream it wrote to.
        stream: OutputStream,
        /// At most [`crate::MAX_DATA`] bytes.
        #[serde(borrow, serialize_with = "at_once")]
        data: &'a [u8],
    },
    /// The process has taken this many bytes of its input.
    Credit {
        /// The process.
        process: ProcessId,
        /// The bytes taken.
        bytes: u32,
    },
    /// The process ended, and all that it wrote before was sent; nothing more is said of it.
    Exited {
        /// The process.
        process: ProcessId,
        /// How it ended.
        status: ExitStatus,
    },
}

/// Bytes in one piece, which is the same on the wire as one by one.
fn at_once<S: serde::Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

/// How much of a machine is used, as its kernel sees it, in bytes where nothing else is said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// The size of the file system that takes changes.
    pub disk_size: u64,
    /// What of it is used.
    pub disk_used: u64,
    /// The memory that the kernel manages.
    pub memory_size: u64,
    /// What of it could not be given to a new process without swapping.
    pub memory_used: u64,
    /// The time that processors were busy since the machine first booted, in microseconds.
    pub busy: u64,
    /// What was read from disks since then.
    pub disk_read: u64,
    /// What was written to disks since then.
    pub disk_written: u64,
    /// What came in through network devices since then.
    pub network_received: u64,
    /// What went out through them.
    pub network_sent: u64,
    /// The time of the clock that only runs forward, in microseconds; `CLOCK_MONOTONIC` of `clock_gettime(2)`.
    pub clock: u64,
}

/// The result of a request about the machine: success, or the step that failed and why.
pub type Outcome = Result<(), String>;

/// The root file system: the disks are named by the serial numbers of their virtio-blk devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// The disk with the image's EROFS.
    pub image: String,
    /// Where changes go.
    pub writable: Writable,
}

/// The layer of the root file system that takes changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Writable {
    /// An ext4 disk whose content need not outlive this boot.
    Scratch(String),
    /// An ext4 disk whose content must outlive it.
    Durable(String),
    /// An ext4 disk that is damaged: what can be read of it is shown, changes go to memory, and it stays as it is.
    Damaged(String),
}

/// A disk beside those of the root file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    /// The serial number of its virtio-blk device.
    pub disk: String,
    /// The absolute path at which the workload sees it, made if it does not exist.
    pub place: String,
    /// What is on it.
    pub content: DiskContent,
    /// Whether the workload may only read it.
    pub read_only: bool,
    /// Whether the machine may write to it all the same: to fill it, or to repair what was not left clean.
    pub writable: bool,
}

/// What is on a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiskContent {
    /// An ext4 file system with the files in its directory `data`.
    Volume,
    /// The same before it has that directory, which is to have what the root file system has at the place.
    Unfilled,
    /// An ext4 file system that is shown whole.
    Whole,
    /// A read-only EROFS file system. What is written to it goes to the disk that takes changes.
    Bundle {
        /// What tells its changes from those of others there: a file name.
        name: String,
    },
}

/// What a workspace wants of its root file system beyond the image and the disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrangement {
    /// File systems in memory, mounted in this order.
    pub tmpfs: Vec<Tmpfs>,
    /// Whether nothing else takes changes.
    pub read_only: bool,
    /// An absolute path that is made before that, if it is not there: where a process is to start. None if empty.
    pub directory: Vec<u8>,
}

/// A file system in memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tmpfs {
    /// Where, as an absolute path; made if it is not there.
    pub path: Vec<u8>,
    /// What it holds at most, in bytes; half of the memory if absent.
    pub size: Option<u64>,
    /// The mode of its root.
    pub mode: u16,
    /// Whether programs in it may be executed.
    pub programs: bool,
}

/// What tells one machine from another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The host name.
    pub hostname: String,
    /// For `/etc/machine-id`.
    pub machine_id: [u8; 16],
    /// Fresh randomness from the host, credited in full.
    pub seed: [u8; 32],
    /// The wall clock, as time since the Unix epoch in UTC, at the moment of sending.
    pub clock: Duration,
}

/// The network device's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// The guest's address.
    pub address: Ipv4Addr,
    /// The length of its subnet's prefix, in bits.
    pub prefix: u8,
    /// The default route.
    pub gateway: Ipv4Addr,
    /// For `/etc/resolv.conf`.
    pub nameservers: Vec<Ipv4Addr>,
    /// The same of IPv6, if there is to be one.
    pub ipv6: Option<Network6>,
}

/// What programs make of a name before they ask for it: this machine's own, where a network may be a template's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolver {
    /// For `search` in `/etc/resolv.conf`.
    pub search: Vec<String>,
    /// For `options` there.
    pub options: Vec<String>,
}

/// The network device's configuration for IPv6.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network6 {
    /// The guest's address.
    pub address: Ipv6Addr,
    /// The length of its subnet's prefix, in bits.
    pub prefix: u8,
    /// The default route.
    pub gateway: Ipv6Addr,
}

/// What to start, and as whom. Strings of the command are bytes, as the kernel takes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Program and arguments; the program is searched for in the environment's `PATH`. Empty for the user's
    /// shell: the one of the image's `/etc/passwd` if it is there, else bash, else sh.
    pub argv: Vec<Vec<u8>>,
    /// `NAME=value` entries. The guest adds `HOME` where it is missing.
    pub env: Vec<Vec<u8>>,
    /// The working directory, made if it does not exist.
    pub directory: Vec<u8>,
    /// `user[:group]`, by name or number, looked up in the image; empty for root.
    pub user: String,
    /// What its standard streams are.
    pub stdio: Stdio,
}

/// Files that go out or come in, as a stream of the `transfer` crate. It is done as root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Transfer {
    /// What is there goes to standard output.
    Pack {
        /// The path.
        path: Vec<u8>,
        /// Whether a symbolic link there stands for what it leads to.
        follow: bool,
        /// Whether extended attributes go along.
        attributes: bool,
    },
    /// What standard input brings is made there. What became of it goes to standard output: a postcard of
    /// [`Received`].
    Unpack {
        /// The path.
        path: Vec<u8>,
        /// The name that it has if the path is a directory that is there; its content goes right into that one if
        /// absent.
        name: Option<Vec<u8>>,
        /// Whether owners are kept; they are root else.
        owners: bool,
    },
    /// What the writable disk has of changes to the image goes to standard output. The root file system must be
    /// mounted.
    PackChanges,
}

/// What became of files that came in, or why they did not.
pub type Received = Result<ReceivedFiles, String>;

/// What was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceivedFiles {
    /// Files of whatever kind.
    pub entries: u64,
    /// Bytes of data.
    pub bytes: u64,
}

/// A process's standard streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stdio {
    /// Three pipes.
    Pipes,
    /// Output through pipes, input from `/dev/null`.
    NoInput,
    /// One terminal for all three.
    Terminal(TerminalSize),
}

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Characters a line.
    pub columns: u16,
}

/// An output stream of a process; a terminal's output is `Stdout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitStatus {
    /// By exiting with this code.
    Code(u8),
    /// By this signal.
    Signal(u8),
}

/// Why a process could not be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpawnFailure {
    /// The kind, which decides the exit code.
    pub kind: SpawnFailureKind,
    /// The reason in words.
    pub reason: String,
}

/// The kinds of failures to start a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SpawnFailureKind {
    /// There is no such program.
    NotFound,
    /// The program exists and cannot be executed.
    NotExecutable,
    /// Something else: user, working directory, memory.
    Setup,
}

//! Files between the host and a workspace, whether it runs or not.
//!
//! ```text
//! running     client ── supervisor ── guest's agent ── a process that packs or unpacks
//! at rest     client ───── helper's agent ──────────── the same, in a sealed machine on the workspace's disk
//! ```
//!
//! On the host's side a thread packs or unpacks, since files may block for any time.

mod archive;
mod channel;

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use engine::Stalls;
use proto::{ExitStatus, OutputStream, ReceivedFiles, SpawnFailure, Transfer};
use tokio::sync::{mpsc, oneshot};
use transfer::{Destination, Owners, PackError, PackOptions, Policy, Report, StreamError, UnpackError};

use volume::{AttachError, Attachment, MountPoint, Source};

use crate::agent::{Agent, AgentError, Process, ProcessEvent};
use crate::attach::in_order;
use crate::exchange::{Leased, hear_freed};
use crate::helper::{Helper, HelperDisk, HelperError, HelperTerms};
use crate::run::{Control, ending_signal};
use crate::state::State;
use crate::supervisor::report::causes;
use crate::workspace::{Workspace, WorkspaceError};
pub(crate) use channel::Incoming;
use channel::{Chunks, Outlet};

/// The most that a guest may say about how unpacking went, in bytes.
const LONGEST_REPORT: usize = 64 * 1024;

/// Files in a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestSource {
    /// The path.
    pub path: Vec<u8>,
    /// Whether a symbolic link there stands for what it leads to.
    pub follow: bool,
    /// Whether owners and extended attributes are kept.
    pub archive: bool,
}

/// Where files in a workspace go on the host.
pub enum HostTarget {
    /// To a path.
    Path(Destination),
    /// Into a tar archive, where they have this name.
    Archive(Box<dyn Write + Send>, Option<Vec<u8>>),
}

/// Files on the host.
pub enum HostSource {
    /// At a path.
    Path {
        /// The path.
        path: PathBuf,
        /// Whether a symbolic link there stands for what it leads to.
        follow: bool,
    },
    /// In a tar archive.
    Archive(Box<dyn Read + Send>),
}

/// Where files from the host go in a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestTarget {
    /// The path.
    pub path: Vec<u8>,
    /// See [`Destination::name`].
    pub name: Option<Vec<u8>>,
    /// Whether owners and extended attributes are kept.
    pub archive: bool,
}

/// How a copy ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Copied {
    /// All is there.
    All(Report),
    /// A signal to this process ended it.
    Interrupted(i32),
}

/// Why files were not copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The workspace cannot be used.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    /// The disk of a workspace at rest could not be opened.
    #[error(transparent)]
    Helper(HelperError),
    /// The files are on a disk that cannot be attached now.
    #[error("cannot reach `{place}`: {message}")]
    Absent {
        /// Where the disk would be.
        place: String,
        /// Why it is not there.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// The host's files could not be read.
    #[error(transparent)]
    Pack(PackError),
    /// The host's files could not be written.
    #[error(transparent)]
    Unpack(UnpackError),
    /// The archive could not be read or written.
    #[error("cannot use the archive: {0}")]
    Archive(String),
    /// The guest says why not.
    #[error("in the workspace: {0}")]
    Guest(String),
    /// The guest could not start to copy.
    #[error("the guest cannot start {}", .0.reason)]
    NotStarted(SpawnFailure),
    /// The session with the guest ended.
    #[error("the copy was cut off")]
    Lost(#[source] AgentError),
    /// The guest says what makes no sense.
    #[error("the guest broke the protocol: {0}")]
    Protocol(String),
    /// The copy is complete, and the disk that it is on is not clean.
    #[error("failed to put the disk of the workspace away cleanly")]
    Unclean(#[source] AgentError),
    /// A thread could not be started, or the like.
    #[error("failed to copy")]
    Io(#[from] io::Error),
}

impl CopyError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Workspace(error) => error.hint(),
            Self::Helper(error) => error.hint(),
            Self::Absent { hint, .. } => hint.clone(),
            Self::Unpack(UnpackError::Owner { .. }) => {
                Some("only root can keep owners on the host; leave out -a".to_owned())
            }
            _ => None,
        }
    }
}

impl From<HelperError> for CopyError {
    fn from(error: HelperError) -> Self {
        match error {
            HelperError::Workspace(error) => Self::Workspace(error),
            error => Self::Helper(error),
        }
    }
}

/// What is to be done with a workspace's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// They are read.
    Read,
    /// They are changed.
    Change,
}

impl Access {
    /// As in "cannot … the workspace".
    fn verb(self) -> &'static str {
        match self {
            Self::Read => "copy from",
            Self::Change => "copy to",
        }
    }

    /// A workspace at rest whose disk may be used so. What is in quarantine stays as it is, and a copy of its disk
    /// is looked at.
    fn disk_of(self, workspace: &Workspace) -> Result<HelperDisk, WorkspaceError> {
        if workspace.facts()?.quarantine.is_none() {
            return HelperDisk::held(workspace.hold(self.verb())?);
        }
        match self {
            Self::Read => HelperDisk::copied(workspace),
            Self::Change => Err(workspace.in_state(self.verb(), State::Quarantined)),
        }
    }
}

/// A workspace whose files can be reached. It is to be closed.
pub struct OpenFiles {
    agent: Agent,
    helper: Option<Helper>,
    /// What the workspace would see, and cannot be seen now.
    absent: Vec<(MountPoint, AttachError)>,
    damaged: bool,
}

impl OpenFiles {
    /// Reaches for the files of `workspace`: through its agent if it runs, through its disk if it is at rest.
    pub async fn open(workspace: &Workspace, access: Access, terms: HelperTerms) -> Result<Self, CopyError> {
        let status = workspace.status()?;
        if status.live.is_some() && status.facts.quarantine.is_none() {
            let agent = workspace.agent_for(access.verb()).await?;
            return Ok(Self { agent, helper: None, damaged: false, absent: Vec::new() });
        }
        let disk = access.disk_of(workspace)?;
        let (attachments, absent) = free_disks(workspace, access);
        let (helper, damaged) = match Helper::open(workspace, disk, attachments, terms).await {
            Err(error) if access == Access::Read && error.is_damage() => {
                tracing::warn!(error = crate::causes(&error), "reading what can be read of the disk");
                let rescue = Helper::open_damaged(workspace, access.disk_of(workspace)?, terms).await;
                // Where that fails, too, the first failure is the plain one.
                (rescue.map_err(|_| error)?, true)
            }
            helper => (helper?, false),
        };
        Ok(Self { agent: helper.agent(), helper: Some(helper), damaged, absent })
    }

    /// Whether a template would have spared it a boot.
    pub fn booted(&self) -> bool {
        self.helper.as_ref().is_some_and(Helper::booted)
    }

    /// Whether the disk is damaged, so that only what can be read of it is there.
    pub fn damaged(&self) -> bool {
        self.damaged
    }

    /// When a machine of theirs stands still, since this host does not take what it writes.
    pub fn stalls(&self) -> Option<Stalls> {
        self.helper.as_ref().map(Helper::stalls)
    }

    /// Copies to the host. `progress` hears how many bytes are there, on another thread.
    pub async fn copy_out(
        &self,
        source: GuestSource,
        target: HostTarget,
        controls: &mut mpsc::UnboundedReceiver<Control>,
        progress: impl FnMut(u64) + Send + 'static,
    ) -> Result<Copied, CopyError> {
        self.refuse_absent(&source.path)?;
        copy_out(&self.agent, source, target, controls, progress).await
    }

    /// Copies from the host. `progress` hears how many bytes are on their way, on another thread.
    pub async fn copy_in(
        &self,
        source: HostSource,
        target: GuestTarget,
        controls: &mut mpsc::UnboundedReceiver<Control>,
        progress: impl FnMut(u64) + Send + 'static,
    ) -> Result<Copied, CopyError> {
        self.refuse_absent(&target.path)?;
        copy_in(&self.agent, source, target, controls, progress).await
    }

    /// A path that is on a disk which is not there would lead to what that disk hides.
    fn refuse_absent(&self, path: &[u8]) -> Result<(), CopyError> {
        let path = Path::new("/").join(OsStr::from_bytes(path));
        match self.absent.iter().find(|(place, _)| place.contains(&path)) {
            Some((place, error)) => Err(CopyError::Absent {
                place: place.to_string(),
                message: causes(error),
                hint: error.hint(),
            }),
            None => Ok(()),
        }
    }

    /// Lets go of them after a copy that was interrupted. A machine that stands still is not waited for: its disk is as
    /// after a power failure.
    pub async fn close_interrupted(self) -> Result<(), CopyError> {
        if self.stalls().is_some_and(|stalls| stalls.now().is_some()) {
            return Ok(());
        }
        self.close().await
    }

    /// Lets go of them. The disk of a workspace at rest is clean when this returns without an error.
    pub async fn close(self) -> Result<(), CopyError> {
        match self.helper {
            Some(helper) => helper.close().await.map(drop).map_err(CopyError::Unclean),
            None => Ok(()),
        }
    }
}

/// The disks that a workspace at rest would see, and those of them that cannot be attached now.
fn free_disks(workspace: &Workspace, access: Access) -> (Vec<Attachment>, Vec<(MountPoint, AttachError)>) {
    let (mut free, mut absent) = (Vec::new(), Vec::new());
    for mount in in_order(&workspace.record().spec.volumes) {
        let mut mount = mount.clone();
        // A bundle is only read by itself; what was written to it is on the workspace's disk.
        if access == Access::Read && !matches!(mount.source, Source::Bundle(_)) {
            mount.access = volume::Access::ReadOnly;
        }
        match Attachment::open(workspace.home(), &mount, &mut |_, _| ()) {
            Ok(attachment) => free.push(attachment),
            Err(error) => absent.push((mount.place, error)),
        }
    }
    (free, absent)
}

/// Copies files of the guest that `agent` serves to the host.
pub(crate) async fn copy_out(
    agent: &Agent,
    source: GuestSource,
    target: HostTarget,
    controls: &mut mpsc::UnboundedReceiver<Control>,
    mut progress: impl FnMut(u64) + Send + 'static,
) -> Result<Copied, CopyError> {
    let GuestSource { path, follow, archive } = source;
    let process = agent.transfer(Transfer::Pack { path, follow, attributes: archive });
    let work = move |Incoming { chunks, exchange }| match target {
        HostTarget::Path(destination) => {
            let owners = if archive { Owners::Kept } else { Owners::Own };
            let policy = Policy { owners, privileged: false };
            transfer::unpack(chunks, exchange, &destination, policy, &mut progress).map_err(CopyError::from)
        }
        HostTarget::Archive(out, name) => {
            archive::write(chunks, exchange, out, name.as_deref(), &mut progress)
        }
    };
    let Taken { outcome, signal, lost } = take(process, controls, work).await?;
    home::mark("copied");
    match (outcome, signal) {
        (Ok(report), _) => Ok(Copied::All(report)),
        (Err(error), Some(signal)) => match error {
            CopyError::Unpack(error @ UnpackError::Partial { .. }) => Err(CopyError::Unpack(error)),
            _ => Ok(Copied::Interrupted(signal)),
        },
        (Err(CopyError::Unpack(UnpackError::Stream(StreamError::Cut))), None) if lost => {
            Err(CopyError::Lost(agent.why_lost()))
        }
        (Err(error), None) => Err(error),
    }
}

/// What became of a stream that a process of the guest wrote.
pub(crate) struct Taken<T> {
    /// What was made of it, or of a part of it.
    pub(crate) outcome: T,
    /// A signal to this process that cut it off.
    pub(crate) signal: Option<i32>,
    /// Whether the guest was lost on the way.
    pub(crate) lost: bool,
}

/// Why nobody took a stream.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TakeError {
    /// The guest could not start to write it.
    #[error("the guest cannot start {}", .0.reason)]
    NotStarted(SpawnFailure),
    /// The thread that reads it could not be started, or ended without a word.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<TakeError> for CopyError {
    fn from(error: TakeError) -> Self {
        match error {
            TakeError::NotStarted(failure) => Self::NotStarted(failure),
            TakeError::Io(error) => Self::Io(error),
        }
    }
}

/// Has a thread do `work` with what a process of the guest writes.
pub(crate) async fn take<T: Send + 'static>(
    (mut process, leased): (Process, Option<Leased>),
    controls: &mut mpsc::UnboundedReceiver<Control>,
    work: impl FnOnce(Incoming) -> T + Send + 'static,
) -> Result<Taken<T>, TakeError> {
    let (sender, chunks) = Chunks::new(process.handle());
    let exchange = leased.map(|leased| leased.receiving(process.handle()));
    let incoming = Incoming { chunks, exchange };
    let mut sender = Some(sender);
    let (finish, mut finished) = oneshot::channel();
    // Whoever waits may have gone.
    std::thread::Builder::new().spawn(move || drop(finish.send(work(incoming))))?;
    let mut signal = None;
    let mut lost = false;
    let outcome = loop {
        tokio::select! {
            outcome = &mut finished => break outcome,
            event = process.events.recv(), if sender.is_some() => match event {
                Some(ProcessEvent::Output(OutputStream::Stdout, chunk)) => {
                    if let Some(sender) = &sender {
                        // The thread says what it thinks of it.
                        let _ = sender.send(chunk);
                    }
                }
                Some(ProcessEvent::Started) => {}
                Some(ProcessEvent::Failed(failure)) => return Err(TakeError::NotStarted(failure)),
                Some(ProcessEvent::Output(OutputStream::Stderr, chunk)) => {
                    process.handle().credit(OutputStream::Stderr, chunk.len());
                }
                Some(ProcessEvent::Exited(_)) => sender = None,
                None => {
                    lost = true;
                    sender = None;
                }
            },
            number = ending_signal(controls), if signal.is_none() => {
                // Half a stream is no tree: the thread removes what it began.
                signal = Some(number);
                sender = None;
            }
        }
    };
    let outcome =
        outcome.map_err(|_| io::Error::other("the thread that reads what the guest sends ended"))?;
    Ok(Taken { outcome, signal, lost })
}

/// Copies files of the host to the guest that `agent` serves.
pub(crate) async fn copy_in(
    agent: &Agent,
    source: HostSource,
    target: GuestTarget,
    controls: &mut mpsc::UnboundedReceiver<Control>,
    progress: impl FnMut(u64) + Send + 'static,
) -> Result<Copied, CopyError> {
    let GuestTarget { path, name, archive } = target;
    let (mut process, leased) = agent.transfer(Transfer::Unpack { path, name, owners: archive });
    let handle = process.handle();
    let (freed, exchange) = leased.map(Leased::sending).unzip();
    let (mut outlet, mut chunks) = Outlet::new(progress, exchange.as_ref());
    let (finish, finished) = oneshot::channel();
    std::thread::Builder::new().spawn(move || {
        let outcome = match source {
            HostSource::Path { path, follow } => {
                let options = PackOptions { follow, attributes: archive };
                transfer::pack(&path, options, &mut outlet, exchange).map_err(CopyError::Pack)
            }
            HostSource::Archive(input) => archive::read(input, archive, &mut outlet, exchange),
        };
        // Whoever waits may have gone.
        let _ = finish.send(outcome);
    })?;
    let feeding = tokio::spawn(async move {
        while let Some(chunk) = chunks.recv().await {
            handle.input(&chunk).await;
        }
        handle.end_input();
    });
    let mut signal = None;
    let mut said = Vec::new();
    let received = loop {
        tokio::select! {
            received = said_at_the_end(&mut process, freed.as_ref(), &mut said) => break received,
            number = ending_signal(controls) => {
                // Asked twice, it waits for nobody: a machine that stands still removes nothing.
                if signal.is_some() {
                    return Ok(Copied::Interrupted(number));
                }
                // Half a stream is no tree: the guest removes what it began.
                signal = Some(number);
                feeding.abort();
                process.handle().end_input();
            }
        }
    };
    // The packing thread ends with its reader, and with whoever would free a block.
    drop(freed);
    feeding.abort();
    let _ = feeding.await;
    let here = finished.await.unwrap_or(Ok(()));
    home::mark("copied");
    match (received, here, signal) {
        (_, Err(error), None) if !is_broken_pipe(&error) => Err(error),
        (Ok(Ok(files)), ..) => {
            Ok(Copied::All(Report { entries: files.entries, bytes: files.bytes, left_out: 0 }))
        }
        (Ok(Err(reason)), _, Some(signal)) if !reason.contains("were copied to") => {
            tracing::debug!(reason, "the guest gave up");
            Ok(Copied::Interrupted(signal))
        }
        (Ok(Err(reason)), ..) => Err(CopyError::Guest(reason)),
        (Err(_), _, Some(signal)) => Ok(Copied::Interrupted(signal)),
        (Err(Some(error)), ..) => Err(error),
        (Err(None), ..) => Err(CopyError::Lost(agent.why_lost())),
    }
}

/// What the guest says of files that it received; `None` if it is gone.
async fn said_at_the_end(
    process: &mut Process,
    freed: Option<&std::sync::mpsc::Sender<usize>>,
    said: &mut Vec<u8>,
) -> Result<Result<ReceivedFiles, String>, Option<CopyError>> {
    loop {
        match process.events.recv().await {
            Some(ProcessEvent::Output(OutputStream::Stderr, chunk)) => {
                hear_freed(&process.handle(), freed, chunk.len());
            }
            Some(ProcessEvent::Output(OutputStream::Stdout, chunk)) => {
                process.handle().credit(OutputStream::Stdout, chunk.len());
                if said.len() + chunk.len() <= LONGEST_REPORT {
                    said.extend(chunk);
                }
            }
            Some(ProcessEvent::Started) => {}
            Some(ProcessEvent::Failed(failure)) => return Err(Some(CopyError::NotStarted(failure))),
            Some(ProcessEvent::Exited(status)) => {
                return proto::decode_received(said).map_err(|_| Some(no_report(status)));
            }
            None => return Err(None),
        }
    }
}

fn no_report(status: ExitStatus) -> CopyError {
    match status {
        ExitStatus::Signal(signal) => CopyError::Guest(format!("a signal ({signal}) ended the copy")),
        ExitStatus::Code(_) => CopyError::Protocol("it does not say what became of the files".to_owned()),
    }
}

/// Whoever reads what is packed went first, and says why.
fn is_broken_pipe(error: &CopyError) -> bool {
    match error {
        CopyError::Pack(PackError::Write(_)) => true,
        CopyError::Io(error) => error.kind() == io::ErrorKind::BrokenPipe,
        _ => false,
    }
}

impl From<UnpackError> for CopyError {
    fn from(error: UnpackError) -> Self {
        match error {
            UnpackError::Stream(StreamError::Failed(reason)) => Self::Guest(reason),
            UnpackError::Stream(StreamError::Malformed(what)) => Self::Protocol(what.to_owned()),
            error => Self::Unpack(error),
        }
    }
}

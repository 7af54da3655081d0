//! From a specification to a machine whose agent answers, and whose root file system is mounted.
//!
//! What fails unwinds by itself: disks without names vanish with their descriptors, and a machine ends with
//! its value.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use engine::{
    Accelerator, ControlError, Durability, Ended, Held, LaunchError, NetworkDevice, Tail, UnusableKvm, VmSpec,
};
use kernel::Release;
use proto::{Arrangement, Identity, Resolver, Root, ToGuest, Writable};
use template::TemplateKey;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::task::AbortHandle;

use crate::agent::{Agent, AgentError};
use crate::attach::Slotted;
use crate::exchange::{Exchange, Regions};
use crate::initramfs::InitramfsError;
use crate::machine::Machine;
use crate::name::random_bytes;
use crate::plan::Network;
use volume::{DiskError, VolumeError};

/// The serial numbers by which the guest finds its disks.
pub(crate) const IMAGE_DISK: &str = "image";
pub(crate) const WRITABLE_DISK: &str = "writable";

/// How long a guest may take from its start to its agent. Generous: a loaded host without KVM is slow.
const AGENT_DEADLINE: Duration = Duration::from_secs(180);

/// The same for a restored guest, which only has to wake up.
const RESTORE_DEADLINE: Duration = Duration::from_secs(30);

/// How long a machine whose session ended may take to end.
const SOON: Duration = Duration::from_secs(2);

/// How long a guest that was paused may take until it answers.
const RESUME_DEADLINE: Duration = Duration::from_secs(30);

/// How long a guest may take to mount its root file system, whose journal may have to be played back.
const MOUNT_DEADLINE: Duration = Duration::from_secs(120);

/// What can be done about a damaged disk.
const DAMAGED: &str =
    "if it is damaged, take what can be read of it, which changes nothing: microagent cp NAME:/PATH .";

/// Why a machine did not come up.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// KVM was demanded and does not work.
    #[error(transparent)]
    Acceleration(#[from] UnusableKvm),
    /// There is no guest kernel yet.
    #[error("no guest kernel is installed")]
    NoKernel,
    /// The kernel that was asked for is not installed.
    #[error("no guest kernel `{0}` is installed")]
    UnknownKernel(Release),
    /// The kernels could not be read.
    #[error(transparent)]
    Kernels(#[from] kernel::StoreError),
    /// There is no initramfs.
    #[error("cannot boot kernel `{release}`")]
    Initramfs {
        /// The kernel.
        release: String,
        /// Why.
        source: InitramfsError,
    },
    /// The machine did not start.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The guest ended before its agent answered.
    #[error("the guest ended while it booted{}", last_words(console))]
    Ended {
        /// The console's last lines.
        console: Vec<String>,
    },
    /// The guest's agent could not be talked to.
    #[error("failed to reach the guest{}", last_words(console))]
    Agent {
        /// Why.
        source: AgentError,
        /// The console's last lines.
        console: Vec<String>,
    },
    /// The machine's disks could not be opened.
    #[error("failed to open the machine's disks")]
    Disks(#[source] std::io::Error),
    /// The streams to the guest could not be used.
    #[error("failed to use the streams to the guest")]
    Streams(#[source] std::io::Error),
    /// The scratch disk could not be made.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The guest could not use a disk.
    #[error("failed to attach `{name}`")]
    Attach {
        /// The volume or file.
        name: String,
        /// Why.
        source: AgentError,
    },
    /// What became of a volume could not be kept.
    #[error("failed to attach `{name}`")]
    Volume {
        /// The volume.
        name: String,
        /// Why.
        source: VolumeError,
    },
    /// The guest cannot use its disks.
    #[error("the guest cannot use the workspace's disk")]
    Unmountable(#[source] AgentError),
    /// The guest's agent failed to set the machine up.
    #[error("failed to set up the guest")]
    Setup(#[source] AgentError),
}

impl BootError {
    /// Whether the host lacks what its machine was to be confined with.
    pub fn is_unconfined(&self) -> bool {
        matches!(self, Self::Launch(LaunchError::Unconfined { .. }))
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Acceleration(unusable) => std::error::Error::source(unusable)
                .and_then(|source| source.downcast_ref::<engine::KvmProblem>())
                .and_then(engine::KvmProblem::hint)
                .map(str::to_owned)
                .or_else(|| {
                    Some("leave out --accel: translation is used where KVM does not work".to_owned())
                }),
            Self::NoKernel => Some("install one (no root needed): microagent kernel install".to_owned()),
            Self::UnknownKernel(_) => Some("see those that are: microagent kernel list".to_owned()),
            Self::Launch(error) => error.hint(),
            Self::Disk(error) => error.hint(),
            Self::Unmountable(_) => Some(DAMAGED.to_owned()),
            _ => None,
        }
    }
}

/// What a guest has from its template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ready {
    /// It boots, and is told everything.
    Nothing,
    /// Its agent answers, and its network is configured.
    Machine,
    /// Its root file system is mounted as well.
    Root,
}

/// Why a machine does not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResumeError {
    /// The machine refused.
    #[error(transparent)]
    Machine(#[from] ControlError),
    /// The guest did not hear what time it is.
    #[error("failed to set the guest's clock")]
    Clock(#[from] AgentError),
}

/// What a machine is about to start as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartKind {
    /// A copy of a template.
    Restore,
    /// A boot.
    Boot,
}

/// A machine whose agent answers.
pub(crate) struct Booted {
    pub(crate) machine: Machine,
    pub(crate) agent: Agent,
    pub(crate) console: Arc<Mutex<Tail>>,
    pub(crate) guest: GuestSide,
    pub(crate) descriptors: Descriptors,
    /// Our end of the network's cable, until somebody takes it. While it is open the guest sees a network.
    pub(crate) cable: Option<OwnedFd>,
    /// The disk through which large files go.
    pub(crate) exchange: Exchange,
}

/// Copies of the descriptors that agent and console are spoken to through.
#[derive(Debug)]
pub(crate) struct Descriptors {
    pub(crate) agent: OwnedFd,
    pub(crate) console: OwnedFd,
    listener: AbortHandle,
}

/// A machine that nobody speaks to right now.
#[derive(Debug)]
pub(crate) struct Released {
    pub(crate) machine: Machine,
    pub(crate) agent: OwnedFd,
    pub(crate) console: OwnedFd,
    pub(crate) cable: Option<OwnedFd>,
    pub(crate) exchange: Exchange,
}

/// Where what the console says goes, beside what is kept of its end.
pub(crate) type ConsoleSink = Box<dyn FnMut(&[u8]) + Send>;

/// What the guest has to be told, or knows from its template.
#[derive(Debug, Clone)]
pub(crate) struct GuestSide {
    pub(crate) accelerator: Accelerator,
    /// The template that it is a copy of.
    pub(crate) template: Option<TemplateKey>,
    pub(crate) network: Network,
    pub(crate) writable: Durability,
    /// Whether the disk is read as far as it can be, and not changed.
    pub(crate) rescue: bool,
    pub(crate) ready: Ready,
    /// The disks in its slots.
    pub(crate) attached: Arc<[Slotted]>,
}

/// Starts a machine and waits until its agent answers.
pub(crate) async fn launch(
    mut spec: VmSpec,
    guest: GuestSide,
    sink: Option<ConsoleSink>,
) -> Result<Booted, BootError> {
    let deadline = match guest.ready {
        Ready::Nothing => AGENT_DEADLINE,
        Ready::Machine | Ready::Root => RESTORE_DEADLINE,
    };
    home::mark("found");
    let mut cable = None;
    if spec.network != NetworkDevice::None {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(BootError::Streams)?;
        spec.cable = Some(theirs.into());
        cable = Some(ours.into());
    }
    let exchange = exchange_of(&spec).map_err(BootError::Disks)?;
    let mut machine = engine::launch(spec).await?;
    home::mark("machine");
    let (agent, console) = machine.take_streams();
    let (descriptors, console) = listen(&agent, console, sink).map_err(BootError::Streams)?;
    let agent = tokio::select! {
        connected = Agent::connect(agent, deadline) => connected,
        ended = machine.ended() => return Err(ended_early(&ended, &console)),
    };
    tracing::debug!("the guest's agent answered, or is given up");
    home::mark("agent");
    let agent = match agent {
        Ok(agent) => agent,
        // The channel closes with the machine, and the machine's end says more.
        Err(AgentError::Lost(_)) => {
            let ended = machine.ended().await;
            return Err(ended_early(&ended, &console));
        }
        Err(source) => return Err(BootError::Agent { source, console: console_lines(&console) }),
    };
    let agent = agent.exchanging(Regions::Own(exchange.clone()));
    let machine = Machine::Own(Box::new(machine));
    Ok(Booted { machine, agent, console, guest, descriptors, cable, exchange })
}

/// The disk for exchange of a machine that starts so.
fn exchange_of(spec: &VmSpec) -> std::io::Result<Exchange> {
    let disk = spec.disks.iter().find(|disk| disk.serial == proto::EXCHANGE_DISK);
    Ok(Exchange::new(disk.expect("each machine has one").file.try_clone()?))
}

/// Starts to keep the end of what the console says.
pub(crate) fn listen(
    agent: &UnixStream,
    console: UnixStream,
    sink: Option<ConsoleSink>,
) -> std::io::Result<(Descriptors, Arc<Mutex<Tail>>)> {
    let copies = (agent.as_fd().try_clone_to_owned()?, console.as_fd().try_clone_to_owned()?);
    let tail = Arc::new(Mutex::new(Tail::new(16 * 1024)));
    let listener = tokio::spawn(keep_tail(console, Arc::clone(&tail), sink)).abort_handle();
    Ok((Descriptors { agent: copies.0, console: copies.1, listener }, tail))
}

impl Booted {
    /// How it was started.
    pub(crate) fn start_kind(&self) -> StartKind {
        match self.guest.ready {
            Ready::Nothing => StartKind::Boot,
            Ready::Machine | Ready::Root => StartKind::Restore,
        }
    }

    /// What runs its instructions.
    pub(crate) fn acceleration(&self) -> Accelerator {
        self.guest.accelerator
    }

    /// What confines it, if it is ours.
    pub(crate) fn confinement(&self) -> Option<Held> {
        self.machine.confinement()
    }

    /// The template that it is a copy of.
    pub(crate) fn template(&self) -> Option<String> {
        self.guest.template.as_ref().map(ToString::to_string)
    }

    /// Stops speaking to it, for somebody else to go on. Nothing may be under way.
    pub(crate) fn release(self) -> Released {
        self.agent.leave();
        self.descriptors.listener.abort();
        let Descriptors { agent, console, .. } = self.descriptors;
        Released { machine: self.machine, agent, console, cable: self.cable, exchange: self.exchange }
    }

    /// Sends all that makes the guest this workspace's. The guest does it before anything that is sent later,
    /// so a process may be started at once; what this returns tells whether all of it worked.
    pub(crate) fn set_up(
        &self,
        hostname: &str,
        machine_id: [u8; 16],
        arrangement: Arrangement,
        resolver: Resolver,
    ) -> impl Future<Output = Result<(), BootError>> + use<> {
        let identity =
            Identity { hostname: hostname.to_owned(), machine_id, seed: random_bytes(), clock: now() };
        // The clock first: mounting takes its time.
        let mut answers = vec![self.agent.request(&ToGuest::Identify(identity))];
        let mount = self.guest.ready != Ready::Root;
        let root = mount.then(|| self.agent.request(&ToGuest::Mount(self.root())));
        // Volumes may be below places in memory, and making room for one changes the root file system.
        let Arrangement { tmpfs, read_only, directory } = arrangement;
        let mut arrange = |arrangement: Arrangement| {
            if arrangement != Arrangement::default() {
                answers.push(self.agent.request(&ToGuest::Arrange(arrangement)));
            }
        };
        arrange(Arrangement { tmpfs, ..Arrangement::default() });
        let attached = Arc::clone(&self.guest.attached);
        let mounted: Vec<_> =
            attached.iter().map(|disk| self.agent.request(&ToGuest::Attach(disk.request.clone()))).collect();
        // What a process starts in it makes itself, but not any more where nothing takes changes.
        let directory = if read_only { directory } else { Vec::new() };
        arrange(Arrangement { read_only, directory, ..Arrangement::default() });
        if self.guest.ready == Ready::Nothing {
            let network = in_guest(self.guest.network);
            answers.extend(network.map(|network| self.agent.request(&ToGuest::Connect(network))));
        }
        if self.guest.network == Network::User && resolver != Resolver::default() {
            answers.push(self.agent.request(&ToGuest::Resolve(resolver)));
        }
        async move {
            if let Some(root) = root {
                mounted_root(root).await?;
            }
            for answer in answers {
                answer.await.map_err(BootError::Setup)?;
            }
            for (disk, answer) in attached.iter().zip(mounted) {
                let name = || disk.name.clone();
                answer.await.map_err(|source| BootError::Attach { name: name(), source })?;
                disk.note_mounted().map_err(|source| BootError::Volume { name: name(), source })?;
            }
            Ok(())
        }
    }

    /// Why a machine that was being set up is lost: its end says more than its session's.
    pub(crate) async fn why_not_set_up(&mut self, error: BootError) -> BootError {
        if !matches!(error, BootError::Setup(AgentError::Lost(_))) {
            return error;
        }
        match tokio::time::timeout(SOON, self.machine.ended()).await {
            Ok(ended) => ended_early(&ended, &self.console),
            Err(_) => error,
        }
    }

    /// Has the guest end its processes, unmount everything, and go off.
    pub(crate) fn shut_down(&self, grace: Duration) -> impl Future<Output = Result<(), AgentError>> + use<> {
        let clean = self.agent.request(&ToGuest::ShutDown { grace });
        let attached = Arc::clone(&self.guest.attached);
        async move {
            clean.await?;
            attached.iter().for_each(Slotted::note_clean);
            Ok(())
        }
    }

    /// Whether something that outlives the machine is written to beside the workspace's disk.
    pub(crate) fn writes_elsewhere(&self) -> bool {
        self.guest.attached.iter().any(Slotted::is_written)
    }

    /// Whether it has disks that others may wait for.
    pub(crate) fn holds_disks(&self) -> bool {
        !self.guest.attached.is_empty()
    }

    /// Has the guest configure its network, if it has one.
    pub(crate) fn connect(&self) -> Option<impl Future<Output = Result<(), AgentError>> + use<>> {
        in_guest(self.guest.network).map(|network| self.agent.request(&ToGuest::Connect(network)))
    }

    /// Lets a machine that was paused run again, at the right time.
    pub(crate) async fn resume(&mut self) -> Result<(), ResumeError> {
        self.machine.resume().await?;
        let answer = self.agent.request(&ToGuest::SetClock { clock: now() });
        tokio::time::timeout(RESUME_DEADLINE, answer)
            .await
            .map_err(|_| AgentError::Silent(RESUME_DEADLINE))??;
        Ok(())
    }

    /// Why the machine ended, in words.
    pub(crate) fn why_ended(&self, ended: &Ended) -> String {
        match ended {
            Ended::PoweredOff => "the guest switched itself off".to_owned(),
            Ended::Reset => {
                let console = console_lines(&self.console);
                format!("the guest restarted or its kernel panicked; its last words: {}", console.join(" / "))
            }
            Ended::Died { status, last_words } => {
                format!("its process ended ({status}) {}", last_words.join(" / ")).trim_end().to_owned()
            }
        }
    }

    fn root(&self) -> Root {
        let writable = WRITABLE_DISK.to_owned();
        let writable = match self.guest.writable {
            _ if self.guest.rescue => Writable::Damaged(writable),
            Durability::Scratch => Writable::Scratch(writable),
            Durability::Durable => Writable::Durable(writable),
        };
        Root { image: IMAGE_DISK.to_owned(), writable }
    }
}

/// Tells a guest that stood still what time it is. It hears it when it can, and nobody waits for that.
pub(crate) fn tell_time(agent: &Agent) {
    drop(agent.request(&ToGuest::SetClock { clock: now() }));
}

/// Waits until the guest has its root file system.
async fn mounted_root(answer: impl Future<Output = Result<(), AgentError>>) -> Result<(), BootError> {
    let answer = tokio::time::timeout(MOUNT_DEADLINE, answer).await;
    answer.unwrap_or(Err(AgentError::Silent(MOUNT_DEADLINE))).map_err(|error| match error {
        AgentError::Refused(_) => BootError::Unmountable(error),
        error => BootError::Setup(error),
    })
}

/// The wall clock, as the guest is told it.
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The network as a guest is told it: the same for all, so that a saved one knows it already.
fn in_guest(network: Network) -> Option<proto::Network> {
    (network == Network::User).then(|| proto::Network {
        address: network::GUEST,
        prefix: network::PREFIX,
        gateway: network::GATEWAY,
        nameservers: vec![network::NAMESERVER],
        ipv6: Some(proto::Network6 {
            address: network::GUEST_6,
            prefix: network::PREFIX_6,
            gateway: network::GATEWAY_6,
        }),
    })
}

async fn keep_tail(mut console: UnixStream, tail: Arc<Mutex<Tail>>, mut sink: Option<ConsoleSink>) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = console.read(&mut buffer).await {
        tracing::debug!(target: "console", "{}", String::from_utf8_lossy(&buffer[..length]).trim_end());
        tail.lock().expect("no holder panics").push(&buffer[..length]);
        if let Some(sink) = &mut sink {
            sink(&buffer[..length]);
        }
    }
}

fn ended_early(ended: &Ended, console: &Mutex<Tail>) -> BootError {
    let mut lines = console_lines(console);
    if let Ended::Died { status, last_words } = ended {
        lines.extend(last_words.iter().cloned());
        lines.push(status.clone());
    }
    BootError::Ended { console: lines }
}

fn console_lines(console: &Mutex<Tail>) -> Vec<String> {
    console.lock().expect("no holder panics").last_lines(5)
}

fn last_words(lines: &[String]) -> String {
    if lines.is_empty() { String::new() } else { format!("; its last words: {}", lines.join(" / ")) }
}

//! From settings to a machine whose root file system is mounted.
//!
//! ```text
//! Machine (settings) ──plan──▶ Plan ──boot──▶ Booted
//! ```
//!
//! Each step consumes the one before. What fails unwinds by itself: disks without names vanish with their
//! descriptors, and a machine ends with its value.

use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use engine::{
    Accelerator, Access, Disk, Durability, Ended, LaunchError, Memory, MemorySize, NetworkDevice, Requested,
    Start, Tail, UnusableKvm, UserNetwork, VmSpec,
};
use home::Home;
use kernel::{Kernel, Kernels, Release};
use proto::{Identity, Root, ToGuest, Writable};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use crate::agent::{Agent, AgentError};
use crate::initramfs::{InitramfsError, initramfs};
use crate::name::random_bytes;

/// The serial numbers by which the guest finds its disks.
const IMAGE_DISK: &str = "image";
const WRITABLE_DISK: &str = "writable";

/// How long a guest may take from its start to its agent. Generous: a loaded host without KVM is slow.
const AGENT_DEADLINE: Duration = Duration::from_secs(180);

/// What a machine is to be, in the user's terms.
#[derive(Debug, Clone)]
pub struct Machine {
    /// What runs its instructions.
    pub acceleration: Requested,
    /// The number of virtual CPUs.
    pub cpus: u32,
    /// Its memory.
    pub memory: MemorySize,
    /// The release of its kernel; the default kernel if absent.
    pub kernel: Option<Release>,
    /// Its network.
    pub network: Network,
}

/// A machine's network, in the user's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Network {
    /// Outbound connections and name resolution.
    #[default]
    User,
    /// No network device at all.
    Isolated,
}

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
    /// The guest's agent failed to set the machine up.
    #[error("failed to set up the guest")]
    Setup(#[source] AgentError),
}

impl BootError {
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
            _ => None,
        }
    }
}

/// A machine that can be launched.
pub(crate) struct Plan {
    spec: VmSpec,
    network: Option<UserNetwork>,
    writable: Durability,
}

/// A machine whose agent answers.
pub(crate) struct Booted {
    pub(crate) machine: engine::Machine,
    pub(crate) agent: Agent,
    pub(crate) console: Arc<Mutex<Tail>>,
    network: Option<UserNetwork>,
    writable: Durability,
}

impl Plan {
    /// Finds everything that `settings` name. `image` and `writable` become the guest's disks.
    pub(crate) fn new(
        home: &Home,
        settings: &Machine,
        image: std::fs::File,
        writable: (std::fs::File, Durability),
    ) -> Result<Self, BootError> {
        let acceleration = settings.acceleration.choose()?;
        if let Some(problem) = &acceleration.problem {
            tracing::info!("using translation (tcg): {problem}");
        }
        let kernel = find_kernel(home, settings.kernel.as_ref())?;
        let initramfs = initramfs(home, &kernel)
            .map_err(|source| BootError::Initramfs { release: kernel.release.to_string(), source })?;
        let network = match settings.network {
            Network::User => Some(UserNetwork::default()),
            Network::Isolated => None,
        };
        let disks = vec![
            Disk { serial: IMAGE_DISK.to_owned(), file: image, access: Access::ReadOnly },
            Disk {
                serial: WRITABLE_DISK.to_owned(),
                file: writable.0,
                access: Access::ReadWrite(writable.1),
            },
        ];
        let spec = VmSpec {
            accelerator: acceleration.accelerator,
            cpus: settings.cpus,
            memory: settings.memory,
            start: Start::Boot {
                kernel: kernel_image(&kernel, acceleration.accelerator),
                initramfs,
                memory: Memory::Private,
            },
            disks,
            network: network.map_or(NetworkDevice::None, NetworkDevice::User),
            agent_port: proto::PORT_NAME,
        };
        Ok(Self { spec, network, writable: writable.1 })
    }

    /// Launches the machine and waits until its agent answers.
    pub(crate) async fn boot(self) -> Result<Booted, BootError> {
        let mut machine = engine::launch(self.spec).await?;
        let console = Arc::new(Mutex::new(Tail::new(16 * 1024)));
        let (agent_stream, console_stream) = machine.take_streams();
        tokio::spawn(keep_tail(console_stream, Arc::clone(&console)));
        let agent = tokio::select! {
            connected = Agent::connect(agent_stream, AGENT_DEADLINE) => connected,
            ended = machine.ended() => return Err(ended_early(&ended, &console)),
        };
        let agent = match agent {
            Ok(agent) => agent,
            // The channel closes with the machine, and the machine's end says more.
            Err(AgentError::Lost(_)) => {
                let ended = machine.ended().await;
                return Err(ended_early(&ended, &console));
            }
            Err(source) => return Err(BootError::Agent { source, console: console_lines(&console) }),
        };
        Ok(Booted { machine, agent, console, network: self.network, writable: self.writable })
    }
}

impl Booted {
    /// Sends all that makes the guest this workspace's. The guest does it before anything that is sent later,
    /// so a process may be started at once; what this returns tells whether all of it worked.
    pub(crate) fn set_up(&self, hostname: &str) -> impl Future<Output = Result<(), BootError>> + use<> {
        let writable = match self.writable {
            Durability::Scratch => Writable::Scratch(WRITABLE_DISK.to_owned()),
            Durability::Durable => Writable::Durable(WRITABLE_DISK.to_owned()),
        };
        let root = Root { image: IMAGE_DISK.to_owned(), writable };
        let identity = Identity {
            hostname: hostname.to_owned(),
            machine_id: random_bytes(),
            seed: random_bytes(),
            clock: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
        };
        // The clock first: mounting takes its time.
        let identified = self.agent.request(&ToGuest::Identify(identity));
        let mounted = self.agent.request(&ToGuest::Mount(root));
        let connected = self.network.map(|network| {
            self.agent.request(&ToGuest::Connect(proto::Network {
                address: network.guest,
                prefix: network.prefix,
                gateway: network.gateway,
                nameservers: vec![network.nameserver],
            }))
        });
        async move {
            identified.await.map_err(BootError::Setup)?;
            mounted.await.map_err(BootError::Setup)?;
            match connected {
                Some(connected) => connected.await.map_err(BootError::Setup),
                None => Ok(()),
            }
        }
    }
}

fn find_kernel(home: &Home, release: Option<&Release>) -> Result<Kernel, BootError> {
    let kernels = Kernels::open(home);
    match release {
        Some(release) => kernels.find(release)?.ok_or_else(|| BootError::UnknownKernel(release.clone())),
        None => kernels.default()?.ok_or(BootError::NoKernel),
    }
}

/// Under translation, unpacking the kernel would cost more than everything that follows.
fn kernel_image(kernel: &Kernel, accelerator: Accelerator) -> PathBuf {
    match (accelerator, &kernel.vmlinux) {
        (Accelerator::Tcg, Some(unpacked)) => unpacked.clone(),
        _ => kernel.image.clone(),
    }
}

async fn keep_tail(mut console: UnixStream, tail: Arc<Mutex<Tail>>) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = console.read(&mut buffer).await {
        tracing::debug!(target: "console", "{}", String::from_utf8_lossy(&buffer[..length]).trim_end());
        tail.lock().expect("no holder panics").push(&buffer[..length]);
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

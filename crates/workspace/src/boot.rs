//! From settings to a machine whose root file system is mounted.
//!
//! ```text
//!                              ┌─restore, from a template─┐
//! Machine (settings) ──▶ Plan ──┤                          ├──▶ Booted
//!                              └─boot─────────────────────┘
//! ```
//!
//! Each step consumes the one before. What fails unwinds by itself: disks without names vanish with their
//! descriptors, and a machine ends with its value.

use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use engine::{
    Accelerator, Access, Disk, Durability, Ended, LaunchError, Memory, MemorySize, NetworkDevice, Requested,
    Saved, Start, Tail, UnusableKvm, UserNetwork, VmSpec,
};
use home::Home;
use kernel::{Kernel, Kernels, Release};
use proto::{Identity, Root, ToGuest, Writable};
use template::{KeyParts, Template, TemplateKey, Templates};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use crate::agent::{Agent, AgentError};
use crate::disk::scratch_copy;
use crate::initramfs::{InitramfsError, initramfs};
use crate::name::random_bytes;

/// The serial numbers by which the guest finds its disks.
const IMAGE_DISK: &str = "image";
const WRITABLE_DISK: &str = "writable";

/// How long a guest may take from its start to its agent. Generous: a loaded host without KVM is slow.
const AGENT_DEADLINE: Duration = Duration::from_secs(180);

/// The same for a restored guest, which only has to wake up.
const RESTORE_DEADLINE: Duration = Duration::from_secs(30);

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
    /// A template's files could not be used.
    #[error("failed to copy the template")]
    Template(#[source] std::io::Error),
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

/// A machine that can be started: from a template if there is one, else from power-on.
pub(crate) struct Plan {
    spec: VmSpec,
    network: Option<UserNetwork>,
    writable: Durability,
    kernel_digest: String,
    template: Option<Template>,
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
    pub(crate) machine: engine::Machine,
    pub(crate) agent: Agent,
    pub(crate) console: Arc<Mutex<Tail>>,
    guest: GuestSide,
}

/// What the guest has to be told, or knows from its template.
#[derive(Debug, Clone, Copy)]
struct GuestSide {
    network: Option<UserNetwork>,
    writable: Durability,
    start: StartKind,
}

impl Plan {
    /// Finds everything that `settings` name. `image` and `writable` become the guest's disks.
    pub(crate) fn new(
        home: &Home,
        settings: &Machine,
        image: File,
        writable: (File, Durability),
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
        let start = Start::Boot {
            kernel: kernel_image(&kernel, acceleration.accelerator),
            initramfs,
            memory: Memory::Private,
        };
        let spec = VmSpec {
            accelerator: acceleration.accelerator,
            cpus: settings.cpus,
            memory: settings.memory,
            start,
            disks,
            network: network.map_or(NetworkDevice::None, NetworkDevice::User),
            agent_port: proto::PORT_NAME,
        };
        Ok(Self { spec, network, writable: writable.1, kernel_digest: kernel.digest, template: None })
    }

    /// The key of the template that this machine can be restored from. `root` and `disk` tell what the disks
    /// start with; an initramfs's name tells its content.
    pub(crate) fn template_key(&self, root: &str, disk: &str) -> std::io::Result<TemplateKey> {
        let Start::Boot { initramfs, .. } = &self.spec.start else {
            unreachable!("a plan starts from power-on")
        };
        let parts = KeyParts {
            machine: &engine::fingerprint(&self.spec)?,
            kernel: &self.kernel_digest,
            initramfs: &initramfs.display().to_string(),
            root,
            disk,
        };
        Ok(parts.key())
    }

    /// Restores from `template` instead, if that works.
    pub(crate) fn set_template(&mut self, template: Template) {
        self.template = Some(template);
    }

    /// Has the memory in `file`, so that the machine can be saved.
    pub(crate) fn set_memory_file(&mut self, file: File) {
        if let Start::Boot { memory, .. } = &mut self.spec.start {
            *memory = Memory::File(file);
        }
    }

    /// What [`Plan::start`] will try first.
    pub(crate) fn start_kind(&self) -> StartKind {
        if self.template.is_some() { StartKind::Restore } else { StartKind::Boot }
    }

    /// Starts the machine and waits until its agent answers. A template that does not work is thrown away,
    /// and the machine boots.
    pub(crate) async fn start(mut self, home: &Home) -> Result<Booted, BootError> {
        if let Some(template) = self.template.take() {
            let key = template.key.clone();
            match self.restore(home, template).await {
                Ok(restored) => return Ok(restored),
                Err(error) => {
                    let reason = &error as &dyn std::error::Error;
                    tracing::warn!(%key, reason, "a template cannot be restored and is removed; booting instead");
                    Templates::open(home).discard(&key);
                }
            }
        }
        let guest = GuestSide { network: self.network, writable: self.writable, start: StartKind::Boot };
        launch(self.spec, guest).await
    }

    async fn restore(&self, home: &Home, template: Template) -> Result<Booted, BootError> {
        let clone = |disk: &Disk, file: std::io::Result<File>| {
            file.map(|file| Disk { serial: disk.serial.clone(), file, access: disk.access })
        };
        let [image, writable] = self.spec.disks.as_slice() else { unreachable!("a plan has two disks") };
        let disks = clone(image, image.file.try_clone())
            .and_then(|image| Ok(vec![image, clone(writable, scratch_copy(home, &template.disk))?]));
        let spec = VmSpec {
            disks: disks.map_err(BootError::Template)?,
            start: Start::Restore(Saved { memory: template.memory, state: template.state }),
            ..self.spec
        };
        let guest = GuestSide { network: self.network, writable: self.writable, start: StartKind::Restore };
        launch(spec, guest).await
    }
}

async fn launch(spec: VmSpec, guest: GuestSide) -> Result<Booted, BootError> {
    let deadline = match guest.start {
        StartKind::Restore => RESTORE_DEADLINE,
        StartKind::Boot => AGENT_DEADLINE,
    };
    let mut machine = engine::launch(spec).await?;
    let console = Arc::new(Mutex::new(Tail::new(16 * 1024)));
    let (agent_stream, console_stream) = machine.take_streams();
    tokio::spawn(keep_tail(console_stream, Arc::clone(&console)));
    let agent = tokio::select! {
        connected = Agent::connect(agent_stream, deadline) => connected,
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
    Ok(Booted { machine, agent, console, guest })
}

impl Booted {
    /// Sends all that makes the guest this workspace's. The guest does it before anything that is sent later,
    /// so a process may be started at once; what this returns tells whether all of it worked.
    pub(crate) fn set_up(&self, hostname: &str) -> impl Future<Output = Result<(), BootError>> + use<> {
        let identity = Identity {
            hostname: hostname.to_owned(),
            machine_id: random_bytes(),
            seed: random_bytes(),
            clock: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
        };
        // The clock first: mounting takes its time.
        let mut answers = vec![self.agent.request(&ToGuest::Identify(identity))];
        if self.guest.start == StartKind::Boot {
            answers.push(self.agent.request(&ToGuest::Mount(self.root())));
            let network =
                self.guest.network.map(|network| self.agent.request(&ToGuest::Connect(in_guest(network))));
            answers.extend(network);
        }
        async move {
            for answer in answers {
                answer.await.map_err(BootError::Setup)?;
            }
            Ok(())
        }
    }

    fn root(&self) -> Root {
        let writable = WRITABLE_DISK.to_owned();
        let writable = match self.guest.writable {
            Durability::Scratch => Writable::Scratch(writable),
            Durability::Durable => Writable::Durable(writable),
        };
        Root { image: IMAGE_DISK.to_owned(), writable }
    }
}

fn in_guest(network: UserNetwork) -> proto::Network {
    proto::Network {
        address: network.guest,
        prefix: network.prefix,
        gateway: network.gateway,
        nameservers: vec![network.nameserver],
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

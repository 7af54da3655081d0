//! The process that a running workspace has: it owns the machine, the guest's agent and the logs, and answers
//! on the control socket.
//!
//! ```text
//! start ──lock, pipe──▶ supervisor
//!   ◀── report ───────── ├── life      boots, ends, restarts; the one owner of the state
//!                        │    ├── leaving   the way down
//!                        │    └── standing  a machine that this host cannot write for
//! clients ──socket─────▶ ├── clients   one request each
//!                        └── proxy     clients that speak to the guest's agent
//! ```
//!
//! It holds the workspace's lock as long as it lives. QEMU ends with it, however it ends.

mod clients;
pub(crate) mod confined;
mod leaving;
mod life;
mod logbook;
mod proxy;
pub(crate) mod report;
mod running;
mod shared;
mod standing;

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Arc;

use engine::Demand;
use home::{Exclusive, Home, Name, fault_point};
use network::{Capture, CaptureFile, Fittings, Network};
use template::Budget;

use crate::audit::{Keeper, Listener};
use crate::control::SOCKET;
use crate::event::EventKind;
use crate::networks::join;
use crate::socket::Socket;
use crate::workspace::{Workspace, WorkspaceError};
use life::Life;
use logbook::Logbook;
use report::{Failure, Report, Said, causes};
use shared::Shared;

/// What a supervisor is given by whoever starts it.
#[derive(Debug)]
pub struct Supervise {
    /// The state directory.
    pub home: Home,
    /// The workspace.
    pub name: Name,
    /// The workspace's lock file, which is locked.
    pub lock: File,
    /// Where to say how the start goes.
    pub report: File,
    /// How much disk templates may take.
    pub templates: Budget,
    /// The file that what the network carries is written to, in place of the one in its settings.
    pub pcap: Option<PathBuf>,
    /// What becomes of it where this host lacks something to confine it with, whatever its settings say.
    pub confinement: Demand,
}

/// Runs the workspace until it ends for good.
///
/// It must be driven on a thread that lives until then.
pub async fn supervise(order: Supervise) {
    let mut report = Report::new(order.report);
    fault_point("supervise.begun");
    // From here on the terminal's signals are not ours. It fails only for a leader of a process group.
    let _ = rustix::process::setsid();
    match prepare(&order.home, &order.name, order.lock, order.pcap) {
        Ok(prepared) => prepared.run(report, order.templates, order.confinement).await,
        Err(error) => {
            report.say(&Said::Failed(Failure {
                kind: error.kind().to_owned(),
                message: causes(&error),
                hint: error.hint(),
            }));
        }
    }
}

/// A supervisor that is about to start the machine.
struct Prepared {
    workspace: Workspace,
    /// Through it the workspace is found whatever it is called meanwhile.
    directory: File,
    lock: Exclusive,
    logs: Logbook,
    network: Option<network::Network>,
    /// Keeps what the network decides.
    keeper: Option<Keeper>,
}

fn prepare(home: &Home, name: &Name, lock: File, pcap: Option<PathBuf>) -> Result<Prepared, WorkspaceError> {
    let found = Workspace::find(home, name)?;
    let io = |source| WorkspaceError::Io { name: name.clone(), source };
    let directory = File::open(found.directory()).map_err(io)?;
    let lock = Exclusive::inherited(lock, &found.lock_path());
    let workspace = found.through(&directory);
    let logs = Logbook::open(&workspace.logs()).map_err(io)?;
    let outlets = outlets(&workspace, pcap)?;
    // No thread has been started yet, and none would be confined that has.
    confined::confine(home, &workspace.record().spec.volumes);
    let started = outlets.map(|outlets| start_network(&workspace, &directory, outlets)).transpose();
    let (network, keeper) = started?.unzip();
    Ok(Prepared { workspace, directory, lock, logs, network, keeper })
}

/// What the workspace's network has to do with on this host.
struct Outlets {
    listeners: Vec<network::Listener>,
    capture: Option<CaptureFile>,
    memberships: Vec<network::Membership>,
}

/// Where the workspace has a network: its ports bound, the file of its capture open, its networks joined. What of that
/// cannot be is an error before anything boots.
fn outlets(workspace: &Workspace, pcap: Option<PathBuf>) -> Result<Option<Outlets>, WorkspaceError> {
    let spec = &workspace.record().spec;
    if !spec.has_network() {
        return Ok(None);
    }
    let listeners = network::bind(&spec.publish)?;
    let pcap = pcap.or_else(|| spec.pcap.clone());
    let capture = pcap.as_deref().map(Capture::open).transpose()?;
    let memberships = join(workspace.home(), &spec.networks, workspace.name())?;
    Ok(Some(Outlets { listeners, capture, memberships }))
}

fn start_network(
    workspace: &Workspace,
    directory: &File,
    outlets: Outlets,
) -> Result<(Network, Keeper), WorkspaceError> {
    let io = |source| WorkspaceError::Io { name: workspace.name().clone(), source };
    let Outlets { listeners, capture, memberships } = outlets;
    let capture = capture.map(CaptureFile::begin).transpose()?;
    let listener = tell_refusals(workspace, directory).map_err(io)?;
    let (keeper, audit) = Keeper::start(Some(workspace.directory()), listener).map_err(io)?;
    let fittings = Fittings { listeners, memberships, audit, capture };
    let network = Network::start(workspace.record().spec.network_settings(), fittings).map_err(io)?;
    Ok((network, keeper))
}

/// Notes refusals as events of the workspace, whatever it is called then.
fn tell_refusals(workspace: &Workspace, directory: &File) -> std::io::Result<Listener> {
    let directory = directory.try_clone()?;
    let workspace = workspace.clone().through(&directory);
    Ok(Box::new(move |entry| {
        let _open = &directory;
        if let Some(event) = EventKind::refusal(entry) {
            workspace.called_now().tell(event);
        }
    }))
}

impl Prepared {
    async fn run(self, mut report: Report, templates: Budget, confinement: Demand) {
        fault_point("supervise.prepared");
        home::mark("supervisor");
        let failed = |error: &std::io::Error| {
            let message = format!("failed to listen on the control socket: {error}");
            Said::Failed(Failure { kind: "system".to_owned(), message, hint: None })
        };
        let listening = Socket::of(self.workspace.directory(), SOCKET)
            .and_then(|socket| socket.listen().map(|listener| (socket, listener)));
        let (socket, listener) = match listening {
            Ok(listening) => listening,
            Err(error) => return report.say(&failed(&error)),
        };
        let (shared, orders) = Shared::new(self.network);
        let shared = Arc::new(shared);
        let serving = tokio::spawn(clients::serve(listener, Arc::clone(&shared)));
        tracing::debug!(descriptor = self.directory.as_raw_fd(), "the supervisor listens");
        let life = Life {
            workspace: self.workspace,
            shared: Arc::clone(&shared),
            orders,
            logs: self.logs,
            report,
            templates,
            confinement,
            failure: None,
            waiters: Vec::new(),
            enders: Vec::new(),
        };
        let last_words = life.live().await;
        fault_point("supervise.over");
        // Nobody may find a supervisor that takes no orders any more, nor wait for one.
        serving.abort();
        shared.cut_network();
        if let Some(keeper) = self.keeper {
            keeper.finish();
        }
        socket.remove();
        drop(self.lock);
        last_words.say().await;
    }
}

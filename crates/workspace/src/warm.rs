//! Making templates: a machine is booted, its image mounted on a blank disk, a first process run, and saved.
//!
//! What is run in it is the image's own and knows nothing of any user: a run's command, environment and
//! randomness arrive after the restore.

use std::time::Duration;

use engine::SaveError;
use home::{Home, LockError};
use image::Image;
use proto::{Command, Stdio};
use template::{Budget, TemplateError, TemplateKey, Templates};

use crate::agent::{Agent, Process};
use crate::boot::Booted;
use crate::disk::{DiskError, fill_blank};
use crate::machine::Machine;
use crate::plan::Plan;
use crate::root::{RootError, root_file_system};
use crate::{BootError, MachineSettings};

/// How long one process that only warms the machine up may take.
const WARM_UP_DEADLINE: Duration = Duration::from_secs(20);

/// How long a guest may take to see that its network is up: the kernel tells of links once a second. Copies of
/// one that was saved before would not see it at first either.
const SETTLING: Duration = Duration::from_millis(1200);

/// A template to make.
#[derive(Debug)]
pub struct WarmRequest {
    /// The image that it starts.
    pub image: Image,
    /// The machine.
    pub machine: MachineSettings,
    /// How much disk templates may take.
    pub budget: Budget,
}

/// What became of a request for a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warmed {
    /// It was made.
    Made(TemplateKey),
    /// It was there, or another process is making it.
    AlreadyThere(TemplateKey),
}

/// Why a template was not made.
#[derive(Debug, thiserror::Error)]
pub enum WarmError {
    /// Templates are switched off.
    #[error("templates are switched off")]
    Off,
    /// What the template depends on cannot be told.
    #[error("cannot tell which template fits this machine")]
    NoKey,
    /// The image's layers are no root file system.
    #[error(transparent)]
    Root(#[from] RootError),
    /// The disk could not be made.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The machine did not come up.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The machine was not saved.
    #[error(transparent)]
    Save(#[from] SaveError),
    /// The template could not be kept.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// A lock could not be taken.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A file could not be used.
    #[error("failed to make the template")]
    Io(#[from] std::io::Error),
}

/// Makes the template for runs of `request.image`, unless it is there, and trims the others to the budget.
///
/// It must be driven on a thread that lives until the template is made.
pub async fn warm(home: &Home, request: &WarmRequest) -> Result<Warmed, WarmError> {
    if request.budget == Budget::Off {
        return Err(WarmError::Off);
    }
    let root = root_file_system(home, &request.image, &mut |_| ())?;
    let plan = Plan::new(home, &request.machine, &request.image, root)?;
    let key = plan.template_key().ok_or(WarmError::NoKey)?;
    let templates = Templates::open(home);
    let Some(making) = templates.begin(&key)? else { return Ok(Warmed::AlreadyThere(key)) };

    fill_blank(home, request.machine.disk_size, &making.disk)?;
    let booting = plan.boot_to_save(making.disk.try_clone()?, making.memory.try_clone()?);
    let Booted { machine, agent, .. } = ready(booting.await?).await?;
    agent.leave();
    let Machine::Own(machine) = machine else { unreachable!("a machine that was booted is our own") };
    machine.save(&making.state).await?;
    let name = request.image.reference.as_ref().map_or_else(String::new, ToString::to_string);
    making.finish(&name, request.budget)?;
    templates.trim(request.budget)?;
    Ok(Warmed::Made(key))
}

/// Mounts, connects, and runs first processes.
async fn ready(booted: Booted) -> Result<Booted, BootError> {
    booted.set_up("localhost").await?;
    warm_up(&booted.agent).await;
    tokio::time::sleep(SETTLING).await;
    Ok(booted)
}

/// Runs what most commands touch: the loader and the library of whatever shell there is. An image that has
/// none of them is warm enough.
pub(crate) async fn warm_up(agent: &Agent) {
    for argv in [["/bin/sh", "-c", ":"], ["/bin/true", "", ""], ["/bin/sh", "-c", ":"]] {
        run_once(agent, &argv).await;
    }
}

async fn run_once(agent: &Agent, argv: &[&str]) {
    let argv = argv.iter().filter(|word| !word.is_empty()).map(|word| word.as_bytes().to_vec()).collect();
    let mut process = agent.spawn(Command {
        argv,
        env: vec![b"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_vec()],
        directory: b"/".to_vec(),
        user: String::new(),
        stdio: Stdio::NoInput,
    });
    let handle = process.handle();
    if tokio::time::timeout(WARM_UP_DEADLINE, over(&mut process)).await.is_err() {
        handle.signal(rustix::process::Signal::KILL.as_raw());
        over(&mut process).await;
    }
}

async fn over(process: &mut Process) {
    // The last event closes the stream.
    while process.events.recv().await.is_some() {}
}

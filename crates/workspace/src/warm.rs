//! Making templates: a machine is booted, its image mounted on a blank disk, a first process run, and saved.
//!
//! What is run in it is the image's own and knows nothing of any user: a run's command, environment and
//! randomness arrive after the restore.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use engine::{Durability, SaveError};
use home::{Home, LockError};
use image::Image;
use proto::{Arrangement, Command, Resolver, Stdio};
use template::{Budget, Making, TemplateError, TemplateKey, Templates};

use crate::agent::{Agent, Process};
use crate::boot::Booted;
use crate::machine::Machine;
use crate::name::random_bytes;
use crate::plan::{self, PLACEHOLDER, Plan};
use crate::root::{RootError, chain_id, root_file_system};
use crate::{BootError, MachineSettings};
use volume::{DiskError, fill_blank};

/// How long one process that only warms the machine up may take.
const WARM_UP_DEADLINE: Duration = Duration::from_secs(20);

/// How long a guest may take to see that its network is up: the kernel tells of links once a second. Copies of
/// one that was saved before would not see it at first either. It is long enough to hold its clock against ours, too.
const SETTLING: Duration = Duration::from_millis(1200);

/// How much faster or slower than ours a guest's clock may run, as a part of the time.
const DRIFT: f64 = 0.05;

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
    /// The guest measured its clock's rate wrongly while it booted, as may happen where the host is very busy. Its copies
    /// would live by it.
    #[error("the guest's clock runs {guest:.1?} in {host:.1?}, so it is not saved")]
    Clock {
        /// What passed in the guest.
        guest: Duration,
        /// What passed meanwhile.
        host: Duration,
    },
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
    let plan = Plan::new(home, &request.machine, root, chain_id(&request.image))?;
    let key = plan.image_template().ok_or(WarmError::NoKey)?;
    let Some(making) = Templates::open(home).begin(&key)? else { return Ok(Warmed::AlreadyThere(key)) };

    fill_blank(home, request.machine.disk_size, &making.disk)?;
    let booted = boot(&plan, &making, Durability::Scratch).await?;
    booted.set_up("localhost", random_bytes(), Arrangement::default(), Resolver::default()).await?;
    warm_up(&booted.agent).await;
    let name = request.image.reference.as_ref().map_or_else(String::new, ToString::to_string);
    save(home, booted, making, &name, request.budget).await?;
    Ok(Warmed::Made(key))
}

/// Makes the template for workspaces on such a machine, whatever their images and disks, unless it is there.
///
/// It must be driven on a thread that lives until the template is made.
pub async fn warm_machine(
    home: &Home,
    machine: &MachineSettings,
    budget: Budget,
) -> Result<Warmed, WarmError> {
    if budget == Budget::Off {
        return Err(WarmError::Off);
    }
    // Nothing is read from its disks before a file system is mounted, so anything may stand for them.
    let plan = Plan::new(home, machine, image_placeholder(home)?, String::new())?;
    let key = plan.machine_template().ok_or(WarmError::NoKey)?;
    let Some(making) = Templates::open(home).begin(&key)? else { return Ok(Warmed::AlreadyThere(key)) };

    making.disk.set_len(PLACEHOLDER)?;
    let booted = boot(&plan, &making, Durability::Durable).await?;
    if let Some(connected) = booted.connect() {
        connected.await.map_err(BootError::Setup)?;
    }
    // A copy has another disk.
    making.disk.set_len(0)?;
    save(home, booted, making, "", budget).await?;
    Ok(Warmed::Made(key))
}

/// The same for an image, which is only read.
fn image_placeholder(home: &Home) -> std::io::Result<File> {
    let disk = plan::placeholder(home)?;
    // QEMU takes no descriptor that could do more than the guest may.
    File::open(format!("/proc/self/fd/{}", disk.as_raw_fd()))
}

async fn boot(plan: &Plan, making: &Making, writable: Durability) -> Result<Booted, WarmError> {
    let (disk, memory) = (making.disk.try_clone()?, making.memory.try_clone()?);
    Ok(plan.boot_to_save(disk, writable, memory).await?)
}

async fn save(
    home: &Home,
    booted: Booted,
    making: Making,
    name: &str,
    budget: Budget,
) -> Result<(), WarmError> {
    settle(&booted.agent).await?;
    let Booted { machine, agent, cable, .. } = booted;
    agent.leave();
    let Machine::Own(machine) = machine else { unreachable!("a machine that was booted is our own") };
    machine.save(&making.state).await?;
    // The guest was saved with its network plugged in.
    drop(cable);
    making.finish(name, budget)?;
    Templates::open(home).trim(budget)?;
    Ok(())
}

/// Waits until the guest has settled, and holds its clock against ours meanwhile.
async fn settle(agent: &Agent) -> Result<(), WarmError> {
    let around = Instant::now();
    let before = agent.measure().await.map_err(BootError::Setup)?;
    let within = Instant::now();
    tokio::time::sleep(SETTLING).await;
    let within = within.elapsed();
    let after = agent.measure().await.map_err(BootError::Setup)?;
    let around = around.elapsed();
    let guest = Duration::from_micros(after.clock.saturating_sub(before.clock));
    if is_right(guest, within, around) { Ok(()) } else { Err(WarmError::Clock { guest, host: within }) }
}

/// Whether a clock is right that was read before and after `within`, both times in the bounds of `around`.
fn is_right(guest: Duration, within: Duration, around: Duration) -> bool {
    guest >= within.mul_f64(1.0 - DRIFT) && guest <= around.mul_f64(1.0 + DRIFT)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_held_against_what_may_have_passed() {
        let milliseconds = Duration::from_millis;
        let right = |guest| is_right(milliseconds(guest), milliseconds(1200), milliseconds(1500));
        assert!(right(1200) && right(1150) && right(1500) && right(1570));
        assert!(!right(1100) && !right(1600) && !right(18_000) && !right(80));
    }
}

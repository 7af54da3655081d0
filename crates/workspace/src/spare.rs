//! Spares: restored machines that wait, warm, for the next run of their image.
//!
//! Under translation a restored guest is slow once, while its code is translated for the first time. A spare
//! has that behind it. A *keeper*, a small process, restores one, runs a first process in it, and waits for a
//! bounded time; the first run that connects to its socket gets the machine:
//!
//! ```text
//! run ──connect──▶ spares/<key>.sock ──▶ keeper      the socket is gone: nobody else gets this machine
//! run ◀── one byte, with the guest's port, console, disk for exchange and cable ── keeper
//! run ◀── lines of JSON: that the machine stands still, goes on, has ended ─ keeper
//! ```
//!
//! When the run hangs up, or is killed, the keeper ends the machine and itself. What makes a machine the run's
//! own (randomness, clock, names) arrives with the run, as after any restore.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::time::Duration;

use home::{Exclusive, Home, LockError};
use template::{TemplateKey, Templates};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use crate::agent::Agent;
use crate::boot::{Booted, GuestSide, Released, StartKind, listen};
use crate::descriptors;
use crate::exchange::{Exchange, Regions};
use crate::machine::{KeeperSays, Lent, Machine};
use crate::plan::{Plan, WritableDisk};
use crate::root::{chain_id, root_file_system};
use crate::socket::Socket;
use crate::warm::{WarmError, WarmRequest, warm_up};

/// A keeper that is there answers at once.
const CLAIM_DEADLINE: Duration = Duration::from_millis(200);

/// A spare never takes the last of a host's memory, in KiB as /proc/meminfo counts.
const MEMORY_TO_LEAVE: u64 = 2 << 20;

/// How a keeper ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// A run had its machine.
    Used,
    /// Nobody came in time, or its machine ended before.
    Expired,
    /// There is one already, or no template, or the host has better use for its memory.
    NotNeeded,
}

/// How many spares there may be, and how long each waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpareLimits {
    /// How many may wait at the same time, for all images together.
    pub number: u32,
    /// How long one waits.
    pub lifetime: Duration,
}

/// Keeps one spare for `request`, within `limits`. `claimed` is called when a run has taken it.
///
/// It must be driven on a thread that lives until the machine's end.
pub async fn keep_spare(
    home: &Home,
    request: &WarmRequest,
    limits: SpareLimits,
    claimed: impl FnOnce(),
) -> Result<Kept, WarmError> {
    let root = root_file_system(home, &request.image, &mut |_| ())?;
    let plan = Plan::new(home, &request.machine, root, chain_id(&request.image))?;
    if plan.has_slots() {
        return Ok(Kept::NotNeeded);
    }
    let key = plan.image_template().ok_or(WarmError::NoKey)?;
    let Some(place) = Place::take(home, &key, limits.number)? else { return Ok(Kept::NotNeeded) };
    let template = Templates::open(home).find(&key).filter(|_| host_can_spare());
    let Some(template) = template else { return Ok(Kept::NotNeeded) };
    let booted = plan.start(WritableDisk::Scratch, Some(template), None).await?;
    if booted.start_kind() != StartKind::Restore {
        return Ok(Kept::NotNeeded);
    }
    warm_up(&booted.agent).await;
    let waited = wait_for_run(home, &key, booted.release(), limits.lifetime).await?;
    // The next spare may be made while this one is in use.
    drop(place);
    let Some((released, run)) = waited else { return Ok(Kept::Expired) };
    claimed();
    serve(released, run).await;
    Ok(Kept::Used)
}

/// The right to keep a spare: the only one for a key, and one of a limited number.
struct Place {
    locks: Vec<Exclusive>,
}

impl Place {
    fn take(home: &Home, key: &TemplateKey, number: u32) -> Result<Option<Self>, LockError> {
        let try_lock = |name: &str| Exclusive::try_now(&home.spares().join(format!("{name}.lock")));
        let Some(own) = try_lock(key.as_str())? else { return Ok(None) };
        let mut place = Self { locks: vec![own] };
        for slot in 0..number {
            if let Some(lock) = try_lock(&format!("slot-{slot}"))? {
                place.locks.push(lock);
                return Ok(Some(place));
            }
        }
        Ok(None)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for lock in self.locks.drain(..) {
            // What stays of it is an empty file, which the next holder takes over.
            let _ = lock.delete();
        }
    }
}

/// Waits until a run connects and has the machine. The socket is gone afterwards, in any case.
async fn wait_for_run(
    home: &Home,
    key: &TemplateKey,
    mut released: Released,
    lifetime: Duration,
) -> io::Result<Option<(Released, UnixStream)>> {
    let socket = socket_of(home, key)?;
    let listener = socket.listen()?;
    let connection = tokio::select! {
        accepted = listener.accept() => Some(accepted?.0),
        _ = released.machine.ended() => None,
        () = tokio::time::sleep(lifetime) => None,
    };
    socket.remove();
    let Some(run) = connection else { return Ok(None) };
    let exchange = released.exchange.disk().as_fd();
    let mut given = vec![released.agent.as_fd(), released.console.as_fd(), exchange];
    given.extend(released.cable.as_ref().map(AsFd::as_fd));
    descriptors::send(&run, &given)?;
    Ok(Some((released, run)))
}

/// Until the run hangs up or the machine ends.
async fn serve(mut released: Released, mut run: UnixStream) {
    let mut byte = [0];
    let mut stalls = released.machine.stalls();
    loop {
        tokio::select! {
            ended = released.machine.ended() => {
                KeeperSays::Ended(ended).to(&mut run).await;
                break;
            }
            stall = stalls.changed() => KeeperSays::Stalled(stall).to(&mut run).await,
            _ = run.read(&mut byte) => break,
        }
    }
    released.machine.kill().await;
}

/// Takes the spare for `key`, if one waits.
pub(crate) async fn claim(home: &Home, key: &TemplateKey, guest: GuestSide) -> Option<Booted> {
    match tokio::time::timeout(CLAIM_DEADLINE, try_claim(home, key, guest)).await {
        Ok(Ok(booted)) => booted,
        Ok(Err(error)) => {
            tracing::debug!(%error, "no spare was to be had");
            None
        }
        Err(_) => None,
    }
}

async fn try_claim(home: &Home, key: &TemplateKey, guest: GuestSide) -> io::Result<Option<Booted>> {
    let socket = socket_of(home, key)?;
    let Some(keeper) = socket.connect()? else { return Ok(None) };
    keeper.set_nonblocking(true)?;
    let keeper = UnixStream::from_std(keeper)?;
    let mut received = receive_descriptors(&keeper).await?.into_iter();
    let (Some(agent), Some(console), Some(exchange)) = (received.next(), received.next(), received.next())
    else {
        return Ok(None);
    };
    let (exchange, cable) = (Exchange::new(File::from(exchange)), received.next());
    let agent = stream(agent)?;
    let (descriptors, console) = listen(&agent, stream(console)?, None)?;
    let agent = Agent::connect(agent, CLAIM_DEADLINE).await.map_err(io::Error::other)?;
    let agent = agent.exchanging(Regions::Own(exchange.clone()));
    let machine = Machine::Lent(Lent::new(keeper));
    Ok(Some(Booted { machine, agent, console, guest, descriptors, cable, exchange }))
}

fn stream(descriptor: OwnedFd) -> io::Result<UnixStream> {
    let stream = StdUnixStream::from(descriptor);
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

/// A keeper's socket.
fn socket_of(home: &Home, key: &TemplateKey) -> io::Result<Socket> {
    Socket::of(&home.spares(), &format!("{key}.sock"))
}

/// Nothing if the keeper hung up: another run was faster.
async fn receive_descriptors(stream: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    stream.async_io(tokio::io::Interest::READABLE, || descriptors::receive(stream)).await
}

/// Whether this host has memory and power to keep a machine for later.
fn host_can_spare() -> bool {
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    available_memory(&memory).is_some_and(|available| available > MEMORY_TO_LEAVE) && !on_battery()
}

fn available_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Whether there is a battery, and no other supply is on.
fn on_battery() -> bool {
    let Ok(supplies) = std::fs::read_dir("/sys/class/power_supply") else { return false };
    let mut battery = false;
    for supply in supplies.flatten() {
        let read = |name| std::fs::read_to_string(supply.path().join(name)).unwrap_or_default();
        if read("online").trim() == "1" {
            return false;
        }
        battery |= read("type").trim() == "Battery";
    }
    battery
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_read_as_the_kernel_writes_it() {
        let text = "MemTotal:       24632332 kB\nMemFree:  1 kB\nMemAvailable:   22000000 kB\n";
        assert_eq!(available_memory(text), Some(22_000_000));
        assert_eq!(available_memory("MemTotal: 1 kB\n"), None);
    }

    #[test]
    fn there_is_one_spare_for_a_key_and_a_number_for_all() {
        let parent = tempfile::tempdir().unwrap();
        let home = Home::open(Some(parent.path())).unwrap();
        let key = |digit: &str| digit.repeat(32).parse::<TemplateKey>().unwrap();
        let take = |digit| Place::take(&home, &key(digit), 2).unwrap();
        let first = take("a").unwrap();
        assert!(take("a").is_none());
        let _second = take("b").unwrap();
        assert!(take("c").is_none());
        drop(first);
        assert!(take("c").is_some());
        assert_eq!(std::fs::read_dir(home.spares()).unwrap().count(), 2);
    }
}

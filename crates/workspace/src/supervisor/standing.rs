//! A machine that stands still, since this host does not take what its guest writes: users hear of it, who waits for
//! an end need not wait any longer, and what has a time limit gets more time.
//!
//! The machine goes on by itself; see [`engine::Machine::stalls`].

use engine::{Stall, Stalls};
use jiff::Timestamp;
use tokio::time::Instant;

use super::leaving::Step;
use super::life::Life;
use super::running::{Up, fail_all};
use crate::boot::tell_time;
use crate::control::STALLED;
use crate::event::EventKind;
use crate::log::LogSource;

/// Whether a machine stands still.
pub(super) struct Standing {
    stalls: Stalls,
    still: Option<Still>,
}

/// That it does.
struct Still {
    why: Stall,
    since: Instant,
    /// What could not be noted: the event's own disk may be the one that is full.
    unnoted: Option<(Timestamp, EventKind)>,
}

impl Standing {
    pub(super) fn new(stalls: Stalls) -> Self {
        Self { stalls, still: None }
    }

    pub(super) fn is_still(&self) -> bool {
        self.still.is_some()
    }

    /// Why it does, for people; empty if it does not.
    pub(super) fn reason(&self) -> String {
        self.still.as_ref().map_or_else(String::new, |still| still.why.to_string())
    }

    /// Waits until it stands still or goes on. Cancel-safe.
    pub(super) async fn changed(&mut self) -> Option<Stall> {
        self.stalls.changed().await
    }
}

impl Life {
    pub(super) fn stall_changed(&mut self, up: &mut Up, now: Option<Stall>) {
        match (now, up.standing.still.take()) {
            (Some(why), None) => self.stands_still(up, why),
            // Another attempt to go on failed.
            (Some(why), Some(before)) => up.standing.still = Some(Still { why, ..before }),
            (None, Some(before)) => self.goes_on(up, before),
            (None, None) => {}
        }
        let trouble = up.standing.is_still().then(|| up.standing.reason());
        self.shared.change(|live| live.trouble = trouble);
    }

    fn stands_still(&mut self, up: &mut Up, why: Stall) {
        let reason = why.to_string();
        self.say(&format!("the machine stands still: {reason}"));
        let (now, kind) = (Timestamp::now(), EventKind::Stalled { reason: reason.clone() });
        let unnoted = self.workspace.called_now().try_tell(now, kind).err().map(|kind| (now, kind));
        if let Some(leaving) = &mut up.leaving {
            fail_all(&mut leaving.waiting, STALLED, &reason);
        }
        up.standing.still = Some(Still { why, since: Instant::now(), unnoted });
    }

    fn goes_on(&mut self, up: &mut Up, still: Still) {
        self.say("the machine goes on");
        if let Some((time, kind)) = still.unnoted {
            // One that cannot be noted now either is given up.
            let _ = self.workspace.called_now().try_tell(time, kind);
        }
        self.tell(EventKind::WentOn);
        if let Some(leaving) = &mut up.leaving {
            leaving.step.postpone(still.since.elapsed());
        }
        // Once the guest is told to go down, it does not take orders any more.
        if !up.leaving.as_ref().is_some_and(|leaving| matches!(leaving.step, Step::Unmounting(..))) {
            tell_time(&up.booted.agent);
        }
    }

    /// A line among those of the console.
    fn say(&self, words: &str) {
        self.logs.write(LogSource::Console, format!("microagent: {words}\n").as_bytes());
    }
}

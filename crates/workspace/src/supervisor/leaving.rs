//! A machine's way down, step by step; each step has a time, and is never skipped.
//!
//! ```text
//! asked ──service ended──▶ unmounting ──guest says that its disk is clean──▶ going off ──▶ ended
//!   └─time is up, halt──▶ killed ─┘           └─it says no, or nothing──▶ still up
//!   └─time is up, stop──▶ still up
//! ```

use std::pin::Pin;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::agent::AgentError;
use crate::control::Reply;
use crate::state::Ending;

/// How long a killed service has to be gone, and a machine that was told to go off.
pub(super) const AT_ONCE: Duration = Duration::from_secs(10);

/// How long a guest may take to write out what it has in memory, beside the grace for processes.
pub(super) const UNMOUNT_DEADLINE: Duration = Duration::from_secs(120);

/// The answer to the request to shut down.
type Answer = Pin<Box<dyn Future<Output = Result<(), AgentError>> + Send>>;

/// A machine on its way down.
pub(super) struct Leaving {
    /// How it will have ended.
    pub(super) how: Ending,
    /// Who waits for it.
    pub(super) waiting: Vec<Waiting>,
    /// Whether anybody asked for it; they may have waited long enough.
    pub(super) asked_for: bool,
    pub(super) step: Step,
}

/// Somebody who waits for an end.
pub(super) struct Waiting {
    pub(super) reply: oneshot::Sender<Reply>,
    /// When to hear that it is still up; for `stop`.
    pub(super) until: Option<Instant>,
}

/// Where it is.
pub(super) enum Step {
    /// The service was asked to end, and has until then, or as long as it likes.
    Asked(Option<Instant>),
    /// The service was killed.
    Killed(Instant),
    /// The guest was asked to shut down, and has until then to say that its disk is clean.
    Unmounting(Answer, Instant),
    /// The disk is clean.
    GoingOff(Instant),
    /// The guest was gone before it answered, and its machine should be, too.
    Lost(Instant),
}

/// What happened on the way.
pub(super) enum Passed {
    /// The step's time is up.
    Time,
    /// The guest answered.
    Answered(Result<(), AgentError>),
    /// Whoever waits has waited long enough.
    Patience,
}

impl Step {
    /// Gives it so much more time.
    pub(super) fn postpone(&mut self, time: Duration) {
        match self {
            Self::Asked(None) => {}
            Self::Asked(Some(until))
            | Self::Killed(until)
            | Self::GoingOff(until)
            | Self::Lost(until)
            | Self::Unmounting(_, until) => *until += time,
        }
    }
}

/// Waits for the next thing to happen; for ever if there is nothing under way. A machine that stands still has all
/// the time it needs. Cancel-safe.
pub(super) async fn passed(leaving: &mut Option<Leaving>, standing: bool) -> Passed {
    let Some(leaving) = leaving else { return std::future::pending().await };
    let out_of_patience = sleep_until(leaving.waiting.iter().filter_map(|waiting| waiting.until).min());
    let step = async {
        match &mut leaving.step {
            Step::Unmounting(answer, _) if standing => Passed::Answered(answer.await),
            _ if standing => std::future::pending().await,
            Step::Asked(until) => {
                sleep_until(*until).await;
                Passed::Time
            }
            Step::Killed(until) | Step::GoingOff(until) | Step::Lost(until) => {
                tokio::time::sleep_until(*until).await;
                Passed::Time
            }
            Step::Unmounting(answer, until) => tokio::select! {
                answer = answer => Passed::Answered(answer),
                () = tokio::time::sleep_until(*until) => Passed::Time,
            },
        }
    };
    tokio::select! {
        passed = step => passed,
        () = out_of_patience => Passed::Patience,
    }
}

async fn sleep_until(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

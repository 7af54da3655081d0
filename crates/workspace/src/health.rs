//! Whether a service is well: a check that runs again and again, in the guest.

use std::time::Duration;

use proto::{ExitStatus, Stdio};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::agent::{Agent, ProcessEvent};
use crate::service::{HealthCheck, Service};

/// What checks say about a service; Docker's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// No check was well yet, and not enough failed.
    Starting,
    /// The last check was well.
    Healthy,
    /// Too many checks in a row were not.
    Unhealthy,
}

impl std::fmt::Display for Health {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        })
    }
}

/// Checks until the agent is gone; `changed` hears every new state.
pub(crate) async fn watch(service: Service, check: HealthCheck, agent: Agent, changed: impl Fn(Health)) {
    let mut judge =
        Judge { check: check.clone(), started: Instant::now(), failures: 0, state: Health::Starting };
    loop {
        tokio::time::sleep(check.interval).await;
        let Some(well) = passes(&service, &check, &agent).await else { return };
        if let Some(new) = judge.take(well, Instant::now()) {
            changed(new);
        }
    }
}

/// Runs the check once; `None` if the guest is gone.
async fn passes(service: &Service, check: &HealthCheck, agent: &Agent) -> Option<bool> {
    let mut process = agent.spawn(service.beside(&check.argv, Stdio::NoInput));
    let handle = process.handle();
    let deadline = Instant::now() + check.timeout;
    let mut in_time = true;
    loop {
        let event = tokio::select! {
            event = process.events.recv() => event?,
            () = tokio::time::sleep_until(deadline), if in_time => {
                in_time = false;
                handle.signal(rustix::process::Signal::KILL.as_raw());
                continue;
            }
        };
        match event {
            ProcessEvent::Started => {}
            ProcessEvent::Output(stream, chunk) => handle.credit(stream, chunk.len()),
            ProcessEvent::Failed(_) => return Some(false),
            ProcessEvent::Exited(status) => return Some(in_time && status == ExitStatus::Code(0)),
        }
    }
}

/// Turns results into states.
struct Judge {
    check: HealthCheck,
    started: Instant,
    failures: u32,
    state: Health,
}

impl Judge {
    /// Takes a result in; the new state, if it is another.
    fn take(&mut self, well: bool, now: Instant) -> Option<Health> {
        let forgiven: Duration = self.check.start_period;
        let new = if well {
            self.failures = 0;
            Health::Healthy
        } else if self.state == Health::Starting && now - self.started < forgiven {
            Health::Starting
        } else {
            self.failures += 1;
            if self.failures >= self.check.retries { Health::Unhealthy } else { self.state }
        };
        let changed = new != self.state;
        self.state = new;
        changed.then_some(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn failures_count_in_a_row_and_after_the_start() {
        let second = Duration::from_secs(1);
        let check = HealthCheck {
            argv: Vec::new(),
            interval: second,
            timeout: second,
            start_period: 10 * second,
            retries: 2,
        };
        let started = Instant::now();
        let mut judge = Judge { check, started, failures: 0, state: Health::Starting };
        let early = started + second;
        let late = started + 20 * second;
        for _ in 0..5 {
            assert_eq!(judge.take(false, early), None);
        }
        assert_eq!(judge.take(true, early), Some(Health::Healthy));
        assert_eq!(judge.take(false, early), None);
        assert_eq!(judge.take(true, late), None);
        assert_eq!(judge.take(false, late), None);
        assert_eq!(judge.take(false, late), Some(Health::Unhealthy));
        assert_eq!(judge.take(true, late), Some(Health::Healthy));
    }
}

//! What is tried again, how often, and when.
//!
//! Tried again is what may go better the next time: broken and silent connections to a registry that has answered before, answers
//! that say "later". Each pause is twice the one before, and as long as the registry asks for if that is bearable.

use std::time::Duration;

use reqwest::Response;
use reqwest::header::RETRY_AFTER;

use super::{RegistryError, Repository};

const TRIES: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause that is worth waiting for.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// The tries that are left.
#[derive(Debug, Default)]
pub(crate) struct Retry {
    failed: u32,
}

impl Retry {
    /// How long to wait after `error` until the next try; the error if there is to be none.
    pub(crate) fn pause(
        &mut self,
        repository: &Repository<'_>,
        error: RegistryError,
    ) -> Result<Duration, RegistryError> {
        self.failed += 1;
        let Some(pause) = wanted(&error, repository.has_answered()).filter(|_| self.failed < TRIES) else {
            return Err(error);
        };
        let pause = pause.max(FIRST_PAUSE * 2_u32.pow(self.failed - 1));
        tracing::debug!(%error, ?pause, "trying again");
        Ok(pause)
    }

    /// Something went well, so all tries are left.
    pub(crate) fn succeeded(&mut self) {
        self.failed = 0;
    }
}

/// The shortest time after which another try makes sense; `None` if none does.
fn wanted(error: &RegistryError, has_answered: bool) -> Option<Duration> {
    match error {
        // A registry that was never there is not waited for.
        RegistryError::Unreachable { .. } | RegistryError::Stalled { .. } => {
            has_answered.then_some(Duration::ZERO)
        }
        RegistryError::Truncated { .. } => Some(Duration::ZERO),
        RegistryError::Answer { status: 408 | 429 | 500 | 502 | 503 | 504, retry_after, .. } => {
            Some(retry_after.unwrap_or_default()).filter(|pause| *pause <= MAX_PAUSE)
        }
        _ => None,
    }
}

/// When an answer wants to be asked for again, in seconds; dates are not understood.
pub(super) fn after(response: &Response) -> Option<Duration> {
    let value = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, retry_after: Option<u64>) -> RegistryError {
        let retry_after = retry_after.map(Duration::from_secs);
        RegistryError::Answer { registry: "a.io".into(), status, message: String::new(), retry_after }
    }

    #[test]
    fn only_what_may_get_better_is_tried_again() {
        assert_eq!(wanted(&answer(503, None), true), Some(Duration::ZERO));
        assert_eq!(wanted(&answer(429, Some(7)), true), Some(Duration::from_secs(7)));
        assert_eq!(wanted(&answer(429, Some(3600)), true), None);
        assert_eq!(wanted(&answer(404, None), true), None);
        let stalled = RegistryError::Stalled { registry: "a.io".into(), after: Duration::ZERO };
        assert!(wanted(&stalled, true).is_some() && wanted(&stalled, false).is_none());
    }
}

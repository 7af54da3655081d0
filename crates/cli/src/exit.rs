//! Exit codes, all of them.

use std::process::ExitCode;

use proto::ExitStatus;

/// How this program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Success,
    /// A command other than `run` failed.
    Failed,
    /// The command line makes no sense.
    Usage,
    /// The guest's command ended so.
    Guest(ExitStatus),
    /// `--timeout` ended the guest's command.
    TimedOut,
    /// `run` failed before or beside the guest's command.
    RunFailed,
    /// The guest's command could not be invoked.
    NotInvocable,
    /// The guest's command was not found.
    NotFound,
    /// A signal ended this program's work.
    Signaled(i32),
}

impl Exit {
    fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Guest(ExitStatus::Code(code)) => code,
            Self::Guest(ExitStatus::Signal(signal)) => signal.saturating_add(128),
            Self::TimedOut => 124,
            Self::RunFailed => 125,
            Self::NotInvocable => 126,
            Self::NotFound => 127,
            Self::Signaled(signal) => u8::try_from(signal).unwrap_or(0).saturating_add(128),
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_contract() {
        let codes = [
            (Exit::Guest(ExitStatus::Code(7)), 7),
            (Exit::Guest(ExitStatus::Signal(9)), 137),
            (Exit::Signaled(15), 143),
            (Exit::TimedOut, 124),
            (Exit::RunFailed, 125),
            (Exit::NotInvocable, 126),
            (Exit::NotFound, 127),
        ];
        for (exit, code) in codes {
            assert_eq!(exit.code(), code);
        }
    }
}

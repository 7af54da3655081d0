//! The signal that asks a command to end, as images and users write it.

use std::str::FromStr;

/// The first real-time signal that programs have; glibc keeps two of the kernel's for itself. signal(7).
const FIRST_REAL_TIME: i32 = 34;
const LAST_REAL_TIME: i32 = 64;

/// A signal by its Linux number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopSignal(i32);

/// A text that names no signal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a signal; write it like `SIGTERM`, `TERM` or `15`")]
pub struct InvalidStopSignal(String);

impl StopSignal {
    /// SIGTERM.
    pub const TERMINATE: Self = Self(15);

    /// The Linux number.
    pub const fn number(self) -> i32 {
        self.0
    }
}

impl std::fmt::Display for StopSignal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match nix::sys::signal::Signal::try_from(self.0) {
            Ok(signal) => formatter.pad(signal.as_str()),
            Err(_) => formatter.pad(&self.0.to_string()),
        }
    }
}

impl FromStr for StopSignal {
    type Err = InvalidStopSignal;

    fn from_str(text: &str) -> Result<Self, InvalidStopSignal> {
        let invalid = || InvalidStopSignal(text.to_owned());
        if let Ok(number) = text.parse() {
            return if (1..=LAST_REAL_TIME).contains(&number) { Ok(Self(number)) } else { Err(invalid()) };
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some(offset) = name.strip_prefix("RTMIN") {
            let offset: i32 = if offset.is_empty() { 0 } else { offset.parse().map_err(|_| invalid())? };
            let number = FIRST_REAL_TIME.checked_add(offset).ok_or_else(invalid)?;
            let known = (FIRST_REAL_TIME..=LAST_REAL_TIME).contains(&number);
            return if known { Ok(Self(number)) } else { Err(invalid()) };
        }
        let signal: nix::sys::signal::Signal = format!("SIG{name}").parse().map_err(|_| invalid())?;
        Ok(Self(signal as i32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_written_in_many_ways() {
        for (text, number) in
            [("SIGTERM", 15), ("quit", 3), ("9", 9), ("SIGRTMIN+3", 37), ("RTMIN", 34), ("WINCH", 28)]
        {
            assert_eq!(text.parse(), Ok(StopSignal(number)), "{text}");
            assert_eq!(StopSignal(number).to_string().parse(), Ok(StopSignal(number)), "{text}");
        }
        for bad in ["", "0", "65", "-1", "SIGNOTHING", "SIGRTMIN+99", "SIGRTMIN+2147483647"] {
            assert!(bad.parse::<StopSignal>().is_err(), "{bad}");
        }
    }
}

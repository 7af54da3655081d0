//! How much disk templates may take.

use std::fmt;
use std::str::FromStr;

/// Whether there are templates, and how much disk they may take together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Budget {
    /// There are none: every start is a boot.
    Off,
    /// At most so many bytes.
    Bytes(u64),
}

/// A text that is no budget.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a budget for templates; write `off` or a size like `8g`")]
pub struct InvalidBudget(String);

impl Default for Budget {
    /// Some thirty templates of small machines.
    fn default() -> Self {
        Self::Bytes(8 << 30)
    }
}

impl FromStr for Budget {
    type Err = InvalidBudget;

    fn from_str(text: &str) -> Result<Self, InvalidBudget> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let invalid = || InvalidBudget(text.to_owned());
        let lower = text.to_ascii_lowercase();
        let (digits, shift) = match lower.as_bytes().last() {
            Some(b'm') => (&lower[..lower.len() - 1], 20),
            Some(b'g') => (&lower[..lower.len() - 1], 30),
            Some(b't') => (&lower[..lower.len() - 1], 40),
            _ => return Err(invalid()),
        };
        let number: u64 = digits.parse().map_err(|_| invalid())?;
        number.checked_mul(1 << shift).map(Self::Bytes).ok_or_else(invalid)
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => formatter.write_str("off"),
            Self::Bytes(bytes) => write!(formatter, "{}m", bytes >> 20),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_off_or_a_size() {
        assert_eq!("off".parse(), Ok(Budget::Off));
        assert_eq!("8g".parse(), Ok(Budget::default()));
        assert_eq!(Budget::default().to_string().parse(), Ok(Budget::default()));
        for bad in ["", "on", "8", "g", "-1g", "99999999999t"] {
            assert!(bad.parse::<Budget>().is_err(), "{bad}");
        }
    }
}

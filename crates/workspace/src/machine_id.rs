//! What tells a workspace's machine from others, from its creation to its deletion: `/etc/machine-id`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::name::random_bytes;

/// 128 bits, written as 32 hexadecimal digits; machine-id(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MachineId(u128);

impl MachineId {
    /// A new one.
    pub fn random() -> Self {
        Self(u128::from_be_bytes(random_bytes()))
    }

    /// Its bytes, in the order of its digits.
    pub fn bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

impl fmt::Display for MachineId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", self.0)
    }
}

impl FromStr for MachineId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u128::from_str_radix(text, 16).ok().filter(|_| digits);
        number.map(Self).ok_or_else(|| format!("`{text}` is not a machine's ID"))
    }
}

impl TryFrom<String> for MachineId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<MachineId> for String {
    fn from(id: MachineId) -> Self {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written() {
        let id = MachineId::random();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(MachineId(1).to_string(), "00000000000000000000000000000001");
        for bad in ["", "1", "+0000000000000000000000000000001"] {
            assert!(bad.parse::<MachineId>().is_err(), "{bad}");
        }
    }
}

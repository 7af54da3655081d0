//! The key of a template: a digest over everything that it depends on.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

/// Grows when templates of an older release cannot be used by this one for a reason that no part tells.
const LAYOUT: u32 = 1;

/// What names a template: 32 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TemplateKey(String);

/// What a template depends on.
#[derive(Debug, Clone)]
pub struct KeyParts<'a> {
    /// The monitor, its command line, and the processor where it matters.
    pub machine: &'a str,
    /// The kernel's content.
    pub kernel: &'a str,
    /// The initramfs's content, the guest's init among it.
    pub initramfs: &'a str,
    /// The root file system's content.
    pub root: &'a str,
    /// The blank disk's size and layout.
    pub disk: &'a str,
}

impl KeyParts<'_> {
    /// The digest of all parts.
    pub fn key(&self) -> TemplateKey {
        let mut hash = Sha256::new();
        hash.update(LAYOUT.to_le_bytes());
        for part in [self.machine, self.kernel, self.initramfs, self.root, self.disk] {
            // Lengths keep parts apart: no two sets of parts run together into the same bytes.
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let digest = hash.finalize();
        TemplateKey(home::hexadecimal(&digest[..16]))
    }
}

impl TemplateKey {
    /// The key as text; safe as a file name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TemplateKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let valid = text.len() == 32 && text.bytes().all(|byte| b"0123456789abcdef".contains(&byte));
        if valid { Ok(Self(text.to_owned())) } else { Err(format!("`{text}` is not a template's key")) }
    }
}

impl fmt::Display for TemplateKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_makes_another_key() {
        let parts = KeyParts { machine: "m", kernel: "k", initramfs: "i", root: "r", disk: "d" };
        let others = [
            KeyParts { machine: "x", ..parts.clone() },
            KeyParts { kernel: "x", ..parts.clone() },
            KeyParts { initramfs: "x", ..parts.clone() },
            KeyParts { root: "x", ..parts.clone() },
            KeyParts { disk: "x", ..parts.clone() },
            KeyParts { machine: "mk", kernel: "", ..parts.clone() },
        ];
        let key = parts.key();
        assert_eq!(key, parts.key());
        assert_eq!(key.as_str().parse(), Ok(key.clone()));
        for other in others {
            assert_ne!(other.key(), key, "{other:?}");
        }
    }
}

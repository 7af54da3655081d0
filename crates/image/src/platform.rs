//! Which system an image is made for, in the words of the image specification: `linux/arm64/v8`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An operating system, an architecture and, where one is told apart, its variant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// As Go's `GOOS` names it.
    pub os: String,
    /// As Go's `GOARCH` names it.
    pub architecture: String,
    /// Such as `v7` of `arm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// A text that names no platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid platform `{0}`: a platform is `os/architecture` or `os/architecture/variant`")]
pub struct InvalidPlatform(String);

impl Platform {
    /// The platform of guests on this host.
    pub fn of_host() -> Self {
        Self { os: "linux".into(), architecture: std::env::consts::ARCH.into(), variant: None }.normalized()
    }

    /// Whether both name the same platform: `linux/arm64` is `linux/arm64/v8`, `x86_64` is `amd64`.
    pub fn matches(&self, other: &Self) -> bool {
        self.normalized() == other.normalized()
    }

    /// The same platform as an image index spells it, without the variant that goes without saying.
    fn normalized(&self) -> Self {
        let architecture = match self.architecture.as_str() {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            other => other,
        };
        let variant = match (architecture, self.variant.as_deref()) {
            ("amd64", Some("v1" | "")) | ("arm64", Some("v8" | "")) | (_, Some("")) => None,
            ("arm", None) => Some("v7"),
            (_, variant) => variant,
        };
        Self {
            os: self.os.clone(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
        }
    }
}

impl FromStr for Platform {
    type Err = InvalidPlatform;

    fn from_str(text: &str) -> Result<Self, InvalidPlatform> {
        let good = |part: &&str| {
            !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        let parts: Vec<&str> = text.split('/').collect();
        let (os, architecture, variant) = match parts.as_slice() {
            [os, architecture] => (*os, *architecture, None),
            [os, architecture, variant] => (*os, *architecture, Some(*variant)),
            _ => return Err(InvalidPlatform(text.to_owned())),
        };
        if !parts.iter().all(good) {
            return Err(InvalidPlatform(text.to_owned()));
        }
        Ok(Self { os: os.into(), architecture: architecture.into(), variant: variant.map(str::to_owned) })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(formatter, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn a_platform_is_read_as_it_is_written() {
        for text in ["linux/amd64", "linux/arm64/v8", "windows/amd64"] {
            assert_eq!(platform(text).to_string(), text);
        }
        for bad in ["", "linux", "linux/", "/amd64", "linux/amd64/v1/x", "linux/a b"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }

    #[test]
    fn spellings_of_one_platform_match() {
        for (one, other) in [
            ("linux/amd64", "linux/x86_64"),
            ("linux/arm64", "linux/arm64/v8"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
        ] {
            assert!(platform(one).matches(&platform(other)), "{one} {other}");
        }
        for (one, other) in [("linux/amd64", "linux/amd64/v3"), ("linux/arm/v6", "linux/arm")] {
            assert!(!platform(one).matches(&platform(other)), "{one} {other}");
        }
    }
}

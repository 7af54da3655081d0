//! File systems in the guest's memory: what `--tmpfs` asks for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A file system in memory, at a path in the guest: `/PATH[:OPTION,...]`, with Docker's options.
///
/// It starts empty with each start, and belongs to the machine's memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Tmpfs {
    path: String,
    /// What it holds at most, in bytes; half of the guest's memory if absent.
    size: Option<u64>,
    mode: Option<u16>,
    programs: bool,
}

/// A text that names no file system in memory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no file system in memory: {reason}; write it like `/scratch` or `/scratch:size=64m,mode=1777`"
)]
pub struct InvalidTmpfs {
    text: String,
    reason: String,
}

impl Tmpfs {
    /// It in the words of the protocol.
    pub(crate) fn in_guest(&self) -> proto::Tmpfs {
        proto::Tmpfs {
            path: self.path.clone().into_bytes(),
            size: self.size,
            mode: self.mode.unwrap_or(0o1777),
            programs: self.programs,
        }
    }

    fn set(&mut self, option: &str) -> Result<(), String> {
        match option.split_once('=') {
            Some(("size", size)) => self.size = Some(bytes(size).ok_or("its size is none")?),
            Some(("mode", mode)) => {
                let mode = u16::from_str_radix(mode, 8).ok().filter(|mode| *mode <= 0o7777);
                self.mode = Some(mode.ok_or("its mode is not octal")?);
            }
            None if option == "exec" => self.programs = true,
            None if option == "noexec" => self.programs = false,
            // These are so in any case.
            None if ["rw", "nosuid", "nodev", ""].contains(&option) => {}
            _ => {
                return Err(format!("`{option}` is no option; they are `size`, `mode`, `exec` and `noexec`"));
            }
        }
        Ok(())
    }
}

fn bytes(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()?.to_ascii_lowercase() {
        b'k' => (&text[..text.len() - 1], 10),
        b'm' => (&text[..text.len() - 1], 20),
        b'g' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let number: u64 = digits.parse().ok()?;
    number.checked_mul(1 << shift).filter(|size| *size > 0)
}

impl FromStr for Tmpfs {
    type Err = InvalidTmpfs;

    fn from_str(text: &str) -> Result<Self, InvalidTmpfs> {
        let invalid = |reason: &str| InvalidTmpfs { text: text.to_owned(), reason: reason.to_owned() };
        let (path, options) = text.split_once(':').unwrap_or((text, ""));
        if !path.starts_with('/') || path.split('/').any(|part| part == "..") || path.contains('\0') {
            return Err(invalid("its path is not an absolute one"));
        }
        if path.trim_matches('/').is_empty() {
            return Err(invalid("it would hide the whole image"));
        }
        let mut tmpfs = Self { path: path.to_owned(), size: None, mode: None, programs: false };
        for option in options.split(',') {
            tmpfs.set(option).map_err(|reason| invalid(&reason))?;
        }
        Ok(tmpfs)
    }
}

impl fmt::Display for Tmpfs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.size.map(|size| format!("size={size}"));
        let mode = self.mode.map(|mode| format!("mode={mode:o}"));
        let programs = self.programs.then(|| "exec".to_owned());
        let options: Vec<_> = [size, mode, programs].into_iter().flatten().collect();
        formatter.write_str(&self.path)?;
        if options.is_empty() { Ok(()) } else { write!(formatter, ":{}", options.join(",")) }
    }
}

impl From<Tmpfs> for String {
    fn from(tmpfs: Tmpfs) -> Self {
        tmpfs.to_string()
    }
}

impl TryFrom<String> for Tmpfs {
    type Error = InvalidTmpfs;

    fn try_from(text: String) -> Result<Self, InvalidTmpfs> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_options_are_understood() {
        let read = |text: &str| text.parse::<Tmpfs>().unwrap();
        assert_eq!(read("/run").to_string(), "/run");
        assert_eq!(
            read("/run:rw,noexec,nosuid,size=64m,mode=0755").to_string(),
            "/run:size=67108864,mode=755"
        );
        assert!(read("/x:exec").in_guest().programs);
        assert_eq!(read("/x").in_guest().mode, 0o1777);
        let again = read("/a b:size=1k,exec");
        assert_eq!(read(&again.to_string()), again);
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        for bad in
            ["", "run", "/", "//", "/a/../b", "/x:size=", "/x:size=0", "/x:size=1t", "/x:mode=9", "/x:uid=1"]
        {
            assert!(bad.parse::<Tmpfs>().is_err(), "{bad}");
        }
        assert!("/x:size=99999999999g".parse::<Tmpfs>().is_err());
    }
}

//! Which parts hold, and why others do not.

use std::fmt;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What confines a process; each holds by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The kernel's Landlock, landlock(7).
    Landlock,
    /// Namespaces of its own, namespaces(7): user, PID, network, mount, IPC and UTS.
    Namespaces,
    /// A filter of system calls, seccomp(2).
    Filter,
    /// A listener on a filter, `seccomp_unotify(2)`, which opens a file for reading that a process asks to read and write.
    ReadOnly,
}

/// What becomes of a process where this host lacks a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Demand {
    /// It starts without, and [`Held`] says so.
    #[default]
    WhatThereIs,
    /// It does not start.
    Whole,
}

/// Why a part does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// The part.
    pub part: Part,
    /// What the kernel said.
    pub reason: String,
}

/// What holds of a confined process.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Held {
    /// The version of Landlock's interface that it is under.
    pub landlock: Option<u32>,
    /// The parts that do not hold. Empty if all do.
    pub missing: Vec<Why>,
    /// The control group that it is in by itself, where it was to have one and one is delegated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<PathBuf>,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Landlock, Self::Namespaces, Self::Filter, Self::ReadOnly];
}

impl Held {
    /// Whether `part` holds.
    pub fn has(&self, part: Part) -> bool {
        self.missing.iter().all(|why| why.part != part)
    }

    pub(crate) fn miss(&mut self, part: Part, error: &io::Error) {
        self.missing.push(Why { part, reason: error.to_string() });
    }
}

impl fmt::Display for Part {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Landlock => "Landlock",
            Self::Namespaces => "namespaces",
            Self::Filter => "the system-call filter",
            Self::ReadOnly => "read-only templates",
        })
    }
}

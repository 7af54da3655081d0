//! Named networks: on one, workspaces find each other by name. Nobody owns it: it is a directory in which the networks of
//! those that run meet.
//!
//! ```text
//! networks/
//! ├── .lock                 held while one is made or deleted
//! └── <name>/
//!     ├── network.json      its number: 10.89.<number>.0/24
//!     ├── lock              held by who joins
//!     └── members/
//!         ├── 17            the name of the member with 10.89.<number>.17, which holds a lock on this as long as it lives
//!         ├── 17.streams    a socket: connections for it
//!         └── 17.datagrams  a socket: datagrams and pings for it
//! ```
//!
//! Who ends, however it ends, gives its lock back; what is left of it is removed by the next one in its place. Members
//! connect to each other directly, so that the end of one is the end of its connections and of no others.

mod membership;
mod parcel;

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::net::Ipv4Addr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use home::{
    Exclusive, Home, LockError, Name, Record, RecordError, Scratch, names_in, read_record, write_record,
};
use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

pub use membership::{JoinError, Membership};
pub(crate) use parcel::{Call, HEADER, Parcel, ParcelKind};

/// What a named network may not be called, since it means something else.
const RESERVED: [&str; 20] = [
    "user",
    "isolated",
    "host",
    "bridge",
    "none",
    "default",
    "private",
    "slirp4netns",
    "pasta",
    "all",
    "create",
    "list",
    "ls",
    "delete",
    "rm",
    "inspect",
    "status",
    "connect",
    "disconnect",
    "prune",
];

/// A named network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedNetwork {
    name: Name,
    directory: PathBuf,
    record: NetworkRecord,
}

/// What is on record of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRecord {
    /// When it was made.
    pub created_at: Timestamp,
    /// The third part of its addresses.
    pub number: u8,
}

impl Record for NetworkRecord {
    const VERSION: u32 = 1;
}

/// A workspace on a network, which runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// By this name the others find it.
    pub name: String,
    /// At this address.
    pub address: Ipv4Addr,
}

/// Why a network cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NamedNetworkError {
    /// There is none of that name.
    #[error("there is no network `{0}`")]
    Unknown(Name),
    /// There is one already.
    #[error("there is a network `{0}` already")]
    Exists(Name),
    /// Its name means something else.
    #[error("cannot call a network `{0}`: the word means something else")]
    Reserved(Name),
    /// There are as many as there can be.
    #[error("cannot make network `{0}`: there are 256 already")]
    TooMany(Name),
    /// Somebody is on it.
    #[error("cannot delete network `{name}`: {} on it", members.join(", "))]
    InUse {
        /// The network.
        name: Name,
        /// Who.
        members: Vec<String>,
    },
    /// Its record could not be read or written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A lock could not be taken.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A file could not be used.
    #[error("failed to access network `{name}`")]
    Io {
        /// The network.
        name: Name,
        /// What the system said.
        source: io::Error,
    },
}

impl NamedNetworkError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown(name) => Some(format!("make it: microagent network create {name}")),
            Self::Exists(_) | Self::Reserved(_) => Some("choose another name".to_owned()),
            Self::TooMany(_) => {
                Some("delete those that nobody needs: microagent network delete NAME".to_owned())
            }
            Self::InUse { members, .. } => {
                Some(format!("halt it first: microagent halt {}", members.join(" ")))
            }
            _ => None,
        }
    }
}

impl NamedNetwork {
    /// Makes a network.
    pub fn create(home: &Home, name: &Name) -> Result<Self, NamedNetworkError> {
        if Self::is_reserved(name) {
            return Err(NamedNetworkError::Reserved(name.clone()));
        }
        let _lock = Exclusive::wait(&home.networks().join(".lock"))?;
        let io = |source| NamedNetworkError::Io { name: name.clone(), source };
        let mut taken = Vec::new();
        for (other, found) in Self::all(home).map_err(io)? {
            if other == *name {
                return Err(NamedNetworkError::Exists(name.clone()));
            }
            // A damaged one keeps its number to itself.
            taken.extend(found.ok().map(|network| network.record.number));
        }
        let number = (0..=u8::MAX).find(|number| !taken.contains(number));
        let number = number.ok_or_else(|| NamedNetworkError::TooMany(name.clone()))?;
        let directory = home.networks().join(name.as_str());
        make_directory(&directory).and_then(|()| make_directory(&directory.join("members"))).map_err(io)?;
        let record = NetworkRecord { created_at: Timestamp::now(), number };
        home::fault_point("network.made");
        write_record(&directory.join("network.json"), &record)?;
        Ok(Self { name: name.clone(), directory, record })
    }

    /// Whether a word means something else.
    pub fn is_reserved(name: &Name) -> bool {
        RESERVED.contains(&name.as_str().to_ascii_lowercase().as_str())
    }

    /// The network of this name.
    pub fn find(home: &Home, name: &Name) -> Result<Self, NamedNetworkError> {
        let directory = home.networks().join(name.as_str());
        let record = read_record(&directory.join("network.json"))?;
        let record = record.ok_or_else(|| NamedNetworkError::Unknown(name.clone()))?;
        Ok(Self { name: name.clone(), directory, record })
    }

    /// All networks, by name.
    pub fn all(home: &Home) -> io::Result<Vec<(Name, Result<Self, NamedNetworkError>)>> {
        let found = names_in(&home.networks())?.into_iter().map(|name| {
            let found = Self::find(home, &name);
            (name, found)
        });
        // One that was never finished, or is deleted now, is none.
        Ok(found.filter(|(_, found)| !matches!(found, Err(NamedNetworkError::Unknown(_)))).collect())
    }

    /// Deletes it. Nobody may be on it.
    pub fn delete(self, home: &Home) -> Result<(), NamedNetworkError> {
        let _all = Exclusive::wait(&home.networks().join(".lock"))?;
        let _joining = Exclusive::wait(&self.lock_path())?;
        let io = |source| NamedNetworkError::Io { name: self.name.clone(), source };
        let members: Vec<String> =
            self.members().map_err(io)?.into_iter().map(|member| member.name).collect();
        if !members.is_empty() {
            return Err(NamedNetworkError::InUse { name: self.name, members });
        }
        let scratch = Scratch::new(home).map_err(io)?;
        fs::rename(&self.directory, scratch.path().join("deleted")).map_err(io)?;
        home::sync_directory(&home.networks()).map_err(io)
    }

    /// Its name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// What is on record of it.
    pub fn record(&self) -> &NetworkRecord {
        &self.record
    }

    /// Its addresses, as `10.89.0.0/24`.
    pub fn subnet(&self) -> String {
        format!("{}/24", self.address(0))
    }

    /// Who is on it and runs.
    pub fn members(&self) -> io::Result<Vec<Member>> {
        let members = members_in(&File::open(self.members_path())?)?;
        Ok(members.into_iter().map(|(number, name)| Member { name, address: self.address(number) }).collect())
    }

    /// Has a member that runs be found by another name.
    pub fn rename_member(&self, from: &Name, to: &Name) -> Result<(), NamedNetworkError> {
        let _joining = Exclusive::wait(&self.lock_path())?;
        let io = |source| NamedNetworkError::Io { name: self.name.clone(), source };
        let members = members_in(&File::open(self.members_path()).map_err(io)?).map_err(io)?;
        for (number, _) in members.iter().filter(|(_, name)| name == from.as_str()) {
            fs::write(self.members_path().join(number.to_string()), to.as_str()).map_err(io)?;
        }
        Ok(())
    }

    fn address(&self, number: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 89, self.record.number, number)
    }

    fn lock_path(&self) -> PathBuf {
        self.directory.join("lock")
    }

    fn members_path(&self) -> PathBuf {
        self.directory.join("members")
    }
}

fn make_directory(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// The numbers and names of those that live, of the members in a directory.
fn members_in(directory: &File) -> io::Result<Vec<(u8, String)>> {
    let path = by_descriptor(directory);
    let mut members = Vec::new();
    for entry in fs::read_dir(&path)? {
        let number = entry?.file_name().to_str().and_then(|name| name.parse::<u8>().ok());
        let Some(number) = number else { continue };
        // One that left meanwhile is none.
        let Ok(claim) = File::open(path.join(number.to_string())) else { continue };
        if matches!(flock(&claim, FlockOperation::NonBlockingLockShared), Err(rustix::io::Errno::WOULDBLOCK))
        {
            let mut name = String::new();
            io::Read::read_to_string(&mut io::Read::take(&claim, 256), &mut name)?;
            members.push((number, name));
        }
    }
    members.sort_unstable();
    Ok(members)
}

/// A short path to a directory, as long as it is open.
fn by_descriptor(directory: &File) -> PathBuf {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", directory.as_raw_fd()).into()
}

#[cfg(test)]
mod tests;

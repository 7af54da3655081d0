//! Being on a network: a place of one's own on it, and the ways to the others.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use home::{Exclusive, Home, Name};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

use super::{Call, NamedNetwork, NamedNetworkError, by_descriptor, members_in};

/// The numbers of members: the first is left to the network, as a gateway would have it, and the last is for all.
const FIRST: u8 = 2;
const LAST: u8 = 254;

/// How long it is believed who is there.
const FRESH: Duration = Duration::from_millis(300);

/// Why a workspace is not on a network.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// It cannot be used.
    #[error(transparent)]
    Network(#[from] NamedNetworkError),
    /// There is no place left on it.
    #[error("cannot join network `{0}`: 253 workspaces are on it already")]
    Full(Name),
    /// The sockets could not be made.
    #[error("failed to join network `{name}`")]
    Io {
        /// The network.
        name: Name,
        /// What the system said.
        source: io::Error,
    },
}

impl JoinError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Network(error) => error.hint(),
            Self::Full(_) | Self::Io { .. } => None,
        }
    }
}

/// A place on a network, until it is dropped.
#[derive(Debug)]
pub struct Membership {
    network: NamedNetwork,
    directory: File,
    number: u8,
    /// `None` once it is given back.
    claim: Option<Exclusive>,
    streams: UnixListener,
    datagrams: UnixDatagram,
    known: RefCell<Known>,
}

/// Who was there when it was looked last.
#[derive(Debug, Default)]
struct Known {
    members: Vec<(u8, String)>,
    looked: Option<Instant>,
}

impl Membership {
    /// Takes a place on the network, to be found there as `member`. The same member gets the same address again, unless
    /// somebody else has it.
    pub fn join(home: &Home, network: &Name, member: &Name) -> Result<Self, JoinError> {
        let network = NamedNetwork::find(home, network)?;
        let lock = Exclusive::wait(&network.lock_path()).map_err(NamedNetworkError::from)?;
        let io = |source| JoinError::Io { name: network.name.clone(), source };
        let directory = File::open(network.members_path()).map_err(io)?;
        let count = u32::from(LAST - FIRST) + 1;
        let wanted = hash(member.as_str()) % count;
        for offset in 0..count {
            let number = FIRST + ((wanted + offset) % count) as u8;
            let path = by_descriptor(&directory).join(number.to_string());
            let Some(claim) = Exclusive::try_now(&path).map_err(NamedNetworkError::from)? else { continue };
            let (streams, datagrams) = sockets(&directory, number).map_err(io)?;
            std::fs::write(&path, member.as_str()).map_err(io)?;
            drop(lock);
            let (claim, known) = (Some(claim), RefCell::default());
            return Ok(Self { network, directory, number, claim, streams, datagrams, known });
        }
        Err(JoinError::Full(network.name))
    }

    /// The network's name.
    pub fn network(&self) -> &Name {
        &self.network.name
    }

    /// The member's own address.
    pub fn address(&self) -> Ipv4Addr {
        self.network.address(self.number)
    }

    pub(crate) fn number(&self) -> u8 {
        self.number
    }

    /// The address of the member with this number.
    pub(crate) fn address_of(&self, number: u8) -> IpAddr {
        self.network.address(number).into()
    }

    /// The number of the member with this address, whether there is one or not; `None` if it is none of this network's.
    pub(crate) fn number_at(&self, address: IpAddr) -> Option<u8> {
        let IpAddr::V4(address) = address else { return None };
        let [.., number] = address.octets();
        (address == self.network.address(number)).then_some(number)
    }

    /// The members that are there now, with their names.
    pub(crate) fn members(&self, now: Instant) -> Vec<(u8, String)> {
        let mut known = self.known.borrow_mut();
        if known.looked.is_none_or(|looked| now.saturating_duration_since(looked) > FRESH) {
            // Where nobody can be seen there is nobody.
            known.members = members_in(&self.directory).unwrap_or_default();
            known.looked = Some(now);
        }
        known.members.clone()
    }

    /// The member's numbers by a name: its own, or that and the network's.
    pub(crate) fn by_name(&self, name: &str, now: Instant) -> Vec<u8> {
        let network = self.network.name.as_str().to_ascii_lowercase();
        let short = name.strip_suffix(network.as_str()).and_then(|rest| rest.strip_suffix('.'));
        let is_it = |own: &str| {
            own.eq_ignore_ascii_case(name) || short.is_some_and(|short| own.eq_ignore_ascii_case(short))
        };
        self.members(now).into_iter().filter(|(_, own)| is_it(own)).map(|(number, _)| number).collect()
    }

    /// A connection to a member, on which the call is under way.
    pub(crate) fn call(&self, number: u8, call: Call) -> Result<OwnedFd, Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::connect(&socket, &self.socket_address(number, "streams")?)?;
        rustix::net::send(&socket, &call.bytes(), SendFlags::NOSIGNAL)?;
        Ok(socket)
    }

    /// Sends a datagram to a member. One that does not go is lost, as datagrams may be.
    pub(crate) fn send(&self, number: u8, parcel: &[u8]) -> Result<(), Errno> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let address = self.socket_address(number, "datagrams")?;
        rustix::net::sendto(&self.datagrams, parcel, flags, &address).map(drop)
    }

    /// The socket that others connect to, and the one that they send to.
    pub(crate) fn sockets(&self) -> (BorrowedFd<'_>, BorrowedFd<'_>) {
        (self.streams.as_fd(), self.datagrams.as_fd())
    }

    fn socket_address(&self, number: u8, kind: &str) -> Result<SocketAddrUnix, Errno> {
        SocketAddrUnix::new(socket_path(&self.directory, number, kind))
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        // What stays here is removed by the next one in this place.
        for kind in ["streams", "datagrams"] {
            let _ = std::fs::remove_file(socket_path(&self.directory, self.number, kind));
        }
        let _ = self.claim.take().map(Exclusive::delete);
    }
}

fn socket_path(directory: &File, number: u8, kind: &str) -> PathBuf {
    by_descriptor(directory).join(format!("{number}.{kind}"))
}

/// The sockets of a member, in place of those that one before it left.
fn sockets(directory: &File, number: u8) -> io::Result<(UnixListener, UnixDatagram)> {
    let place = |kind| {
        let path = socket_path(directory, number, kind);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(path),
        }
    };
    let streams = UnixListener::bind(place("streams")?)?;
    let datagrams = UnixDatagram::bind(place("datagrams")?)?;
    streams.set_nonblocking(true)?;
    datagrams.set_nonblocking(true)?;
    Ok((streams, datagrams))
}

/// FNV-1a.
fn hash(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

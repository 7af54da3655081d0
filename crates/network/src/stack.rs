//! The thread that has the guest's cable at one end, and this host's sockets at the other.
//!
//! ```text
//! wait ─▶ events ─▶ frames of the guest ─▶ connections that can go on ─▶ deadlines ─▶ write ─▶ wait
//! ```
//!
//! It sleeps in epoll(7) until something happens or a deadline passes; without connections it has no deadlines.

mod commands;
mod frames;
mod members;
mod names;
mod sockets;
mod work;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};

use crate::audit::Audit;
use crate::cable::Cable;
use crate::capture::Capture;
use crate::datagrams::{Conversation, Kind};
use crate::dns::{NameStream, Pending, Servers};
use crate::named::Membership;
use crate::publish::Listener;
use crate::reach::Reach;
use crate::report::Report;
use crate::settings::Settings;
use crate::slab::{Key, Slab};
use crate::tcp::{Ends, Flow};

pub(crate) use commands::Command;

/// Connections, conversations and questions that there may be at the same time.
const MOST_CONNECTIONS: usize = 16 * 1024;
const MOST_CONVERSATIONS: usize = 1024;
const MOST_QUESTIONS: usize = 256;
const MOST_NAME_STREAMS: usize = 64;

/// Descriptors that are for others.
const SPARE_DESCRIPTORS: usize = 128;

/// What is read from a socket at once, in bytes.
const SCRATCH: usize = 64 * 1024;

/// A guest's network, until it is dropped.
#[derive(Debug)]
pub struct Network {
    commands: Sender<Command>,
    wake: OwnedFd,
    thread: Option<JoinHandle<()>>,
}

/// What a network is fitted with.
#[derive(Debug, Default)]
pub struct Fittings {
    /// The ports that are published from the beginning.
    pub listeners: Vec<Listener>,
    /// The named networks that the guest is on.
    pub memberships: Vec<Membership>,
    /// What is decided.
    pub audit: Audit,
    /// What is on the cable.
    pub capture: Option<Capture>,
}

/// What an event or a deadline is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Token {
    Wake,
    Cable,
    Listener(usize),
    Tcp(Key),
    Datagrams(Key),
    Dns(Key),
    NameStream(Key),
    /// A network whose members connect.
    Members(usize),
    /// A network whose members send datagrams.
    Parcels(usize),
    Caller(Key),
}

impl Token {
    fn data(self) -> EventData {
        let (kind, rest) = match self {
            Self::Wake => (0, 0),
            Self::Cable => (1, 0),
            Self::Listener(place) => (2, place as u64),
            Self::Tcp(key) => (3, key.to_bits()),
            Self::Datagrams(key) => (4, key.to_bits()),
            Self::Dns(key) => (5, key.to_bits()),
            Self::NameStream(key) => (6, key.to_bits()),
            Self::Members(network) => (7, network as u64),
            Self::Parcels(network) => (8, network as u64),
            Self::Caller(key) => (9, key.to_bits()),
        };
        EventData::new_u64(kind << 56 | rest)
    }

    fn of(data: EventData) -> Self {
        let bits = data.u64();
        let rest = bits & ((1 << 56) - 1);
        match bits >> 56 {
            0 => Self::Wake,
            1 => Self::Cable,
            2 => Self::Listener(rest as usize),
            3 => Self::Tcp(Key::from_bits(rest)),
            4 => Self::Datagrams(Key::from_bits(rest)),
            5 => Self::Dns(Key::from_bits(rest)),
            6 => Self::NameStream(Key::from_bits(rest)),
            7 => Self::Members(rest as usize),
            8 => Self::Parcels(rest as usize),
            _ => Self::Caller(Key::from_bits(rest)),
        }
    }
}

/// All that the thread has.
struct Stack {
    epoll: OwnedFd,
    cable: Option<Cable>,
    flows: Slab<Flow>,
    flow_keys: HashMap<Ends, Key>,
    /// Connections that could go on.
    eager: VecDeque<Key>,
    /// Connections whose guest is owed an acknowledgement.
    owing: Vec<Key>,
    conversations: Slab<Conversation>,
    conversation_keys: HashMap<(Kind, Ends), Key>,
    questions: Slab<Pending>,
    name_streams: Slab<NameStream>,
    servers: Servers,
    reach: Reach,
    audit: Audit,
    capture: Option<Capture>,
    callers: Slab<members::Caller>,
    /// A place whose listener is gone stays empty.
    listeners: Vec<Option<Listener>>,
    deadlines: BinaryHeap<Reverse<(Instant, Token)>>,
    pool: usize,
    scratch: Vec<u8>,
    most_connections: usize,
    next_port: u16,
    report: Report,
    ended: bool,
}

impl Network {
    /// Starts the thread. There is no guest yet; clients of published ports wait for one.
    pub fn start(settings: Settings, mut fittings: Fittings) -> io::Result<Self> {
        let (commands, receiver) = channel();
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let listeners = std::mem::take(&mut fittings.listeners);
        let stack = Stack::new(settings, fittings, &wake)?;
        let heard = wake.try_clone()?;
        let run = move || stack.run(listeners, &receiver, &heard);
        let thread = std::thread::Builder::new().name("network".to_owned()).spawn(run)?;
        Ok(Self { commands, wake, thread: Some(thread) })
    }
}

impl Stack {
    fn new(settings: Settings, fittings: Fittings, wake: &OwnedFd) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, wake, Token::Wake.data(), EventFlags::IN)?;
        Ok(Self {
            epoll,
            cable: None,
            flows: Slab::default(),
            flow_keys: HashMap::new(),
            eager: VecDeque::new(),
            owing: Vec::new(),
            conversations: Slab::default(),
            conversation_keys: HashMap::new(),
            questions: Slab::default(),
            name_streams: Slab::default(),
            reach: Reach { memberships: fittings.memberships, ..settings.reach() },
            servers: Servers::new(settings.nameservers),
            audit: fittings.audit,
            capture: fittings.capture,
            callers: Slab::default(),
            listeners: Vec::new(),
            deadlines: BinaryHeap::new(),
            pool: 0,
            scratch: vec![0; SCRATCH],
            most_connections: MOST_CONNECTIONS.min(descriptors().saturating_sub(SPARE_DESCRIPTORS)),
            next_port: 0,
            report: Report::default(),
            ended: false,
        })
    }

    fn run(mut self, listeners: Vec<Listener>, commands: &Receiver<Command>, wake: &OwnedFd) {
        self.add_listeners(listeners);
        let mut events: Vec<Event> = Vec::with_capacity(256);
        while !self.ended {
            events.clear();
            let patience = self.patience();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), patience.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    tracing::error!(%error, "the network cannot wait for events");
                    return;
                }
            }
            for event in &events {
                self.happened(Token::of(event.data), event.flags, commands, wake);
            }
            self.work();
        }
        self.drain();
    }

    /// How long to wait at most; for ever without a deadline.
    fn patience(&self) -> Option<Timespec> {
        let now = Instant::now();
        let busy = self
            .cable
            .as_ref()
            .is_some_and(|cable| cable.has_room() && (cable.readable || !self.eager.is_empty()));
        let wait = if busy {
            Duration::ZERO
        } else {
            let Reverse((deadline, _)) = self.deadlines.peek()?;
            deadline.saturating_duration_since(now)
        };
        Timespec::try_from(wait).ok()
    }

    fn happened(&mut self, token: Token, flags: EventFlags, commands: &Receiver<Command>, wake: &OwnedFd) {
        match token {
            Token::Wake => {
                // Its number tells nothing.
                let _ = rustix::io::read(wake, &mut [0; 8]);
                self.obey(commands);
            }
            Token::Cable => {
                if let Some(cable) = &mut self.cable {
                    cable.readable |= flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR);
                    cable.writable |= flags.contains(EventFlags::OUT);
                }
            }
            Token::Listener(place) => self.called(place),
            Token::Tcp(key) => {
                let Some(flow) = self.flows.get_mut(key) else { return };
                let over = flags.intersects(EventFlags::HUP | EventFlags::ERR);
                flow.readable |= over || flags.intersects(EventFlags::IN | EventFlags::RDHUP);
                flow.writable |= over || flags.contains(EventFlags::OUT);
                self.eager.push_back(key);
            }
            Token::Datagrams(key) => self.said(key),
            Token::Dns(key) => self.resolved(key),
            Token::NameStream(key) => self.asked_in_stream(key),
            Token::Members(network) => self.member_called(network),
            Token::Parcels(network) => self.members_sent(network),
            Token::Caller(key) => self.caller_said(key),
        }
    }

    /// Has epoll tell of each change of a socket once.
    fn watch(&self, socket: impl AsFd, token: Token) -> bool {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.epoll, socket, token.data(), flags).is_ok()
    }

    /// Has epoll tell while there is something to read.
    fn listen(&self, socket: impl AsFd, token: Token) -> bool {
        epoll::add(&self.epoll, socket, token.data(), EventFlags::IN).is_ok()
    }
}

/// Calls `$body` with a connection and what it works with, if there is a cable.
macro_rules! with_flow {
    ($stack:expr, $key:expr, |$flow:ident, $io:ident| $body:expr) => {{
        let stack = &mut *$stack;
        match (stack.flows.get_mut($key), stack.cable.as_mut()) {
            (Some($flow), Some(cable)) => {
                let $io = &mut crate::tcp::Io {
                    cable,
                    pool: &mut stack.pool,
                    scratch: &mut stack.scratch,
                    now: std::time::Instant::now(),
                };
                Some($body)
            }
            _ => None,
        }
    }};
}
pub(crate) use with_flow;

/// As many descriptors as this process may have, now that it may have as many as it may ever.
fn descriptors() -> usize {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    let before = limit.current;
    limit.current = limit.maximum;
    let now = if setrlimit(Resource::Nofile, limit).is_ok() { limit.current } else { before };
    now.map_or(usize::MAX, |limit| limit as usize)
}

#[cfg(test)]
mod tests;

//! What a supervisor's life shows to its clients, and what they order.

use std::sync::Mutex;

use jiff::Timestamp;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use engine::Tail;
use network::Network;

use crate::agent::Agent;
use crate::control::{LiveStatus, Reply, Request};
use crate::state::State;

/// How much of the console a new reader gets at once: about a screenful, in bytes.
const SCREENFUL: usize = 16 * 1024;

/// How many pieces of console output a slow reader may lag behind before it loses some.
const CONSOLE_BACKLOG: usize = 256;

/// A request that changes something, and where its answer goes.
pub(super) struct Order {
    pub(super) request: Request,
    pub(super) reply: oneshot::Sender<Reply>,
}

/// What the life and its clients share.
pub(super) struct Shared {
    live: Mutex<LiveStatus>,
    /// The guest's agent while it may be used. Clients that use it leave when it changes.
    pub(super) agent: watch::Sender<Option<Agent>>,
    /// The guest's network, if it is to have one and may.
    network: Mutex<Option<Network>>,
    orders: mpsc::UnboundedSender<Order>,
    console: broadcast::Sender<Vec<u8>>,
    screen: Mutex<Tail>,
}

impl Shared {
    pub(super) fn new(network: Option<Network>) -> (Self, mpsc::UnboundedReceiver<Order>) {
        let (orders, receiver) = mpsc::unbounded_channel();
        let live = LiveStatus {
            state: State::Starting,
            since: Timestamp::now(),
            supervisor: std::process::id(),
            machine: None,
            acceleration: None,
            service_started_at: None,
            health: None,
            trouble: None,
            ports: Vec::new(),
        };
        let shared = Self {
            live: Mutex::new(live),
            agent: watch::Sender::new(None),
            network: Mutex::new(network),
            orders,
            console: broadcast::Sender::new(CONSOLE_BACKLOG),
            screen: Mutex::new(Tail::new(SCREENFUL)),
        };
        shared.with_network(|_| ());
        (shared, receiver)
    }

    /// Does something with the network, if there is one; its ports may be others then.
    pub(super) fn with_network<T>(&self, work: impl FnOnce(&Network) -> T) -> Option<T> {
        let network = self.network.lock().expect("no holder panics");
        let network = network.as_ref()?;
        let done = work(network);
        let ports = network.ports();
        self.change(|live| live.ports = ports);
        Some(done)
    }

    /// There is no network any more, nor are there ports.
    pub(super) fn cut_network(&self) {
        *self.network.lock().expect("no holder panics") = None;
        self.change(|live| live.ports.clear());
    }

    /// What is known now.
    pub(super) fn live(&self) -> LiveStatus {
        self.live.lock().expect("no holder panics").clone()
    }

    /// Changes what is known.
    pub(super) fn change(&self, change: impl FnOnce(&mut LiveStatus)) {
        change(&mut self.live.lock().expect("no holder panics"));
    }

    /// Notes a new state.
    pub(super) fn enter(&self, state: State) {
        self.change(|live| {
            if live.state != state {
                live.state = state;
                live.since = Timestamp::now();
            }
        });
    }

    /// The guest's agent, if it would answer now.
    pub(super) fn usable_agent(&self) -> Option<Agent> {
        let live = self.live();
        self.agent.borrow().clone().filter(|_| live.state != State::Paused && live.trouble.is_none())
    }

    /// Orders something; the answer comes through what this returns, or never if the life ends before.
    pub(super) fn order(&self, request: Request) -> oneshot::Receiver<Reply> {
        let (reply, answer) = oneshot::channel();
        // Without a life there is nobody to order; the client learns it from the missing answer.
        let _ = self.orders.send(Order { request, reply });
        answer
    }

    /// Shows what the console said.
    pub(super) fn show_console(&self, bytes: &[u8]) {
        self.screen.lock().expect("no holder panics").push(bytes);
        // Nobody has to look.
        let _ = self.console.send(bytes.to_vec());
    }

    /// What the console said last, and all that it will say.
    pub(super) fn console(&self) -> (Vec<u8>, broadcast::Receiver<Vec<u8>>) {
        let screen = self.screen.lock().expect("no holder panics");
        (screen.bytes(), self.console.subscribe())
    }
}

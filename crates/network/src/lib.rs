//! The user-space network: what a guest's Ethernet cable leads to.
//!
//! ```text
//! guest ─ virtio ─ monitor ─ cable ─▶ stack ┬ wire       frames, taken apart and put together
//!                                           ├ reach      what may be reached: decided for each connection,
//!                                           │            by rules (egress) and names (pins), and told (audit)
//!                                           ├ capture    what is on the cable, in a file
//!                                           ├ tcp        connections, each with a socket of this host
//!                                           ├ datagrams  UDP, and pings
//!                                           └ dns        names; what is added to them: resolver, resolv_conf
//! clients ─ sockets ─▶ publish ─────────────┤
//! other stacks of this user ─▶ named ───────┘        networks that workspaces share
//! ```
//!
//! No root, no namespace, no other process: each connection of the guest's is one of this process's. The stack is a
//! thread of its own that sleeps until something happens. It knows nothing of workspaces, images or the monitor.

mod addresses;
mod audit;
mod cable;
mod capture;
mod datagrams;
mod dns;
mod egress;
mod inspect;
mod named;
mod pins;
mod publish;
mod reach;
mod report;
mod resolv_conf;
mod resolver;
mod settings;
mod slab;
mod stack;
mod tcp;
mod wire;

pub use addresses::{
    GATEWAY, GATEWAY_6, GUEST, GUEST_6, HOST_NAME, MTU, NAMESERVER, NAMESERVER_6, PREFIX, PREFIX_6,
};
pub use audit::{Audit, Decision, Traffic};
pub use capture::{Capture, CaptureError, CaptureFile};
pub use egress::{Egress, EgressRule, InvalidEgressRule, Policy};
pub use inspect::inspect;
pub use named::{JoinError, Member, Membership, NamedNetwork, NamedNetworkError, NetworkRecord};
pub use publish::{
    InvalidPublish, Listener, PortProtocol, PublishError, PublishSpec, Published, bind, withdraw,
};
pub use reach::{HostAccess, Refusal};
pub use report::Report;
pub use resolver::{
    InvalidResolver, InvalidResolverOption, InvalidSearchDomain, Resolver, ResolverOption, SearchDomain,
};
pub use settings::{HostEntry, InvalidHostEntry, Settings};
pub use stack::{Fittings, Network};

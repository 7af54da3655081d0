//! A VM specification in, a running machine out.
//!
//! This is the seam between what a workspace is and what runs it. Nothing above it knows which virtual
//! machine monitor is in use; inside it, `qemu/` is the only place that does.
//!
//! ```text
//! VmSpec ──launch──▶ Machine
//!                    ├── take_streams()  the guest's end of the protocol, and its serial console
//!                    ├── save()          the machine becomes files, to be restored any number of times
//!                    ├── stalls()        when this host does not take what it writes
//!                    └── ended()         how and why it ended
//! ```
//!
//! A machine never outlives its owner: it ends when the value is dropped, and also when the process that
//! launched it is killed.

mod acceleration;
mod qemu;
mod spec;
mod stall;
mod tail;

pub use acceleration::{Acceleration, Accelerator, KvmProblem, Requested, UnusableKvm};
pub use confine::{Demand, Held, Part, Why};
pub use qemu::{
    CONTROL as CONTROL_DESCRIPTOR, ControlError, Ended, InvalidVersion, LaunchError, Link, Machine,
    OLDEST as OLDEST_QEMU, QemuVersion, SaveError, add_files, fingerprint, inspect, launch, try_confinement,
    try_launch, version,
};
pub use spec::{Access, Disk, Durability, Memory, MemorySize, NetworkDevice, Saved, Start, VmSpec};
pub use stall::{Stall, Stalls};
pub use tail::Tail;

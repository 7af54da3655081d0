//! Processes that may do next to nothing.
//!
//! What runs a guest, and what reads foreign bytes, is started so that whoever takes it over has gained a process
//! without files, network, relatives or rights. Four parts of the kernel hold that, each by itself:
//!
//! | part | what it takes away |
//! |---|---|
//! | [`Part::Landlock`] | every file but those named; TCP, signals and abstract sockets where the kernel has it |
//! | [`Part::Namespaces`] | the network, other processes, System V objects, mounts, and the user's identity |
//! | [`Part::Filter`] | system calls: new sockets, tracing, mounting, new namespaces, and others that nobody here needs |
//! | [`Part::ReadOnly`] | writing to a file that the program opens to read and write, though it only has to read it |
//!
//! Beside them there are limits on resources, a control group where one is delegated, `no_new_privs`, an empty environment, no capabilities, and descriptors that
//! are exactly the listed ones. The kernel ends a confined process when the thread that launched it ends.
//!
//! A part that the host lacks is left out and told in [`Held`], or refused where [`Demand::Whole`] is given. This crate
//! knows nothing of ours; the details are in `docs/design/confinement.md`.

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
compile_error!("the system-call filter is written for x86-64 Linux");

mod attempts;
mod child;
mod files;
mod filter;
mod group;
mod held;
mod launch;
mod limits;
mod opener;
mod own;

pub use attempts::{Attempt, Places, Targets, attempt, attempts_told};
pub use child::Child;
pub use files::{Files, landlock_version};
pub use filter::{Filter, Namespaces};
pub use group::{Share, delegated_group};
pub use held::{Demand, Held, Part, Why};
pub use launch::{Launch, LaunchError};
pub use limits::Limits;
pub use own::{harden, no_new_privileges, restrict_files};

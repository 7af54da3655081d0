//! The harness that the end-to-end stories share.
//!
//! ```text
//! <target>/e2e/
//! ├── cache/          what takes long to make: a kernel package, a Debian system
//! ├── home-<key>/     a state directory with a kernel and images, made once; the key is what it depends on
//! └── work/           a directory for each test, gone at its end
//!
//! World ──microagent(…)──▶ Invocation ──start──▶ Running ──wait──▶ Outcome
//!   a test's own view          └──on_terminal──▶ Terminal
//! ```
//!
//! The home has a template for each image's usual machine, so most stories start from it, those in a [`World::cold`]
//! one from power-on, and all of them with `MICROAGENT_TEMPLATES=off` in the environment.
//!
//! Nothing else of the user's environment reaches a test but `PATH`. Each invocation has a deadline, generous enough for
//! a loaded machine without KVM; passing it fails the test with all that was said so far.

mod invocation;
mod layout;
mod processes;
mod registry;
mod services;
mod shared_home;
mod systems;
mod terminal;
mod tool;
mod world;

pub use invocation::{DEADLINE, Invocation, Outcome, Running};
pub use layout::Layout;
pub use processes::{HostProcess, peak_memory, processes_of, wait_until};
pub use registry::Registry;
pub use terminal::Terminal;
pub use tool::{succeed, tool};
pub use world::{World, kernel_package};

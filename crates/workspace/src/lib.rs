//! The persistent unit, its lifecycle, and one-shot runs.
//!
//! ```text
//! run ──▶ plan ──▶ boot ──▶ agent ──▶ process
//!          │        │        └ requests and streams, over the guest's port
//!          │        ├ or restore, from the template that `warm` made
//!          │        └ or take a `spare` that was restored before
//!          ├ root    layers become one EROFS, kept by chain ID
//!          ├ disk    a blank ext4, copied by its data extents
//!          └ initramfs  our init and the kernel's modules, kept by content
//! ```
//!
//! Nothing here prints or knows of terminals: whoever runs something gives it streams, and gets words back as
//! values.

pub mod agent;
mod boot;
mod command;
mod disk;
mod initramfs;
mod machine;
mod name;
mod plan;
mod record;
mod root;
mod run;
mod spare;
mod stop_signal;
mod streams;
mod warm;

pub use boot::{BootError, StartKind};
pub use command::{CommandError, Overrides};
pub use disk::{DiskError, DiskSize, InvalidDiskSize};
pub use initramfs::InitramfsError;
pub use name::random_name;
pub use plan::{Machine as MachineSettings, Network};
pub use record::{KeepError, WorkspaceRecord};
pub use root::RootError;
pub use run::{
    Afterwards, Control, Finished, PreparedRun, RunError, RunRequest, Spares, Step, TemplateUse, prepare,
};
pub use spare::{Kept, SpareLimits, keep_spare};
pub use stop_signal::{InvalidStopSignal, StopSignal};
pub use streams::{Input, Streams};
pub use warm::{WarmError, WarmRequest, Warmed, warm};

//! The persistent unit, its lifecycle, and one-shot runs.
//!
//! ```text
//! create ──▶ workspaces/<name>/    record: what it is made from; state: what happened to it
//! start ──▶ supervisor ──▶ plan …  control: what it is asked; log, event: what was said and done
//! exec ───▶ its socket ──▶ agent
//!
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
mod artifact;
mod attach;
mod audit;
mod boot;
mod clone;
mod command;
mod commit;
mod control;
mod copy;
mod create;
mod delete;
mod descriptors;
mod disk_use;
mod drive;
mod end;
mod event;
mod exchange;
mod exec;
mod health;
mod helper;
mod image_use;
mod initramfs;
mod inspect;
mod journal;
mod log;
mod machine;
mod machine_id;
mod name;
mod networks;
mod plan;
mod ports;
mod record;
mod resize;
mod resolver;
mod root;
mod run;
mod service;
mod socket;
mod spare;
mod spec;
mod start;
mod state;
mod stop_signal;
mod streams;
mod supervisor;
mod tmpfs;
mod trial;
mod usage;
mod volumes;
mod warm;
mod workspace;

pub use artifact::{Artifact, InvalidArtifact};
pub use attach::{DiskSlots, MountsError, check_mounts, users_of, volume_users};
pub use audit::{FollowNetworkLog, NetworkLogEntry, NetworkLogFilter, NetworkLogReader, Verdict};
pub use boot::{BootError, StartKind};
pub use clone::CloneError;
pub use command::{CommandError, Overrides};
pub use commit::{CommitError, CommitOutcome, CommitRequest, Committed, LayerError};
pub use control::{ControlError, LiveStatus};
pub use copy::{Access, Copied, CopyError, GuestSource, GuestTarget, HostSource, HostTarget, OpenFiles};
pub use create::{CreateError, create};
pub use disk_use::{DiskUse, DiskUseError, Kind, PruneScope, Unneeded, disk_use, plan_prune, prune};
pub use end::Ended;
pub use event::{Event, EventFilter, EventKind, EventReader, FollowEvents};
pub use exec::{Capture, Captured, ExecRequest, ExecStatus, detach, execute};
pub use health::Health;
pub use helper::{HelperError, HelperTerms, helper_machine, volume_machine};
pub use image_use::image_users;
pub use initramfs::InitramfsError;
pub use inspect::inspect;
pub use log::{FollowLog, LogEntry, LogFilter, LogItem, LogReader, LogSource, LogWriter};
pub use machine_id::MachineId;
pub use name::random_name;
pub use networks::{DeleteNetworkError, delete_network, network_users, unneeded_networks};
pub use plan::{Machine as MachineSettings, Network};
pub use proto::Usage as GuestUsage;
pub use record::{KeepError, WorkspaceRecord};
pub use resize::ResizeError;
pub use root::{ArrivingRoot, RootError};
pub use run::{
    Afterwards, Control, Finished, KeptWorkspace, PreparedRun, Ran, RunError, RunRequest, Spares, Step,
    TemplateUse, prepare,
};
pub use service::{HealthCheck, Service, ServiceError};
pub use spare::{Kept, SpareLimits, keep_spare};
pub use spec::{HealthSpec, InvalidRestartPolicy, RestartPolicy, WorkspaceSpec, demand};
pub use start::{SUPERVISOR_LOCK, SUPERVISOR_REPORT, Started, start};
pub use state::{BootRecord, EndRecord, Ending, Exit, Quarantine, State, StateRecord};
pub use stop_signal::{InvalidStopSignal, StopSignal};
pub use streams::{Input, Streams};
pub use supervisor::confined::{confine as confine_supervisor, confine_run};
pub use supervisor::report::causes;
pub use supervisor::{Supervise, supervise};
pub use tmpfs::{InvalidTmpfs, Tmpfs};
pub use trial::{available_memory, name_servers, try_disk, try_port, try_socket};
pub use usage::HostUsage;
pub use volume::{
    AttachError, DiskError, DiskSize, InvalidDiskSize, InvalidMount, Mount, Use as VolumeUse, Volume,
    VolumeError,
};
pub use volumes::{VolumeVerbError, delete_volume, resize_volume, unneeded_volumes, volume_usage};
pub use warm::{WarmError, WarmRequest, Warmed, warm, warm_machine};
pub use workspace::{Found, Status, Workspace, WorkspaceError};

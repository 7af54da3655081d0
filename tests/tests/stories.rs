//! What users do, whole way through: real images, real microVMs, real terminals, real registries.
#![allow(clippy::unwrap_used, reason = "what a test is built on may fail it")]

mod abuse;
mod command;
mod commands;
mod commit;
mod completion;
mod confinement;
mod crowd;
mod debian;
mod disk_use;
mod docker_fingers;
mod doctor;
mod endings;
mod exit_codes;
mod files;
mod guide;
mod help;
mod images;
mod inside;
mod keep;
mod machine;
mod monitor;
mod network;
mod ordinary_user;
mod packaging;
mod perf;
mod progress;
mod schemas;
mod signals;
mod soak;
mod spares;
mod streams;
mod templates;
mod terminal;
mod volumes;
mod workspaces;

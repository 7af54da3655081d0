//! Images go into the store and come out whole, whatever registries, archives and crashes do.
//!
//! Everything runs on the loopback interface and in temporary directories. Needed are the Debian packages
//! `skopeo`, `umoci`, `openssl`, `podman`, `docker-registry`, `apache2-utils` and `busybox-static`.

#![allow(clippy::unwrap_used, reason = "what a test is built on may fail it")]

mod hostile;
mod load;
mod login;
mod places;
mod platforms;
mod pull;
mod push;
mod registry;
mod sample;
mod save;
mod stub;

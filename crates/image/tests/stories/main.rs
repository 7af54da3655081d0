//! Images go into the store and come out whole, whatever registries, archives and crashes do.
//!
//! Everything runs on the loopback interface and in temporary directories. Needed are the Debian packages
//! `skopeo`, `umoci`, `podman`, `docker-registry`, `apache2-utils` and `busybox-static`.

mod hostile;
mod load;
mod pull;
mod registry;
mod sample;
mod stub;

//! References, registries, the OCI store, and image archives.

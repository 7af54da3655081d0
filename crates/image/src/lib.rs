//! References, registries, the OCI store, and image archives.
//!
//! ```text
//!   registry ──pull──┐                 ┌── find ──▶ Image: configuration and layer files
//!                    ├──▶ Store ───────┤
//!    archive ──load──┤   (OCI layout)  └── list, tag, remove, collect
//!       tars ──make──┘
//! ```
//!
//! What comes from a registry or an archive is hostile until its digest is verified, and made of hostile JSON
//! afterwards: documents are bounded before they are parsed, layers are hashed while they are written, and no
//! path from outside is ever opened for writing. Layers are not unpacked here.

mod configuration;
mod digest;
mod image;
mod import;
mod load;
mod login;
mod logins;
mod make;
mod manifest;
mod platform;
mod pull;
mod push;
mod reference;
mod registries;
mod registry;
mod save;
mod store;

pub use configuration::{Change, Configuration, History, InvalidChange};
pub use digest::{Digest, InvalidDigest};
pub use image::{Image, Layer};
pub use import::{ImportOptions, import};
pub use load::{
    ArchivedImage, LoadError, LoadOptions, Loaded, READ_ARCHIVE, UNPACK, Unreadable, Whence, load, load_file,
    load_path, parse_archived_images,
};
pub use login::{InvalidRegistry, LogInError, RegistryName, log_in};
pub use logins::{HelperError, Kept, KnownLogin, Login, LoginError, Logins};
pub use make::{MakeError, NewLayer};
pub use manifest::{
    Compression, Descriptor, Document, DocumentError, MAX_DOCUMENT, MAX_LAYERS, Manifest, diff_ids,
    parse_config,
};
pub use oci_spec::image::ImageConfiguration;
pub use platform::{InvalidPlatform, Platform};
pub use pull::{LayerProgress, PullError, Silent, pull, pull_all};
pub use push::{PushError, Pushed, push, push_index};
pub use reference::{InvalidReference, Reference};
pub use registries::{Registries, RegistriesError};
pub use registry::{RegistryError, inspect};
pub use save::{ArchiveFormat, Content, ImageToSave, SaveError, save, save_directory};
pub use store::{
    Collected, Fault, FoundImage, Garbage, Ingest, IngestError, Listed, LookupError, Problem, Store,
    StoreError, Untagged, Verified,
};

//! Which machine to restore from, and keeping them.
//!
//! A template is a machine that was booted, made ready, and saved. Restored, it is copied on write, so a start
//! costs what it changes. Its key holds everything that the machine depends on: what differs in anything has
//! another key, and is never restored by mistake.
//!
//! ```text
//! templates/
//! ├── <key>.lock        held while the template is made
//! └── <key>/
//!     ├── template.json what it is of, sizes, the state's digest; its time of change is that of its last use
//!     ├── memory        the guest's memory, sparse
//!     ├── state         the devices' state
//!     └── disk          the writable disk as it was at that moment, sparse
//! ```
//!
//! A template is there whole or not at all. Who restores one has its files open, so it may be deleted at any
//! time. Templates are a cache: they are kept within a budget, the least recently used go first.

mod budget;
mod key;
mod store;

pub use budget::{Budget, InvalidBudget};
pub use key::{KeyParts, TemplateKey};
pub use store::{Listed, Making, Template, TemplateError, Templates};

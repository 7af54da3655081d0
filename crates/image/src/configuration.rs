//! The configuration of an image that is made here: a JSON document, changed and never retyped.
//!
//! ```text
//! {"architecture", "os", "created", "author",
//!  "config":  {"Env", "Cmd", "Entrypoint", "User", "WorkingDir", "Labels", …},    what `Change` changes
//!  "rootfs":  {"type": "layers", "diff_ids": [ … ]},                              one for each layer
//!  "history": [{"created", "created_by", "comment", "author", "empty_layer"}, …]}
//! ```
//!
//! What this program does not know, such as Docker's `Healthcheck` or a vendor's own members, stays in it when an
//! image is made of another. Members are sorted, so the same configuration always gives the same bytes.

mod change;

use serde_json::{Map, Value, json};

use crate::manifest::{DocumentError, parse_config};
use crate::{Digest, Image, Platform, Store, StoreError};

pub use change::{Change, InvalidChange};

/// An image's configuration, to be changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Configuration(Map<String, Value>);

/// How a layer came to be, for `image history`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// When, as RFC 3339 has it.
    pub created: String,
    /// By which command or program.
    pub created_by: String,
    /// By whom.
    pub author: Option<String>,
    /// What else is to be said.
    pub comment: Option<String>,
}

impl Configuration {
    /// That of an image without layers, which runs nothing by itself.
    pub fn empty(platform: &Platform) -> Self {
        let mut members = Map::new();
        members.insert("architecture".to_owned(), json!(platform.architecture));
        members.insert("os".to_owned(), json!(platform.os));
        if let Some(variant) = &platform.variant {
            members.insert("variant".to_owned(), json!(variant));
        }
        members.insert("rootfs".to_owned(), json!({ "type": "layers", "diff_ids": [] }));
        Self(members)
    }

    /// That of an image in the store.
    pub fn of(store: &Store, image: &Image) -> Result<Self, StoreError> {
        let digest = image.config_digest;
        let damaged = |source| StoreError::Document { digest, source };
        let parsed = serde_json::from_slice(&store.read_document(&digest)?);
        parsed.map(Self).map_err(DocumentError::Damaged).map_err(damaged)
    }

    /// Adds a layer on top.
    pub fn add_layer(&mut self, diff_id: &Digest, history: &History) {
        let rootfs = object(&mut self.0, "rootfs");
        rootfs.insert("type".to_owned(), json!("layers"));
        list(rootfs, "diff_ids").push(json!(diff_id.to_string()));
        list(&mut self.0, "history").push(history.to_json());
        self.0.insert("created".to_owned(), json!(history.created));
        if let Some(author) = &history.author {
            self.0.insert("author".to_owned(), json!(author));
        }
    }

    /// Makes the changes, one after the other. A new entrypoint takes the old command away, as the command is made
    /// for the entrypoint, unless there is a new one too.
    pub fn change(&mut self, changes: &[Change]) {
        let keeps_command = changes.iter().any(Change::is_command);
        for change in changes {
            change.apply(object(&mut self.0, "config"), keeps_command);
        }
    }

    /// A member of how it wants to be run, such as `Healthcheck`.
    pub fn run_member(&self, name: &str) -> Option<&Value> {
        self.0.get("config")?.get(name).filter(|value| !value.is_null())
    }

    /// Sets members of Docker's `Healthcheck`, in the place of what the image says there.
    pub fn set_health_check(&mut self, members: impl IntoIterator<Item = (&'static str, Value)>) {
        let check = object(object(&mut self.0, "config"), "Healthcheck");
        check.extend(members.into_iter().map(|(name, value)| (name.to_owned(), value)));
    }

    /// The document.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(&self.0).expect("a document is plain data")
    }

    /// The document, checked to be one that this program reads.
    pub(crate) fn checked(&self) -> Result<(Vec<u8>, Platform), DocumentError> {
        let bytes = self.to_bytes();
        let platform = crate::manifest::platform_of(&parse_config(&bytes)?);
        Ok((bytes, platform))
    }
}

impl History {
    fn to_json(&self) -> Value {
        let mut entry = Map::new();
        entry.insert("created".to_owned(), json!(self.created));
        entry.insert("created_by".to_owned(), json!(self.created_by));
        for (name, value) in [("author", &self.author), ("comment", &self.comment)] {
            entry.extend(value.as_ref().map(|value| (name.to_owned(), json!(value))));
        }
        Value::Object(entry)
    }
}

/// The member `name`, which is an object afterwards; writers put `null` where they have none.
fn object<'a>(members: &'a mut Map<String, Value>, name: &str) -> &'a mut Map<String, Value> {
    let member = members.entry(name).or_insert(Value::Null);
    if !member.is_object() {
        *member = Value::Object(Map::new());
    }
    member.as_object_mut().expect("it was made one")
}

fn list<'a>(members: &'a mut Map<String, Value>, name: &str) -> &'a mut Vec<Value> {
    let member = members.entry(name).or_insert(Value::Null);
    if !member.is_array() {
        *member = Value::Array(Vec::new());
    }
    member.as_array_mut().expect("it was made one")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history() -> History {
        History { created: "2026-01-02T03:04:05Z".into(), created_by: "test".into(), ..History::default() }
    }

    #[test]
    fn a_layer_is_in_the_root_file_system_and_the_history() {
        let mut made = Configuration::empty(&"linux/arm64/v8".parse().unwrap());
        made.add_layer(&Digest::of(b"a"), &History { author: Some("me".into()), ..history() });
        let (bytes, platform) = made.checked().unwrap();
        let config = parse_config(&bytes).unwrap();
        assert_eq!(platform.to_string(), "linux/arm64/v8");
        assert_eq!(crate::diff_ids(&config, 1).unwrap(), [Digest::of(b"a")]);
        let entries = config.history().as_ref().unwrap();
        assert_eq!(entries[0].created_by().as_deref(), Some("test"));
        assert_eq!(config.author().as_deref(), Some("me"));
    }

    #[test]
    fn what_is_not_known_stays_and_the_bytes_are_the_same_each_time() {
        let text = r#"{"zz":[1],"os":"linux","architecture":"amd64","config":{"Healthcheck":{"Test":["NONE"]},"Cmd":["a"]},
            "rootfs":{"type":"layers","diff_ids":[]},"history":null}"#;
        let mut made = Configuration(serde_json::from_str(text).unwrap());
        made.add_layer(&Digest::of(b"a"), &history());
        made.change(&["USER 7".parse().unwrap()]);
        let written = String::from_utf8(made.to_bytes()).unwrap();
        assert!(
            written.starts_with(
                r#"{"architecture":"amd64","config":{"Cmd":["a"],"Healthcheck":{"Test":["NONE"]},"User":"7"}"#
            ),
            "{written}"
        );
        assert!(written.ends_with(r#","zz":[1]}"#), "{written}");
        assert_eq!(made.to_bytes(), made.clone().to_bytes());
    }
}

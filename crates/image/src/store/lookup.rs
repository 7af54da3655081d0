//! Finding images by what people type: a name, an ID, or the beginning of one.
//!
//! A name goes before an ID, as in Docker. Where nobody asks for a platform, the host's is taken, or whatever there is.

use super::{Listed, Store, StoreError};
use crate::{Digest, Image, InvalidReference, Platform, Reference};

/// How many digits of an ID are shown to people.
const SHORT_ID: usize = 12;

/// An image that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundImage {
    /// The image.
    pub image: Image,
    /// Whether it was found by its ID, and not by a name.
    pub by_id: bool,
    /// All its names.
    pub names: Vec<Reference>,
}

/// Why an image was not found.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// There is none.
    #[error("there is no image `{text}`{}", for_platform(platform.as_ref()))]
    Unknown {
        /// What was looked for.
        text: String,
        /// For which platform, if that was said.
        platform: Option<Platform>,
    },
    /// It is neither a name nor an ID.
    #[error(transparent)]
    Name(#[from] InvalidReference),
    /// There are several.
    #[error("`{text}` is the beginning of {count} image IDs")]
    Ambiguous {
        /// What was looked for.
        text: String,
        /// How many there are.
        count: usize,
    },
    /// The store could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl LookupError {
    /// What the user can do about it, if anything is known to help.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown { .. } => Some("see those there are: microagent images".to_owned()),
            Self::Name(_) => None,
            Self::Ambiguous { .. } => Some("write more of the ID".to_owned()),
            Self::Store(error) => error.hint(),
        }
    }
}

impl Store {
    /// The image that `text` names or is the ID of.
    pub fn lookup(&self, text: &str, platform: Option<&Platform>) -> Result<FoundImage, LookupError> {
        let name: Result<Reference, _> = text.parse();
        let listed = self.list()?;
        if let Ok(name) = &name
            && let Some(entry) = chosen(listed.iter().filter(|entry| entry.is_called(name)), platform)
        {
            let image = Image { reference: Some(name.clone()), ..self.read(&entry.manifest_digest)? };
            return Ok(FoundImage { by_id: false, names: names(&listed, &image.manifest_digest), image });
        }
        match (id_of(text), name) {
            (Some(id), _) => self.by_id(text, id, &listed, platform),
            (None, Ok(_)) => Err(unknown(text, platform)),
            (None, Err(error)) => Err(error.into()),
        }
    }

    /// The images that `text` names, one for each platform that is here; or the one that it is the ID of.
    pub fn lookup_all(&self, text: &str) -> Result<Vec<Image>, LookupError> {
        let called = match text.parse::<Reference>() {
            Ok(name) => self.called(&name)?,
            Err(_) => Vec::new(),
        };
        if called.is_empty() {
            return Ok(vec![self.lookup(text, None)?.image]);
        }
        let image = |entry: Listed| {
            let image = self.read(&entry.manifest_digest)?;
            Ok(Image { reference: entry.reference, ..image })
        };
        called.into_iter().map(image).collect()
    }

    /// The image of this name for `platform`. If there is none, and the name could be an image's ID or the first twelve
    /// digits of one, that image: what people copy from a list looks like a name.
    pub fn find_by_name_or_id(
        &self,
        name: &Reference,
        platform: &Platform,
    ) -> Result<Option<Image>, StoreError> {
        if let Some(image) = self.find(name, platform)? {
            return Ok(Some(image));
        }
        let shown = name.to_string();
        let text = shown.strip_suffix(":latest").unwrap_or(&shown);
        let Some(id) = id_of(text).filter(|digits| digits.len() >= SHORT_ID) else { return Ok(None) };
        match self.by_id(text, id, &self.list()?, Some(platform)) {
            Ok(found) => Ok(Some(found.image)),
            Err(LookupError::Store(error)) => Err(error),
            Err(_) => Ok(None),
        }
    }

    fn by_id(
        &self,
        text: &str,
        id: &str,
        listed: &[Listed],
        platform: Option<&Platform>,
    ) -> Result<FoundImage, LookupError> {
        let mut found: Vec<Image> = Vec::new();
        for entry in listed.iter().filter(|entry| entry.is_for(platform)) {
            if found.iter().any(|known| known.manifest_digest == entry.manifest_digest) {
                continue;
            }
            // A damaged one has no ID that could be known.
            let Ok(image) = self.read(&entry.manifest_digest) else { continue };
            let digests = [image.config_digest, image.manifest_digest];
            if digests.iter().any(|digest| digest.hex().starts_with(id)) {
                found.push(image);
            }
        }
        let count = found.len();
        match (found.pop(), count) {
            (Some(image), 1) => {
                Ok(FoundImage { by_id: true, names: names(listed, &image.manifest_digest), image })
            }
            (None, _) => Err(unknown(text, platform)),
            _ => Err(LookupError::Ambiguous { text: text.to_owned(), count }),
        }
    }
}

impl Listed {
    fn is_for(&self, platform: Option<&Platform>) -> bool {
        match (&self.platform, platform) {
            (Some(own), Some(wanted)) => own.matches(wanted),
            _ => true,
        }
    }
}

fn chosen<'a>(entries: impl Iterator<Item = &'a Listed>, platform: Option<&Platform>) -> Option<&'a Listed> {
    let mut entries = entries.filter(|entry| entry.is_for(platform)).peekable();
    let first = entries.peek().copied();
    let host = Platform::of_host();
    entries.find(|entry| entry.is_for(Some(&host))).or(first)
}

fn names(listed: &[Listed], manifest: &Digest) -> Vec<Reference> {
    let of_image = listed.iter().filter(|entry| entry.manifest_digest == *manifest);
    of_image.filter_map(|entry| entry.reference.clone()).collect()
}

/// The digits of what may be an ID, or the beginning of one.
fn id_of(text: &str) -> Option<&str> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    let is_hex = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (is_hex && (1..=64).contains(&digits.len())).then_some(digits)
}

fn unknown(text: &str, platform: Option<&Platform>) -> LookupError {
    LookupError::Unknown { text: text.to_owned(), platform: platform.cloned() }
}

fn for_platform(platform: Option<&Platform>) -> String {
    platform.map(|platform| format!(" for `{platform}`")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Configuration;

    fn store() -> (tempfile::TempDir, Store, Vec<Image>) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let ingest = store.add().unwrap();
        let image = |platform: &str, names: &[&str]| {
            let names: Vec<Reference> = names.iter().map(|name| name.parse().unwrap()).collect();
            ingest.image(&Configuration::empty(&platform.parse().unwrap()), Vec::new(), &names).unwrap()
        };
        let host = Platform::of_host().to_string();
        let images =
            vec![image("linux/s390x", &["a:1", "b"]), image(&host, &["a:1"]), image("linux/mips", &[])];
        drop(ingest);
        (directory, store, images)
    }

    #[test]
    fn a_name_is_for_the_host_or_for_what_there_is() {
        let (_directory, store, images) = store();
        let found = store.lookup("a:1", None).unwrap();
        assert_eq!((found.image.config_digest, found.by_id), (images[1].config_digest, false));
        assert_eq!(store.lookup("b", None).unwrap().image.config_digest, images[0].config_digest);
        let s390x = "linux/s390x".parse().unwrap();
        let found = store.lookup("a:1", Some(&s390x)).unwrap();
        assert_eq!(found.image.config_digest, images[0].config_digest);
        assert_eq!(found.names.len(), 2);
        let error = store.lookup("b", Some(&Platform::of_host())).unwrap_err();
        assert!(error.to_string().starts_with("there is no image `b` for `linux/"), "{error}");
    }

    #[test]
    fn an_id_or_its_beginning_finds_an_image_without_a_name() {
        let (_directory, store, images) = store();
        let id = images[2].config_digest.to_string();
        for text in [id.as_str(), &id[7..], &id[..19], &id[7..19]] {
            let found = store.lookup(text, None).unwrap();
            assert!(found.by_id && found.names.is_empty(), "{text}");
            assert_eq!(found.image.manifest_digest, images[2].manifest_digest, "{text}");
        }
        let by_manifest = images[2].manifest_digest.to_string();
        assert_eq!(store.lookup(&by_manifest, None).unwrap().image, store.lookup(&id, None).unwrap().image);
    }

    #[test]
    fn what_looks_like_a_name_may_be_an_id() {
        let (_directory, store, images) = store();
        let mips: Platform = "linux/mips".parse().unwrap();
        let found = |text: &str, platform: &Platform| {
            let name: Reference = text.parse().unwrap();
            store.find_by_name_or_id(&name, platform).unwrap().map(|image| image.config_digest)
        };
        let id = images[2].config_digest.to_string();
        assert_eq!(found(&id[7..19], &mips), Some(images[2].config_digest));
        assert_eq!(found(&id, &mips), Some(images[2].config_digest));
        assert_eq!(found(&id[7..18], &mips), None, "it could be a name as well");
        assert_eq!(found(&id[7..19], &Platform::of_host()), None);
        assert_eq!(found("b", &images[0].platform()), Some(images[0].config_digest));
    }

    #[test]
    fn what_is_not_there_is_told() {
        let (_directory, store, _) = store();
        assert!(matches!(store.lookup("nosuch", None), Err(LookupError::Unknown { .. })));
        assert!(matches!(store.lookup(&"0".repeat(64), None), Err(LookupError::Unknown { .. })));
        assert!(matches!(store.lookup("sha256:", None), Err(LookupError::Name(_))));
        assert!(matches!(store.lookup("Not A Name", None), Err(LookupError::Name(_))));
        let many = (0..16).map(|digit| store.lookup(&format!("{digit:x}"), None));
        assert!(
            many.filter_map(Result::err)
                .all(|error| matches!(error, LookupError::Ambiguous { .. } | LookupError::Unknown { .. }))
        );
    }
}

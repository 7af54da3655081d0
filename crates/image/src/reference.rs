//! Names of images, as people type them and as registries know them.
//!
//! ```text
//! busybox                      docker.io/library/busybox:latest
//! me/tool:1                    docker.io/me/tool:1
//! localhost:5000/a/b@sha256:…  localhost:5000/a/b@sha256:…
//! └── registry ──┘└─┬┘└──┬───┘
//!              repository digest
//! ```
//!
//! The grammar and the rules for what is left out are those of Docker (`distribution/reference`). What is
//! parsed is canonical; [`Reference::full`] writes that, `Display` the short form that people know.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Digest;

const HUB: &str = "docker.io";
const OFFICIAL: &str = "library/";
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// The name of an image: registry, repository, and a tag or a digest or both.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is not the name of an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid image name `{text}`: {reason}")]
pub struct InvalidReference {
    text: String,
    reason: Reason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Reason {
    #[error("it is empty")]
    Empty,
    #[error("a repository has at most {MAX_NAME} characters")]
    TooLong,
    #[error("a repository has no capital letters")]
    Capitals,
    #[error(
        "a repository is of lower-case letters and digits, with single `.`, `_`, `__` or `-` between them"
    )]
    Repository,
    #[error("a registry is a host name or address, and maybe a port")]
    Registry,
    #[error(
        "a tag is of up to {MAX_TAG} letters, digits, `_`, `.` or `-`, and starts with none of the last two"
    )]
    Tag,
    #[error("a digest is `sha256:` and 64 lower-case hexadecimal digits")]
    Digest,
    #[error("64 hexadecimal digits are an image's ID, not its name")]
    Identifier,
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        parse(text).map_err(|reason| InvalidReference { text: text.chars().take(300).collect(), reason })
    }
}

fn parse(text: &str) -> Result<Reference, Reason> {
    if text.is_empty() {
        return Err(Reason::Empty);
    }
    if text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(Reason::Identifier);
    }
    let (named, digest) = match text.split_once('@') {
        Some((named, digest)) => (named, Some(digest.parse().map_err(|_| Reason::Digest)?)),
        None => (text, None),
    };
    let (registry, rest) = split_registry(named)?;
    let (repository, tag) = match rest.split_once(':') {
        Some((repository, tag)) => (repository, Some(checked_tag(tag)?)),
        None => (rest, None),
    };
    check_repository(repository)?;
    let official = registry == HUB && !repository.contains('/');
    let repository = format!("{}{repository}", if official { OFFICIAL } else { "" });
    if registry.len() + 1 + repository.len() > MAX_NAME {
        return Err(Reason::TooLong);
    }
    let tag = tag.or_else(|| digest.is_none().then(|| "latest".to_owned()));
    Ok(Reference { registry: registry.to_owned(), repository, tag, digest })
}

/// The part before the first slash is a registry if no repository could be named so.
fn split_registry(named: &str) -> Result<(&str, &str), Reason> {
    let Some((first, rest)) = named.split_once('/') else { return Ok((HUB, named)) };
    if !looks_like_registry(first) {
        return Ok((HUB, named));
    }
    if !is_registry(first) {
        return Err(Reason::Registry);
    }
    Ok((if first == "index.docker.io" { HUB } else { first }, rest))
}

fn looks_like_registry(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn is_registry(text: &str) -> bool {
    let bracketed = text.strip_prefix('[').and_then(|inner| inner.split_once(']'));
    let (is_host, rest) = if let Some((address, rest)) = bracketed {
        (address.parse::<std::net::Ipv6Addr>().is_ok(), rest)
    } else {
        let (host, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
        (host.split('.').all(is_label), rest)
    };
    is_host && (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port))
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

fn is_label(label: &str) -> bool {
    let ends = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    ends(label.bytes().next())
        && ends(label.bytes().last())
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn checked_tag(tag: &str) -> Result<String, Reason> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let starts_well = tag.bytes().next().is_some_and(word);
    if starts_well && tag.len() <= MAX_TAG && tag.bytes().all(|byte| word(byte) || b".-".contains(&byte)) {
        return Ok(tag.to_owned());
    }
    Err(Reason::Tag)
}

fn check_repository(repository: &str) -> Result<(), Reason> {
    if repository.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(Reason::Capitals);
    }
    if repository.split('/').all(is_component) { Ok(()) } else { Err(Reason::Repository) }
}

/// Runs of lower-case letters and digits, joined by `.`, `_`, `__` or any number of `-`.
fn is_component(component: &str) -> bool {
    let alphanumeric = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit();
    let ends_well = component.starts_with(alphanumeric) && component.ends_with(alphanumeric);
    let joint = |text: &str| matches!(text, "" | "." | "_" | "__") || text.bytes().all(|byte| byte == b'-');
    ends_well && component.split(alphanumeric).all(joint)
}

impl Reference {
    /// The registry's name: a host, and a port if one was given. Docker Hub is `docker.io`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository in the registry, such as `library/busybox`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; `latest` if neither tag nor digest was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest of a manifest or index, which goes before the tag.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// The canonical form, with nothing left out.
    pub fn full(&self) -> String {
        format!("{}/{}{}", self.registry, self.repository, self.suffix())
    }

    fn suffix(&self) -> String {
        let tag = self.tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
        let digest = self.digest.map(|digest| format!("@{digest}")).unwrap_or_default();
        tag + &digest
    }

    /// The name without what goes without saying, as long as it still says the same.
    pub(crate) fn familiar_name(&self) -> String {
        if self.registry != HUB {
            return format!("{}/{}", self.registry, self.repository);
        }
        let official = self.repository.strip_prefix(OFFICIAL).filter(|name| !name.contains('/'));
        match (official, self.repository.split_once('/')) {
            (Some(name), _) => name.to_owned(),
            (None, Some((first, _))) if looks_like_registry(first) => format!("{HUB}/{}", self.repository),
            _ => self.repository.clone(),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&(self.familiar_name() + &self.suffix()))
    }
}

impl TryFrom<String> for Reference {
    type Error = InvalidReference;

    fn try_from(text: String) -> Result<Self, InvalidReference> {
        text.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.full()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn names_resolve_as_docker_resolves_them() {
        for (typed, full, familiar) in [
            ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
            ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
            ("a:5000", "docker.io/library/a:5000", "a:5000"),
            ("me/tool", "docker.io/me/tool:latest", "me/tool:latest"),
            ("library/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
            ("docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
            ("index.docker.io/library/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
            ("localhost", "docker.io/library/localhost:latest", "localhost:latest"),
            ("localhost/a", "localhost/a:latest", "localhost/a:latest"),
            ("localhost:5000/a/b:c", "localhost:5000/a/b:c", "localhost:5000/a/b:c"),
            ("r.example.com/o/r", "r.example.com/o/r:latest", "r.example.com/o/r:latest"),
            ("127.0.0.1:5000/a", "127.0.0.1:5000/a:latest", "127.0.0.1:5000/a:latest"),
            ("[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest"),
            ("HOST/a", "HOST/a:latest", "HOST/a:latest"),
            ("a/b/c", "docker.io/a/b/c:latest", "a/b/c:latest"),
            ("a--b__c.d_e", "docker.io/library/a--b__c.d_e:latest", "a--b__c.d_e:latest"),
            ("docker.io/x.io/y", "docker.io/x.io/y:latest", "docker.io/x.io/y:latest"),
            ("xn--bcher-kva.example/a:b", "xn--bcher-kva.example/a:b", "xn--bcher-kva.example/a:b"),
        ] {
            let reference: Reference = typed.parse().unwrap_or_else(|error| panic!("{typed}: {error}"));
            assert_eq!((reference.full().as_str(), reference.to_string().as_str()), (full, familiar));
        }
    }

    #[test]
    fn a_digest_needs_no_tag_and_may_have_one() {
        let pinned: Reference = format!("busybox@{DIGEST}").parse().unwrap();
        assert_eq!(pinned.full(), format!("docker.io/library/busybox@{DIGEST}"));
        assert_eq!(pinned.tag(), None);
        let both: Reference = format!("busybox:1@{DIGEST}").parse().unwrap();
        assert_eq!(both.to_string(), format!("busybox:1@{DIGEST}"));
    }

    #[test]
    fn what_docker_refuses_is_refused() {
        let long = "a".repeat(256);
        let long_tag = format!("a:{}", "b".repeat(129));
        let uppercase_digest = format!("a@{}", DIGEST.to_uppercase());
        let identifier = "a".repeat(64);
        for bad in [
            "",
            ":",
            ":a",
            "a:",
            "@",
            "a@",
            "/a",
            "a/",
            "a//b",
            "-a",
            "a-",
            "a___b",
            "a..b",
            "a._b",
            "A",
            "Capital:tag",
            "me/UPPER",
            "host:5000/Capital",
            "a:-b",
            "a:.b",
            "a b",
            "a\n",
            "a/b$c/d",
            "docker.io/",
            "_/a",
            "-h.io/a",
            "h-.io/a",
            "h.io:x/a",
            "h.io:65536/a",
            "[::1/a",
            "[x]:1/a",
            "[::1]5/a",
            "http://h.io/a",
            "h..io/a",
            "a@sha256:abc",
            "a@md5:d41d8cd98f00b204e9800998ecf8427e",
            "ä",
            long.as_str(),
            long_tag.as_str(),
            uppercase_digest.as_str(),
            identifier.as_str(),
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn both_forms_are_read_back_as_the_same_name(
            text in "([a-zA-Z0-9.-]{1,8}(:[0-9]{1,5})?/)?[a-z0-9._/-]{1,20}(:[A-Za-z0-9_.-]{1,8})?"
        ) {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(&reference.full().parse::<Reference>().unwrap(), &reference);
                prop_assert_eq!(&reference.to_string().parse::<Reference>().unwrap(), &reference);
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(text: String) {
            let _ = text.parse::<Reference>();
        }
    }
}

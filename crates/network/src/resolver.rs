//! What programs in a guest make of a name before they ask for it: domains that are added to it; resolv.conf(5).
//!
//! ```text
//! search    those of the user; else this host's below which something may be resolved; `.` alone: none
//! options   those of the user; else how many dots a name has that is asked for as it is first: as on this host, and
//!           no more than names of the workspace's own have, so that none of them is somebody else's
//! ```

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::egress::{Policy, is_name};
use crate::resolv_conf::ResolvConf;

/// The most domains, and the most options.
pub(crate) const MOST: usize = 32;

/// The longest option, in bytes.
const LONGEST_OPTION: usize = 64;

/// With how many dots a name is asked for as it is first, where nothing else is said.
const USUAL_DOTS: usize = 1;

/// Domains that are added to names, and options of resolv.conf(5).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolver {
    /// In the order in which they are tried.
    pub search: Vec<SearchDomain>,
    /// As they are written there.
    pub options: Vec<ResolverOption>,
}

/// Why settings make no sense together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidResolver {
    /// None, and some.
    #[error("cannot add domains to names and add none: `.` stands alone")]
    RootAmongOthers,
    /// Too many.
    #[error("cannot use {given} {what}: {MOST} is the most")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there are.
        given: usize,
    },
}

impl Resolver {
    /// Whether this can be asked for.
    pub fn check(&self) -> Result<(), InvalidResolver> {
        let many =
            |what, given| if given > MOST { Err(InvalidResolver::TooMany { what, given }) } else { Ok(()) };
        many("search domains", self.search.len())?;
        many("options for names", self.options.len())?;
        if self.search.len() > 1 && self.search.iter().any(SearchDomain::is_root) {
            return Err(InvalidResolver::RootAmongOthers);
        }
        Ok(())
    }

    /// What a guest is told that asks for this: what is not said, this host says now. `dots` are the fewest that a name
    /// of the workspace's own has.
    #[must_use]
    pub fn or_hosts(&self, policy: &Policy, dots: Option<usize>) -> Self {
        self.or(ResolvConf::read(), policy, dots)
    }

    fn or(&self, host: ResolvConf, policy: &Policy, own_dots: Option<usize>) -> Self {
        let mut search = self.search.clone();
        if search.is_empty() {
            search = host.search;
            search.retain(|domain| policy.resolves_below(&domain.0));
        }
        search.retain(|domain| !domain.is_root());
        let mut options = self.options.clone();
        if options.is_empty() && !search.is_empty() {
            let dots = host.dots.unwrap_or(USUAL_DOTS).min(own_dots.unwrap_or(usize::MAX));
            options.extend((dots != USUAL_DOTS).then(|| ResolverOption(format!("ndots:{dots}"))));
        }
        Self { search, options }
    }
}

/// A domain that is added to names: in small letters, without the last dot. The root stands for none.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SearchDomain(String);

impl SearchDomain {
    /// Whether it is `.`.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }
}

/// A text that is no domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no domain: {why}; write it like `corp.example`, or `.` for none")]
pub struct InvalidSearchDomain {
    text: String,
    why: &'static str,
}

impl FromStr for SearchDomain {
    type Err = InvalidSearchDomain;

    fn from_str(text: &str) -> Result<Self, InvalidSearchDomain> {
        let name = text.strip_suffix('.').unwrap_or(text);
        let why = match () {
            () if text == "." || is_name(name) => return Ok(Self(name.to_ascii_lowercase())),
            () if text.contains(char::is_whitespace) => "each has a --dns-search of its own",
            () if !text.is_ascii() => "write a name with other letters as `xn--...`",
            () if name.len() > 253 => "it is longer than 253 bytes",
            () => "a name is labels of at most 63 letters, digits, `-` and `_`, with dots between",
        };
        Err(InvalidSearchDomain { text: excerpt(text), why })
    }
}

impl fmt::Display for SearchDomain {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.is_root() { "." } else { &self.0 })
    }
}

/// An option of resolv.conf(5), as `ndots:2` or `rotate`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ResolverOption(String);

/// A text that is no option.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no option of resolv.conf; write it like `ndots:2` or `rotate`")]
pub struct InvalidResolverOption(String);

impl FromStr for ResolverOption {
    type Err = InvalidResolverOption;

    fn from_str(text: &str) -> Result<Self, InvalidResolverOption> {
        let (name, number) = text.split_once(':').unwrap_or((text, "0"));
        let is_word =
            name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        if name.is_empty() || !is_word || !is_number || text.len() > LONGEST_OPTION {
            return Err(InvalidResolverOption(excerpt(text)));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for ResolverOption {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// As much of a text as a message has room for, in one line.
fn excerpt(text: &str) -> String {
    let shown = |text: &str| text.escape_debug().to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", shown(&text[..end])),
        None => shown(text),
    }
}

macro_rules! as_text {
    ($($kind:ty)*) => {$(
        impl Serialize for $kind {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $kind {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

as_text!(SearchDomain ResolverOption);

#[cfg(test)]
mod tests;

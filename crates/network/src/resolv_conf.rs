//! What this host's resolv.conf(5) says. It may say anything: what makes no sense is left out.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr};

use crate::resolver::{MOST, SearchDomain};

/// Where it is.
pub(crate) const PATH: &str = "/etc/resolv.conf";

/// The most of it that is read, in bytes.
const LONGEST: u64 = 64 * 1024;

/// What is read of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ResolvConf {
    /// In the order in which they are asked; without any, the one on this host.
    pub(crate) nameservers: Vec<IpAddr>,
    /// In the order in which they are tried.
    pub(crate) search: Vec<SearchDomain>,
    /// With how many dots a name is asked for as it is before a domain is added.
    pub(crate) dots: Option<usize>,
}

impl ResolvConf {
    /// This host's, as it is now; one that cannot be read says nothing.
    pub(crate) fn read() -> Self {
        let mut bytes = Vec::new();
        if let Ok(file) = std::fs::File::open(PATH) {
            // What was read before an error counts.
            let _ = file.take(LONGEST).read_to_end(&mut bytes);
        }
        Self::parse(&String::from_utf8_lossy(&bytes))
    }

    pub(crate) fn parse(text: &str) -> Self {
        let mut read = Self::default();
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => {
                    read.nameservers.extend(words.next().and_then(|word| word.parse::<IpAddr>().ok()));
                }
                // The last line counts, of either kind; the second is the older word for one domain.
                Some("search") => read.search = domains(words),
                Some("domain") => read.search = domains(words.take(1)),
                Some("options") => read.dots = words.filter_map(dots).next_back().or(read.dots),
                _ => {}
            }
        }
        if read.nameservers.is_empty() {
            read.nameservers.push(Ipv4Addr::LOCALHOST.into());
        }
        read
    }
}

/// The root is what is asked for in any case.
fn domains<'a>(words: impl Iterator<Item = &'a str>) -> Vec<SearchDomain> {
    words
        .filter_map(|word| word.parse().ok())
        .filter(|domain: &SearchDomain| !domain.is_root())
        .take(MOST)
        .collect()
}

fn dots(option: &str) -> Option<usize> {
    // More than 15 counts as 15.
    Some(option.strip_prefix("ndots:")?.parse::<usize>().ok()?.min(15))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(text: &str) -> Vec<String> {
        ResolvConf::parse(text).search.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn name_servers_are_read_as_the_host_lists_them() {
        let text = "# x\nsearch a.example\nnameserver 192.0.2.1\n nameserver\t2001:db8::1 \nnameserver fe80::1%eth0\n";
        let expected: [IpAddr; 2] = ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        assert_eq!(ResolvConf::parse(text).nameservers, expected);
        for none in ["", "nameserver\nnameservers 192.0.2.1\n#nameserver 192.0.2.1"] {
            assert_eq!(ResolvConf::parse(none).nameservers, [IpAddr::from(Ipv4Addr::LOCALHOST)]);
        }
    }

    #[test]
    fn the_last_list_of_domains_counts() {
        assert_eq!(search("search a.example b.example\nsearch Corp.Example. c\n"), ["corp.example", "c"]);
        assert_eq!(search("search a.example\ndomain b.example c.example\n"), ["b.example"]);
        assert_eq!(search("domain b.example\nsearch\n"), [""; 0]);
        assert_eq!(search("search .\n"), [""; 0]);
        assert_eq!(search("searching a.example\n;search b.example"), [""; 0]);
    }

    #[test]
    fn garbage_is_left_out_and_what_is_too_much_cut_off() {
        let long = "x".repeat(64);
        let text = format!(
            "search {long}.example ok.example a..b \u{fffd} -\u{1b}[31m {long}\0\noptions ndots:x ndots:3 ndots:-1\n"
        );
        assert_eq!(search(&text), ["ok.example"]);
        assert_eq!(ResolvConf::parse(&text).dots, Some(3));
        assert_eq!(ResolvConf::parse("options rotate ndots:99999\noptions edns0").dots, Some(15));
        assert_eq!(search(&format!("search {}", "a ".repeat(1000))).len(), MOST);
    }
}

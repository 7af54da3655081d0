use std::time::Duration;

use super::*;
use crate::egress::EgressRule;

fn reach(access: HostAccess, egress: Option<Egress>, allow: &[&str], deny: &[&str]) -> Reach {
    let rules = |texts: &[&str]| texts.iter().map(|text| text.parse::<EgressRule>().unwrap()).collect();
    let policy = Policy { egress, allow: rules(allow), deny: rules(deny) };
    Reach { access, policy, ..Reach::default() }
}

/// One whose allowed name `a.example` leads to these addresses.
fn pinned(reach: Reach, addresses: &[&str]) -> Reach {
    let mut reach = reach;
    for address in addresses {
        reach.pins.pin("a.example", address.parse().unwrap(), 60, Instant::now());
    }
    reach
}

fn asked_at(reach: &Reach, address: &str, port: u16) -> Result<SocketAddr, Refusal> {
    let to = SocketAddr::new(address.parse().unwrap(), port);
    reach.decide(to, Traffic::Tcp, Instant::now()).way.map(|way| match way {
        Way::Out(to) => to,
        Way::Member(_) => panic!("there are no members"),
    })
}

fn asked(address: &str, access: HostAccess) -> Result<SocketAddr, Refusal> {
    asked_at(&reach(access, None, &[], &[]), address, 80)
}

#[test]
fn this_host_is_reached_by_one_address_and_only_when_that_is_allowed() {
    assert_eq!(asked("10.0.2.2", HostAccess::Refused), Err(Refusal::Host));
    assert_eq!(asked("10.0.2.2", HostAccess::Allowed), Ok("127.0.0.1:80".parse().unwrap()));
    for access in [HostAccess::Refused, HostAccess::Allowed] {
        for own in ["127.0.0.1", "127.9.9.9", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1", "::127.0.0.1"] {
            assert_eq!(asked(own, access), Err(Refusal::Host), "{own}");
        }
    }
}

#[test]
fn what_serves_one_link_or_many_machines_is_refused() {
    for address in ["169.254.169.254", "169.254.0.1", "fe80::1", "fd00:ec2::254", "100.100.100.200"] {
        assert_eq!(asked(address, HostAccess::Allowed), Err(Refusal::LinkLocal), "{address}");
    }
    for address in ["64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "::ffff:169.254.169.254"] {
        assert_eq!(asked(address, HostAccess::Allowed), Err(Refusal::LinkLocal), "{address}");
    }
    for address in ["224.0.0.1", "255.255.255.255", "240.0.0.1", "ff02::1"] {
        assert_eq!(asked(address, HostAccess::Allowed), Err(Refusal::NotOne), "{address}");
    }
    for address in ["10.0.2.3", "10.0.2.77", "fd6d:6963:726f::9"] {
        assert_eq!(asked(address, HostAccess::Allowed), Err(Refusal::Nobody), "{address}");
    }
}

#[test]
fn what_is_elsewhere_is_reached() {
    assert_eq!(asked("198.51.100.7", HostAccess::Refused), Ok("198.51.100.7:80".parse().unwrap()));
    assert_eq!(asked("2001:db8::7", HostAccess::Refused), Ok("[2001:db8::7]:80".parse().unwrap()));
}

#[test]
fn a_name_opens_the_addresses_it_was_resolved_to_for_a_while_and_no_other() {
    let reach = pinned(reach(HostAccess::Refused, None, &["a.example:443"], &[]), &["198.51.100.7"]);
    assert!(asked_at(&reach, "198.51.100.7", 443).is_ok());
    assert_eq!(asked_at(&reach, "198.51.100.7", 80), Err(Refusal::NotAllowed));
    assert_eq!(asked_at(&reach, "198.51.100.8", 443), Err(Refusal::NotAllowed));
    let to = "198.51.100.7:443".parse().unwrap();
    let verdict = reach.decide(to, Traffic::Tcp, Instant::now());
    assert_eq!(verdict.name.as_deref(), Some("a.example"));
    let late = reach.decide(to, Traffic::Tcp, Instant::now() + Duration::from_secs(3600));
    assert_eq!((late.way, late.name), (Err(Refusal::NotAllowed), None));
}

#[test]
fn a_name_that_leads_elsewhere_than_it_should_opens_nothing() {
    let inside = [
        "127.0.0.1",
        "10.0.2.2",
        "0.0.0.0",
        "169.254.169.254",
        "192.168.1.1",
        "10.1.2.3",
        "172.16.0.1",
        "100.64.0.1",
        "::1",
        "fe80::1",
        "fd00:ec2::254",
        "fd12::1",
        "64:ff9b::c0a8:101",
        "2002:c0a8:101::1",
        "::ffff:10.1.2.3",
    ];
    for allow in [&["a.example"][..], &["*"], &["*.example", "a.example"]] {
        let reach = pinned(reach(HostAccess::Refused, None, allow, &[]), &inside);
        for address in inside {
            assert!(asked_at(&reach, address, 80).is_err(), "{address} by {allow:?}");
        }
    }
    let by_address = pinned(reach(HostAccess::Refused, None, &["a.example", "10.1.0.0/16"], &[]), &inside);
    assert!(asked_at(&by_address, "10.1.2.3", 80).is_ok());
    assert_eq!(asked_at(&by_address, "192.168.1.1", 80), Err(Refusal::Private));
}

#[test]
fn an_address_that_the_user_gave_a_name_is_the_users_word() {
    let mut reach = reach(HostAccess::Refused, None, &["db.example:5432"], &[]);
    reach.own.push(("db.example".to_owned(), "10.1.2.3".parse().unwrap()));
    assert!(asked_at(&reach, "10.1.2.3", 5432).is_ok());
    assert_eq!(asked_at(&reach, "10.1.2.4", 5432), Err(Refusal::NotAllowed));
}

#[test]
fn rules_that_name_this_host_open_its_ports_and_wildcards_do_not() {
    let named = reach(HostAccess::Refused, None, &["host.microagent.internal:8080"], &[]);
    assert!(asked_at(&named, "10.0.2.2", 8080).is_ok());
    assert_eq!(asked_at(&named, "10.0.2.2", 22), Err(Refusal::Host));
    assert_eq!(named.own_addresses(HOST_NAME), Some(vec![GATEWAY.into()]));
    let wild = reach(HostAccess::Refused, None, &["*", "*.microagent.internal", "0.0.0.0/0", "::/0"], &[]);
    assert_eq!(asked_at(&wild, "10.0.2.2", 8080), Err(Refusal::Host));
    assert_eq!(wild.own_addresses(HOST_NAME), Some(Vec::new()));
    let strict = reach(HostAccess::Allowed, Some(Egress::Deny), &[], &["host.microagent.internal:22"]);
    assert!(asked_at(&strict, "10.0.2.2", 80).is_ok() && strict.refuses_name(HOST_NAME).is_none());
    assert_eq!(asked_at(&strict, "10.0.2.2", 22), Err(Refusal::Denied));
}

#[test]
fn link_local_addresses_are_reached_where_a_rule_names_them() {
    let open = reach(HostAccess::Refused, Some(Egress::Allow), &["169.254.169.254:80"], &[]);
    assert!(asked_at(&open, "169.254.169.254", 80).is_ok() && asked_at(&open, "192.0.2.1", 80).is_ok());
    assert_eq!(asked_at(&open, "169.254.169.253", 80), Err(Refusal::LinkLocal));
}

#[test]
fn what_is_refused_by_a_rule_stays_so_whatever_allows_it() {
    let reach = pinned(
        reach(
            HostAccess::Refused,
            None,
            &["a.example", "198.51.100.0/24"],
            &["198.51.100.7", "*.evil.example"],
        ),
        &["198.51.100.7", "203.0.113.7"],
    );
    assert_eq!(asked_at(&reach, "198.51.100.7", 80), Err(Refusal::Denied));
    assert!(asked_at(&reach, "203.0.113.7", 80).is_ok() && asked_at(&reach, "198.51.100.8", 80).is_ok());
    assert_eq!(reach.refuses_name("x.evil.example"), Some(Refusal::Denied));
    assert_eq!(reach.refuses_name("b.example"), Some(Refusal::NotAllowed));
    assert_eq!(reach.refuses_name("a.example"), None);
}

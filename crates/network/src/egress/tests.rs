use proptest::prelude::*;

use super::*;

fn rule(text: &str) -> EgressRule {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

fn policy(egress: Option<Egress>, allow: &[&str], deny: &[&str]) -> Policy {
    let rules = |texts: &[&str]| texts.iter().map(|text| rule(text)).collect();
    Policy { egress, allow: rules(allow), deny: rules(deny) }
}

fn attempt<'a>(address: &str, port: u16, names: &'a [&'a str]) -> Attempt<'a> {
    Attempt { address: address.parse().unwrap(), port, traffic: Traffic::Tcp, names }
}

#[test]
fn rules_are_written_as_they_are_read() {
    for (text, shown) in [
        ("Example.COM.", "example.com"),
        ("*.example.com:443", "*.example.com:443"),
        ("*:80-90/tcp", "*:80-90/tcp"),
        ("localhost/udp", "localhost/udp"),
        ("192.0.2.7", "192.0.2.7"),
        ("192.0.2.7/24:53/udp", "192.0.2.0/24:53/udp"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("2001:db8::1", "2001:db8::1"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("[2001:db8::]:80", "[2001:db8::]:80"),
        ("[2001:db8::/32]:80-81", "[2001:db8::/32]:80-81"),
        ("[::1]", "::1"),
    ] {
        assert_eq!(rule(text).to_string(), shown);
        assert_eq!(rule(shown), rule(text));
    }
    for bad in [
        "",
        "https://example.com",
        "a..b",
        "-:x",
        "a.*.b",
        "**",
        "*.",
        "a:0",
        "a:99999",
        "a:9-1",
        "1.2.3.400",
        "1.2.3.4/33",
        "::/129",
        "[::1",
        "[::1]80",
        "[::1]:",
        "a b",
        "ä.example",
        "a:80/icmp",
    ] {
        assert!(bad.parse::<EgressRule>().is_err(), "{bad}");
    }
}

#[test]
fn a_wildcard_is_for_what_is_below_and_not_for_itself() {
    let policy = policy(None, &["*.example.com"], &[]);
    for name in ["a.example.com", "b.a.example.com"] {
        assert!(policy.resolves(name), "{name}");
    }
    for name in ["example.com", ".example.com", "aexample.com", "a.example.com.evil.test"] {
        assert!(!policy.resolves(name), "{name}");
    }
}

#[test]
fn a_list_of_what_may_be_reached_refuses_the_rest_unless_it_is_said_otherwise() {
    assert_eq!(policy(None, &[], &[]).otherwise(), Egress::Allow);
    assert_eq!(policy(None, &[], &["a"]).otherwise(), Egress::Allow);
    assert_eq!(policy(None, &["a"], &[]).otherwise(), Egress::Deny);
    assert_eq!(policy(Some(Egress::Allow), &["a"], &[]).otherwise(), Egress::Allow);
    assert!(policy(Some(Egress::Allow), &[], &[]).is_set() && !Policy::default().is_set());
}

#[test]
fn a_rule_takes_its_ports_and_its_protocol_alone() {
    let policy = policy(None, &["192.0.2.0/24:443/tcp", "*.example:80"], &["192.0.2.9"]);
    assert!(policy.allows_address(&attempt("192.0.2.1", 443, &[])));
    assert!(!policy.allows_address(&attempt("192.0.2.1", 444, &[])));
    assert!(!policy.allows_address(&Attempt { traffic: Traffic::Udp, ..attempt("192.0.2.1", 443, &[]) }));
    assert!(!policy.allows_address(&Attempt { traffic: Traffic::Ping, ..attempt("192.0.2.1", 0, &[]) }));
    assert!(policy.denies(&attempt("192.0.2.9", 443, &[])));
    assert!(policy.denies(&attempt("64:ff9b::c000:209", 443, &[])), "the same, translated");
    assert_eq!(
        policy.allowed_name(&attempt("198.51.100.1", 80, &["x.test", "a.example"])),
        Some("a.example")
    );
    assert_eq!(policy.allowed_name(&attempt("198.51.100.1", 81, &["a.example"])), None);
}

#[test]
fn a_refused_port_does_not_refuse_the_name() {
    let policy = policy(Some(Egress::Allow), &[], &["a.example:25", "b.example"]);
    assert!(policy.resolves("a.example") && !policy.resolves("b.example"));
    assert!(policy.denies(&attempt("192.0.2.1", 25, &["a.example"])));
    assert!(!policy.denies(&attempt("192.0.2.1", 80, &["a.example"])));
}

#[test]
fn link_local_addresses_are_opened_by_rules_about_them_alone() {
    let wide = policy(None, &["0.0.0.0/0", "169.0.0.0/8"], &[]);
    assert!(!wide.allows_link_local(&attempt("169.254.169.254", 80, &[])));
    let narrow = policy(None, &["169.254.169.254:80"], &[]);
    assert!(narrow.allows_link_local(&attempt("169.254.169.254", 80, &[])));
    assert!(!narrow.allows_link_local(&attempt("169.254.169.254", 81, &[])));
}

proptest! {
    #[test]
    fn any_text_is_survived_and_a_rule_is_what_it_shows(text in "[a-z0-9.:/*\\[\\]-]{0,24}") {
        if let Ok(rule) = text.parse::<EgressRule>() {
            prop_assert_eq!(rule.to_string().parse::<EgressRule>().unwrap(), rule);
        }
    }
}

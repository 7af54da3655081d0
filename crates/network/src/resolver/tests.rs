use super::*;
use crate::egress::Egress;

fn resolver(search: &[&str], options: &[&str]) -> Resolver {
    Resolver {
        search: search.iter().map(|domain| domain.parse().unwrap()).collect(),
        options: options.iter().map(|option| option.parse().unwrap()).collect(),
    }
}

fn host(search: &[&str], dots: Option<usize>) -> ResolvConf {
    ResolvConf { search: resolver(search, &[]).search, dots, ..ResolvConf::default() }
}

fn list(allow: &[&str], deny: &[&str]) -> Policy {
    let rules = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    Policy { egress: None, allow: rules(allow), deny: rules(deny) }
}

#[test]
fn domains_are_names_and_nothing_else() {
    for (text, shown) in
        [("Corp.Example", "corp.example"), ("corp.example.", "corp.example"), (".", "."), ("_x", "_x")]
    {
        let domain: SearchDomain = text.parse().unwrap();
        assert_eq!(domain.to_string(), shown);
        assert_eq!(shown.parse::<SearchDomain>().unwrap(), domain);
    }
    let long = [&"x.".repeat(127)[..], "y"].concat();
    let label = "x".repeat(64);
    for bad in [
        "",
        "..",
        "a..b",
        ".a",
        "a b",
        "a\nnameserver 192.0.2.1",
        "a\0",
        "a\u{1b}[2J",
        "ä.example",
        "a/b",
        &long,
        &label,
    ] {
        let error = bad.parse::<SearchDomain>().unwrap_err().to_string();
        assert!(!error.contains(['\n', '\0', '\u{1b}']) && error.len() < 300, "{error}");
    }
}

#[test]
fn options_are_words_that_may_have_a_number() {
    for text in ["ndots:2", "rotate", "single-request-reopen", "inet6", "timeout:0"] {
        assert_eq!(text.parse::<ResolverOption>().unwrap().to_string(), text);
    }
    let long = "x".repeat(65);
    for bad in ["", ":1", "ndots:", "ndots:-1", "ndots:1:2", "ndots=2", "a b", "a\nsearch b", "Rotate", &long]
    {
        assert!(bad.parse::<ResolverOption>().is_err(), "{bad}");
    }
}

#[test]
fn what_makes_no_sense_together_is_refused() {
    assert_eq!(resolver(&["."], &["ndots:2"]).check(), Ok(()));
    assert_eq!(resolver(&["a", "."], &[]).check(), Err(InvalidResolver::RootAmongOthers));
    let many = vec!["a"; MOST + 1];
    assert!(resolver(&many[1..], &many[1..]).check().is_ok());
    assert!(resolver(&many, &[]).check().unwrap_err().to_string().contains("33 search domains"));
    assert!(resolver(&[], &many).check().is_err());
}

#[test]
fn what_is_not_asked_for_the_host_says() {
    let all = Policy::default();
    let told = resolver(&[], &[]).or(host(&["a.example", "b"], Some(2)), &all, None);
    assert_eq!(told, resolver(&["a.example", "b"], &["ndots:2"]));
    let told = resolver(&["own.example"], &[]).or(host(&["a.example"], Some(2)), &all, None);
    assert_eq!(told, resolver(&["own.example"], &["ndots:2"]));
    let told = resolver(&[], &["rotate"]).or(host(&["a.example"], Some(2)), &all, Some(0));
    assert_eq!(told, resolver(&["a.example"], &["rotate"]));
    let told = resolver(&["."], &[]).or(host(&["a.example"], Some(2)), &all, Some(0));
    assert_eq!(told, Resolver::default());
    assert_eq!(Resolver::default().or(ResolvConf::default(), &all, Some(0)), Resolver::default());
}

#[test]
fn names_of_its_own_are_asked_for_before_anything_is_added_to_them() {
    let told =
        |dots, own| Resolver::default().or(host(&["a.example"], dots), &Policy::default(), own).options;
    let ndots = |text| resolver(&[], &[text]).options;
    assert_eq!(told(None, None), []);
    assert_eq!(told(None, Some(0)), ndots("ndots:0"));
    assert_eq!(told(None, Some(2)), []);
    assert_eq!(told(Some(5), Some(2)), ndots("ndots:2"));
    assert_eq!(told(Some(5), Some(1)), []);
}

#[test]
fn the_hosts_domains_are_told_only_where_something_below_them_may_be_known() {
    let domains = ["corp.example", "lab.example", "other.test"];
    let told = |policy: &Policy| {
        let told = Resolver::default().or(host(&domains, None), policy, None);
        told.search.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(told(&Policy::default()), domains);
    assert_eq!(told(&list(&[], &["db.corp.example", "*.test"])), domains[..2]);
    assert_eq!(told(&list(&["db.corp.example:5432"], &[])), domains[..1]);
    assert_eq!(told(&list(&["*.example"], &["*.lab.example"])), domains[..1]);
    assert_eq!(told(&list(&["*.deep.lab.example"], &[])), domains[1..2]);
    assert_eq!(told(&list(&["corp.example", "192.0.2.0/24"], &[])), [""; 0]);
    assert_eq!(told(&list(&["*:443"], &[])), domains);
    assert_eq!(told(&Policy { egress: Some(Egress::Deny), ..Policy::default() }), [""; 0]);
    // What the user asks for is told in any case, and decided on name by name.
    let asked = resolver(&["corp.example"], &[]);
    assert_eq!(asked.or(host(&[], None), &list(&["other.test"], &[]), None), asked);
}

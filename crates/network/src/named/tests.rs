use std::os::unix::process::CommandExt;
use std::time::Instant;

use super::*;

fn home() -> (tempfile::TempDir, Home) {
    let parent = tempfile::tempdir().unwrap();
    // Longer than a socket's address may be.
    let home = Home::open(Some(&parent.path().join("d".repeat(150)))).unwrap();
    (parent, home)
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

#[test]
fn networks_are_made_listed_and_deleted() {
    let (_parent, home) = home();
    let first = NamedNetwork::create(&home, &name("backend")).unwrap();
    let second = NamedNetwork::create(&home, &name("other")).unwrap();
    assert_eq!((first.subnet(), second.subnet()), ("10.89.0.0/24".to_owned(), "10.89.1.0/24".to_owned()));
    assert!(matches!(NamedNetwork::create(&home, &name("other")), Err(NamedNetworkError::Exists(_))));
    for word in ["user", "Isolated", "ls", "host"] {
        assert!(
            matches!(NamedNetwork::create(&home, &name(word)), Err(NamedNetworkError::Reserved(_))),
            "{word}"
        );
    }
    first.delete(&home).unwrap();
    assert!(matches!(NamedNetwork::find(&home, &name("backend")), Err(NamedNetworkError::Unknown(_))));
    assert_eq!(NamedNetwork::all(&home).unwrap().len(), 1);
    assert_eq!(NamedNetwork::create(&home, &name("third")).unwrap().subnet(), "10.89.0.0/24");
}

#[test]
fn members_find_each_other_and_leave_nothing() {
    let (_parent, home) = home();
    let network = NamedNetwork::create(&home, &name("backend")).unwrap();
    let web = Membership::join(&home, network.name(), &name("web")).unwrap();
    let db = Membership::join(&home, network.name(), &name("DB")).unwrap();
    let now = Instant::now();
    for found in ["db", "db.backend"] {
        assert_eq!(web.by_name(found, now), [db.number()], "{found}");
    }
    assert!(web.by_name("db.other", now).is_empty() && web.by_name("backend", now).is_empty());
    assert_eq!(web.number_at(db.address().into()), Some(db.number()));
    assert_eq!(web.number_at("10.89.1.7".parse().unwrap()), None);
    let mut names: Vec<_> = network.members().unwrap().into_iter().map(|member| member.name).collect();
    names.sort();
    assert_eq!(names, ["DB", "web"]);
    assert!(
        matches!(network.clone().delete(&home), Err(NamedNetworkError::InUse { members, .. }) if members.len() == 2)
    );
    network.rename_member(&name("DB"), &name("store")).unwrap();
    assert_eq!(web.by_name("store", now + std::time::Duration::from_secs(1)), [db.number()]);
    let address = db.address();
    drop((web, db));
    assert_eq!(fs::read_dir(network.members_path()).unwrap().count(), 0);
    let again = Membership::join(&home, network.name(), &name("DB")).unwrap();
    assert_eq!(again.address(), address, "it is found where it was");
}

#[test]
fn a_member_that_was_killed_is_gone_and_its_place_is_free() {
    let (_parent, home) = home();
    let network = NamedNetwork::create(&home, &name("backend")).unwrap();
    let web = Membership::join(&home, network.name(), &name("web")).unwrap();
    // What a killed process leaves: files, and no lock.
    let left = network.members_path().join("77");
    fs::write(&left, "ghost").unwrap();
    drop(
        std::os::unix::net::UnixListener::bind(by_descriptor(&web_directory(&network)).join("77.streams"))
            .unwrap(),
    );
    assert!(web.by_name("ghost", Instant::now()).is_empty());
    let call = Call { number: web.number(), from: 1, to: 2 };
    assert_eq!(web.call(77, call).unwrap_err(), rustix::io::Errno::CONNREFUSED);
    assert_eq!(web.call(78, call).unwrap_err(), rustix::io::Errno::NOENT);
    let all: Vec<_> = (0..252)
        .map(|number| Membership::join(&home, network.name(), &name(&format!("m{number}"))).unwrap())
        .collect();
    assert!(all.iter().any(|member| member.number() == 77));
    assert!(matches!(Membership::join(&home, network.name(), &name("more")), Err(JoinError::Full(_))));
}

fn web_directory(network: &NamedNetwork) -> File {
    File::open(network.members_path()).unwrap()
}

#[test]
fn a_lock_is_given_back_however_its_holder_ends() {
    let (_parent, home) = home();
    let network = NamedNetwork::create(&home, &name("backend")).unwrap();
    let claim = network.members_path().join("9");
    let mut holder = std::process::Command::new("flock");
    let mut holder = holder.arg0("flock").arg(&claim).args(["sleep", "60"]).process_group(0).spawn().unwrap();
    fs::write(&claim, "other").unwrap();
    let deadline = Instant::now() + std::time::Duration::from_secs(20);
    while network.members().unwrap().is_empty() {
        assert!(Instant::now() < deadline);
    }
    let group = rustix::process::Pid::from_child(&holder);
    rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
    holder.wait().unwrap();
    while !network.members().unwrap().is_empty() {
        assert!(Instant::now() < deadline);
    }
}

//! Executes a command on a host that lacks what is named: `lesser-host WHAT[,WHAT] COMMAND...`. What is named are parts of
//! the confinement: `landlock`, `namespaces`, `read-only`. The kernel refuses them to the command, as one without them
//! does.

use std::os::unix::process::CommandExt;
use std::process::Command;

use confine::{Filter, Namespaces};
use rustix::io::FdFlags;

fn main() {
    let mut words = std::env::args_os().skip(1);
    let lacking = words.next().expect("what the host lacks").into_string().expect("a word");
    let lacks = |what| lacking.split(',').any(|word| word == what);
    let landlock =
        [libc::SYS_landlock_create_ruleset, libc::SYS_landlock_add_rule, libc::SYS_landlock_restrict_self];
    let calls: &[_] = if lacks("landlock") { &landlock } else { &[] };
    let namespaces = if lacks("namespaces") { Namespaces::Refused } else { Namespaces::Allowed };
    confine::no_new_privileges().expect("it is always to be had");
    Filter::refusing(calls, namespaces).install().expect("filters are to be had");
    // A process can have one listener, as it has where a container's manager listens. The command inherits it.
    let listener = lacks("read-only").then(|| {
        let listener =
            Filter::refusing(&[], Namespaces::Allowed).install_and_listen().expect("nobody listens yet");
        rustix::io::fcntl_setfd(&listener, FdFlags::empty()).expect("it is open");
        listener
    });
    let error = Command::new(words.next().expect("a command")).args(words).exec();
    drop(listener);
    panic!("cannot execute the command: {error}");
}

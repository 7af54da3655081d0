//! Runs a shell's line as a confined process is run, with 64 MiB of memory and ten threads for it, and tells the control group
//! that it had, what it said, how it ended, and whether that group is still there: `grouped LINE`.

use std::io::Read;
use std::path::Path;

use confine::{Demand, Files, Filter, Launch, Limits, Namespaces, Share};
use serde_json::json;

fn main() {
    let line = std::env::args_os().nth(1).expect("a line");
    let mut files = Files::default();
    for path in ["/usr", "/lib", "/lib64", "/bin"] {
        files.run(path);
    }
    files.read("/proc").read("/sys").change("/dev");
    let launch = Launch {
        program: Path::new("/bin/sh").canonicalize().expect("there is a shell"),
        arguments: vec!["-c".into(), line],
        descriptors: Vec::new(),
        files,
        limits: Limits { descriptors: 64, file_size: 1 << 30, address_space: 64 << 30, threads: 100 },
        share: Some(Share { memory: 64 << 20, threads: 10, processors: 2 }),
        filter: Filter::refusing(&[], Namespaces::Allowed),
        demand: Demand::WhatThereIs,
        left_out: Vec::new(),
    };
    let (mut child, mut stderr, held) = launch.launch().expect("it can be launched");
    let mut said = String::new();
    stderr.read_to_string(&mut said).expect("what it says is text");
    let ended = child.wait().expect("it ends");
    drop(child);
    let left = held.cgroup.as_ref().is_some_and(|group| group.exists());
    let answer = json!({ "group": held.cgroup, "said": said, "ended": ended.to_string(), "left": left });
    rustix::io::write(rustix::stdio::stdout(), answer.to_string().as_bytes()).expect("somebody reads");
}

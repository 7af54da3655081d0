//! What idle machines take of the host's memory: proportional set sizes, as the kernel counts them.

use std::process::{Child, Stdio};
use std::time::Duration;

use serde::Serialize;

use super::sample::Caller;
use crate::args::Global;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, Format};

/// How long an idle machine is left alone before its memory is counted.
const REST: Duration = Duration::from_secs(2);

/// What `perf density --json` prints; a contract. Sizes are in bytes.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Density {
    image: String,
    machines: u32,
    /// The proportional set size of each machine, shared pages divided among those that share them.
    restored_pss_each: u64,
    /// That of one that booted without a template.
    booted_pss: u64,
    ratio: f64,
}

/// A machine whose command waits for input that never comes.
struct Idle(Child);

impl Drop for Idle {
    fn drop(&mut self) {
        // Its machine ends with it.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(super) fn density(global: &Global, caller: &Caller, image: &str, machines: u32) -> Result<Exit, Failure> {
    caller.call(&["template", "warm", image])?;
    let booted = total_pss(caller, &["run", "-i", "--cold", image, "cat"], 1)?;
    let restored = total_pss(caller, &["run", "-i", image, "cat"], machines)? / u64::from(machines.max(1));
    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    let ratio = restored as f64 / booted.max(1) as f64;
    let density =
        Density { image: image.to_owned(), machines, restored_pss_each: restored, booted_pss: booted, ratio };
    match global.format() {
        Format::Json => output::json(&density),
        Format::Text => {
            output::data(&format!("{machines} machines of {image}, each copy of a template idle in `cat`"));
            output::data(&format!("each takes       {}", output::size(restored)));
            output::data(&format!("one that booted  {}", output::size(booted)));
            output::data(&format!("ratio            {ratio:.2}"));
        }
    }
    Ok(Exit::Success)
}

/// The memory of so many machines that run at the same time.
fn total_pss(caller: &Caller, words: &[&str], machines: u32) -> Result<u64, Failure> {
    let system = |error: std::io::Error| Failure::new("system", &error);
    let mut idle = Vec::new();
    for _ in 0..machines {
        let mut command = caller.command(words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        idle.push(Idle(command.spawn().map_err(system)?));
    }
    for Idle(child) in &mut idle {
        wait_for_echo(child).map_err(system)?;
    }
    std::thread::sleep(REST);
    let mut total = 0;
    for Idle(child) in &idle {
        total += machine_of(child.id()).and_then(pss).ok_or_else(|| {
            Failure::usage("cannot tell the memory of a machine: /proc does not show it").exit(Exit::Failed)
        })?;
    }
    Ok(total)
}

/// A command that repeats what it reads runs.
fn wait_for_echo(child: &mut Child) -> std::io::Result<()> {
    use std::io::{Read, Write};
    let input = child.stdin.as_mut().expect("its input is a pipe");
    input.write_all(b"x")?;
    // A run that fails closes its output.
    child.stdout.as_mut().expect("its output is a pipe").read_exact(&mut [0])
}

/// The machine's process: the child of the program that runs it.
fn machine_of(process: u32) -> Option<u32> {
    let children = std::fs::read_dir(format!("/proc/{process}/task")).ok()?.flatten();
    let mut children = children.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    children.find_map(|list| list.split_whitespace().next()?.parse().ok())
}

/// The proportional set size in bytes; `proc_pid_smaps(5)`.
fn pss(process: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
}

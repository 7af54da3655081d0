//! `perf`: what things take on this host, measured as a user gets them: each sample is a call of this program.
//!
//! The called program, and whatever it starts, marks where it is (`home::mark`); the time between two marks is a
//! phase. Phases follow each other without a gap, so they add up to what a sample took.

mod density;
mod report;
mod sample;

use std::path::PathBuf;

use clap::Subcommand;
use home::{Home, Name};
use image::{Platform, Reference, Store};
use workspace::DiskSize;

use crate::args::Global;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::pull::open_home;
#[cfg(test)]
pub(crate) use density::Density;
pub(crate) use report::Report;
use sample::{Caller, Sample};

/// Calls that are made before the clock counts.
const WARM_UPS: u32 = 2;

#[derive(Debug, Subcommand)]
pub(crate) enum PerfVerb {
    /// A whole `run` of `true`, from its call to its end
    #[command(after_help = "Example:
  microagent perf run --image busybox --samples 20")]
    Run {
        #[command(flatten)]
        samples: SampleArgs,
        /// Without a template
        #[arg(long)]
        cold: bool,
    },
    /// A `start` of a halted workspace, until its service runs
    #[command(after_help = "Example:
  microagent perf start --cold")]
    Start {
        #[command(flatten)]
        samples: SampleArgs,
        /// Without a template
        #[arg(long)]
        cold: bool,
    },
    /// An `exec` of `true` in a workspace that runs
    #[command(after_help = "Example:
  microagent perf exec --samples 50")]
    Exec {
        #[command(flatten)]
        samples: SampleArgs,
    },
    /// A copy of a file into a workspace that runs, or out of it
    #[command(after_help = "Example:
  microagent perf copy --size 256m --out")]
    Copy {
        #[command(flatten)]
        samples: SampleArgs,
        /// The file's size
        #[arg(long, value_name = "SIZE", default_value = "64m")]
        size: DiskSize,
        /// Out of the workspace
        #[arg(long)]
        out: bool,
    },
    /// A boot without a template, until the guest's agent answers
    #[command(after_help = "Example:
  microagent perf boot --samples 5")]
    Boot {
        #[command(flatten)]
        samples: SampleArgs,
    },
    /// The memory that idle machines of one image take, shared pages divided among them
    #[command(after_help = "Example:
  microagent perf density --machines 4")]
    Density {
        /// The image, which must be in the store; the first there is if absent
        #[arg(long, value_name = "IMAGE")]
        image: Option<Reference>,
        /// How many machines
        #[arg(long, value_name = "NUMBER", default_value = "10")]
        machines: u32,
    },
}

/// How to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct SampleArgs {
    /// The image, which must be in the store and have `true` and `sleep`; the first there is if absent
    #[arg(long, value_name = "IMAGE")]
    image: Option<Reference>,
    /// How many times
    #[arg(long, value_name = "NUMBER", default_value = "10", value_parser = clap::value_parser!(u32).range(1..))]
    samples: u32,
}

pub(crate) fn perf(global: &Global, verb: &PerfVerb) -> Result<Exit, Failure> {
    let home = open_home(global)?;
    match verb {
        PerfVerb::Run { samples, cold } => run(global, &home, samples, *cold),
        PerfVerb::Start { samples, cold } => start(global, &home, samples, *cold),
        PerfVerb::Exec { samples } => exec(global, &home, samples),
        PerfVerb::Copy { samples, size, out } => copy(global, &home, samples, *size, *out),
        PerfVerb::Boot { samples } => boot(global, &home, samples),
        PerfVerb::Density { image, machines } => {
            let image = find_image(&home, image.as_ref())?;
            density::density(global, &caller(&home)?, &image, *machines)
        }
    }
}

fn run(global: &Global, home: &Home, args: &SampleArgs, cold: bool) -> Result<Exit, Failure> {
    let image = find_image(home, args.image.as_ref())?;
    let caller = caller(home)?;
    let words = if cold { vec!["run", "--cold", &image, "true"] } else { vec!["run", &image, "true"] };
    if !cold {
        caller.call(&["template", "warm", &image])?;
    }
    let phases = ["program", "found", "machine", "agent", "set up", "started", "ended"];
    let samples = measure(args.samples, || caller.sample(&words, &phases, None))?;
    let what = format!("microagent {}", words.join(" "));
    Report::new(&what, "from the call to the end of the program", &samples).print(global);
    Ok(Exit::Success)
}

fn boot(global: &Global, home: &Home, args: &SampleArgs) -> Result<Exit, Failure> {
    let image = find_image(home, args.image.as_ref())?;
    let caller = caller(home)?;
    let words = ["run", "--cold", &image, "true"];
    let phases = ["program", "found", "machine", "agent"];
    let samples = measure(args.samples, || caller.sample(&words, &phases, Some("agent")))?;
    let what = format!("microagent {}", words.join(" "));
    Report::new(&what, "from the call to the answer of the guest's agent", &samples).print(global);
    Ok(Exit::Success)
}

fn start(global: &Global, home: &Home, args: &SampleArgs, cold: bool) -> Result<Exit, Failure> {
    let image = find_image(home, args.image.as_ref())?;
    let caller = caller(home)?;
    if !cold {
        caller.call(&["template", "warm"])?;
    }
    let workspace = Temporary::create(&caller, &image)?;
    let name = workspace.name.as_str();
    let words = if cold { vec!["start", "--cold", name] } else { vec!["start", name] };
    let phases = ["program", "supervisor", "found", "machine", "agent", "set up", "started"];
    let samples = measure(args.samples, || {
        let sample = caller.sample(&words, &phases, None)?;
        caller.call(&["halt", name]).map(|()| sample)
    })?;
    let what = format!("microagent {}", words.join(" "));
    Report::new(&what, "from the call to the end of the program, the service running", &samples)
        .print(global);
    Ok(Exit::Success)
}

fn exec(global: &Global, home: &Home, args: &SampleArgs) -> Result<Exit, Failure> {
    let image = find_image(home, args.image.as_ref())?;
    let caller = caller(home)?;
    let workspace = Temporary::create(&caller, &image)?;
    let name = workspace.name.as_str();
    caller.call(&["start", name])?;
    let words = ["exec", name, "true"];
    let phases = ["program", "agent", "started", "ended"];
    let samples = measure(args.samples, || caller.sample(&words, &phases, None))?;
    let what = format!("microagent {}", words.join(" "));
    Report::new(&what, "from the call to the end of the program", &samples).print(global);
    Ok(Exit::Success)
}

fn copy(global: &Global, home: &Home, args: &SampleArgs, size: DiskSize, out: bool) -> Result<Exit, Failure> {
    let image = find_image(home, args.image.as_ref())?;
    let caller = caller(home)?;
    let system = |error: std::io::Error| Failure::new("system", &error);
    let directory = tempfile::tempdir_in(home.tmp()).map_err(system)?;
    let path = |name: &str| directory.path().join(name).display().to_string();
    // What is all zeros is copied too, unless it is a hole.
    let file = std::fs::File::create(path("file")).map_err(system)?;
    std::io::copy(&mut std::io::Read::take(std::io::repeat(0), size.bytes()), &mut &file).map_err(system)?;
    let workspace = Temporary::create(&caller, &image)?;
    let name = workspace.name.as_str();
    caller.call(&["start", name])?;
    let (here, there) = (path("file"), format!("{name}:/perf-file"));
    caller.call(&["cp", &here, &there])?;
    let target = path("copy");
    let words = if out { ["cp", &there, &target] } else { ["cp", &here, &there] };
    let phases = ["program", "agent", "copied"];
    let samples = measure(args.samples, || caller.sample(&words, &phases, None))?;
    let direction = if out { "out of" } else { "into" };
    let what = format!("microagent cp, {size} {direction} a workspace");
    Report::new(&what, "from the call to the end of the program", &samples).print(global);
    Ok(Exit::Success)
}

/// A workspace that is gone afterwards.
struct Temporary<'a> {
    caller: &'a Caller,
    name: Name,
}

impl<'a> Temporary<'a> {
    fn create(caller: &'a Caller, image: &str) -> Result<Self, Failure> {
        let name: Name = format!("perf-{}", std::process::id()).parse().expect("a number is a name's end");
        let words = ["create", "--name", name.as_str(), "--image", image, "sleep", "1000000"];
        caller.call(&words)?;
        Ok(Self { caller, name })
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        // What is left after a failure here is seen in `list`.
        let _ = self.caller.call(&["delete", "--force", self.name.as_str()]);
    }
}

fn measure(
    samples: u32,
    mut sample: impl FnMut() -> Result<Sample, Failure>,
) -> Result<Vec<Sample>, Failure> {
    for _ in 0..WARM_UPS {
        sample()?;
    }
    (0..samples).map(|_| sample()).collect()
}

fn caller(home: &Home) -> Result<Caller, Failure> {
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe"));
    Caller::new(program, home.root()).map_err(|error| Failure::new("system", &error))
}

fn find_image(home: &Home, wanted: Option<&Reference>) -> Result<String, Failure> {
    let store = Store::open(&home.images()).map_err(|error| Failure::new("image_store", &error))?;
    let absent = |message: String| {
        Failure::usage(message).exit(Exit::Failed).hint(Some("fetch one: microagent pull busybox"))
    };
    if let Some(wanted) = wanted {
        let found = store.find(wanted, &Platform::of_host());
        let found = found.map_err(|error| Failure::new("image_store", &error))?;
        return found
            .map(|_| wanted.full())
            .ok_or_else(|| absent(format!("image `{wanted}` is not in the store")));
    }
    let all = store.list().map_err(|error| Failure::new("image_store", &error))?;
    let first = all.into_iter().find_map(|listed| listed.reference);
    first
        .map(|reference| reference.full())
        .ok_or_else(|| absent("there is no image to measure with".to_owned()))
}

//! `doctor`: what this host can do for machines, found out by doing each thing once.

mod checks;

use engine::{Accelerator, NetworkDevice, Requested};
use home::{Home, Place};
use kernel::Kernels;
use serde::Serialize;

use crate::args::Global;
use crate::confinement::try_confined;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, Format, Mark};
use crate::pull::runtime;

/// Check this host
///
/// Each thing that machines need is done once, and nothing is changed. The exit code is 0 if microagent can be used here.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  microagent doctor
  microagent --json doctor | jq '.checks[] | select(.verdict != \"ok\")'")]
pub(crate) struct DoctorArgs {}

/// What `doctor --json` prints; a contract.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Report {
    usable: bool,
    checks: Vec<Check>,
}

/// One thing that was tried.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Check {
    name: &'static str,
    verdict: Verdict,
    found: String,
    remedy: Option<String>,
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) enum Verdict {
    /// All is well.
    Ok,
    /// It works, and could be better.
    Warning,
    /// Nothing works without it.
    Failure,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Ok, found: found.into(), remedy: None }
    }

    fn warning(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Warning, found: found.into(), remedy: Some(remedy.into()) }
    }

    fn failure(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Failure, found: found.into(), remedy: Some(remedy.into()) }
    }
}

pub(crate) fn doctor(global: &Global) -> Result<Exit, Failure> {
    let mut checks = of_host()?;
    checks.extend(of_home(global)?);
    let usable = checks.iter().all(|check| check.verdict != Verdict::Failure);
    let report = Report { usable, checks };
    match global.format() {
        Format::Json => output::json(&report),
        Format::Text => show(&report),
    }
    Ok(if usable { Exit::Success } else { Exit::Failed })
}

/// What does not depend on where state is kept.
fn of_host() -> Result<Vec<Check>, Failure> {
    let acceleration = Requested::Auto.choose().map_err(|error| Failure::new("system", &error))?;
    let version = engine::version();
    let starts = |accelerator| {
        let network = NetworkDevice::Ethernet { mtu: network::MTU };
        Ok::<_, Failure>(runtime()?.block_on(engine::try_launch(accelerator, network)))
    };
    let with_kvm = match (acceleration.accelerator, &version) {
        (Accelerator::Kvm, Ok(_)) => Some(starts(Accelerator::Kvm)?),
        _ => None,
    };
    let launched = match &version {
        Ok(_) => Some(starts(Accelerator::Tcg)?),
        Err(_) => None,
    };
    let euid = rustix::process::geteuid();
    Ok(vec![
        checks::acceleration(acceleration.problem.as_ref(), with_kvm.as_ref()),
        checks::qemu(&version, launched.as_ref()),
        checks::memory(workspace::available_memory()),
        checks::confinement(&try_confined(Vec::new(), Vec::new())),
        checks::network(workspace::try_port(), workspace::name_servers()),
        checks::user(euid.is_root()),
    ])
}

/// What is kept, and where.
fn of_home(global: &Global) -> Result<Vec<Check>, Failure> {
    let home = match Home::open(global.home.as_deref()) {
        Ok(home) => home,
        Err(error) => return Ok(vec![checks::no_directory(&error)]),
    };
    let kernels = Kernels::open(&home);
    let socket = runtime()?.block_on(workspace::try_socket(&home));
    Ok(vec![
        checks::directory(&home, Place::of(&home), home::try_files(&home)),
        checks::disks(workspace::try_disk(&home)),
        checks::sockets(socket),
        checks::kernel(kernels.default()),
    ])
}

fn show(report: &Report) {
    let width = report.checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    for check in &report.checks {
        let mark = match check.verdict {
            Verdict::Ok => Mark::Good,
            Verdict::Warning => Mark::Doubtful,
            Verdict::Failure => Mark::Bad,
        };
        output::data(&format!("{} {:<width$}  {}", output::mark(mark), check.name, check.found));
        if let Some(remedy) = &check.remedy {
            output::data(&format!("  {:width$}  {remedy}", ""));
        }
    }
    let worst =
        if report.usable { "microagent can be used here" } else { "microagent cannot be used here yet" };
    output::talk(worst);
}

//! `template list`, `warm`, `delete` and `prune`.

use std::ffi::CStr;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use engine::Demand;
use home::Home;
use image::{Platform, Reference, Store};
use serde::Serialize;
use template::{Budget, Listed, TemplateError, Templates};
use workspace::{DiskSlots, MachineSettings, SpareLimits, WarmRequest, Warmed};

use crate::args::{Global, TemplateVerb, WarmArgs};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::progress::Steps;
use crate::pull::{open_home, runtime};
use crate::run::machine_settings;

/// An entry of `template list --json`; a contract.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ListedTemplate {
    key: String,
    /// Empty for one that fits workspaces of any image.
    image: String,
    #[cfg_attr(test, schemars(with = "String"))]
    created_at: jiff::Timestamp,
    #[cfg_attr(test, schemars(with = "String"))]
    used_at: jiff::Timestamp,
    size: u64,
}

/// What `template warm --json` prints; a contract.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct WarmedTemplate {
    key: String,
    made: bool,
}

pub(crate) fn template(global: &Global, verb: TemplateVerb) -> Result<Exit, Failure> {
    let home = open_home(global)?;
    let templates = Templates::open(&home);
    match verb {
        TemplateVerb::List => list(global, &templates),
        TemplateVerb::Warm(args) => warm(global, &home, &args),
        TemplateVerb::Spare(args) => spare(global, &home, &args),
        TemplateVerb::Delete { keys } => {
            let mut exit = Exit::Success;
            for key in keys {
                if let Err(error) = templates.delete(&key) {
                    exit = crate::failure::print(&failure(&error), global.format());
                }
            }
            Ok(exit)
        }
        TemplateVerb::Prune { all } => {
            let budget = if all { Budget::Off } else { global.templates };
            let deleted = templates.trim(budget).map_err(|error| failure(&error))?;
            show(global, &deleted);
            Ok(Exit::Success)
        }
    }
}

fn failure(error: &TemplateError) -> Failure {
    let failure = Failure::new("template", error);
    match error {
        TemplateError::Unknown(_) => failure.hint(Some("see those there are: microagent template list")),
        _ => failure,
    }
}

fn list(global: &Global, templates: &Templates) -> Result<Exit, Failure> {
    let all = templates.list().map_err(|error| failure(&error))?;
    show(global, &all);
    Ok(Exit::Success)
}

fn show(global: &Global, templates: &[Listed]) {
    let entry = |listed: &Listed| ListedTemplate {
        key: listed.key.to_string(),
        image: listed.image.clone(),
        created_at: listed.created_at,
        used_at: listed.used_at,
        size: listed.allocated,
    };
    if global.format() == Format::Json {
        return output::json(&templates.iter().map(entry).collect::<Vec<_>>());
    }
    let row = |listed: &Listed| {
        let used = format!("{:.0}", listed.used_at);
        let image = if listed.image.is_empty() { "any".to_owned() } else { listed.image.clone() };
        [listed.key.to_string(), image, used, output::size(listed.allocated)]
    };
    output::table(["KEY", "IMAGE", "USED", "SIZE"], &templates.iter().map(row).collect::<Vec<_>>());
}

fn warm(global: &Global, home: &Home, args: &WarmArgs) -> Result<Exit, Failure> {
    if args.detached {
        leave_terminal(c"template-maker");
        // The machine that is saved is another than this one: how it was scheduled is not part of it.
        let _ = rustix::process::nice(10);
    }
    let mut steps = Steps::new(global);
    steps.activity("making a template");
    let runtime = runtime()?;
    let warmed = if args.image.is_some() {
        runtime.block_on(workspace::warm(home, &warm_request(global, home, args)?))
    } else {
        runtime.block_on(workspace::warm_machine(
            home,
            &machine_settings(global, &args.machine),
            global.templates,
        ))
    };
    steps.done();
    let (key, made) = match warmed.map_err(|error| Failure::new("template", &error))? {
        Warmed::Made(key) => (key.to_string(), true),
        Warmed::AlreadyThere(key) => (key.to_string(), false),
    };
    match global.format() {
        Format::Json => output::json(&WarmedTemplate { key, made }),
        Format::Text => output::data(&key),
    }
    Ok(Exit::Success)
}

fn warm_request(global: &Global, home: &Home, args: &WarmArgs) -> Result<WarmRequest, Failure> {
    let store = Store::open(&home.images()).map_err(|error| Failure::new("image_store", &error))?;
    let platform = args.platform.clone().unwrap_or_else(Platform::of_host);
    let name = args.image.as_ref().ok_or_else(|| Failure::usage("no image is named"))?;
    let found =
        store.find_by_name_or_id(name, &platform).map_err(|error| Failure::new("image_store", &error))?;
    let image = found.ok_or_else(|| {
        Failure::usage(format!("image `{name}` is not in the store"))
            .exit(Exit::Failed)
            .hint(Some(format!("fetch it: microagent pull {name}")))
    })?;
    Ok(WarmRequest { image, machine: machine_settings(global, &args.machine), budget: global.templates })
}

fn spare(global: &Global, home: &Home, args: &WarmArgs) -> Result<Exit, Failure> {
    if args.detached {
        leave_terminal(c"spare-keeper");
    }
    let request = warm_request(global, home, args)?;
    let limits = SpareLimits { number: global.spares, lifetime: global.spare_time };
    let claimed = || prepare_next(global, home, "spare", args.image.as_ref(), &request.machine);
    let kept = runtime()?.block_on(workspace::keep_spare(home, &request, limits, claimed));
    kept.map_err(|error| Failure::new("spare", &error))?;
    Ok(Exit::Success)
}

/// Hanging up the terminal that started it is not for it to notice. `name` is what lists of processes show.
fn leave_terminal(name: &CStr) {
    // Where these fail, it only ends earlier, or under its program's name.
    let _ = rustix::process::setsid();
    let _ = rustix::thread::set_name(name);
}

/// A machine's settings as the flags that say them.
fn machine_words(machine: &MachineSettings) -> Vec<String> {
    let mut words = Vec::new();
    let mut add = |flag: &str, value: String| words.extend([flag.to_owned(), value]);
    add("--memory", machine.memory.to_string());
    add("--cpus", machine.cpus.to_string());
    add("--disk-size", machine.disk_size.to_string());
    if machine.slots != DiskSlots::default() {
        add("--disk-slots", machine.slots.to_string());
    }
    add("--accel", machine.acceleration.to_string());
    add("--network", machine.network.to_string());
    if let Some(kernel) = &machine.kernel {
        add("--kernel", kernel.as_str().to_owned());
    }
    words
}

/// Has another process make a template, or keep a spare, for the next run like this one. Nobody waits for it.
pub(crate) fn prepare_next(
    global: &Global,
    home: &Home,
    what: &str,
    image: Option<&Reference>,
    machine: &MachineSettings,
) {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("microagent");
    command.arg("--home").arg(home.root()).args(["template", what, "--detached"]);
    command.arg("--templates").arg(global.templates.to_string());
    command.arg("--spares").arg(global.spares.to_string());
    command.arg("--spare-time").arg(global.spare_time.as_secs_f64().to_string());
    command.args(machine_words(machine));
    if global.require_confinement || machine.confinement == Demand::Whole {
        command.arg("--require-confinement");
    }
    command.args(image.map(Reference::full));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Err(error) = command.spawn() {
        tracing::warn!(%error, "failed to prepare the next run");
    }
}

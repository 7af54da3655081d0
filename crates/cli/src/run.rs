//! `run`: one command in a new microVM.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use home::Home;
use image::{Image, Platform, Reference, Store};
use proto::{ExitStatus, SpawnFailureKind};
use template::Budget;
use workspace::{
    Afterwards, Artifact, Copied, CopyError, DiskSlots, Finished, Input, KeptWorkspace, MachineSettings,
    Network, NetworkLogEntry, Overrides, Ran, RestartPolicy, RunError, RunRequest, Spares, StartKind, Step,
    Streams, TemplateUse, WorkspaceSpec,
};

use crate::args::{Global, MachineArgs, NetworkChoice, PullPolicy, RunArgs, ServiceArgs};
use crate::artifacts::unfetched;
use crate::cp::tell_left_out;
use crate::create::{demanding, networks_exist, reachable, run_spec, with_machine};
use crate::exit::Exit;
use crate::failure::{self, Failure};
use crate::progress::Steps;
use crate::pull::{fetch, open_home, runtime};
use crate::standard_streams::Standard;
use crate::start::StartMode;
use crate::terminal::{self, RawMode};
use crate::{output, signals, template_verbs};

pub(crate) fn run(global: &Global, args: RunArgs) -> Result<Exit, Failure> {
    run_inner(global, args).map_err(|failure| failure.exit(Exit::RunFailed))
}

fn run_inner(global: &Global, args: RunArgs) -> Result<Exit, Failure> {
    if args.detach {
        return run_detached(global, args);
    }
    if args.tty && args.interactive && !terminal::is_input() {
        return Err(Failure::usage("cannot give the command a terminal: standard input is none")
            .hint(Some("leave out -t to pass on standard input as it is")));
    }
    refuse_what_needs_a_service(&args)?;
    let keep = args.keep;
    let slots = DiskSlots::for_disks(args.workspace.volume.len());
    let machine = MachineSettings { slots, ..machine_settings(global, &args.machine) };
    let image_name = args.image.clone();
    let home = open_home(global)?;
    let image = find_image(global, &home, &args.image, args.platform.as_ref(), args.pull)?;
    let request = request(global, &home, args, image, machine.clone())?;
    let name = request.name.clone();
    let has_rules = request.network.policy.is_set();
    let raw = request.terminal.is_some() && request.interactive;
    let streams = streams(&request).map_err(|error| Failure::new("system", &error))?;

    let mut steps = Steps::new(global);
    let prepared = workspace::prepare(&home, request, &mut |step| show(&mut steps, &step))
        .map_err(|error| run_failure(&error))?;
    let template_use = prepared.template_use();
    // What is shown while it goes on has a thread.
    steps.done();
    prepared.confine(&home);
    let mut raw_mode = None;
    let finished = runtime()?.block_on(async {
        let controls = signals::watch().map_err(|error| Failure::new("system", &error))?;
        let mut stalled = false;
        let mut observe = |step| match step {
            Step::Stalled(stall) if !std::mem::replace(&mut stalled, true) => {
                // On a raw terminal a line does not end by itself.
                let end = if raw_mode.is_some() { "\r" } else { "" };
                output::talk(&format!(
                    "microagent: the machine stands still, since {stall}; it goes on by itself{end}"
                ));
            }
            Step::Running if raw => {
                steps.done();
                raw_mode = RawMode::enter().ok();
            }
            step => show(&mut steps, &step),
        };
        prepared.run(streams, controls, &mut observe).await.map_err(|error| run_failure(&error))
    });
    drop(raw_mode);
    steps.done();
    let (finished, outputs) = match finished {
        Ok(Ran { finished, outputs, refused }) => {
            // Without rules, what is refused is no surprise.
            tell_refused(if has_rules { &refused } else { &[] });
            (Ok(finished), outputs)
        }
        Err(failure) => (Err(failure), Vec::new()),
    };
    let next = |what| template_verbs::prepare_next(global, &home, what, Some(&image_name), &machine);
    match template_use {
        // What was interrupted leaves nothing behind, not even for its own good.
        _ if !matches!(finished, Ok(Finished::Exited(_))) => {}
        TemplateUse::Wanted => next("warm"),
        TemplateUse::Restored if global.spares > 0 => next("spare"),
        TemplateUse::Restored | TemplateUse::None => {}
    }
    if keep {
        output::talk(&format!("kept workspace {name}"));
    }
    let exit = exit(&finished?);
    Ok(after_outputs(global, exit, &outputs))
}

/// Says what the guest did not reach: a command that fails for that often does not say so.
fn tell_refused(refused: &[NetworkLogEntry]) {
    let mut told: Vec<(String, network::Refusal)> = Vec::new();
    for entry in refused {
        let refusal = entry.reason.map(|reason| (entry.target(), reason));
        told.extend(refusal.filter(|refusal| !told.contains(refusal)));
    }
    for (target, reason) in &told {
        output::talk(&output::printable(&format!("microagent: not reached: {target}, since {reason}")));
    }
}

/// Says what became of the outputs. The command's own code stays, unless it says that all is well.
fn after_outputs(global: &Global, exit: Exit, outputs: &[(Artifact, Result<Copied, CopyError>)]) -> Exit {
    let mut after = exit;
    for (artifact, outcome) in outputs {
        let failed = match outcome {
            Ok(Copied::All(report)) => {
                tell_left_out(report);
                continue;
            }
            Ok(Copied::Interrupted(signal)) => Exit::Signaled(*signal),
            Err(error) => failure::print(&unfetched(artifact, error), global.format()),
        };
        if after == Exit::Guest(ExitStatus::Code(0)) {
            after = failed;
        }
    }
    after
}

/// `run -d`: a workspace whose service is the command.
fn run_detached(global: &Global, args: RunArgs) -> Result<Exit, Failure> {
    let name = args.name.unwrap_or_else(workspace::random_name);
    let streams = (args.interactive, args.tty);
    let spec = run_spec(&args.image, &args.command, streams, &args.workspace, &args.service, &args.machine)?;
    let home = open_home(global)?;
    let image = find_image(global, &home, &args.image, args.platform.as_ref(), args.pull)?;
    crate::create::make(global, &home, &name, spec, &image)?;
    let mode = StartMode { cold: args.cold, confined: global.require_confinement };
    let started = crate::start::start_one(global, &home, &name, mode, None);
    started.map_err(|failure| {
        failure.or_hint(|| format!("the workspace stays as it is; delete it: microagent delete --yes {name}"))
    })?;
    crate::create::print(global, &name);
    Ok(Exit::Success)
}

/// A one-shot run has no supervisor that could start it again or look after it.
fn refuse_what_needs_a_service(args: &RunArgs) -> Result<(), Failure> {
    let workspace = &args.workspace;
    let flag = if workspace.restart.is_some_and(|policy| policy != RestartPolicy::No) {
        "--restart"
    } else if workspace.service_command.is_some() {
        "--service-command"
    } else if workspace.health_cmd.is_some() {
        "--health-cmd"
    } else {
        return Ok(());
    };
    Err(Failure::usage(format!("{flag} is for a service, and this command runs once"))
        .hint(Some(format!("leave it running: microagent run -d {flag} ..."))))
}

/// The image that was named, from the store or from its registry.
pub(crate) fn find_image(
    global: &Global,
    home: &Home,
    name: &Reference,
    platform: Option<&Platform>,
    pull: PullPolicy,
) -> Result<Image, Failure> {
    let store = Store::open(&home.images()).map_err(|error| Failure::new("image_store", &error))?;
    let platform = platform.cloned().unwrap_or_else(Platform::of_host);
    if pull == PullPolicy::Always {
        return fetch(global, home, name, &platform);
    }
    let found =
        store.find_by_name_or_id(name, &platform).map_err(|error| Failure::new("image_store", &error))?;
    match (found, pull) {
        (Some(image), _) => Ok(image),
        (None, PullPolicy::Never) => {
            let message = format!("image `{name}` is not in the store, and --pull never was given");
            Err(Failure::new("image_not_found", &Absent(message))
                .hint(Some(format!("fetch it: microagent pull {name}"))))
        }
        (None, _) => fetch(global, home, name, &platform),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Absent(String);

fn request(
    global: &Global,
    home: &Home,
    args: RunArgs,
    image: Image,
    machine: MachineSettings,
) -> Result<RunRequest, Failure> {
    let spec = reachable(with_machine(WorkspaceSpec::default(), &args.machine)?)?;
    networks_exist(home, &spec.networks)?;
    let afterwards = afterwards(global, home, &args, &image)?;
    let environment = environment(&args.service)?;
    let terminal = args.tty.then(terminal::size);
    let service = args.service;
    Ok(RunRequest {
        image,
        command: Overrides {
            command: args.command,
            entrypoint: service.entrypoint,
            environment,
            directory: service.workdir,
            user: service.user,
        },
        machine,
        network: spec.network_settings(),
        resolver: spec.resolver(),
        publish: spec.publish,
        networks: spec.networks,
        pcap: spec.pcap,
        name: args.name.unwrap_or_else(workspace::random_name),
        hostname: args.workspace.hostname,
        terminal,
        interactive: args.interactive,
        afterwards,
        spares: if global.spares > 0 { Spares::Use } else { Spares::Ignore },
        templates: if args.cold { Budget::Off } else { global.templates },
        timeout: args.timeout,
        stop_signal: service.stop_signal,
        outputs: args.workspace.output,
        volumes: args.workspace.volume,
        tmpfs: args.workspace.tmpfs,
        read_only: args.workspace.read_only,
        grace: service.stop_timeout.unwrap_or(WorkspaceSpec::default().stop_timeout),
    })
}

/// What becomes of the run's workspace: one that is kept can be started later, with the run's command.
fn afterwards(global: &Global, home: &Home, args: &RunArgs, image: &Image) -> Result<Afterwards, Failure> {
    if !args.keep {
        return Ok(Afterwards::Remove);
    }
    let streams = (args.interactive, args.tty);
    let spec = run_spec(&args.image, &args.command, streams, &args.workspace, &args.service, &args.machine)?;
    let spec = demanding(global, spec);
    let store = Store::open(&home.images()).map_err(|error| Failure::new("image_store", &error))?;
    let kept = KeptWorkspace::new(spec, image, &store).map_err(|error| Failure::new("usage", &error))?;
    Ok(Afterwards::Keep(Box::new(kept)))
}

/// The machine that was asked for.
pub(crate) fn machine_settings(global: &Global, args: &MachineArgs) -> MachineSettings {
    let default = WorkspaceSpec::default().machine();
    MachineSettings {
        acceleration: args.accel.unwrap_or(default.acceleration),
        cpus: args.cpus.unwrap_or(default.cpus),
        memory: args.memory.unwrap_or(default.memory),
        kernel: args.kernel.clone(),
        // A named network needs a card, as one that leads out does.
        network: if args.network.contains(&NetworkChoice::Isolated) {
            Network::Isolated
        } else {
            Network::User
        },
        disk_size: args.disk_size.unwrap_or(default.disk_size),
        slots: args.disk_slots.unwrap_or(default.slots),
        confinement: global.confinement(),
    }
}

fn streams(request: &RunRequest) -> std::io::Result<Streams> {
    let input = if request.interactive { Input::Stream(Box::new(Standard::input()?)) } else { Input::None };
    Ok(Streams { input, stdout: Box::new(Standard::output()?), stderr: Box::new(Standard::error()?) })
}

/// `--env-file` first, then `-e`, so that what is nearer wins.
pub(crate) fn environment(args: &ServiceArgs) -> Result<Vec<OsString>, Failure> {
    let mut entries = Vec::new();
    for path in &args.env_file {
        let text = std::fs::read(path).map_err(|error| {
            Failure::usage(format!("cannot read the environment file `{}`: {error}", path.display()))
        })?;
        let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_start);
        let lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let settings = lines.filter(|line| !line.is_empty() && !line.starts_with(b"#"));
        entries.extend(settings.filter_map(|line| with_value(OsStr::from_bytes(line))));
    }
    entries.extend(args.env.iter().filter_map(|entry| with_value(entry)));
    match entries.iter().find(|entry| entry.as_bytes().starts_with(b"=")) {
        Some(entry) => {
            Err(Failure::usage(format!("the environment variable `{}` has no name", entry.display())))
        }
        None => Ok(entries),
    }
}

/// A name without a value takes this process's, if it has one.
fn with_value(entry: &OsStr) -> Option<OsString> {
    if entry.as_bytes().contains(&b'=') {
        return Some(entry.to_owned());
    }
    let mut with_value = entry.as_bytes().to_vec();
    with_value.push(b'=');
    with_value.extend(std::env::var_os(entry)?.into_vec());
    Some(OsString::from_vec(with_value))
}

pub(crate) fn show(steps: &mut Steps, step: &Step) {
    match *step {
        Step::Converting { bytes, total } => steps.bytes("preparing the image", bytes, total),
        Step::Starting(StartKind::Restore) | Step::Stalled(_) | Step::WentOn => {}
        Step::Starting(StartKind::Boot) => steps.activity("booting"),
        Step::Running => steps.done(),
    }
}

fn run_failure(error: &RunError) -> Failure {
    let kind = match error {
        RunError::Command(_) | RunError::NameTaken(_) | RunError::Mounts(_) => "usage",
        RunError::Attach(_) => "volume",
        RunError::Root { .. } => "image_unusable",
        RunError::Boot(workspace::BootError::NoKernel) => "no_kernel",
        RunError::Boot(error) if error.is_unconfined() => "confinement",
        RunError::Boot(_) => "boot_failed",
        RunError::Publish(_) => "port_taken",
        RunError::Capture(_) => "capture",
        RunError::Join(_) => "network",
        RunError::MachineEnded(_) => "machine_ended",
        _ => "run_failed",
    };
    Failure::new(kind, error).hint(error.hint())
}

/// How this program ends after `finished`, which is told where it is not the command's own doing.
pub(crate) fn exit(finished: &Finished) -> Exit {
    match finished {
        Finished::TimedOut => {
            output::talk("microagent: the command took longer than its --timeout and was ended");
        }
        Finished::NotStarted(failure) => {
            output::talk(&format!("microagent: cannot start {}", failure.reason));
        }
        Finished::Exited(_) | Finished::Interrupted(_) | Finished::Detached => {}
    }
    exit_code(finished)
}

/// The same without a word.
pub(crate) fn exit_code(finished: &Finished) -> Exit {
    match finished {
        Finished::Exited(status) => Exit::Guest(*status),
        Finished::TimedOut => Exit::TimedOut,
        Finished::Interrupted(signal) => Exit::Signaled(*signal),
        Finished::Detached => Exit::Success,
        Finished::NotStarted(failure) => match failure.kind {
            SpawnFailureKind::NotFound => Exit::NotFound,
            SpawnFailureKind::NotExecutable => Exit::NotInvocable,
            SpawnFailureKind::Setup => Exit::RunFailed,
        },
    }
}

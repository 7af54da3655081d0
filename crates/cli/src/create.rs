//! `create`: a workspace is made, and nothing is started.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use home::{Home, Name};
use image::{Image, Platform, Reference, Store};
use network::{HostAccess, NamedNetwork, Resolver};
use serde::Serialize;
use workspace::{CreateError, HealthSpec, Step, WorkspaceSpec};

use crate::args::{Global, MachineArgs, NetworkChoice, PullPolicy, ServiceArgs, WorkspaceArgs};
use crate::completion::images;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::network_verb::named::unusable_network;
use crate::output::{self, Format};
use crate::progress::Steps;
use crate::pull::open_home;
use crate::run::{environment, find_image, show};

/// Make a workspace, and start nothing
///
/// A workspace is an image, settings, and a disk that keeps what the guest writes, from one start to the next.
/// Its service is the command, or the image's own.
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    after_help = "Examples:
  microagent create --name web --image nginx
  microagent create --name box --image debian:12 sleep infinity
  microagent create --name db --image postgres -p 127.0.0.1:5432:5432
  microagent create --image debian:12 --service-command 'while :; do date; sleep 1; done'"
)]
pub(crate) struct CreateArgs {
    /// The image, as Docker names it
    #[arg(long, value_name = "IMAGE", required_unless_present = "file", add = images())]
    image: Option<Reference>,
    /// The service's command and its arguments; the image's own if absent
    // A first word with a hyphen needs `--`: else `-v=data:/data` and `-p80:80` would be the command.
    #[arg(value_name = "COMMAND", trailing_var_arg = true)]
    command: Vec<OsString>,
    /// The workspace's name; one is made up if absent
    #[arg(long, help_heading = "Workspace")]
    name: Option<Name>,
    /// Take the settings from a file; flags change them
    #[arg(short, long, value_name = "WORKSPACE.YAML", help_heading = "Workspace")]
    file: Option<PathBuf>,
    #[command(flatten)]
    workspace: WorkspaceArgs,
    #[command(flatten)]
    service: ServiceArgs,
    /// Keep the service's input open
    #[arg(short, long, help_heading = "Streams")]
    interactive: bool,
    /// Give the service a terminal
    #[arg(short, long, help_heading = "Streams")]
    tty: bool,
    #[command(flatten)]
    machine: MachineArgs,
    /// When to fetch the image
    #[arg(long, value_enum, default_value_t, help_heading = "Image")]
    pull: PullPolicy,
    /// The platform to choose from a multi-platform image
    #[arg(long, value_name = "OS/ARCH", help_heading = "Image")]
    platform: Option<Platform>,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help, help_heading = "Global options")]
    help: Option<bool>,
}

/// What `create --json` prints; a contract.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Created<'a> {
    #[cfg_attr(test, schemars(with = "String"))]
    name: &'a Name,
}

pub(crate) fn create(global: &Global, args: &CreateArgs) -> Result<Exit, Failure> {
    let name = args.name.clone().unwrap_or_else(workspace::random_name);
    let spec = spec(args)?;
    let home = open_home(global)?;
    let reference: Reference = spec.image.parse().map_err(|error: image::InvalidReference| {
        Failure::usage(format!("cannot use image `{}`: {error}", spec.image))
    })?;
    let image = find_image(global, &home, &reference, args.platform.as_ref(), args.pull)?;
    make(global, &home, &name, spec, &image)?;
    print(global, &name);
    Ok(Exit::Success)
}

/// Makes the workspace, with its progress.
pub(crate) fn make(
    global: &Global,
    home: &Home,
    name: &Name,
    spec: WorkspaceSpec,
    image: &Image,
) -> Result<(), Failure> {
    networks_exist(home, &spec.networks)?;
    let spec = demanding(global, spec);
    let store = Store::open(&home.images()).map_err(|error| Failure::new("image_store", &error))?;
    let mut steps = Steps::new(global);
    let observe = &mut |step: Step| show(&mut steps, &step);
    let made = workspace::create(home, name, spec, image, &store, observe);
    steps.done();
    made.map_err(|error| failure(&error))
}

/// What is demanded of this command is demanded of each start of what it makes.
pub(crate) fn demanding(global: &Global, spec: WorkspaceSpec) -> WorkspaceSpec {
    WorkspaceSpec { require_confinement: spec.require_confinement || global.require_confinement, ..spec }
}

/// Prints the name of a new workspace.
pub(crate) fn print(global: &Global, name: &Name) {
    match global.format() {
        Format::Json => output::json(&Created { name }),
        Format::Text => output::data(name.as_str()),
    }
}

fn failure(error: &CreateError) -> Failure {
    let kind = match error {
        CreateError::Service(_) | CreateError::Mounts(_) => "usage",
        CreateError::Attach(_) => "volume",
        CreateError::Root { .. } => "image_unusable",
        CreateError::Keep(workspace::KeepError::Exists(_)) => "name_taken",
        CreateError::Keep(_) => "workspace",
    };
    Failure::new(kind, error).hint(error.hint())
}

/// The file's settings, and what was typed over them.
fn spec(args: &CreateArgs) -> Result<WorkspaceSpec, Failure> {
    let spec = match &args.file {
        Some(path) => read_spec(path)?,
        None => WorkspaceSpec::default(),
    };
    let spec = WorkspaceSpec {
        image: args.image.as_ref().map_or(spec.image.clone(), Reference::to_string),
        command: if args.command.is_empty() { spec.command.clone() } else { texts(&args.command)? },
        tty: args.tty || spec.tty,
        interactive: args.interactive || spec.interactive,
        ..spec
    };
    if spec.image.is_empty() {
        return Err(Failure::usage("no image is named").hint(Some("name one: --image IMAGE")));
    }
    let spec = with_service(with_workspace(spec, &args.workspace)?, &args.service)?;
    reachable(with_machine(spec, &args.machine)?)
}

/// What has no network to work on makes no sense.
pub(crate) fn reachable(spec: WorkspaceSpec) -> Result<WorkspaceSpec, Failure> {
    let leads_out = spec.network == workspace::Network::User;
    let resolver = spec.asked_resolver();
    resolver.check().map_err(|error| {
        Failure::usage(error.to_string()).hint(Some("give fewer of --dns-search and --dns-option"))
    })?;
    let what = match () {
        () if !spec.has_network() && !spec.publish.is_empty() => ("publish ports", "--publish"),
        () if !spec.has_network() && spec.pcap.is_some() => ("capture packets", "--pcap"),
        () if !spec.has_network() && resolver != Resolver::default() => {
            ("add domains to names", "--dns-search and --dns-option")
        }
        () if !leads_out && spec.egress_policy().is_set() => {
            ("tell what may be reached", "--egress, --allow and --deny")
        }
        () if !leads_out && spec.host_access == HostAccess::Allowed => ("reach this host", "--allow-host"),
        () => return Ok(spec),
    };
    let (what, flags) = what;
    if spec.has_network() {
        return Err(Failure::usage(format!("cannot {what}: the networks that it is on lead nowhere else"))
            .hint(Some(format!("leave out {flags}, or add --network user"))));
    }
    Err(Failure::usage(format!("cannot {what}: --network isolated leaves the network out"))
        .hint(Some(format!("leave out {flags}, or --network isolated"))))
}

/// Networks that are not there are told before anything is made.
pub(crate) fn networks_exist(home: &Home, networks: &[Name]) -> Result<(), Failure> {
    networks.iter().try_for_each(|name| {
        NamedNetwork::find(home, name).map(drop).map_err(|error| unusable_network(&error))
    })
}

fn read_spec(path: &Path) -> Result<WorkspaceSpec, Failure> {
    let refused = |error: &dyn std::fmt::Display| {
        Failure::usage(format!("cannot use `{}`: {error}", path.display()))
            .hint(Some("see the settings of a workspace: microagent status --spec NAME"))
    };
    let text = std::fs::read_to_string(path).map_err(|error| refused(&error))?;
    serde_yaml_ng::from_str(&text).map_err(|error| refused(&error))
}

/// What a foreground run's workspace is made of, and what `run -d` makes.
pub(crate) fn run_spec(
    image: &Reference,
    command: &[OsString],
    streams: (bool, bool),
    workspace: &WorkspaceArgs,
    service: &ServiceArgs,
    machine: &MachineArgs,
) -> Result<WorkspaceSpec, Failure> {
    let (interactive, tty) = streams;
    let spec = WorkspaceSpec {
        image: image.to_string(),
        command: texts(command)?,
        interactive,
        tty,
        ..WorkspaceSpec::default()
    };
    reachable(with_machine(with_service(with_workspace(spec, workspace)?, service)?, machine)?)
}

fn with_workspace(mut spec: WorkspaceSpec, args: &WorkspaceArgs) -> Result<WorkspaceSpec, Failure> {
    for label in &args.label {
        let (name, value) = label.split_once('=').unwrap_or((label, ""));
        if name.is_empty() {
            return Err(Failure::usage(format!("the label `{label}` has no name")));
        }
        spec.labels.insert(name.to_owned(), value.to_owned());
    }
    let health = HealthSpec {
        command: args.health_cmd.clone(),
        disable: args.no_healthcheck,
        interval: args.health_interval,
        timeout: args.health_timeout,
        start_period: args.health_start_period,
        retries: args.health_retries,
    };
    if health != HealthSpec::default() {
        let before = spec.health.take().unwrap_or_default();
        spec.health = Some(HealthSpec {
            command: health.command.or(before.command),
            disable: health.disable || before.disable,
            interval: health.interval.or(before.interval),
            timeout: health.timeout.or(before.timeout),
            start_period: health.start_period.or(before.start_period),
            retries: health.retries.or(before.retries),
        });
    }
    for output in &args.output {
        // What is typed replaces a file's of the same name.
        spec.outputs.retain(|other| other.name != output.name);
        spec.outputs.push(output.clone());
    }
    for mount in &args.volume {
        let mount = mount.clone().absolute().map_err(|error| Failure::new("system", &error))?;
        // What is typed replaces a file's at the same path.
        spec.volumes.retain(|other| other.place != mount.place);
        spec.volumes.push(mount);
    }
    for tmpfs in &args.tmpfs {
        spec.tmpfs.push(tmpfs.clone());
    }
    Ok(WorkspaceSpec {
        read_only: args.read_only || spec.read_only,
        hostname: args.hostname.clone().or(spec.hostname),
        restart: args.restart.unwrap_or(spec.restart),
        service_command: args.service_command.clone().or(spec.service_command),
        ..spec
    })
}

fn with_service(mut spec: WorkspaceSpec, args: &ServiceArgs) -> Result<WorkspaceSpec, Failure> {
    spec.env.extend(texts(&environment(args)?)?);
    let text = |word: &Option<OsString>| word.as_ref().map(text).transpose();
    Ok(WorkspaceSpec {
        workdir: text(&args.workdir)?.or(spec.workdir),
        entrypoint: text(&args.entrypoint)?.or(spec.entrypoint),
        user: args.user.clone().or(spec.user),
        stop_signal: args.stop_signal.or(spec.stop_signal),
        stop_timeout: args.stop_timeout.unwrap_or(spec.stop_timeout),
        ..spec
    })
}

/// Only what was typed: a flag's default does not change a file's setting.
pub(crate) fn with_machine(spec: WorkspaceSpec, args: &MachineArgs) -> Result<WorkspaceSpec, Failure> {
    let pcap = args.pcap.as_deref().map(absolute).transpose()?.or(spec.pcap);
    let (network, networks) = chosen_networks(&args.network)?.unwrap_or((spec.network, spec.networks));
    let mut publish = spec.publish;
    publish.extend(args.publish.iter().cloned());
    let mut add_host = spec.add_host;
    add_host.extend(args.add_host.iter().cloned());
    let (mut allow, mut deny) = (spec.allow, spec.deny);
    allow.extend(args.allow.iter().cloned());
    deny.extend(args.deny.iter().cloned());
    Ok(WorkspaceSpec {
        publish,
        add_host,
        egress: args.egress.or(spec.egress),
        pcap,
        allow,
        deny,
        dns: if args.dns.is_empty() { spec.dns } else { args.dns.clone() },
        dns_search: if args.dns_search.is_empty() { spec.dns_search } else { args.dns_search.clone() },
        dns_option: if args.dns_option.is_empty() { spec.dns_option } else { args.dns_option.clone() },
        host_access: if args.allow_host { HostAccess::Allowed } else { spec.host_access },
        memory: args.memory.unwrap_or(spec.memory),
        cpus: args.cpus.unwrap_or(spec.cpus),
        network,
        networks,
        accel: args.accel.unwrap_or(spec.accel),
        kernel: args.kernel.clone().or(spec.kernel),
        disk_size: args.disk_size.unwrap_or(spec.disk_size),
        ..spec
    })
}

/// What a guest is connected to, if anything was typed: a named network alone is all that there is.
pub(crate) fn chosen_networks(
    choices: &[NetworkChoice],
) -> Result<Option<(workspace::Network, Vec<Name>)>, Failure> {
    if choices.is_empty() {
        return Ok(None);
    }
    let mut named: Vec<Name> = Vec::new();
    for choice in choices {
        if let NetworkChoice::Named(name) = choice
            && !named.contains(name)
        {
            named.push(name.clone());
        }
    }
    let isolated = choices.contains(&NetworkChoice::Isolated);
    if isolated && choices.iter().any(|choice| *choice != NetworkChoice::Isolated) {
        return Err(Failure::usage("cannot be isolated and on a network")
            .hint(Some("leave out --network isolated: a named network alone leads nowhere else")));
    }
    let user = choices.contains(&NetworkChoice::User);
    Ok(Some((if user { workspace::Network::User } else { workspace::Network::Isolated }, named)))
}

/// A path that means the same wherever it is used.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| Failure::new("system", &error))
}

fn texts(words: &[OsString]) -> Result<Vec<String>, Failure> {
    words.iter().map(text).collect()
}

/// Settings are kept as text.
fn text(word: &OsString) -> Result<String, Failure> {
    let refused =
        || Failure::usage(format!("`{}` is not UTF-8, which a workspace's settings are", word.display()));
    word.to_str().map(str::to_owned).ok_or_else(refused)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Args, Verb};

    fn command(words: &[&str]) -> Vec<OsString> {
        let args = Args::try_parse_from([&["microagent", "create", "--image", "busybox"], words].concat());
        let Verb::Create(create) = args.expect("it parses").verb else { panic!("create") };
        create.command
    }

    #[test]
    fn flags_with_their_value_in_one_word_are_flags() {
        assert_eq!(
            command(&["-v=data:/data", "-p80:80", "sh", "-c", "x", "--rm"]),
            ["sh", "-c", "x", "--rm"]
        );
        assert_eq!(command(&["-m1g", "--", "-v", "x"]), ["-v", "x"]);
    }

    #[test]
    fn an_unknown_flag_is_no_command() {
        let words = ["microagent", "create", "--image", "busybox", "--privilegde", "sh"];
        assert!(Args::try_parse_from(words).is_err());
    }
}

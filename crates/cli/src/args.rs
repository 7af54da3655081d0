//! What was typed.
#![allow(clippy::struct_excessive_bools, reason = "each is a switch on the command line")]

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::{FalseyValueParser, PossibleValuesParser, TypedValueParser};
use clap::{Parser, Subcommand, ValueEnum};
use engine::{Demand, MemorySize, Requested};
use home::{InvalidName, Name};
use image::{Platform, Reference};
use kernel::Release;
use network::{Egress, EgressRule, HostEntry, NamedNetwork, PublishSpec, ResolverOption, SearchDomain};
use template::{Budget, TemplateKey};
use workspace::{Artifact, DiskSize, DiskSlots, HelperTerms, Mount, RestartPolicy, StopSignal, Tmpfs};

use crate::artifacts::ArtifactsArgs;
use crate::clone::CloneArgs;
use crate::commit::CommitArgs;
use crate::completion::{images, network_choices};
use crate::confinement::{Role, TryConfinementArgs};
use crate::connect::ConnectArgs;
use crate::cp::CpArgs;
use crate::create::CreateArgs;
use crate::delete::{DeleteArgs, RenameArgs};
use crate::disk_verbs::PruneArgs;
use crate::doctor::DoctorArgs;
use crate::end::{KillArgs, NamesArgs, StopArgs};
use crate::events::EventsArgs;
use crate::exec::ExecArgs;
use crate::help::HelpArgs;
use crate::image_verbs::delete::DeleteImagesArgs;
use crate::image_verbs::import::ImportArgs;
use crate::image_verbs::save::SaveArgs;
use crate::image_verbs::tag::TagArgs;
use crate::image_verbs::{ImageVerb, ListArgs, LoadArgs};
use crate::list::ListWorkspacesArgs;
use crate::logs::LogsArgs;
use crate::network_verb::NetworkArgs;
use crate::output::Format;
use crate::perf::PerfVerb;
use crate::port::PortArgs;
use crate::push::PushArgs;
use crate::quarantine::QuarantineArgs;
use crate::read::Foreign;
use crate::registry_verbs::RegistryVerb;
use crate::resize::ResizeArgs;
use crate::start::StartArgs;
use crate::stats::StatsArgs;
use crate::status::StatusArgs;
use crate::volume_verbs::VolumeVerb;

/// Run any OCI image in a microVM of its own, as you would run a container
#[derive(Debug, Parser)]
#[command(
    name = "microagent",
    bin_name = "microagent",
    version,
    max_term_width = 100,
    disable_help_subcommand = true,
    after_help = "Examples:
  microagent run debian:12 uname -a       # a command in a machine of its own
  microagent run -d --name web nginx      # a workspace, which keeps its disk
  microagent doctor                       # what this host can do
  microagent help docker                  # what differs from Docker"
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What every verb takes.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Keep all state in this directory
    #[arg(long, global = true, value_name = "DIR", env = "MICROAGENT_HOME", hide_env = true)]
    pub(crate) home: Option<PathBuf>,
    /// Print one JSON document instead of text (also: `MICROAGENT_OUTPUT=json`)
    #[arg(long, global = true)]
    json: bool,
    /// Before the command: say what is decided; twice: what is done
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Show no progress
    #[arg(long, global = true)]
    pub(crate) quiet: bool,
    /// How much disk templates may take; `off` for none (also: `MICROAGENT_TEMPLATES`)
    #[arg(
        long,
        global = true,
        value_name = "SIZE",
        env = "MICROAGENT_TEMPLATES",
        hide_env = true,
        default_value = "8g"
    )]
    pub(crate) templates: Budget,
    /// How many restored machines may wait for the next runs (also: `MICROAGENT_SPARES`)
    #[arg(
        long,
        global = true,
        value_name = "NUMBER",
        env = "MICROAGENT_SPARES",
        hide_env = true,
        default_value = "0"
    )]
    pub(crate) spares: u32,
    /// How long each of them waits (also: `MICROAGENT_SPARE_TIME`)
    #[arg(
        long, global = true, value_name = "TIME", env = "MICROAGENT_SPARE_TIME", hide_env = true,
        default_value = "30", value_parser = parse_time
    )]
    pub(crate) spare_time: Duration,
    /// Start machines only where this host has all that confines them; `doctor` tells (also:
    /// `MICROAGENT_REQUIRE_CONFINEMENT=1`)
    #[arg(
        long, global = true, env = "MICROAGENT_REQUIRE_CONFINEMENT", hide_env = true,
        value_parser = FalseyValueParser::new(),
    )]
    pub(crate) require_confinement: bool,
}

impl Global {
    pub(crate) fn format(&self) -> Format {
        Format::wanted(self.json)
    }

    /// What becomes of machines where this host lacks a part of what confines them.
    pub(crate) fn confinement(&self) -> Demand {
        workspace::demand(self.require_confinement)
    }

    /// On what terms sealed machines start.
    pub(crate) fn helpers(&self) -> HelperTerms {
        HelperTerms { templates: self.templates, confinement: self.confinement() }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run a command in a new microVM
    Run(RunArgs),
    /// Make a workspace, and start nothing
    Create(CreateArgs),
    /// Start workspaces
    Start(StartArgs),
    /// End workspaces cleanly, or fail
    #[command(after_help = "Example:
  microagent halt web db")]
    Halt(NamesArgs),
    /// Ask workspaces to end, and wait
    Stop(StopArgs),
    /// End workspaces at once
    Kill(KillArgs),
    /// Halt workspaces and start them again
    #[command(after_help = "Example:
  microagent restart web")]
    Restart(StartArgs),
    /// Freeze workspaces
    #[command(after_help = "Example:
  microagent pause web")]
    Pause(NamesArgs),
    /// Let frozen workspaces run again
    #[command(
        alias = "unpause",
        after_help = "Example:
  microagent resume web"
    )]
    Resume(NamesArgs),
    /// Wait until workspaces end, and print their exit codes
    #[command(after_help = "Example:
  microagent wait web")]
    Wait(NamesArgs),
    /// Give a workspace another name
    #[command(after_help = "Example:
  microagent rename web shop")]
    Rename(RenameArgs),
    /// Make a copy of a workspace that is at rest
    Clone(CloneArgs),
    /// Give a workspace that is at rest a larger disk
    Resize(ResizeArgs),
    /// Make an image of a workspace that is at rest
    Commit(CommitArgs),
    /// Disks that outlive workspaces
    #[command(
        subcommand,
        after_help = "Examples:
  microagent volume create data --size 20g
  microagent run -v data:/data busybox ls /data"
    )]
    Volume(VolumeVerb),
    /// Delete workspaces and their disks
    #[command(alias = "rm")]
    Delete(DeleteArgs),
    /// List running workspaces
    Ps(ListWorkspacesArgs),
    /// List all workspaces
    #[command(alias = "ls")]
    List(ListWorkspacesArgs),
    /// Show everything known about workspaces
    #[command(alias = "inspect")]
    Status(StatusArgs),
    /// Run a command in a workspace that runs
    Exec(ExecArgs),
    /// Open a shell in a workspace that runs
    Connect(ConnectArgs),
    /// Copy files between this host and a workspace
    Cp(CpArgs),
    /// List and fetch what a workspace's outputs name
    Artifacts(ArtifactsArgs),
    /// Show what a workspace's network is, and does; networks that workspaces share
    Network(NetworkArgs),
    /// Show, publish and withdraw ports of a workspace
    Port(PortArgs),
    /// Show what running workspaces use
    Stats(StatsArgs),
    /// Show what a workspace said
    Logs(LogsArgs),
    /// Show what happened to workspaces
    Events(EventsArgs),
    /// Freeze a workspace, cut it off, and fence it
    Quarantine(QuarantineArgs),
    /// Check this host
    Doctor(DoctorArgs),
    /// Show what is kept, and what it takes of the disk
    #[command(after_help = "Example:
  microagent df")]
    Df,
    /// Remove what nobody needs any more
    Prune(PruneArgs),
    /// Fetch an image from a registry
    #[command(after_help = "Examples:
  microagent pull debian:12
  microagent pull --platform linux/amd64 ghcr.io/owner/name@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")]
    Pull(PullArgs),
    /// Put an image into a registry
    Push(PushArgs),
    /// Write images to an archive or directory
    Save(SaveArgs),
    /// Load images from an archive or directory
    Load(LoadArgs),
    /// Make an image of a root file system
    Import(ImportArgs),
    /// List images
    #[command(after_help = "Examples:
  microagent images
  microagent --json images")]
    Images(ListArgs),
    /// Give an image another name
    Tag(TagArgs),
    /// Delete images, or names of images
    Rmi(DeleteImagesArgs),
    /// Manage images
    #[command(
        subcommand,
        after_help = "Examples:
  microagent image list
  microagent image pull debian:12"
    )]
    Image(ImageVerb),
    /// Log in to registries
    #[command(
        subcommand,
        after_help = "Examples:
  microagent registry login -u me registry.example.org
  microagent registry list"
    )]
    Registry(RegistryVerb),
    /// Manage guest kernels
    #[command(
        subcommand,
        after_help = "Examples:
  microagent kernel install
  microagent kernel list"
    )]
    Kernel(KernelVerb),
    /// Manage templates: booted machines from which runs start
    #[command(
        subcommand,
        after_help = "Examples:
  microagent template list
  microagent template warm debian:12"
    )]
    Template(TemplateVerb),
    /// Measure on this host
    #[command(
        subcommand,
        after_help = "Example:
  microagent perf run --image busybox"
    )]
    Perf(PerfVerb),
    /// Print a shell's completion script
    #[command(after_help = "Example:
  microagent completion bash >~/.local/share/bash-completion/completions/microagent")]
    Completion(CompletionArgs),
    /// Print the version
    #[command(after_help = "Examples:
  microagent version
  microagent --json version")]
    Version,
    /// Explain a command, or what differs from Docker
    Help(HelpArgs),
    /// Write a manual page for each command into a directory
    #[command(hide = true)]
    Man {
        /// The directory, which must be there
        directory: PathBuf,
    },
    /// Be the process that a running workspace has
    #[command(hide = true)]
    Supervise {
        /// The workspace
        name: Name,
        /// A file for what the network carries
        #[arg(long)]
        pcap: Option<PathBuf>,
    },
    /// Restore the terminal on standard input when the process that started this one is gone
    #[command(hide = true, name = "guard-terminal")]
    GuardTerminal,
    /// Read foreign bytes that are handed over, and do nothing else
    #[command(hide = true)]
    Read {
        /// What they are
        foreign: Foreign,
    },
    /// Try what QEMU's confinement must refuse, and tell
    #[command(hide = true, name = "try-confinement")]
    TryConfinement(TryConfinementArgs),
    /// Make these attempts, in QEMU's stead
    #[command(hide = true, name = "attempt")]
    Attempt {
        /// What they are aimed at
        targets: String,
        /// Take away first what this kind of process takes away from itself
        #[arg(long = "as", value_enum)]
        role: Option<Role>,
    },
}

/// Run a command in a new microVM
///
/// The image is fetched if it is not there. The command's output, errors and exit code are its own;
/// everything it changed is gone afterwards, unless --keep is given.
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    after_help = "Examples:
  microagent run debian:12 uname -a
  echo hello | microagent run -i busybox cat
  microagent run -it --memory 2g debian:12 bash
  microagent run --allow '*.debian.org:80' debian:12 apt-get update"
)]
pub(crate) struct RunArgs {
    /// The image, as Docker names it
    #[arg(value_name = "IMAGE", add = images())]
    pub(crate) image: Reference,
    /// The command and its arguments; the image's own if absent
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<OsString>,

    /// Pass standard input to the command
    #[arg(short, long, help_heading = "Streams")]
    pub(crate) interactive: bool,
    /// Give the command a terminal
    #[arg(short, long, help_heading = "Streams")]
    pub(crate) tty: bool,

    #[command(flatten)]
    pub(crate) service: ServiceArgs,
    /// End the command after this long, with exit code 124 (as in 90, 1.5s, 10m, 2h)
    #[arg(long, value_name = "TIME", value_parser = parse_time, help_heading = "Command")]
    pub(crate) timeout: Option<Duration>,

    /// The workspace's name; one is made up if absent
    #[arg(long, help_heading = "Workspace")]
    pub(crate) name: Option<Name>,
    /// Keep the workspace and its disk when the command ends
    #[arg(long, conflicts_with = "rm", help_heading = "Workspace")]
    pub(crate) keep: bool,
    /// Remove the workspace when the command ends (the default)
    #[arg(long, help_heading = "Workspace")]
    pub(crate) rm: bool,
    /// Start the workspace, print its name, and leave it running
    #[arg(short, long, conflicts_with_all = ["keep", "timeout"], help_heading = "Workspace")]
    pub(crate) detach: bool,
    #[command(flatten)]
    pub(crate) workspace: WorkspaceArgs,
    #[command(flatten)]
    pub(crate) machine: MachineArgs,

    /// Boot, even where a template of the machine could be restored
    #[arg(long, help_heading = "Machine")]
    pub(crate) cold: bool,

    /// When to fetch the image
    #[arg(long, value_enum, default_value_t, help_heading = "Image")]
    pub(crate) pull: PullPolicy,
    /// The platform to choose from a multi-platform image
    #[arg(long, value_name = "OS/ARCH", help_heading = "Image")]
    pub(crate) platform: Option<Platform>,

    /// Print help
    #[arg(long, action = clap::ArgAction::Help, help_heading = "Global options")]
    help: Option<bool>,
}

/// What a command or a service is.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct ServiceArgs {
    /// Set an environment variable; without a value, pass on this one's
    #[arg(short, long, value_name = "NAME[=VALUE]", help_heading = "Command")]
    pub(crate) env: Vec<OsString>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE", help_heading = "Command")]
    pub(crate) env_file: Vec<PathBuf>,
    /// The working directory
    #[arg(short, long, value_name = "DIR", help_heading = "Command")]
    pub(crate) workdir: Option<OsString>,
    /// The user, and group, by name or number
    #[arg(short, long, value_name = "USER[:GROUP]", help_heading = "Command")]
    pub(crate) user: Option<String>,
    /// Replace the image's entrypoint
    #[arg(long, value_name = "PROGRAM", help_heading = "Command")]
    pub(crate) entrypoint: Option<OsString>,
    /// The signal that asks the command to end; the image's own if absent
    #[arg(long, value_name = "SIGNAL", help_heading = "Command")]
    pub(crate) stop_signal: Option<StopSignal>,
    /// How long the command has to end when it is asked to [default: 10]
    #[arg(long, value_name = "TIME", value_parser = parse_time, help_heading = "Command")]
    pub(crate) stop_timeout: Option<Duration>,
}

/// What a workspace is that outlives a command.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct WorkspaceArgs {
    /// The guest's host name
    #[arg(short = 'h', long, value_name = "NAME", value_parser = parse_hostname, help_heading = "Machine")]
    pub(crate) hostname: Option<String>,
    /// Set a label, for people and filters
    #[arg(short, long, value_name = "NAME[=VALUE]", help_heading = "Workspace")]
    pub(crate) label: Vec<String>,
    /// A disk at a path of the guest: a volume by its name, a bundle (x.tar, .tar.gz, .tar.zst), or a disk image
    /// (x.ext4, x.img)
    #[arg(short, long, value_name = "SOURCE:/PATH[:ro]", value_parser = parse_mount, help_heading = "Workspace")]
    pub(crate) volume: Vec<Mount>,
    /// A file or directory to fetch when the command has ended, or with `artifacts`
    #[arg(long, value_name = "NAME=/PATH[:HOST]", help_heading = "Workspace")]
    pub(crate) output: Vec<Artifact>,
    /// A file system in the guest's memory, empty with each start
    #[arg(long, value_name = "/PATH[:OPTIONS]", help_heading = "Files")]
    pub(crate) tmpfs: Vec<Tmpfs>,
    /// Let nothing change but what is in memory
    #[arg(long, help_heading = "Files")]
    pub(crate) read_only: bool,
    /// Have a first process that ends with the command and waits for orphans (always so)
    #[arg(long, help_heading = "Workspace")]
    pub(crate) init: bool,
    /// Start the service again when it ends by itself: `no`, `on-failure[:NUMBER]`, `always`, `unless-stopped`
    #[arg(long, value_name = "POLICY", help_heading = "Workspace")]
    pub(crate) restart: Option<RestartPolicy>,
    /// The service as a line for a shell, in place of a command
    #[arg(long, value_name = "LINE", help_heading = "Workspace")]
    pub(crate) service_command: Option<String>,
    /// A line for a shell that tells whether the service is well
    #[arg(long, value_name = "LINE", help_heading = "Health")]
    pub(crate) health_cmd: Option<String>,
    /// The time between checks
    #[arg(long, value_name = "TIME", value_parser = parse_time, help_heading = "Health")]
    pub(crate) health_interval: Option<Duration>,
    /// How long a check may take
    #[arg(long, value_name = "TIME", value_parser = parse_time, help_heading = "Health")]
    pub(crate) health_timeout: Option<Duration>,
    /// How long after the start failures do not count
    #[arg(long, value_name = "TIME", value_parser = parse_time, help_heading = "Health")]
    pub(crate) health_start_period: Option<Duration>,
    /// How many failures in a row mean that the service is not well
    #[arg(long, value_name = "NUMBER", help_heading = "Health")]
    pub(crate) health_retries: Option<u32>,
    /// No check, whatever the image says
    #[arg(long, conflicts_with = "health_cmd", help_heading = "Health")]
    pub(crate) no_healthcheck: bool,
}

/// The machine that a run gets; runs of the same machine share a template.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct MachineArgs {
    /// The guest's memory [default: 1g]
    #[arg(short, long, value_name = "SIZE", help_heading = "Machine")]
    pub(crate) memory: Option<MemorySize>,
    /// The number of virtual CPUs [default: 1]
    #[arg(long, value_name = "NUMBER", value_parser = parse_cpus, help_heading = "Machine")]
    pub(crate) cpus: Option<u32>,
    /// The network: `user` reaches out, `isolated` is none, a name is a network with other workspaces; more than one may
    /// be given [default: user]
    #[arg(long, alias = "net", value_name = "user|isolated|NAME", add = network_choices(), help_heading = "Network")]
    pub(crate) network: Vec<NetworkChoice>,
    /// Publish ports of the guest on this host: `[IP:][HOST:]GUEST[/tcp|udp]`, with ranges; 0 for any
    #[arg(short, long, value_name = "PORTS", help_heading = "Network")]
    pub(crate) publish: Vec<PublishSpec>,
    /// What becomes of connections that no rule names [default: deny if there is --allow, else allow]
    #[arg(long, value_parser = egress_parser(), help_heading = "Network")]
    pub(crate) egress: Option<Egress>,
    /// Let the guest reach this and, if --egress does not say otherwise, nothing else: a name, `*.NAME`, an address or
    /// CIDR, with `:PORT[-PORT]` and `/tcp` or `/udp` if wanted
    #[arg(long, value_name = "HOST|CIDR[:PORT]", help_heading = "Network")]
    pub(crate) allow: Vec<EgressRule>,
    /// Do not let the guest reach this, whatever else is said
    #[arg(long, value_name = "HOST|CIDR[:PORT]", help_heading = "Network")]
    pub(crate) deny: Vec<EgressRule>,
    /// Write what the network carries to a file, for tcpdump and Wireshark
    #[arg(long, value_name = "FILE", help_heading = "Network")]
    pub(crate) pcap: Option<PathBuf>,
    /// Let the guest reach this host's own services, as host.microagent.internal
    #[arg(long, help_heading = "Network")]
    pub(crate) allow_host: bool,
    /// Ask this name server, and not the host's
    #[arg(long, value_name = "IP", help_heading = "Network")]
    pub(crate) dns: Vec<IpAddr>,
    /// Add this domain to names, and not the host's; `.` for none
    #[arg(long, value_name = "DOMAIN", help_heading = "Network")]
    pub(crate) dns_search: Vec<SearchDomain>,
    /// Set an option of the guest's resolv.conf, as `ndots:2`
    #[arg(long, alias = "dns-opt", value_name = "OPTION", help_heading = "Network")]
    pub(crate) dns_option: Vec<ResolverOption>,
    /// Give a name an address; `host-gateway` is this host's
    #[arg(long, value_name = "NAME:IP", help_heading = "Network")]
    pub(crate) add_host: Vec<HostEntry>,
    /// What runs the guest's code: `auto`, `kvm` or `tcg` [default: auto]
    #[arg(long, value_name = "KIND", help_heading = "Machine")]
    pub(crate) accel: Option<Requested>,
    /// The release of the guest kernel
    #[arg(long, value_name = "RELEASE", help_heading = "Machine")]
    pub(crate) kernel: Option<Release>,
    /// The size of the workspace's disk; it takes space as it is written [default: 10g]
    #[arg(long, value_name = "SIZE", help_heading = "Machine")]
    pub(crate) disk_size: Option<DiskSize>,
    /// How many disks the machine has room for beside its own.
    #[arg(long, value_name = "NUMBER", hide = true)]
    pub(crate) disk_slots: Option<DiskSlots>,
}

/// What a guest is connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NetworkChoice {
    /// What this host reaches.
    User,
    /// Nothing.
    Isolated,
    /// A named network.
    Named(Name),
}

impl FromStr for NetworkChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "user" => Self::User,
            "isolated" => Self::Isolated,
            name => {
                let name: Name = name.parse().map_err(|error: InvalidName| error.to_string())?;
                if NamedNetwork::is_reserved(&name) {
                    return Err(
                        "no network is called so; choose `user`, `isolated`, or one of `network list`"
                            .to_owned(),
                    );
                }
                Self::Named(name)
            }
        })
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum PullPolicy {
    /// If it is not there.
    #[default]
    Missing,
    /// Every time.
    Always,
    /// Not at all.
    Never,
}

/// Fetch an image from a registry
///
/// Layers that are there already are not fetched again, and a pull that broke off goes on with those that are missing.
/// An image for this host is made ready to run while its layers come.
/// Mirrors, certificates and registries without TLS are configured in ~/.config/microagent.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  microagent pull debian:12
  microagent pull --platform linux/arm64 registry.example.com/team/app:1
  microagent pull --all-platforms registry.example.com/team/app:1
  microagent pull --require-digest debian@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")]
pub(crate) struct PullArgs {
    /// The image, as Docker names it
    #[arg(value_name = "IMAGE")]
    pub(crate) image: Reference,
    /// The platform to choose from a multi-platform image
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<Platform>,
    /// Fetch it for every Linux platform that there is
    #[arg(long, conflicts_with = "platform")]
    pub(crate) all_platforms: bool,
    /// Refuse an image that is not named by its digest
    #[arg(long)]
    pub(crate) require_digest: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KernelVerb {
    /// Install a guest kernel; from the distribution if nothing else is said
    #[command(after_help = "Examples:
  microagent kernel install                       # the distribution's, fetched with apt
  microagent kernel install --from-host
  microagent kernel install --vmlinuz vmlinuz --modules modules/6.1.0")]
    Install(KernelInstallArgs),
    /// List guest kernels
    #[command(
        alias = "ls",
        after_help = "Example:
  microagent kernel list"
    )]
    List,
    /// Choose the guest kernel that `run` boots
    #[command(after_help = "Example:
  microagent kernel use 6.1.0-56-cloud-amd64")]
    Use {
        /// Its release, as `kernel list` shows it
        release: Release,
    },
}

/// Install a guest kernel
///
/// Without options, the distribution's package is fetched with apt. No root is needed, and nothing outside
/// this program's own directory changes.
#[derive(Debug, clap::Args)]
pub(crate) struct KernelInstallArgs {
    /// The package to fetch, in place of the distribution's usual one for virtual machines
    #[arg(value_name = "PACKAGE", conflicts_with_all = ["deb", "from_host", "vmlinuz"])]
    pub(crate) package: Option<String>,
    /// Install from package files
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["from_host", "vmlinuz"])]
    pub(crate) deb: Vec<PathBuf>,
    /// Install the kernel that runs this host
    #[arg(long, conflicts_with = "vmlinuz")]
    pub(crate) from_host: bool,
    /// Install this kernel image
    #[arg(long, value_name = "FILE", requires = "modules")]
    pub(crate) vmlinuz: Option<PathBuf>,
    /// The kernel image's modules: a directory like /lib/modules/RELEASE
    #[arg(long, value_name = "DIR", requires = "vmlinuz")]
    pub(crate) modules: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TemplateVerb {
    /// List templates, the most recently used first
    #[command(
        alias = "ls",
        after_help = "Example:
  microagent template list"
    )]
    List,
    /// Make a template now, and not after the first start
    Warm(WarmArgs),
    /// Keep a restored machine for the next run of an image
    #[command(hide = true)]
    Spare(WarmArgs),
    /// Delete templates; runs that started from them go on
    #[command(
        alias = "rm",
        after_help = "Example:
  microagent template delete 2843192b4dc1a53fa7e84e591cb1a4f0"
    )]
    Delete {
        /// Their keys, as `template list` shows them
        #[arg(required = true)]
        keys: Vec<TemplateKey>,
    },
    /// Delete the least recently used templates that exceed the budget
    #[command(after_help = "Examples:
  microagent template prune
  microagent template prune --all")]
    Prune {
        /// Delete all
        #[arg(short, long)]
        all: bool,
    },
}

/// Make a template now
///
/// A template fits the same machine: give here what is given to `run` or `create`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  microagent template warm --memory 2g debian:12    # for runs of the image
  microagent template warm --memory 2g              # for starts of workspaces")]
pub(crate) struct WarmArgs {
    /// The image, which must be in the store; none for the template that workspaces of any image start from
    #[arg(value_name = "IMAGE", add = images())]
    pub(crate) image: Option<Reference>,
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
    /// The platform to choose from a multi-platform image
    #[arg(long, value_name = "OS/ARCH", help_heading = "Image")]
    pub(crate) platform: Option<Platform>,
    /// Do not belong to the terminal, and step back for other work
    #[arg(long, hide = true)]
    pub(crate) detached: bool,
}

/// Print a shell's completion script
#[derive(Debug, clap::Args)]
pub(crate) struct CompletionArgs {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

pub(crate) fn parse_time(text: &str) -> Result<Duration, String> {
    let invalid = || format!("`{text}` is not a time; write it like `90`, `1.5s`, `10m` or `2h`");
    let (digits, unit) = match text.as_bytes().last() {
        Some(b's') => (&text[..text.len() - 1], 1.0),
        Some(b'm') => (&text[..text.len() - 1], 60.0),
        Some(b'h') => (&text[..text.len() - 1], 3600.0),
        _ => (text, 1.0),
    };
    let number: f64 = digits.parse().map_err(|_| invalid())?;
    Duration::try_from_secs_f64(number * unit).map_err(|_| invalid())
}

fn egress_parser() -> impl TypedValueParser<Value = Egress> {
    let words = PossibleValuesParser::new(["allow", "deny"]);
    words.map(|word| if word == "deny" { Egress::Deny } else { Egress::Allow })
}

fn parse_cpus(text: &str) -> Result<u32, String> {
    match text.parse::<f64>() {
        Ok(number) if number.fract() != 0.0 => Err("a virtual CPU is whole; round up".to_owned()),
        Ok(number) if (1.0..=64.0).contains(&number) => text.parse().map_err(|_| "write a number".to_owned()),
        _ => Err("a machine has 1 to 64 virtual CPUs".to_owned()),
    }
}

/// Longer names do not fit the kernel's; others would break /etc/hosts.
fn parse_hostname(text: &str) -> Result<String, String> {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    if (1..=63).contains(&text.len()) && text.bytes().all(valid) && !text.starts_with(['-', '.']) {
        return Ok(text.to_owned());
    }
    Err("a host name has 1 to 63 letters, digits, `-` or `.`".to_owned())
}

/// A mount, or why there is none with what to do about it: this is where a directory of the host is refused.
fn parse_mount(text: &str) -> Result<Mount, String> {
    text.parse().map_err(|error: workspace::InvalidMount| match error.hint() {
        Some(hint) => format!("{error}\nhint: {hint}"),
        None => error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn what_follows_the_image_is_the_commands() {
        let args = Args::try_parse_from(["microagent", "run", "-i", "busybox", "ls", "-t", "--rm"]).unwrap();
        let Verb::Run(run) = args.verb else { panic!("run") };
        assert!(run.interactive && !run.tty && !run.rm);
        assert_eq!(run.command, ["ls", "-t", "--rm"]);
    }

    /// All commands that are shown, with the words that name each.
    fn all(command: &clap::Command, words: &str, found: &mut Vec<(String, clap::Command)>) {
        found.push((words.to_owned(), command.clone()));
        for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
            all(below, &format!("{words} {}", below.get_name()), found);
        }
    }

    #[test]
    fn each_command_has_examples_that_work() {
        let mut found = Vec::new();
        all(&Args::command(), "microagent", &mut found);
        for (name, command) in found {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let lines = help.lines().filter_map(|line| line.strip_prefix("  ")).collect::<Vec<_>>();
            assert!(!lines.is_empty(), "`{name}` has no example");
            for line in lines {
                let ours =
                    line.split(" #").next().unwrap().split('|').find(|part| part.contains("microagent "));
                let ours = ours.unwrap_or_else(|| panic!("{line}"));
                let ours = &ours[ours.find("microagent ").unwrap()..];
                let words = crate::docker::words(ours.split(" >").next().unwrap().trim());
                let taken = Args::try_parse_from(words);
                assert!(taken.as_ref().err().is_none_or(|error| !error.use_stderr()), "{line}: {taken:?}");
            }
        }
    }

    #[test]
    fn times_have_units() {
        assert_eq!(parse_time("90"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_time("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_time("2h"), Ok(Duration::from_secs(7200)));
        for bad in ["", "s", "-1", "x", "1d", "inf", "nan"] {
            assert!(parse_time(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn virtual_cpus_are_whole() {
        assert_eq!(parse_cpus("2"), Ok(2));
        for bad in ["0", "1.5", "65", "x", ""] {
            assert!(parse_cpus(bad).is_err(), "{bad}");
        }
    }
}

//! What a workspace is asked to be: the settings of `create`'s flags, and of `workspace.yaml`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use engine::{Demand, MemorySize, Requested};
use home::Name;
use kernel::Release;
use network::{Egress, EgressRule, HostAccess, HostEntry, Policy, PublishSpec, ResolverOption, SearchDomain};
use serde::{Deserialize, Serialize};

use volume::Mount;

use crate::{Artifact, DiskSize, DiskSlots, MachineSettings, Network, StopSignal, Tmpfs};

/// How long a service has to end when nothing else is said; Docker's.
const GRACE: Duration = Duration::from_secs(10);

/// The settings of a workspace. What is absent, the image says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of a workspace's file")]
pub struct WorkspaceSpec {
    /// The image, as Docker names it.
    pub image: String,
    /// The service's command; follows the entrypoint.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Replaces the image's entrypoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<String>,
    /// The service as a line for a shell, in place of command and entrypoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_command: Option<String>,
    /// `NAME=value` entries.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// The working directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// `user[:group]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Whether the service has a terminal.
    pub tty: bool,
    /// Whether the service's input stays open.
    pub interactive: bool,
    /// The guest's host name; the workspace's name if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Words for people and filters.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The guest's memory.
    #[serde(with = "home::as_text")]
    pub memory: MemorySize,
    /// The number of virtual CPUs.
    pub cpus: u32,
    /// The size of its disk.
    #[serde(with = "home::as_text")]
    pub disk_size: DiskSize,
    /// Its network.
    #[serde(with = "home::as_text")]
    pub network: Network,
    /// The named networks that it is on; with `isolated`, all that it reaches.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<Name>,
    /// The ports that are published on this host.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<PublishSpec>,
    /// Whether the guest may reach this host.
    pub host_access: HostAccess,
    /// The name servers to ask; this host's if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<IpAddr>,
    /// The domains that are added to names; this host's if there are none, and none if it is `.`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns_search: Vec<SearchDomain>,
    /// The options of its resolv.conf.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns_option: Vec<ResolverOption>,
    /// Names of its own, each with an address.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub add_host: Vec<HostEntry>,
    /// The file that what its network carries is written to, anew with each start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pcap: Option<PathBuf>,
    /// What becomes of connections that no rule names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress: Option<Egress>,
    /// What the guest may reach.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<EgressRule>,
    /// What it may not, whatever else is said.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<EgressRule>,
    /// What runs its instructions.
    #[serde(with = "home::as_text")]
    pub accel: Requested,
    /// Whether it only starts where this host has all that confines its machine.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub require_confinement: bool,
    /// The release of its kernel; the default kernel if absent.
    #[serde(with = "home::as_text::optional", skip_serializing_if = "Option::is_none")]
    pub kernel: Option<Release>,
    /// What happens when the service ends by itself.
    #[serde(with = "home::as_text")]
    pub restart: RestartPolicy,
    /// The signal that asks the service to end.
    #[serde(with = "home::as_text::optional", skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<StopSignal>,
    /// How long the service has between being asked to end and its end, in seconds.
    #[serde(with = "seconds")]
    pub stop_timeout: Duration,
    /// What is fetched when the command has ended, or when it is asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<Artifact>,
    /// The disks beside its own: volumes, bundles, disk images.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Mount>,
    /// File systems in the guest's memory.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tmpfs: Vec<Tmpfs>,
    /// Whether only these take changes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// How to tell that the service is well; the image's own check if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthSpec>,
}

impl Default for WorkspaceSpec {
    fn default() -> Self {
        Self {
            image: String::new(),
            command: Vec::new(),
            entrypoint: None,
            service_command: None,
            env: Vec::new(),
            workdir: None,
            user: None,
            tty: false,
            interactive: false,
            hostname: None,
            labels: BTreeMap::new(),
            memory: MemorySize::mebibytes(1024),
            cpus: 1,
            disk_size: DiskSize::default(),
            network: Network::default(),
            networks: Vec::new(),
            publish: Vec::new(),
            host_access: HostAccess::default(),
            dns: Vec::new(),
            dns_search: Vec::new(),
            dns_option: Vec::new(),
            add_host: Vec::new(),
            pcap: None,
            egress: None,
            allow: Vec::new(),
            deny: Vec::new(),
            accel: Requested::default(),
            require_confinement: false,
            kernel: None,
            restart: RestartPolicy::default(),
            stop_signal: None,
            stop_timeout: GRACE,
            outputs: Vec::new(),
            volumes: Vec::new(),
            tmpfs: Vec::new(),
            read_only: false,
            health: None,
        }
    }
}

impl WorkspaceSpec {
    /// What its root file system is to have beyond image and disk, for a service that starts in `directory`.
    pub(crate) fn arrangement(&self, directory: &str) -> proto::Arrangement {
        proto::Arrangement {
            tmpfs: self.tmpfs.iter().map(Tmpfs::in_guest).collect(),
            read_only: self.read_only,
            directory: directory.as_bytes().to_vec(),
        }
    }

    /// The machine's part.
    pub fn machine(&self) -> MachineSettings {
        MachineSettings {
            acceleration: self.accel,
            cpus: self.cpus,
            memory: self.memory,
            kernel: self.kernel.clone(),
            network: if self.has_network() { Network::User } else { Network::Isolated },
            disk_size: self.disk_size,
            slots: DiskSlots::for_disks(self.volumes.len()),
            confinement: demand(self.require_confinement),
        }
    }
}

/// The demand that a switch makes.
pub fn demand(whole: bool) -> Demand {
    if whole { Demand::Whole } else { Demand::WhatThereIs }
}

impl WorkspaceSpec {
    /// Whether its machine has a network card.
    pub fn has_network(&self) -> bool {
        self.network == Network::User || !self.networks.is_empty()
    }

    /// What may be reached beyond the networks that it is on.
    pub fn egress_policy(&self) -> Policy {
        Policy { egress: self.egress, allow: self.allow.clone(), deny: self.deny.clone() }
    }

    /// The network's part, beside its ports.
    pub fn network_settings(&self) -> network::Settings {
        network::Settings {
            host: self.host_access,
            nameservers: self.dns.clone(),
            policy: match self.network {
                Network::User => self.egress_policy(),
                Network::Isolated => Policy { egress: Some(Egress::Deny), ..Policy::default() },
            },
            names: self.add_host.clone(),
        }
    }
}

/// How to tell that a service is well.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HealthSpec {
    /// A line for a shell; exit code 0 means well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Whether there is no check, whatever the image says.
    pub disable: bool,
    /// The time between checks, in seconds.
    #[serde(with = "seconds::optional", skip_serializing_if = "Option::is_none")]
    pub interval: Option<Duration>,
    /// How long a check may take, in seconds.
    #[serde(with = "seconds::optional", skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// How long after the start failures do not count, in seconds.
    #[serde(with = "seconds::optional", skip_serializing_if = "Option::is_none")]
    pub start_period: Option<Duration>,
    /// How many failures in a row mean that it is not well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
}

/// What happens when a service ends by itself; Docker's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RestartPolicy {
    /// Nothing.
    #[default]
    No,
    /// It starts again after a failure, at most so many times in a row if a number is given.
    OnFailure(Option<u32>),
    /// It starts again.
    Always,
    /// It starts again until it is stopped. There is no daemon whose start would tell this from `Always`.
    UnlessStopped,
}

/// A text that is no restart policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a restart policy; choose `no`, `on-failure[:NUMBER]`, `always` or `unless-stopped`")]
pub struct InvalidRestartPolicy(String);

impl FromStr for RestartPolicy {
    type Err = InvalidRestartPolicy;

    fn from_str(text: &str) -> Result<Self, InvalidRestartPolicy> {
        let invalid = || InvalidRestartPolicy(text.to_owned());
        match text.split_once(':') {
            None if text == "no" => Ok(Self::No),
            None if text == "on-failure" => Ok(Self::OnFailure(None)),
            None if text == "always" => Ok(Self::Always),
            None if text == "unless-stopped" => Ok(Self::UnlessStopped),
            Some(("on-failure", number)) => Ok(Self::OnFailure(Some(number.parse().map_err(|_| invalid())?))),
            _ => Err(invalid()),
        }
    }
}

impl fmt::Display for RestartPolicy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::No => formatter.write_str("no"),
            Self::OnFailure(None) => formatter.write_str("on-failure"),
            Self::OnFailure(Some(number)) => write!(formatter, "on-failure:{number}"),
            Self::Always => formatter.write_str("always"),
            Self::UnlessStopped => formatter.write_str("unless-stopped"),
        }
    }
}

/// Durations as seconds, whole or not.
pub(crate) mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        if value.subsec_nanos() == 0 {
            serializer.serialize_u64(value.as_secs())
        } else {
            serializer.serialize_f64(value.as_secs_f64())
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        Duration::try_from_secs_f64(seconds).map_err(serde::de::Error::custom)
    }

    pub(crate) mod optional {
        use super::{Deserialize, Deserializer, Duration, Serializer};

        #[expect(clippy::ref_option, reason = "serde passes fields so")]
        pub(crate) fn serialize<S: Serializer>(
            value: &Option<Duration>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            match value {
                Some(value) => super::serialize(value, serializer),
                None => serializer.serialize_none(),
            }
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<Duration>, D::Error> {
            let seconds = Option::<f64>::deserialize(deserializer)?;
            let duration = |seconds| Duration::try_from_secs_f64(seconds).map_err(serde::de::Error::custom);
            seconds.map(duration).transpose()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_as_they_are_written() {
        for text in ["no", "on-failure", "on-failure:3", "always", "unless-stopped"] {
            assert_eq!(text.parse::<RestartPolicy>().unwrap().to_string(), text);
        }
        for bad in ["", "never", "on-failure:", "on-failure:x", "always:1"] {
            assert!(bad.parse::<RestartPolicy>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_spec_survives_its_record() {
        let spec = WorkspaceSpec {
            image: "debian:12".to_owned(),
            stop_timeout: Duration::from_millis(1500),
            restart: RestartPolicy::OnFailure(Some(3)),
            health: Some(HealthSpec { interval: Some(Duration::from_secs(2)), ..HealthSpec::default() }),
            ..WorkspaceSpec::default()
        };
        let text = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<WorkspaceSpec>(&text).unwrap(), spec);
        assert!(serde_json::from_str::<WorkspaceSpec>(r#"{"imgae":"x"}"#).is_err());
    }
}

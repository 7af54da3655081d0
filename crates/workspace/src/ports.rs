//! The network of a workspace: what it does, and ports that are published or withdrawn while it runs. What is changed
//! stays for the next start.

use home::{read_record, write_record};
use network::{PublishSpec, Published, Report, withdraw};

use crate::control::{Reply, Request};
use crate::record::WorkspaceRecord;
use crate::state::State;
use crate::workspace::{Workspace, WorkspaceError};

impl Workspace {
    /// What its network has done, and is doing; `None` if it has none now.
    pub fn network_report(&self) -> Option<Report> {
        match self.ask(&Request::Network) {
            Ok(Some(Reply::Network(report))) => Some(report),
            _ => None,
        }
    }

    /// Publishes ports, at once if it runs; those that were published now.
    pub fn publish(&self, ports: &PublishSpec) -> Result<Vec<Published>, WorkspaceError> {
        let request = Request::Publish { ports: ports.clone() };
        self.change_ports(&request, |kept, _| {
            kept.retain(|other| other != ports);
            kept.push(ports.clone());
            true
        })
    }

    /// Withdraws ports, at once if it runs; those that were withdrawn now. They are named as when they were published,
    /// or by the guest's port.
    pub fn withdraw(&self, ports: &PublishSpec) -> Result<Vec<Published>, WorkspaceError> {
        let request = Request::Withdraw { ports: ports.clone() };
        let mut found = false;
        let withdrawn = self.change_ports(&request, |kept, live| {
            found = withdraw(kept, ports, live);
            found
        })?;
        if withdrawn.is_empty() && !found {
            return Err(WorkspaceError::Refused {
                kind: "port_not_published".to_owned(),
                message: format!("workspace `{}` does not publish {ports}", self.name()),
                hint: Some(format!("see what it does: microagent port {}", self.name())),
            });
        }
        Ok(withdrawn)
    }

    fn change_ports(
        &self,
        request: &Request,
        change: impl FnOnce(&mut Vec<PublishSpec>, Option<&[Published]>) -> bool,
    ) -> Result<Vec<Published>, WorkspaceError> {
        if !self.record().spec.has_network() {
            return Err(WorkspaceError::Refused {
                kind: "no_network".to_owned(),
                message: format!("workspace `{}` is isolated, and publishes no ports", self.name()),
                hint: Some("create it with --network user".to_owned()),
            });
        }
        let answer = self.ask(request)?;
        // One at rest is held, so that it does not start meanwhile; one that runs is its supervisor's.
        let held = match answer {
            None => Some(self.hold("publish ports of")?.unfenced()?),
            Some(_) if self.facts()?.quarantine.is_some() => {
                return Err(self.in_state("publish ports of", State::Quarantined));
            }
            Some(_) => None,
        };
        let path = self.directory().join("workspace.json");
        let record: Option<WorkspaceRecord> = read_record(&path)?;
        let mut record = record.ok_or_else(|| WorkspaceError::Unknown(self.name().clone()))?;
        let live = match &answer {
            Some(Reply::Published(ports)) => Some(&ports[..]),
            _ => None,
        };
        if change(&mut record.spec.publish, live) {
            write_record(&path, &record)?;
        }
        drop(held);
        match answer {
            Some(Reply::Published(ports)) => Ok(ports),
            _ => Ok(Vec::new()),
        }
    }
}

//! Named networks as workspaces use them: who is on one by its settings, and joining.

use std::collections::BTreeMap;

use home::{Home, Name};
use network::{JoinError, Membership, NamedNetwork, NamedNetworkError};

use crate::workspace::Workspace;

/// Why a network was not deleted.
#[derive(Debug, thiserror::Error)]
pub enum DeleteNetworkError {
    /// It cannot be used, or somebody is on it now.
    #[error(transparent)]
    Network(#[from] NamedNetworkError),
    /// Workspaces join it when they start.
    #[error("cannot delete network `{name}`: {} joins it when started", users[0])]
    Needed {
        /// The network.
        name: Name,
        /// The workspaces.
        users: Vec<Name>,
    },
    /// The workspaces could not be read.
    #[error("failed to read the workspaces")]
    Workspaces(#[from] std::io::Error),
}

impl DeleteNetworkError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Network(error) => error.hint(),
            Self::Needed { users, .. } => {
                let names: Vec<_> = users.iter().map(Name::as_str).collect();
                Some(format!("delete what uses it first: microagent delete {}", names.join(" ")))
            }
            Self::Workspaces(_) => None,
        }
    }
}

/// Deletes a network that no workspace is on, nor will be.
pub fn delete_network(home: &Home, name: &Name) -> Result<(), DeleteNetworkError> {
    let network = NamedNetwork::find(home, name)?;
    match network_users(home)?.remove(name) {
        Some(users) => Err(DeleteNetworkError::Needed { name: name.clone(), users }),
        None => Ok(network.delete(home)?),
    }
}

/// The networks that nobody is on, and that no workspace joins when it starts.
pub fn unneeded_networks(home: &Home) -> std::io::Result<Vec<NamedNetwork>> {
    let users = network_users(home)?;
    let mut unneeded = Vec::new();
    for (name, found) in NamedNetwork::all(home)? {
        let Ok(network) = found else { continue };
        if !users.contains_key(&name) && network.members()?.is_empty() {
            unneeded.push(network);
        }
    }
    Ok(unneeded)
}

/// The workspaces that are on each network by their settings.
pub fn network_users(home: &Home) -> std::io::Result<BTreeMap<Name, Vec<Name>>> {
    let mut users: BTreeMap<Name, Vec<Name>> = BTreeMap::new();
    for (name, found) in Workspace::all(home)? {
        // One that is damaged does not start.
        let Ok(workspace) = found else { continue };
        for network in &workspace.record().spec.networks {
            users.entry(network.clone()).or_default().push(name.clone());
        }
    }
    Ok(users)
}

/// Joins networks as `member`.
pub(crate) fn join(home: &Home, networks: &[Name], member: &Name) -> Result<Vec<Membership>, JoinError> {
    networks.iter().map(|network| Membership::join(home, network, member)).collect()
}

impl Workspace {
    /// Has the others on its networks find it by another name, if it runs.
    pub(crate) fn rename_on_networks(&self, to: &Name) {
        for network in &self.record().spec.networks {
            let renamed = NamedNetwork::find(self.home(), network)
                .and_then(|network| network.rename_member(self.name(), to));
            if let Err(error) = renamed {
                tracing::warn!(%error, %network, "the workspace keeps its old name on a network");
            }
        }
    }
}

//! A run's network, while it lasts.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, channel};

use network::{Fittings, Network, Settings};

use super::kept::KeptRun;
use crate::audit::{Keeper, NetworkLogEntry};
use crate::event::EventKind;

/// A run's network, and who keeps what it decides.
pub(super) struct Connected {
    network: Network,
    keeper: Keeper,
    refused: Receiver<NetworkLogEntry>,
}

impl Connected {
    /// Gives the guest its network, if it is to have one. What it decides is kept with the workspace, if that is.
    pub(super) fn start(
        cable: Option<OwnedFd>,
        settings: Settings,
        fittings: Fittings,
        kept: Option<&KeptRun>,
    ) -> io::Result<Option<Self>> {
        let Some(cable) = cable else { return Ok(None) };
        let workspace = kept.map(|kept| kept.workspace.clone());
        let directory = workspace.as_ref().map(|workspace| workspace.directory().to_owned());
        let (told, refused) = channel();
        let listener = Box::new(move |entry: &NetworkLogEntry| {
            if let (Some(workspace), Some(event)) = (&workspace, EventKind::refusal(entry)) {
                workspace.tell(event);
            }
            // It is heard when the run is over; that there is little of it is the keeper's care.
            let _ = told.send(entry.clone());
        });
        let (keeper, audit) = Keeper::start(directory.as_deref(), listener)?;
        let network = Network::start(settings, Fittings { audit, ..fittings })?;
        network.plug(cable);
        Ok(Some(Self { network, keeper, refused }))
    }

    /// Ends it, and tells what it refused, as far as there was room.
    pub(super) fn end(self) -> Vec<NetworkLogEntry> {
        drop(self.network);
        self.keeper.finish();
        self.refused.iter().collect()
    }
}

//! An image of a workspace: its image, and its changes as one layer on top.
//!
//! ```text
//! hold ──▶ helper ──▶ guest: the upper layer as a stream ──▶ tar ──▶ gzip ──▶ store: a layer
//!                                                                               │
//! base image's configuration, the workspace's settings, --change ──▶ configuration, manifest, name
//! ```
//!
//! The disk is put away clean before the image gets its name, and the content lock is held from the first look at
//! the base to the name: whatever ends when, the store has the image whole or not at all. Nothing in the image
//! depends on when it is made, so the same changes are the same image.

mod layer;
mod settings;

use std::io;

use home::{Name, fault_point};
use image::{Change, Compression, Configuration, History, Image, Ingest, MakeError, NewLayer, Reference};
use image::{IngestError, Store, StoreError};
use proto::{SpawnFailure, Transfer};
use tokio::sync::mpsc;

use crate::DiskSize;
use crate::agent::AgentError;
use crate::copy::{Incoming, TakeError, Taken, take};
use crate::event::EventKind;
use crate::helper::{Helper, HelperDisk, HelperError, HelperTerms};
use crate::run::Control;
use crate::workspace::{Held, Workspace, WorkspaceError};
pub use layer::LayerError;
use layer::LayerTar;

/// What an image is to be made as.
#[derive(Debug, Clone)]
pub struct CommitRequest {
    /// Its name; one without a digest.
    pub name: Reference,
    /// What is to be said of the changes.
    pub message: Option<String>,
    /// Who made them.
    pub author: Option<String>,
    /// Changes to how it wants to be run, after those that the workspace's settings make.
    pub changes: Vec<Change>,
}

/// How a commit ended.
#[derive(Debug)]
pub enum CommitOutcome {
    /// The image is in the store.
    Done(Box<Committed>),
    /// A signal to this process ended it; there is no image.
    Interrupted(i32),
}

/// An image that was made.
#[derive(Debug)]
pub struct Committed {
    /// The image.
    pub image: Image,
    /// Whether a template would have spared a boot.
    pub booted: bool,
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The workspace cannot be used.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    /// The workspace's image is not in the store any more.
    #[error("cannot build on `{image}`, the image of workspace `{name}`")]
    Base {
        /// The workspace.
        name: Name,
        /// Its image.
        image: String,
        /// Why.
        source: StoreError,
    },
    /// The disk could not be opened.
    #[error(transparent)]
    Helper(HelperError),
    /// The guest could not start to read the changes.
    #[error("the guest cannot start {}", .0.reason)]
    NotStarted(SpawnFailure),
    /// The guest was lost.
    #[error("the changes are cut off")]
    Lost(#[source] AgentError),
    /// The changes cannot be a layer.
    #[error("cannot make a layer of the changes in workspace `{name}`: {source}")]
    Layer {
        /// The workspace.
        name: Name,
        /// Why.
        source: LayerError,
    },
    /// The disk is not clean afterwards.
    #[error("failed to put the disk of the workspace away cleanly")]
    Unclean(#[source] AgentError),
    /// The image could not be stored.
    #[error("failed to store the image")]
    Store(#[from] MakeError),
    /// A thread could not be started, or the like.
    #[error("failed to read the changes")]
    Io(#[from] io::Error),
}

impl CommitError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Workspace(error) => error.hint(),
            Self::Base { image, .. } => Some(format!(
                "bring the same version of it back, with microagent pull {image} or microagent load"
            )),
            Self::Helper(error) => error.hint(),
            Self::Layer { source, .. } => source.hint(),
            _ => None,
        }
    }
}

impl From<HelperError> for CommitError {
    fn from(error: HelperError) -> Self {
        match error {
            HelperError::Workspace(error) => Self::Workspace(error),
            error => Self::Helper(error),
        }
    }
}

impl From<TakeError> for CommitError {
    fn from(error: TakeError) -> Self {
        match error {
            TakeError::NotStarted(failure) => Self::NotStarted(failure),
            TakeError::Io(error) => Self::Io(error),
        }
    }
}

impl Workspace {
    /// Makes an image of its image and its changes. It must be at rest, and stays as it is. `progress` hears how
    /// many bytes of files are in the layer, on another thread.
    pub async fn commit(
        &self,
        store: &Store,
        request: &CommitRequest,
        terms: HelperTerms,
        controls: &mut mpsc::UnboundedReceiver<Control>,
        progress: impl FnMut(u64) + Send + 'static,
    ) -> Result<CommitOutcome, CommitError> {
        let held = self.hold("commit")?.unfenced()?;
        fault_point("commit.held");
        let created = held.facts.end.as_ref().map_or(self.record().created_at, |end| end.at);
        let ingest = store.add().map_err(MakeError::from)?;
        let base = self.base(store)?;
        let config = Configuration::of(store, &base).map_err(MakeError::from)?;
        let helper = Helper::open(self, HelperDisk::held(held)?, Vec::new(), terms).await?;
        let booted = helper.booted();
        let read = self.read_layer(&helper, ingest, controls, progress).await;
        // What went wrong first is what is to be told.
        let held = helper.close().await;
        let (ingest, layer) = match read? {
            Read::Interrupted(signal) => return Ok(CommitOutcome::Interrupted(signal)),
            Read::Layer(made) => *made,
        };
        let held: Option<Held> = held.map_err(CommitError::Unclean)?;
        fault_point("commit.layer");
        let config = self.configured(config, &layer, request, created.to_string());
        let image = ingest.extended(&base, &config, &layer, &request.name)?;
        fault_point("commit.named");
        self.tell(EventKind::Committed { image: request.name.to_string() });
        drop(held);
        drop(ingest);
        if let Err(error) = store.collect() {
            tracing::debug!(%error, "left unused blobs in the store");
        }
        home::mark("committed");
        Ok(CommitOutcome::Done(Box::new(Committed { image, booted })))
    }

    fn base(&self, store: &Store) -> Result<Image, CommitError> {
        let record = self.record();
        let digest = record.image_digest.parse();
        let digest = digest.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        store.read(&digest).map_err(|source| CommitError::Base {
            name: self.name().clone(),
            image: record.image.clone(),
            source,
        })
    }

    /// The changes, as a layer of the store.
    async fn read_layer(
        &self,
        helper: &Helper,
        ingest: Ingest,
        controls: &mut mpsc::UnboundedReceiver<Control>,
        progress: impl FnMut(u64) + Send + 'static,
    ) -> Result<Read, CommitError> {
        let agent = helper.agent();
        let disk = self.record().spec.disk_size;
        let work = move |incoming| {
            let made = make_layer(&ingest, incoming, disk, progress);
            made.map(|layer| (ingest, layer))
        };
        let Taken { outcome, signal, lost } =
            take(agent.transfer(Transfer::PackChanges), controls, work).await?;
        home::mark("read");
        match (outcome, signal) {
            (Ok((ingest, layer)), None) => Ok(Read::Layer(Box::new((ingest, layer)))),
            (_, Some(signal)) => Ok(Read::Interrupted(signal)),
            (Err(Failed::Layer(LayerError::Cut)), None) if lost => Err(CommitError::Lost(agent.why_lost())),
            (Err(Failed::Layer(source)), None) => {
                Err(CommitError::Layer { name: self.name().clone(), source })
            }
            (Err(Failed::Store(error)), None) => Err(error.into()),
        }
    }

    fn configured(
        &self,
        mut config: Configuration,
        layer: &NewLayer,
        request: &CommitRequest,
        created: String,
    ) -> Configuration {
        settings::carry_on(&self.record().spec, &mut config);
        config.change(&request.changes);
        let history = History {
            created,
            created_by: self.record().service.argv.join(" "),
            author: request.author.clone(),
            comment: request.message.clone(),
        };
        config.add_layer(&layer.diff_id, &history);
        config
    }
}

/// What became of reading the changes.
enum Read {
    Layer(Box<(Ingest, NewLayer)>),
    Interrupted(i32),
}

enum Failed {
    Layer(LayerError),
    Store(MakeError),
}

fn make_layer(
    ingest: &Ingest,
    Incoming { chunks, exchange }: Incoming,
    disk: DiskSize,
    progress: impl FnMut(u64),
) -> Result<NewLayer, Failed> {
    let mut tar = LayerTar::new(chunks, exchange, disk, progress);
    ingest.layer(&mut tar, Compression::Gzip).map_err(|error| match (error, tar.into_failure()) {
        (MakeError::Ingest(IngestError::Read(_)), Some(reason)) => Failed::Layer(reason),
        (error, _) => Failed::Store(error),
    })
}

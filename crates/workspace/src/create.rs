//! Making a workspace; nothing is started.

use home::{Home, Name};
use image::{Image, Store};

use volume::AttachError;

use crate::attach::{MountsError, check_mounts, prepare_mounts};
use crate::event::EventKind;
use crate::record::{KeepError, NewDisk, WorkspaceRecord, exists, make};
use crate::root::{RootError, root_file_system};
use crate::service::{Service, ServiceError};
use crate::spec::WorkspaceSpec;
use crate::workspace::Workspace;
use crate::{CommandError, Step};

/// Why a workspace was not created.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// What it would run makes no sense.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The image's layers are no root file system.
    #[error("cannot use image `{image}`")]
    Root {
        /// The image.
        image: String,
        /// Why.
        source: RootError,
    },
    /// Its volumes make no sense together.
    #[error(transparent)]
    Mounts(#[from] MountsError),
    /// A volume of it cannot be used.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// It could not be made.
    #[error(transparent)]
    Keep(#[from] KeepError),
}

impl CreateError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Service(ServiceError::Command(CommandError::NoCommand)) => {
                Some("name one, as in: microagent create --image IMAGE sleep infinity".to_owned())
            }
            Self::Keep(KeepError::Exists(name)) => {
                Some(format!("choose another --name, or delete it: microagent delete {name}"))
            }
            Self::Root { source, .. } => source.hint(),
            Self::Attach(error) => error.hint(),
            Self::Keep(KeepError::Disk(error)) => error.hint(),
            _ => None,
        }
    }
}

/// Makes the workspace `name` from `image`. `observe` hears each step.
pub fn create(
    home: &Home,
    name: &Name,
    spec: WorkspaceSpec,
    image: &Image,
    store: &Store,
    observe: &mut dyn FnMut(Step),
) -> Result<(), CreateError> {
    let service = Service::resolve(&spec, image, store)?;
    if exists(home, name) {
        return Err(KeepError::Exists(name.clone()).into());
    }
    check_mounts(&spec.volumes)?;
    prepare_mounts(home, &spec.volumes, &mut |bytes, total| observe(Step::Converting { bytes, total }))?;
    let total = image.size();
    let report = &mut |bytes| observe(Step::Converting { bytes, total });
    // It is made now, so that a start needs nothing of the image any more, and held until the record names it.
    let _root = root_file_system(home, image, report)
        .map_err(|source| CreateError::Root { image: spec.image.clone(), source })?;
    let record = WorkspaceRecord::new(image, spec, service);
    drop(make(home, name, &record, NewDisk::Blank)?);
    if let Ok(workspace) = Workspace::find(home, name) {
        workspace.tell(EventKind::Created);
    }
    Ok(())
}

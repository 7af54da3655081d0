//! What is done with a volume while nobody has it attached, and what is known of one that somebody has.

use home::{Home, Name};
use proto::{ToGuest, Usage};
use volume::{AttachError, Attachment, DiskSize, Mount, Use, Volume, VolumeError};

use crate::agent::AgentError;
use crate::attach::{in_order, slot_serial, users_of, volume_users};
use crate::helper::{Helper, HelperError, HelperTerms};
use crate::workspace::Workspace;

/// Why something was not done with a volume.
#[derive(Debug, thiserror::Error)]
pub enum VolumeVerbError {
    /// It cannot be used.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// It cannot be attached.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// Workspaces attach it when they start.
    #[error("cannot delete volume `{name}`: {} it", users_in_words(.users))]
    Needed {
        /// The volume.
        name: Name,
        /// The workspaces.
        users: Vec<Name>,
    },
    /// It would be smaller.
    #[error("cannot shrink volume `{name}` from {from} to {to}: what is at its end would be lost")]
    Shrink {
        /// The volume.
        name: Name,
        /// Its size.
        from: DiskSize,
        /// The size that was asked for.
        to: DiskSize,
    },
    /// The machine that has it did not come up.
    #[error(transparent)]
    Helper(#[from] HelperError),
    /// The guest could not do it.
    #[error("failed to use the file system of the volume")]
    Guest(#[from] AgentError),
    /// The workspaces could not be read.
    #[error("failed to read the workspaces")]
    Workspaces(#[from] std::io::Error),
}

fn users_in_words(users: &[Name]) -> String {
    let names: Vec<_> = users.iter().map(|name| format!("`{name}`")).collect();
    match names.len() {
        1 => format!("workspace {} attaches", names[0]),
        _ => format!("workspaces {} attach", names.join(", ")),
    }
}

impl VolumeVerbError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Volume(error) => error.hint(),
            Self::Attach(error) => error.hint(),
            Self::Needed { users, .. } => {
                let names: Vec<_> = users.iter().map(Name::as_str).collect();
                Some(format!("delete what uses it first: microagent delete {}", names.join(" ")))
            }
            Self::Shrink { .. } => Some("make a smaller volume, and copy what is needed".to_owned()),
            Self::Helper(error) => error.hint(),
            Self::Guest(_) | Self::Workspaces(_) => None,
        }
    }
}

/// Deletes a volume that no workspace attaches.
pub fn delete_volume(home: &Home, name: &Name) -> Result<(), VolumeVerbError> {
    let volume = Volume::find(home, name)?;
    let users: Vec<Name> = users_of(home, name)?.iter().map(|user| user.name().clone()).collect();
    if !users.is_empty() {
        return Err(VolumeVerbError::Needed { name: name.clone(), users });
    }
    Ok(volume.delete()?)
}

/// Volumes that no workspace attaches and nobody uses.
pub fn unneeded_volumes(home: &Home) -> std::io::Result<Vec<Volume>> {
    let users = volume_users(home)?;
    let mut unneeded = Vec::new();
    for (name, found) in Volume::all(home)? {
        let Ok(volume) = found else { continue };
        if !users.contains_key(&name) && volume.in_use() == Use::Free {
            unneeded.push(volume);
        }
    }
    Ok(unneeded)
}

/// Gives a volume that nobody has attached a larger disk. Each step may be the last, and all may be done again.
///
/// It must be driven on a thread that lives until it is done.
pub async fn resize_volume(
    home: &Home,
    name: &Name,
    size: DiskSize,
    terms: HelperTerms,
) -> Result<(), VolumeVerbError> {
    let volume = Volume::find(home, name)?;
    let from = volume.record().size;
    if size < from {
        return Err(VolumeVerbError::Shrink { name: name.clone(), from, to: size });
    }
    // The lock goes over to the machine.
    drop(volume.grow_file(size)?);
    let helper =
        Helper::for_volume(home, Attachment::open(home, &seen_at(name), &mut |_, _| ())?, terms).await?;
    let grow = ToGuest::Grow { disk: Some(slot_serial(0)), size: size.bytes() };
    let grown = helper.agent().request(&grow).await;
    let closed = helper.close().await;
    grown?;
    drop(closed?);
    Ok(volume.note_size(size)?)
}

/// How much of a volume's file system is used, as a guest sees it: one that has it, or one that looks. `None` if it
/// is attached where nobody can be asked.
///
/// It must be driven on a thread that lives until it is done.
pub async fn volume_usage(
    home: &Home,
    name: &Name,
    terms: HelperTerms,
) -> Result<Option<Usage>, VolumeVerbError> {
    let volume = Volume::find(home, name)?;
    if volume.in_use() != Use::Free {
        for user in users_of(home, name)? {
            if let Some(usage) = ask(&user, name).await {
                return Ok(Some(usage));
            }
        }
        return Ok(None);
    }
    if !volume.record().filled {
        return Ok(Some(Usage { disk_size: volume.record().size.bytes(), ..Usage::default() }));
    }
    let helper =
        Helper::for_volume(home, Attachment::open(home, &seen_at(name), &mut |_, _| ())?, terms).await?;
    let usage = helper.agent().measure_disk(slot_serial(0)).await;
    let closed = helper.close().await;
    let usage = usage?;
    closed?;
    Ok(Some(usage))
}

/// Asks the guest of a workspace that runs.
async fn ask(workspace: &Workspace, name: &Name) -> Option<Usage> {
    let slot =
        in_order(&workspace.record().spec.volumes).iter().position(|mount| mount.volume() == Some(name))?;
    let agent = workspace.agent().await.ok()?;
    let usage = agent.measure_disk(slot_serial(slot)).await.ok()?;
    // A guest that does not have it says nothing of it.
    Some(usage).filter(|usage| usage.disk_size > 0)
}

/// A volume as the machine that looks after it sees it.
fn seen_at(name: &Name) -> Mount {
    format!("{name}:/volume").parse().expect("a name and a place are a mount")
}

//! Disks beside a workspace's own: volumes, bundles, disk images.
//!
//! A machine has slots for them, whose number is rounded up so that few templates fit all. In a template nothing is
//! in a slot; a copy gets its disks when it starts, and the guest is told what is in which slot.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use home::{Home, Name};
use proto::DiskContent;
use volume::{Access, AttachError, Attachment, Content, Mount, Source, Volume, VolumeError};

use crate::workspace::Workspace;

/// The most disks that a machine takes beside its own.
const MOST: usize = 16;

/// How many disks a machine has room for beside its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiskSlots(u8);

impl DiskSlots {
    /// Room for so many: none, or the next power of two.
    pub fn for_disks(number: usize) -> Self {
        let number = if number == 0 { 0 } else { number.min(MOST).next_power_of_two() };
        Self(u8::try_from(number).unwrap_or(u8::MAX))
    }

    /// The number.
    pub fn number(self) -> usize {
        self.0.into()
    }
}

impl fmt::Display for DiskSlots {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl FromStr for DiskSlots {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::for_disks(text.parse()?))
    }
}

/// Mounts that make no sense together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MountsError {
    /// There are more than a machine takes.
    #[error("cannot attach {0} volumes: a machine takes {MOST}")]
    TooMany(usize),
    /// Two are to be at the same path.
    #[error("cannot put two volumes at `{0}`")]
    SamePlace(String),
    /// One disk is to be written to at two paths.
    #[error("cannot attach `{0}` twice")]
    Twice(String),
}

/// Whether all of `mounts` can be attached to one machine.
pub fn check_mounts(mounts: &[Mount]) -> Result<(), MountsError> {
    if mounts.len() > MOST {
        return Err(MountsError::TooMany(mounts.len()));
    }
    for (index, mount) in mounts.iter().enumerate() {
        let before = &mounts[..index];
        if before.iter().any(|other| other.place == mount.place) {
            return Err(MountsError::SamePlace(mount.place.to_string()));
        }
        let is_bundle = matches!(mount.source, Source::Bundle(_));
        if !is_bundle && before.iter().any(|other| other.source == mount.source) {
            return Err(MountsError::Twice(mount.source.to_string()));
        }
    }
    Ok(())
}

/// Makes what a later start will need of `mounts`: volumes that are not there, file systems of archives.
pub(crate) fn prepare_mounts(
    home: &Home,
    mounts: &[Mount],
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), AttachError> {
    for mount in mounts {
        match &mount.source {
            Source::Volume(name) => drop(Volume::find_or_create(home, name)?),
            // Whether a file is in use now says nothing about then.
            Source::Bundle(_) | Source::Image(_) => match Attachment::open(home, mount, progress) {
                Err(AttachError::ImageInUse(_)) => {}
                outcome => drop(outcome?),
            },
        }
    }
    Ok(())
}

/// `mounts` in the order in which they are mounted.
pub(crate) fn in_order(mounts: &[Mount]) -> Vec<&Mount> {
    let mut mounts: Vec<&Mount> = mounts.iter().collect();
    mounts.sort_by(|one, other| one.place.cmp(&other.place));
    mounts
}

/// Opens the disks of `mounts`, in the order in which they are mounted: one may be below another.
pub(crate) fn attach_all(
    home: &Home,
    mounts: &[Mount],
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Vec<Attachment>, AttachError> {
    in_order(mounts).into_iter().map(|mount| Attachment::open(home, mount, progress)).collect()
}

/// A disk in a slot, as the guest is told of it.
#[derive(Debug, Clone)]
pub(crate) struct Slotted {
    pub(crate) request: proto::Attach,
    /// What to call it in messages.
    pub(crate) name: String,
    content: Content,
    written: bool,
}

impl Slotted {
    /// Whether the guest may write to it.
    pub(crate) fn is_written(&self) -> bool {
        self.written
    }

    /// Notes that the guest has unmounted it. What is not noted is looked after again.
    pub(crate) fn note_clean(&self) {
        if self.written
            && let Err(error) = self.content.note_clean()
        {
            tracing::warn!(name = self.name, %error, "failed to note that a volume is clean");
        }
    }

    /// Notes that the guest has mounted it.
    pub(crate) fn note_mounted(&self) -> Result<(), VolumeError> {
        self.content.note_mounted()
    }
}

/// The serial number of the disk in a slot.
pub(crate) fn slot_serial(slot: usize) -> String {
    format!("volume{slot}")
}

/// What the guest is told of `attachments`, which are in the first slots.
pub(crate) fn slotted(attachments: &[Attachment]) -> Arc<[Slotted]> {
    let tell = |(slot, attachment): (usize, &Attachment)| {
        let content = match &attachment.content {
            Content::Volume(_) => DiskContent::Volume,
            Content::Unfilled(_) => DiskContent::Unfilled,
            Content::Image => DiskContent::Whole,
            Content::Bundle => DiskContent::Bundle { name: attachment.place().key() },
        };
        Slotted {
            request: proto::Attach {
                disk: slot_serial(slot),
                place: attachment.place().to_string(),
                content,
                read_only: attachment.mount.access == Access::ReadOnly,
                writable: attachment.access == Access::ReadWrite,
            },
            name: attachment.mount.source.to_string(),
            content: attachment.content.clone(),
            written: attachment.access == Access::ReadWrite,
        }
    };
    attachments.iter().enumerate().map(tell).collect()
}

/// The volumes that workspaces attach, each with those that do, by their names.
pub fn volume_users(home: &Home) -> std::io::Result<BTreeMap<Name, Vec<Workspace>>> {
    let mut users: BTreeMap<Name, Vec<Workspace>> = BTreeMap::new();
    for workspace in Workspace::all(home)?.into_iter().filter_map(|(_, found)| found.ok()) {
        for name in workspace.record().spec.volumes.iter().filter_map(Mount::volume) {
            users.entry(name.clone()).or_default().push(workspace.clone());
        }
    }
    Ok(users)
}

/// The workspaces that attach the volume `name`, by their names.
pub fn users_of(home: &Home, name: &Name) -> std::io::Result<Vec<Workspace>> {
    Ok(volume_users(home)?.remove(name).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounts(texts: &[&str]) -> Vec<Mount> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn few_numbers_of_slots_fit_all() {
        let slots = |number| DiskSlots::for_disks(number).number();
        assert_eq!([0, 1, 2, 3, 5, 9, 16].map(slots), [0, 1, 2, 4, 8, 16, 16]);
        assert_eq!("3".parse::<DiskSlots>().unwrap().to_string(), "4");
    }

    #[test]
    fn mounts_that_get_in_each_others_way_are_refused() {
        assert!(check_mounts(&mounts(&["a:/a", "b:/a/b", "x.tar:/x", "x.tar:/y"])).is_ok());
        for (texts, reason) in [
            (&["a:/a", "b:/a/"][..], "two volumes at `/a`"),
            (&["a:/a", "a:/b:ro"], "attach `a` twice"),
            (&["x.img:/a", "x.img:/b"], "`x.img` twice"),
        ] {
            let error = check_mounts(&mounts(texts)).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        let many: Vec<_> = (0..17).map(|number| format!("v{number}:/v{number}")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        assert_eq!(check_mounts(&mounts(&many)), Err(MountsError::TooMany(17)));
    }
}

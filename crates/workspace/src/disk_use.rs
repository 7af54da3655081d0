//! What a state directory takes of the disk, by kind, and what of it nobody needs any more.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use home::{Home, Name};
use image::{Garbage, Platform, Store};
use kernel::Kernels;
use template::{Budget, Templates};
use volume::{Volume, unneeded_bundles};

use crate::initramfs::place_of;
use crate::root::chain_id;
use crate::volumes::{delete_volume, unneeded_volumes};
use crate::workspace::Workspace;

/// What was made so recently may be about to be used by whoever made it.
const RECENT: Duration = Duration::from_secs(600);

/// A kind of what is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Blobs of the OCI store.
    Images,
    /// Root file systems made of layers.
    RootFileSystems,
    /// Booted machines to copy.
    Templates,
    /// Guest kernels.
    Kernels,
    /// Blank disks and initramfs images.
    Boot,
    /// Disks, logs and records of workspaces.
    Workspaces,
    /// Disks of named volumes.
    Volumes,
    /// File systems of archives.
    Bundles,
    /// Everything else.
    Other,
}

impl Kind {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Images => "images",
            Self::RootFileSystems => "root file systems",
            Self::Templates => "templates",
            Self::Kernels => "kernels",
            Self::Boot => "boot files",
            Self::Workspaces => "workspaces",
            Self::Volumes => "volumes",
            Self::Bundles => "bundles",
            Self::Other => "other",
        }
    }
}

/// What a kind takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskUse {
    /// The kind.
    pub kind: Kind,
    /// How many there are; none where that says nothing.
    pub count: Option<usize>,
    /// What they take, in bytes; files of holes count what is in them.
    pub allocated: u64,
    /// What [`plan_prune`] would free of that.
    pub reclaimable: u64,
}

/// Something that nobody needs any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unneeded {
    /// Its kind.
    pub kind: Kind,
    /// What to call it.
    pub name: String,
    /// What it takes, in bytes.
    pub allocated: u64,
    place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    File(PathBuf),
    /// In the image store, which has its own rules for removing.
    Blob(PathBuf),
    Template,
    Workspace(Name),
    Volume(Name),
}

/// What to look for beside what nothing can use any more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PruneScope {
    /// Templates and blank disks, which are made again when they are needed.
    pub caches: bool,
    /// Workspaces that do not run.
    pub workspaces: bool,
    /// Volumes that no workspace attaches.
    pub volumes: bool,
}

/// Why disk use could not be told, or not be reduced.
#[derive(Debug, thiserror::Error)]
pub enum DiskUseError {
    /// The images could not be read.
    #[error(transparent)]
    Images(#[from] image::StoreError),
    /// The kernels could not be read.
    #[error(transparent)]
    Kernels(#[from] kernel::StoreError),
    /// The templates could not be read.
    #[error(transparent)]
    Templates(#[from] template::TemplateError),
    /// A file could not be read or removed.
    #[error("failed to look through the state directory")]
    Io(#[from] io::Error),
    /// A workspace cannot be read, so what it needs cannot be told.
    #[error("cannot tell what workspace `{0}` needs")]
    Damaged(Name, #[source] Box<crate::WorkspaceError>),
}

/// What everything in `home` takes.
pub fn disk_use(home: &Home) -> Result<Vec<DiskUse>, DiskUseError> {
    let unneeded = plan_prune(home, PruneScope::default())?;
    let kinds = [
        (Kind::Images, home.images(), Some(Store::open(&home.images())?.list()?.len())),
        (Kind::RootFileSystems, home.rootfs(), Some(files(&home.rootfs(), "erofs")?.len())),
        (Kind::Templates, home.templates(), Some(Templates::open(home).list()?.len())),
        (Kind::Kernels, home.kernels(), Some(Kernels::open(home).list()?.len())),
        (Kind::Boot, home.boot(), None),
        (Kind::Workspaces, home.workspaces(), Some(Workspace::all(home)?.len())),
        (Kind::Volumes, home.volumes(), Some(Volume::all(home)?.len())),
        (Kind::Bundles, home.bundles(), Some(files(&home.bundles(), "erofs")?.len())),
    ];
    let mut all = Vec::new();
    let mut rest = allocated(home.root());
    for (kind, directory, count) in kinds {
        let allocated = allocated(&directory);
        rest = rest.saturating_sub(allocated);
        let of_kind = unneeded.iter().filter(|unneeded| unneeded.kind == kind);
        let reclaimable = of_kind.map(|unneeded| unneeded.allocated).sum();
        all.push(DiskUse { kind, count, allocated, reclaimable });
    }
    all.push(DiskUse { kind: Kind::Other, count: None, allocated: rest, reclaimable: 0 });
    Ok(all)
}

/// What in `home` nobody needs, within `scope`. Nothing is removed.
pub fn plan_prune(home: &Home, scope: PruneScope) -> Result<Vec<Unneeded>, DiskUseError> {
    let mut plan = Vec::new();
    let mut file = |kind, path: PathBuf| -> io::Result<()> {
        let metadata = std::fs::metadata(&path)?;
        let age = metadata.modified()?.elapsed().unwrap_or_default();
        if age >= RECENT {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            plan.push(Unneeded { kind, name, allocated: metadata.blocks() * 512, place: Place::File(path) });
        }
        Ok(())
    };
    let needed = needed_roots(home)?;
    for path in files(&home.rootfs(), "erofs")? {
        if path.file_stem().and_then(|stem| stem.to_str()).is_some_and(|chain| !needed.contains(chain)) {
            file(Kind::RootFileSystems, path)?;
        }
    }
    let booted: BTreeSet<PathBuf> =
        Kernels::open(home).list()?.iter().map(|kernel| place_of(home, kernel)).collect();
    for path in files(&home.boot(), "cpio")?.into_iter().filter(|path| !booted.contains(path)) {
        file(Kind::Boot, path)?;
    }
    if scope.caches {
        for path in files(&home.boot(), "ext4")? {
            file(Kind::Boot, path)?;
        }
        for (path, allocated) in unneeded_bundles(home)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            plan.push(Unneeded { kind: Kind::Bundles, name, allocated, place: Place::File(path) });
        }
        for listed in Templates::open(home).list()? {
            let name = listed.key.to_string();
            plan.push(Unneeded {
                kind: Kind::Templates,
                name,
                allocated: listed.allocated,
                place: Place::Template,
            });
        }
    }
    plan.extend(unneeded_blobs(home)?);
    if scope.volumes {
        for volume in unneeded_volumes(home)? {
            let (name, allocated) = (volume.name().clone(), volume.allocated());
            let place = Place::Volume(name.clone());
            plan.push(Unneeded { kind: Kind::Volumes, name: name.to_string(), allocated, place });
        }
    }
    if scope.workspaces {
        for (name, found) in Workspace::all(home)? {
            let Ok(workspace) = found else { continue };
            let rests = |status: crate::Status| !status.state.is_live() && status.facts.quarantine.is_none();
            if workspace.status().is_ok_and(rests) {
                let allocated = allocated(workspace.directory());
                plan.push(Unneeded {
                    kind: Kind::Workspaces,
                    name: name.to_string(),
                    allocated,
                    place: Place::Workspace(name),
                });
            }
        }
    }
    Ok(plan)
}

/// Blobs that no image refers to, and what pulls left that were killed.
fn unneeded_blobs(home: &Home) -> Result<Vec<Unneeded>, DiskUseError> {
    let mut garbage = Store::open(&home.images())?.garbage(&HashSet::new())?;
    // A pull that was broken off goes on with the blobs that it has.
    garbage.retain(|garbage| garbage.modified.elapsed().unwrap_or_default() >= RECENT);
    garbage.sort_by(|one, other| one.path.cmp(&other.path));
    let unneeded = |Garbage { digest, path, allocated, .. }| {
        let file = || path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = digest.map_or_else(file, |digest| digest.to_string());
        Unneeded { kind: Kind::Images, name: format!("blob {name}"), allocated, place: Place::Blob(path) }
    };
    Ok(garbage.into_iter().map(unneeded).collect())
}

/// Removes what `plan` holds, and tells what that was; what is used by now stays.
pub fn prune(home: &Home, plan: Vec<Unneeded>) -> Result<Vec<Unneeded>, DiskUseError> {
    let blobs = remove_blobs(home, &plan)?;
    let removed = |unneeded: &Unneeded| match &unneeded.place {
        Place::File(path) if unneeded.kind == Kind::RootFileSystems => remove_root(home, path),
        // Who has it open goes on; who needs it again makes it again.
        Place::File(path) => std::fs::remove_file(path).is_ok(),
        Place::Blob(path) => blobs.contains(path),
        Place::Template => unneeded.name.parse().is_ok_and(|key| Templates::open(home).delete(&key).is_ok()),
        Place::Volume(name) => delete_volume(home, name).is_ok(),
        Place::Workspace(name) => {
            Workspace::find(home, name).and_then(|workspace| workspace.delete()).is_ok()
        }
    };
    let has_templates = plan.iter().any(|unneeded| unneeded.place == Place::Template);
    let removed = plan.into_iter().filter(removed).collect();
    if has_templates {
        // What a maker that was killed left goes with the next look.
        Templates::open(home).trim(Budget::default())?;
    }
    Ok(removed)
}

/// Removes those blobs of `plan` that still nothing refers to; none while some are being added.
fn remove_blobs(home: &Home, plan: &[Unneeded]) -> Result<HashSet<PathBuf>, DiskUseError> {
    let path = |unneeded: &Unneeded| match &unneeded.place {
        Place::Blob(path) => Some(path.clone()),
        _ => None,
    };
    let planned: HashSet<PathBuf> = plan.iter().filter_map(path).collect();
    if planned.is_empty() {
        return Ok(planned);
    }
    let store = Store::open(&home.images())?;
    let removed = store.collect_where(|garbage| planned.contains(&garbage.path))?.unwrap_or_default();
    Ok(removed.into_iter().map(|garbage| garbage.path).collect())
}

/// Much may have happened since the plan was made.
fn remove_root(home: &Home, path: &Path) -> bool {
    let chain = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let needed = || needed_roots(home).map_or(true, |needed| needed.contains(chain));
    crate::root::remove_unused(path, needed).unwrap_or(false)
}

/// The chain IDs that images in the store and workspaces need.
fn needed_roots(home: &Home) -> Result<BTreeSet<String>, DiskUseError> {
    let store = Store::open(&home.images())?;
    let mut needed = BTreeSet::new();
    for listed in store.list()? {
        let platform = listed.platform.unwrap_or_else(Platform::of_host);
        let found = match &listed.reference {
            Some(reference) => store.find(reference, &platform)?,
            None => Some(store.read(&listed.manifest_digest)?),
        };
        needed.extend(found.map(|image| chain_id(&image)));
    }
    for (name, found) in Workspace::all(home)? {
        let workspace = found.map_err(|error| DiskUseError::Damaged(name, Box::new(error)))?;
        needed.insert(workspace.record().root.clone());
    }
    Ok(needed)
}

fn files(directory: &Path, extension: &str) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// What a tree takes; a file of several names counts once. What goes meanwhile takes nothing.
fn allocated(root: &Path) -> u64 {
    let mut seen = BTreeSet::new();
    let mut pending = vec![root.to_owned()];
    let mut total = 0;
    while let Some(path) = pending.pop() {
        let Ok(metadata) = std::fs::symlink_metadata(&path) else { continue };
        if seen.insert((metadata.dev(), metadata.ino())) {
            total += metadata.blocks() * 512;
        }
        if metadata.is_dir()
            && let Ok(entries) = std::fs::read_dir(&path)
        {
            pending.extend(entries.flatten().map(|entry| entry.path()));
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_needs_is_planned_and_only_if_it_is_old() {
        let parent = tempfile::tempdir().unwrap();
        let home = Home::open(Some(parent.path())).unwrap();
        let old = std::time::SystemTime::now() - 2 * RECENT;
        for name in ["aa.erofs", "bb.erofs"] {
            std::fs::write(home.rootfs().join(name), vec![1; 8192]).unwrap();
        }
        let file = std::fs::File::options().write(true).open(home.rootfs().join("aa.erofs")).unwrap();
        file.set_modified(old).unwrap();
        let plan = plan_prune(&home, PruneScope::default()).unwrap();
        assert_eq!(plan.iter().map(|unneeded| unneeded.name.as_str()).collect::<Vec<_>>(), ["aa.erofs"]);
        assert_eq!(prune(&home, plan.clone()).unwrap(), plan);
        assert!(plan[0].allocated >= 8192);
        assert!(!home.rootfs().join("aa.erofs").exists() && home.rootfs().join("bb.erofs").exists());
        let all = disk_use(&home).unwrap();
        let sum: u64 = all.iter().map(|part| part.allocated).sum();
        assert_eq!(sum, allocated(home.root()));
    }

    #[test]
    fn blobs_that_no_image_has_are_counted_and_go_unless_some_are_being_added() {
        let parent = tempfile::tempdir().unwrap();
        let home = Home::open(Some(parent.path())).unwrap();
        let store = Store::open(&home.images()).unwrap();
        let old = std::time::SystemTime::now() - 2 * RECENT;
        let digests = [b'a', b'b'].map(|byte| store.add().unwrap().put(&vec![byte; 100_000]).unwrap());
        let set = |path: &Path| {
            std::fs::File::options().write(true).open(path).unwrap().set_modified(old).unwrap();
        };
        set(&store.blob_path(&digests[0]));
        let left = home.images().join("ingest/blob-left");
        std::fs::write(&left, vec![1; 50_000]).unwrap();
        set(&left);
        let plan = plan_prune(&home, PruneScope::default()).unwrap();
        let names: Vec<&str> = plan.iter().map(|unneeded| unneeded.name.as_str()).collect();
        assert_eq!(names, [format!("blob {}", digests[0]), "blob blob-left".to_owned()]);
        let reclaimable = disk_use(&home).unwrap()[0].reclaimable;
        let adding = home::Shared::wait(&home.images().join("content.lock")).unwrap();
        assert!(prune(&home, plan.clone()).unwrap().is_empty());
        drop(adding);
        let before = allocated(home.root());
        let removed = prune(&home, plan).unwrap();
        assert_eq!(removed.iter().map(|unneeded| unneeded.allocated).sum::<u64>(), reclaimable);
        assert_eq!(before - allocated(home.root()), reclaimable);
        assert!(store.blob_path(&digests[1]).exists() && !left.exists());
    }
}

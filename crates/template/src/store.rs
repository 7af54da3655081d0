//! The templates of a state directory: finding, making, listing, deleting.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use home::{Exclusive, Home, LockError, Record, RecordError, Scratch, read_record, write_record};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Budget, TemplateKey};

/// A saved state is some hundred kilobytes; one of this size is damaged.
const LARGEST_STATE: u64 = 256 << 20;

/// The templates of a state directory.
#[derive(Debug, Clone)]
pub struct Templates {
    home: Home,
}

/// A template, open for one restore.
#[derive(Debug)]
pub struct Template {
    /// What names it.
    pub key: TemplateKey,
    /// The guest's memory.
    pub memory: File,
    /// The devices' state, at its start.
    pub state: File,
    /// The writable disk, to be copied.
    pub disk: File,
}

/// A template that is being made. Dropped without [`Making::finish`], it leaves nothing.
#[derive(Debug)]
pub struct Making {
    /// The guest's memory, empty.
    pub memory: File,
    /// The devices' state, empty.
    pub state: File,
    /// The writable disk, empty.
    pub disk: File,
    key: TemplateKey,
    scratch: Scratch,
    templates: Templates,
    lock: Option<Exclusive>,
}

/// A template in a list.
#[derive(Debug, Clone)]
pub struct Listed {
    /// What names it.
    pub key: TemplateKey,
    /// The image that it starts.
    pub image: String,
    /// When it was made.
    pub created_at: jiff::Timestamp,
    /// When it was last restored, or made.
    pub used_at: jiff::Timestamp,
    /// The disk space that it takes, in bytes.
    pub allocated: u64,
}

/// What `template.json` holds.
#[derive(Debug, Serialize, Deserialize)]
struct TemplateRecord {
    image: String,
    created_at: jiff::Timestamp,
    memory_size: u64,
    state_size: u64,
    state_sha256: String,
    disk_size: u64,
}

impl Record for TemplateRecord {
    const VERSION: u32 = 1;
}

/// Why templates could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// There is no such template.
    #[error("there is no template `{0}`")]
    Unknown(TemplateKey),
    /// One that would drive out all others and still be too large.
    #[error("a template of {} MiB does not fit into the budget of `{budget}`", needed >> 20)]
    TooLarge {
        /// The disk space that it takes, in bytes.
        needed: u64,
        /// What templates may take.
        budget: Budget,
    },
    /// A file could not be read or written.
    #[error("failed to access the templates")]
    Io(#[from] io::Error),
    /// A record could not be read or written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A lock could not be taken.
    #[error(transparent)]
    Lock(#[from] LockError),
}

impl Templates {
    /// The templates in `home`.
    pub fn open(home: &Home) -> Self {
        Self { home: home.clone() }
    }

    /// The template of this key, if there is a sound one. A damaged one is removed.
    pub fn find(&self, key: &TemplateKey) -> Option<Template> {
        match self.open_sound(key) {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%key, %error, "removing a damaged template");
                self.discard(key);
                None
            }
        }
    }

    fn open_sound(&self, key: &TemplateKey) -> Result<Option<Template>, TemplateError> {
        let place = self.place(key);
        let record_path = place.join("template.json");
        let Some(record) = read_record::<TemplateRecord>(&record_path)? else {
            // What lies there without a record would be in the way of the next one.
            return if place.exists() { Err(damaged("record")) } else { Ok(None) };
        };
        let memory = File::open(place.join("memory"))?;
        let mut state = File::open(place.join("state"))?;
        let disk = File::open(place.join("disk"))?;
        expect_size(&memory, record.memory_size, "memory")?;
        expect_size(&state, record.state_size, "state")?;
        expect_size(&disk, record.disk_size, "disk")?;
        if state_digest(&mut state)? != record.state_sha256 {
            return Err(damaged("state"));
        }
        // A use that is not noted makes it look older than it is; nothing else depends on it.
        let _ = File::open(&record_path).and_then(|record| record.set_modified(SystemTime::now()));
        Ok(Some(Template { key: key.clone(), memory, state, disk }))
    }

    /// Starts to make the template of this key; `None` if it is there or another process makes it.
    pub fn begin(&self, key: &TemplateKey) -> Result<Option<Making>, TemplateError> {
        let Some(lock) = Exclusive::try_now(&self.place(key).with_extension("lock"))? else {
            return Ok(None);
        };
        if self.find(key).is_some() {
            lock.delete()?;
            return Ok(None);
        }
        let scratch = Scratch::new(&self.home)?;
        let directory = scratch.path().join("template");
        fs_err::create_dir(&directory)?;
        let new = |name: &str| {
            let mut options = File::options();
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            options.read(true).write(true).create_new(true).open(directory.join(name))
        };
        let (memory, state, disk) = (new("memory")?, new("state")?, new("disk")?);
        let templates = self.clone();
        Ok(Some(Making { memory, state, disk, key: key.clone(), scratch, templates, lock: Some(lock) }))
    }

    /// All templates, the most recently used first.
    pub fn list(&self) -> Result<Vec<Listed>, TemplateError> {
        let mut all = Vec::new();
        for entry in std::fs::read_dir(self.home.templates())? {
            let path = entry?.path();
            let key = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
            // One that is deleted right now, or damaged, is not listed.
            if let Some(listed) = key.and_then(|key| describe(key, &path).ok().flatten()) {
                all.push(listed);
            }
        }
        all.sort_by_key(|listed| std::cmp::Reverse(listed.used_at));
        Ok(all)
    }

    /// Deletes a template. Machines that were restored from it go on.
    pub fn delete(&self, key: &TemplateKey) -> Result<(), TemplateError> {
        let place = self.place(key);
        if !place.exists() {
            return Err(TemplateError::Unknown(key.clone()));
        }
        let scratch = Scratch::new(&self.home)?;
        match std::fs::rename(&place, scratch.path().join("deleted")) {
            // Somebody else was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            outcome => Ok(outcome?),
        }
    }

    /// Deletes a template that turned out not to work; if that fails it is tried again at its next use.
    pub fn discard(&self, key: &TemplateKey) {
        if let Err(error) = self.delete(key) {
            tracing::warn!(%key, %error, "failed to remove a template");
        }
    }

    /// Deletes the least recently used until the rest fits the budget; tells which.
    pub fn trim(&self, budget: Budget) -> Result<Vec<Listed>, TemplateError> {
        let Budget::Bytes(mut left) = budget else {
            let all = self.list()?;
            for listed in &all {
                self.discard(&listed.key);
            }
            return Ok(all);
        };
        let mut deleted = Vec::new();
        for listed in self.list()? {
            if let Some(rest) = left.checked_sub(listed.allocated) {
                left = rest;
            } else {
                left = 0;
                self.discard(&listed.key);
                deleted.push(listed);
            }
        }
        Ok(deleted)
    }

    fn place(&self, key: &TemplateKey) -> PathBuf {
        self.home.templates().join(key.as_str())
    }
}

impl Making {
    /// Puts the template in its place, if the budget holds it. `image` is the name that lists show.
    pub fn finish(mut self, image: &str, budget: Budget) -> Result<(), TemplateError> {
        let record = TemplateRecord {
            image: image.to_owned(),
            created_at: jiff::Timestamp::now(),
            memory_size: self.memory.metadata()?.len(),
            state_size: self.state.metadata()?.len(),
            state_sha256: state_digest(&mut self.state)?,
            disk_size: self.disk.metadata()?.len(),
        };
        // A template that the host's next crash could turn into zeros must not look sound.
        for file in [&self.memory, &self.state, &self.disk] {
            file.sync_all()?;
        }
        self.expect_to_fit(budget)?;
        let directory = self.scratch.path().join("template");
        write_record(&directory.join("template.json"), &record)?;
        std::fs::rename(&directory, self.templates.place(&self.key))?;
        home::sync_directory(&self.templates.home.templates())?;
        Ok(())
    }

    fn expect_to_fit(&self, budget: Budget) -> Result<(), TemplateError> {
        let mut needed = 0;
        for file in [&self.memory, &self.state, &self.disk] {
            needed += file.metadata()?.blocks() * 512;
        }
        let fits = matches!(budget, Budget::Bytes(bytes) if needed <= bytes);
        if fits { Ok(()) } else { Err(TemplateError::TooLarge { needed, budget }) }
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        if let Some(lock) = self.lock.take() {
            // What stays of it is an empty file, which the next maker takes over.
            let _ = lock.delete();
        }
    }
}

fn expect_size(file: &File, size: u64, what: &'static str) -> Result<(), TemplateError> {
    if file.metadata()?.len() == size { Ok(()) } else { Err(damaged(what)) }
}

fn damaged(what: &'static str) -> TemplateError {
    io::Error::new(io::ErrorKind::InvalidData, format!("its {what} is damaged")).into()
}

/// The digest of a state, which is at its start again afterwards.
fn state_digest(state: &mut File) -> io::Result<String> {
    let mut bytes = Vec::new();
    rustix::fs::seek(&*state, rustix::fs::SeekFrom::Start(0))?;
    state.take(LARGEST_STATE).read_to_end(&mut bytes)?;
    rustix::fs::seek(&*state, rustix::fs::SeekFrom::Start(0))?;
    Ok(home::hexadecimal(&Sha256::digest(&bytes)))
}

fn describe(key: TemplateKey, place: &Path) -> Result<Option<Listed>, TemplateError> {
    let record_path = place.join("template.json");
    let Some(record) = read_record::<TemplateRecord>(&record_path)? else { return Ok(None) };
    let used_at = jiff::Timestamp::try_from(std::fs::metadata(&record_path)?.modified()?);
    let mut allocated = 0;
    for file in std::fs::read_dir(place)? {
        allocated += file?.metadata()?.blocks() * 512;
    }
    let used_at = used_at.unwrap_or(record.created_at);
    Ok(Some(Listed { key, image: record.image, created_at: record.created_at, used_at, allocated }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KeyParts;
    use std::io::Write;

    fn home() -> (tempfile::TempDir, Templates) {
        let parent = tempfile::tempdir().unwrap();
        let templates = Templates::open(&Home::open(Some(parent.path())).unwrap());
        (parent, templates)
    }

    fn key(machine: &str) -> TemplateKey {
        KeyParts { machine, kernel: "", initramfs: "", root: "", disk: "" }.key()
    }

    fn make(templates: &Templates, key: &TemplateKey, size: usize) {
        let mut making = templates.begin(key).unwrap().unwrap();
        making.memory.write_all(&vec![1; size]).unwrap();
        making.state.write_all(b"state").unwrap();
        making.disk.write_all(b"disk").unwrap();
        making.finish("image", Budget::default()).unwrap();
    }

    #[test]
    fn a_template_is_found_whole_once_it_is_finished() {
        let (_parent, templates) = home();
        let key = key("a");
        let making = templates.begin(&key).unwrap().unwrap();
        assert!(templates.find(&key).is_none());
        assert!(templates.begin(&key).unwrap().is_none(), "only one makes it");
        drop(making);
        make(&templates, &key, 10);
        let found = templates.find(&key).unwrap();
        assert_eq!(io::read_to_string(found.state).unwrap(), "state");
        assert!(templates.begin(&key).unwrap().is_none(), "it is there");
        assert_eq!(templates.list().unwrap()[0].image, "image");
    }

    #[test]
    fn what_is_abandoned_leaves_nothing() {
        let (parent, templates) = home();
        drop(templates.begin(&key("a")).unwrap().unwrap());
        let names: Vec<_> = std::fs::read_dir(parent.path().join("tmp")).unwrap().collect();
        assert!(names.is_empty(), "{names:?}");
        assert!(templates.list().unwrap().is_empty());
    }

    #[test]
    fn a_damaged_template_is_removed_when_it_is_looked_for() {
        let spoil: [fn(&Path); 5] = [
            |place| std::fs::write(place.join("state"), b"stAte").unwrap(),
            |place| std::fs::write(place.join("memory"), b"short").unwrap(),
            |place| std::fs::remove_file(place.join("disk")).unwrap(),
            |place| std::fs::write(place.join("template.json"), "{").unwrap(),
            |place| std::fs::remove_file(place.join("template.json")).unwrap(),
        ];
        for spoil in spoil {
            let (_parent, templates) = home();
            let key = key("a");
            make(&templates, &key, 10);
            spoil(&templates.place(&key));
            assert!(templates.find(&key).is_none());
            assert!(!templates.place(&key).exists());
            make(&templates, &key, 10);
            assert!(templates.find(&key).is_some());
        }
    }

    #[test]
    fn a_template_in_use_survives_its_deletion() {
        let (_parent, templates) = home();
        let key = key("a");
        make(&templates, &key, 10);
        let used = templates.find(&key).unwrap();
        templates.delete(&key).unwrap();
        assert!(matches!(templates.delete(&key), Err(TemplateError::Unknown(_))));
        assert_eq!(io::read_to_string(used.disk).unwrap(), "disk");
    }

    #[test]
    fn a_template_that_the_budget_cannot_hold_drives_out_no_other() {
        let (_parent, templates) = home();
        make(&templates, &key("a"), 10);
        let mut making = templates.begin(&key("b")).unwrap().unwrap();
        making.memory.write_all(&vec![1; 2 << 20]).unwrap();
        let error = making.finish("image", Budget::Bytes(1 << 20)).unwrap_err();
        assert_eq!(error.to_string(), "a template of 2 MiB does not fit into the budget of `1m`");
        let keys: Vec<_> = templates.list().unwrap().into_iter().map(|listed| listed.key).collect();
        assert_eq!(keys, [key("a")]);
    }

    #[test]
    fn the_least_recently_used_go_first() {
        let (_parent, templates) = home();
        let keys = ["a", "b", "c"].map(key);
        for key in &keys {
            make(&templates, key, 1 << 20);
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        templates.find(&keys[0]).unwrap();
        let deleted = templates.trim(Budget::Bytes(5 << 19)).unwrap();
        assert_eq!(deleted.iter().map(|listed| &listed.key).collect::<Vec<_>>(), [&keys[1]]);
        templates.trim(Budget::Off).unwrap();
        assert!(templates.list().unwrap().is_empty());
    }
}

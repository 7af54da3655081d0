//! A root file system that is made while the layers of its image are still on their way.
//!
//! ```text
//! pull       known ─▶ layer 2 is there ─▶ layer 1 is there ─────────▶ layer 3 is there ─▶ done
//!                                             │                           │
//! a thread   lock ──────────────────────────▶ merge 1, 2 ───────────────▶ merge 3 ──▶ root file system
//! ```
//!
//! A layer is merged once it and all below it are in the store, verified; while it is merged, it is held against its
//! digests again. What is made so is the same as what is made afterwards, and takes its place in the same way. If
//! somebody else is making it already, that is waited for.

use std::collections::{HashSet, VecDeque};
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use home::{ContentLimits, Exclusive, Home, Unfinished};
use image::{Digest, Image, Layer, LayerProgress, Store};
use rootfs::LayerBlob;

use super::{RootError, blob, place, root_file_system};

/// How often the progress is told.
const LOOK: Duration = Duration::from_millis(20);

/// Makes a root file system as the layers of a pull arrive.
///
/// It listens to the pull in place of `bars`, to which it passes everything on. If the pull fails, dropping this ends
/// the making and leaves nothing.
pub struct ArrivingRoot<'a> {
    home: &'a Home,
    bars: &'a dyn LayerProgress,
    making: Mutex<Option<Making>>,
}

/// What is under way.
struct Making {
    /// Layers that were not handed on yet, lowest first.
    ahead: VecDeque<Layer>,
    here: HashSet<Digest>,
    /// Where the thread gets its layers from; that there are no more ends the thread.
    layers: Sender<LayerBlob>,
    /// Bytes of layers that are merged.
    merged: Arc<AtomicU64>,
    thread: JoinHandle<Result<(), RootError>>,
}

impl<'a> ArrivingRoot<'a> {
    /// Waits for a pull into the store of `home` to begin.
    pub fn new(home: &'a Home, bars: &'a dyn LayerProgress) -> Self {
        Self { home, bars, making: Mutex::new(None) }
    }

    /// The root file system of `image`, which was pulled: what was begun is ended, or it is made now. `progress` hears
    /// how many bytes of the layers are done.
    pub fn finish(self, image: &Image, progress: &mut dyn FnMut(u64)) -> Result<File, RootError> {
        let making = self.making.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Making { layers, merged, thread, .. }) = making {
            drop(layers);
            while !thread.is_finished() {
                progress(merged.load(Ordering::Relaxed));
                std::thread::sleep(LOOK);
            }
            thread.join().expect("making a root file system does not panic")?;
        }
        root_file_system(self.home, image, progress)
    }
}

impl LayerProgress for ArrivingRoot<'_> {
    fn layer(&self, layer: &Digest, so_far: u64, total: u64) {
        self.bars.layer(layer, so_far, total);
    }

    fn known(&self, layers: &[Layer]) {
        self.bars.known(layers);
        match begin(self.home, layers) {
            Ok(making) => *self.making.lock().unwrap_or_else(PoisonError::into_inner) = making,
            Err(error) => tracing::info!(%error, "making no root file system meanwhile"),
        }
    }

    fn arrived(&self, layer: &Digest) {
        self.bars.arrived(layer);
        if let Some(making) = &mut *self.making.lock().unwrap_or_else(PoisonError::into_inner) {
            making.arrived(*layer);
        }
    }
}

impl Drop for ArrivingRoot<'_> {
    fn drop(&mut self) {
        let making = self.making.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Making { layers, thread, .. }) = making {
            drop(layers);
            // It fails for want of layers, and leaves nothing.
            let _ = thread.join();
        }
    }
}

impl Making {
    /// Hands on what can be merged now.
    fn arrived(&mut self, layer: Digest) {
        self.here.insert(layer);
        while self.ahead.front().is_some_and(|next| self.here.contains(&next.digest)) {
            let next = self.ahead.pop_front().expect("there is a first one");
            // Who does not listen any more has failed, and says so in the end.
            let _ = self.layers.send(blob(&next));
        }
    }
}

/// Starts to make the root file system of `layers`, unless it is there or somebody makes it.
fn begin(home: &Home, layers: &[Layer]) -> Result<Option<Making>, RootError> {
    let path = place(home, layers.iter().map(|layer| &layer.diff_id));
    if path.exists() {
        return Ok(None);
    }
    let Some(lock) = Exclusive::try_now(&path.with_extension("lock"))? else { return Ok(None) };
    let (sender, receiver) = channel();
    let (merged, count) = (Arc::new(AtomicU64::new(0)), layers.len());
    let (home, told) = (home.clone(), Arc::clone(&merged));
    let thread = std::thread::Builder::new().name("merge".to_owned()).spawn(move || {
        let made = make(&home, &path, receiver, count, &told);
        lock.delete()?;
        made
    })?;
    let ahead = layers.iter().cloned().collect();
    Ok(Some(Making { ahead, here: HashSet::new(), layers: sender, merged, thread }))
}

fn make(
    home: &Home,
    path: &Path,
    layers: Receiver<LayerBlob>,
    count: usize,
    merged: &AtomicU64,
) -> Result<(), RootError> {
    // Whoever held the lock may have made it.
    if path.exists() {
        return Ok(());
    }
    // The layers stay until they are read.
    let _kept = Store::open(&home.images())?.add()?;
    let limits = ContentLimits::from_environment()?.into();
    let new = Unfinished::new(home, &home.rootfs())?;
    let mut progress = |bytes| merged.store(bytes, Ordering::Relaxed);
    rootfs::convert_arriving(layers, count, new.file(), &limits, &mut progress)?;
    Ok(new.place(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{Compression, Configuration, History, Platform, Silent};
    use std::time::Instant;

    /// An image of three layers, the first and the last of which are the same.
    fn image(home: &Home) -> Image {
        let ingest = Store::open(&home.images()).unwrap().add().unwrap();
        let mut config = Configuration::empty(&Platform::of_host());
        let mut layer = |content: u8| {
            let mut tar = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_ustar();
            header.set_size(100_000);
            header.set_mode(0o644);
            tar.append_data(&mut header, format!("file-{content}"), vec![content; 100_000].as_slice())
                .unwrap();
            let tar = tar.into_inner().unwrap();
            let layer = ingest.layer(&mut tar.as_slice(), Compression::None).unwrap();
            config.add_layer(&layer.diff_id, &History::default());
            layer.descriptor
        };
        let layers = vec![layer(1), layer(2), layer(1)];
        ingest.image(&config, layers, &["three".parse().unwrap()]).unwrap()
    }

    fn home(directory: &tempfile::TempDir) -> Home {
        Home::open(Some(directory.path())).unwrap()
    }

    fn entries(home: &Home) -> usize {
        std::fs::read_dir(home.rootfs()).unwrap().count()
    }

    fn wait_for(what: impl Fn() -> bool) {
        let start = Instant::now();
        while !what() {
            assert!(start.elapsed() < Duration::from_secs(60), "it takes too long");
            std::thread::sleep(LOOK);
        }
    }

    #[test]
    fn layers_are_merged_as_they_come_and_make_the_same() {
        let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let (early, late) = (home(&directories[0]), home(&directories[1]));
        let made = image(&early);
        let [first, second, _] = made.layers.clone().try_into().unwrap();
        let root = ArrivingRoot::new(&early, &Silent);
        root.known(&made.layers);
        let merged = || root.making.lock().unwrap().as_ref().unwrap().merged.load(Ordering::Relaxed);
        root.arrived(&second.digest);
        assert_eq!(merged(), 0);
        root.arrived(&first.digest);
        wait_for(|| merged() == 3 * first.size);
        let path = place(&early, made.layers.iter().map(|layer| &layer.diff_id));
        wait_for(|| path.exists());
        let early = std::fs::read(&path).unwrap();
        root.finish(&made, &mut |_| ()).unwrap();
        let afterwards = image(&late);
        root_file_system(&late, &afterwards, &mut |_| ()).unwrap();
        assert!(early == std::fs::read(late.rootfs().join(path.file_name().unwrap())).unwrap());
    }

    #[test]
    fn a_pull_that_fails_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let home = home(&directory);
        let image = image(&home);
        let root = ArrivingRoot::new(&home, &Silent);
        root.known(&image.layers);
        root.arrived(&image.layers[0].digest);
        drop(root);
        assert_eq!(entries(&home), 0);
    }

    #[test]
    fn what_another_makes_is_waited_for_and_what_is_there_is_used() {
        let directory = tempfile::tempdir().unwrap();
        let home = home(&directory);
        let image = image(&home);
        let (one, two) = (ArrivingRoot::new(&home, &Silent), ArrivingRoot::new(&home, &Silent));
        one.known(&image.layers);
        two.known(&image.layers);
        assert!(two.making.lock().unwrap().is_none());
        std::thread::scope(|scope| {
            let second = scope.spawn(|| two.finish(&image, &mut |_| ()).unwrap());
            image.layers.iter().for_each(|layer| one.arrived(&layer.digest));
            one.finish(&image, &mut |_| ()).unwrap();
            second.join().unwrap();
        });
        let third = ArrivingRoot::new(&home, &Silent);
        third.known(&image.layers);
        assert!(third.making.lock().unwrap().is_none());
        third.finish(&image, &mut |_| ()).unwrap();
        assert_eq!(entries(&home), 1);
    }

    #[test]
    fn a_damaged_layer_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let home = home(&directory);
        let image = image(&home);
        std::fs::write(&image.layers[1].path, vec![0; image.layers[1].size as usize]).unwrap();
        let root = ArrivingRoot::new(&home, &Silent);
        root.known(&image.layers);
        image.layers.iter().for_each(|layer| root.arrived(&layer.digest));
        let error = root.finish(&image, &mut |_| ()).unwrap_err();
        assert!(matches!(error, RootError::Convert(_)), "{error}");
        assert_eq!(entries(&home), 0);
    }
}

//! Progress on standard error: only on a terminal, and only for what takes a while.

use std::collections::HashMap;
use std::io::{self, IsTerminal, Read};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use image::{Digest, LayerProgress};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::args::Global;

/// What is done sooner needs no bar.
const PATIENCE: Duration = Duration::from_millis(500);

/// Columns of a terminal that has room for a bar beside the numbers.
const WIDE: usize = 66;

/// Of the terminal that standard error is.
fn terminal_columns() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stderr()).ok();
    size.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0).unwrap_or(80)
}

/// Draws bars, or nothing.
pub(crate) struct Progress {
    bars: MultiProgress,
    started: Instant,
    shown: bool,
}

impl Progress {
    pub(crate) fn new(global: &Global) -> Self {
        let shown = !global.quiet && std::io::stderr().is_terminal();
        let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self { bars: MultiProgress::with_draw_target(target), started: Instant::now(), shown }
    }

    /// A bar of bytes.
    fn bytes(&self, label: String, total: u64) -> Option<ProgressBar> {
        self.is_due().then(|| {
            let style = if terminal_columns() < WIDE {
                "{prefix} {decimal_bytes}/{decimal_total_bytes}"
            } else {
                "{prefix} [{wide_bar}] {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec}"
            };
            let style = ProgressStyle::with_template(style).expect("the template is valid");
            self.bars.add(ProgressBar::new(total).with_prefix(label).with_style(style.progress_chars("=> ")))
        })
    }

    /// An activity, which is shown once it takes a while.
    fn activity(&self, text: String) -> Option<Activity> {
        self.shown
            .then(|| Activity::new(self.bars.clone(), PATIENCE.saturating_sub(self.started.elapsed()), text))
    }

    fn is_due(&self) -> bool {
        self.shown && self.started.elapsed() >= PATIENCE
    }

    /// Removes all bars.
    pub(crate) fn clear(&self) {
        // A terminal that has gone away needs no clearing.
        let _ = self.bars.clear();
    }
}

/// A line with a moving mark.
struct Activity {
    /// Nothing is ever sent: its end is the activity's.
    over: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Activity {
    fn new(bars: MultiProgress, patience: Duration, text: String) -> Self {
        let (over, is_over) = channel::<()>();
        let thread = std::thread::spawn(move || {
            if is_over.recv_timeout(patience) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            let style = ProgressStyle::with_template("{spinner} {wide_msg}").expect("the template is valid");
            let bar = bars.add(ProgressBar::new_spinner().with_message(text).with_style(style));
            bar.enable_steady_tick(Duration::from_millis(100));
            let _ = is_over.recv();
            bar.finish_and_clear();
        });
        Self { over: Some(over), thread: Some(thread) }
    }
}

impl Drop for Activity {
    fn drop(&mut self) {
        drop(self.over.take());
        // What is written next stands where the line was.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// One activity after another, each shown once it takes a while.
pub(crate) struct Steps {
    progress: Progress,
    current: Option<ProgressBar>,
    activity: Option<Activity>,
}

impl Steps {
    pub(crate) fn new(global: &Global) -> Self {
        Self { progress: Progress::new(global), current: None, activity: None }
    }

    /// So much of `total` bytes is done.
    pub(crate) fn bytes(&mut self, label: &str, done: u64, total: u64) {
        if self.current.is_none() {
            self.current = self.progress.bytes(label.to_owned(), total);
        }
        if let Some(bar) = &self.current {
            bar.set_position(done);
        }
    }

    /// Another activity, of unknown length.
    pub(crate) fn activity(&mut self, text: &str) {
        self.done();
        self.activity = self.progress.activity(text.to_owned());
    }

    /// Removes what is shown.
    pub(crate) fn done(&mut self) {
        drop(self.activity.take());
        if let Some(bar) = self.current.take() {
            bar.finish_and_clear();
        }
        self.progress.clear();
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        self.done();
    }
}

/// A file or stream that tells how much of it was read.
pub(crate) struct Reading<R> {
    input: R,
    steps: Steps,
    done: u64,
    /// Nobody knows how long a pipe is.
    total: Option<u64>,
}

impl<R: Read> Reading<R> {
    /// Begins to read what is `total` bytes long, if that is known.
    pub(crate) fn new(global: &Global, input: R, total: Option<u64>) -> Self {
        Self { input, steps: Steps::new(global), done: 0, total }
    }
}

impl<R: Read> Read for Reading<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.done += read as u64;
        if let Some(total) = self.total {
            self.steps.bytes("reading", self.done, total);
        }
        Ok(read)
    }
}

impl<R> Drop for Reading<R> {
    fn drop(&mut self) {
        self.steps.done();
    }
}

/// Bytes of something whose size nobody knows.
pub(crate) struct Counter {
    progress: Progress,
    bar: Option<ProgressBar>,
}

impl Counter {
    pub(crate) fn new(global: &Global, quiet: bool) -> Self {
        let mut progress = Progress::new(global);
        progress.shown &= !quiet;
        Self { progress, bar: None }
    }

    /// So many are done.
    pub(crate) fn set(&mut self, bytes: u64) {
        if self.bar.is_none() && self.progress.is_due() {
            let style = ProgressStyle::with_template("copying  {decimal_bytes}  {decimal_bytes_per_sec}");
            let style = style.expect("the template is valid");
            self.bar = Some(self.progress.bars.add(ProgressBar::no_length().with_style(style)));
        }
        if let Some(bar) = &self.bar {
            bar.set_position(bytes);
        }
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        self.progress.clear();
    }
}

/// A bar for each layer of a pull or a push.
pub(crate) struct LayerBars {
    progress: Progress,
    bars: Mutex<HashMap<Digest, ProgressBar>>,
}

impl LayerBars {
    pub(crate) fn new(global: &Global) -> Self {
        Self { progress: Progress::new(global), bars: Mutex::default() }
    }

    /// Removes all bars.
    pub(crate) fn clear(&self) {
        self.progress.clear();
    }
}

impl LayerProgress for LayerBars {
    fn layer(&self, digest: &Digest, so_far: u64, total: u64) {
        let mut bars = self.bars.lock().unwrap_or_else(PoisonError::into_inner);
        if !bars.contains_key(digest) {
            let Some(bar) = self.progress.bytes(digest.hex()[..12].to_owned(), total) else { return };
            bars.insert(*digest, bar);
        }
        bars[digest].set_position(so_far);
    }
}

impl Drop for LayerBars {
    fn drop(&mut self) {
        self.progress.clear();
    }
}

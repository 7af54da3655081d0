//! The log of a workspace that runs: written from several sides, its unfinished lines in time.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::log::{LogSource, LogWriter};

/// A log, and a task that writes lines which do not end.
#[derive(Debug)]
pub(super) struct Logbook {
    shared: Arc<Shared>,
    task: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    writer: Mutex<LogWriter>,
    written: Notify,
}

impl Logbook {
    /// Opens the log in `directory`.
    pub(super) fn open(directory: &Path) -> std::io::Result<Self> {
        let writer = Mutex::new(LogWriter::open(directory)?);
        let shared = Arc::new(Shared { writer, written: Notify::new() });
        let task = tokio::spawn(flush_late(Arc::clone(&shared))).abort_handle();
        Ok(Self { shared, task })
    }

    /// A writer for `source`.
    pub(super) fn writer(&self, source: LogSource) -> impl Fn(&[u8]) + Send + use<> {
        let shared = Arc::clone(&self.shared);
        move |bytes| shared.write(source, bytes)
    }

    /// Takes in what `source` said.
    pub(super) fn write(&self, source: LogSource, bytes: &[u8]) {
        self.shared.write(source, bytes);
    }

    /// Writes all lines, ended or not.
    pub(super) fn flush(&self) {
        self.shared.writer().flush_partial();
    }
}

impl Drop for Logbook {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn writer(&self) -> MutexGuard<'_, LogWriter> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, source: LogSource, bytes: &[u8]) {
        self.writer().write(source, bytes);
        self.written.notify_one();
    }
}

/// Sleeps until something is written, and then until what has no end by then is late.
async fn flush_late(shared: Arc<Shared>) {
    loop {
        let next = shared.writer().next_late();
        match next {
            None => shared.written.notified().await,
            Some(late) => {
                tokio::time::sleep_until(late.into()).await;
                shared.writer().flush_late();
            }
        }
    }
}

//! The frames on a guest's cable, written to a file for tcpdump(1), Wireshark and their like.
//!
//! ```text
//! file   = header 24 | record*                   as pcap-savefile(5) has it, little-endian
//! record = seconds 4 | microseconds 4 | length 4 | length 4 | frame
//! ```
//!
//! A thread writes, and the stack never waits for it: what finds no room in memory, on the disk or in the file's bound is
//! counted and not in the file. The file always ends with a whole record.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::wire::LONGEST_FRAME;

/// Bytes that may wait to be written.
const MOST_WAITING: usize = 4 << 20;

/// The longest that a file gets, in bytes.
const LONGEST: u64 = 1 << 30;

const HEADER: usize = 24;
const RECORD: usize = 16;

/// Why frames cannot be captured.
#[derive(Debug, thiserror::Error)]
#[error("failed to write captured packets to `{}`", path.display())]
pub struct CaptureError {
    path: PathBuf,
    source: io::Error,
}

/// A file that frames are going to be written to.
#[derive(Debug)]
pub struct CaptureFile {
    path: PathBuf,
    file: File,
}

impl CaptureFile {
    /// Begins, in place of what was in the file. A thread writes from now on.
    pub fn begin(self) -> Result<Capture, CaptureError> {
        let Self { path, file } = self;
        let begun = file.set_len(0).and_then(|()| Capture::into_file(file, LONGEST));
        begun.map_err(|source| CaptureError { path, source })
    }
}

/// A file that frames are written to, until it is dropped.
#[derive(Debug)]
pub struct Capture {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
}

/// How many frames were captured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Those that are in the file, or on the way there.
    pub(crate) captured: u64,
    /// Those for which there was no room.
    pub(crate) missed: u64,
}

/// Records on their way.
#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    records: Vec<u8>,
    number: u64,
    counts: Counts,
    over: bool,
}

impl Capture {
    /// Begins a file at `path`, in place of what was there. Only its owner may read it.
    pub fn create(path: &Path) -> Result<Self, CaptureError> {
        Self::open(path)?.begin()
    }

    /// Opens the file at `path`, and changes nothing in it yet.
    pub fn open(path: &Path) -> Result<CaptureFile, CaptureError> {
        let failed = |source| CaptureError { path: path.to_owned(), source };
        // A pipe that nobody reads would be waited for.
        let open = OpenOptions::new().write(true).create(true).mode(0o600).custom_flags(NONBLOCK).open(path);
        let file = open.map_err(failed)?;
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(failed(io::Error::new(ErrorKind::InvalidInput, "it is no regular file")));
        }
        Ok(CaptureFile { path: path.to_owned(), file })
    }

    fn into_file(mut file: File, longest: u64) -> io::Result<Self> {
        file.write_all(&file_header())?;
        let queue = Arc::new(Queue::default());
        let theirs = Arc::clone(&queue);
        let mut writer = Writer { file, length: HEADER as u64, longest };
        let thread =
            std::thread::Builder::new().name("capture".to_owned()).spawn(move || writer.run(&theirs))?;
        Ok(Self { queue, thread: Some(thread) })
    }

    pub(crate) fn tap(&self) -> Tap {
        Tap { queue: Arc::clone(&self.queue) }
    }

    pub(crate) fn counts(&self) -> Counts {
        self.queue.lock().counts
    }
}

impl Drop for Capture {
    /// What was captured is still written.
    fn drop(&mut self) {
        self.queue.lock().over = true;
        self.queue.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // One that has failed writes no more.
            let _ = thread.join();
        }
    }
}

/// Where frames are given to a capture.
#[derive(Debug, Clone)]
pub(crate) struct Tap {
    queue: Arc<Queue>,
}

impl Tap {
    /// Captures a frame, if there is room.
    pub(crate) fn frame(&self, frame: &[u8]) {
        let mut waiting = self.queue.lock();
        if waiting.records.len() + RECORD + frame.len() > MOST_WAITING {
            waiting.counts.missed += 1;
            return;
        }
        waiting.records.extend_from_slice(&record_header(SystemTime::now(), frame.len()));
        waiting.records.extend_from_slice(frame);
        waiting.number += 1;
        waiting.counts.captured += 1;
        drop(waiting);
        self.queue.changed.notify_one();
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("no holder panics")
    }
}

struct Writer {
    file: File,
    /// Where the last whole record ends.
    length: u64,
    longest: u64,
}

impl Writer {
    fn run(&mut self, queue: &Queue) {
        let mut records = Vec::new();
        loop {
            let mut waiting = queue.lock();
            while waiting.records.is_empty() && !waiting.over {
                waiting = queue.changed.wait(waiting).expect("no holder panics");
            }
            if waiting.records.is_empty() {
                return;
            }
            std::mem::swap(&mut waiting.records, &mut records);
            let number = std::mem::take(&mut waiting.number);
            drop(waiting);
            if let Err(error) = self.write(&records) {
                tracing::warn!(%error, "packets could not be captured");
                let counts = &mut queue.lock().counts;
                counts.captured -= number;
                counts.missed += number;
            }
            records.clear();
            // A burst that is over needs no memory.
            records.shrink_to(256 * 1024);
        }
    }

    /// Writes all records or none: what a full disk took of them is cut off.
    fn write(&mut self, records: &[u8]) -> io::Result<()> {
        if self.length + records.len() as u64 > self.longest {
            return Err(ErrorKind::FileTooLarge.into());
        }
        let written = self.file.write_all(records);
        if let Err(error) = written {
            self.file.set_len(self.length)?;
            io::Seek::seek(&mut self.file, io::SeekFrom::Start(self.length))?;
            return Err(error);
        }
        self.length += records.len() as u64;
        Ok(())
    }
}

const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();

fn file_header() -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..4].copy_from_slice(&0xa1b2_c3d4_u32.to_le_bytes());
    header[4..8].copy_from_slice(&[2, 0, 4, 0]);
    header[16..20].copy_from_slice(&(LONGEST_FRAME as u32 + 64).to_le_bytes());
    // Ethernet.
    header[20] = 1;
    header
}

fn record_header(time: SystemTime, length: usize) -> [u8; RECORD] {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let length = (length as u32).to_le_bytes();
    let mut header = [0; RECORD];
    header[..4].copy_from_slice(&(since.as_secs() as u32).to_le_bytes());
    header[4..8].copy_from_slice(&since.subsec_micros().to_le_bytes());
    header[8..12].copy_from_slice(&length);
    header[12..].copy_from_slice(&length);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The frames in a file, read as pcap-savefile(5) says.
    fn frames(mut file: &[u8]) -> Vec<Vec<u8>> {
        assert_eq!(file[..4], [0xd4, 0xc3, 0xb2, 0xa1]);
        file = &file[HEADER..];
        let mut frames = Vec::new();
        while !file.is_empty() {
            let length = u32::from_le_bytes(file[8..12].try_into().unwrap()) as usize;
            assert_eq!(file[8..12], file[12..16]);
            frames.push(file[RECORD..RECORD + length].to_vec());
            file = &file[RECORD + length..];
        }
        frames
    }

    #[test]
    fn frames_are_in_the_file_once_the_capture_is_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.pcap");
        std::fs::write(&path, "what was there").unwrap();
        let capture = Capture::create(&path).unwrap();
        let tap = capture.tap();
        tap.frame(b"one");
        tap.frame(b"two, longer");
        assert_eq!(capture.counts(), Counts { captured: 2, missed: 0 });
        drop(capture);
        assert_eq!(frames(&std::fs::read(&path).unwrap()), [&b"one"[..], b"two, longer"]);
    }

    #[test]
    fn a_file_that_is_full_ends_with_a_whole_record_and_the_rest_is_counted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.pcap");
        let capture = Capture::into_file(File::create(&path).unwrap(), 5000).unwrap();
        let tap = capture.tap();
        for _ in 0..100 {
            tap.frame(&[7; 200]);
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let queue = Arc::clone(&capture.queue);
        drop(capture);
        let counts = queue.lock().counts;
        let found = frames(&std::fs::read(&path).unwrap()).len() as u64;
        assert!((10..=23).contains(&found), "{found}");
        assert_eq!(counts, Counts { captured: found, missed: 100 - found });
    }

    #[test]
    fn a_disk_that_is_full_holds_nothing_up() {
        let capture =
            Capture::into_file(OpenOptions::new().write(true).open("/dev/null").unwrap(), LONGEST).unwrap();
        drop(capture);
        // Its first write already fails.
        assert!(Capture::create(Path::new("/dev/full")).is_err());
        // One whose reader is slow: what finds no room is counted at once.
        let (reader, writer) = std::io::pipe().unwrap();
        let file = File::from(std::os::fd::OwnedFd::from(writer));
        let capture = Capture::into_file(file, LONGEST).unwrap();
        let tap = capture.tap();
        let begin = std::time::Instant::now();
        for _ in 0..1000 {
            tap.frame(&[0; 10_000]);
        }
        assert!(begin.elapsed() < std::time::Duration::from_secs(5));
        let counts = capture.counts();
        assert!(counts.missed > 100 && counts.captured + counts.missed == 1000, "{counts:?}");
        drop(reader);
        drop(capture);
    }

    #[test]
    fn what_is_no_file_is_refused() {
        for path in ["/dev/null", "/", "/nowhere/x.pcap"] {
            assert!(Capture::create(Path::new(path)).is_err(), "{path}");
        }
    }
}

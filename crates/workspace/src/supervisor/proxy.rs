//! A client that speaks to the guest's agent, through us: its processes are ours, under other numbers.
//!
//! ```text
//! client ── proto ──▶ supervisor ── proto ──▶ guest
//!           its own numbers        one session for all
//! ```
//!
//! The client may start processes and use their streams, and nothing else. Its credit is the guest's credit, so
//! what is on the way is bounded end to end, and one that reads nothing holds up nobody else. When it hangs up,
//! its processes end.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proto::{Decoder, Incoming, OutputStream, ProcessId, ToGuest, ToHost, WINDOW};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};

use crate::agent::{Agent, Process, ProcessEvent, ProcessHandle, UnleasedRegion};

/// How long a process whose client hung up has to end by itself.
const GRACE: Duration = Duration::from_secs(2);

/// The same for one that copies files, which sees by its streams that nobody is there, and removes what it began.
const TRANSFER_GRACE: Duration = Duration::from_secs(60);

/// What the client's reader has for a process's input.
enum Fed {
    Data(Vec<u8>),
    End,
}

/// A client's process.
struct Proxied {
    handle: ProcessHandle,
    grace: Duration,
    input: mpsc::UnboundedSender<Fed>,
    /// Bytes of input that the client was not credited for yet.
    uncredited: Arc<AtomicUsize>,
    /// Bytes of each output stream that the client has not credited yet.
    taken: Arc<[AtomicUsize; 2]>,
}

type Frames = mpsc::UnboundedSender<Vec<u8>>;
type Ended = mpsc::UnboundedSender<ProcessId>;

/// Serves one client until it hangs up, breaks the rules, or the agent may no longer be used.
pub(super) async fn serve(
    stream: UnixStream,
    agent: Agent,
    mut current: watch::Receiver<Option<Agent>>,
) -> io::Result<()> {
    let (mut reader, mut writer) = stream.into_split();
    let (frames, mut queue) = mpsc::unbounded_channel::<Vec<u8>>();
    let writing = tokio::spawn(async move {
        while let Some(frame) = queue.recv().await {
            if writer.write_all(&frame).await.is_err() {
                return;
            }
        }
    });
    let (ended, mut endings) = mpsc::unbounded_channel();
    let mut client = Client { agent, frames, ended, processes: HashMap::new() };
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; 64 * 1024];
    let outcome = loop {
        tokio::select! {
            read = reader.read(&mut buffer) => match read {
                Ok(0) => break Ok(()),
                Ok(length) => {
                    decoder.push(&buffer[..length]);
                    if let Err(error) = client.obey_all(&mut decoder) {
                        break Err(io::Error::new(io::ErrorKind::InvalidData, error));
                    }
                }
                Err(error) => break Err(error),
            },
            Some(process) = endings.recv() => {
                client.processes.remove(&process);
            }
            // The guest is frozen or gone: nothing can be sent to its processes.
            _ = current.changed() => {
                client.processes.clear();
                break Ok(());
            }
        }
    };
    client.end_processes();
    writing.abort();
    outcome
}

struct Client {
    agent: Agent,
    frames: Frames,
    ended: Ended,
    processes: HashMap<ProcessId, Proxied>,
}

impl Client {
    fn obey_all(&mut self, decoder: &mut Decoder) -> Result<(), String> {
        loop {
            match decoder.next::<ToGuest<'_>>().map_err(|error| error.to_string())? {
                None => return Ok(()),
                // A client's queue has room as long as it lives.
                Some(Incoming::Greeting(_)) => drop(self.frames.send(proto::encode_greeting().to_vec())),
                Some(Incoming::Message(message)) => self.obey(message)?,
            }
        }
    }

    fn obey(&mut self, message: ToGuest<'_>) -> Result<(), String> {
        match message {
            ToGuest::Spawn { process, command } => {
                return self.start(process, GRACE, |agent| Ok(agent.spawn(command)));
            }
            ToGuest::Transfer { process, transfer, region } => {
                let start = |agent: &Agent| agent.transfer_for(transfer, region);
                return self.start(process, TRANSFER_GRACE, start);
            }
            ToGuest::Input { process, data } => return self.feed(process, data),
            ToGuest::EndInput { process } => {
                if let Some(process) = self.processes.get(&process) {
                    // The feeding task ends with its process.
                    let _ = process.input.send(Fed::End);
                }
            }
            ToGuest::Credit { process, stream, bytes } => return self.credit(process, stream, bytes),
            ToGuest::CloseOutput { process, stream } => {
                if let Some(process) = self.processes.get(&process) {
                    process.handle.close_output(stream);
                }
            }
            ToGuest::Signal { process, signal } => {
                if let Some(process) = self.processes.get(&process) {
                    process.handle.signal(signal);
                }
            }
            ToGuest::Resize { process, size } => {
                if let Some(process) = self.processes.get(&process) {
                    process.handle.resize(size);
                }
            }
            ToGuest::MeasureDisk { disk } => {
                let (measured, frames) = (self.agent.measure_disk(disk), self.frames.clone());
                tokio::spawn(async move {
                    // A guest that is gone answers nobody; the client hears that from the end of its stream.
                    if let Ok(usage) = measured.await {
                        send(&frames, &ToHost::Measured(usage));
                    }
                });
            }
            _ => return Err("it asked for what only a supervisor may".to_owned()),
        }
        Ok(())
    }

    fn start(
        &mut self,
        id: ProcessId,
        grace: Duration,
        start: impl FnOnce(&Agent) -> Result<Process, UnleasedRegion>,
    ) -> Result<(), String> {
        if self.processes.contains_key(&id) {
            return Err("it used a number twice".to_owned());
        }
        let process = start(&self.agent).map_err(|error| error.to_string())?;
        let handle = process.handle();
        let (input, fed) = mpsc::unbounded_channel();
        let uncredited = Arc::new(AtomicUsize::new(0));
        let taken = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
        tokio::spawn(feed(id, handle.clone(), fed, self.frames.clone(), Arc::clone(&uncredited)));
        tokio::spawn(forward(id, process, self.frames.clone(), self.ended.clone(), Arc::clone(&taken)));
        self.processes.insert(id, Proxied { handle, grace, input, uncredited, taken });
        Ok(())
    }

    fn feed(&self, id: ProcessId, data: &[u8]) -> Result<(), String> {
        let Some(process) = self.processes.get(&id) else { return Ok(()) };
        let before = process.uncredited.fetch_add(data.len(), Ordering::Relaxed);
        if before + data.len() > WINDOW as usize {
            return Err("it sent more input than it may".to_owned());
        }
        // The feeding task ends with its process.
        let _ = process.input.send(Fed::Data(data.to_vec()));
        Ok(())
    }

    fn credit(&self, id: ProcessId, stream: OutputStream, bytes: u32) -> Result<(), String> {
        let Some(process) = self.processes.get(&id) else { return Ok(()) };
        let taken = &process.taken[stream as usize];
        let less = |before: usize| before.checked_sub(bytes as usize);
        taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
            .map_err(|_| "it credited more than it was sent".to_owned())?;
        process.handle.credit(stream, bytes as usize);
        Ok(())
    }

    /// Nobody is there any more for what still runs.
    fn end_processes(&mut self) {
        for (_, process) in self.processes.drain() {
            for stream in [OutputStream::Stdout, OutputStream::Stderr] {
                process.handle.close_output(stream);
            }
            if process.grace == GRACE {
                process.handle.signal(Signal::HUP.as_raw());
            }
            // One that waits for input is told that none comes.
            process.handle.end_input();
            tokio::spawn(async move {
                tokio::time::sleep(process.grace).await;
                // Its number is used once a session: one that has ended is not hit.
                process.handle.signal(Signal::KILL.as_raw());
            });
        }
    }
}

/// Passes input on as the guest has room for it, and gives the client its credit back.
async fn feed(
    id: ProcessId,
    handle: ProcessHandle,
    mut fed: mpsc::UnboundedReceiver<Fed>,
    frames: Frames,
    uncredited: Arc<AtomicUsize>,
) {
    while let Some(Fed::Data(data)) = fed.recv().await {
        handle.input(&data).await;
        uncredited.fetch_sub(data.len(), Ordering::Relaxed);
        let bytes = u32::try_from(data.len()).expect("a message is short");
        send(&frames, &ToHost::Credit { process: id, bytes });
    }
    handle.end_input();
}

/// Passes on what happens to a process. When its client is gone, what it still writes is thrown away.
async fn forward(
    id: ProcessId,
    mut process: Process,
    frames: Frames,
    ended: Ended,
    taken: Arc<[AtomicUsize; 2]>,
) {
    let handle = process.handle();
    while let Some(event) = process.events.recv().await {
        match event {
            ProcessEvent::Started => send(&frames, &ToHost::Spawned { process: id, pid: 0 }),
            ProcessEvent::Failed(failure) => send(&frames, &ToHost::SpawnFailed { process: id, failure }),
            ProcessEvent::Output(stream, data) if frames.is_closed() => handle.credit(stream, data.len()),
            ProcessEvent::Output(stream, data) => {
                taken[stream as usize].fetch_add(data.len(), Ordering::Relaxed);
                send(&frames, &ToHost::Output { process: id, stream, data: &data });
            }
            ProcessEvent::Exited(status) => send(&frames, &ToHost::Exited { process: id, status }),
        }
    }
    // The client may have gone.
    let _ = ended.send(id);
}

fn send(frames: &Frames, message: &ToHost<'_>) {
    let mut frame = Vec::new();
    proto::encode(message, &mut frame);
    // A client that is gone needs nothing.
    let _ = frames.send(frame);
}

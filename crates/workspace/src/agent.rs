//! The guest's agent, seen from the host: requests, processes and their streams over one channel.
//!
//! The guest is not trusted. What it sends is bounded by credit, and a message that breaks the rules ends
//! the session with the reason; it never ends this process.

mod session;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proto::{
    Command, ExitStatus, OutputStream, ProcessId, SpawnFailure, TerminalSize, ToGuest, Transfer, Usage,
    WINDOW, encode,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::AbortHandle;

use crate::exchange::{Holder, Lease, Leased, Regions};
use session::Session;

/// A session with the guest's agent. Clones speak over the same session.
#[derive(Debug, Clone)]
pub struct Agent {
    frames: mpsc::UnboundedSender<Vec<u8>>,
    session: Arc<Mutex<Session>>,
    lost: watch::Receiver<Option<String>>,
    tasks: Arc<[AbortHandle; 2]>,
    regions: Regions,
}

/// Why the guest could not be talked to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AgentError {
    /// The guest's agent did not answer in time.
    #[error("the guest did not answer within {} s", .0.as_secs())]
    Silent(Duration),
    /// The session ended.
    #[error("the guest is gone: {0}")]
    Lost(String),
    /// The guest said what it may not say.
    #[error("the guest broke the protocol: {0}")]
    Protocol(String),
    /// Host and guest are of different releases.
    #[error("the guest speaks version {guest} of the protocol, and this program version {host}")]
    Version {
        /// The guest's version.
        guest: u32,
        /// Ours.
        host: u32,
    },
    /// A request was refused.
    #[error("the guest {0}")]
    Refused(String),
}

/// A client spoke of a region that it does not have.
#[derive(Debug, thiserror::Error)]
#[error("it used a region for exchange that it does not have")]
pub(crate) struct UnleasedRegion;

/// A process in the guest: what it says, in the order in which it was said.
#[derive(Debug)]
pub struct Process {
    /// What happens to it.
    pub events: mpsc::UnboundedReceiver<ProcessEvent>,
    handle: ProcessHandle,
}

/// What can be done to a process, from anywhere.
#[derive(Debug, Clone)]
pub struct ProcessHandle {
    id: ProcessId,
    agent: Agent,
    input_credit: Arc<Semaphore>,
}

/// What happens to a process.
#[derive(Debug, PartialEq, Eq)]
pub enum ProcessEvent {
    /// It runs.
    Started,
    /// It could not be started. The last event.
    Failed(SpawnFailure),
    /// It wrote something. At most a window is on the way until [`ProcessHandle::credit`] gives it back.
    Output(OutputStream, Vec<u8>),
    /// It ended, and all that it wrote came before. The last event.
    Exited(ExitStatus),
}

impl Agent {
    /// Greets the guest on `stream`, and waits for its answer for as long as `deadline`.
    pub async fn connect(stream: UnixStream, deadline: Duration) -> Result<Self, AgentError> {
        // Halves of this kind leave the socket as it is when they are dropped; see `leave`.
        let (mut reader, mut writer) = tokio::io::split(stream);
        let lost = |error: std::io::Error| AgentError::Lost(error.to_string());
        writer.write_all(&proto::encode_greeting()).await.map_err(lost)?;
        let mut decoder = proto::Decoder::default();
        let greeted = tokio::time::timeout(deadline, session::greeting(&mut reader, &mut decoder)).await;
        greeted.map_err(|_| AgentError::Silent(deadline))??;

        let (frames, mut queue) = mpsc::unbounded_channel::<Vec<u8>>();
        let sending = tokio::spawn(async move {
            while let Some(frame) = queue.recv().await {
                // The reader notices a broken channel and says so.
                let _ = writer.write_all(&frame).await;
            }
        });
        let session = Arc::new(Mutex::new(Session::default()));
        let (sender, lost) = watch::channel(None);
        let receiving = Arc::clone(&session);
        let reading = tokio::spawn(async move {
            let mut buffer = vec![0; 64 * 1024];
            let reason = loop {
                if let Err(error) = receiving.lock().expect("no holder panics").receive(&mut decoder) {
                    break error;
                }
                match reader.read(&mut buffer).await {
                    Ok(0) => break "its channel closed".to_owned(),
                    Ok(length) => decoder.push(&buffer[..length]),
                    Err(error) => break error.to_string(),
                }
            };
            sender.send_replace(Some(reason));
            // Whoever waits for an answer or an event learns that none comes.
            receiving.lock().expect("no holder panics").end();
        });
        let tasks = Arc::new([sending.abort_handle(), reading.abort_handle()]);
        Ok(Self { frames, session, lost, tasks, regions: Regions::None })
    }

    /// The same; its copies get regions for what is large from there.
    pub(crate) fn exchanging(self, regions: Regions) -> Self {
        Self { regions, ..self }
    }

    /// Stops speaking, so that somebody else may greet the guest through a copy of the stream's descriptor.
    /// Nothing may be under way.
    pub(crate) fn leave(self) {
        for task in self.tasks.iter() {
            task.abort();
        }
    }

    /// Sends a request about the machine; the answer comes through what this returns.
    pub fn request(&self, request: &ToGuest<'_>) -> impl Future<Output = Result<(), AgentError>> + use<> {
        let (sender, receiver) = oneshot::channel();
        self.session.lock().expect("no holder panics").add_request(sender);
        self.send(request);
        let agent = self.clone();
        async move {
            match receiver.await {
                Ok(outcome) => outcome.map_err(AgentError::Refused),
                Err(_) => Err(agent.why_lost()),
            }
        }
    }

    /// Asks how much of the machine is used.
    pub fn measure(&self) -> impl Future<Output = Result<Usage, AgentError>> + use<> {
        self.measured(&ToGuest::Measure)
    }

    /// Asks how much of an attached disk is used; nothing else is told, and nothing at all if it is not there.
    pub fn measure_disk(&self, disk: String) -> impl Future<Output = Result<Usage, AgentError>> + use<> {
        self.measured(&ToGuest::MeasureDisk { disk })
    }

    fn measured(&self, request: &ToGuest<'_>) -> impl Future<Output = Result<Usage, AgentError>> + use<> {
        let (sender, receiver) = oneshot::channel();
        self.session.lock().expect("no holder panics").add_measurement(sender);
        self.send(request);
        let agent = self.clone();
        async move { receiver.await.map_err(|_| agent.why_lost()) }
    }

    /// Starts a process.
    pub fn spawn(&self, command: Command) -> Process {
        self.start(None, |process| ToGuest::Spawn { process, command })
    }

    /// Starts a process that packs or unpacks files, with a region for what is large if there is one.
    pub(crate) fn transfer(&self, transfer: Transfer) -> (Process, Option<Leased>) {
        let leased = Leased::get(&self.regions);
        let number = leased.as_ref().map(|leased| leased.number);
        let holder = leased.as_ref().map(|leased| leased.holder.clone());
        let process = self.start(holder, |process| ToGuest::Transfer { process, transfer, region: number });
        (process, leased)
    }

    /// A region for a client's copy, if the machine is ours and one is free.
    pub(crate) fn lease(&self) -> Option<Arc<Lease>> {
        match &self.regions {
            Regions::Own(exchange) => exchange.lease(),
            Regions::None | Regions::Supervisor(_) => None,
        }
    }

    /// The same for a client, which may have been given a region; it stays the process's until its end.
    pub(crate) fn transfer_for(
        &self,
        transfer: Transfer,
        region: Option<u32>,
    ) -> Result<Process, UnleasedRegion> {
        let lease = match (region, &self.regions) {
            (None, _) => None,
            (Some(number), Regions::Own(exchange)) => Some(exchange.leased(number).ok_or(UnleasedRegion)?),
            (Some(_), _) => return Err(UnleasedRegion),
        };
        let holder = lease.map(Holder::Own);
        Ok(self.start(holder, |process| ToGuest::Transfer { process, transfer, region }))
    }

    fn start(&self, holder: Option<Holder>, message: impl FnOnce(ProcessId) -> ToGuest<'static>) -> Process {
        let (sender, events) = mpsc::unbounded_channel();
        let input_credit = Arc::new(Semaphore::new(WINDOW as usize));
        let mut session = self.session.lock().expect("no holder panics");
        let id = session.add_process(sender, Arc::clone(&input_credit), holder);
        drop(session);
        self.send(&message(id));
        Process { events, handle: ProcessHandle { id, agent: self.clone(), input_credit } }
    }

    /// Why the session ended.
    pub fn why_lost(&self) -> AgentError {
        let reason = self.lost.borrow().clone();
        AgentError::Lost(reason.unwrap_or_else(|| "its session ended".to_owned()))
    }

    fn send(&self, message: &ToGuest<'_>) {
        let mut frame = Vec::new();
        encode(message, &mut frame);
        // Without a session there is nobody to tell; the caller learns it from the missing answer.
        let _ = self.frames.send(frame);
    }
}

impl Process {
    /// A handle that outlives the stream of events.
    pub fn handle(&self) -> ProcessHandle {
        self.handle.clone()
    }
}

impl ProcessHandle {
    /// Sends input, at most [`proto::MAX_DATA`] bytes, once the guest has room for it.
    pub async fn input(&self, data: &[u8]) {
        // The semaphore is closed once the process has ended, and nobody reads any more.
        if let Ok(permits) = self.input_credit.acquire_many(data.len() as u32).await {
            permits.forget();
            self.agent.send(&ToGuest::Input { process: self.id, data });
        }
    }

    /// Sends input if the guest has room for it now; tells whether it had.
    pub(crate) fn input_now(&self, data: &[u8]) -> bool {
        let permits = self.input_credit.try_acquire_many(data.len() as u32);
        let is_room = permits.map(tokio::sync::SemaphorePermit::forget).is_ok();
        if is_room {
            self.agent.send(&ToGuest::Input { process: self.id, data });
        }
        is_room
    }

    /// Ends the input.
    pub fn end_input(&self) {
        self.agent.send(&ToGuest::EndInput { process: self.id });
    }

    /// Says that this much of an output stream was taken.
    pub fn credit(&self, stream: OutputStream, bytes: usize) {
        let bytes = u32::try_from(bytes).expect("at most a window is on the way");
        let mut session = self.agent.session.lock().expect("no holder panics");
        session.return_output_credit(self.id, stream, bytes);
        drop(session);
        self.agent.send(&ToGuest::Credit { process: self.id, stream, bytes });
    }

    /// Says that nobody reads an output stream any more.
    pub fn close_output(&self, stream: OutputStream) {
        self.agent.send(&ToGuest::CloseOutput { process: self.id, stream });
    }

    /// Sends a signal to the process's group.
    pub fn signal(&self, signal: i32) {
        self.agent.send(&ToGuest::Signal { process: self.id, signal });
    }

    /// Tells the terminal its new size.
    pub fn resize(&self, size: TerminalSize) {
        self.agent.send(&ToGuest::Resize { process: self.id, size });
    }
}

type Processes = HashMap<ProcessId, session::Tracked>;

#[cfg(test)]
mod tests;

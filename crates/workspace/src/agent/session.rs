//! What a session knows: unanswered requests, processes, and how much each may still send.

use std::collections::VecDeque;
use std::sync::Arc;

use proto::{Decoder, Incoming, Outcome, OutputStream, ProcessId, ToHost, Usage, WINDOW};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::{AgentError, ProcessEvent, Processes};
use crate::exchange::Holder;

/// A guest's reason may be shown to a person; more than this is noise.
const LONGEST_REASON: usize = 1000;

/// The state that the two directions of a session share.
#[derive(Debug, Default)]
pub(super) struct Session {
    requests: VecDeque<oneshot::Sender<Outcome>>,
    measurements: VecDeque<oneshot::Sender<Usage>>,
    processes: Processes,
    last_id: u32,
    /// Nothing comes any more: whoever waited, or begins to, learns so at once.
    over: bool,
}

/// A process that has not ended.
#[derive(Debug)]
pub(super) struct Tracked {
    events: mpsc::UnboundedSender<ProcessEvent>,
    input_credit: Arc<Semaphore>,
    /// How many bytes of each output stream may still come.
    output_credit: [u32; 2],
    /// What holds its region of the disk for exchange.
    _holder: Option<Holder>,
}

impl Drop for Tracked {
    /// Whoever waits for room in its input need not wait any longer.
    fn drop(&mut self) {
        self.input_credit.close();
    }
}

/// Reads until the guest has greeted.
pub(super) async fn greeting(
    reader: &mut (impl AsyncRead + Unpin),
    decoder: &mut Decoder,
) -> Result<(), AgentError> {
    let mut buffer = [0; 4096];
    loop {
        match decoder.next::<ToHost<'_>>().map_err(|error| AgentError::Protocol(error.to_string()))? {
            Some(Incoming::Greeting(proto::VERSION)) => return Ok(()),
            Some(Incoming::Greeting(guest)) => {
                return Err(AgentError::Version { guest, host: proto::VERSION });
            }
            Some(Incoming::Message(_)) => unreachable!("the decoder gives no message before a greeting"),
            None => {}
        }
        match reader.read(&mut buffer).await {
            Ok(0) => return Err(AgentError::Lost("its channel closed".to_owned())),
            Ok(length) => decoder.push(&buffer[..length]),
            Err(error) => return Err(AgentError::Lost(error.to_string())),
        }
    }
}

impl Session {
    pub(super) fn add_request(&mut self, asked: oneshot::Sender<Outcome>) {
        if !self.over {
            self.requests.push_back(asked);
        }
    }

    pub(super) fn add_measurement(&mut self, asked: oneshot::Sender<Usage>) {
        if !self.over {
            self.measurements.push_back(asked);
        }
    }

    /// Ends it, for those who wait and for those who come later.
    pub(super) fn end(&mut self) {
        *self = Self { over: true, last_id: self.last_id, ..Self::default() };
    }

    pub(super) fn add_process(
        &mut self,
        events: mpsc::UnboundedSender<ProcessEvent>,
        input_credit: Arc<Semaphore>,
        holder: Option<Holder>,
    ) -> ProcessId {
        self.last_id += 1;
        let id = ProcessId(self.last_id);
        let output_credit = [WINDOW; 2];
        let process = Tracked { events, input_credit, output_credit, _holder: holder };
        if !self.over {
            self.processes.insert(id, process);
        }
        id
    }

    pub(super) fn return_output_credit(&mut self, id: ProcessId, stream: OutputStream, bytes: u32) {
        if let Some(process) = self.processes.get_mut(&id) {
            process.output_credit[stream as usize] += bytes;
        }
    }

    /// Handles every complete message; the error is what the guest did wrong.
    pub(super) fn receive(&mut self, decoder: &mut Decoder) -> Result<(), String> {
        while let Some(incoming) = decoder.next::<ToHost<'_>>().map_err(|error| error.to_string())? {
            match incoming {
                Incoming::Greeting(_) => return Err("it greeted twice".to_owned()),
                Incoming::Message(message) => self.handle(message)?,
            }
        }
        Ok(())
    }

    fn handle(&mut self, message: ToHost<'_>) -> Result<(), String> {
        match message {
            ToHost::Done(outcome) => {
                let request = self.requests.pop_front().ok_or("it answered what nobody asked")?;
                // Whoever asked may have given up.
                let _ = request.send(outcome.map_err(|reason| shortened(&reason)));
            }
            ToHost::Measured(usage) => {
                let asked = self.measurements.pop_front().ok_or("it answered what nobody asked")?;
                // Whoever asked may have given up.
                let _ = asked.send(usage);
            }
            ToHost::Spawned { process, .. } => self.tell(process, ProcessEvent::Started)?,
            ToHost::SpawnFailed { process, mut failure } => {
                failure.reason = shortened(&failure.reason);
                self.tell(process, ProcessEvent::Failed(failure))?;
                self.processes.remove(&process);
            }
            ToHost::Output { process, stream, data } => self.take_output(process, stream, data)?,
            ToHost::Credit { process, bytes } => self.take_input_credit(process, bytes)?,
            ToHost::Exited { process, status } => {
                self.tell(process, ProcessEvent::Exited(status))?;
                self.processes.remove(&process);
            }
        }
        Ok(())
    }

    fn process(&mut self, id: ProcessId) -> Result<&mut Tracked, String> {
        self.processes.get_mut(&id).ok_or_else(|| format!("it spoke of process {}, which is not there", id.0))
    }

    fn tell(&mut self, id: ProcessId, event: ProcessEvent) -> Result<(), String> {
        // Whoever listened may have gone.
        let _ = self.process(id)?.events.send(event);
        Ok(())
    }

    fn take_output(&mut self, id: ProcessId, stream: OutputStream, data: &[u8]) -> Result<(), String> {
        let process = self.process(id)?;
        let credit = &mut process.output_credit[stream as usize];
        *credit = credit.checked_sub(data.len() as u32).ok_or("it sent more than it was allowed to")?;
        let _ = process.events.send(ProcessEvent::Output(stream, data.to_vec()));
        Ok(())
    }

    fn take_input_credit(&mut self, id: ProcessId, bytes: u32) -> Result<(), String> {
        // Credit for the last input may cross the process's end.
        let Some(process) = self.processes.get_mut(&id) else { return Ok(()) };
        let on_the_way = WINDOW as usize - process.input_credit.available_permits().min(WINDOW as usize);
        if bytes as usize > on_the_way {
            return Err("it took more input than it was sent".to_owned());
        }
        process.input_credit.add_permits(bytes as usize);
        Ok(())
    }
}

fn shortened(reason: &str) -> String {
    reason.chars().filter(|c| !c.is_control()).take(LONGEST_REASON).collect()
}

//! The event loop: one thing at a time, from the host, from signals, from the streams of processes.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use proto::{Decoder, ExitStatus, Incoming, MAX_DATA, OutputStream, ProcessId, ToGuest, ToHost, Usage};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::process::{WaitOptions, WaitStatus};

use crate::identity::Etc;
use crate::kernel_calls::{next_signal, signal_descriptor};
use crate::outbox::Outbox;
use crate::process::Process;
use crate::root::MountedRoot;
use crate::streams::Read;
use crate::{arrange, identity, network, root, say, shutdown, usage};

/// busybox's and sysvinit's ways to ask the first process for an end; Ctrl-Alt-Del arrives as SIGINT.
const WAYS_DOWN: [i32; 5] = [libc::SIGTERM, libc::SIGUSR1, libc::SIGUSR2, libc::SIGINT, libc::SIGPWR];

/// How many processes the host may have at the same time: each takes three descriptors of this one's.
const MOST_PROCESSES: usize = 300;

const OWN_GRACE: Duration = Duration::from_secs(5);

/// What an event is about, packed into the 64 bits that epoll carries.
#[derive(Clone, Copy)]
enum Source {
    Port,
    Signals,
    Input(ProcessId),
    Output(ProcessId, OutputStream),
}

impl Source {
    fn pack(self) -> EventData {
        let (process, kind) = match self {
            Self::Port => (0, 0),
            Self::Signals => (0, 1),
            Self::Input(process) => (process.0, 2),
            Self::Output(process, OutputStream::Stdout) => (process.0, 3),
            Self::Output(process, OutputStream::Stderr) => (process.0, 4),
        };
        EventData::new_u64(u64::from(process) << 8 | kind)
    }

    fn unpack(data: EventData) -> Self {
        let process = ProcessId((data.u64() >> 8) as u32);
        match data.u64() & 0xff {
            0 => Self::Port,
            1 => Self::Signals,
            2 => Self::Input(process),
            3 => Self::Output(process, OutputStream::Stdout),
            _ => Self::Output(process, OutputStream::Stderr),
        }
    }
}

struct Agent {
    port: OwnedFd,
    signals: OwnedFd,
    events: OwnedFd,
    decoder: Decoder,
    outbox: Outbox,
    etc: Etc,
    root: Option<MountedRoot>,
    /// Whether a request about the machine failed.
    unfit: bool,
    processes: BTreeMap<ProcessId, Process>,
    buffer: Box<[u8]>,
}

/// Serves the host; returns only if that has become impossible.
pub(crate) fn serve(port: OwnedFd) -> Result<std::convert::Infallible, String> {
    let kernel = |error: std::io::Error| format!("failed to set up the agent: {error}");
    let mut watched = WAYS_DOWN.to_vec();
    watched.push(libc::SIGCHLD);
    let agent = Agent {
        port,
        signals: signal_descriptor(&watched).map_err(kernel)?,
        events: epoll::create(CreateFlags::CLOEXEC).map_err(|error| kernel(error.into()))?,
        decoder: Decoder::default(),
        outbox: Outbox::default(),
        etc: Etc::new()?,
        root: None,
        unfit: false,
        processes: BTreeMap::new(),
        buffer: vec![0; MAX_DATA].into_boxed_slice(),
    };
    // Ctrl-Alt-Del asks this process instead of resetting the machine.
    let _ = std::fs::write("/proc/sys/kernel/ctrl-alt-del", "0");
    network::start_loopback()?;
    agent.run()
}

impl Agent {
    fn run(mut self) -> Result<std::convert::Infallible, String> {
        // The port tells of changes only: while no host is at the other end it would be ready all the time.
        watch(
            &self.events,
            self.port.as_fd(),
            Source::Port,
            EventFlags::IN | EventFlags::OUT | EventFlags::ET,
        )?;
        watch(&self.events, self.signals.as_fd(), Source::Signals, EventFlags::IN)?;
        let mut ready = Vec::with_capacity(16);
        loop {
            ready.clear();
            match epoll::wait(&self.events, spare_capacity(&mut ready), None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(format!("failed to wait for events: {error}")),
            }
            for event in &ready {
                self.handle(Source::unpack(event.data))?;
            }
            self.outbox.flush(&self.port);
        }
    }

    fn handle(&mut self, source: Source) -> Result<(), String> {
        match source {
            Source::Port => self.receive(),
            Source::Signals => {
                self.take_signals();
                Ok(())
            }
            Source::Input(process) => {
                self.flush_input(process);
                Ok(())
            }
            Source::Output(process, stream) => {
                self.forward_output(process, stream);
                self.finish_if_over(process);
                Ok(())
            }
        }
    }

    fn receive(&mut self) -> Result<(), String> {
        let mut decoder = std::mem::take(&mut self.decoder);
        loop {
            match rustix::io::read(&self.port, &mut self.buffer[..]) {
                Ok(0) | Err(rustix::io::Errno::AGAIN) => break,
                Ok(length) => decoder.push(&self.buffer[..length]),
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(format!("failed to read from the host: {error}")),
            }
            while let Some(incoming) = decoder.next().map_err(|error| format!("the host sent {error}"))? {
                self.obey(incoming);
            }
            self.outbox.flush(&self.port);
        }
        self.decoder = decoder;
        Ok(())
    }

    fn obey(&mut self, incoming: Incoming<ToGuest<'_>>) {
        let message = match incoming {
            Incoming::Greeting(_) => return self.outbox.greet(),
            Incoming::Message(message) => message,
        };
        match message {
            ToGuest::Mount(wanted) => {
                let outcome = self.mount(&wanted);
                self.answer(outcome);
            }
            ToGuest::Identify(identity) => {
                let outcome = self.etc.identify(&identity);
                self.answer(outcome);
            }
            ToGuest::Connect(wanted) => {
                let outcome = network::connect(&wanted).and_then(|()| self.etc.show_network(&wanted));
                self.answer(outcome);
            }
            ToGuest::Resolve(resolver) => {
                let outcome = self.etc.show_resolver(&resolver);
                self.answer(outcome);
            }
            ToGuest::Arrange(wanted) => {
                let outcome = match self.root {
                    Some(_) => arrange::arrange(&wanted),
                    None => Err("the root file system is not mounted".to_owned()),
                };
                self.answer(outcome);
            }
            ToGuest::SetClock { clock } => self.outbox.send(&ToHost::Done(identity::set_clock(clock))),
            ToGuest::Measure => self.outbox.send(&ToHost::Measured(usage::measure())),
            ToGuest::Attach(wanted) => {
                let outcome =
                    self.root.as_mut().ok_or_else(not_mounted).and_then(|root| root.attach(&wanted));
                self.answer(outcome);
            }
            ToGuest::Grow { disk, size } => {
                let root = self.root.as_ref().ok_or_else(not_mounted);
                let outcome = root.and_then(|root| root.grow(disk.as_deref(), size));
                self.outbox.send(&ToHost::Done(outcome));
            }
            ToGuest::MeasureDisk { disk } => {
                let root = self.root.as_ref().ok_or_else(not_mounted);
                let told = root.and_then(|root| root.measure(&disk)).unwrap_or_default();
                let usage = Usage { disk_size: told.0, disk_used: told.1, ..Usage::default() };
                self.outbox.send(&ToHost::Measured(usage));
            }
            ToGuest::ShutDown { grace } => self.shut_down(grace),
            ToGuest::Spawn { process, command } => self.spawn(process, |_| Process::start(&command)),
            ToGuest::Transfer { process, transfer, region } => {
                self.spawn(process, |root| Process::transfer(&transfer, region, root));
            }
            ToGuest::Input { process, data } => self.take_input(process, data),
            ToGuest::EndInput { process } => self.end_input(process),
            ToGuest::Credit { process, stream, bytes } => self.take_credit(process, stream, bytes),
            ToGuest::CloseOutput { process, stream } => self.close_output(process, stream),
            ToGuest::Signal { process, signal } => {
                if let Some(process) = self.processes.get(&process) {
                    process.signal(signal);
                }
            }
            ToGuest::Resize { process, size } => {
                if let Some(process) = self.processes.get(&process) {
                    process.resize(size);
                }
            }
        }
    }

    /// A machine that could not be made what the host wants starts nothing any more: the host has sent the
    /// command already, and it must not run without its randomness, disk or network.
    fn answer(&mut self, outcome: proto::Outcome) {
        self.unfit |= outcome.is_err();
        self.outbox.send(&ToHost::Done(outcome));
    }

    fn mount(&mut self, wanted: &proto::Root) -> Result<(), String> {
        if self.root.is_some() {
            return Err("the root file system is mounted already".to_owned());
        }
        self.root = Some(root::mount_root(wanted)?);
        self.etc.bind()
    }

    fn spawn(
        &mut self,
        id: ProcessId,
        start: impl FnOnce(&MountedRoot) -> Result<Process, proto::SpawnFailure>,
    ) {
        let started = match &self.root {
            Some(_) if self.processes.len() >= MOST_PROCESSES => Err(proto::SpawnFailure {
                kind: proto::SpawnFailureKind::Setup,
                reason: format!("another command: {MOST_PROCESSES} run in this guest already"),
            }),
            Some(root) if !self.unfit => start(root),
            _ => Err(proto::SpawnFailure {
                kind: proto::SpawnFailureKind::Setup,
                reason: "the machine is not set up".to_owned(),
            }),
        };
        let process = match started {
            Ok(process) => process,
            Err(failure) => {
                return self.outbox.send(&ToHost::SpawnFailed { process: id, failure });
            }
        };
        let pid = process.pid.as_raw_nonzero().get().cast_unsigned();
        self.outbox.send(&ToHost::Spawned { process: id, pid });
        for (stream, output) in STREAMS.into_iter().zip(&process.outputs) {
            if let Some(output) = output {
                self.watch_stream(output.descriptor(), Source::Output(id, stream), EventFlags::IN);
            }
        }
        self.processes.insert(id, process);
    }

    fn watch_stream(&self, descriptor: BorrowedFd<'_>, source: Source, flags: EventFlags) {
        if let Err(error) = watch(&self.events, descriptor, source, flags) {
            say(&error);
        }
    }

    fn take_input(&mut self, id: ProcessId, data: &[u8]) {
        let Some(process) = self.processes.get_mut(&id) else { return };
        let was_waiting = process.input.is_waiting();
        let mut done = process.input.push(data);
        if !was_waiting {
            done += process.input.flush();
        }
        if !was_waiting && process.input.is_waiting() {
            let descriptor = process.input.descriptor().expect("input that waits is open");
            let outcome = watch(&self.events, descriptor, Source::Input(id), EventFlags::OUT);
            if let Err(error) = outcome {
                say(&error);
            }
        }
        self.credit_input(id, done);
    }

    fn flush_input(&mut self, id: ProcessId) {
        let Some(process) = self.processes.get_mut(&id) else { return };
        let done = process.input.flush();
        if !process.input.is_waiting()
            && let Some(descriptor) = process.input.descriptor()
        {
            let _ = epoll::delete(&self.events, descriptor);
        }
        self.credit_input(id, done);
    }

    fn end_input(&mut self, id: ProcessId) {
        if let Some(process) = self.processes.get_mut(&id) {
            process.input.end();
        }
    }

    fn credit_input(&mut self, process: ProcessId, bytes: u32) {
        if bytes > 0 {
            self.outbox.send(&ToHost::Credit { process, bytes });
        }
    }

    fn take_credit(&mut self, id: ProcessId, stream: OutputStream, bytes: u32) {
        let Some(process) = self.processes.get_mut(&id) else { return };
        let Some(output) = &mut process.outputs[stream as usize] else { return };
        let was_stalled = !output.has_credit();
        output.add_credit(bytes);
        if was_stalled && output.has_credit() {
            let descriptor = output.descriptor();
            if let Err(error) = watch(&self.events, descriptor, Source::Output(id, stream), EventFlags::IN) {
                say(&error);
            }
            if process.status.is_some() {
                self.drain(id);
            }
        }
    }

    fn close_output(&mut self, id: ProcessId, stream: OutputStream) {
        self.drop_output(id, stream);
        self.finish_if_over(id);
    }

    fn drop_output(&mut self, id: ProcessId, stream: OutputStream) {
        let Some(process) = self.processes.get_mut(&id) else { return };
        if let Some(output) = process.outputs[stream as usize].take() {
            // Closing is not enough where another descriptor shares a terminal. A stalled one is not watched.
            let _ = epoll::delete(&self.events, output.descriptor());
        }
    }

    /// Sends what one read gives. What is left makes the next event.
    fn forward_output(&mut self, id: ProcessId, stream: OutputStream) -> Drained {
        let Some(process) = self.processes.get_mut(&id) else { return Drained::Dry };
        let Some(output) = &mut process.outputs[stream as usize] else { return Drained::Dry };
        match output.read(&mut self.buffer) {
            Read::Data(data) => {
                self.outbox.send(&ToHost::Output { process: id, stream, data });
                if !output.has_credit() {
                    let _ = epoll::delete(&self.events, output.descriptor());
                    return Drained::Stalled;
                }
                Drained::More
            }
            Read::Empty => Drained::Dry,
            Read::NoCredit => Drained::Stalled,
            Read::End => {
                self.drop_output(id, stream);
                Drained::Dry
            }
        }
    }

    /// After a process ended: what it wrote before is sent, and the rest of the descriptor's life is not
    /// waited for, since others may have inherited it.
    fn drain(&mut self, id: ProcessId) {
        for stream in STREAMS {
            loop {
                match self.forward_output(id, stream) {
                    Drained::More => {}
                    Drained::Stalled => break,
                    Drained::Dry => {
                        self.drop_output(id, stream);
                        break;
                    }
                }
            }
        }
        self.finish_if_over(id);
    }

    fn finish_if_over(&mut self, id: ProcessId) {
        if let Some(process) = self.processes.get(&id)
            && process.is_over()
            && let Some(status) = process.status
        {
            self.processes.remove(&id);
            self.outbox.send(&ToHost::Exited { process: id, status });
        }
    }

    fn take_signals(&mut self) {
        while let Some(signal) = next_signal(&self.signals) {
            if WAYS_DOWN.contains(&signal) {
                self.go_down();
            }
        }
        self.reap();
    }

    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let ended = self.processes.iter_mut().find(|(_, process)| process.pid == pid);
            if let Some((&id, process)) = ended {
                process.status = Some(exit_status(status));
                self.drain(id);
            }
        }
    }

    /// The host asked: it hears when the disk is clean.
    fn shut_down(&mut self, grace: Duration) {
        shutdown::end_processes(grace);
        self.processes.clear();
        let outcome = shutdown::unmount(self.root.take());
        let clean = outcome.is_ok();
        self.outbox.send(&ToHost::Done(outcome));
        self.hand_over_outbox();
        if clean {
            shutdown::power_off();
        }
    }

    /// Somebody inside asked: processes end and the host hears how, then the machine goes off.
    fn go_down(&mut self) {
        self.end_own_processes();
        let outcome = shutdown::unmount(self.root.take());
        if let Err(error) = outcome {
            say(&error);
        }
        self.hand_over_outbox();
        shutdown::power_off();
    }

    /// Ends the processes of the host in a way that their exits are reported.
    fn end_own_processes(&mut self) {
        let deadline = std::time::Instant::now() + OWN_GRACE;
        crate::kernel_calls::signal_every_process(rustix::process::Signal::TERM);
        while !self.processes.is_empty() && std::time::Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
            self.reap();
        }
        crate::kernel_calls::signal_every_process(rustix::process::Signal::KILL);
        let deadline = std::time::Instant::now() + OWN_GRACE;
        while !self.processes.is_empty() && std::time::Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
            self.reap();
        }
        shutdown::end_processes(Duration::ZERO);
    }

    /// Waits, for a bounded time, until the host has what it was told.
    fn hand_over_outbox(&mut self) {
        let deadline = std::time::Instant::now() + OWN_GRACE;
        while !self.outbox.is_empty() && std::time::Instant::now() < deadline {
            self.outbox.flush(&self.port);
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

const STREAMS: [OutputStream; 2] = [OutputStream::Stdout, OutputStream::Stderr];

/// What is left to read after one read.
#[derive(PartialEq, Eq)]
enum Drained {
    More,
    Stalled,
    Dry,
}

fn watch(
    events: &OwnedFd,
    descriptor: BorrowedFd<'_>,
    source: Source,
    flags: EventFlags,
) -> Result<(), String> {
    epoll::add(events, descriptor, source.pack(), flags)
        .map_err(|error| format!("failed to watch a descriptor: {error}"))
}

#[expect(clippy::cast_sign_loss, reason = "masked to non-negative values")]
fn exit_status(status: WaitStatus) -> ExitStatus {
    match (status.exit_status(), status.terminating_signal()) {
        // The kernel keeps eight bits of a code, and seven of a signal's number.
        (Some(code), _) => ExitStatus::Code((code & 0xff) as u8),
        (None, Some(signal)) => ExitStatus::Signal((signal & 0x7f) as u8),
        (None, None) => ExitStatus::Code(0),
    }
}

fn not_mounted() -> String {
    "the root file system is not mounted".to_owned()
}

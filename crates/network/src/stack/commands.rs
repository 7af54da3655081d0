//! What the thread is told, by whoever has the network.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::{Network, Stack, Token, with_flow};
use crate::cable::{Cable, Read};
use crate::capture::Capture;
use crate::publish::{Listener, Published};
use crate::report::Report;

/// A command.
pub(crate) enum Command {
    Plug(OwnedFd),
    Unplug,
    Publish(Vec<Listener>),
    Withdraw(Published),
    Ports(Sender<Vec<Published>>),
    Report(Sender<Report>),
    End,
}

impl Network {
    /// Connects a guest's cable, in place of the one before. Its connections are over.
    pub fn plug(&self, cable: OwnedFd) {
        self.tell(Command::Plug(cable));
    }

    /// Takes the cable out. Clients of published ports wait for another guest.
    pub fn unplug(&self) {
        self.tell(Command::Unplug);
    }

    /// Publishes more ports.
    pub fn publish(&self, listeners: Vec<Listener>) {
        self.tell(Command::Publish(listeners));
    }

    /// Publishes a port no longer. Its connections go on.
    pub fn withdraw(&self, published: Published) {
        self.tell(Command::Withdraw(published));
    }

    /// The ports that are published.
    pub fn ports(&self) -> Vec<Published> {
        let (answer, receiver) = channel();
        self.tell(Command::Ports(answer));
        receiver.recv().unwrap_or_default()
    }

    /// What it has done, and is doing.
    pub fn report(&self) -> Report {
        let (answer, receiver) = channel();
        self.tell(Command::Report(answer));
        receiver.recv().unwrap_or_default()
    }

    fn tell(&self, command: Command) {
        // A thread that has failed said so.
        let _ = self.commands.send(command);
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}

impl Drop for Network {
    /// What the guest said last still goes out.
    fn drop(&mut self) {
        self.tell(Command::End);
        if let Some(thread) = self.thread.take() {
            // It has no more to say.
            let _ = thread.join();
        }
    }
}

impl Stack {
    pub(super) fn obey(&mut self, commands: &Receiver<Command>) {
        while let Ok(command) = commands.try_recv() {
            match command {
                Command::Plug(stream) => {
                    self.drain();
                    self.unplug();
                    self.plug(stream);
                }
                Command::Unplug => {
                    self.drain();
                    self.unplug();
                }
                Command::Publish(listeners) => self.add_listeners(listeners),
                Command::Withdraw(published) => {
                    let is_it = |listener: &Option<Listener>| {
                        listener.as_ref().is_some_and(|listener| listener.published == published)
                    };
                    if let Some(place) = self.listeners.iter().position(is_it) {
                        // Its socket leaves epoll with its last descriptor.
                        self.listeners[place] = None;
                    }
                }
                // Who asked may have gone.
                Command::Ports(answer) => drop(answer.send(self.published())),
                Command::Report(answer) => drop(answer.send(self.reported())),
                Command::End => self.ended = true,
            }
        }
    }

    fn published(&self) -> Vec<Published> {
        self.listeners.iter().flatten().map(|listener| listener.published).collect()
    }

    fn reported(&self) -> Report {
        let (frames, bytes) = self.cable.as_ref().map_or((0, 0), |cable| (cable.frames, cable.bytes));
        let capture = self.capture.as_ref().map(Capture::counts).unwrap_or_default();
        Report {
            captured: capture.captured,
            capture_missed: capture.missed,
            frames_received: self.report.frames_received + frames,
            bytes_received: self.report.bytes_received + bytes,
            tcp_connections: self.flows.len() as u64,
            udp_conversations: self.conversations.len() as u64,
            dns_pending: self.questions.len() as u64,
            ..self.report
        }
    }

    fn plug(&mut self, stream: OwnedFd) {
        if let Err(error) = rustix::io::ioctl_fionbio(&stream, true).map_err(io::Error::from) {
            tracing::error!(%error, "the guest's cable cannot be used");
            return;
        }
        let cable = Cable::new(stream, self.capture.as_ref().map(Capture::tap));
        self.watch(cable.descriptor(), Token::Cable);
        self.cable = Some(cable);
        self.await_members();
        // Those who called before there was a guest.
        for place in 0..self.listeners.len() {
            self.await_callers(place);
        }
    }

    pub(super) fn unplug(&mut self) {
        let Some(cable) = self.cable.take() else { return };
        self.report.frames_received += cable.frames;
        self.report.bytes_received += cable.bytes;
        for place in 0..self.listeners.len() {
            self.ignore_callers(place);
        }
        self.ignore_members();
        self.callers.drain();
        // Sockets close as those of a program that ended do.
        self.flows.drain();
        self.flow_keys.clear();
        self.conversations.drain();
        self.conversation_keys.clear();
        self.questions.drain();
        self.name_streams.drain();
        self.deadlines.clear();
        self.eager.clear();
        self.owing.clear();
        self.pool = 0;
    }

    /// Takes what the guest said last, and gives the sockets what they take at once.
    pub(super) fn drain(&mut self) {
        while let Some(cable) = &mut self.cable {
            cable.readable = true;
            let read = cable.read();
            self.take_frames();
            if read != Read::Some {
                break;
            }
        }
        let keys: Vec<_> = self.flows.iter().map(|(key, _)| key).collect();
        for key in keys {
            with_flow!(self, key, |flow, io| flow.pump(io));
        }
    }
}

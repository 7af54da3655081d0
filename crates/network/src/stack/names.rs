//! The guest's questions for names, in datagrams and in streams.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::event::epoll;

use super::frames::random;
use super::{MOST_NAME_STREAMS, MOST_QUESTIONS, Stack, Token};
use crate::audit::Traffic;
use crate::dns::{
    Asker, NO_SUCH_NAME, NameStream, Next, OWN_LIFETIME, Pending, Question, Resolved, SERVER_FAILURE, answer,
    found,
};
use crate::reach::has_ipv6;
use crate::slab::Key;
use crate::wire::{Datagram, LONGEST_DATAGRAM, emit_datagram};

impl Stack {
    /// The guest asks for a name.
    pub(super) fn asked(&mut self, datagram: &Datagram<'_>) {
        let asker = Asker::Datagram { guest: datagram.from, asked: datagram.to };
        if self.question(datagram.payload, asker).is_none() {
            self.report.dropped += 1;
        }
    }

    /// `None` if it is no question.
    fn question(&mut self, query: &[u8], asker: Asker) -> Option<()> {
        let question = Question::parse(query)?;
        self.report.dns_total += 1;
        let reply = |code, addresses: &[IpAddr]| answer(query, &question, code, addresses, OWN_LIFETIME);
        let refusal = self.reach.refuses_name(&question.name);
        self.note(Traffic::Name, None, Some(question.name.clone()), refusal);
        if refusal.is_some() {
            self.tell_name(asker, &reply(NO_SUCH_NAME, &[]));
            return Some(());
        }
        if let Some(mut own) = self.reach.own_addresses(&question.name) {
            own.retain(|address| question.wants(*address));
            self.tell_name(asker, &reply(0, &own));
            return Some(());
        }
        if question.is_aaaa() && !has_ipv6() {
            // What cannot be reached need not be known.
            self.tell_name(asker, &reply(0, &[]));
            return Some(());
        }
        self.make_room_for_question();
        let servers = self.servers.now();
        let whole = (query, question.clone());
        match Pending::ask(whole, asker, servers, random() as u16, Instant::now()) {
            None => self.tell_name(asker, &reply(SERVER_FAILURE, &[])),
            Some(pending) => {
                let deadline = pending.deadline;
                let key = self.questions.insert(pending);
                self.await_answer(key);
                self.remind(Token::Dns(key), deadline);
            }
        }
        Some(())
    }

    fn make_room_for_question(&mut self) {
        if self.questions.len() < MOST_QUESTIONS {
            return;
        }
        self.report.limited += 1;
        let oldest = self.questions.iter().min_by_key(|(_, pending)| pending.deadline);
        if let Some((key, _)) = oldest {
            self.questions.remove(key);
        }
    }

    /// Has epoll watch the socket that a question went out from.
    pub(super) fn await_answer(&mut self, key: Key) {
        let watched = self.questions.get_mut(key).is_none_or(|pending| {
            let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
            epoll::add(&self.epoll, pending.descriptor(), Token::Dns(key).data(), flags).is_ok()
        });
        if !watched {
            tracing::warn!("an answer cannot be waited for");
        }
    }

    /// Something arrived for a question.
    pub(super) fn resolved(&mut self, key: Key) {
        let Some(pending) = self.questions.get_mut(key) else { return };
        if let Resolved::Answer(answer) = pending.receive(&mut self.scratch)
            && let Some(pending) = self.questions.remove(key)
        {
            let answer = self.learn(&pending, answer);
            self.tell_name(pending.asker, &answer);
        }
    }

    /// Pins the addresses of an answer to the name that was asked for; what the guest is told. A name that is another
    /// name of one that is refused is refused, too.
    fn learn(&mut self, pending: &Pending, answer: Vec<u8>) -> Vec<u8> {
        let found = found(&answer, &pending.question);
        if let Some(refused) = found.names.iter().find(|name| self.reach.policy.denies_name(name)) {
            self.note(Traffic::Name, None, Some(refused.clone()), Some(crate::Refusal::Denied));
            return pending.bare(NO_SUCH_NAME);
        }
        let now = Instant::now();
        for (address, lifetime) in found.addresses {
            self.reach.pins.pin(&pending.question.name, address.to_canonical(), lifetime, now);
        }
        answer
    }

    pub(super) fn question_is_due(&mut self, key: Key, now: Instant) {
        let servers = self.servers.now().to_vec();
        let Some(pending) = self.questions.get_mut(key) else { return };
        if pending.late(&servers, now) {
            let deadline = pending.deadline;
            self.await_answer(key);
            self.remind(Token::Dns(key), deadline);
        } else if let Some(pending) = self.questions.remove(key) {
            self.tell_name(pending.asker, &pending.failure());
        }
    }

    fn tell_name(&mut self, asker: Asker, payload: &[u8]) {
        match asker {
            Asker::Datagram { guest, asked } => {
                let Some(cable) = &mut self.cable else { return };
                if payload.len() <= LONGEST_DATAGRAM {
                    cable.frame(|out, mac| emit_datagram(out, mac, asked, guest, payload));
                }
            }
            Asker::Stream(key) => {
                if self.name_streams.get_mut(key).is_some_and(|stream| !stream.tell(payload)) {
                    self.name_streams.remove(key);
                }
            }
        }
    }

    /// The other end of a stream in which the guest may ask.
    pub(super) fn name_stream(&mut self) -> Option<OwnedFd> {
        if self.name_streams.len() >= MOST_NAME_STREAMS {
            self.report.limited += 1;
            return None;
        }
        let (stream, other) = NameStream::pair().ok()?;
        let key = self.name_streams.insert(stream);
        let stream = self.name_streams.get_mut(key)?;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        if epoll::add(&self.epoll, stream.descriptor(), Token::NameStream(key).data(), flags).is_err() {
            self.name_streams.remove(key);
            return None;
        }
        Some(other.into())
    }

    /// The guest asks in a stream, or hears there.
    pub(super) fn asked_in_stream(&mut self, key: Key) {
        while let Some(stream) = self.name_streams.get_mut(key) {
            let goes_on = match stream.next() {
                _ if !stream.flush() => false,
                Next::Question(query) => self.question(&query, Asker::Stream(key)).is_some(),
                Next::Nothing => return,
                Next::Over => false,
            };
            if !goes_on {
                self.name_streams.remove(key);
            }
        }
    }
}

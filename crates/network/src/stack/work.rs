//! What is done between two waits.

use std::cmp::Reverse;
use std::time::Instant;

use super::{Stack, Token, with_flow};
use crate::cable::Read;
use crate::datagrams::SILENCE;
use crate::slab::Key;
use crate::tcp::Fate;

impl Stack {
    pub(super) fn work(&mut self) {
        self.read_cable();
        self.go_on();
        self.keep_deadlines();
        self.acknowledge();
        let Some(cable) = &mut self.cable else { return };
        if cable.write().is_err() {
            self.unplug();
        }
    }

    /// Takes frames, but not more than can be answered.
    fn read_cable(&mut self) {
        let Some(cable) = self.cable.as_mut().filter(|cable| cable.readable && cable.has_room()) else {
            return;
        };
        match cable.read() {
            Read::Some | Read::Nothing => self.take_frames(),
            Read::Over => {
                self.take_frames();
                self.unplug();
            }
        }
    }

    /// Lets connections do what they can, each once.
    fn go_on(&mut self) {
        for _ in 0..self.eager.len() {
            if !self.cable.as_ref().is_some_and(crate::cable::Cable::has_room) {
                return;
            }
            let Some(key) = self.eager.pop_front() else { return };
            if let Some(fate) = with_flow!(self, key, |flow, io| flow.pump(io)) {
                self.after(key, fate);
            }
        }
    }

    /// What was received in this round is acknowledged once.
    fn acknowledge(&mut self) {
        for key in std::mem::take(&mut self.owing) {
            with_flow!(self, key, |flow, io| {
                if flow.owes && flow.is_open() {
                    flow.acknowledge(io);
                }
            });
        }
    }

    fn keep_deadlines(&mut self) {
        let now = Instant::now();
        while let Some(Reverse((due, token))) =
            self.deadlines.peek().copied().filter(|Reverse((due, _))| *due <= now)
        {
            self.deadlines.pop();
            match token {
                Token::Tcp(key) => self.flow_is_due(key, due, now),
                Token::Datagrams(key) => self.conversation_is_due(key, now),
                Token::Dns(key) => self.question_is_due(key, now),
                Token::Caller(key) => self.caller_is_due(key),
                Token::Wake
                | Token::Cable
                | Token::Listener(_)
                | Token::NameStream(_)
                | Token::Members(_)
                | Token::Parcels(_) => {}
            }
        }
    }

    fn flow_is_due(&mut self, key: Key, due: Instant, now: Instant) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        if flow.remembered == Some(due) {
            flow.remembered = None;
        }
        let late = flow.deadline.is_some_and(|deadline| deadline <= now);
        let fate = if late { with_flow!(self, key, |flow, io| flow.late(io)) } else { None };
        self.after(key, fate.unwrap_or(Fate::Waits));
    }

    fn conversation_is_due(&mut self, key: Key, now: Instant) {
        let Some(conversation) = self.conversations.get_mut(key) else { return };
        let deadline = conversation.last + SILENCE;
        if deadline <= now {
            self.fall_silent(key);
        } else {
            self.remind(Token::Datagrams(key), deadline);
        }
    }

    pub(super) fn remind(&mut self, token: Token, at: Instant) {
        self.deadlines.push(Reverse((at, token)));
    }

    /// Remembers a connection's deadline, unless an earlier one will lead to it.
    pub(super) fn remember(&mut self, key: Key) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        let Some(deadline) = flow.deadline else { return };
        if flow.remembered.is_none_or(|remembered| remembered > deadline) {
            flow.remembered = Some(deadline);
            self.remind(Token::Tcp(key), deadline);
        }
    }
}

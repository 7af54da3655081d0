//! The life of a workspace: boots and ends, until it ends for good. It alone changes the state.

use std::sync::Arc;
use std::time::Duration;

use engine::Demand;
use home::{fault_point, write_record};
use jiff::Timestamp;
use template::Budget;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::logbook::Logbook;
use super::report::{Failure, Report, Said, causes};
use super::running::Up;
use super::shared::{Order, Shared};
use crate::agent::{Process, ProcessEvent};
use crate::boot::Booted;
use crate::control::{Reply, Request};
use crate::event::EventKind;
use crate::log::LogSource;
use crate::spec::RestartPolicy;
use crate::start::{Machinery, StartError};
use crate::state::{BootRecord, EndRecord, Ending, Exit, State, StateRecord};
use crate::workspace::{Workspace, WorkspaceError};

/// The pause before the first start again; it doubles with each, up to the longest. Docker's figures.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A service that ran so long starts again as if it had never failed.
const SOUND: Duration = Duration::from_secs(10);

/// A workspace's life, from a start to the end for good.
pub(super) struct Life {
    pub(super) workspace: Workspace,
    pub(super) shared: Arc<Shared>,
    pub(super) orders: mpsc::UnboundedReceiver<Order>,
    pub(super) logs: Logbook,
    pub(super) report: Report,
    pub(super) templates: Budget,
    pub(super) confinement: Demand,
    /// Why the service never ran.
    pub(super) failure: Option<Failure>,
    /// Who waits for the end for good.
    pub(super) waiters: Vec<oneshot::Sender<Reply>>,
    /// Who asked for the end, and hears of it when it is over.
    pub(super) enders: Vec<oneshot::Sender<Reply>>,
}

/// How a boot ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) how: Ending,
    pub(super) exit: Option<Exit>,
    pub(super) reason: Option<String>,
    /// Whether somebody asked for it, and so wants no start again.
    pub(super) asked_for: bool,
}

/// Answers that are due when the supervisor has let go of everything.
pub(super) struct LastWords {
    replies: Vec<(oneshot::Sender<Reply>, Reply)>,
    report: Report,
    failure: Option<Failure>,
}

impl LastWords {
    /// Says them, and lets those who asked read them.
    pub(super) async fn say(mut self) {
        if let Some(failure) = self.failure {
            self.report.say(&Said::Failed(failure));
        }
        for (to, reply) in self.replies {
            // Whoever asked may have gone.
            let _ = to.send(reply);
        }
        // The connections' own tasks send the answers; they need a moment, and nothing else runs.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }
}

impl Life {
    pub(super) async fn live(mut self) -> LastWords {
        let mut restarts = 0;
        let outcome = loop {
            let began = Instant::now();
            let outcome = match self.boot(restarts).await {
                Ok(up) => self.run(up).await,
                Err(outcome) => outcome,
            };
            self.logs.flush();
            self.note_end(&outcome);
            if began.elapsed() > SOUND {
                restarts = 0;
            }
            if !self.wants_another(&outcome, restarts) {
                break outcome;
            }
            restarts += 1;
            if let Some((order, how)) = self.pause(restarts).await {
                self.end_while_down(how);
                self.enders.push(order.reply);
                break outcome;
            }
        };
        let ended = Reply::Ended { exit: outcome.exit };
        let waiters = self.waiters.into_iter().map(|waiter| (waiter, ended.clone()));
        let enders = self.enders.into_iter().map(|ender| (ender, Reply::Done));
        LastWords { replies: waiters.chain(enders).collect(), report: self.report, failure: self.failure }
    }

    /// Whether the restart policy wants it to start again. One that never ran has a cause that stays.
    fn wants_another(&self, outcome: &Outcome, restarts: u32) -> bool {
        if outcome.asked_for || self.report.is_open() {
            return false;
        }
        let failed = outcome.how == Ending::Failed;
        match self.workspace.record().spec.restart {
            RestartPolicy::No => false,
            RestartPolicy::OnFailure(most) => failed && most.is_none_or(|most| restarts < most),
            RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
        }
    }

    /// Waits before the next start; an order to end is an end for good.
    async fn pause(&mut self, restarts: u32) -> Option<(Order, Ending)> {
        self.shared.enter(State::Starting);
        self.tell(EventKind::Restarting);
        let pause = FIRST_PAUSE.saturating_mul(1 << (restarts - 1).min(20)).min(LONGEST_PAUSE);
        let until = Instant::now() + pause;
        loop {
            let order = tokio::select! {
                () = tokio::time::sleep_until(until) => return None,
                Some(order) = self.orders.recv() => order,
            };
            match order.request {
                Request::Halt => return Some((order, Ending::Halted)),
                Request::Stop { .. } => return Some((order, Ending::Stopped)),
                Request::Kill => return Some((order, Ending::Killed)),
                Request::Wait => self.waiters.push(order.reply),
                _ => refuse(order, "it is starting again"),
            }
        }
    }

    /// What was asked of a workspace that was down already, on its way to another start.
    fn end_while_down(&mut self, how: Ending) {
        self.change_facts(|facts| {
            if let Some(end) = &mut facts.end {
                end.how = how;
            }
        });
        self.tell(event_of_end(&Outcome { how, exit: None, reason: None, asked_for: true }));
    }

    /// Starts the machine and its service. Until the service runs, an order to end is an end at once.
    async fn boot(&mut self, restarts: u32) -> Result<Up, Outcome> {
        self.shared.enter(State::Starting);
        self.change_facts(|facts| {
            let number = facts.boot.as_ref().map_or(0, |boot| boot.number) + 1;
            facts.boot = Some(BootRecord::begin(number));
            facts.restarts = restarts;
        });
        fault_point("boot.noted");
        let machinery = Machinery::of(&self.workspace, self.templates, self.confinement);
        let shared = Arc::clone(&self.shared);
        let log = self.logs.writer(LogSource::Console);
        let console = move |bytes: &[u8]| {
            shared.show_console(bytes);
            log(bytes);
        };
        let started = async {
            let machinery = machinery?;
            let mut booted = machinery.start(Box::new(console)).await?;
            if let Some(cable) = booted.cable.take() {
                self.shared.with_network(|network| network.plug(cable));
            }
            self.shared.change(|live| live.machine = booted.machine.pid());
            fault_point("boot.machine");
            booted.set_up_workspace(&self.workspace).await?;
            home::mark("set up");
            fault_point("boot.set_up");
            let process = booted.agent.spawn(self.workspace.record().service.command());
            first_event(process).await.map(|process| (booted, process))
        };
        let started = tokio::select! {
            started = started => started,
            (order, outcome) = ending_order(&mut self.orders, &mut self.waiters) => {
                // The machine went with what was dropped.
                self.enders.push(order.reply);
                self.failure = Some(interrupted());
                return Err(outcome);
            }
        };
        let (booted, process) = started.map_err(|error| self.not_started(&error))?;
        home::mark("started");
        self.note_start(&booted);
        fault_point("boot.service");
        self.report.say(&Said::Started);
        Ok(Up::new(booted, process, &self.workspace, &self.shared))
    }

    fn not_started(&mut self, error: &StartError) -> Outcome {
        let reason = causes(error);
        let kind = error.kind().to_owned();
        self.failure = Some(Failure { kind, message: reason.clone(), hint: error.hint() });
        let exit = error.exit().map(Exit::Code);
        Outcome { how: Ending::Failed, exit, reason: Some(reason), asked_for: false }
    }

    fn note_start(&mut self, booted: &Booted) {
        let acceleration = booted.acceleration();
        let template = booted.template();
        let confinement = booted.confinement();
        self.change_facts(|facts| {
            if let Some(boot) = &mut facts.boot {
                boot.acceleration = Some(acceleration);
                boot.template.clone_from(&template);
                boot.confinement = confinement;
            }
        });
        let restored = template.is_some();
        self.tell(EventKind::Started { restored });
        self.shared.change(|live| {
            live.acceleration = Some(acceleration);
            live.service_started_at = Some(Timestamp::now());
            live.health = None;
            live.trouble = None;
        });
        self.shared.agent.send_replace(Some(booted.agent.clone()));
        self.shared.enter(State::Running);
    }

    fn note_end(&mut self, outcome: &Outcome) {
        self.shared.agent.send_replace(None);
        self.shared.with_network(network::Network::unplug);
        self.shared.change(|live| live.machine = None);
        fault_point("end.machine");
        self.change_facts(|facts| {
            let boot = facts.boot.as_ref().map_or(0, |boot| boot.number);
            facts.end = Some(EndRecord {
                boot,
                how: outcome.how,
                at: Timestamp::now(),
                exit: outcome.exit,
                reason: outcome.reason.clone(),
            });
            if outcome.asked_for {
                // A quarantine that ends is lifted; any other end leaves it.
                facts.quarantine = facts.quarantine.take().filter(|_| outcome.how != Ending::Halted);
            }
        });
        fault_point("end.noted");
        if let Some(exit) = outcome.exit {
            self.tell(EventKind::ServiceExited { exit });
        }
        self.tell(event_of_end(outcome));
    }

    /// Changes the facts, durably. A host's disk that is full must not end a service that runs, so a failure
    /// is told and tried again with the next change.
    pub(super) fn change_facts(&self, change: impl FnOnce(&mut StateRecord)) {
        if let Err(error) = self.try_change_facts(change) {
            tracing::error!(error = causes(&error), "failed to keep the workspace's state");
        }
    }

    /// The same for what must be durable before it takes effect.
    pub(super) fn try_change_facts(
        &self,
        change: impl FnOnce(&mut StateRecord),
    ) -> Result<(), WorkspaceError> {
        let mut facts = self.workspace.facts()?;
        change(&mut facts);
        Ok(write_record(&self.workspace.directory().join("state.json"), &facts)?)
    }

    pub(super) fn tell(&self, kind: EventKind) {
        self.workspace.called_now().tell(kind);
    }
}

/// Waits until the service runs, or does not.
async fn first_event(mut process: Process) -> Result<Process, StartError> {
    match process.events.recv().await {
        Some(ProcessEvent::Started) => Ok(process),
        Some(ProcessEvent::Failed(failure)) => Err(StartError::Service(failure)),
        _ => Err(StartError::GuestGone),
    }
}

/// Waits for an order to end; others are refused meanwhile.
async fn ending_order(
    orders: &mut mpsc::UnboundedReceiver<Order>,
    waiters: &mut Vec<oneshot::Sender<Reply>>,
) -> (Order, Outcome) {
    loop {
        let Some(order) = orders.recv().await else { return std::future::pending().await };
        let how = match order.request {
            // Nothing was started that could lose anything.
            Request::Halt => Ending::Halted,
            Request::Stop { .. } => Ending::Stopped,
            Request::Kill => Ending::Killed,
            Request::Wait => {
                waiters.push(order.reply);
                continue;
            }
            _ => {
                refuse(order, "it is starting");
                continue;
            }
        };
        return (order, Outcome { how, exit: None, reason: None, asked_for: true });
    }
}

fn interrupted() -> Failure {
    Failure { kind: "ended".to_owned(), message: "it was ended while it started".to_owned(), hint: None }
}

/// Refuses an order that makes no sense now.
pub(super) fn refuse(order: Order, why: &str) {
    let reply = Reply::Failed { kind: "state".to_owned(), message: why.to_owned(), hint: None };
    // Whoever asked may have gone.
    let _ = order.reply.send(reply);
}

fn event_of_end(outcome: &Outcome) -> EventKind {
    match outcome.how {
        Ending::Halted => EventKind::Halted,
        Ending::Stopped => EventKind::Stopped,
        Ending::Killed => EventKind::Killed,
        Ending::Failed => EventKind::Failed { reason: outcome.reason.clone().unwrap_or_default() },
    }
}

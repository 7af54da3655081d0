//! A machine that is up, with its service: what happens to it, and what is asked of it.

use std::sync::Arc;
use std::time::Duration;

use engine::{Ended, Stall};
use home::fault_point;
use jiff::Timestamp;
use rustix::process::Signal;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::leaving::{AT_ONCE, Leaving, Passed, Step, UNMOUNT_DEADLINE, Waiting, passed};
use super::life::{Life, Outcome, refuse};
use super::report::causes;
use super::shared::{Order, Shared};
use super::standing::Standing;
use crate::agent::{AgentError, Process, ProcessEvent};
use crate::boot::{Booted, ResumeError};
use crate::control::{Reply, Request, STALLED};
use crate::event::EventKind;
use crate::health;
use crate::log::LogSource;
use crate::service::Service;
use crate::state::{Ending, Exit, Quarantine, State};
use crate::workspace::Workspace;
use proto::OutputStream;

/// How long what must follow at once may take.
const SOON: Duration = Duration::from_secs(2);

/// What a guest does that ends without being asked.
const OFF: &str = "the guest switched itself off";

/// Some decades, which a clock can hold.
const LONGEST_WAIT: Duration = Duration::from_secs(1 << 30);

/// A machine that is up.
pub(super) struct Up {
    pub(super) booted: Booted,
    /// Gone once it has ended.
    process: Option<Process>,
    exit: Option<Exit>,
    pub(super) leaving: Option<Leaving>,
    service: Service,
    health: Option<AbortHandle>,
    pub(super) standing: Standing,
}

/// One thing that happens.
enum Happened {
    Service(Option<ProcessEvent>),
    MachineEnded(Ended),
    Ordered(Order),
    Passed(Passed),
    Stalled(Option<Stall>),
}

impl Up {
    pub(super) fn new(booted: Booted, process: Process, workspace: &Workspace, shared: &Arc<Shared>) -> Self {
        let service = workspace.record().service.clone();
        let health = service.health.clone().map(|check| {
            shared.change(|live| live.health = Some(health::Health::Starting));
            let (shared, workspace) = (Arc::clone(shared), workspace.clone());
            let changed = move |health| {
                shared.change(|live| live.health = Some(health));
                workspace.called_now().tell(EventKind::Health { health });
            };
            tokio::spawn(health::watch(service.clone(), check, booted.agent.clone(), changed)).abort_handle()
        });
        let standing = Standing::new(booted.machine.stalls());
        Self { booted, process: Some(process), exit: None, leaving: None, service, health, standing }
    }

    async fn next(&mut self, orders: &mut tokio::sync::mpsc::UnboundedReceiver<Order>) -> Happened {
        let Self { booted, process, leaving, standing, .. } = self;
        let service = async {
            match process {
                Some(process) => process.events.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // A service that never stops speaking must not outvoice an order, and what it said before its machine
            // ended comes before that end.
            biased;
            Some(order) = orders.recv() => Happened::Ordered(order),
            passed = passed(leaving, standing.is_still()) => Happened::Passed(passed),
            stall = standing.changed() => Happened::Stalled(stall),
            event = service => Happened::Service(event),
            ended = booted.machine.ended() => Happened::MachineEnded(ended),
        }
    }

    fn signal_service(&self, signal: i32) {
        if let Some(process) = &self.process {
            process.handle().signal(signal);
        }
    }

    /// Asks the guest to end what still runs, unmount, and go off.
    fn unmount(&self, grace: Duration) -> Step {
        let answer = self.booted.shut_down(grace);
        Step::Unmounting(Box::pin(answer), Instant::now() + grace + UNMOUNT_DEADLINE)
    }

    fn outcome(&self, how: Ending, reason: Option<String>, asked_for: bool) -> Outcome {
        Outcome { how, exit: self.exit, reason, asked_for }
    }
}

impl Life {
    /// Lives with a machine until it is gone.
    pub(super) async fn run(&mut self, mut up: Up) -> Outcome {
        let outcome = loop {
            let ended = match up.next(&mut self.orders).await {
                Happened::Service(event) => self.service_event(&mut up, event).await,
                Happened::MachineEnded(ended) => Some(machine_ended(&mut up, &ended).await),
                Happened::Ordered(order) => self.obey(&mut up, order).await,
                Happened::Passed(passed) => self.pass(&mut up, passed),
                Happened::Stalled(stall) => {
                    self.stall_changed(&mut up, stall);
                    None
                }
            };
            if let Some(outcome) = ended {
                break outcome;
            }
        };
        if let Some(health) = &up.health {
            health.abort();
        }
        let waiting = up.leaving.take().into_iter().flat_map(|leaving| leaving.waiting);
        self.enders.extend(waiting.map(|waiting| waiting.reply));
        fault_point("run.over");
        up.booted.machine.kill().await;
        outcome
    }

    async fn service_event(&mut self, up: &mut Up, event: Option<ProcessEvent>) -> Option<Outcome> {
        match event {
            Some(ProcessEvent::Output(stream, chunk)) => {
                let source = match stream {
                    OutputStream::Stdout => LogSource::Stdout,
                    OutputStream::Stderr => LogSource::Stderr,
                };
                self.logs.write(source, &chunk);
                if let Some(process) = &up.process {
                    process.handle().credit(stream, chunk.len());
                }
            }
            Some(ProcessEvent::Exited(status)) => {
                up.process = None;
                up.exit = Some(status.into());
                self.service_ended(up);
            }
            Some(ProcessEvent::Started | ProcessEvent::Failed(_)) => {}
            None => {
                up.process = None;
                return self.session_lost(up).await;
            }
        }
        None
    }

    /// A machine that goes off ends the session too, and its end says more.
    async fn session_lost(&mut self, up: &mut Up) -> Option<Outcome> {
        if matches!(
            &up.leaving,
            Some(Leaving { step: Step::Unmounting(..) | Step::GoingOff(_) | Step::Lost(_), .. })
        ) {
            return None;
        }
        let reason = causes(&up.booted.agent.why_lost());
        match tokio::time::timeout(SOON, up.booted.machine.ended()).await {
            Ok(ended) => Some(machine_ended(up, &ended).await),
            Err(_) => Some(up.outcome(Ending::Failed, Some(reason), false)),
        }
    }

    /// The machine goes down with its service, cleanly.
    fn service_ended(&mut self, up: &mut Up) {
        fault_point("service.ended");
        if let Some(leaving) = &up.leaving {
            let grace = match leaving.step {
                Step::Asked(Some(until)) => until.saturating_duration_since(Instant::now()),
                // The others in there get what their service had.
                Step::Asked(None) => up.service.grace,
                _ => Duration::ZERO,
            };
            let step = up.unmount(grace);
            up.leaving.as_mut().expect("it was just there").step = step;
            return;
        }
        let well = up.exit == Some(Exit::Code(0));
        let how = if well { Ending::Stopped } else { Ending::Failed };
        let step = up.unmount(Duration::ZERO);
        up.leaving = Some(Leaving { how, waiting: Vec::new(), asked_for: false, step });
        self.shared.enter(State::Stopping);
    }

    fn pass(&mut self, up: &mut Up, passed: Passed) -> Option<Outcome> {
        let mut leaving = up.leaving.take()?;
        match (passed, &leaving.step) {
            (Passed::Patience, _) => {
                let now = Instant::now();
                let over = |waiting: &mut Waiting| waiting.until.is_some_and(|until| until <= now);
                for waiting in leaving.waiting.extract_if(.., over) {
                    fail(waiting.reply, "still_up", "the machine is still up");
                }
                // A service that stays is left as it is; a machine on its last steps goes on.
                if leaving.waiting.is_empty() && matches!(leaving.step, Step::Asked(_)) {
                    self.shared.enter(State::Running);
                    return None;
                }
            }
            (Passed::Time, Step::Asked(_)) => {
                up.signal_service(Signal::KILL.as_raw());
                leaving.step = Step::Killed(Instant::now() + AT_ONCE);
            }
            (Passed::Time, Step::Killed(_)) => leaving.step = up.unmount(Duration::ZERO),
            (Passed::Answered(Ok(())), _) => {
                fault_point("leaving.clean");
                leaving.step = Step::GoingOff(Instant::now() + AT_ONCE);
            }
            // Its disk is clean, so nothing is lost by helping it off.
            (Passed::Time, Step::GoingOff(_)) => return Some(left(up, leaving)),
            (Passed::Answered(Err(AgentError::Lost(_))), _) => {
                leaving.step = Step::Lost(Instant::now() + SOON);
            }
            (Passed::Answered(Err(error)), _) => return self.not_clean(up, leaving, &causes(&error)),
            (Passed::Time, Step::Lost(_) | Step::Unmounting(..)) => {
                return self.not_clean(up, leaving, "the guest does not say that its disk is clean");
            }
        }
        up.leaving = Some(leaving);
        None
    }

    /// What was asked for fails, and the machine stays for another try; one that nobody asked ends.
    fn not_clean(&mut self, up: &mut Up, mut leaving: Leaving, why: &str) -> Option<Outcome> {
        if leaving.waiting.is_empty() {
            let reason = format!("its disk was not left clean: {why}");
            return Some(up.outcome(Ending::Failed, Some(reason), leaving.asked_for));
        }
        fail_all(&mut leaving.waiting, "not_clean", &format!("its disk is not clean: {why}"));
        self.shared.enter(State::Running);
        None
    }

    async fn obey(&mut self, up: &mut Up, order: Order) -> Option<Outcome> {
        let state = self.shared.live().state;
        let Order { request, reply } = order;
        match request {
            Request::Wait => self.waiters.push(reply),
            Request::Release { reason } if state == State::Quarantined => {
                return Some(self.release(up, &reason, reply).await);
            }
            _ if state == State::Quarantined => refuse(Order { request, reply }, "it is quarantined"),
            Request::Kill => {
                self.enders.push(reply);
                // Its service ends with the machine, as by SIGKILL.
                up.exit = up.exit.or(Some(Exit::Signal(9)));
                return Some(up.outcome(Ending::Killed, None, true));
            }
            Request::Quarantine { reason } => self.quarantine(up, reason, reply).await,
            Request::Resume if state == State::Paused => self.resume(up, reply).await,
            _ if state == State::Paused => refuse(Order { request, reply }, "it is paused"),
            Request::Halt | Request::Stop { .. } if up.standing.is_still() => {
                fail(reply, STALLED, &up.standing.reason());
            }
            Request::Halt => {
                let asked = Some(Instant::now() + up.service.grace);
                self.leave(up, Ending::Halted, asked, Waiting { reply, until: None });
            }
            Request::Stop { timeout } => {
                let wait = Duration::try_from_secs_f64(timeout).unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT);
                let waiting = Waiting { reply, until: Some(Instant::now() + wait) };
                self.leave(up, Ending::Stopped, None, waiting);
            }
            Request::Signal { signal } => {
                up.signal_service(signal);
                done(reply);
            }
            Request::Pause => self.freeze(up, reply).await,
            Request::Resume => refuse(Order { request, reply }, "it is not paused"),
            request => refuse(Order { request, reply }, "it is running"),
        }
        None
    }

    /// Begins the way down, or joins the one that is under way; a halt is more than a stop.
    fn leave(&mut self, up: &mut Up, how: Ending, asked: Option<Instant>, waiting: Waiting) {
        self.shared.enter(State::Stopping);
        if let Some(leaving) = &mut up.leaving {
            if how == Ending::Halted {
                leaving.how = how;
                if let Step::Asked(until) = &mut leaving.step {
                    *until = asked;
                }
            }
            leaving.waiting.push(waiting);
            leaving.asked_for = true;
            return;
        }
        fault_point("leave.asked");
        up.signal_service(up.service.stop_signal().number());
        let step = match up.process {
            Some(_) => Step::Asked(asked),
            None => up.unmount(Duration::ZERO),
        };
        up.leaving = Some(Leaving { how, waiting: vec![waiting], asked_for: true, step });
    }

    async fn freeze(&mut self, up: &mut Up, reply: Replier) {
        match up.booted.machine.pause().await {
            Ok(()) => {
                self.shared.enter(State::Paused);
                self.tell(EventKind::Paused);
                done(reply);
            }
            Err(error) => fail(reply, "machine", &causes(&error)),
        }
    }

    async fn resume(&mut self, up: &mut Up, reply: Replier) {
        let resumed = if up.standing.is_still() {
            // It hears what time it is once it can.
            up.booted.machine.resume().await.map_err(ResumeError::from)
        } else {
            up.booted.resume().await
        };
        match resumed {
            Ok(()) => {
                self.shared.enter(State::Running);
                self.tell(EventKind::Resumed);
                done(reply);
            }
            Err(error) => fail(reply, "machine", &causes(&error)),
        }
    }

    /// Durable first: a crash at any later moment leaves the workspace in quarantine, and down.
    async fn quarantine(&mut self, up: &mut Up, reason: String, reply: Replier) {
        let quarantine = Quarantine { reason: reason.clone(), since: Timestamp::now() };
        if let Err(error) = self.try_change_facts(|facts| facts.quarantine = Some(quarantine)) {
            return fail(reply, "record", &causes(&error));
        }
        fault_point("quarantine.noted");
        self.tell(EventKind::Quarantined { reason });
        // Whoever speaks to the guest is cut off.
        self.shared.agent.send_replace(None);
        self.shared.enter(State::Quarantined);
        self.shared.cut_network();
        let frozen = up.booted.machine.pause().await;
        let cut = up.booted.machine.set_network(engine::Link::Down).await;
        fault_point("quarantine.frozen");
        match frozen.and(cut) {
            Ok(()) => done(reply),
            Err(error) => fail(reply, "machine", &causes(&error)),
        }
    }

    /// Halts without its network, for as long as the service's grace; then the machine is ended.
    async fn release(&mut self, up: &mut Up, reason: &str, reply: Replier) -> Outcome {
        self.tell(EventKind::Released { reason: reason.to_owned() });
        self.enders.push(reply);
        fault_point("release.told");
        let grace = up.service.grace;
        let clean = async {
            up.booted.resume().await.map_err(|error| causes(&error))?;
            let down = up.booted.shut_down(grace);
            let limit = grace + UNMOUNT_DEADLINE;
            let answer = tokio::time::timeout(limit, down).await;
            answer.map_err(|_| "the guest did not answer".to_owned())?.map_err(|error| causes(&error))
        };
        let reason = clean.await.err().map(|why| format!("its disk was not left clean: {why}"));
        Outcome { how: Ending::Halted, exit: up.exit, reason, asked_for: true }
    }
}

/// Where the answer to an order goes.
type Replier = oneshot::Sender<Reply>;

fn done(reply: Replier) {
    // Whoever asked may have gone.
    let _ = reply.send(Reply::Done);
}

pub(super) fn fail(reply: Replier, kind: &str, message: &str) {
    // Whoever asked may have gone.
    let _ = reply.send(Reply::Failed { kind: kind.to_owned(), message: message.to_owned(), hint: None });
}

pub(super) fn fail_all(waiting: &mut Vec<Waiting>, kind: &str, message: &str) {
    for waiting in waiting.drain(..) {
        fail(waiting.reply, kind, message);
    }
}

/// The disk is clean, and the machine is gone or may be.
fn left(up: &mut Up, leaving: Leaving) -> Outcome {
    let outcome = up.outcome(leaving.how, None, leaving.asked_for);
    up.leaving = Some(leaving);
    outcome
}

/// What the machine's end means. The guest's last word may still be on its way.
async fn machine_ended(up: &mut Up, ended: &Ended) -> Outcome {
    if *ended != Ended::PoweredOff {
        let reason = up.booted.why_ended(ended);
        return up.outcome(Ending::Failed, Some(reason), false);
    }
    let Some(leaving) = &mut up.leaving else {
        return up.outcome(Ending::Stopped, Some(OFF.to_owned()), false);
    };
    let (how, asked_for) = (leaving.how, leaving.asked_for);
    let clean = match &mut leaving.step {
        Step::GoingOff(_) => true,
        Step::Unmounting(answer, _) => matches!(tokio::time::timeout(SOON, answer).await, Ok(Ok(()))),
        Step::Asked(_) | Step::Killed(_) | Step::Lost(_) => false,
    };
    if !clean && !asked_for {
        return up.outcome(Ending::Stopped, Some(OFF.to_owned()), false);
    }
    if clean || how != Ending::Halted {
        return up.outcome(how, None, asked_for);
    }
    fail_all(&mut leaving.waiting, "not_clean", "the guest went off before it said that its disk is clean");
    up.outcome(Ending::Failed, Some("the guest went off before its disk was clean".to_owned()), asked_for)
}

//! A supervisor's clients: each connection makes one request, and may go on as another stream.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast::error::RecvError;

use super::proxy;
use super::shared::Shared;
use crate::agent::{Agent, ProcessEvent};
use crate::control::{
    Answered, Asked, ControlError, LONGEST, LiveStatus, Reply, Request, STALLED, line, parse, version,
};
use crate::exchange;
use crate::start::StartError;
use crate::state::State;
use crate::workspace::WorkspaceError;
use network::PublishSpec;

/// A client that has something to ask says so at once.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);

/// How long to wait when no connection can be accepted, as when there are too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves every client that connects, until it is dropped.
pub(super) async fn serve(listener: UnixListener, shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    // A client that goes away in the middle has no complaint.
                    let _ = client(stream, &shared).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "failed to accept a client");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn client(mut stream: UnixStream, shared: &Shared) -> io::Result<()> {
    let Ok(request) = tokio::time::timeout(REQUEST_DEADLINE, read_line(&mut stream)).await else {
        return Ok(());
    };
    match parse::<Asked<Request>>(&request?) {
        Ok(asked) => answer(asked.request, stream, shared).await,
        // The version in the answer says it all.
        Err(error) => say(&mut stream, garbled(&error)).await,
    }
}

async fn answer(request: Request, mut stream: UnixStream, shared: &Shared) -> io::Result<()> {
    match request {
        Request::Status => {
            let live = Box::new(shared.live());
            say(&mut stream, Reply::Status(live)).await
        }
        Request::Agent => {
            let Some(agent) = shared.usable_agent() else {
                return say(&mut stream, unreachable_guest(&shared.live())).await;
            };
            say(&mut stream, Reply::Done).await?;
            proxy::serve(stream, agent, shared.agent.subscribe()).await
        }
        Request::Exchange => {
            let lease = shared.usable_agent().and_then(|agent| agent.lease());
            let Some(lease) = lease else { return say(&mut stream, no_region()).await };
            say(&mut stream, Reply::Region { number: lease.number() }).await?;
            exchange::give(&lease, &mut stream).await
        }
        Request::Network => {
            let report = shared.with_network(network::Network::report);
            say(&mut stream, report.map_or_else(no_network, Reply::Network)).await
        }
        Request::Publish { ports } => {
            let reply = shared.with_network(|network| publish(network, &ports));
            say(&mut stream, reply.unwrap_or_else(no_network)).await
        }
        Request::Withdraw { ports } => {
            let reply = shared.with_network(|network| withdraw(network, &ports));
            say(&mut stream, reply.unwrap_or_else(no_network)).await
        }
        Request::Measure => {
            let Some(agent) = shared.usable_agent() else {
                return say(&mut stream, unreachable_guest(&shared.live())).await;
            };
            let reply = match tokio::time::timeout(REQUEST_DEADLINE, agent.measure()).await {
                Ok(Ok(usage)) => Reply::Measured(usage),
                _ => unreachable_guest(&shared.live()),
            };
            say(&mut stream, reply).await
        }
        Request::Detached { command } => {
            let Some(agent) = shared.usable_agent() else {
                return say(&mut stream, unreachable_guest(&shared.live())).await;
            };
            let reply = start_detached(&agent, *command).await;
            say(&mut stream, reply).await
        }
        Request::Console => {
            if shared.live().state == State::Quarantined {
                return say(&mut stream, in_state(State::Quarantined)).await;
            }
            say(&mut stream, Reply::Done).await?;
            show_console(stream, shared).await
        }
        request => {
            match shared.order(request).await {
                Ok(reply) => say(&mut stream, reply).await,
                // The life is over: the end of the connection says so.
                Err(_) => Ok(()),
            }
        }
    }
}

/// Publishes ports, or says why not.
fn publish(network: &network::Network, ports: &PublishSpec) -> Reply {
    match network::bind(std::slice::from_ref(ports)) {
        Ok(listeners) => {
            let published = listeners.iter().map(network::Listener::published).collect();
            network.publish(listeners);
            Reply::Published(published)
        }
        Err(error) => {
            let hint = error.hint();
            let error = WorkspaceError::Publish(error);
            let (kind, message) = (error.kind().to_owned(), super::report::causes(&error));
            Reply::Failed { kind, message, hint }
        }
    }
}

/// Publishes ports no longer, and says which.
fn withdraw(network: &network::Network, ports: &PublishSpec) -> Reply {
    let ports: Vec<_> = network.ports().into_iter().filter(|port| ports.names(port)).collect();
    for port in &ports {
        network.withdraw(*port);
    }
    Reply::Published(ports)
}

fn no_region() -> Reply {
    let message = "no region of its disk for exchange is free".to_owned();
    Reply::Failed { kind: "busy".to_owned(), message, hint: None }
}

fn no_network() -> Reply {
    let message = "it has no network".to_owned();
    Reply::Failed { kind: "no_network".to_owned(), message, hint: None }
}

/// Starts a command that nobody looks at. What it writes is taken, so that it never waits.
async fn start_detached(agent: &Agent, command: proto::Command) -> Reply {
    let mut process = agent.spawn(command);
    match process.events.recv().await {
        Some(ProcessEvent::Started) => {}
        Some(ProcessEvent::Failed(failure)) => {
            let kind = StartError::Service(failure.clone()).kind().to_owned();
            return Reply::Failed { kind, message: format!("cannot start {}", failure.reason), hint: None };
        }
        _ => return in_state(State::Stopping),
    }
    tokio::spawn(async move {
        let handle = process.handle();
        while let Some(event) = process.events.recv().await {
            if let ProcessEvent::Output(stream, chunk) = event {
                handle.credit(stream, chunk.len());
            }
        }
    });
    Reply::Done
}

/// What the console said last, and then what it says.
async fn show_console(mut stream: UnixStream, shared: &Shared) -> io::Result<()> {
    let (screen, mut console) = shared.console();
    stream.write_all(&screen).await?;
    let mut byte = [0];
    loop {
        tokio::select! {
            said = console.recv() => match said {
                Ok(bytes) => stream.write_all(&bytes).await?,
                // A reader that is too slow misses something, and nobody waits for it.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return Ok(()),
            },
            read = stream.read(&mut byte) => if read? == 0 {
                return Ok(());
            },
        }
    }
}

/// Why the guest's agent cannot be used.
fn unreachable_guest(live: &LiveStatus) -> Reply {
    match &live.trouble {
        Some(trouble) if live.state == State::Running => {
            Reply::Failed { kind: STALLED.to_owned(), message: trouble.clone(), hint: None }
        }
        _ => in_state(live.state),
    }
}

fn in_state(state: State) -> Reply {
    Reply::Failed { kind: "state".to_owned(), message: format!("it is {state}"), hint: None }
}

fn garbled(error: &ControlError) -> Reply {
    Reply::Failed { kind: "protocol".to_owned(), message: super::report::causes(error), hint: None }
}

async fn say(stream: &mut UnixStream, reply: Reply) -> io::Result<()> {
    stream.write_all(&line(&Answered { microagent: version(), reply })).await
}

/// Reads up to the line's end and not a byte more: what follows belongs to another stream.
async fn read_line(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    loop {
        let byte = stream.read_u8().await?;
        if byte == b'\n' {
            return Ok(line);
        }
        line.push(byte);
        if line.len() as u64 > LONGEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
}

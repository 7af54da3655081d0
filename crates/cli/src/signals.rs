//! Signals to this process become messages to the run.

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use workspace::Control;

use crate::terminal;

/// What is passed on to the guest's command.
const FORWARDED: [Signal; 6] =
    [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM, Signal::USR1, Signal::USR2];

/// From here on, signals end up in what this returns.
pub(crate) fn watch() -> std::io::Result<mpsc::UnboundedReceiver<Control>> {
    let (sender, controls) = mpsc::unbounded_channel();
    for number in FORWARDED.map(Signal::as_raw) {
        forward(&sender, SignalKind::from_raw(number), move || Control::Signal(number))?;
    }
    forward(&sender, SignalKind::window_change(), || Control::Resize(terminal::size()))?;
    Ok(controls)
}

fn forward(
    sender: &mpsc::UnboundedSender<Control>,
    kind: SignalKind,
    message: impl Fn() -> Control + Send + 'static,
) -> std::io::Result<()> {
    let mut arrivals = signal(kind)?;
    let sender = sender.clone();
    tokio::spawn(async move {
        while arrivals.recv().await.is_some() {
            if sender.send(message()).is_err() {
                return;
            }
        }
    });
    Ok(())
}

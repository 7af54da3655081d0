//! `connect`: a shell in a workspace that runs, or its serial console.

use std::io::{Read, Write};

use home::Name;
use proto::Stdio;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use workspace::{Control, ExecRequest, Finished, Input, Streams, Workspace, execute};

use crate::args::Global;
use crate::completion::workspaces;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;
use crate::pull::{open_home, runtime};
use crate::run::exit;
use crate::signals;
use crate::standard_streams::Standard;
use crate::terminal::{self, RawMode};

/// Ctrl-], and Docker's Ctrl-P Ctrl-Q.
const LEAVE: u8 = 0x1d;
const LEAVE_FIRST: u8 = 0x10;
const LEAVE_SECOND: u8 = 0x11;

/// Open a shell in a workspace that runs
///
/// The shell is the one of the user's entry in /etc/passwd, else bash, else sh. Ctrl-] or Ctrl-P Ctrl-Q leave; the
/// shell ends then, and the workspace goes on.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  microagent connect web
  microagent connect --send 'cd /srv' --send 'ls -l' web
  microagent connect --console web")]
pub(crate) struct ConnectArgs {
    /// The workspace
    #[arg(value_name = "NAME", add = workspaces())]
    name: Name,
    /// Show the serial console, in place of a shell
    #[arg(long, conflicts_with = "send")]
    console: bool,
    /// Give the shell this line, and end with it
    #[arg(long, value_name = "LINE")]
    send: Vec<String>,
}

pub(crate) fn connect(global: &Global, args: &ConnectArgs) -> Result<Exit, Failure> {
    let home = open_home(global)?;
    let workspace = Workspace::find(&home, &args.name).map_err(|error| Failure::workspace(&error))?;
    if args.console {
        return show_console(&workspace);
    }
    if !args.send.is_empty() {
        return send(&workspace, &args.send);
    }
    if !terminal::is_input() {
        return Err(Failure::usage("cannot open a shell: standard input is no terminal")
            .hint(Some(format!("say what to run: microagent connect --send LINE {}", args.name))));
    }
    shell(&workspace)
}

/// Lines for a shell without a terminal; its exit code is this command's.
fn send(workspace: &Workspace, lines: &[String]) -> Result<Exit, Failure> {
    let text = lines.join("\n") + "\n";
    let command = workspace.record().service.beside(&[], Stdio::Pipes);
    let input = Input::Stream(Box::new(std::io::Cursor::new(text.into_bytes())));
    let request = ExecRequest { command, streams: streams(input)?, timeout: None };
    Ok(exit(&crate::exec::drive(workspace, request, false)?))
}

fn shell(workspace: &Workspace) -> Result<Exit, Failure> {
    let mut command = workspace.record().service.beside(&[], Stdio::Terminal(terminal::size()));
    if !command.env.iter().any(|entry| entry.starts_with(b"TERM=")) {
        let term = std::env::var("TERM").unwrap_or_else(|_| "xterm".to_owned());
        command.env.push(format!("TERM={term}").into_bytes());
    }
    let system = |error: std::io::Error| Failure::new("system", &error);
    let (left, mut leaving) = mpsc::unbounded_channel();
    let keys = Keys { input: Standard::input().map_err(system)?, held: false, left };
    let request = ExecRequest { command, streams: streams(Input::Stream(Box::new(keys)))?, timeout: None };
    let mut raw_mode = None;
    let finished = runtime()?.block_on(async {
        let mut signals = signals::watch().map_err(system)?;
        let (sender, mut controls) = mpsc::unbounded_channel();
        let passing_on = tokio::spawn(async move {
            loop {
                let control = tokio::select! {
                    Some(()) = leaving.recv() => Control::Detach,
                    Some(control) = signals.recv() => control,
                    else => return,
                };
                if sender.send(control).is_err() {
                    return;
                }
            }
        });
        let mut started = || raw_mode = RawMode::enter().ok();
        let finished = execute(workspace, request, &mut controls, &mut started).await;
        passing_on.abort();
        finished.map_err(|error| Failure::workspace(&error))
    });
    drop(raw_mode);
    let finished = finished?;
    if finished == Finished::Detached {
        output::talk(&format!("\nleft {}", workspace.name()));
    }
    Ok(exit(&finished))
}

fn streams(input: Input) -> Result<Streams, Failure> {
    let system = |error: std::io::Error| Failure::new("system", &error);
    let stdout = Box::new(Standard::output().map_err(system)?);
    Ok(Streams { input, stdout, stderr: Box::new(Standard::error().map_err(system)?) })
}

/// What the console said last, and what it says, until it ends or this command is interrupted.
fn show_console(workspace: &Workspace) -> Result<Exit, Failure> {
    let system = |error: std::io::Error| Failure::new("system", &error);
    runtime()?.block_on(async {
        let mut signals = signals::watch().map_err(system)?;
        let mut console = workspace.console().map_err(|error| Failure::workspace(&error))?;
        let mut stdout = Standard::output().map_err(system)?;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let length = tokio::select! {
                read = console.read(&mut buffer) => read.unwrap_or(0),
                Some(Control::Signal(signal)) = signals.recv() => return Ok(Exit::Signaled(signal)),
            };
            // Whoever reads us may have gone, as `head` does.
            if length == 0 || stdout.write_all(&buffer[..length]).is_err() {
                return Ok(Exit::Success);
            }
        }
    })
}

/// The terminal's keys, without those that leave.
struct Keys {
    input: Standard,
    /// Whether the first of the two keys was typed.
    held: bool,
    left: mpsc::UnboundedSender<()>,
}

impl Read for Keys {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let Some(room) = buffer.len().checked_sub(1).filter(|room| *room > 0) else { return Ok(0) };
        loop {
            let length = self.input.read(&mut buffer[..room])?;
            if length == 0 {
                return Ok(0);
            }
            let (kept, leaves) = filter_keys(&buffer[..length], &mut self.held);
            buffer[..kept.len()].copy_from_slice(&kept);
            if leaves {
                // The session ends with it; there is nothing more to read for anybody.
                let _ = self.left.send(());
            }
            if !kept.is_empty() {
                return Ok(kept.len());
            }
        }
    }
}

/// What of `keys` is for the shell, and whether they leave. The first of two keys is held back.
fn filter_keys(keys: &[u8], held: &mut bool) -> (Vec<u8>, bool) {
    let mut kept = Vec::with_capacity(keys.len() + 1);
    for key in keys {
        match (*key, std::mem::take(held)) {
            (LEAVE, _) | (LEAVE_SECOND, true) => return (kept, true),
            (LEAVE_FIRST, false) => *held = true,
            (key, true) => kept.extend([LEAVE_FIRST, key]),
            (key, false) => kept.push(key),
        }
    }
    (kept, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_ways_leave_and_everything_else_is_the_shells() {
        let filter = |keys: &[u8]| filter_keys(keys, &mut false);
        assert_eq!(filter(b"ls\r"), (b"ls\r".to_vec(), false));
        assert_eq!(filter(b"ab\x1dcd"), (b"ab".to_vec(), true));
        assert_eq!(filter(b"a\x10\x11b"), (b"a".to_vec(), true));
        assert_eq!(filter(b"\x10x"), (b"\x10x".to_vec(), false));
        assert_eq!(filter(b"\x11"), (b"\x11".to_vec(), false));
        let mut held = false;
        assert_eq!(filter_keys(b"\x10", &mut held), (Vec::new(), false));
        assert_eq!(filter_keys(b"\x11", &mut held), (Vec::new(), true));
    }
}

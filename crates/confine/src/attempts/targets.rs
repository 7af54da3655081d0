//! What attempts are aimed at: made for the purpose, and reachable for whoever is not confined.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Where attempts are aimed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Targets {
    /// A file of the user's, in a directory of its own.
    pub file: PathBuf,
    /// A file that a machine is restored from, which it may read.
    pub memory: PathBuf,
    /// Other files that are not to be read.
    pub others: Vec<PathBuf>,
    /// A TCP service of this host.
    pub tcp: SocketAddr,
    /// A Unix service at a path.
    pub socket: PathBuf,
    /// A Unix service without a path.
    pub abstract_socket: String,
    /// A process of the same user.
    pub process: i32,
}

/// Targets that are there as long as this is.
#[derive(Debug)]
pub struct Places {
    targets: Targets,
    _listeners: (TcpListener, UnixListener, UnixListener),
}

impl Places {
    /// Makes targets in `directory`, which is empty. The process is this one.
    pub fn make(directory: &Path, others: Vec<PathBuf>) -> io::Result<Self> {
        let file = directory.join("secret");
        std::fs::write(&file, "a secret")?;
        let memory = directory.join("memory");
        std::fs::write(&memory, "of many machines")?;
        let socket = directory.join("service");
        let process = rustix::process::getpid().as_raw_nonzero().get();
        let abstract_socket = format!("microagent-trial-{process}-{}", std::process::id());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&abstract_socket)?;
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let targets = Targets {
            file,
            memory,
            others,
            tcp: tcp.local_addr()?,
            socket: socket.clone(),
            abstract_socket,
            process,
        };
        let listeners = (tcp, UnixListener::bind(socket)?, UnixListener::bind_addr(&address)?);
        Ok(Self { targets, _listeners: listeners })
    }

    /// What attempts are to be aimed at.
    pub fn targets(&self) -> &Targets {
        &self.targets
    }
}

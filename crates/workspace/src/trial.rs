//! What workspaces need of a host, each done once and left as it was.

use std::io;
use std::net::{Ipv4Addr, TcpListener};

use home::Home;
use volume::DiskError;

use crate::socket::Socket;

/// Makes a file system as workspaces have them, on a disk that is gone afterwards.
pub fn try_disk(home: &Home) -> Result<(), DiskError> {
    volume::try_file_system(home)
}

/// Listens on a socket in `home`, however long its path is, and connects to it.
pub async fn try_socket(home: &Home) -> io::Result<()> {
    let directory = tempfile::Builder::new().prefix("trial-").tempdir_in(home.tmp())?;
    let socket = Socket::of(directory.path(), "control")?;
    let listener = socket.listen()?;
    let client = socket.connect()?.ok_or(io::ErrorKind::ConnectionRefused)?;
    listener.accept().await?;
    drop(client);
    directory.close()
}

/// Opens a port of the loopback interface, as published ports are opened.
pub fn try_port() -> io::Result<()> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map(drop)
}

/// How many name servers this host asks.
pub fn name_servers() -> usize {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    count_name_servers(&text)
}

fn count_name_servers(text: &str) -> usize {
    let servers = text.lines().filter_map(|line| line.trim_start().strip_prefix("nameserver"));
    servers.filter(|rest| rest.starts_with([' ', '\t']) && !rest.trim().is_empty()).count()
}

/// The memory that this host could give to machines, in bytes; none where the kernel does not tell.
pub fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_long_path_is_no_obstacle_for_a_socket() {
        let parent = tempfile::tempdir().unwrap();
        let home = Home::open(Some(&parent.path().join("long".repeat(50)).join("path".repeat(50)))).unwrap();
        try_socket(&home).await.unwrap();
        try_disk(&home).unwrap();
        assert_eq!(std::fs::read_dir(home.tmp()).unwrap().count(), 0);
    }

    #[test]
    fn name_servers_are_counted() {
        assert_eq!(count_name_servers("search x\nnameserver 10.0.0.1\n nameserver\t::1\n#nameserver 1\n"), 2);
        assert_eq!(count_name_servers("nameserver\nnameservers 1\n"), 0);
    }

    #[test]
    fn memory_is_known() {
        assert!(available_memory().unwrap() > 1 << 20);
    }
}

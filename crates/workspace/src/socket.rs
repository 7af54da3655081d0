//! Unix sockets in the state directory, whose path may be longer than a socket's address can be.
//!
//! A socket is reached through its directory's descriptor (108 bytes; unix(7)).

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;

use tokio::net::UnixListener;

/// A socket's place.
#[derive(Debug)]
pub(crate) struct Socket {
    directory: File,
    name: String,
}

impl Socket {
    /// The socket `name` in `directory`, which must be there.
    pub(crate) fn of(directory: &Path, name: &str) -> io::Result<Self> {
        Ok(Self { directory: File::open(directory)?, name: name.to_owned() })
    }

    fn address(&self) -> String {
        format!("/proc/self/fd/{}/{}", self.directory.as_raw_fd(), self.name)
    }

    /// Listens, in place of whoever did before; the caller knows by a lock that nobody does now.
    pub(crate) fn listen(&self) -> io::Result<UnixListener> {
        self.remove();
        UnixListener::bind(self.address())
    }

    /// Connects; `None` if nobody listens.
    pub(crate) fn connect(&self) -> io::Result<Option<StdUnixStream>> {
        match StdUnixStream::connect(self.address()) {
            Ok(stream) => Ok(Some(stream)),
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Removes it from its directory. Who is connected stays so.
    pub(crate) fn remove(&self) {
        // Gone is gone.
        let _ = std::fs::remove_file(self.address());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_is_reached_however_long_its_path_is() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("d".repeat(200));
        std::fs::create_dir(&directory).unwrap();
        let socket = Socket::of(&directory, "s").unwrap();
        assert!(socket.connect().unwrap().is_none());
        let listener = socket.listen().unwrap();
        assert!(socket.connect().unwrap().is_some());
        drop(listener);
        assert!(socket.connect().unwrap().is_none(), "nobody listens");
        drop(socket.listen().unwrap());
        socket.remove();
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
    }
}

//! A real registry (`docker-registry`) on the loopback interface, in a temporary directory.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::sample::{run, tool};

pub(crate) struct Registry {
    directory: TempDir,
    port: u16,
    process: Child,
}

impl Registry {
    /// One that everybody may use.
    pub(crate) fn open() -> Self {
        Self::start(tempfile::tempdir().unwrap(), "")
    }

    /// One that only `me` with the password `secret` may use.
    pub(crate) fn with_login() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let users = directory.path().join("users");
        run(tool("htpasswd", "apache2-utils").args(["-Bbc"]).arg(&users).args(["me", "secret"]));
        let login = format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", users.display());
        Self::start(directory, &login)
    }

    /// One that speaks TLS.
    pub(crate) fn with_certificate(certificate: &Path, key: &Path) -> Self {
        Self::with_tls(certificate, key, "")
    }

    /// One that speaks TLS as `more` says.
    pub(crate) fn with_tls(certificate: &Path, key: &Path, more: &str) -> Self {
        let (certificate, key) = (certificate.display(), key.display());
        let tls = format!("  tls:\n    certificate: {certificate}\n    key: {key}\n{more}");
        Self::start(tempfile::tempdir().unwrap(), &tls)
    }

    fn start(directory: TempDir, more: &str) -> Self {
        let port = free_port();
        let config = directory.path().join("config.yml");
        let storage = directory.path().join("storage");
        let text = format!(
            "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    \
             rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:{port}\n{more}",
            storage.display()
        );
        std::fs::write(&config, text).unwrap();
        let mut command = tool("docker-registry", "docker-registry");
        command.arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "the registry does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { directory, port, process }
    }

    /// Its name in references.
    pub(crate) fn name(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Where it keeps a blob.
    pub(crate) fn blob(&self, digest: &microagent_image::Digest) -> PathBuf {
        let hex = digest.hex();
        let blobs = self.directory.path().join("storage/docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(hex).join("data")
    }

    /// A directory with a Docker configuration that has a login.
    pub(crate) fn docker_config(&self, user: &str, password: &str) -> TempDir {
        let directory = tempfile::tempdir().unwrap();
        let login = format!(r#"{{"username":"{user}","password":"{password}"}}"#);
        let text = format!(r#"{{"auths":{{"{}":{login}}}}}"#, self.name());
        std::fs::write(directory.path().join("config.json"), text).unwrap();
        directory
    }

    /// A directory with a Docker configuration that gets the login from a credential helper.
    pub(crate) fn docker_config_with_helper(&self, helper: &str) -> TempDir {
        let directory = tempfile::tempdir().unwrap();
        let text = format!(r#"{{"credHelpers":{{"{}":"{helper}"}}}}"#, self.name());
        std::fs::write(directory.path().join("config.json"), text).unwrap();
        directory
    }

    /// Puts a manifest or an index under a tag.
    pub(crate) fn put(&self, repository: &str, tag: &str, media_type: &str, document: &str) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(
            stream,
            "PUT /v2/{repository}/manifests/{tag} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\
             Content-Type: {media_type}\r\nContent-Length: {}\r\n\r\n{document}",
            self.name(),
            document.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    }

    /// Ends it.
    pub(crate) fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.end();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A `Path` as skopeo wants it.
pub(crate) fn shown(path: &Path) -> String {
    path.display().to_string()
}

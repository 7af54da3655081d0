//! A real registry, Debian's `docker-registry`, on the loopback interface.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::layout::Layout;
use crate::tool::{succeed, tool};

const USER: &str = "me";
const PASSWORD: &str = "a secret";

/// A running registry; it ends with this value.
#[derive(Debug)]
pub struct Registry {
    directory: TempDir,
    port: u16,
    process: Child,
}

impl Registry {
    /// One that everybody may use.
    pub fn open() -> Self {
        Self::start(tempfile::tempdir().expect("a directory can be made"), "")
    }

    /// One that asks for a user and a password.
    pub fn with_login() -> Self {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let login = login(&directory);
        Self::start(directory, &login)
    }

    /// One that asks for a user and a password, speaks TLS, has a certificate that it signed itself, and deletes.
    pub fn with_tls_and_login() -> Self {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let (certificate, key) = (directory.path().join("ca.crt"), directory.path().join("key"));
        succeed(
            tool("openssl", "openssl")
                .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=test"])
                .args(["-addext", "subjectAltName=IP:127.0.0.1"])
                .args(["-addext", "basicConstraints=critical,CA:FALSE"])
                .arg("-keyout")
                .arg(&key)
                .arg("-out")
                .arg(&certificate),
        );
        let (certificate, key) = (certificate.display(), key.display());
        let tls = format!("  tls:\n    certificate: {certificate}\n    key: {key}\n");
        let more = tls + &login(&directory);
        Self::start(directory, &more)
    }

    /// Its name: host and port.
    pub fn name(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Who may use it: a user and a password.
    pub fn credentials(&self) -> (&'static str, &'static str) {
        (USER, PASSWORD)
    }

    /// Its certificate, if it speaks TLS.
    pub fn certificate(&self) -> PathBuf {
        self.directory.path().join("ca.crt")
    }

    fn start(directory: TempDir, more: &str) -> Self {
        let port = free_port();
        let config = directory.path().join("config.yml");
        let storage = directory.path().join("storage");
        let storage = storage.display();
        let text = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {storage}\n\
             http:\n  addr: 127.0.0.1:{port}\n{more}"
        );
        fs_err::write(&config, text).expect("a file can be written");
        let mut command = tool("docker-registry", "docker-registry");
        command.arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().expect("the registry starts");
        let registry = Self { directory, port, process };
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "the registry does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        registry
    }

    /// The name under which `image` is found in it.
    pub fn reference(&self, image: &str) -> String {
        format!("127.0.0.1:{}/{image}", self.port)
    }

    /// Puts an image into it.
    pub fn push(&self, layout: &Layout, image: &str) {
        let destination = format!("docker://{}", self.reference(image));
        let mut command = tool("skopeo", "skopeo");
        command.args(["--insecure-policy", "copy", "-q", "--dest-tls-verify=false"]);
        command.arg(format!("--dest-creds={USER}:{PASSWORD}")).args([layout.for_skopeo(), destination]);
        succeed(&mut command);
    }

    /// A directory with a Docker configuration that has the login.
    pub fn docker_config(&self) -> PathBuf {
        let directory = self.directory.path().join("docker");
        fs_err::create_dir_all(&directory).expect("a directory can be made");
        let login = serde_json::json!({ "username": USER, "password": PASSWORD });
        let config = serde_json::json!({ "auths": { format!("127.0.0.1:{}", self.port): login } });
        fs_err::write(directory.join("config.json"), config.to_string()).expect("a file can be written");
        directory
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The part of a configuration that asks for a login.
fn login(directory: &TempDir) -> String {
    let users = directory.path().join("users");
    succeed(tool("htpasswd", "apache2-utils").args(["-Bbc"]).arg(&users).args([USER, PASSWORD]));
    format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", users.display())
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback interface has a free port");
    listener.local_addr().expect("a listener has an address").port()
}

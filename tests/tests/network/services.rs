//! Real servers in a guest, with the clients that people use; and a guest that uses a server here.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use microagent_tests::World;
use serde_json::Value;

/// Starts nginx with and without TLS, Redis, and sshd for a key.
const SERVE: &str = r#"
set -e
mkdir -p /srv/www /root/.ssh /run/sshd; echo welcome > /srv/www/index.html
chmod 700 /root/.ssh; echo "$KEY" > /root/.ssh/authorized_keys
echo "$PEM" > /srv/server.pem
cat > /srv/nginx.conf <<'END'
worker_rlimit_nofile 8192;
events { worker_connections 4096; }
http {
    access_log off; keepalive_requests 1000000; root /srv/www;
    server { listen 80 backlog=4096; }
    server { listen 443 ssl http2; ssl_certificate /srv/server.pem; ssl_certificate_key /srv/server.pem; }
}
END
sysctl -q net.core.somaxconn=4096 || echo 4096 > /proc/sys/net/core/somaxconn
/usr/sbin/sshd
redis-server --save '' --bind 0.0.0.0 --protected-mode no --daemonize yes >/dev/null
exec nginx -c /srv/nginx.conf -g 'daemon off;'
"#;

const GUEST_PORTS: [u16; 4] = [80, 443, 6379, 22];

/// What a program says, which is to succeed.
fn said(program: &str, package: &str, words: &[&str]) -> String {
    let output = Command::new("timeout").arg("120").arg(program).args(words).output().unwrap();
    let all = [output.stdout, output.stderr].concat();
    let all = String::from_utf8_lossy(&all).into_owned();
    assert!(output.status.success(), "{program} (of the package {package}) {words:?}: {all}");
    all
}

/// A certificate with its key, and the path of an SSH key.
fn keys(directory: &Path) -> (String, String) {
    let path = |name: &str| directory.join(name).display().to_string();
    let (pem, key) = (path("server.pem"), path("id"));
    let subject = ["-subj", "/CN=localhost", "-days", "9", "-addext", "subjectAltName=DNS:localhost"];
    let words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", &pem, "-out", &path("cert.pem")];
    said("openssl", "openssl", &[&words[..], &subject].concat());
    let certificate = std::fs::read_to_string(directory.join("cert.pem")).unwrap();
    let pem = std::fs::read_to_string(&pem).unwrap() + &certificate;
    said("ssh-keygen", "openssh-client", &["-q", "-t", "ed25519", "-N", "", "-f", &key]);
    (pem, key)
}

#[test]
fn servers_in_a_guest_are_used_with_the_clients_that_people_use() {
    let world = World::own().warm_machine().with_services();
    let (pem, key) = keys(world.path());
    let public = std::fs::read_to_string(format!("{key}.pub")).unwrap();
    let ports: Vec<String> = GUEST_PORTS.iter().map(|port| format!("127.0.0.1:0:{port}")).collect();
    let words = ports.iter().flat_map(|port| ["-p", port]).chain(["-e", "KEY", "-e", "PEM", "-m", "1g"]);
    let run = world.run(["-d", "--name", "servers"]).args(words).args(["services", "bash", "-c", SERVE]);
    run.env("KEY", public.trim()).env("PEM", &pem).outcome().success();
    let published = world.microagent(["--json", "port", "servers"]).outcome().success();
    let published: Value = serde_json::from_str(&published).unwrap();
    let port = |guest: u16| {
        let port = published.as_array().unwrap().iter().find(|port| port["guest_port"] == guest).unwrap();
        port["host_port"].to_string()
    };
    let (http, tls, redis, ssh) = (port(80), port(443), port(6379), port(22));
    let url = format!("http://127.0.0.1:{http}/");
    let deadline = Instant::now() + Duration::from_secs(90);
    while !Command::new("curl").args(["-sf", &url]).output().unwrap().status.success() {
        assert!(Instant::now() < deadline, "{}", world.microagent(["logs", "servers"]).outcome().success());
        std::thread::sleep(Duration::from_millis(300));
    }

    let twice = said("curl", "curl", &["-sv", &url, &url]);
    assert!(twice.matches("\nwelcome").count() + usize::from(twice.starts_with("welcome")) >= 1, "{twice}");
    assert!(twice.contains("Re-using existing connection"), "{twice}");

    let certificate = world.path().join("cert.pem").display().to_string();
    let secure = format!("https://localhost:{tls}/");
    let resolve = format!("localhost:{tls}:127.0.0.1");
    let words =
        ["-s", "--http2", "--cacert", &certificate, "--resolve", &resolve, "-w", "%{http_version}", &secure];
    assert_eq!(said("curl", "curl", &words), "welcome\n2");

    let options =
        ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"];
    let words =
        [&["-i", &key, "-p", &ssh][..], &options, &["root@127.0.0.1", "hostname; seq 100000 | tail -n 1"]];
    assert_eq!(said("ssh", "openssh-client", &words.concat()), "servers\n100000\n");

    let words = ["-h", "127.0.0.1", "-p", &redis, "-n", "2000", "-c", "50", "-q", "-t", "set,get"];
    let measured = said("redis-benchmark", "redis-tools", &words);
    assert!(measured.matches("requests per second").count() >= 2 && !measured.contains("rror"), "{measured}");

    let words = ["-t", "2", "-c", "2000", "-d", "15s", "--timeout", "60s", &url];
    let measured = said("wrk", "wrk", &words);
    assert!(!measured.contains("Socket errors") && !measured.contains("Non-2xx"), "{measured}");
    let requests = measured.lines().find_map(|line| line.trim().split_once(" requests in")).unwrap().0;
    assert!(requests.parse::<u64>().unwrap() >= 2000, "{measured}");
    world.microagent(["kill", "servers"]).outcome().success();
}

/// A repository with one package, in a directory that is served on the loopback interface.
const MIRROR: &str = r#"
set -e
mkdir -p build/DEBIAN build/usr/share/greeting
printf 'Package: greeting\nVersion: 1.0\nArchitecture: all\nMaintainer: a <a@example.com>\nDescription: x\n' > build/DEBIAN/control
head -c 3000000 /dev/urandom > build/usr/share/greeting/data
mkdir -p mirror; dpkg-deb --build -Zgzip build mirror/greeting.deb >/dev/null
cd mirror
{ cat ../build/DEBIAN/control
  echo "Filename: ./greeting.deb"; echo "Size: $(stat -c %s greeting.deb)"; echo "SHA256: $(sha256sum greeting.deb | cut -d' ' -f1)"; echo
} > Packages
"#;

#[test]
fn a_guest_installs_a_package_from_a_mirror_here() {
    let world = World::shared();
    let made = Command::new("sh").args(["-c", MIRROR]).current_dir(world.path()).status().unwrap();
    assert!(made.success());
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut server = Command::new("busybox")
        .args(["httpd", "-f", "-p", &format!("127.0.0.1:{free}"), "-h"])
        .arg(world.path().join("mirror"))
        .spawn()
        .unwrap();
    let script = format!(
        "echo 'deb [trusted=yes] http://host.microagent.internal:{free} ./' > /etc/apt/sources.list; \
         rm -f /etc/apt/sources.list.d/*; apt-get update -q >/dev/null && apt-get install -qy greeting >/dev/null 2>&1; \
         stat -c %s /usr/share/greeting/data"
    );
    // No more of this host than its mirror.
    let allow = format!("host.microagent.internal:{free}");
    let outcome = world
        .run(["--allow", &allow, "debian:12", "bash", "-c", &script])
        .deadline(Duration::from_secs(180))
        .outcome();
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(outcome.success(), "3000000\n");
}

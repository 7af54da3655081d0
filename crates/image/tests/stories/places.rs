//! Where registries are found and how: mirrors, certificates, proxies, and registries that nobody vouches for.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use microagent_image::{LogInError, Logins, PullError, Registries, RegistryError, Silent, log_in};
use tempfile::TempDir;

use crate::pull::{pull_in_a_process, pulled};
use crate::push::{pushed, sample_store};
use crate::registry::Registry;
use crate::sample::{TestStore, assert_is_sample, run, tool};
use crate::stub::{Answer, Parts, Request, Stub};

/// Certificates of an authority of our own, of a server at 127.0.0.1 and of a client.
pub(crate) struct Authority {
    directory: TempDir,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let authority = Self { directory: tempfile::tempdir().unwrap() };
        run(tool("openssl", "openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=authority"])
            .arg("-keyout")
            .arg(authority.path("ca.key"))
            .arg("-out")
            .arg(authority.path("ca.crt")));
        authority.issue("server", "subjectAltName=IP:127.0.0.1");
        authority.issue("client", "extendedKeyUsage=clientAuth");
        authority
    }

    fn issue(&self, name: &str, extension: &str) {
        let (key, request) = (self.path(&format!("{name}.key")), self.path(&format!("{name}.csr")));
        run(tool("openssl", "openssl")
            .args(["req", "-newkey", "rsa:2048", "-nodes", "-subj"])
            .arg(format!("/CN={name}"))
            .args(["-addext", extension, "-keyout"])
            .arg(key)
            .arg("-out")
            .arg(&request));
        run(tool("openssl", "openssl")
            .args(["x509", "-req", "-days", "1", "-CAcreateserial", "-copy_extensions", "copy", "-in"])
            .arg(request)
            .arg("-CA")
            .arg(self.path("ca.crt"))
            .arg("-CAkey")
            .arg(self.path("ca.key"))
            .arg("-out")
            .arg(self.path(&format!("{name}.cert"))));
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A configuration with these files for a registry.
    pub(crate) fn configuration(&self, registry: &str, files: &[&str]) -> TempDir {
        let directory = tempfile::tempdir().unwrap();
        let certificates = directory.path().join("certs.d").join(registry);
        std::fs::create_dir_all(&certificates).unwrap();
        for file in files {
            std::fs::copy(self.path(file), certificates.join(file)).unwrap();
        }
        directory
    }
}

fn in_directory(directory: &Path) -> Registries {
    Registries::in_directory(directory, Logins::none()).unwrap()
}

fn written(text: &str) -> Registries {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("registries.yaml"), text).unwrap();
    in_directory(directory.path())
}

#[test]
fn a_registry_of_an_authority_of_ones_own_is_trusted_and_knows_us_by_our_certificate() {
    let authority = Authority::new();
    let tls = format!("    clientcas: [{}]\n", authority.path("ca.crt").display());
    let registry = Registry::with_tls(&authority.path("server.cert"), &authority.path("server.key"), &tls);
    let (source, image) = sample_store();
    let name = format!("{}/small:1", registry.name());
    let both = authority.configuration(&registry.name(), &["ca.crt", "client.cert", "client.key"]);
    pushed(&source.store, &image, &name, &in_directory(both.path())).unwrap();
    assert_is_sample(&pulled(&TestStore::new().store, &name, &in_directory(both.path()), &Silent).unwrap());
    let unknown = authority.configuration(&registry.name(), &["ca.crt"]);
    let error = pulled(&TestStore::new().store, &name, &in_directory(unknown.path()), &Silent).unwrap_err();
    assert!(matches!(error, PullError::Registry(RegistryError::Unreachable { .. })), "{error}");
    let wrong = authority.configuration(&registry.name(), &["client.cert", "client.key"]);
    let error = pulled(&TestStore::new().store, &name, &in_directory(wrong.path()), &Silent).unwrap_err();
    assert!(error.hint().unwrap().contains("certs.d"), "{:?}", error.hint());
}

#[test]
fn a_local_registry_may_speak_tls_that_nobody_vouches_for() {
    let authority = Authority::new();
    let registry = Registry::with_tls(&authority.path("server.cert"), &authority.path("server.key"), "");
    let (source, image) = sample_store();
    let name = format!("{}/small:1", registry.name());
    let plain = Registries::plain(Logins::none());
    pushed(&source.store, &image, &name, &plain).unwrap();
    assert_is_sample(&pulled(&TestStore::new().store, &name, &plain, &Silent).unwrap());
}

#[test]
fn a_mirror_is_asked_first_and_the_registry_for_what_it_lacks() {
    let parts = Parts::new();
    let whole = parts.clone();
    let origin = Stub::new(move |request| whole.answer(request));
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&asked);
    let mirror = Stub::new(move |request| {
        seen.lock().unwrap().push(request.path.clone());
        parts.answer_with_layer(request, Answer::Ok(b"something else".to_vec()))
    });
    let registries =
        written(&format!("registries: {{'{}': {{mirrors: ['{}/copies']}}}}", origin.name(), mirror.name()));
    let target = TestStore::new();
    pulled(&target.store, &origin.image(), &registries, &Silent).unwrap();
    assert_eq!(origin.requests(), 1, "only for the layer");
    assert!(asked.lock().unwrap().iter().all(|path| path.starts_with("/v2/copies/stub/")));
    assert!(target.image(&origin.image()).is_some(), "it has the name that was asked for");
}

#[test]
fn a_mirror_that_is_gone_stops_nothing_and_gets_no_login() {
    let parts = Parts::new();
    let origin = Stub::new(move |request| match request.authorization.as_str() {
        "Basic bWU6c2VjcmV0" => parts.answer(request),
        _ => Answer::Challenge("Basic realm=x".to_owned()),
    });
    let leaked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&leaked);
    let mirror = Stub::new(move |request| {
        count.fetch_add(usize::from(!request.authorization.is_empty()), Ordering::SeqCst);
        Answer::Challenge("Basic realm=x".to_owned())
    });
    let directory = tempfile::tempdir().unwrap();
    let text = format!(r#"{{"auths":{{"{}":{{"auth":"bWU6c2VjcmV0"}}}}}}"#, origin.name());
    std::fs::write(directory.path().join("config.json"), text).unwrap();
    let yaml =
        format!("registries: {{'{}': {{mirrors: ['127.0.0.1:1', '{}']}}}}", origin.name(), mirror.name());
    std::fs::write(directory.path().join("registries.yaml"), yaml).unwrap();
    let logins = Logins::in_file(directory.path().join("config.json"));
    let registries = Registries::in_directory(directory.path(), logins).unwrap();
    pulled(&TestStore::new().store, &origin.image(), &registries, &Silent).unwrap();
    assert!(mirror.requests() > 0);
    assert_eq!(leaked.load(Ordering::SeqCst), 0);
}

#[test]
fn an_insecure_registry_is_reached_through_the_proxy_of_the_environment() {
    let parts = Parts::new();
    let proxy = Stub::new(move |request| {
        if request.method == "CONNECT" {
            // It speaks no TLS.
            return Answer::Status("502 Bad Gateway", "");
        }
        assert!(request.path.starts_with("http://registry.test:5000/v2/app/"), "{}", request.path);
        parts.answer(request)
    });
    let directory = tempfile::tempdir().unwrap();
    let text = "registries: {'registry.test:5000': {insecure: true}}";
    std::fs::write(directory.path().join("registries.yaml"), text).unwrap();
    let target = TestStore::new();
    for (variable, exits_well) in [("no_proxy_at_all", false), ("proxy", true)] {
        let mut command = pull_in_a_process(target.path(), "registry.test:5000/app:1");
        command.arg(directory.path());
        if variable == "proxy" {
            let address = format!("http://{}", proxy.name());
            command.env("HTTP_PROXY", &address).env("HTTPS_PROXY", &address);
        }
        let output = command.output().unwrap();
        assert_eq!(output.status.success(), exits_well, "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(target.image("registry.test:5000/app:1").is_some());
}

#[test]
fn only_what_is_named_by_its_digest_is_pulled_where_that_is_required() {
    let parts = Parts::new();
    let digest = microagent_image::Digest::of(&parts.manifest);
    let stub = Stub::new(move |request| parts.answer(request));
    let registries = written("require_digest: true");
    let error = pulled(&TestStore::new().store, &stub.image(), &registries, &Silent).unwrap_err();
    assert!(matches!(error, PullError::NoDigest { .. }) && error.hint().is_some(), "{error}");
    assert_eq!(stub.requests(), 0);
    pulled(&TestStore::new().store, &format!("{}@{digest}", stub.image()), &registries, &Silent).unwrap();
}

#[test]
fn a_login_is_kept_once_the_registry_has_taken_it() {
    let registry = Registry::with_login();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.json");
    let registries = Registries::plain(Logins::in_file(file.clone()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let name = registry.name().parse().unwrap();
    let log_in = |password| runtime.block_on(log_in(&registries, &name, "me", password));
    let error = log_in("wrong").unwrap_err();
    assert!(
        matches!(error, LogInError::Registry { source: RegistryError::Unauthorized { .. }, .. }),
        "{error}"
    );
    assert!(!file.exists());
    log_in("secret").unwrap();
    let (source, image) = sample_store();
    pushed(&source.store, &image, &format!("{}/small:1", registry.name()), &registries).unwrap();
}

#[test]
fn a_helper_keeps_logins_where_one_is_configured() {
    let directory = tempfile::tempdir().unwrap();
    let helper = directory.path().join("docker-credential-test");
    let kept = directory.path().join("kept");
    let script = format!(
        "#!/bin/sh\ncase $1 in\nstore) cat > {0} ;;\nget) [ -s {0} ] && cat {0} || {{ echo 'credentials not found in native keychain'; exit 1; }} ;;\nerase) : > {0} ;;\nlist) echo '{{\"a.io\":\"me\"}}' ;;\nesac\n",
        kept.display()
    );
    std::fs::write(&helper, script).unwrap();
    std::fs::set_permissions(&helper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::write(directory.path().join("config.json"), r#"{"credsStore":"test"}"#).unwrap();
    let tests = std::env::current_exe().unwrap();
    let example = tests.parent().and_then(Path::parent).unwrap().join("examples/logins");
    let path = format!("{}:{}", directory.path().display(), std::env::var("PATH").unwrap());
    let output = std::process::Command::new(example)
        .arg(directory.path().join("config.json"))
        .env("PATH", path)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        said, "none\nkept by test\nfound me\nlisted a.io me\nforgotten true\nforgotten false\n",
        "{:?}",
        output.stderr
    );
    let text = std::fs::read_to_string(directory.path().join("config.json")).unwrap();
    assert!(!text.contains("secret"), "{text}");
}

/// What a request asked of a stub was allowed to know.
#[test]
fn credentials_never_follow_a_redirect_to_another_host() {
    let parts = Parts::new();
    let whole = parts.clone();
    let leaked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&leaked);
    let elsewhere = Stub::new(move |request: &Request| {
        seen.lock().unwrap().push(request.authorization.clone());
        if request.authorization.is_empty() { Answer::Ok(whole.layer.clone()) } else { Answer::Nothing }
    });
    let location = format!("http://{}/elsewhere", elsewhere.name());
    let origin = Stub::new(move |request| match request.authorization.as_str() {
        "Basic bWU6c2VjcmV0" if parts.is_layer(request) => {
            Answer::Headers("307 Temporary Redirect", vec![("Location", location.clone())])
        }
        "Basic bWU6c2VjcmV0" => parts.answer(request),
        _ => Answer::Challenge("Basic realm=x".to_owned()),
    });
    let directory = tempfile::tempdir().unwrap();
    let auths =
        [origin.name(), elsewhere.name()].map(|name| format!(r#""{name}":{{"auth":"bWU6c2VjcmV0"}}"#));
    std::fs::write(directory.path().join("config.json"), format!(r#"{{"auths":{{{}}}}}"#, auths.join(",")))
        .unwrap();
    let registries = Registries::plain(Logins::in_file(directory.path().join("config.json")));
    pulled(&TestStore::new().store, &origin.image(), &registries, &Silent).unwrap();
    assert_eq!(*leaked.lock().unwrap(), [String::new()]);
}

//! Registries whose token server wants to know who pulls, and registries that speak TLS.

use std::sync::{Arc, Mutex};

use microagent_image::{Logins, PullError, Registries, Silent};
use tempfile::TempDir;

use crate::pull::{pull_in_a_process, pulled};
use crate::registry::Registry;
use crate::sample::{Sample, TestStore, assert_is_sample, run, skopeo_copy, tool};
use crate::stub::{Answer, Parts, Request, Stub};

/// A registry that is content with the token `good`, which `server` may give.
fn with_tokens(server: impl Fn(&Request) -> Option<&'static str> + Send + Sync + 'static) -> Stub {
    let parts = Parts::new();
    let own_name: Arc<Mutex<String>> = Arc::default();
    let name = Arc::clone(&own_name);
    let stub = Stub::new(move |request| {
        if request.path.starts_with("/token") {
            return match server(request) {
                Some(answer) => Answer::Ok(answer.as_bytes().to_vec()),
                None => Answer::Status("401 Unauthorized", "{}"),
            };
        }
        if request.authorization == "Bearer good" {
            return parts.answer(request);
        }
        let name = name.lock().unwrap();
        Answer::Challenge(format!(
            r#"Bearer realm="http://{name}/token",service="stub",scope="repository:stub:pull""#
        ))
    });
    *own_name.lock().unwrap() = stub.name();
    stub
}

fn docker_config(stub: &Stub, login: &str) -> (TempDir, Registries) {
    let directory = tempfile::tempdir().unwrap();
    let text = format!(r#"{{"auths":{{"{}":{login}}}}}"#, stub.name());
    std::fs::write(directory.path().join("config.json"), text).unwrap();
    let options = Registries::plain(Logins::in_file(directory.path().join("config.json")));
    (directory, options)
}

#[test]
fn a_public_image_takes_a_token_for_nothing() {
    let stub = with_tokens(|request| {
        assert_eq!(request.path, "/token?scope=repository%3Astub%3Apull&service=stub");
        request.authorization.is_empty().then_some(r#"{"token":"good"}"#)
    });
    pulled(&TestStore::new().store, &stub.image(), &Registries::plain(Logins::none()), &Silent).unwrap();
    assert_eq!(stub.requests(), 5);
}

#[test]
fn a_password_buys_a_token() {
    // "me:secret"
    let stub = with_tokens(|request| {
        (request.authorization == "Basic bWU6c2VjcmV0").then_some(r#"{"access_token":"good"}"#)
    });
    let (_directory, right) = docker_config(&stub, r#"{"auth":"bWU6c2VjcmV0"}"#);
    pulled(&TestStore::new().store, &stub.image(), &right, &Silent).unwrap();
    let (_directory, wrong) = docker_config(&stub, r#"{"username":"me","password":"wrong"}"#);
    let error = pulled(&TestStore::new().store, &stub.image(), &wrong, &Silent).unwrap_err();
    assert!(matches!(error, PullError::Unauthorized { login: true, .. }), "{error}");
}

#[test]
fn an_identity_token_buys_a_token() {
    let stub = with_tokens(|request| {
        let fields: Vec<&str> = request.body.split('&').collect();
        let right = request.method == "POST"
            && fields.contains(&"grant_type=refresh_token")
            && fields.contains(&"refresh_token=identity");
        right.then_some(r#"{"access_token":"good"}"#)
    });
    let (_directory, options) = docker_config(&stub, r#"{"identitytoken":"identity"}"#);
    pulled(&TestStore::new().store, &stub.image(), &options, &Silent).unwrap();
}

#[test]
fn a_token_that_does_not_help_is_no_access() {
    let stub = with_tokens(|_| Some(r#"{"token":"bad"}"#));
    let error = pulled(&TestStore::new().store, &stub.image(), &Registries::plain(Logins::none()), &Silent);
    assert!(matches!(error.unwrap_err(), PullError::Unauthorized { login: false, .. }));
}

#[test]
fn a_registry_with_a_certificate_of_the_hosts_authorities_is_trusted() {
    let directory = tempfile::tempdir().unwrap();
    let (certificate, key) = (directory.path().join("certificate"), directory.path().join("key"));
    run(tool("openssl", "openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=test"])
        .args(["-addext", "subjectAltName=IP:::ffff:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate));
    let registry = Registry::with_certificate(&certificate, &key);
    let sample = Sample::new();
    let name = format!("127.0.0.1:{}/small:1", registry.port());
    let source = format!("oci:{}:small", sample.layout().display());
    skopeo_copy(&source, &format!("docker://{name}"), &["--dest-tls-verify=false"]);
    // Loopback all the same, but written so that it does not count as local.
    let name = format!("[::ffff:127.0.0.1]:{}/small:1", registry.port());
    for (authorities, exits_well) in [(certificate.as_path(), true), ("/dev/null".as_ref(), false)] {
        let target = TestStore::new();
        let output = pull_in_a_process(target.path(), &name)
            .env("SSL_CERT_FILE", authorities)
            .env("SSL_CERT_DIR", "/dev/null")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.success(), exits_well, "{said}");
        assert!(exits_well || said.contains("Unreachable"), "{said}");
        if exits_well {
            assert_is_sample(&target.image(&name).unwrap());
        }
    }
}

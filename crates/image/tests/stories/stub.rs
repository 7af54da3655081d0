//! A registry of one image that misbehaves as it is told, for what real registries do not do on request.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use microagent_image::Digest;

use crate::sample::tar_of;

/// What to answer to a request for a path, from a byte on.
pub(crate) enum Answer {
    Ok(Vec<u8>),
    /// The rest of something, as was asked for.
    Rest(Vec<u8>),
    /// The first bytes of something of this length, and then the end of the connection.
    Broken(Vec<u8>, usize),
    /// The first bytes of something of this length, and then nothing.
    Stalled(Vec<u8>, usize),
    /// Bytes without an end.
    Endless,
    Status(&'static str, &'static str),
}

pub(crate) struct Stub {
    port: u16,
    requests: Arc<AtomicUsize>,
}

impl Stub {
    /// Answers requests for as long as the test process lives.
    pub(crate) fn new(answer: impl Fn(&str, usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stub = Self { port: listener.local_addr().unwrap().port(), requests: Arc::default() };
        let (requests, answer) = (Arc::clone(&stub.requests), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (requests, answer) = (Arc::clone(&requests), Arc::clone(&answer));
                std::thread::spawn(move || serve(&stream.unwrap(), &requests, &*answer));
            }
        });
        stub
    }

    pub(crate) fn image(&self) -> String {
        format!("127.0.0.1:{}/stub:1", self.port)
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

fn serve(stream: &TcpStream, requests: &AtomicUsize, answer: &(dyn Fn(&str, usize) -> Answer + Send + Sync)) {
    let mut lines = BufReader::new(stream).lines();
    let Some(Ok(request)) = lines.next() else { return };
    let path = request.split(' ').nth(1).unwrap().to_owned();
    let mut from = 0;
    for line in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {
        if let Some(range) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
            from = range.trim_end_matches('-').parse().unwrap();
        }
    }
    requests.fetch_add(1, Ordering::SeqCst);
    // The other side may hang up whenever it has seen enough.
    let _ = write(stream, answer(&path, from));
}

fn write(mut stream: &TcpStream, answer: Answer) -> std::io::Result<()> {
    let mut head = |status: &str, length: usize| {
        write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")
    };
    match answer {
        Answer::Ok(body) => head("200 OK", body.len()).and_then(|()| stream.write_all(&body)),
        Answer::Rest(body) => head("206 Partial Content", body.len()).and_then(|()| stream.write_all(&body)),
        Answer::Broken(body, length) => head("200 OK", length).and_then(|()| stream.write_all(&body)),
        Answer::Status(status, body) => {
            head(status, body.len()).and_then(|()| stream.write_all(body.as_bytes()))
        }
        Answer::Stalled(body, length) => {
            head("200 OK", length)?;
            stream.write_all(&body)?;
            std::thread::sleep(std::time::Duration::from_secs(120));
            Ok(())
        }
        Answer::Endless => {
            write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
            loop {
                stream.write_all(&[b' '; 65536])?;
            }
        }
    }
}

/// The parts of an honest image with one layer that is not compressed.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) manifest: Vec<u8>,
    pub(crate) config: Vec<u8>,
    pub(crate) layer: Vec<u8>,
}

impl Parts {
    pub(crate) fn new() -> Self {
        let layer = tar_of("file", &vec![b'x'; 1 << 20]);
        let diff_id = Digest::of(&layer);
        let rootfs = format!(r#"{{"type":"layers","diff_ids":["{diff_id}"]}}"#);
        let config = format!(r#"{{"os":"linux","architecture":"amd64","rootfs":{rootfs}}}"#).into_bytes();
        let descriptor = |media_type: &str, content: &[u8]| {
            let digest = Digest::of(content);
            format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{}}}"#, content.len())
        };
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#,
            descriptor("application/vnd.oci.image.config.v1+json", &config),
            descriptor("application/vnd.oci.image.layer.v1.tar", &layer),
        );
        Self { manifest: manifest.into_bytes(), config, layer }
    }

    pub(crate) fn is_layer(&self, path: &str) -> bool {
        path.ends_with(&Digest::of(&self.layer).hex())
    }

    /// What an honest registry answers.
    pub(crate) fn answer(&self, path: &str) -> Answer {
        if path.contains("/manifests/") {
            Answer::Ok(self.manifest.clone())
        } else if self.is_layer(path) {
            Answer::Ok(self.layer.clone())
        } else {
            Answer::Ok(self.config.clone())
        }
    }
}

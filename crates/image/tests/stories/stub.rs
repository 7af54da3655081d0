//! A registry of one image that misbehaves as it is told, for what real registries do not do on request.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use microagent_image::Digest;

use crate::sample::tar_of;

/// What is asked for.
#[derive(Debug, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    /// The first byte that is wanted.
    pub(crate) from: usize,
    pub(crate) authorization: String,
    pub(crate) body: String,
    pub(crate) body_length: usize,
}

/// What to answer.
pub(crate) enum Answer {
    Ok(Vec<u8>),
    /// The rest of something, as was asked for.
    Rest(Vec<u8>),
    /// The first bytes of something of this length, and then the end of the connection.
    Broken(Vec<u8>, usize),
    /// The first bytes of something of this length, and then nothing.
    Stalled(Vec<u8>, usize),
    /// A status, and bytes without an end.
    Endless(&'static str),
    Status(&'static str, &'static str),
    /// A status and headers, and no body.
    Headers(&'static str, Vec<(&'static str, String)>),
    /// The end of the connection, before a word was said.
    Nothing,
    /// A demand for a login, with this challenge.
    Challenge(String),
}

pub(crate) struct Stub {
    port: u16,
    requests: Arc<AtomicUsize>,
}

impl Stub {
    /// Answers requests for as long as the test process lives.
    pub(crate) fn new(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
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

    pub(crate) fn name(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn image(&self) -> String {
        format!("{}/stub:1", self.name())
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

fn serve(stream: &TcpStream, requests: &AtomicUsize, answer: &(dyn Fn(&Request) -> Answer + Send + Sync)) {
    let Some(request) = read(stream) else { return };
    requests.fetch_add(1, Ordering::SeqCst);
    // The other side may hang up whenever it has seen enough.
    let _ = write(stream, answer(&request));
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut input = BufReader::new(stream);
    let mut line = String::new();
    input.read_line(&mut line).ok()?;
    let mut words = line.split(' ').map(str::to_owned);
    let mut request = Request { method: words.next()?, path: words.next()?, ..Request::default() };
    let mut length = 0;
    loop {
        let mut line = String::new();
        input.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "range" => {
                request.from = first_number(value)?;
            }
            "authorization" => value.clone_into(&mut request.authorization),
            "content-length" => length = value.parse().ok()?,
            _ => {}
        }
    }
    let mut body = Vec::new();
    input.take(length).read_to_end(&mut body).ok()?;
    request.body_length = body.len();
    request.body = String::from_utf8_lossy(&body).into_owned();
    Some(request)
}

/// Of `bytes=300000-`.
fn first_number(range: &str) -> Option<usize> {
    range.trim_matches(|character: char| !character.is_ascii_digit()).parse().ok()
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
        Answer::Headers(status, headers) => {
            write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\n")?;
            headers.iter().try_for_each(|(name, value)| write!(stream, "{name}: {value}\r\n"))?;
            write!(stream, "\r\n")
        }
        Answer::Nothing => Ok(()),
        Answer::Challenge(challenge) => {
            write!(
                stream,
                "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: {challenge}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
        }
        Answer::Stalled(body, length) => {
            head("200 OK", length)?;
            stream.write_all(&body)?;
            std::thread::sleep(std::time::Duration::from_secs(120));
            Ok(())
        }
        Answer::Endless(status) => {
            write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\n\r\n")?;
            let spaces = vec![b' '; 65536];
            loop {
                stream.write_all(&spaces)?;
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

    pub(crate) fn is_layer(&self, request: &Request) -> bool {
        request.path.ends_with(&Digest::of(&self.layer).hex())
    }

    /// What an honest registry answers.
    pub(crate) fn answer(&self, request: &Request) -> Answer {
        if request.path.contains("/manifests/") {
            Answer::Ok(self.manifest.clone())
        } else if self.is_layer(request) {
            Answer::Ok(self.layer.clone())
        } else {
            Answer::Ok(self.config.clone())
        }
    }

    /// The same, but for the layer.
    pub(crate) fn answer_with_layer(&self, request: &Request, layer: Answer) -> Answer {
        if self.is_layer(request) { layer } else { self.answer(request) }
    }
}

//! Blobs read, hashed and decompressed, in buffers that come back to be filled again.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, SyncSender};

use flate2::bufread::MultiGzDecoder;
use sha2::{Digest, Sha256};

use super::{LayerBlob, LayerError};
use crate::chain::hex;

/// Bytes decompressed at a time: few enough to stay in a processor's cache until they are used.
const BUFFER: usize = 256 << 10;
/// The largest window of zstd, as a power of two; it bounds the memory that a blob can ask for.
const ZSTD_WINDOW_LOG: u32 = 27;

/// How the bytes of a layer are come by.
pub(crate) type Open<'o> = dyn Fn(&LayerBlob) -> Result<Box<dyn Read + Send>, LayerError> + Sync + 'o;

/// What the reading thread says.
#[derive(Debug)]
pub(crate) enum Message {
    /// The archive of a layer follows.
    Layer {
        /// SHA-256 of its blob.
        digest: [u8; 32],
        /// SHA-256 of the archive, as the image says.
        diff_id: [u8; 32],
    },
    /// Bytes of an archive.
    Data {
        bytes: Vec<u8>,
        /// Compressed bytes read so far, of all layers.
        consumed: u64,
    },
    /// The archive is complete and its blob is what it should be.
    End,
    /// The blob is not usable; nothing follows.
    Failed(LayerError),
    /// There are no more layers.
    Done,
}

/// Sends the archives of `layers` one after the other, until all are sent or nobody listens.
pub(crate) fn inflate(
    layers: impl Iterator<Item = LayerBlob>,
    open: &Open<'_>,
    messages: &SyncSender<Message>,
    spare: &Receiver<Vec<u8>>,
) {
    let mut consumed = 0;
    for layer in layers {
        let LayerBlob { digest, diff_id, .. } = layer;
        if messages.send(Message::Layer { digest, diff_id }).is_err() {
            return;
        }
        let last = match inflate_one(&layer, open, consumed, messages, spare) {
            Ok(Some(())) => Message::End,
            Ok(None) => return,
            Err(error) => Message::Failed(error),
        };
        consumed += layer.size;
        let has_failed = matches!(last, Message::Failed(_));
        if messages.send(last).is_err() || has_failed {
            return;
        }
    }
    // Nobody listens any more where something failed.
    let _ = messages.send(Message::Done);
}

/// Sends one archive; `None` if nobody listens any more.
fn inflate_one(
    layer: &LayerBlob,
    open: &Open<'_>,
    before: u64,
    messages: &SyncSender<Message>,
    spare: &Receiver<Vec<u8>>,
) -> Result<Option<()>, LayerError> {
    let mut decoder = Decoder::new(Blob::new(open(layer)?)).map_err(|source| layer.unreadable(source))?;
    loop {
        let mut bytes = spare.try_recv().unwrap_or_default();
        let is_last = fill(&mut decoder, &mut bytes).map_err(LayerError::Decompress)?;
        let consumed = before + decoder.blob().consumed;
        if messages.send(Message::Data { bytes, consumed }).is_err() {
            return Ok(None);
        }
        if is_last {
            break;
        }
    }
    decoder.into_blob().check(&layer.digest).map(Some)
}

/// Fills `bytes` to the size of a buffer; `true` at the end of the data.
fn fill(decoder: &mut Decoder, bytes: &mut Vec<u8>) -> io::Result<bool> {
    bytes.resize(BUFFER, 0);
    let mut filled = 0;
    while filled < BUFFER {
        match decoder.read(&mut bytes[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(filled < BUFFER)
}

/// A blob's file, hashed as it is read.
struct Blob {
    file: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    at: usize,
    consumed: u64,
    hash: Sha256,
}

impl Blob {
    fn new(file: Box<dyn Read + Send>) -> Self {
        Self { file, buffer: Vec::new(), at: 0, consumed: 0, hash: Sha256::new() }
    }

    fn check(mut self, digest: &[u8; 32]) -> Result<(), LayerError> {
        // Decoders stop at the end of the compressed data; the digest is of everything.
        while !self.fill_buf().map_err(LayerError::Decompress)?.is_empty() {
            self.at = self.buffer.len();
        }
        let found: [u8; 32] = self.hash.finalize().into();
        if found != *digest {
            return Err(LayerError::Digest { found: hex(&found) });
        }
        Ok(())
    }
}

impl BufRead for Blob {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.buffer.len() {
            self.buffer.resize(BUFFER, 0);
            let count = self.file.read(&mut self.buffer)?;
            self.buffer.truncate(count);
            self.hash.update(&self.buffer);
            self.consumed += count as u64;
            self.at = 0;
        }
        Ok(&self.buffer[self.at..])
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }
}

impl Read for Blob {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(out)?;
        self.consume(count);
        Ok(count)
    }
}

/// A blob with its compression, told by its first bytes.
enum Decoder {
    Plain(Blob),
    Gzip(Box<MultiGzDecoder<Blob>>),
    Zstd(zstd::Decoder<'static, Blob>),
}

impl Decoder {
    fn new(mut blob: Blob) -> io::Result<Self> {
        let start = blob.fill_buf()?;
        if start.starts_with(&[0x1f, 0x8b, 8]) {
            return Ok(Self::Gzip(Box::new(MultiGzDecoder::new(blob))));
        }
        if start.starts_with(&zstd::zstd_safe::MAGICNUMBER.to_le_bytes()) {
            let mut decoder = zstd::Decoder::with_buffer(blob)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            return Ok(Self::Zstd(decoder));
        }
        Ok(Self::Plain(blob))
    }

    fn blob(&self) -> &Blob {
        match self {
            Self::Plain(blob) => blob,
            Self::Gzip(decoder) => decoder.get_ref(),
            Self::Zstd(decoder) => decoder.get_ref(),
        }
    }

    fn into_blob(self) -> Blob {
        match self {
            Self::Plain(blob) => blob,
            Self::Gzip(decoder) => decoder.into_inner(),
            Self::Zstd(decoder) => decoder.finish(),
        }
    }
}

impl Read for Decoder {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(blob) => blob.read(out),
            Self::Gzip(decoder) => decoder.read(out),
            Self::Zstd(decoder) => decoder.read(out),
        }
    }
}

//! Messages to bytes, and bytes to messages, however the stream cuts them.

use serde::{Deserialize, Serialize};

use crate::{MAX_FRAME, Received};

const MAGIC: [u8; 4] = *b"\xffuAG";
const GREETING_LENGTH: usize = 8;
const LENGTH_PREFIX: usize = 4;

/// What the other side may not send.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A frame says that it is longer than any message, or empty.
    #[error("a frame of {0} bytes, where 1 to {max} are allowed", max = MAX_FRAME)]
    FrameLength(u32),
    /// A frame's bytes are not a message.
    #[error("a message that does not decode")]
    Message(#[from] postcard::Error),
    /// A frame came before the greeting.
    #[error("a message before the greeting")]
    NoGreeting,
}

/// One thing that arrived.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming<M> {
    /// The other side starts a session and speaks this version.
    Greeting(u32),
    /// A message of the session.
    Message(M),
}

/// The bytes that start a session.
pub fn encode_greeting() -> [u8; GREETING_LENGTH] {
    let mut bytes = [0; GREETING_LENGTH];
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[4..].copy_from_slice(&crate::VERSION.to_le_bytes());
    bytes
}

/// Appends the frame of `message` to `out`.
///
/// # Panics
///
/// If the message is longer than [`MAX_FRAME`]: senders bound what they put into one.
pub fn encode<M: Serialize>(message: &M, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH_PREFIX]);
    postcard::serialize_with_flavor(message, Append(out)).expect("messages are plain data and memory grows");
    let length = out.len() - start - LENGTH_PREFIX;
    assert!(length <= MAX_FRAME, "a message of {length} bytes");
    out[start..start + LENGTH_PREFIX].copy_from_slice(&(length as u32).to_le_bytes());
}

/// The bytes of a process that received files, for its standard output.
pub fn encode_received(received: &Received) -> Vec<u8> {
    let mut bytes = Vec::new();
    postcard::serialize_with_flavor(received, Append(&mut bytes)).expect("plain data, and memory grows");
    bytes
}

/// What [`encode_received`] gave.
pub fn decode_received(bytes: &[u8]) -> Result<Received, ProtocolError> {
    Ok(postcard::from_bytes(bytes)?)
}

struct Append<'a>(&'a mut Vec<u8>);

impl postcard::ser_flavors::Flavor for Append<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// Collects received bytes and gives out what they say.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    start: usize,
    greeted: bool,
}

impl Decoder {
    /// Takes in received bytes. At most one unfinished frame stays buffered after [`Decoder::next`] ran dry.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next thing that is complete; `None` if more bytes are needed. An error ends the session.
    pub fn next<'a, M: Deserialize<'a>>(&'a mut self) -> Result<Option<Incoming<M>>, ProtocolError> {
        let pending = &self.buffer[self.start..];
        let Some(prefix) = pending.first_chunk::<LENGTH_PREFIX>() else { return Ok(None) };
        if *prefix == MAGIC {
            let Some(greeting) = pending.first_chunk::<GREETING_LENGTH>() else { return Ok(None) };
            let version = u32::from_le_bytes([greeting[4], greeting[5], greeting[6], greeting[7]]);
            self.start += GREETING_LENGTH;
            self.greeted = true;
            return Ok(Some(Incoming::Greeting(version)));
        }
        if !self.greeted {
            return Err(ProtocolError::NoGreeting);
        }
        let length = u32::from_le_bytes(*prefix);
        if length == 0 || length as usize > MAX_FRAME {
            return Err(ProtocolError::FrameLength(length));
        }
        let end = LENGTH_PREFIX + length as usize;
        if pending.len() < end {
            return Ok(None);
        }
        let body = self.start + LENGTH_PREFIX..self.start + end;
        self.start = body.end;
        Ok(Some(Incoming::Message(postcard::from_bytes(&self.buffer[body])?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{OutputStream, ProcessId, ToGuest, ToHost};
    use proptest::prelude::*;

    fn greeting() -> String {
        format!("Greeting({})", crate::VERSION)
    }

    fn decode_all(bytes: &[u8], cut: usize) -> Vec<String> {
        let mut decoder = Decoder::default();
        let mut seen = Vec::new();
        for chunk in bytes.chunks(cut.max(1)) {
            decoder.push(chunk);
            while let Some(incoming) = decoder.next::<ToHost<'_>>().unwrap() {
                seen.push(format!("{incoming:?}"));
            }
        }
        seen
    }

    proptest! {
        #[test]
        fn messages_survive_any_cut_of_the_stream(data: Vec<u8>, process: u32, cut in 1usize..50) {
            let message = ToHost::Output { process: ProcessId(process), stream: OutputStream::Stderr, data: &data };
            let mut bytes = encode_greeting().to_vec();
            encode(&message, &mut bytes);
            encode(&message, &mut bytes);
            let expected = format!("{:?}", Incoming::Message(message));
            let seen = decode_all(&bytes, cut);
            prop_assert_eq!(seen.len(), 3);
            prop_assert_eq!(&seen[0], &greeting());
            prop_assert_eq!(&seen[1], &expected);
            prop_assert_eq!(&seen[2], &expected);
        }

        #[test]
        fn any_bytes_decode_or_are_an_error(bytes: Vec<u8>, greet: bool) {
            let mut decoder = Decoder::default();
            if greet {
                decoder.push(&encode_greeting());
                decoder.next::<ToGuest<'_>>().unwrap();
            }
            decoder.push(&bytes);
            while let Ok(Some(_)) = decoder.next::<ToGuest<'_>>() {}
        }
    }

    #[test]
    fn a_frame_longer_than_any_message_is_refused_before_it_arrives() {
        let mut decoder = Decoder::default();
        decoder.push(&encode_greeting());
        decoder.next::<ToHost<'_>>().unwrap();
        decoder.push(&(MAX_FRAME as u32 + 1).to_le_bytes());
        assert_eq!(decoder.next::<ToHost<'_>>(), Err(ProtocolError::FrameLength(MAX_FRAME as u32 + 1)));
    }

    #[test]
    fn a_message_before_the_greeting_is_refused() {
        let mut decoder = Decoder::default();
        decoder.push(&[1, 0, 0, 0, 0]);
        assert_eq!(decoder.next::<ToHost<'_>>(), Err(ProtocolError::NoGreeting));
    }

    #[test]
    fn a_later_greeting_starts_over() {
        let mut bytes = encode_greeting().to_vec();
        bytes.extend(encode_greeting());
        assert_eq!(decode_all(&bytes, 3), [greeting(), greeting()]);
    }
}

//! Bytes taken for one side's half of a session.

use proto::{Decoder, Incoming, ToGuest, ToHost, encode};

/// The two message types borrow from the decoder, so one function cannot be generic over both.
macro_rules! each_message {
    ($bytes:expr, $cut:expr, $message:ident) => {{
        let mut decoder = Decoder::default();
        'stream: for chunk in $bytes.chunks($cut) {
            decoder.push(chunk);
            loop {
                match decoder.next::<$message<'_>>() {
                    Ok(Some(Incoming::Message(message))) => {
                        let mut again = proto::encode_greeting().to_vec();
                        encode(&message, &mut again);
                        let mut second = Decoder::default();
                        second.push(&again);
                        second.next::<$message<'_>>().expect("the greeting is ours");
                        let decoded = second.next::<$message<'_>>().expect("what was decoded decodes again");
                        assert_eq!(decoded, Some(Incoming::Message(message)));
                    }
                    Ok(Some(Incoming::Greeting(_))) => {}
                    Ok(None) => break,
                    Err(_) => break 'stream,
                }
            }
        }
    }};
}

/// Decodes `bytes` as each side does, cut where the first byte says.
///
/// # Panics
///
/// If a message that was decoded does not encode to one that decodes the same: that is the failure that is
/// looked for.
pub fn read_session(bytes: &[u8]) {
    let Some((cut, bytes)) = bytes.split_first() else { return };
    let cut = usize::from(*cut).max(1);
    each_message!(bytes, cut, ToHost);
    each_message!(bytes, cut, ToGuest);
}

//! What processes of ours tell each other, taken apart and not acted upon: what a fuzzer looks at.

use crate::control::{Answered, Asked, Reply, Request, line, parse};
use crate::event::Event;
use crate::machine::KeeperSays;

/// Takes `bytes` for a request to a supervisor, its reply, a keeper's word, and an event; how many of them they are.
///
/// # Panics
///
/// If a request or a reply that was understood is not, once it is said again.
pub fn inspect(bytes: &[u8]) -> usize {
    let asked = parse::<Asked<Request>>(bytes).ok();
    if let Some(asked) = &asked {
        let again: Asked<Request> = parse(&line(asked)).expect("a request can be asked again");
        assert_eq!(again.request, asked.request);
    }
    let answered = parse::<Answered<Reply>>(bytes).ok();
    if let Some(answered) = &answered {
        parse::<Answered<Reply>>(&line(answered)).expect("a reply can be given again");
    }
    let keeper = serde_json::from_slice::<KeeperSays>(bytes).is_ok();
    let event = serde_json::from_slice::<Event>(bytes).is_ok_and(|event| !event.kind.words().is_empty());
    [asked.is_some(), answered.is_some(), keeper, event].into_iter().filter(|is_one| *is_one).count()
}

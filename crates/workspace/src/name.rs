//! Names for workspaces that were given none.

use home::Name;

const ADJECTIVES: [&str; 32] = [
    "amber", "bold", "brave", "bright", "calm", "clever", "cosmic", "crisp", "eager", "fancy", "gentle",
    "golden", "happy", "honest", "jolly", "keen", "kind", "lively", "lucky", "mellow", "noble", "polite",
    "proud", "quick", "quiet", "rapid", "shiny", "silent", "sunny", "swift", "tidy", "witty",
];
const ANIMALS: [&str; 32] = [
    "badger", "bear", "beaver", "bison", "crane", "deer", "dolphin", "eagle", "falcon", "ferret", "finch",
    "fox", "gecko", "hare", "heron", "ibex", "koala", "lemur", "lynx", "marten", "moose", "newt", "otter",
    "owl", "panda", "puffin", "raven", "seal", "stork", "tapir", "turtle", "wombat",
];

/// An `adjective-animal` name, with a number: there are more workspaces than animals.
pub fn random_name() -> Name {
    let random = random_bytes::<4>();
    let adjective = ADJECTIVES[usize::from(random[0]) % ADJECTIVES.len()];
    let animal = ANIMALS[usize::from(random[1]) % ANIMALS.len()];
    let number = u16::from_le_bytes([random[2], random[3]]) % 1000;
    format!("{adjective}-{animal}-{number}").parse().expect("the words follow the rule")
}

/// Bytes from the kernel's generator.
pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        let got = rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty());
        filled += got.expect("the kernel gives random bytes");
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_makes_a_valid_name() {
        for word in ADJECTIVES.iter().chain(&ANIMALS) {
            assert!(word.parse::<Name>().is_ok(), "{word}");
        }
        assert_ne!(random_name(), random_name());
    }
}

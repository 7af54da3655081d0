//! Every input in the corpus is survived, and so are some hundred variations of each, the same ones in each call of the
//! test; `MICROAGENT_VARIATIONS` asks for more.

use std::path::Path;

/// How many variations of each input are tried.
const VARIATIONS: u64 = 100;

fn replay(target: &str, run: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let inputs: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!inputs.is_empty());
    let wanted = std::env::var("MICROAGENT_VARIATIONS").ok();
    let variations = wanted.map_or(VARIATIONS, |wanted| wanted.parse().expect("it is a number"));
    for input in inputs {
        let bytes = std::fs::read(&input).unwrap();
        run(&bytes);
        for number in 0..variations {
            let varied = varied(&bytes, number);
            let outcome = std::panic::catch_unwind(|| run(&varied));
            assert!(outcome.is_ok(), "{}, variation {number}: {varied:02x?}", input.display());
        }
    }
}

/// `bytes` with a few places changed, doubled, left out or cut off, as `number` says.
fn varied(bytes: &[u8], number: u64) -> Vec<u8> {
    let mut varied = bytes.to_vec();
    let mut state = number;
    let mut below = |bound: usize| {
        // Splitmix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) as usize % bound.max(1)
    };
    for _ in 0..=below(4) {
        let at = below(varied.len());
        let length = below(16).min(varied.len() - at);
        match below(8) {
            0 => varied.truncate(at),
            1 => drop(varied.drain(at..at + length)),
            2 => {
                let piece = varied[at..at + length].to_vec();
                let to = below(varied.len());
                varied.splice(to..to, piece);
            }
            3 => varied[at..at + length].fill([0, 0xff, b'0', b'7', b'/', b'"'][below(6)]),
            _ if length > 0 => varied[at] = [below(256) as u8, varied[at] ^ (1 << below(8)), b'9'][below(3)],
            _ => {}
        }
    }
    varied
}

#[test]
fn layers_are_survived() {
    replay("layer", microagent_fuzz::convert_layer);
}

#[test]
fn images_are_survived() {
    replay("erofs_reader", microagent_fuzz::read_image);
}

#[test]
fn sessions_are_survived() {
    replay("protocol", microagent_fuzz::read_session);
}

#[test]
fn trees_are_survived() {
    replay("transfer", microagent_fuzz::receive_tree);
}

#[test]
fn frames_are_survived() {
    replay("network", microagent_fuzz::take_frames);
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/network/all");
    assert_eq!(network::inspect(&std::fs::read(all).unwrap()), 5, "each of its frames is a good one");
}

#[test]
fn agents_are_survived() {
    replay("agent", microagent_fuzz::speak_with_guest);
}

#[test]
fn archives_of_images_are_survived() {
    replay("archive", microagent_fuzz::load_archive);
}

#[test]
fn bundles_are_survived() {
    replay("bundle", microagent_fuzz::convert_bundle);
}

#[test]
fn configurations_are_survived() {
    replay("configuration", microagent_fuzz::read_configuration);
}

#[test]
fn lines_between_processes_are_survived() {
    replay("control", microagent_fuzz::read_line);
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/control");
    for name in ["ask-stop", "ask-quarantine", "reply-failed", "keeper", "event"] {
        let line = std::fs::read(directory.join(name)).unwrap();
        assert_eq!(workspace::inspect(&line), 1, "`{name}` is a good one");
    }
}

#[test]
fn documents_of_images_are_survived() {
    replay("documents", microagent_fuzz::read_documents);
}

#[test]
fn kernel_packages_are_survived() {
    replay("kernel_package", microagent_fuzz::install_kernel);
}

#[test]
fn monitors_are_survived() {
    replay("monitor", microagent_fuzz::hear_monitor);
}

#[test]
fn records_are_survived() {
    replay("records", microagent_fuzz::read_records);
}

#[test]
fn settings_are_survived() {
    replay("settings", microagent_fuzz::read_settings);
    let spec = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/settings/spec");
    let spec = std::fs::read_to_string(spec).unwrap();
    serde_yaml_ng::from_str::<workspace::WorkspaceSpec>(&spec).expect("what `status --spec` shows is taken");
}

#[test]
fn words_are_survived() {
    replay("words", microagent_fuzz::read_words);
}

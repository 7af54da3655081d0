//! Every input in the corpus is survived.

use std::path::Path;

fn replay(target: &str, run: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let inputs: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!inputs.is_empty());
    for input in inputs {
        run(&std::fs::read(input).unwrap());
    }
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

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

//! What shells offer.

use microagent_tests::World;

/// What bash offers for the last of `words`.
fn offered(world: &World, words: &[&str]) -> Vec<String> {
    let script = r#"
        source <(microagent completion bash)
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
        _clap_complete_microagent microagent "${!#}"
        printf '%s\n' "${COMPREPLY[@]}""#;
    let directory = world.program().parent().unwrap().display().to_string();
    let output = std::process::Command::new("bash")
        .args(["-c", script, "bash", "microagent"])
        .args(words)
        .env("PATH", format!("{directory}:{}", std::env::var("PATH").unwrap()))
        .env("MICROAGENT_HOME", world.home())
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(|word| word.trim().to_owned()).collect()
}

#[test]
fn commands_workspaces_and_images_are_offered() {
    let world = World::own();
    for name in ["web", "worker", "db"] {
        world.microagent(["create", "--name", name, "--image", "busybox", "true"]).outcome().success();
    }
    assert_eq!(offered(&world, &["quar"]), ["quarantine"]);
    for verb in ["start", "halt", "stop", "kill", "exec", "logs", "status", "delete", "connect", "events"] {
        assert_eq!(offered(&world, &[verb, "w"]), ["web", "worker"], "{verb}");
    }
    for verb in ["run", "push", "save", "tag", "rmi", "images"] {
        assert_eq!(offered(&world, &[verb, "busy"]), ["busybox:latest"], "{verb}");
    }
    assert!(offered(&world, &["stop", "--time"]).iter().any(|flag| flag.starts_with("--timeout")));
}

#[test]
fn there_is_a_script_for_each_shell() {
    let world = World::fresh();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = world.microagent(["completion", shell]).outcome().success();
        assert!(script.contains("MICROAGENT_COMPLETE"), "{shell}");
    }
}

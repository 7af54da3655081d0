//! The console blocks of the guide, run for real: a block's output is what the commands print.

use std::path::Path;
use std::time::{Duration, Instant};

use microagent_tests::World;

/// The commands and their outputs in the console blocks of a page.
fn blocks(page: &str) -> Vec<Vec<(String, String)>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guide").join(page);
    let text = std::fs::read_to_string(&path).unwrap();
    let mut blocks = Vec::new();
    for block in text.split("```console\n").skip(1) {
        let block = block.split("```").next().unwrap();
        let mut steps: Vec<(String, String)> = Vec::new();
        for line in block.lines() {
            match (line.strip_prefix("$ "), steps.last_mut()) {
                (Some(command), _) => steps.push((command.to_owned(), String::new())),
                (None, Some((_, output))) => output.extend([line, "\n"]),
                (None, None) => panic!("{page}: a block begins with output: {line}"),
            }
        }
        blocks.push(steps);
    }
    blocks
}

/// Runs the blocks in one home, one after the other. A command without output in the guide may print any.
fn holds(world: &World, page: &str, wanted: impl Fn(&str) -> bool) {
    let directory = world.program().parent().unwrap().display().to_string();
    let path = format!("{directory}:{}", std::env::var("PATH").unwrap());
    let mut run = 0;
    for (command, output) in blocks(page).into_iter().flatten().filter(|(command, _)| wanted(command)) {
        let said_now = || {
            let call = world.microagent([""; 0]).through(&["sh", "-c", &format!("exec 2>&1; {command}")]);
            let outcome = call.env("PATH", &path).deadline(Duration::from_secs(180)).outcome();
            (String::from_utf8_lossy(&outcome.stdout).into_owned(), outcome.code())
        };
        let (mut said, mut code) = said_now();
        // What a service says takes a moment to arrive.
        let until = Instant::now() + Duration::from_secs(20);
        while command.contains("logs") && said != output && Instant::now() < until {
            (said, code) = said_now();
        }
        assert!(
            output.is_empty() || said == output,
            "{page}: $ {command}\nexpected:\n{output}\nsaid:\n{said}"
        );
        let may_fail = output.contains("hint") || command.contains("; exit") || command.ends_with("doctor");
        assert!(may_fail || code == 0, "{page}: $ {command}\n{said}");
        run += 1;
    }
    assert!(run > 0, "{page} has no commands");
}

#[test]
fn coming_from_docker_is_answered_as_the_guide_shows() {
    holds(&World::own(), "coming-from-docker.md", |_| true);
}

#[test]
fn agents_code_runs_as_the_guide_shows() {
    holds(&World::own().warm_machine(), "agents.md", |_| true);
}

#[test]
fn running_commands_works_as_the_guide_shows() {
    // Templates have keys and times of their own, and the memory of the guest is its kernel's to say.
    let is_fixed = |command: &str| {
        !command.contains("template") && !command.contains("free") && !command.starts_with("ls ")
    };
    holds(&World::own(), "running.md", is_fixed);
}

#[test]
fn the_network_is_as_the_guide_shows() {
    holds(&World::own().warm_machine(), "networking.md", |_| true);
}

#[test]
fn logs_work_as_the_guide_shows() {
    let is_fixed = |command: &str| !command.contains("--json");
    holds(&World::own(), "logs-and-events.md", is_fixed);
}

#[test]
fn a_workspace_lives_as_the_guide_shows() {
    // The copies further down are of files that only their reader has.
    holds(&World::own().warm_machine(), "workspaces.md", |command| command.contains(" box"));
}

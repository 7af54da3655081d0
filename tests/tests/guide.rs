//! The console blocks of the guide, run for real: a block's output is what the commands print.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use microagent_tests::{Registry, World, succeed, tool};
use serde_json::Value;

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
    Guide::new(world, page).holds(wanted);
}

/// A page, and what stands for what a reader has and a test has not.
pub(crate) struct Guide<'a> {
    world: &'a World,
    page: &'a str,
    /// Words of the page, and what is meant here.
    meant: Vec<(String, String)>,
}

impl<'a> Guide<'a> {
    pub(crate) fn new(world: &'a World, page: &'a str) -> Self {
        Self { world, page, meant: Vec::new() }
    }

    /// Where the page says `word`, `meant` is meant here.
    pub(crate) fn meaning(mut self, word: &str, meant: impl Into<String>) -> Self {
        self.meant.push((word.to_owned(), meant.into()));
        self
    }

    /// A program that a reader has: a script for a shell plays it.
    fn played(self, program: &str, script: &str) -> Self {
        let path = self.stand_ins().join(program);
        std::fs::create_dir_all(self.stand_ins()).unwrap();
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        self
    }

    fn stand_ins(&self) -> PathBuf {
        self.world.path().join("stand-ins")
    }

    pub(crate) fn here(&self, text: &str) -> String {
        self.meant.iter().fold(text.to_owned(), |text, (word, meant)| text.replace(word, meant))
    }

    fn holds(self, wanted: impl Fn(&str) -> bool) {
        let page = self.page;
        let mut run = 0;
        for (typed, printed) in blocks(page).into_iter().flatten().filter(|(command, _)| wanted(command)) {
            let (command, output) = (self.here(&typed), self.here(&printed));
            let (mut said, mut code) = self.says(&command);
            // What a service says takes a moment to arrive.
            let until = Instant::now() + Duration::from_secs(20);
            while command.contains("logs") && said != output && Instant::now() < until {
                (said, code) = self.says(&command);
            }
            // Columns are as wide as what is in them.
            let is_same = said == output || (printed != output && words(&said) == words(&output));
            assert!(output.is_empty() || is_same, "{page}: $ {command}\nexpected:\n{output}\nsaid:\n{said}");
            let may_fail =
                output.contains("hint") || command.contains("; exit") || command.ends_with("doctor");
            assert!(may_fail || code == 0, "{page}: $ {command}\n{said}");
            run += 1;
        }
        assert!(run > 0, "{page} has no commands");
    }

    pub(crate) fn says(&self, command: &str) -> (String, i32) {
        let program = self.world.program().parent().unwrap().display();
        let path = std::env::var("PATH").unwrap();
        let path = format!("{}:{program}:{path}", self.stand_ins().display());
        let shell = ["sh", "-c", &format!("exec 2>&1; {command}")];
        let call = self.world.microagent([""; 0]).through(&shell).env("PATH", path);
        let outcome = call.deadline(Duration::from_secs(180)).outcome();
        (String::from_utf8_lossy(&outcome.stdout).into_owned(), outcome.code())
    }
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
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

/// The words of the page that name a kernel mean the one that is here.
pub(crate) fn release(world: &World) -> String {
    let kernels = world.microagent(["kernel", "list", "--json"]).outcome().success();
    let kernels: Value = serde_json::from_str(&kernels).unwrap();
    kernels[0]["release"].as_str().unwrap().to_owned()
}

/// An archive of the image busybox in the test's directory.
fn saved(world: &World, path: &str) {
    world.microagent(["save", "-o", path, "busybox"]).outcome().success();
}

#[test]
fn the_first_steps_are_as_the_guide_shows() {
    let world = World::own();
    saved(&world, "my-layout.tar");
    let from = format!("docker-archive:{}", world.path().join("my-layout.tar").display());
    let to = format!("oci:{}:latest", world.path().join("my-layout").display());
    succeed(tool("skopeo", "skopeo").args(["--insecure-policy", "copy", "-q", &from, &to]));
    // What the system's packages and the build make of the host is for others to test; `kernel install` asks apt
    // and is tested with an ordinary user, who has more to lose by it.
    let is_ours = |command: &str| {
        !command.starts_with("sudo") && !command.starts_with("make") && !command.contains("kernel ")
    };
    let release = release(&world);
    Guide::new(&world, "first-steps.md").meaning("6.1.0-56-cloud-amd64", release).holds(is_ours);
}

#[test]
fn images_are_handled_as_the_guide_shows() {
    let world = World::own();
    saved(&world, "archive.tar");
    world.microagent(["save", "--format", "oci-dir", "-o", "oci-layout", "busybox"]).outcome().success();
    succeed(
        tool("tar", "tar").arg("-cf").arg(world.path().join("tree.tar")).args(["-C", "/etc", "hostname"]),
    );
    let place = world.path().join("user/.local/share");
    std::fs::create_dir_all(&place).unwrap();
    std::os::unix::fs::symlink(world.home(), place.join("microagent")).unwrap();
    // A question about what goes waits for a person; the digest and the size of the image are those of another host.
    let is_fixed =
        |command: &str| !command.ends_with("image prune") && !command.starts_with("microagent images");
    Guide::new(&world, "images.md")
        .played("docker", "cat archive.tar")
        .played("podman", "cat archive.tar")
        .played("mmdebstrap", "cat tree.tar")
        .played("ssh", "cat >/dev/null")
        .holds(is_fixed);
}

#[test]
fn registries_are_used_as_the_guide_shows() {
    let world = World::own();
    let registry = Registry::with_login();
    let (_, password) = registry.credentials();
    world.microagent(["tag", "busybox", "app:1"]).outcome().success();
    let user = world.path().join("user").display().to_string();
    // The first login asks a person, the logout would end what follows, and Docker Hub is not on the loopback interface.
    let is_here = |command: &str| {
        command != "microagent registry login registry.example.com"
            && !command.contains("logout")
            && !command.contains("pull --all-platforms")
            && !command.contains("--require-digest")
    };
    let guide = || {
        Guide::new(&world, "registries.md")
            .meaning("registry.example.com", registry.name())
            .meaning("/home/me", &user)
            .played("pass", &format!("echo '{password}'"))
    };
    guide().holds(is_here);
    guide().holds(|command| command.contains("logout"));
}

#[test]
fn a_job_runs_as_the_guide_shows() {
    let world = World::own();
    let tree = world.path().join("tree");
    std::fs::create_dir_all(tree.join("bin")).unwrap();
    std::fs::copy("/bin/busybox", tree.join("bin/busybox")).unwrap();
    std::os::unix::fs::symlink("busybox", tree.join("bin/sh")).unwrap();
    let make = tree.join("bin/make");
    std::fs::write(&make, "#!/bin/sh\n/bin/busybox mkdir -p /work && echo report > /work/report.xml\n")
        .unwrap();
    std::fs::set_permissions(&make, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    succeed(tool("tar", "tar").arg("-cf").arg(world.path().join("tree.tar")).arg("-C").arg(&tree).arg("."));
    world.microagent(["import", "-c", "ENV PATH=/bin", "tree.tar", "mine:1"]).outcome().success();
    world.microagent(["save", "-o", "image.tar", "mine:1"]).outcome().success();
    world.microagent(["rmi", "mine:1"]).outcome().success();
    Guide::new(&world, "ci.md").holds(|command| !command.contains("kernel install"));
    assert_eq!(std::fs::read_to_string(world.path().join("report")).unwrap(), "report\n");
}

#[test]
fn disks_are_used_as_the_guide_shows() {
    // A question about what goes waits for a person.
    holds(&World::own(), "storage.md", |command| {
        !command.contains("volume prune") && !command.contains("volume delete")
    });
}

/// Each page with console blocks is run by a test of this file.
#[test]
fn no_page_is_left_out() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tests = std::fs::read_to_string(here.join("tests/guide.rs")).unwrap();
    for entry in std::fs::read_dir(here.join("../docs/guide")).unwrap() {
        let page = entry.unwrap().file_name().into_string().unwrap();
        let is_run = tests.contains(&format!("\"{page}\""));
        assert!(is_run || blocks(&page).is_empty(), "no test runs the console blocks of {page}");
    }
}

#[test]
fn trouble_is_told_as_the_guide_shows() {
    let world = World::own();
    let guide = Guide::new(&world, "troubleshooting.md");
    // What a processor can is its own; that it is told is what counts.
    let [(command, output)] = &blocks("troubleshooting.md").concat()[..] else {
        panic!("there is one command")
    };
    let (said, code) = guide.says(command);
    assert_eq!(code, 0, "{said}");
    assert!(output.contains("using ") && said.contains("using "), "{said}");
}

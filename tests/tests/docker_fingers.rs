//! What Docker users type from memory: it works, or its answer leads to what does.

use microagent_tests::{Outcome, World};
use serde_json::Value;

/// What a user types behind `docker`, as words.
fn typed(world: &World, line: &str) -> Outcome {
    world.microagent(words(line)).outcome()
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

/// A shell that finds the program.
fn shell(world: &World, script: &str) -> Outcome {
    let directory = world.program().parent().unwrap().display().to_string();
    let path = format!("{directory}:{}", std::env::var("PATH").unwrap());
    world.microagent([""; 0]).through(&["sh", "-c", script]).env("PATH", path).outcome()
}

/// The command that an answer advises.
fn advised(error: &str) -> String {
    let hint =
        error.lines().find_map(|line| line.strip_prefix("hint: ")).unwrap_or_else(|| panic!("{error}"));
    let starts = ["leave it out: ", "instead: "];
    let advice = starts.iter().find_map(|start| hint.strip_prefix(start)).unwrap_or_else(|| panic!("{hint}"));
    // What follows is more advice; a line for the guest's shell is in quotes.
    let mut quoted = false;
    let end = advice.char_indices().find(|(_, letter)| {
        quoted ^= *letter == '\'';
        *letter == ';' && !quoted
    });
    advice[..end.map_or(advice.len(), |(end, _)| end)].to_owned()
}

/// The command is refused with `code` and makes nothing; what is advised instead succeeds.
fn leads_to_what_works(world: &World, line: &str, code: i32) -> String {
    let before = world.listing();
    let error = typed(world, line).error(code);
    assert_eq!(world.new_since(&before), Vec::<std::path::PathBuf>::new(), "{line}");
    let advice = advised(&error);
    let outcome = shell(world, &advice);
    assert_eq!(
        outcome.code(),
        0,
        "`{line}` leads to `{advice}`: {}",
        String::from_utf8_lossy(&outcome.stderr)
    );
    String::from_utf8_lossy(&outcome.stdout).into_owned()
}

#[test]
fn runs_work_as_they_do_in_docker() {
    let world = World::shared();
    for (line, output) in [
        ("run busybox echo hello", "hello\n"),
        ("run --rm busybox echo hello", "hello\n"),
        ("run --rm --name once busybox echo named", "named\n"),
        ("run -e NAME=value busybox env", "NAME=value\n"),
        ("run --env NAME=value busybox env", "NAME=value\n"),
        ("run -w /tmp busybox pwd", "/tmp\n"),
        ("run --workdir=/tmp busybox pwd", "/tmp\n"),
        ("run -u app busybox whoami", "app\n"),
        ("run --user 1000:1000 busybox id -u", "1000\n"),
        ("run -h box busybox hostname", "box\n"),
        ("run --entrypoint echo busybox through", "through\n"),
        ("run --cpus 2 -m 256m busybox nproc", "2\n"),
        ("run --init --label a=b --stop-signal INT busybox echo flags", "flags\n"),
        ("run --read-only --tmpfs /scratch busybox touch /scratch/file", ""),
        ("run --pull never --stop-timeout 5 busybox true", ""),
    ] {
        let said = typed(&world, line).success();
        assert!(said.contains(output), "{line}: {said}");
    }
    assert_eq!(world.run(["-i", "busybox", "cat"]).bytes("input").outcome().success(), "input");
}

#[test]
fn flags_of_the_host_lead_to_runs_without_them() {
    let world = World::shared();
    for line in [
        "run --privileged busybox true",
        "run --rm --cap-add SYS_ADMIN --cap-drop=ALL busybox true",
        "run --device /dev/fuse --gpus all busybox true",
        "run --pid host --ipc=host --uts host busybox true",
        "run --security-opt seccomp=unconfined --userns host busybox true",
        "run --network host busybox true",
        "run --network none busybox true",
        "run --net=bridge busybox true",
        "run --ulimit nofile=64:64 --sysctl net.ipv4.ip_forward=1 busybox true",
        "run --shm-size 1g --cpuset-cpus 0 --memory-swap 2g busybox true",
        "run --log-driver none --cgroup-parent /x --runtime runc busybox true",
        "run --mount type=tmpfs,dst=/scratch busybox touch /scratch/file",
    ] {
        leads_to_what_works(&world, line, 125);
    }
    let forwarding = "run --sysctl net.ipv4.ip_forward=1 busybox cat /proc/sys/net/ipv4/ip_forward";
    assert_eq!(leads_to_what_works(&world, forwarding, 125), "1\n");
}

#[test]
fn the_life_of_a_workspace_is_typed_as_a_containers() {
    let world = World::own().warm_machine();
    assert_eq!(typed(&world, "run -d --name web busybox sleep 1000").success(), "web\n");
    for (line, found) in [
        ("ps", "web"),
        ("ps -a", "web"),
        ("ps -q", "web"),
        ("ps --filter name=web", "web"),
        ("exec web cat /etc/hostname", "web"),
        ("exec -u app web whoami", "app"),
        ("exec -e A=b web env", "A=b\n"),
        ("logs --tail 5 web", ""),
        ("inspect web", "web"),
        ("stats --no-stream", "web"),
        ("events --since 1h --until 0s", "web"),
        ("pause web", "web"),
        ("unpause web", "web"),
        ("stop -t 5 web", "web"),
        ("wait web", "143"),
        ("start web", "web"),
        ("restart web", "web"),
        ("rename web www", "www"),
        ("kill www", "www"),
        ("rm -f www", "www"),
    ] {
        let outcome = typed(&world, line);
        let output = outcome.success();
        assert!(output.contains(found), "{line}: {output}");
    }
}

#[test]
fn commands_by_other_names_lead_to_ours() {
    let world = World::own().warm_machine();
    typed(&world, "run -d --name web busybox sleep 1000").success();
    for (line, found) in [
        ("container ls", "web"),
        ("container ls -a", "web"),
        ("container exec web hostname", "web"),
        ("top web", "sleep"),
        ("system df", "images"),
        ("system events", "web"),
        ("system prune -f", "freed"),
        ("info", "acceleration"),
        ("ps --format {{.Names}}", "\"web\""),
        ("images --no-trunc", "busybox"),
        ("context ls", ""),
        ("start -a web", ""),
        ("rm -v -f web", "web"),
    ] {
        if line == "context ls" {
            assert!(typed(&world, line).error(2).contains("--home"), "it has no directory to fill in");
            continue;
        }
        if line == "start -a web" {
            assert!(
                typed(&world, line).error(2).contains("microagent logs -f web"),
                "it would follow for ever"
            );
            continue;
        }
        let output = leads_to_what_works(&world, line, 2);
        assert!(output.contains(found), "{line}: {output}");
    }
    leads_to_what_works(&world, "create --name other busybox true", 2);
}

#[test]
fn what_is_done_elsewhere_is_told_with_the_users_words() {
    let world = World::fresh();
    for (line, words) in [
        ("build -t app:1 .", "docker build -t app:1 . && docker save app:1 | microagent load"),
        ("buildx build -t app:1 .", "docker save app:1"),
        ("compose up -d", "microagent run -d --name NAME IMAGE"),
        ("attach web", "microagent connect web"),
        ("export -o web.tar web", "microagent cp web:/ - >web.tar"),
        ("diff web", "microagent exec web"),
        ("update --memory 2g web", "microagent status --spec web"),
        ("swarm init", "microagent ps"),
        ("network connect backend web", "create --network backend"),
        (
            "run -v /srv/site:/site:ro nginx",
            "tar -C /srv/site -cf /tmp/site.tar . && microagent run -v /tmp/site.tar:/site:ro nginx",
        ),
        (
            "run --mount type=bind,src=/srv/site,dst=/site nginx",
            "microagent run -v /tmp/site.tar:/site nginx",
        ),
        ("run --frobnicate nginx", "microagent help docker"),
        ("frobnicate", "microagent --help"),
    ] {
        let code = if line.starts_with("run") { 125 } else { 2 };
        let error = typed(&world, line).error(code);
        assert!(error.contains(words), "{line}: {error}");
        let json: Vec<_> = std::iter::once("--json".to_owned()).chain(self::words(line)).collect();
        let error = world.microagent(json).outcome().error(code);
        let document: Value = serde_json::from_str(&error).unwrap();
        assert!(document["error"]["hint"].is_string(), "{error}");
        assert!(["unsupported", "usage"].map(Value::from).contains(&document["error"]["kind"]), "{error}");
    }
    assert!(!world.home().exists(), "nothing is made");
    let mapping = typed(&world, "help docker").success();
    assert!(mapping.contains("--privileged") && mapping.contains("docker build"), "{mapping}");
}

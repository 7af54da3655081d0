//! What a home has around it on the host: processes, files, sockets, ports.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use microagent_tests::{World, processes_of, wait_until};

use super::history::History;

/// 127.77.0.1, where the workspaces of a soak publish, as `/proc/net/tcp` writes it.
const PUBLISHED: &str = "01004D7F:";

/// Machines that are made in the background end by themselves.
const PATIENCE: Duration = Duration::from_secs(120);

/// All that is there.
pub(super) struct Leftovers {
    files: BTreeSet<PathBuf>,
}

impl Leftovers {
    /// What is there once there was a workspace and a volume: their history, and the directories they were in.
    pub(super) fn before(world: &World) -> Self {
        live_and_die(world);
        world.microagent(["volume", "create", "next"]).outcome().success();
        world.microagent(["volume", "delete", "--yes", "next"]).outcome().success();
        Self::of(world)
    }

    fn of(world: &World) -> Self {
        // Templates are a cache that is allowed to grow; what makes them works in `tmp/`.
        let templates = world.home().join("templates");
        let kept = |path: &PathBuf| !path.starts_with(&templates) && !path.ends_with("tmp");
        Self { files: world.listing().into_iter().filter(kept).collect() }
    }

    /// Fails if more is there now.
    pub(super) fn must_be_all(&self, world: &World, history: &History) {
        wait_until(PATIENCE, || processes_of(world.home()));
        // Whoever works there next removes what those left who were killed.
        live_and_die(world);
        wait_until(PATIENCE, || processes_of(world.home()));
        let now = Self::of(world).files;
        // The copies out of workspaces are the clients' own.
        let ours = |path: &&PathBuf| {
            !path.strip_prefix(world.path()).is_ok_and(|path| path.to_string_lossy().starts_with("out-"))
        };
        let more: Vec<_> = now.difference(&self.files).filter(ours).collect();
        assert!(more.is_empty(), "{history}\nleft: {more:?}");
        let home = world.home().to_string_lossy().into_owned();
        let sockets = lines("/proc/net/unix", &home);
        assert!(sockets.is_empty(), "{history}\nleft: {sockets:?}");
        let ports = lines("/proc/net/tcp", PUBLISHED);
        assert!(ports.is_empty(), "{history}\nleft: {ports:?}");
    }
}

fn live_and_die(world: &World) {
    world.microagent(["create", "--name", "next", "--image", "busybox", "true"]).outcome().success();
    world.microagent(["delete", "--yes", "next"]).outcome().success();
}

fn lines(path: &str, wanted: &str) -> Vec<String> {
    let text = fs_err::read_to_string(path).expect("the kernel tells");
    text.lines().filter(|line| line.contains(wanted)).map(str::to_owned).collect()
}

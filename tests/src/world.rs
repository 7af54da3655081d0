//! What a test sees: a state directory, a directory of its own, and the program under test.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::invocation::Invocation;
use crate::layout::Layout;
use crate::shared_home::places;
use crate::systems;

/// What is smaller is copied into a home of its own, what is larger is linked: records change, images do not.
const COPIED: u64 = 64 * 1024;

const TEMPLATES: &str = "MICROAGENT_TEMPLATES";

/// A test's view.
#[derive(Debug)]
pub struct World {
    program: PathBuf,
    home: PathBuf,
    templates: Option<OsString>,
    // Fields go in this order: what still runs ends before its directory is gone.
    _leftovers: Leftovers,
    directory: TempDir,
}

/// The workspaces of a test that failed have supervisors, which would go on.
#[derive(Debug)]
struct Leftovers {
    program: PathBuf,
    home: PathBuf,
}

impl Drop for Leftovers {
    fn drop(&mut self) {
        let Ok(entries) = std::fs::read_dir(self.home.join("workspaces")) else { return };
        let names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
        if !names.is_empty() {
            // What is in quarantine takes no other order. None of this is asked to succeed: a test may leave damage.
            let call = || Invocation::new(&self.program, &self.home);
            call().args(["kill"]).args(&names).outcome();
            for name in &names {
                call()
                    .args(["quarantine", "--release", "--reason", "the test is over"])
                    .args([name])
                    .outcome();
            }
            call().args(["delete", "--force"]).args(&names).outcome();
        }
    }
}

impl World {
    /// The same without templates: each run starts from power-on, and none makes a template when it has ended.
    #[must_use]
    pub fn cold(self) -> Self {
        Self { templates: Some("off".into()), ..self }
    }

    /// With the home that all tests share.
    pub fn shared() -> Self {
        Self { home: places().home.clone(), ..Self::fresh() }
    }

    /// With a home that has a kernel and images and is this test's alone. There are no templates.
    pub fn own() -> Self {
        let world = Self::fresh().cold();
        replicate(&places().home, &world.home);
        let templates = world.home.join("templates");
        fs_err::remove_dir_all(&templates).expect("a home has templates");
        fs_err::create_dir(&templates).expect("a directory can be made");
        world
    }

    /// The same with a template for the busybox image, unless the environment wants none.
    #[must_use]
    pub fn warm(self) -> Self {
        self.with_template(&["busybox"])
    }

    /// The same with a template for workspaces, unless the environment wants none.
    #[must_use]
    pub fn warm_machine(self) -> Self {
        self.with_template(&[])
    }

    fn with_template(self, of: &[&str]) -> Self {
        let world = Self { templates: std::env::var_os(TEMPLATES), ..self };
        if world.templates.is_none() {
            let warm = |home: &Path| {
                let call =
                    Invocation::new(&world.program, home).args(["--json", "template", "warm"]).args(of);
                let answer: serde_json::Value =
                    serde_json::from_str(&call.outcome().success()).expect("the answer is JSON");
                answer["key"].as_str().expect("a template has a key").to_owned()
            };
            // A template is where its key says, and the same in any home.
            let key = warm(&places().home);
            let [from, to] = [&places().home, &world.home].map(|home| home.join("templates").join(&key));
            if !to.exists() {
                replicate(&from, &to);
            }
            assert_eq!(warm(&world.home), key);
        }
        world
    }

    /// With a home that does not exist yet.
    pub fn fresh() -> Self {
        let directory = tempfile::tempdir_in(&places().work).expect("a directory can be made");
        let home = directory.path().join("home");
        fs_err::create_dir(directory.path().join("user")).expect("a directory can be made");
        Self::new(directory, places().program.clone(), home)
    }

    /// With a home that does not exist yet, for the user with this number, who can reach nothing else.
    pub fn of_user(uid: u32) -> Self {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let program = directory.path().join("microagent");
        fs_err::copy(&places().program, &program).expect("the program can be copied");
        let user = directory.path().join("user");
        fs_err::create_dir(&user).expect("a directory can be made");
        for path in [directory.path(), &user] {
            std::os::unix::fs::chown(path, Some(uid), Some(uid)).expect("root may give files away");
        }
        Self::new(directory, program, user.join("home"))
    }

    fn new(directory: TempDir, program: PathBuf, home: PathBuf) -> Self {
        let leftovers = Leftovers { program: program.clone(), home: home.clone() };
        Self { program, home, templates: std::env::var_os(TEMPLATES), _leftovers: leftovers, directory }
    }

    /// A call of `microagent`.
    pub fn microagent(&self, words: impl IntoIterator<Item = impl AsRef<std::ffi::OsStr>>) -> Invocation {
        let invocation = Invocation::new(&self.program, &self.home).args(words).directory(self.path());
        let invocation = invocation.env("HOME", self.path().join("user")).env("TMPDIR", self.path());
        match &self.templates {
            Some(templates) => invocation.env(TEMPLATES, templates),
            None => invocation,
        }
    }

    /// A call of `microagent run`.
    pub fn run(&self, words: impl IntoIterator<Item = impl AsRef<std::ffi::OsStr>>) -> Invocation {
        self.microagent(["run"]).args(words)
    }

    /// A call that runs a shell script in the busybox image.
    pub fn script(&self, script: &str) -> Invocation {
        self.run(["busybox", "sh", "-c", script])
    }

    /// The busybox image as an archive without a name, for `load --name`.
    pub fn busybox_archive(&self) -> File {
        let config = serde_json::json!({ "Cmd": ["sh"] });
        let layout = Layout::write(&self.path().join("busybox"), &systems::busybox(), &config);
        let path = self.path().join("busybox.tar");
        let mut tar = tar::Builder::new(File::create(&path).expect("a file can be made"));
        tar.append_dir_all(".", layout.path()).expect("a directory can be archived");
        tar.finish().expect("an archive can be written");
        File::open(path).expect("the file was just made")
    }

    /// The same with an image `services`, which has nginx, Redis and sshd.
    #[must_use]
    pub fn with_services(self) -> Self {
        let config = serde_json::json!({ "Cmd": ["bash"] });
        let services = crate::services::services(&places().cache);
        let layout = Layout::write(&self.path().join("services"), &services, &config);
        let input = layout.path().to_string_lossy().into_owned();
        self.microagent(["load", "--input", &input, "--name", "services"]).outcome().success();
        self
    }

    /// The program under test.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The state directory.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The test's own directory.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Everything in the test's own directory: paths below it, sorted.
    pub fn listing(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        list(self.path(), &mut found);
        found.sort();
        found
    }

    /// What is in the test's own directory and was not when it was listed.
    pub fn new_since(&self, listing: &[PathBuf]) -> Vec<PathBuf> {
        self.listing().into_iter().filter(|path| listing.binary_search(path).is_err()).collect()
    }
}

/// The package of a kernel for guests.
pub fn kernel_package() -> PathBuf {
    systems::kernel_package(&places().cache)
}

fn list(directory: &Path, found: &mut Vec<PathBuf>) {
    // A file may go while we look.
    let Ok(entries) = fs_err::read_dir(directory) else { return };
    for entry in entries.flatten() {
        found.push(entry.path());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            list(&entry.path(), found);
        }
    }
}

fn replicate(from: &Path, to: &Path) {
    fs_err::create_dir(to).expect("a directory can be made");
    let permissions = fs_err::metadata(from).expect("it is there").permissions();
    fs_err::set_permissions(to, permissions).expect("its mode can be set");
    for entry in fs_err::read_dir(from).expect("a home can be read") {
        let path = entry.expect("a home can be read").path();
        let target = to.join(path.file_name().expect("an entry has a name"));
        let metadata = fs_err::symlink_metadata(&path).expect("it is there");
        if metadata.is_dir() {
            replicate(&path, &target);
        } else if metadata.is_symlink() {
            let link = fs_err::read_link(&path).expect("a link can be read");
            std::os::unix::fs::symlink(link, &target).expect("a link can be made");
        } else if metadata.size() > COPIED {
            fs_err::hard_link(&path, &target).expect("a file can be linked");
        } else {
            fs_err::copy(&path, &target).expect("a file can be copied");
        }
    }
}

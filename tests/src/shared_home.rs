//! The state directory that tests share: a kernel and images, used once, so that no test pays for the first use.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use home::{Exclusive, Shared};
use serde_json::json;

use crate::invocation::Invocation;
use crate::layout::Layout;
use crate::systems;

/// What the names of `bin/microagent` and this harness's directory hang from.
pub(crate) struct Places {
    pub(crate) program: PathBuf,
    pub(crate) home: PathBuf,
    pub(crate) cache: PathBuf,
    pub(crate) work: PathBuf,
    /// Says to other test programs that the home is in use.
    _in_use: Shared,
}

/// The places, with the shared home ready.
pub(crate) fn places() -> &'static Places {
    static PLACES: OnceLock<Places> = OnceLock::new();
    PLACES.get_or_init(prepare)
}

fn prepare() -> Places {
    static TRIED: AtomicBool = AtomicBool::new(false);
    assert!(
        !TRIED.swap(true, Ordering::SeqCst),
        "the shared home could not be made; the first failure says why"
    );
    let profile = profile_directory();
    let program = program(&profile);
    let root = profile.parent().expect("a profile has a target directory").join("e2e");
    let (cache, work) = (root.join("cache"), root.join("work"));
    for directory in [&cache, &work] {
        fs_err::create_dir_all(directory).expect("a directory can be made");
    }
    let home = root.join(format!("home-{:016x}", key(&program)));
    let lock = home.with_extension("lock");
    let in_use = loop {
        let making = Exclusive::wait(&lock).expect("a lock can be taken");
        if !ready(&home).exists() {
            make(&program, &home, &root, &cache);
        }
        drop(making);
        let in_use = Shared::wait(&lock).expect("a lock can be taken");
        if ready(&home).exists() {
            break in_use;
        }
    };
    Places { program, home, cache, work, _in_use: in_use }
}

/// A file that is there when the home is whole.
fn ready(home: &Path) -> PathBuf {
    home.with_extension("ready")
}

/// Where cargo puts this profile's programs; tests run from its `deps`.
fn profile_directory() -> PathBuf {
    let test = std::env::current_exe().expect("a process knows its program");
    test.ancestors().nth(2).expect("tests run from <target>/<profile>/deps").to_owned()
}

fn program(profile: &Path) -> PathBuf {
    let program =
        std::env::var_os("MICROAGENT_BIN").map_or_else(|| profile.join("microagent"), PathBuf::from);
    assert!(
        program.is_file(),
        "there is no `{}`; build it: cargo build -p microagent-cli (or name one in MICROAGENT_BIN)",
        program.display()
    );
    program
}

/// Stands for everything that the home is made from.
fn key(program: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    for source in [include_str!("shared_home.rs"), include_str!("systems.rs"), include_str!("layout.rs")] {
        source.hash(&mut hasher);
    }
    let metadata = fs_err::metadata(program).expect("the program is there");
    (metadata.size(), metadata.mtime(), metadata.mtime_nsec()).hash(&mut hasher);
    hasher.finish()
}

fn make(program: &Path, place: &Path, root: &Path, cache: &Path) {
    remove_unused(root);
    // A maker that was killed leaves one behind.
    let _ = fs_err::remove_dir_all(place);
    let microagent = |words: &[&str]| Invocation::new(program, place).args(words).outcome().success();
    let package = systems::kernel_package(cache);
    microagent(&["kernel", "install", "--deb", &package.to_string_lossy()]);
    let layouts = tempfile::tempdir().expect("a directory can be made");
    let busybox = systems::busybox();
    let debian = systems::debian(cache);
    let configured = json!({
        "Env": ["PATH=/bin", "ORIGIN=image", "GREETING=hello from the image"],
        "User": "app", "WorkingDir": "/srv/work", "Entrypoint": ["/bin/echo", "entry"], "Cmd": ["command"],
        "StopSignal": "SIGQUIT",
    });
    let images = [
        ("busybox", &busybox, json!({ "Cmd": ["sh"] })),
        ("configured", &busybox, configured),
        ("debian:12", &debian, json!({ "Cmd": ["bash"] })),
    ];
    for (name, layer, config) in images {
        let layout = Layout::write(&layouts.path().join(name), layer, &config);
        microagent(&["load", "--input", &layout.path().to_string_lossy(), "--name", name]);
        microagent(&["template", "warm", name]);
    }
    microagent(&["template", "warm"]);
    fs_err::write(ready(place), "").expect("a file can be made");
}

/// Removes homes of earlier builds that no test uses.
fn remove_unused(root: &Path) {
    let entries = fs_err::read_dir(root).expect("the directory can be read").flatten();
    let homes = entries.map(|entry| entry.path()).filter(|path| path.to_string_lossy().contains("/home-"));
    for home in homes.filter(|path| path.is_dir()) {
        if let Ok(Some(lock)) = Exclusive::try_now(&home.with_extension("lock")) {
            // A home that was never whole has no such file.
            let _ = fs_err::remove_file(ready(&home));
            fs_err::remove_dir_all(&home).expect("an unused home can be removed");
            lock.delete().expect("its lock can be removed");
        }
    }
}

//! What a template depends on: whatever differs has a template of its own, and shows in the machine.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use microagent_tests::{Invocation, World};

use super::{last_uses, restores, warm_world, with_templates};

/// Makes the template of another setting, and runs `script` in a copy of it.
fn has_its_own(
    world: &World,
    change: impl Fn(Invocation) -> Invocation,
    words: &[&str],
    script: &str,
) -> String {
    let call = change(world.microagent(["template", "warm", "--json"]).args(words));
    let warmed: serde_json::Value = serde_json::from_str(&with_templates(call).outcome().success()).unwrap();
    assert_eq!(warmed["made"], true, "{words:?}");
    let mut shown = String::new();
    restores(world, warmed["key"].as_str().unwrap(), || {
        let call = change(world.microagent(["run"]).args(words).args(["sh", "-c", script]));
        shown = with_templates(call).outcome().success();
    });
    shown.trim().to_owned()
}

#[test]
fn each_setting_of_the_machine_has_its_own_template() {
    let (world, _) = warm_world();
    let shown = |words: &[&str], script: &str| has_its_own(&world, |call| call, words, script);
    let number = |words: &[&str], script: &str| shown(words, script).parse::<u64>().unwrap();
    let memory = number(&["-m", "384m", "busybox"], "free -m | awk '/Mem:/ { print $2 }'");
    assert!((300..=384).contains(&memory), "{memory}");
    assert_eq!(number(&["--cpus", "2", "busybox"], "nproc"), 2);
    assert_eq!(number(&["--network", "isolated", "busybox"], "ls /sys/class/net | grep -c -v lo || true"), 0);
    let disk = number(&["--disk-size", "512m", "busybox"], "df -m / | awk 'END { print $2 }'");
    assert!((400..=512).contains(&disk), "{disk}");
    let version = shown(&["debian:12"], "cat /etc/debian_version");
    assert!(version.starts_with("12."), "{version}");
    assert_eq!(last_uses(&world).len(), 6);
}

#[test]
fn images_with_the_same_layers_share_one() {
    let (world, key) = warm_world();
    restores(&world, &key, || {
        let call = with_templates(world.run(["--entrypoint", "", "configured", "id", "-un"]));
        assert_eq!(call.outcome().success(), "app\n");
    });
}

#[test]
fn another_kernel_has_its_own_template() {
    let (world, _) = warm_world();
    let kernels = world.home().join("kernels");
    let installed = entries(&kernels).into_iter().find(|path| path.is_dir()).unwrap();
    let image = world.path().join("vmlinuz");
    let mut content = std::fs::read(installed.join("vmlinuz")).unwrap();
    content.push(0);
    std::fs::write(&image, content).unwrap();
    let modules = world.path().join(installed.file_name().unwrap());
    symlink(installed.join("modules"), &modules).unwrap();
    let install = world.microagent(["kernel", "install", "--vmlinuz"]).args([&image]);
    install.args(["--modules"]).args([&modules]).outcome().success();
    has_its_own(&world, |call| call, &["busybox"], "true");
}

#[test]
fn another_qemu_has_its_own_template() {
    let (world, _) = warm_world();
    let programs = world.path().join("usr/bin");
    std::fs::create_dir_all(&programs).unwrap();
    // A QEMU looks for its firmware beside itself.
    for place in ["share", "lib"] {
        symlink(Path::new("/usr").join(place), world.path().join("usr").join(place)).unwrap();
    }
    let qemu = programs.join("qemu-system-x86_64");
    std::fs::copy("/usr/bin/qemu-system-x86_64", &qemu).unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    has_its_own(&world, |call| call.env("PATH", &path), &["busybox"], "true");
    let mut replaced = std::fs::read(&qemu).unwrap();
    replaced.push(0);
    std::fs::write(&qemu, replaced).unwrap();
    has_its_own(&world, |call| call.env("PATH", &path), &["busybox"], "true");
    assert_eq!(last_uses(&world).len(), 3);
}

#[test]
fn another_init_has_its_own_template() {
    let (world, _) = warm_world();
    let program = with_another_init(&world);
    let change = |call: Invocation| {
        // The program under test is the first argument of what it is started through.
        call.through(&["sh", "-c", "shift; exec \"$0\" \"$@\"", program.to_str().unwrap()])
    };
    has_its_own(&world, change, &["busybox"], "true");
}

/// The program under test as another release would be: its init has another digest.
fn with_another_init(world: &World) -> PathBuf {
    let initramfs = entries(&world.home().join("boot"))
        .into_iter()
        .find(|path| path.extension() == Some("cpio".as_ref()));
    let initramfs = initramfs.unwrap().file_stem().unwrap().to_str().unwrap().to_owned();
    let digest = initramfs.rsplit('-').next().unwrap().as_bytes();
    let path = world.path().join("another-release");
    let mut program = std::fs::read(world.program()).unwrap();
    let found = program.windows(digest.len()).position(|window| window == digest);
    let first = &mut program[found.unwrap()];
    *first = if *first == b'0' { b'1' } else { b'0' };
    std::fs::write(&path, program).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    path
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect()
}

//! What is handed out: a tarball that installs itself without a network, and a Debian package.

use std::path::{Path, PathBuf};
use std::process::Command;

use microagent_tests::{World, kernel_package, succeed, tool};
use serde_json::Value;

/// The tarball and the package, made of the program under test.
fn made(world: &World) -> (PathBuf, PathBuf) {
    let output = world.path().join("package");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/package");
    tool("objdump", "binutils");
    let mut command = Command::new(script);
    // Packing a debug build tightly takes long, and is of no use.
    let made = succeed(command.arg(world.program()).arg(&output).env("DEB_COMPRESSION", "none"));
    let made = String::from_utf8(made).unwrap();
    let mut lines = made.lines().map(PathBuf::from);
    (lines.next().unwrap(), lines.next().unwrap())
}

#[test]
fn an_offline_directory_installs_itself_with_kernel_and_images() {
    let world = World::fresh();
    let (tarball, deb) = made(&world);
    let at = world.path().display().to_string();
    succeed(tool("tar", "tar").args(["-C", &at, "-xzf", tarball.to_str().unwrap()]));
    let name = tarball.file_name().unwrap().to_str().unwrap().trim_end_matches(".tar.gz");
    let directory = world.path().join(name);
    let kernel = kernel_package();
    std::fs::create_dir(directory.join("kernel")).unwrap();
    std::fs::copy(&kernel, directory.join("kernel").join(kernel.file_name().unwrap())).unwrap();
    std::fs::create_dir(directory.join("images")).unwrap();
    world.busybox_archive();
    std::fs::copy(world.path().join("busybox.tar"), directory.join("images/busybox.tar")).unwrap();
    let prefix = world.path().join("prefix");
    let installer = directory.join("install.sh");
    let line = ["sh", installer.to_str().unwrap(), prefix.to_str().unwrap()];
    let shown = world.microagent([""; 0]).through(&line).outcome().success();
    assert!(shown.contains("cloud-amd64") && shown.contains("✓ kernel"), "{shown}");
    let images = world.microagent(["images"]).outcome().success();
    assert_eq!(images.lines().count(), 2, "{images}");
    let program = prefix.join("bin/microagent");
    let version = String::from_utf8(succeed(Command::new(&program).arg("version"))).unwrap();
    assert!(version.starts_with("microagent 0."), "{version}");
    for part in ["share/man/man1/microagent-run.1.gz", "share/bash-completion/completions/microagent"] {
        assert!(prefix.join(part).is_file(), "{part}");
    }
    the_package_says_what_it_needs(&deb);
    the_bill_of_materials_is_whole(&prefix.join("share/doc/microagent/sbom.cdx.json"));
}

fn the_package_says_what_it_needs(deb: &Path) {
    let ask = |flag: &str| {
        String::from_utf8(succeed(tool("dpkg-deb", "dpkg").arg(flag).arg(deb))).expect("dpkg-deb writes text")
    };
    let control = ask("--info");
    for needed in ["libc6 (>= 2.", "qemu-system-x86 (>= 1:7.2)", "e2fsprogs"] {
        assert!(control.contains(needed), "{control}");
    }
    let files = ask("--contents");
    assert!(files.contains("root/root") && files.contains("./usr/bin/microagent"), "{files}");
    assert!(files.contains("./usr/share/man/man1/microagent.1.gz"), "{files}");
}

/// Installs the package in a root of its own: this host's, over which all changes go to memory.
const INSTALL: &str = r#"set -e
mount -t tmpfs tmpfs "$PLACE"
mkdir "$PLACE/upper" "$PLACE/work" "$PLACE/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$PLACE/upper,workdir=$PLACE/work" "$PLACE/root"
mount --rbind /dev "$PLACE/root/dev"
mount -t proc proc "$PLACE/root/proc"
mount --rbind /sys "$PLACE/root/sys"
cp "$DEB" "$PLACE/root/package.deb"
inside() { chroot "$PLACE/root" /usr/bin/env "$@"; }
inside dpkg -i /package.deb >&2
inside /usr/bin/microagent version
inside dpkg-query -W -f '${Status}\n' microagent
inside microagent doctor
inside dpkg -L microagent | grep -c '/usr/share/man/man1/'
inside dpkg -P microagent >&2
inside test ! -e /usr/bin/microagent -a ! -e /usr/share/doc/microagent
echo gone
"#;

#[test]
fn the_package_installs_in_a_root_of_its_own_and_the_program_works_there() {
    let world = World::own();
    let (_, deb) = made(&world);
    let place = world.path().join("place");
    std::fs::create_dir(&place).unwrap();
    let line = ["unshare", "--mount", "--propagation", "private", "bash", "-c", INSTALL];
    let call = world.microagent([""; 0]).through(&line).env("PLACE", &place).env("DEB", &deb);
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let said = call.env("PATH", path).deadline(std::time::Duration::from_secs(180)).outcome().success();
    let version = world.microagent(["version"]).outcome().success();
    for expected in [version.lines().next().unwrap(), "install ok installed", "✓ kernel", "gone"] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    assert!(!Path::new("/usr/bin/microagent").exists(), "this host is as it was");
}

/// It names what the program is made of, each part with the checksum that `Cargo.lock` has, and nothing that it leads to
/// is missing.
fn the_bill_of_materials_is_whole(path: &Path) {
    let text = std::fs::read_to_string(path).expect("it is installed");
    let bill: Value = serde_json::from_str(&text).expect("it is JSON");
    assert_eq!((&bill["bomFormat"], &bill["specVersion"]), (&"CycloneDX".into(), &"1.5".into()));
    let components = bill["components"].as_array().unwrap();
    let named = |name: &str| components.iter().any(|component| component["name"] == name);
    assert!(["microagent-cli", "microagent-init", "serde", "rustls"].into_iter().all(named), "{text}");
    assert!(!named("insta"), "what only tests use is not in the program");
    let lock = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock")).unwrap();
    for component in components {
        assert!(component["licenses"][0]["expression"].is_string(), "{component}");
        let ours = component["name"].as_str().unwrap().starts_with("microagent-");
        let sum = component["hashes"][0]["content"].as_str();
        assert!(sum.map_or(ours, |sum| lock.contains(&format!("checksum = \"{sum}\""))), "{component}");
    }
    let known: Vec<&Value> = components.iter().map(|component| &component["bom-ref"]).collect();
    let edges: Vec<&Value> = bill["dependencies"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|one| one["dependsOn"].as_array().unwrap())
        .collect();
    assert!(edges.len() > known.len(), "{} edges of {}", edges.len(), known.len());
    assert!(edges.iter().all(|edge| known.contains(edge)), "{text}");
}

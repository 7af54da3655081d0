//! A reader of layers that is not what it should be. The conversions themselves are those of `conversion`, and the
//! stories of whole runs go through a real reader.

use std::path::PathBuf;

use microagent_rootfs::{LayerBlob, Limits, convert};
use reader::{Program, read_in};

/// An error with those behind it.
fn causes(error: &dyn std::error::Error) -> String {
    let texts = std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string);
    texts.collect::<Vec<_>>().join(": ")
}

#[test]
fn a_reader_that_ends_or_talks_nonsense_is_an_error() {
    // One process has one reader: in which way it fails, the script reads from the blob. It can start no program.
    let script = "read request <&3; read how <&5; case $how in \
                  nonsense) echo nonsense >&3;; \
                  dies) echo 'out of luck' >&2; exit 7;; \
                  endless) while :; do printf xxxxxxxx >&3; done;; esac";
    let directory = tempfile::tempdir().unwrap();
    let program = PathBuf::from("/bin/sh").canonicalize().unwrap();
    let path = directory.path().join("how");
    let arguments = vec!["-c".into(), script.into()];
    read_in(Program { program, arguments });
    for (how, expected) in [
        ("nonsense", "expected"),
        ("dies", "(exit status: 7) out of luck"),
        ("endless", "expected value"),
        ("nothing", "ended"),
    ] {
        std::fs::write(&path, format!("{how}\n")).unwrap();
        let layer =
            LayerBlob { path: path.clone(), digest: [0; 32], diff_id: [0; 32], size: how.len() as u64 + 1 };
        let output = tempfile::tempfile().unwrap();
        let error = convert(&[layer], &output, &Limits::default(), &mut |_| ()).unwrap_err();
        assert!(causes(&error).contains(expected), "{how}: {}", causes(&error));
    }
    // What cannot be read is told as what it is, whatever the reader makes of it.
    let layer = LayerBlob { path: directory.path().join("none"), digest: [0; 32], diff_id: [0; 32], size: 8 };
    let error =
        convert(&[layer], &tempfile::tempfile().unwrap(), &Limits::default(), &mut |_| ()).unwrap_err();
    assert!(causes(&error).contains("failed to read"), "{}", causes(&error));
}

//! Readers that are not what they should be, and the same work by a thread. Real readers are those of whole commands.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{self, BufRead, Read};
use std::path::PathBuf;

use microagent_reader::{Input, Items, Job, Output, Program, ReadError, ask, read_in};

/// Each line of the input as an item: its length, and its bytes. A line `bad` is a failure, and how it fails.
static LINES: Job<u64, String> = Job { name: "lines", work: lines };

fn lines(limit: u64, input: &mut Input, output: &mut Output) -> Result<(), String> {
    let mut line = String::new();
    while input.read_line(&mut line).map_err(|error| error.to_string())? > 0 {
        match line.trim_end() {
            "bad" => return Err("a line is bad".to_owned()),
            "half" => {
                let rest = &mut io::repeat(b'x').take(limit).chain(Broken);
                return output.item(&0, rest).map_err(|error| error.to_string());
            }
            "panic" => panic!("a line is a panic"),
            good => output.item(&good.len(), &mut good.as_bytes()).map_err(|error| error.to_string())?,
        }
        line.clear();
    }
    Ok(())
}

struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("the rest is not there"))
    }
}

#[derive(Debug)]
enum Failure {
    Taking(io::Error),
    Reading(ReadError<String>),
}

impl From<ReadError<String>> for Failure {
    fn from(error: ReadError<String>) -> Self {
        Self::Reading(error)
    }
}

fn taken(items: &mut Items) -> Result<Vec<(u64, String)>, Failure> {
    let mut all = Vec::new();
    while let Some(length) = items.next_item().map_err(Failure::Taking)? {
        let mut text = String::new();
        items.read_to_string(&mut text).map_err(Failure::Taking)?;
        all.push((length, text));
    }
    Ok(all)
}

fn read(input: impl Read + Send + 'static) -> Result<Vec<(u64, String)>, String> {
    match ask(&LINES, &3_000_000, input, taken) {
        Ok(asked) => {
            asked.fed.all().map_err(|error| error.to_string())?;
            Ok(asked.taken)
        }
        Err(Failure::Taking(error)) => Err(format!("taking: {error}")),
        Err(Failure::Reading(ReadError::Failed(said))) => Err(said),
        Err(Failure::Reading(error)) => Err(error.to_string()),
    }
}

/// One process has one reader, so what a thread does comes first.
#[test]
fn what_a_reader_makes_comes_whole_or_the_reason_does() {
    let long = "y".repeat(3 << 20);
    let input = format!("a\n\n{long}\n");
    let expected = [(1, "a".to_owned()), (0, String::new()), (3 << 20, long)];
    assert_eq!(read(io::Cursor::new(input)).unwrap(), expected);
    assert_eq!(read(io::empty()).unwrap(), []);
    assert_eq!(read(&b"a\nbad\nb\n"[..]).unwrap_err(), "a line is bad");
    assert_eq!(read(&b"half\n"[..]).unwrap_err(), "the rest is not there");
    assert_eq!(read(b"a\n".chain(Broken)).unwrap_err(), "failed to read");
    let panic = std::panic::catch_unwind(|| read(&b"panic\n"[..]));
    assert!(panic.is_err(), "a panic of the work is one here");
    whoever_has_had_enough_gets_his_own_reason();
    a_reader_that_ends_or_talks_nonsense_is_an_error();
}

fn whoever_has_had_enough_gets_his_own_reason() {
    let (input, _writer) = io::pipe().unwrap();
    let input = (&b"a\nb\n"[..]).chain(input);
    // The input has not ended, and never will.
    let outcome = ask(&LINES, &0, input, |items| {
        let _: Option<u64> = items.next_item().map_err(Failure::Taking)?;
        Err::<(), _>(Failure::Taking(io::Error::other("the disk is full")))
    });
    assert!(matches!(outcome, Err(Failure::Taking(error)) if error.to_string() == "the disk is full"));
}

fn a_reader_that_ends_or_talks_nonsense_is_an_error() {
    // In which way it fails, the script reads from its input. It can start no program.
    let script = r#"read request <&3; read how <&5; case $how in
        lies) echo '"done"' >&3; printf '\3\0\0\0"x"' >&4;;
        silent) printf '\1\0\0\0001\1\0\0\0z\0\0\0\0' >&4;;
        well) printf '\1\0\0\0001\1\0\0\0z\0\0\0\0' >&4; exec 4>&-; echo '"done"' >&3;;
        cut) printf '\1\0\0\0001\5\0\0\0z' >&4; exec 4>&-; echo '"done"' >&3;;
        huge) printf '\377\377\377\377' >&4; read never <&3;;
        dies) echo 'out of luck' >&2; exit 7;;
        endless) while :; do printf xxxxxxxx >&4; done;; esac"#;
    let program = PathBuf::from("/bin/sh").canonicalize().unwrap();
    read_in(Program { program, arguments: vec!["-c".into(), script.into()] });
    let how = |how: &str| read(io::Cursor::new(format!("{how}\n")));
    assert_eq!(how("well").unwrap(), [(1, "z".to_owned())]);
    for (kind, expected) in [
        ("lies", "ended"),
        ("silent", "ended (exit status: 0)"),
        ("cut", "ended"),
        ("huge", "ended"),
        ("dies", "(exit status: 7) out of luck"),
        ("endless", "ended"),
        ("nothing", "ended"),
    ] {
        let error = how(kind).unwrap_err();
        assert!(error.contains(expected), "{kind}: {error}");
    }
}

//! Pulls an image without a login: `pull STORE IMAGE [CONFIGURATION]`. The stories run it where a pull needs a process of its own.
#![allow(clippy::print_stderr, reason = "it is a program")]

use std::error::Error;
use std::process::ExitCode;

use microagent_image::{Logins, Platform, Reference, Registries, Silent, Store, pull};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:?}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (store, image, directory) = match arguments.as_slice() {
        [store, image] => (store, image, None),
        [store, image, directory] => (store, image, Some(directory)),
        _ => return Err("two or three arguments".into()),
    };
    let store = Store::open(store.as_ref())?;
    let image: Reference = image.parse()?;
    let options = match directory {
        Some(directory) => Registries::in_directory(directory.as_ref(), Logins::none())?,
        None => Registries::plain(Logins::none()),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(pull(&store, &image, &Platform::of_host(), &options, &Silent))?;
    Ok(())
}

//! Pulls an image without a login: `pull STORE IMAGE`. The stories run it where a pull needs a process of its own.
#![allow(clippy::print_stderr, reason = "it is a program")]

use std::error::Error;
use std::process::ExitCode;

use microagent_image::{Platform, PullOptions, Reference, Silent, Store, pull};

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
    let [store, image] =
        std::env::args().skip(1).collect::<Vec<_>>().try_into().map_err(|_| "two arguments")?;
    let store = Store::open(store.as_ref())?;
    let image: Reference = image.parse()?;
    let options = PullOptions { docker_config: None };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(pull(&store, &image, &Platform::of_host(), &options, &Silent))?;
    Ok(())
}

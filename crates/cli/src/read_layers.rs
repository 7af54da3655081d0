//! `read-layers`, hidden: this program as what reads layers, and may do nothing else.

use std::io;

use crate::exit::Exit;
use crate::failure::Failure;

/// Has layers be read by this program, started again.
pub(crate) fn elsewhere() {
    // Where its file cannot be told, there is no such process either, and layers are read here.
    if let Ok(program) = std::env::current_exe() {
        rootfs::read_layers_in(rootfs::ReaderProgram { program, arguments: vec!["read-layers".into()] });
    }
}

/// What was started so.
pub(crate) fn read_layers() -> Result<Exit, Failure> {
    let refused = |error: io::Error| {
        Failure::new("system", &error).hint(Some("this command is for microagent itself to use"))
    };
    rootfs::read_layers().map_err(refused)?;
    Ok(Exit::Success)
}

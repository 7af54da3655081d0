//! Manual pages, made of the same words as `--help`; for packages and `make install`.

use std::path::Path;

use clap::{Command, CommandFactory};
use clap_mangen::Man;

use crate::args::Args;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;

/// Writes `microagent.1` and a page for each command into `directory`, and prints their names.
pub(crate) fn write(directory: &Path) -> Result<Exit, Failure> {
    let mut root = Args::command();
    root.build();
    let mut pages = Vec::new();
    collect(&root, "microagent", &mut pages);
    for (name, page) in pages {
        let path = directory.join(format!("{name}.1"));
        std::fs::write(&path, page).map_err(|error| {
            Failure::new("system", &error).about(&format!("failed to write `{}`", path.display()))
        })?;
        output::data(&path.to_string_lossy());
    }
    Ok(Exit::Success)
}

/// The page of `command`, known as `name`, and of those below it.
fn collect(command: &Command, name: &str, pages: &mut Vec<(String, Vec<u8>)>) {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        collect(below, &format!("{name}-{}", below.get_name()), pages);
    }
    let mut page = Vec::new();
    let titled = command.clone().disable_help_subcommand(true).display_name(name.to_owned());
    Man::new(titled).title(name.to_owned()).render(&mut page).expect("a page in memory can be written");
    pages.push((name.to_owned(), page));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_page_with_its_examples() {
        let mut root = Args::command();
        root.build();
        let mut pages = Vec::new();
        collect(&root, "microagent", &mut pages);
        for name in ["microagent", "microagent-run", "microagent-kernel-install", "microagent-doctor"] {
            let (_, page) = pages.iter().find(|(found, _)| found == name).unwrap();
            let page = String::from_utf8_lossy(page);
            assert!(page.contains(".SH NAME") && page.contains("microagent"), "{page}");
            assert!(page.contains("xample"), "{name}");
        }
        assert!(pages.iter().all(|(name, _)| !name.contains("supervise")));
    }
}

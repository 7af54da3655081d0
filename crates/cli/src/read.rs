//! `read`, hidden: this program as what reads foreign bytes, and may do nothing else.

use std::io;

use clap::ValueEnum;

use crate::exit::Exit;
use crate::failure::Failure;

/// What is read, by the names of the jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Foreign {
    /// The layers of an image, or a bundle
    Layers,
    /// An archive of images
    Archive,
    /// Something compressed
    Packed,
    /// A kernel's package
    KernelPackage,
    /// A kernel's image
    KernelImage,
}

/// Has foreign bytes be read by this program, started again.
pub(crate) fn elsewhere() {
    // Where its file cannot be told, there is no such process either, and they are read here.
    if let Ok(program) = std::env::current_exe() {
        reader::read_in(reader::Program { program, arguments: vec!["read".into()] });
    }
}

/// What was started so.
pub(crate) fn read(foreign: Foreign) -> Result<Exit, Failure> {
    let outcome = match foreign {
        Foreign::Layers => rootfs::read_layers(),
        Foreign::Archive => reader::serve(&image::READ_ARCHIVE),
        Foreign::Packed => reader::serve(&image::UNPACK),
        Foreign::KernelPackage => reader::serve(&kernel::READ_PACKAGE),
        Foreign::KernelImage => reader::serve(&kernel::UNPACK_IMAGE),
    };
    let refused = |error: io::Error| {
        Failure::new("system", &error).hint(Some("this command is for microagent itself to use"))
    };
    outcome.map_err(refused)?;
    Ok(Exit::Success)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_job_has_its_word() {
        let jobs = [
            rootfs::READ_LAYERS,
            image::READ_ARCHIVE.name,
            image::UNPACK.name,
            kernel::READ_PACKAGE.name,
            kernel::UNPACK_IMAGE.name,
        ];
        let words =
            Foreign::value_variants().iter().map(|one| one.to_possible_value().expect("all have one"));
        assert_eq!(words.map(|word| word.get_name().to_owned()).collect::<Vec<_>>(), jobs);
    }
}

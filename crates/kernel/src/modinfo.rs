//! What a module says about itself: the `.modinfo` section of its ELF file.
//!
//! The section is a row of `key=value` texts, each ended by a NUL byte. Of interest are the modules that
//! this one cannot do without (`depends=a,b`) and those it wants before it (`softdep=pre: a b post: c`).

use elf::ElfBytes;
use elf::endian::LittleEndian;

/// Why a module's file could not be understood.
#[derive(Debug, thiserror::Error)]
pub enum ModinfoError {
    /// The file is not an ELF file, or a damaged one.
    #[error("it is not a module or damaged")]
    Elf(#[from] elf::ParseError),
    /// The section is missing.
    #[error("it has no `.modinfo` section")]
    NoModinfo,
}

/// The modules that a module asks for, by their names as the kernel knows them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Modinfo {
    pub(crate) depends: Vec<String>,
    pub(crate) wants_before: Vec<String>,
}

impl Modinfo {
    /// Reads the module whose ELF file is `content`.
    pub(crate) fn parse(content: &[u8]) -> Result<Self, ModinfoError> {
        let elf = ElfBytes::<LittleEndian>::minimal_parse(content)?;
        let header = elf.section_header_by_name(".modinfo")?.ok_or(ModinfoError::NoModinfo)?;
        let (section, _) = elf.section_data(&header)?;
        Ok(Self::from_section(section))
    }

    fn from_section(section: &[u8]) -> Self {
        let mut modinfo = Self::default();
        for text in section.split(|&byte| byte == 0).filter_map(|text| std::str::from_utf8(text).ok()) {
            match text.split_once('=') {
                Some(("depends", names)) => modinfo.depends.extend(names.split(',').filter_map(named)),
                Some(("softdep", rule)) => modinfo.wants_before.extend(wanted_before(rule)),
                _ => {}
            }
        }
        modinfo
    }
}

/// File names and lists of modules write `-` and `_` as they please; the kernel knows `_` only.
pub(crate) fn kernel_name(name: &str) -> String {
    name.replace('-', "_")
}

fn named(name: &str) -> Option<String> {
    (!name.is_empty()).then(|| kernel_name(name))
}

fn wanted_before(rule: &str) -> impl Iterator<Item = String> {
    let mut before = false;
    rule.split_ascii_whitespace().filter_map(move |word| {
        match word {
            "pre:" => before = true,
            "post:" => before = false,
            name if before => return named(name),
            _ => {}
        }
        None
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A smallest ELF file with a `.modinfo` section.
    pub(crate) fn module(modinfo: &[u8]) -> Vec<u8> {
        const NAMES: &[u8] = b"\0.modinfo\0.shstrtab\0";
        let sections_at = 64 + modinfo.len() + NAMES.len();
        let mut file = vec![0; 64];
        file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        file[16..20].copy_from_slice(&[1, 0, 62, 0]);
        file[20] = 1;
        file[40..48].copy_from_slice(&(sections_at as u64).to_le_bytes());
        file[52..54].copy_from_slice(&64_u16.to_le_bytes());
        file[58..64].copy_from_slice(&[64, 0, 3, 0, 2, 0]);
        file.extend_from_slice(modinfo);
        file.extend_from_slice(NAMES);
        file.extend([0; 64]);
        file.extend(section_header(1, 1, 64, modinfo.len()));
        file.extend(section_header(10, 3, 64 + modinfo.len(), NAMES.len()));
        file
    }

    fn section_header(name: u32, kind: u32, offset: usize, size: usize) -> [u8; 64] {
        let mut header = [0; 64];
        header[..4].copy_from_slice(&name.to_le_bytes());
        header[4..8].copy_from_slice(&kind.to_le_bytes());
        header[24..32].copy_from_slice(&(offset as u64).to_le_bytes());
        header[32..40].copy_from_slice(&(size as u64).to_le_bytes());
        header[48] = 1;
        header
    }

    #[test]
    fn dependencies_are_read_and_their_dashes_made_one() {
        let file =
            module(b"license=GPL\0depends=virtio-ring,virtio\0softdep=post: z pre: crc32c lib-a\0name=x\0");
        let expected = Modinfo {
            depends: vec!["virtio_ring".into(), "virtio".into()],
            wants_before: vec!["crc32c".into(), "lib_a".into()],
        };
        assert_eq!(Modinfo::parse(&file).unwrap(), expected);
    }

    #[test]
    fn an_empty_list_of_dependencies_is_none() {
        assert_eq!(Modinfo::parse(&module(b"depends=\0")).unwrap(), Modinfo::default());
    }

    #[test]
    fn a_text_is_no_module() {
        assert!(matches!(Modinfo::parse(b"not a module"), Err(ModinfoError::Elf(_))));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(content in proptest::collection::vec(any::<u8>(), 0..500)) {
            let _ = Modinfo::parse(&content);
            let _ = Modinfo::from_section(&content);
        }

        #[test]
        fn a_damaged_module_never_panics(
            at in 0..400_usize, value: u8, modinfo in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            let mut file = module(&modinfo);
            let at = at % file.len();
            file[at] = value;
            let _ = Modinfo::parse(&file);
        }
    }
}

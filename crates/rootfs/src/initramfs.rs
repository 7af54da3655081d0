//! The initramfs: our init, the modules it loads, and the few nodes it starts with.
//!
//! ```text
//! /dev/console         c 5 1: init's standard input, output and error
//! /dev/null            c 1 3
//! /init                0755
//! /modules/order       the modules' names, one a line, in load order
//! /modules/NN-name.ko  in load order, NN from 00
//! /proc, /sys, /tmp    empty, for init to mount on
//! ```
//!
//! It is a `newc` cpio archive: for each entry a header of the magic number `070701` and 13 numbers of eight
//! hexadecimal digits, the name with a NUL, the content, the latter two padded to four bytes each. It is not
//! compressed: that gained nothing measurable (docs/design/boot.md). The same input gives the same bytes.
//!
//! Source: Documentation/driver-api/early-userspace/buffer-format.rst of the Linux kernel.

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const FILE: u32 = 0o100_644;
const CONSOLE: u32 = 0o020_600;
const NULL: u32 = 0o020_666;

/// Builds the initramfs of the program `init` and of `modules`, by name and content in load order.
///
/// A module's content is its uncompressed ELF file. Each file must be smaller than 4 GiB, the format's limit.
pub fn build(init: &[u8], modules: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = Archive::default();
    for directory in ["dev", "proc", "sys", "tmp", "modules"] {
        archive.add(directory, DIRECTORY, &[]);
    }
    archive.add_device("dev/console", CONSOLE, (5, 1));
    archive.add_device("dev/null", NULL, (1, 3));
    archive.add("init", PROGRAM, init);
    let order: String = modules.iter().flat_map(|(name, _)| [name, "\n"]).collect();
    archive.add("modules/order", FILE, order.as_bytes());
    for (place, (name, content)) in modules.iter().enumerate() {
        archive.add(&format!("modules/{place:02}-{name}.ko"), FILE, content);
    }
    archive.finish()
}

#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.add_entry(name, mode, (0, 0), content);
    }

    fn add_device(&mut self, name: &str, mode: u32, number: (u32, u32)) {
        self.add_entry(name, mode, number, &[]);
    }

    fn add_entry(&mut self, name: &str, mode: u32, (major, minor): (u32, u32), content: &[u8]) {
        self.entries += 1;
        let links = if mode == DIRECTORY { 2 } else { 1 };
        let size = u32::try_from(content.len()).expect("files of an initramfs are smaller than 4 GiB");
        let name_size = u32::try_from(name.len() + 1).expect("names are short");
        let [owner, group, time, checksum, device_major, device_minor] = [0; 6];
        let numbers = [
            self.entries,
            mode,
            owner,
            group,
            links,
            time,
            size,
            device_major,
            device_minor,
            major,
            minor,
            name_size,
            checksum,
        ];
        self.bytes.extend_from_slice(b"070701");
        for number in numbers {
            self.bytes.extend_from_slice(format!("{number:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, &[]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Entry {
        name: String,
        mode: u32,
        device: (u32, u32),
        content: Vec<u8>,
    }

    /// A reader as strict as the kernel's.
    fn read(mut archive: &[u8]) -> Vec<Entry> {
        let mut entries = Vec::new();
        loop {
            let (header, rest) = archive.split_at(110);
            assert_eq!(&header[..6], b"070701");
            let number = |place: usize| {
                let digits = std::str::from_utf8(&header[6 + 8 * place..14 + 8 * place]).unwrap();
                u32::from_str_radix(digits, 16).unwrap()
            };
            let (size, name_size) = (number(6) as usize, number(11) as usize);
            let content_at = (110 + name_size).next_multiple_of(4) - 110;
            assert_eq!(rest[name_size - 1..content_at].iter().max(), Some(&0));
            let name = String::from_utf8(rest[..name_size - 1].to_vec()).unwrap();
            let content = rest[content_at..content_at + size].to_vec();
            archive = &rest[(110 + content_at + size).next_multiple_of(4) - 110..];
            if name == "TRAILER!!!" {
                assert!(archive.is_empty());
                return entries;
            }
            entries.push(Entry { name, mode: number(1), device: (number(9), number(10)), content });
        }
    }

    fn modules() -> Vec<(String, Vec<u8>)> {
        vec![("virtio".into(), b"first".to_vec()), ("virtio_blk".into(), b"second!".to_vec())]
    }

    #[test]
    fn init_finds_its_modules_in_load_order() {
        let entries = read(&build(b"#!init", &modules()));
        let content = |name: &str| {
            let entry = entries.iter().find(|entry| entry.name == name);
            entry.unwrap_or_else(|| panic!("no {name}")).content.clone()
        };
        assert_eq!(content("init"), b"#!init");
        assert_eq!(content("modules/order"), b"virtio\nvirtio_blk\n");
        assert_eq!(content("modules/00-virtio.ko"), b"first");
        assert_eq!(content("modules/01-virtio_blk.ko"), b"second!");
    }

    #[test]
    fn init_can_be_run_and_has_a_console() {
        let entries = read(&build(b"", &[]));
        let of = |name: &str| entries.iter().find(|entry| entry.name == name).unwrap();
        assert_eq!(of("init").mode, 0o100_755);
        assert_eq!((of("dev/console").mode, of("dev/console").device), (0o020_600, (5, 1)));
        assert_eq!((of("dev/null").mode, of("dev/null").device), (0o020_666, (1, 3)));
        assert_eq!(of("proc").mode, 0o040_755);
    }

    #[test]
    fn a_directory_comes_before_what_is_in_it() {
        let names: Vec<_> =
            read(&build(b"", &modules())).into_iter().map(|entry| format!("{}/", entry.name)).collect();
        for (place, name) in names.iter().enumerate() {
            let parent = &name[..name.trim_end_matches('/').rfind('/').map_or(0, |slash| slash + 1)];
            assert!(parent.is_empty() || names[..place].iter().any(|earlier| earlier == parent), "{name}");
        }
    }

    #[test]
    fn the_same_input_gives_the_same_bytes() {
        assert_eq!(build(b"init", &modules()), build(b"init", &modules()));
    }
}

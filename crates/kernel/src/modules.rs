//! The modules that a boot needs, in the order to load them in.
//!
//! There is no `modprobe` in the guest: whatever a module needs is found here, before the boot. Each module
//! names the modules it needs in itself, so no `modules.dep` is wanted (packages are shipped without one).

use std::collections::{HashMap, HashSet};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use crate::decompress::unpacked;
use crate::modinfo::{Modinfo, ModinfoError, kernel_name};
use crate::walk::regular_files;
use crate::{Kernel, Release};

/// The largest modules of distributions have some 10 MiB.
const MAX_MODULE: u64 = 64 << 20;
/// More modules than any boot needs; bounds the search through a tree that was made to be endless.
const MAX_MODULES: usize = 256;

/// A module, ready to be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// Its name as the kernel knows it, with `_` for each `-`.
    pub name: String,
    /// Its ELF file, uncompressed.
    pub content: Vec<u8>,
}

/// Why the modules of a boot could not be gathered.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// The kernel has no such module, neither as a file nor built in.
    #[error("the kernel `{release}` has no module `{module}`")]
    Missing {
        /// The kernel.
        release: Release,
        /// The module that is missing.
        module: String,
    },
    /// A module needs one that the kernel does not have.
    #[error("the kernel `{release}` has no module `{module}`, which its module `{needed_by}` needs")]
    MissingDependency {
        /// The kernel.
        release: Release,
        /// The module that is missing.
        module: String,
        /// The module that needs it.
        needed_by: String,
    },
    /// A module's file is damaged.
    #[error("the module `{}` cannot be used", path.display())]
    Damaged {
        /// The module's file.
        path: PathBuf,
        /// What is wrong with it.
        source: ModinfoError,
    },
    /// The modules need more of each other than is sensible.
    #[error("the kernel `{release}` needs more than {MAX_MODULES} modules")]
    TooMany {
        /// The kernel.
        release: Release,
    },
    /// The kernel's modules could not be read.
    #[error("failed to read the modules of the kernel `{release}`")]
    Read {
        /// The kernel.
        release: Release,
        /// What the system said.
        source: io::Error,
    },
}

impl Kernel {
    /// The modules named `required`, those named `optional` that this kernel has, and all that they need:
    /// each once, in load order, without those that are built in.
    pub fn modules_for(&self, required: &[&str], optional: &[&str]) -> Result<Vec<Module>, ModuleError> {
        let tree = Tree::read(self)?;
        let mut search = Search { tree: &tree, seen: HashSet::new(), found: Vec::new() };
        for name in required {
            search.require(name)?;
        }
        for name in optional {
            search.want(name)?;
        }
        Ok(search.found)
    }
}

/// The names of the modules that a kernel has.
struct Tree<'a> {
    kernel: &'a Kernel,
    files: HashMap<String, PathBuf>,
    built_in: HashSet<String>,
}

impl<'a> Tree<'a> {
    fn read(kernel: &'a Kernel) -> Result<Self, ModuleError> {
        let failed = |source| ModuleError::Read { release: kernel.release.clone(), source };
        let paths = regular_files(&kernel.modules).map_err(failed)?;
        let built_in = read_built_in(&kernel.modules.join("modules.builtin")).map_err(failed)?;
        let files = paths.into_iter().filter_map(|path| Some((module_name(&path)?, path))).collect();
        Ok(Self { kernel, files, built_in })
    }

    fn load(&self, path: &Path) -> Result<Vec<u8>, ModuleError> {
        read_module(&self.kernel.modules.join(path))
            .map_err(|source| ModuleError::Read { release: self.kernel.release.clone(), source })
    }
}

/// A walk along the dependencies, deepest first.
struct Search<'a> {
    tree: &'a Tree<'a>,
    seen: HashSet<String>,
    found: Vec<Module>,
}

impl Search<'_> {
    fn require(&mut self, name: &str) -> Result<(), ModuleError> {
        if self.visit(&kernel_name(name))? {
            return Ok(());
        }
        Err(ModuleError::Missing { release: self.tree.kernel.release.clone(), module: name.to_owned() })
    }

    fn want(&mut self, name: &str) -> Result<bool, ModuleError> {
        self.visit(&kernel_name(name))
    }

    /// Finds a module and what it needs; `false` if the kernel does not have it.
    fn visit(&mut self, name: &str) -> Result<bool, ModuleError> {
        if self.seen.contains(name) || self.tree.built_in.contains(name) {
            return Ok(true);
        }
        let Some(path) = self.tree.files.get(name) else { return Ok(false) };
        self.seen.insert(name.to_owned());
        if self.seen.len() > MAX_MODULES {
            return Err(ModuleError::TooMany { release: self.tree.kernel.release.clone() });
        }
        let content = self.tree.load(path)?;
        let modinfo = Modinfo::parse(&content)
            .map_err(|source| ModuleError::Damaged { path: self.tree.kernel.modules.join(path), source })?;
        self.visit_needs(name, &modinfo)?;
        self.found.push(Module { name: name.to_owned(), content });
        Ok(true)
    }

    fn visit_needs(&mut self, name: &str, modinfo: &Modinfo) -> Result<(), ModuleError> {
        for wanted in &modinfo.wants_before {
            // An algorithm is asked for by its own name; its plain implementation is `<name>_generic`.
            if !self.want(wanted)? && !self.want(&format!("{wanted}_generic"))? {
                tracing::debug!(module = name, wanted, "the kernel has not what a module would like to have");
            }
        }
        for needed in &modinfo.depends {
            if !self.visit(needed)? {
                return Err(ModuleError::MissingDependency {
                    release: self.tree.kernel.release.clone(),
                    module: needed.clone(),
                    needed_by: name.to_owned(),
                });
            }
        }
        Ok(())
    }
}

/// The name of the module in this file; `None` if the file is not a module's.
pub(crate) fn module_name(path: &Path) -> Option<String> {
    let file_name = path.file_name()?.to_str()?;
    let (name, packing) = file_name.split_once(".ko")?;
    let known = matches!(packing, "" | ".xz" | ".zst" | ".gz");
    (known && !name.is_empty()).then(|| kernel_name(name))
}

fn read_built_in(path: &Path) -> io::Result<HashSet<String>> {
    let text = match fs_err::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(HashSet::new()),
        Err(error) => return Err(error),
    };
    Ok(text.lines().filter_map(|line| module_name(Path::new(line.trim()))).collect())
}

fn read_module(path: &Path) -> io::Result<Vec<u8>> {
    let file = BufReader::new(fs_err::File::open(path)?);
    let mut content = Vec::new();
    unpacked(file)?.take(MAX_MODULE + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_MODULE {
        let message = format!("the module `{}` is too large", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Source;
    use crate::modinfo::tests::module;

    /// A kernel whose tree holds these files, each with its `.modinfo`.
    fn kernel(directory: &Path, files: &[(&str, &str)], built_in: &str) -> Kernel {
        for (path, modinfo) in files {
            let place = directory.join(path);
            std::fs::create_dir_all(place.parent().unwrap()).unwrap();
            let content = module(modinfo.replace('|', "\0").as_bytes());
            let content = match place.extension().unwrap().to_str().unwrap() {
                "zst" => zstd::encode_all(content.as_slice(), 1).unwrap(),
                _ => content,
            };
            std::fs::write(place, content).unwrap();
        }
        std::fs::write(directory.join("modules.builtin"), built_in).unwrap();
        Kernel {
            release: "6.1.0-1".parse().unwrap(),
            image: PathBuf::new(),
            vmlinux: None,
            modules: directory.to_owned(),
            digest: String::new(),
            source: Source::Host,
            installed_at: jiff::Timestamp::UNIX_EPOCH,
            image_size: 0,
            modules_size: 0,
        }
    }

    fn names(modules: &[Module]) -> Vec<&str> {
        modules.iter().map(|module| module.name.as_str()).collect()
    }

    #[test]
    fn each_module_comes_once_and_after_what_it_needs() {
        let directory = tempfile::tempdir().unwrap();
        let files = [
            ("kernel/a/virtio.ko", "depends="),
            ("kernel/a/virtio-ring.ko", "depends=virtio"),
            ("kernel/b/virtio_blk.ko.zst", "depends=virtio_ring,virtio"),
            ("kernel/b/unwanted.ko", "depends=virtio"),
        ];
        let kernel = kernel(directory.path(), &files, "kernel/fs/ext4/ext4.ko\n");
        let modules = kernel.modules_for(&["virtio-blk", "ext4", "virtio_ring"], &["vmgenid"]).unwrap();
        assert_eq!(names(&modules), ["virtio", "virtio_ring", "virtio_blk"]);
        assert_eq!(modules[2].content, module(b"depends=virtio_ring,virtio"));
    }

    #[test]
    fn a_module_that_is_wanted_before_another_is_taken_if_it_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let files = [
            ("kernel/libcrc32c.ko", "softdep=pre: crc32c gone|depends="),
            ("kernel/crc32c_generic.ko", "depends="),
            ("kernel/fs.ko", "depends=libcrc32c"),
        ];
        let kernel = kernel(directory.path(), &files, "");
        assert_eq!(names(&kernel.modules_for(&["fs"], &[]).unwrap()), ["crc32c_generic", "libcrc32c", "fs"]);
    }

    #[test]
    fn a_missing_module_is_named_with_the_one_that_needs_it() {
        let directory = tempfile::tempdir().unwrap();
        let kernel = kernel(directory.path(), &[("kernel/a.ko", "depends=b")], "");
        let error = kernel.modules_for(&["c"], &[]).unwrap_err().to_string();
        assert_eq!(error, "the kernel `6.1.0-1` has no module `c`");
        let error = kernel.modules_for(&["a"], &[]).unwrap_err().to_string();
        assert_eq!(error, "the kernel `6.1.0-1` has no module `b`, which its module `a` needs");
    }

    #[test]
    fn modules_that_need_each_other_end_the_search() {
        let directory = tempfile::tempdir().unwrap();
        let files = [("kernel/a.ko", "depends=b"), ("kernel/b.ko", "depends=a")];
        let kernel = kernel(directory.path(), &files, "");
        assert_eq!(names(&kernel.modules_for(&["a"], &[]).unwrap()), ["b", "a"]);
    }

    #[test]
    fn an_endless_chain_of_modules_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let files: Vec<_> =
            (0..300).map(|n| (format!("kernel/m{n}.ko"), format!("depends=m{}", n + 1))).collect();
        let files: Vec<_> = files.iter().map(|(path, info)| (path.as_str(), info.as_str())).collect();
        let kernel = kernel(directory.path(), &files, "");
        assert!(matches!(kernel.modules_for(&["m0"], &[]), Err(ModuleError::TooMany { .. })));
    }

    #[test]
    fn a_damaged_module_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let kernel = kernel(directory.path(), &[("kernel/a.ko", "")], "");
        std::fs::write(directory.path().join("kernel/a.ko"), "text").unwrap();
        assert!(kernel.modules_for(&["a"], &[]).unwrap_err().to_string().contains("kernel/a.ko"));
    }
}

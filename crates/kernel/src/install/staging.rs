//! A kernel in the making: what is taken into it, the checks when it is complete, and its way into place.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::{Component, Path, PathBuf};

use home::{Scratch, write_record};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::InstallError;
use crate::bzimage::{MAX_IMAGE, unpack_to};
use crate::kernels::KernelRecord;
use crate::modules::module_name;
use crate::walk::MAX_DEPTH;
use crate::{Kernel, Kernels, Release, Source};

/// A distribution's full set of modules, uncompressed, is below 1 GiB.
const MAX_BYTES: u64 = 4 << 30;
const MAX_FILES: u32 = 100_000;

/// A file that belongs to a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Member {
    /// The boot image.
    Image,
    /// A file of the module tree, by its checked path in it.
    Modules(PathBuf),
}

impl Member {
    /// Tells whether a kernel wants the file at `path` of its module tree: modules, and what lists them.
    pub(super) fn of_module_tree(path: &Path) -> Option<Self> {
        let plain = path.components().all(|component| matches!(component, Component::Normal(_)));
        let depth = path.components().count();
        let name = path.file_name()?.to_str()?;
        let lists = depth == 1 && name.starts_with("modules.");
        let module = depth > 1 && depth <= MAX_DEPTH && module_name(path).is_some();
        (plain && (lists || module)).then(|| Self::Modules(path.to_owned()))
    }

    /// Tells whether, and for which kernel, the file at `path` of a package is wanted.
    pub(super) fn of_package(path: &Path) -> Option<(Release, Self)> {
        let path = path.strip_prefix("./").unwrap_or(path);
        let path = path.strip_prefix("usr").unwrap_or(path);
        if let Ok(name) = path.strip_prefix("boot") {
            let release = name.to_str()?.strip_prefix("vmlinuz-")?;
            return Some((release.parse().ok()?, Self::Image));
        }
        let mut inside = path.strip_prefix("lib/modules").ok()?.components();
        let release = inside.next()?.as_os_str().to_str()?.parse().ok()?;
        Some((release, Self::of_module_tree(inside.as_path())?))
    }
}

/// A kernel in the making. Dropped before it is finished, it leaves nothing.
pub(super) struct Staging<'a> {
    kernels: &'a Kernels,
    scratch: Scratch,
    release: Option<Release>,
    bytes: u64,
    files: u32,
    modules_size: u64,
}

impl<'a> Staging<'a> {
    pub(super) fn new(kernels: &'a Kernels) -> Result<Self, InstallError> {
        let scratch = Scratch::new(kernels.home())?;
        let staging = Self { kernels, scratch, release: None, bytes: 0, files: 0, modules_size: 0 };
        fs_err::create_dir_all(staging.kernel().join("modules"))?;
        fs_err::create_dir(staging.work())?;
        Ok(staging)
    }

    /// A directory for what the installation needs on its way, such as downloads.
    pub(super) fn work(&self) -> PathBuf {
        self.scratch.path().join("work")
    }

    /// Notes that what comes is of this release; all of it must be of one.
    pub(super) fn expect_release(&mut self, release: &Release) -> Result<(), InstallError> {
        match &self.release {
            Some(first) if first != release => {
                Err(InstallError::Mismatch { image: first.clone(), modules: release.clone() })
            }
            Some(_) => Ok(()),
            None => {
                self.release = Some(release.clone());
                Ok(())
            }
        }
    }

    /// Takes a file into the kernel.
    pub(super) fn take(&mut self, member: &Member, content: &mut dyn Read) -> Result<(), InstallError> {
        let place = match member {
            Member::Image => self.image(),
            Member::Modules(path) => self.kernel().join("modules").join(path),
        };
        if let Some(parent) = place.parent() {
            fs_err::create_dir_all(parent)?;
        }
        let left = MAX_BYTES - self.bytes;
        let written = io::copy(&mut content.take(left), &mut fs_err::File::create(&place)?)?;
        self.bytes += written;
        self.files += 1;
        if written == left || self.files > MAX_FILES {
            return Err(InstallError::TooLarge { limit: MAX_BYTES, files: MAX_FILES });
        }
        if let Member::Modules(_) = member {
            self.modules_size += written;
        }
        Ok(())
    }

    /// Checks that the kernel is whole, completes it, and puts it in its place.
    pub(super) fn finish(self, source: Source) -> Result<Kernel, InstallError> {
        let (image, image_sha256) = self.read_image()?;
        let place = self.kernel().join("vmlinux");
        let image_size = image.len() as u64;
        let release = unpack_to(Cursor::new(image), || File::create(place))?;
        self.check(&release)?;
        let record = KernelRecord {
            release: release.clone(),
            source,
            installed_at: Timestamp::now(),
            image_sha256,
            image_size,
            modules_size: self.modules_size,
        };
        write_record(&self.kernel().join("kernel.json"), &record).map_err(crate::StoreError::from)?;
        rustix::fs::syncfs(File::open(self.kernel())?).map_err(io::Error::from)?;
        Ok(self.kernels.publish(&self.kernel(), &release)?)
    }

    fn check(&self, image: &Release) -> Result<(), InstallError> {
        match &self.release {
            Some(modules) if modules != image => {
                Err(InstallError::Mismatch { image: image.clone(), modules: modules.clone() })
            }
            _ if self.modules_size == 0 => Err(InstallError::NoModules { release: image.clone() }),
            _ => Ok(()),
        }
    }

    /// The image, and its hash in hexadecimal.
    fn read_image(&self) -> Result<(Vec<u8>, String), InstallError> {
        let path = self.image();
        if !path.exists() {
            return Err(InstallError::NoImage);
        }
        if fs_err::metadata(&path)?.len() > MAX_IMAGE {
            return Err(InstallError::TooLarge { limit: MAX_IMAGE, files: MAX_FILES });
        }
        let image = fs_err::read(path)?;
        let hash = home::hexadecimal(&Sha256::digest(&image));
        Ok((image, hash))
    }

    fn kernel(&self) -> PathBuf {
        self.scratch.path().join("kernel")
    }

    fn image(&self) -> PathBuf {
        self.kernel().join("vmlinuz")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: &str) -> Option<(String, String)> {
        let (release, member) = Member::of_package(Path::new(path))?;
        let place = match member {
            Member::Image => "image".to_owned(),
            Member::Modules(path) => path.to_str().unwrap().to_owned(),
        };
        Some((release.to_string(), place))
    }

    #[test]
    fn images_and_modules_are_taken_from_where_distributions_put_them() {
        let expected = |place: &str| Some(("6.1.0-1".to_owned(), place.to_owned()));
        assert_eq!(place("./boot/vmlinuz-6.1.0-1"), expected("image"));
        let module = expected("kernel/fs/ext4/ext4.ko.zst");
        assert_eq!(place("./lib/modules/6.1.0-1/kernel/fs/ext4/ext4.ko.zst"), module);
        assert_eq!(place("usr/lib/modules/6.1.0-1/kernel/fs/ext4/ext4.ko.zst"), module);
        assert_eq!(place("./lib/modules/6.1.0-1/modules.builtin"), expected("modules.builtin"));
    }

    #[test]
    fn nothing_else_is_taken_whatever_its_name() {
        for path in [
            "./etc/passwd",
            "./boot/config-6.1.0-1",
            "./boot/vmlinuz-../../x",
            "./boot/grub/vmlinuz-6.1.0-1",
            "./lib/modules/../modules.x",
            "./lib/modules/6.1.0-1/../../../etc/x.ko",
            "./lib/modules/6.1.0-1/kernel/../../../x.ko",
            "./lib/modules/6.1.0-1/build",
            "./lib/modules/6.1.0-1/x.ko",
            "/lib/modules/6.1.0-1/kernel/a.ko",
            "./lib/modules/6.1.0-1",
            "",
        ] {
            assert_eq!(place(path), None, "{path}");
        }
    }
}

//! Fetching the distribution's kernel packages with apt, which needs no root.
//!
//! A distribution's metapackage (`linux-image-cloud-amd64`) names the package of its newest kernel, which on
//! some distributions names one more with the modules. Whatever of these there is, is downloaded. apt checks
//! the packages against the distribution's signatures.
//!
//! First the host's own package lists are used. If they lack the package or are outdated, as in a fresh
//! container, lists of our own are fetched into a directory of ours.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::command::run;
use super::{InstallError, Step};

/// Kernels for virtual machines, by distribution: Debian's, Ubuntu's.
const USUAL: [&str; 2] = ["linux-image-cloud-amd64", "linux-image-virtual"];
/// A metapackage, the image, the modules; two more for safety.
const MAX_PACKAGES: usize = 5;
const LOOK_UP: Duration = Duration::from_secs(60);
const TRANSFER: Duration = Duration::from_secs(900);

/// What was fetched.
pub(super) struct Fetched {
    pub(super) packages: Vec<String>,
    pub(super) files: Vec<PathBuf>,
}

/// Fetches `package`, or the distribution's usual kernel, and what belongs to it into `work`.
pub(super) fn fetch(
    package: Option<&str>,
    work: PathBuf,
    progress: &mut dyn FnMut(Step),
) -> Result<Fetched, InstallError> {
    if let Some(name) = package.filter(|name| !is_package_name(name)) {
        return Err(InstallError::PackageName(name.to_owned()));
    }
    let wanted: Vec<&str> = package.map_or_else(|| USUAL.to_vec(), |name| vec![name]);
    let mut apt = Apt { work, own_lists: false };
    match apt.fetch_first(&wanted, progress) {
        Err(error) if error.may_be_outdated_lists() => {
            tracing::debug!(%error, "the host's package lists do not do");
            progress(Step::UpdateLists);
            apt.update()?;
            apt.fetch_first(&wanted, progress)
        }
        done => done,
    }
}

impl InstallError {
    fn may_be_outdated_lists(&self) -> bool {
        matches!(self, Self::NoPackage { .. } | Self::Apt(super::CommandError::Failed { .. }))
    }
}

struct Apt {
    work: PathBuf,
    own_lists: bool,
}

impl Apt {
    fn fetch_first(&self, wanted: &[&str], progress: &mut dyn FnMut(Step)) -> Result<Fetched, InstallError> {
        for name in wanted {
            let packages = self.kernel_packages(name)?;
            if !packages.is_empty() {
                progress(Step::Download { packages: packages.clone() });
                return self.download(packages);
            }
        }
        Err(InstallError::NoPackage { packages: wanted.iter().map(ToString::to_string).collect() })
    }

    /// `start` and the kernel packages it depends on; none if apt does not know it.
    fn kernel_packages(&self, start: &str) -> Result<Vec<String>, InstallError> {
        let mut packages = Vec::new();
        let mut pending = VecDeque::from([start.to_owned()]);
        while let Some(name) = pending.pop_front() {
            if packages.contains(&name) || packages.len() == MAX_PACKAGES {
                continue;
            }
            let Some(description) = self.describe(&name)? else { continue };
            packages.push(name);
            pending.extend(kernel_dependencies(&description));
        }
        Ok(packages)
    }

    fn describe(&self, package: &str) -> Result<Option<String>, InstallError> {
        let mut command = self.command("apt-cache");
        match run(command.args(["show", "--no-all-versions", package]), LOOK_UP) {
            Ok(description) => Ok((!description.trim().is_empty()).then_some(description)),
            // What apt says of a package that it does not know.
            Err(super::CommandError::Failed { stderr, .. }) if stderr.contains("No packages found") => {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn download(&self, packages: Vec<String>) -> Result<Fetched, InstallError> {
        let place = self.work.join("packages");
        fs_err::create_dir_all(&place)?;
        let mut command = self.command("apt-get");
        run(command.current_dir(&place).arg("download").args(&packages), TRANSFER)?;
        Ok(Fetched { packages, files: debs_in(&place)? })
    }

    /// Fetches package lists into a directory of ours and uses them from now on.
    fn update(&mut self) -> Result<(), InstallError> {
        self.own_lists = true;
        for directory in ["state/lists/partial", "cache/archives/partial"] {
            fs_err::create_dir_all(self.work.join(directory))?;
        }
        run(self.command("apt-get").arg("update"), TRANSFER)?;
        Ok(())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(["-q", "-o", "Acquire::Retries=2", "-o", "Acquire::http::Timeout=30"]);
        if self.own_lists {
            command.arg("-o").arg(self.option("Dir::State", "state"));
            command.arg("-o").arg(self.option("Dir::Cache", "cache"));
        }
        command
    }

    fn option(&self, name: &str, directory: &str) -> OsString {
        let mut option = OsString::from(format!("{name}="));
        option.push(self.work.join(directory));
        option
    }
}

/// The kernel packages among those that a package, as `apt-cache show` describes it, depends on.
fn kernel_dependencies(description: &str) -> Vec<String> {
    let fields = description.lines().filter_map(|line| line.split_once(':'));
    let dependencies = fields.filter(|(field, _)| ["Depends", "Pre-Depends"].contains(field));
    let groups = dependencies.flat_map(|(_, groups)| groups.split(','));
    let names = groups.filter_map(|group| group.split(['|', '(', ':']).next().map(str::trim));
    names.filter(|name| is_kernel_package(name) && is_package_name(name)).map(str::to_owned).collect()
}

/// The extra modules are drivers of real hardware.
fn is_kernel_package(name: &str) -> bool {
    let kernel = name.starts_with("linux-image-") || name.starts_with("linux-modules-");
    kernel && !name.starts_with("linux-modules-extra-")
}

/// Debian policy 5.6.1; in particular, the name of a package is not an option.
fn is_package_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte);
    name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric()) && name.bytes().all(inner)
}

fn debs_in(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = fs_err::read_dir(directory)?.collect::<Result<Vec<_>, _>>()?;
    let paths = entries.into_iter().map(|entry| entry.path());
    let mut debs: Vec<_> = paths.filter(|path| path.extension().is_some_and(|kind| kind == "deb")).collect();
    debs.sort();
    Ok(debs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_kernel_packages_are_followed_and_of_alternatives_the_first() {
        let description = "Package: linux-image-virtual\n\
            Depends: kmod, linux-image-6.8.0-45-generic (= 6.8.0-45.45) | linux-image-unsigned-6.8.0-45-generic, \
            linux-modules-6.8.0-45-generic, linux-modules-extra-6.8.0-45-generic, linux-firmware\n\
            Recommends: linux-image-other\n";
        let expected = ["linux-image-6.8.0-45-generic", "linux-modules-6.8.0-45-generic"];
        assert_eq!(kernel_dependencies(description), expected);
    }

    #[test]
    fn an_option_is_no_package_name() {
        for bad in ["-oDir::State=/", "", "a b", "A", "a/b", "a=1"] {
            assert!(!is_package_name(bad), "{bad}");
        }
        assert!(is_package_name("linux-image-6.1.0-56-cloud-amd64"));
    }
}

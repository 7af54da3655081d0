//! `kernel install`, `list` and `use`.

use kernel::{InstallError, Kernel, Kernels, Source, Step};
use serde::Serialize;

use crate::args::{Global, KernelInstallArgs, KernelVerb};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::progress::Steps;
use crate::pull::open_home;

/// An entry of `kernel list --json`; a contract.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ListedKernel {
    release: String,
    default: bool,
    source: String,
    #[cfg_attr(test, schemars(with = "String"))]
    installed_at: jiff::Timestamp,
    size: u64,
}

pub(crate) fn kernel(global: &Global, verb: KernelVerb) -> Result<Exit, Failure> {
    let kernels = Kernels::open(&open_home(global)?);
    match verb {
        KernelVerb::Install(args) => install(global, &kernels, args),
        KernelVerb::List => list(global, &kernels),
        KernelVerb::Use { release } => {
            kernels.set_default(&release).map_err(|error| {
                Failure::new("kernel", &error).hint(Some("see those that are: microagent kernel list"))
            })?;
            Ok(Exit::Success)
        }
    }
}

fn install(global: &Global, kernels: &Kernels, args: KernelInstallArgs) -> Result<Exit, Failure> {
    let mut steps = Steps::new(global);
    let mut observe = |step: Step| steps.activity(&activity(&step));
    let installed = match (args.vmlinuz, args.modules) {
        (Some(vmlinuz), Some(modules)) => kernels.install_files(&vmlinuz, &modules, &mut observe),
        _ if args.from_host => kernels.install_from_host(&mut observe),
        _ if !args.deb.is_empty() => kernels.install_deb(&args.deb, &mut observe),
        _ => kernels.install_from_apt(args.package.as_deref(), &mut observe),
    };
    steps.done();
    let kernel =
        installed.map_err(|error: InstallError| Failure::new("kernel_install", &error).hint(error.hint()))?;
    let default = default_release(kernels)?;
    match global.format() {
        Format::Json => output::json(&describe(&kernel, default.as_deref())),
        Format::Text => {
            if default.as_deref() != Some(kernel.release.as_str()) {
                output::talk(&format!("to boot it: microagent kernel use {}", kernel.release));
            }
            output::data(kernel.release.as_str());
        }
    }
    Ok(Exit::Success)
}

fn activity(step: &Step) -> String {
    match step {
        Step::UpdateLists => "fetching the lists of packages".to_owned(),
        Step::Download { packages } => format!("fetching {}", packages.join(" and ")),
        Step::Unpack { package } => format!("unpacking {package}"),
        Step::Copy => "copying the kernel".to_owned(),
        Step::Finish => "checking the kernel".to_owned(),
    }
}

fn list(global: &Global, kernels: &Kernels) -> Result<Exit, Failure> {
    let installed = kernels.list().map_err(|error| Failure::new("kernel", &error))?;
    let default = default_release(kernels)?;
    let listed: Vec<_> = installed.iter().map(|kernel| describe(kernel, default.as_deref())).collect();
    if global.format() == Format::Json {
        output::json(&listed);
        return Ok(Exit::Success);
    }
    let rows: Vec<_> = listed
        .into_iter()
        .map(|kernel| {
            let mark = if kernel.default { "yes" } else { "" };
            [kernel.release, mark.to_owned(), kernel.source, output::size(kernel.size)]
        })
        .collect();
    output::table(["RELEASE", "DEFAULT", "SOURCE", "SIZE"], &rows);
    Ok(Exit::Success)
}

fn default_release(kernels: &Kernels) -> Result<Option<String>, Failure> {
    let default = kernels.default().map_err(|error| Failure::new("kernel", &error))?;
    Ok(default.map(|kernel| kernel.release.to_string()))
}

fn describe(kernel: &Kernel, default: Option<&str>) -> ListedKernel {
    ListedKernel {
        release: kernel.release.to_string(),
        default: default == Some(kernel.release.as_str()),
        source: match &kernel.source {
            Source::Apt { packages } => packages.join(", "),
            Source::Deb { .. } => "package file".to_owned(),
            Source::Host => "host".to_owned(),
            Source::Files { image, .. } => image.display().to_string(),
        },
        installed_at: kernel.installed_at,
        size: kernel.image_size + kernel.modules_size,
    }
}

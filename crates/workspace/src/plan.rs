//! What to start: the machine's settings, the image on its disk, and the template that fits both.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use engine::{
    Accelerator, Access, Demand, Disk, Durability, Memory, MemorySize, NetworkDevice, Requested, Saved,
    Start, VmSpec,
};
use home::Home;
use kernel::{Kernel, Kernels, Release};
use template::{Budget, KeyParts, Template, TemplateKey, Templates};

use crate::BootError;
use crate::attach::{DiskSlots, slot_serial, slotted};
use crate::boot::{Booted, ConsoleSink, GuestSide, IMAGE_DISK, Ready, WRITABLE_DISK, launch};
use crate::exchange::Exchange;
use crate::initramfs::initramfs;
use crate::spare::claim;
use volume::{Attachment, DiskSize, blank_name, scratch_copy, scratch_disk};

/// The size of a disk that nobody reads, in bytes: at least that of any real one. A guest goes on with the size that
/// it saw first, and what it mounts later knows its own; file systems of hosts take files of up to 16 TiB.
pub(crate) const PLACEHOLDER: u64 = 15 << 40;

/// What a machine is to be, in the user's terms.
#[derive(Debug, Clone)]
pub struct Machine {
    /// What runs its instructions.
    pub acceleration: Requested,
    /// The number of virtual CPUs.
    pub cpus: u32,
    /// Its memory.
    pub memory: MemorySize,
    /// The release of its kernel; the default kernel if absent.
    pub kernel: Option<Release>,
    /// Its network.
    pub network: Network,
    /// The size of its disk.
    pub disk_size: DiskSize,
    /// How many disks it has room for beside its own.
    pub slots: DiskSlots,
    /// What becomes of it where this host lacks something to confine it with.
    pub confinement: Demand,
}

/// A machine's network, in the user's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// Outbound connections and name resolution.
    #[default]
    User,
    /// No network device at all.
    Isolated,
}

impl std::fmt::Display for Network {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(match self {
            Self::User => "user",
            Self::Isolated => "isolated",
        })
    }
}

impl std::str::FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "user" => Ok(Self::User),
            "isolated" => Ok(Self::Isolated),
            _ => Err(format!("`{text}` is neither `user` nor `isolated`")),
        }
    }
}

/// A machine that can be started: from a template if there is one, else from power-on.
#[derive(Debug)]
pub(crate) struct Plan {
    home: Home,
    accelerator: Accelerator,
    cpus: u32,
    memory: MemorySize,
    kernel: PathBuf,
    kernel_digest: String,
    initramfs: PathBuf,
    network: Network,
    disk_size: DiskSize,
    slots: DiskSlots,
    confinement: Demand,
    attachments: Vec<Attachment>,
    root: File,
    root_id: String,
}

/// Where a machine's changes go.
#[derive(Debug)]
pub(crate) enum WritableDisk {
    /// Nowhere in the end: the disk is gone with the machine.
    Scratch,
    /// Onto this disk, which outlives the machine.
    Kept(File),
}

impl Plan {
    /// Finds everything that `settings` name. `root` is the root file system with the chain ID `root_id`.
    pub(crate) fn new(
        home: &Home,
        settings: &Machine,
        root: File,
        root_id: String,
    ) -> Result<Self, BootError> {
        let acceleration = settings.acceleration.choose()?;
        if let Some(problem) = &acceleration.problem {
            tracing::info!("using translation (tcg): {problem}");
        }
        let kernel = find_kernel(home, settings.kernel.as_ref())?;
        let initramfs = initramfs(home, &kernel)
            .map_err(|source| BootError::Initramfs { release: kernel.release.to_string(), source })?;
        Ok(Self {
            home: home.clone(),
            accelerator: acceleration.accelerator,
            cpus: settings.cpus,
            memory: settings.memory,
            kernel: kernel_image(&kernel, acceleration.accelerator),
            kernel_digest: kernel.digest,
            initramfs,
            network: settings.network,
            disk_size: settings.disk_size,
            slots: settings.slots,
            confinement: settings.confinement,
            attachments: Vec::new(),
            root,
            root_id,
        })
    }

    /// The same with these disks in its slots, of which there are enough.
    pub(crate) fn attach(self, attachments: Vec<Attachment>) -> Self {
        debug_assert!(attachments.len() <= self.slots.number(), "each has a slot");
        Self { attachments, ..self }
    }

    /// Whether it has room for disks beside its own: a spare has nothing in its slots, and nothing can be put there.
    pub(crate) fn has_slots(&self) -> bool {
        self.slots != DiskSlots::default()
    }

    /// The key of the template that a scratch machine can be restored from: one with this image mounted on a
    /// blank disk. `None` if it cannot be told.
    pub(crate) fn image_template(&self) -> Option<TemplateKey> {
        self.key(Durability::Scratch, &self.root_id, &blank_name(self.disk_size))
    }

    /// The key of the template that a machine with any image and any disk can be restored from: one whose agent
    /// answers, and which has not looked at its disks. `None` if it cannot be told.
    pub(crate) fn machine_template(&self) -> Option<TemplateKey> {
        self.key(Durability::Durable, "", "")
    }

    fn key(&self, writable: Durability, root: &str, disk: &str) -> Option<TemplateKey> {
        let told = || {
            let writable = (self.root.try_clone()?, writable);
            // Kernel and initramfs are told by their contents, wherever the state directory is.
            let start = Start::Boot {
                kernel: file_name(&self.kernel),
                initramfs: file_name(&self.initramfs),
                memory: Memory::Private,
            };
            // What is in its slots is no part of a template.
            let empty = |_| self.root.try_clone();
            let slots = (0..self.slots.number()).map(empty).collect::<std::io::Result<Vec<_>>>()?;
            let slots = slots.into_iter().map(|file| (file, Access::ReadWrite(Durability::Durable)));
            let machine =
                engine::fingerprint(&self.machine(start, writable, slots, self.root.try_clone()?)?)?;
            let parts = KeyParts {
                machine: &machine,
                kernel: &self.kernel_digest,
                initramfs: &file_name(&self.initramfs).display().to_string(),
                root,
                disk,
            };
            std::io::Result::Ok(parts.key())
        };
        match told() {
            Ok(key) => Some(key),
            Err(error) => {
                tracing::warn!(%error, "the machine's template cannot be told");
                None
            }
        }
    }

    /// Starts the machine and waits until its agent answers. A template that does not work is thrown away,
    /// and the machine boots. `sink` hears the console.
    pub(crate) async fn start(
        &self,
        disk: WritableDisk,
        template: Option<Template>,
        sink: Option<ConsoleSink>,
    ) -> Result<Booted, BootError> {
        let sink = sink.map(|sink| Arc::new(Mutex::new(sink)));
        if let Some(template) = template {
            let key = template.key.clone();
            match self.restore(template, &disk, again(sink.as_ref())).await {
                Ok(restored) => return Ok(restored),
                // It is this host that lacks something, and not the template.
                Err(error) if error.is_unconfined() => return Err(error),
                Err(error) => {
                    let reason = &error as &dyn std::error::Error;
                    tracing::warn!(%key, reason, "a template cannot be restored and is removed; booting instead");
                    Templates::open(&self.home).discard(&key);
                }
            }
        }
        let disk = match disk {
            WritableDisk::Scratch => (scratch_disk(&self.home, self.disk_size)?, Durability::Scratch),
            WritableDisk::Kept(disk) => (disk, Durability::Durable),
        };
        let first = (disk.0.try_clone().map_err(BootError::Disks)?, disk.1);
        match self.power_up(first, again(sink.as_ref())).await {
            // On very busy hosts, a guest that is translated was seen to find its own good modules damaged, once in
            // thousands of boots. Nothing of the user's has run, and no disk was looked at.
            Err(BootError::Ended { console }) if self.accelerator == Accelerator::Tcg => {
                tracing::warn!(?console, "the guest ended while it booted; booting once more");
                self.power_up(disk, again(sink.as_ref())).await
            }
            outcome => outcome,
        }
    }

    async fn power_up(
        &self,
        disk: (File, Durability),
        sink: Option<ConsoleSink>,
    ) -> Result<Booted, BootError> {
        let guest = self.guest_side(disk.1, None);
        let spec = self.spec(self.power_on(Memory::Private), disk).map_err(BootError::Disks)?;
        launch(spec, guest, sink).await
    }

    /// The machine's template, if there is one.
    pub(crate) fn find_machine_template(&self, budget: Budget) -> Option<Template> {
        let key = self.machine_template().filter(|_| budget != Budget::Off)?;
        Templates::open(&self.home).find(&key)
    }

    /// Takes the spare for the template `key`, if one waits.
    pub(crate) async fn claim_spare(&self, key: &TemplateKey) -> Option<Booted> {
        // Where it was started, parts may have been lacking that are not here.
        if self.confinement == Demand::Whole {
            return None;
        }
        claim(&self.home, key, self.guest_side(Durability::Scratch, Some(key.clone()))).await
    }

    /// Starts a machine that can be saved: its memory and its disk are these files.
    pub(crate) async fn boot_to_save(
        &self,
        disk: File,
        writable: Durability,
        memory: File,
    ) -> Result<Booted, BootError> {
        let spec = self.spec(self.power_on(Memory::File(memory)), (disk, writable));
        launch(spec.map_err(BootError::Disks)?, self.guest_side(writable, None), None).await
    }

    async fn restore(
        &self,
        template: Template,
        disk: &WritableDisk,
        sink: Option<ConsoleSink>,
    ) -> Result<Booted, BootError> {
        let disk = match disk {
            WritableDisk::Scratch => {
                (scratch_copy(&self.home, &template.disk).map_err(BootError::Disks)?, Durability::Scratch)
            }
            WritableDisk::Kept(disk) => (disk.try_clone().map_err(BootError::Disks)?, Durability::Durable),
        };
        let start = Start::Restore(Saved { memory: template.memory, state: template.state });
        let guest = self.guest_side(disk.1, Some(template.key));
        launch(self.spec(start, disk).map_err(BootError::Disks)?, guest, sink).await
    }

    /// What a guest that starts so is, and has to be told.
    fn guest_side(&self, writable: Durability, template: Option<TemplateKey>) -> GuestSide {
        // Only a template for scratch machines has the image mounted.
        let ready = match (&template, writable) {
            (None, _) => Ready::Nothing,
            (Some(_), Durability::Durable) => Ready::Machine,
            (Some(_), Durability::Scratch) => Ready::Root,
        };
        let attached = slotted(&self.attachments);
        GuestSide {
            accelerator: self.accelerator,
            template,
            network: self.network,
            writable,
            rescue: false,
            ready,
            attached,
        }
    }

    fn power_on(&self, memory: Memory) -> Start {
        Start::Boot { kernel: self.kernel.clone(), initramfs: self.initramfs.clone(), memory }
    }

    fn spec(&self, start: Start, writable: (File, Durability)) -> std::io::Result<VmSpec> {
        let mut slots = Vec::new();
        for slot in 0..self.slots.number() {
            slots.push(match self.attachments.get(slot) {
                Some(attachment) => (attachment.disk.try_clone()?, access(attachment)),
                None => (placeholder(&self.home)?, Access::ReadWrite(Durability::Scratch)),
            });
        }
        self.machine(start, writable, slots, Exchange::blank()?)
    }

    fn machine(
        &self,
        start: Start,
        writable: (File, Durability),
        slots: impl IntoIterator<Item = (File, Access)>,
        exchange: File,
    ) -> std::io::Result<VmSpec> {
        let image =
            Disk { serial: IMAGE_DISK.to_owned(), file: self.root.try_clone()?, access: Access::ReadOnly };
        let writable = Disk {
            serial: WRITABLE_DISK.to_owned(),
            file: writable.0,
            access: Access::ReadWrite(writable.1),
        };
        let slots = slots.into_iter().enumerate();
        let slots = slots.map(|(slot, (file, access))| Disk { serial: slot_serial(slot), file, access });
        let exchange = Disk {
            serial: proto::EXCHANGE_DISK.to_owned(),
            file: exchange,
            access: Access::ReadWrite(Durability::Scratch),
        };
        Ok(VmSpec {
            accelerator: self.accelerator,
            cpus: self.cpus,
            memory: self.memory,
            start,
            disks: [image, writable].into_iter().chain(slots).chain([exchange]).collect(),
            network: match self.network {
                Network::User => NetworkDevice::Ethernet { mtu: network::MTU },
                Network::Isolated => NetworkDevice::None,
            },
            cable: None,
            agent_port: proto::PORT_NAME,
            confinement: self.confinement,
        })
    }
}

/// What the machine may do with a disk.
fn access(attachment: &Attachment) -> Access {
    match attachment.access {
        volume::Access::ReadOnly => Access::ReadOnly,
        volume::Access::ReadWrite => Access::ReadWrite(Durability::Durable),
    }
}

/// A disk that nobody reads.
pub(crate) fn placeholder(home: &Home) -> std::io::Result<File> {
    let disk = tempfile::tempfile_in(home.tmp())?;
    disk.set_len(PLACEHOLDER)?;
    Ok(disk)
}

/// The same sink once more, for the next attempt to start.
fn again(sink: Option<&Arc<Mutex<ConsoleSink>>>) -> Option<ConsoleSink> {
    let sink = Arc::clone(sink?);
    Some(Box::new(move |bytes| sink.lock().expect("no holder panics")(bytes)))
}

fn file_name(path: &Path) -> PathBuf {
    path.file_name().map(PathBuf::from).unwrap_or_default()
}

fn find_kernel(home: &Home, release: Option<&Release>) -> Result<Kernel, BootError> {
    let kernels = Kernels::open(home);
    match release {
        Some(release) => kernels.find(release)?.ok_or_else(|| BootError::UnknownKernel(release.clone())),
        None => kernels.default()?.ok_or(BootError::NoKernel),
    }
}

/// Under translation, unpacking the kernel would cost more than everything that follows.
fn kernel_image(kernel: &Kernel, accelerator: Accelerator) -> PathBuf {
    match (accelerator, &kernel.vmlinux) {
        (Accelerator::Tcg, Some(unpacked)) => unpacked.clone(),
        _ => kernel.image.clone(),
    }
}

//! A [`VmSpec`] in QEMU's words.
//!
//! The machine is the smallest PCI one that can be saved and restored: no firmware settings of the user, no
//! USB, no VGA, virtio devices only. It is `q35` and not `pc`, whose interrupt routing costs a guest under
//! translation 0.4 s more to set up; `docs/design/boot.md` has the figures.

use std::ffi::OsString;

use serde_json::json;

use crate::{Accelerator, Access, Durability, Memory, NetworkDevice, Start, VmSpec};

/// The descriptors that QEMU finds open, by number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Descriptors {
    pub(super) control: i32,
    pub(super) console: i32,
    pub(super) agent: i32,
    /// The file of the guest's memory, where it has one.
    pub(super) memory: i32,
    /// The saved state, where there is one.
    pub(super) state: i32,
    /// The network's, where there is one.
    pub(super) cable: i32,
    /// The first disk's; the others follow.
    pub(super) first_disk: i32,
}

/// QEMU's arguments.
pub(super) fn arguments(spec: &VmSpec, descriptors: Descriptors) -> Vec<OsString> {
    let mut line = Line::default();
    line.add("-nodefaults", None).add("-no-user-config", None).add("-no-reboot", None);
    line.add("-display", Some("none"));
    line.add("-name", Some("microagent"));
    // QEMU may neither start programs nor gain rights, whatever a guest makes it do.
    line.add("-sandbox", Some("on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"));
    machine(&mut line, spec);
    start(&mut line, spec, descriptors);
    channels(&mut line, spec.agent_port, descriptors);
    for (index, disk) in spec.disks.iter().enumerate() {
        add_disk(&mut line, index, disk, descriptors);
    }
    if let NetworkDevice::Ethernet { mtu } = spec.network {
        // The card itself knows no network: frames go to and come from a descriptor.
        let cable = format!("stream,id=net,server=off,addr.type=fd,addr.str={}", descriptors.cable);
        line.add("-netdev", Some(&cable));
        // Nobody boots from the network, so the card needs no boot program.
        line.add("-device", Some(&format!("virtio-net-pci,netdev=net,romfile=,host_mtu={mtu}")));
    }
    line.words
}

fn machine(line: &mut Line, spec: &VmSpec) {
    let (acceleration, processor) = match spec.accelerator {
        Accelerator::Kvm => ("kvm", "host"),
        // Five-level page tables only make each walk longer under translation, and moving strings byte by byte,
        // which a processor that claims `erms` is best at, takes eight times as many steps as by words.
        Accelerator::Tcg => ("tcg", "max,la57=off,erms=off"),
    };
    line.add("-accel", Some(acceleration)).add("-cpu", Some(processor));
    // Memory has a name so that a restored machine finds it, in a file or not.
    let machine =
        "q35,memory-backend=memory,usb=off,vmport=off,smm=off,hpet=off,dump-guest-core=off,mem-merge=off";
    line.add("-machine", Some(machine));
    line.add("-m", Some(&format!("{}M", spec.memory.as_mebibytes())));
    line.add("-smp", Some(&spec.cpus.to_string()));
    line.add("-device", Some("virtio-rng-pci"));
}

fn start(line: &mut Line, spec: &VmSpec, descriptors: Descriptors) {
    let size = spec.memory.as_mebibytes();
    let in_file = |share| {
        let path = format!("/proc/self/fd/{}", descriptors.memory);
        format!("memory-backend-file,id=memory,size={size}M,mem-path={path},share={share}")
    };
    match &spec.start {
        Start::Boot { kernel, initramfs, memory } => {
            let object = match memory {
                Memory::Private => format!("memory-backend-ram,id=memory,size={size}M"),
                Memory::File(_) => in_file("on"),
            };
            line.add("-object", Some(&object));
            line.add_path("-kernel", kernel);
            line.add_path("-initrd", initramfs);
            line.add("-append", Some(&kernel_arguments(spec)));
        }
        Start::Restore(_) => {
            line.add("-object", Some(&in_file("off")));
            line.add("-incoming", Some("defer"));
        }
    }
}

/// The kernel says only what it must, ends the machine when it panics, and skips what a virtual machine lacks.
/// `no_timer_check` is not for speed: on a loaded host without KVM the check finds ticks late, and panics.
fn kernel_arguments(spec: &VmSpec) -> String {
    let always = "console=ttyS0 quiet panic=-1 random.trust_cpu=on tsc=reliable no_timer_check \
                  cryptomgr.notests";
    match spec.accelerator {
        Accelerator::Kvm => always.to_owned(),
        // Translated code does not speculate.
        Accelerator::Tcg => format!("{always} mitigations=off"),
    }
}

fn channels(line: &mut Line, agent_port: &str, descriptors: Descriptors) {
    for (id, descriptor) in
        [("control", descriptors.control), ("console", descriptors.console), ("agent", descriptors.agent)]
    {
        line.add("-chardev", Some(&format!("socket,id={id},fd={descriptor}")));
    }
    line.add("-mon", Some("chardev=control,mode=control"));
    line.add("-serial", Some("chardev:console"));
    line.add("-device", Some("virtio-serial-pci,max_ports=2"));
    line.add("-device", Some(&format!("virtserialport,chardev=agent,name={agent_port}")));
}

fn add_disk(line: &mut Line, index: usize, disk: &crate::Disk, descriptors: Descriptors) {
    let descriptor = descriptors.first_disk + i32::try_from(index).expect("few disks");
    let set = index + 1;
    line.add("-add-fd", Some(&format!("fd={descriptor},set={set}")));
    let read_only = disk.access == Access::ReadOnly;
    let no_flush = disk.access == Access::ReadWrite(Durability::Scratch);
    let node = json!({
        "driver": "raw", "node-name": format!("disk{index}"), "read-only": read_only, "discard": "unmap",
        "cache": { "no-flush": no_flush },
        "file": {
            "driver": "file", "filename": format!("/dev/fdset/{set}"), "read-only": read_only,
            "locking": "off", "discard": "unmap", "cache": { "no-flush": no_flush },
        },
    });
    line.add("-blockdev", Some(&node.to_string()));
    // A guest that is told that a write failed may lose what it had acknowledged before: it waits instead.
    let on_error = if read_only { "" } else { ",werror=stop" };
    line.add(
        "-device",
        Some(&format!("virtio-blk-pci,drive=disk{index},serial={},num-queues=1{on_error}", disk.serial)),
    );
}

#[derive(Default)]
struct Line {
    words: Vec<OsString>,
}

impl Line {
    fn add(&mut self, option: &str, value: Option<&str>) -> &mut Self {
        self.words.push(option.into());
        self.words.extend(value.map(OsString::from));
        self
    }

    fn add_path(&mut self, option: &str, path: &std::path::Path) {
        self.words.push(option.into());
        self.words.push(path.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Disk, MemorySize};
    use confine::Demand;

    fn spec(accelerator: Accelerator, network: NetworkDevice) -> VmSpec {
        VmSpec {
            accelerator,
            cpus: 2,
            memory: MemorySize::mebibytes(256),
            start: Start::Boot { kernel: "/k".into(), initramfs: "/i".into(), memory: Memory::Private },
            disks: vec![Disk {
                serial: "image".to_owned(),
                file: tempfile::tempfile().unwrap(),
                access: Access::ReadOnly,
            }],
            network,
            cable: None,
            agent_port: "port",
            confinement: Demand::default(),
        }
    }

    fn line(spec: &VmSpec) -> String {
        let descriptors =
            Descriptors { control: 3, console: 4, agent: 5, memory: 6, state: 7, cable: 8, first_disk: 9 };
        let words = arguments(spec, descriptors);
        words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn an_isolated_machine_has_no_network_device() {
        let line = line(&spec(Accelerator::Tcg, NetworkDevice::None));
        assert!(!line.contains("net"), "{line}");
    }

    #[test]
    fn a_read_only_disk_is_read_only_at_every_layer() {
        let line = line(&spec(Accelerator::Tcg, NetworkDevice::Ethernet { mtu: 1500 }));
        assert_eq!(line.matches("\"read-only\":true").count(), 2, "{line}");
        assert!(line.contains("stream,id=net,server=off,addr.type=fd,addr.str=8"), "{line}");
    }

    #[test]
    fn mitigations_stay_on_where_code_runs_on_the_processor() {
        assert!(line(&spec(Accelerator::Tcg, NetworkDevice::None)).contains("mitigations=off"));
        assert!(!line(&spec(Accelerator::Kvm, NetworkDevice::None)).contains("mitigations"));
    }
}

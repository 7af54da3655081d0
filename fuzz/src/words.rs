//! Text taken for each of the small languages that users, files and images speak.

use std::fmt::Display;
use std::str::FromStr;

/// Reads `bytes` as everything that is read from a word.
///
/// # Panics
///
/// If what was read is not read again from how it is shown.
pub fn read_words(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    returns::<image::Reference>(text);
    returns::<image::Digest>(text);
    returns::<image::Platform>(text);
    returns::<home::Name>(text);
    returns::<kernel::Release>(text);
    returns::<workspace::MachineId>(text);
    reads::<image::RegistryName>(text);
    reads::<image::Change>(text);
    reads::<volume::Mount>(text);
    reads::<volume::MountPoint>(text);
    reads::<volume::DiskSize>(text);
    reads::<network::PublishSpec>(text);
    reads::<network::HostEntry>(text);
    reads::<engine::MemorySize>(text);
    reads::<engine::QemuVersion>(text);
    reads::<workspace::Artifact>(text);
    reads::<workspace::RestartPolicy>(text);
    reads::<workspace::StopSignal>(text);
    reads::<workspace::Tmpfs>(text);
    reads::<template::Budget>(text);
    reads::<template::TemplateKey>(text);
}

fn reads<T: FromStr>(text: &str) {
    let _ = text.parse::<T>();
}

fn returns<T: FromStr + Display + PartialEq + std::fmt::Debug>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        let shown = value.to_string();
        let again = shown
            .parse::<T>()
            .unwrap_or_else(|_| panic!("`{shown}`, as which `{text}` is shown, is refused"));
        assert_eq!(again, value, "`{text}` is shown as `{shown}`");
    }
}

//! The x86 boot image: which release it is, and the ELF kernel packed inside it.
//!
//! ```text
//! 0x000  setup_sects + 1 sectors of real-mode code, with the setup header in them:
//!          0x1f1 u8   setup_sects (0 means 4)      0x20e u16  version text, offset from 0x200
//!          0x202      "HdrS"                       0x248 u32  payload offset, from the protected part
//!          0x206 u16  protocol, at least 2.08      0x24c u32  payload length
//! ....   the protected part: an unpacker, and the payload: vmlinux, packed
//! ```
//!
//! Source: Documentation/arch/x86/boot.rst of the Linux kernel. The PVH entry point is the ELF note
//! `XEN_ELFNOTE_PHYS32_ENTRY` (type 18, name `Xen`): include/xen/interface/elfnote.h.

use std::io::{self, Read, Write};

use elf::ElfBytes;
use elf::endian::LittleEndian;
use elf::note::Note;
use reader::{Input, Job, Output, ReadError, ask};
use serde::{Deserialize, Serialize};

use crate::InstallError;
use crate::decompress::{Packing, unpacked};
use crate::release::{InvalidRelease, Release};

/// Images are below 64 MiB.
pub(crate) const MAX_IMAGE: u64 = 256 << 20;
const MAX_VMLINUX: u64 = 256 << 20;
const XEN_PHYS32_ENTRY: u64 = 18;

/// Why a file is not taken as a kernel.
#[derive(Debug, thiserror::Error)]
pub enum BzImageError {
    /// The setup header is not there.
    #[error("it has no boot header: not an x86 kernel image")]
    NotBzImage,
    /// The boot protocol is older than 2.08 (Linux 2.6.26).
    #[error("its boot protocol {major}.{minor} is too old")]
    TooOld {
        /// The protocol's major version.
        major: u8,
        /// The protocol's minor version.
        minor: u8,
    },
    /// The header points outside of the file.
    #[error("it is truncated or damaged")]
    Truncated,
    /// The header's version text names no release.
    #[error("its version is unusable")]
    Version(#[from] InvalidRelease),
    /// The packed kernel could not be unpacked.
    #[error("failed to unpack it")]
    Unpack(#[source] io::Error),
    /// The unpacked kernel is no ELF file, or too large for one.
    #[error("what is packed in it is no kernel")]
    Payload,
}

/// Which release an image is, and the ELF kernel packed in it.
pub static UNPACK_IMAGE: Job<(), UnreadableImage> = Job { name: "kernel-image", work: unpack_image };

/// Why an image was not taken as a kernel, in the words of who read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnreadableImage {
    /// [`BzImageError::NotBzImage`].
    NotBzImage,
    /// [`BzImageError::TooOld`].
    TooOld(u8, u8),
    /// [`BzImageError::Truncated`].
    Truncated,
    /// [`BzImageError::Version`], and the version's text.
    Version(String),
    /// [`BzImageError::Unpack`].
    Unpack(String),
    /// [`BzImageError::Payload`].
    Payload,
}

/// Tells the release of `image`, and writes the kernel packed in it to the file that `place` makes, if a loader can
/// enter it by its PVH note. A [`reader`] looks into the image, a process that may do nothing else.
pub(crate) fn unpack_to<W: Write>(
    image: impl Read + Send + 'static,
    place: impl FnOnce() -> io::Result<W>,
) -> Result<Release, InstallError> {
    let asked = ask(&UNPACK_IMAGE, &(), image, |items| {
        let nothing = || InstallError::from(BzImageError::Payload);
        let (release, unpacked): (String, bool) =
            items.next_item().map_err(InstallError::Copy)?.ok_or_else(nothing)?;
        let release: Release =
            release.parse().map_err(|error| InstallError::from(BzImageError::Version(error)))?;
        if unpacked {
            let mut place = place()?;
            let written = io::copy(&mut items.by_ref().take(MAX_VMLINUX + 1), &mut place)?;
            if written > MAX_VMLINUX {
                return Err(nothing());
            }
        }
        // The end, or why there is none.
        items.next_item::<()>()?;
        Ok(release)
    });
    asked.map(|asked| asked.taken)
}

fn unpack_image((): (), image: &mut Input, output: &mut Output) -> Result<(), UnreadableImage> {
    let mut bytes = Vec::new();
    let reading = |error: io::Error| UnreadableImage::Unpack(error.to_string());
    image.take(MAX_IMAGE + 1).read_to_end(&mut bytes).map_err(reading)?;
    if bytes.len() as u64 > MAX_IMAGE {
        return Err(UnreadableImage::Payload);
    }
    let image = BzImage::parse(&bytes)?;
    let vmlinux = image.unpack_pvh()?;
    let head = (image.release.as_str(), vmlinux.is_some());
    output.item(&head, &mut vmlinux.unwrap_or_default().as_slice()).map_err(reading)
}

impl From<BzImageError> for UnreadableImage {
    fn from(error: BzImageError) -> Self {
        match error {
            BzImageError::NotBzImage => Self::NotBzImage,
            BzImageError::TooOld { major, minor } => Self::TooOld(major, minor),
            BzImageError::Truncated => Self::Truncated,
            BzImageError::Version(error) => Self::Version(error.0),
            BzImageError::Unpack(error) => Self::Unpack(error.to_string()),
            BzImageError::Payload => Self::Payload,
        }
    }
}

impl From<ReadError<UnreadableImage>> for InstallError {
    fn from(error: ReadError<UnreadableImage>) -> Self {
        let printable =
            |said: String| -> String { said.chars().filter(|c| !c.is_control()).take(1024).collect() };
        let error = match error {
            ReadError::Input(error) => return Self::Copy(error),
            ReadError::Failed(UnreadableImage::NotBzImage) => BzImageError::NotBzImage,
            ReadError::Failed(UnreadableImage::TooOld(major, minor)) => BzImageError::TooOld { major, minor },
            ReadError::Failed(UnreadableImage::Truncated) => BzImageError::Truncated,
            ReadError::Failed(UnreadableImage::Version(text)) => match printable(text).parse::<Release>() {
                Ok(_) => BzImageError::Truncated,
                Err(error) => BzImageError::Version(error),
            },
            ReadError::Failed(UnreadableImage::Unpack(said)) => {
                BzImageError::Unpack(io::Error::other(printable(said)))
            }
            ReadError::Failed(UnreadableImage::Payload) => BzImageError::Payload,
            other => BzImageError::Unpack(io::Error::other(other)),
        };
        error.into()
    }
}

/// A boot image whose header was checked.
#[derive(Debug)]
struct BzImage<'a> {
    release: Release,
    payload: &'a [u8],
}

impl<'a> BzImage<'a> {
    fn parse(image: &'a [u8]) -> Result<Self, BzImageError> {
        if bytes(image, 0x202, 4).ok_or(BzImageError::NotBzImage)? != b"HdrS" {
            return Err(BzImageError::NotBzImage);
        }
        let [minor, major] = u16_at(image, 0x206)?.to_le_bytes();
        if (major, minor) < (2, 8) {
            return Err(BzImageError::TooOld { major, minor });
        }
        Ok(Self { release: release(image)?, payload: payload(image)? })
    }

    /// The ELF kernel packed inside, if a loader can enter it by its PVH note.
    fn unpack_pvh(&self) -> Result<Option<Vec<u8>>, BzImageError> {
        if Packing::of(self.payload) == Packing::Plain && !self.payload.starts_with(&elf::abi::ELFMAGIC) {
            tracing::debug!(release = %self.release, "the kernel is packed in a way unknown here");
            return Ok(None);
        }
        let mut vmlinux = Vec::new();
        let unpacked = unpacked(self.payload).map_err(BzImageError::Unpack)?;
        unpacked.take(MAX_VMLINUX + 1).read_to_end(&mut vmlinux).map_err(BzImageError::Unpack)?;
        if !vmlinux.starts_with(&elf::abi::ELFMAGIC) || vmlinux.len() as u64 > MAX_VMLINUX {
            return Err(BzImageError::Payload);
        }
        Ok(has_pvh_entry(&vmlinux).then_some(vmlinux))
    }
}

fn release(image: &[u8]) -> Result<Release, BzImageError> {
    let start = usize::from(u16_at(image, 0x20e)?) + 0x200;
    let text = image.get(start..).ok_or(BzImageError::Truncated)?;
    let word = text.iter().take(256).take_while(|byte| byte.is_ascii_graphic());
    let word: String = word.map(|&byte| char::from(byte)).collect();
    Ok(word.parse()?)
}

fn payload(image: &[u8]) -> Result<&[u8], BzImageError> {
    let sectors = match bytes(image, 0x1f1, 1).ok_or(BzImageError::Truncated)?[0] {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let offset = u32_at(image, 0x248)? as usize;
    let length = u32_at(image, 0x24c)? as usize;
    bytes(image, (sectors + 1) * 512 + offset, length).ok_or(BzImageError::Truncated)
}

/// A kernel whose notes cannot be read has no entry point that could be used.
fn has_pvh_entry(vmlinux: &[u8]) -> bool {
    let Ok(elf) = ElfBytes::<LittleEndian>::minimal_parse(vmlinux) else { return false };
    let segments = elf.segments().into_iter().flatten();
    let notes = segments.filter(|segment| segment.p_type == elf::abi::PT_NOTE);
    notes
        .filter_map(|segment| elf.segment_data_as_notes(&segment).ok())
        .flatten()
        .any(|note| is_pvh_entry(&note))
}

fn is_pvh_entry(note: &Note<'_>) -> bool {
    matches!(note, Note::Unknown(note) if note.n_type == XEN_PHYS32_ENTRY && note.name.starts_with(b"Xen"))
}

fn u16_at(image: &[u8], offset: usize) -> Result<u16, BzImageError> {
    let field = bytes(image, offset, 2).ok_or(BzImageError::Truncated)?;
    Ok(u16::from_le_bytes(field.try_into().expect("two bytes were asked for")))
}

fn u32_at(image: &[u8], offset: usize) -> Result<u32, BzImageError> {
    let field = bytes(image, offset, 4).ok_or(BzImageError::Truncated)?;
    Ok(u32::from_le_bytes(field.try_into().expect("four bytes were asked for")))
}

fn bytes(image: &[u8], offset: usize, length: usize) -> Option<&[u8]> {
    image.get(offset..offset.checked_add(length)?)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An image of two setup sectors with `payload` after sixteen bytes of unpacker.
    pub(crate) fn image(version: &str, payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 1024];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x206..0x208].copy_from_slice(&[15, 2]);
        image[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
        image[0x248..0x24c].copy_from_slice(&16_u32.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
        image[0x300..0x300 + version.len()].copy_from_slice(version.as_bytes());
        image.extend([0x90; 16]);
        image.extend_from_slice(payload);
        image
    }

    /// A smallest ELF file with one segment of one note.
    pub(crate) fn vmlinux(note: u32, name: [u8; 4]) -> Vec<u8> {
        let mut file = vec![0; 120];
        file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        file[16..20].copy_from_slice(&[2, 0, 62, 0]);
        file[20] = 1;
        file[32] = 64;
        file[52..58].copy_from_slice(&[64, 0, 56, 0, 1, 0]);
        file[64] = 4;
        file[72] = 120;
        file[96] = 20;
        file[112] = 4;
        for number in [4, 4, note] {
            file.extend(number.to_le_bytes());
        }
        file.extend(name);
        file.extend([0; 4]);
        file
    }

    #[test]
    fn the_release_is_the_first_word_of_the_version() {
        let image = image("6.1.0-1-amd64 (builder@host) #1 SMP", b"");
        assert_eq!(BzImage::parse(&image).unwrap().release.as_str(), "6.1.0-1-amd64");
    }

    #[test]
    fn a_kernel_with_a_pvh_entry_is_unpacked() {
        let elf = vmlinux(18, *b"Xen\0");
        for payload in [elf.clone(), zstd::encode_all(elf.as_slice(), 1).unwrap()] {
            let image = image("6.1", &payload);
            assert_eq!(BzImage::parse(&image).unwrap().unpack_pvh().unwrap(), Some(elf.clone()));
        }
    }

    #[test]
    fn a_kernel_without_a_pvh_entry_is_left_packed() {
        for elf in [vmlinux(17, *b"Xen\0"), vmlinux(18, *b"GNU\0")] {
            let image = image("6.1", &elf);
            assert_eq!(BzImage::parse(&image).unwrap().unpack_pvh().unwrap(), None);
        }
    }

    #[test]
    fn a_kernel_packed_in_an_unknown_way_is_left_packed() {
        let image = image("6.1", b"BZh91AY&SY");
        assert_eq!(BzImage::parse(&image).unwrap().unpack_pvh().unwrap(), None);
    }

    #[test]
    fn what_is_no_kernel_is_refused() {
        assert!(matches!(BzImage::parse(b"MZ"), Err(BzImageError::NotBzImage)));
        assert!(matches!(BzImage::parse(&[0; 4096]), Err(BzImageError::NotBzImage)));
        let mut cut = image("6.1", &[0; 100]);
        cut.pop();
        assert!(matches!(BzImage::parse(&cut), Err(BzImageError::Truncated)));
        let packed_text = zstd::encode_all(b"text".as_slice(), 1).unwrap();
        let image = image("6.1", &packed_text);
        assert!(matches!(BzImage::parse(&image).unwrap().unpack_pvh(), Err(BzImageError::Payload)));
    }

    proptest! {
        #[test]
        fn a_damaged_image_never_panics(at in 0..1200_usize, value: u8, cut in 0..1200_usize) {
            let mut image = image("6.1", &vmlinux(18, *b"Xen\0"));
            let at = at % image.len();
            image[at] = value;
            image.truncate(image.len().min(cut + 600));
            if let Ok(image) = BzImage::parse(&image) {
                let _ = image.unpack_pvh();
            }
        }
    }
}

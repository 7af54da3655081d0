//! Bytes made to look like a tar archive, so that a mutation of one gets past the checksums of its headers.

const BLOCK: usize = 512;
const SIZE: std::ops::Range<usize> = 124..136;
const CHECKSUM: std::ops::Range<usize> = 148..156;

/// `bytes` with the checksum of each header made good, and sizes that lead beyond the end made small.
///
/// POSIX.1-2017, pax, "ustar Interchange Format".
pub(crate) fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut archive = bytes.to_vec();
    let mut at = 0;
    while at + BLOCK <= archive.len() {
        let rest = archive.len() - at - BLOCK;
        let header = &mut archive[at..at + BLOCK];
        at += BLOCK;
        if header.iter().all(|byte| *byte == 0) {
            continue;
        }
        let mut size = size(&header[SIZE]);
        if size.is_none_or(|size| size > rest) {
            // What the size was still says how much it becomes.
            let small = usize::from(header[SIZE.start]) * usize::from(header[SIZE.end - 2]) % (rest + 1);
            header[SIZE].copy_from_slice(format!("{small:011o}\0").as_bytes());
            size = Some(small);
        }
        header[CHECKSUM].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        at += size.unwrap_or(0).next_multiple_of(BLOCK);
    }
    archive
}

/// What a header says how long its content is, if it says so in octal digits.
fn size(field: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(field).ok()?.trim_matches(['\0', ' ']);
    usize::from_str_radix(text, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_that_is_sound_stays_as_it_is() {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(3);
        tar.append_data(&mut header, "file", &b"abc"[..]).unwrap();
        let archive = tar.into_inner().unwrap();
        let names = |bytes: &[u8]| {
            tar::Archive::new(bytes)
                .entries()
                .unwrap()
                .map(|entry| entry.unwrap().path().unwrap().into_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(&sealed(&archive)), names(&archive));
        let mut damaged = archive.clone();
        damaged[0] = b'g';
        assert_eq!(names(&sealed(&damaged)), [std::path::Path::new("gile")]);
    }
}

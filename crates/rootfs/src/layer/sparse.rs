//! Sparse files in archives: GNU's old header, and its three ways with pax records.
//!
//! Each gives the size of the file and its segments of data, which follow one another in the archive. In
//! version 1.0 the list of segments stands before the data: numbers in decimal, one a line, to 512 bytes.

use super::LayerError;
use super::number;
use super::stream::Stream;
use crate::Limits;

/// Where the stored data of a file belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SparseMap {
    /// Bytes of the whole file.
    pub(crate) size: u64,
    /// Offsets and lengths of what is stored, ascending.
    pub(crate) segments: Vec<(u64, u64)>,
}

/// What `GNU.sparse.*` records said.
#[derive(Debug, Clone, Default)]
pub(super) struct PaxSparse {
    pub(super) name: Option<Vec<u8>>,
    major: Option<u64>,
    minor: Option<u64>,
    size: Option<u64>,
    /// An offset whose length is still to come.
    offset: Option<u64>,
    segments: Option<Vec<(u64, u64)>>,
}

const INVALID: LayerError = LayerError::Header("an invalid sparse file");

impl PaxSparse {
    /// Takes over one record, `key` being what follows `GNU.sparse.`.
    pub(super) fn apply(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"name" => self.name = Some(value.to_vec()).filter(|name| !name.is_empty()),
            b"major" => self.major = Some(number::decimal(value)?),
            b"minor" => self.minor = Some(number::decimal(value)?),
            b"size" | b"realsize" => self.size = Some(number::decimal(value)?),
            b"numblocks" => drop(self.segments.get_or_insert_default()),
            b"offset" => self.offset = Some(number::decimal(value)?),
            b"numbytes" => {
                let segment = (self.offset.take()?, number::decimal(value)?);
                self.segments.get_or_insert_default().push(segment);
            }
            b"map" => self.segments = Some(parse_map(value)?),
            _ => {}
        }
        Some(())
    }

    /// The map of the file whose data starts here, if it is sparse, and how many bytes the map itself took.
    pub(super) fn into_map(
        self,
        stream: &mut Stream<'_, '_>,
        stored: u64,
        limits: &Limits,
    ) -> Result<Option<(SparseMap, u64)>, LayerError> {
        let (map, taken) = match (self.major.unwrap_or(0), self.minor.unwrap_or(0), self.segments) {
            (1, 0, _) => {
                let (segments, taken) = read_map(stream, stored, limits)?;
                (SparseMap { size: self.size.ok_or(INVALID)?, segments }, taken)
            }
            (0, _, Some(segments)) => (SparseMap { size: self.size.ok_or(INVALID)?, segments }, 0),
            (0, _, None) => return Ok(None),
            _ => return Err(LayerError::Header("a sparse file of an unknown version")),
        };
        map.check(stored - taken)?;
        Ok(Some((map, taken)))
    }
}

impl SparseMap {
    /// The map in an old GNU header and the blocks behind it.
    pub(super) fn read_old(
        header: &tar::GnuHeader,
        stream: &mut Stream<'_, '_>,
        stored: u64,
        limits: &Limits,
    ) -> Result<Self, LayerError> {
        let mut segments = Vec::new();
        push_old(&mut segments, &header.sparse)?;
        let mut is_extended = header.isextended[0] == 1;
        while is_extended {
            if segments.len() * 24 > limits.max_header_bytes {
                return Err(LayerError::Header("too many segments in a sparse file"));
            }
            let mut block = tar::GnuExtSparseHeader::new();
            block.as_mut_bytes().copy_from_slice(&stream.read(512)?);
            push_old(&mut segments, &block.sparse)?;
            is_extended = block.isextended[0] == 1;
        }
        let size = number::unsigned_field(&header.realsize).ok_or(INVALID)?;
        let map = Self { size, segments };
        map.check(stored)?;
        Ok(map)
    }

    /// Segments must ascend, stay within the file, and make up all that is stored.
    fn check(&self, stored: u64) -> Result<(), LayerError> {
        let (mut end, mut total) = (0_u64, 0_u64);
        for &(offset, length) in &self.segments {
            if offset < end {
                return Err(INVALID);
            }
            end = offset.checked_add(length).ok_or(INVALID)?;
            total += length;
        }
        if end > self.size || total != stored {
            return Err(INVALID);
        }
        Ok(())
    }
}

fn push_old(segments: &mut Vec<(u64, u64)>, found: &[tar::GnuSparseHeader]) -> Result<(), LayerError> {
    for segment in found.iter().take_while(|segment| segment.offset[0] != 0) {
        let field = |bytes| number::unsigned_field(bytes).ok_or(INVALID);
        segments.push((field(&segment.offset)?, field(&segment.numbytes)?));
    }
    Ok(())
}

/// `OFFSET,LENGTH,OFFSET,LENGTH…`, as in version 0.1.
fn parse_map(text: &[u8]) -> Option<Vec<(u64, u64)>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    let numbers: Vec<u64> = text.split(|&byte| byte == b',').map(number::decimal).collect::<Option<_>>()?;
    let (pairs, rest) = numbers.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|&[offset, length]| (offset, length)).collect())
}

/// The list of segments before the data, as in version 1.0, and the bytes it takes: `COUNT`, then offsets and
/// lengths, a line each.
fn read_map(
    stream: &mut Stream<'_, '_>,
    stored: u64,
    limits: &Limits,
) -> Result<(Vec<(u64, u64)>, u64), LayerError> {
    let mut text = Vec::new();
    let mut lines = 0;
    let mut wanted = None;
    while wanted.is_none_or(|wanted| lines < wanted) {
        if text.len() as u64 + 512 > stored || text.len() >= limits.max_header_bytes {
            return Err(INVALID);
        }
        let block = stream.read(512)?;
        lines += block.split(|&byte| byte == b'\n').count() - 1;
        text.extend_from_slice(&block);
        if lines > 0 && wanted.is_none() {
            wanted = Some(lines_wanted(&text)?);
        }
    }
    Ok((parse_lines(&text)?, text.len() as u64))
}

fn lines_wanted(text: &[u8]) -> Result<usize, LayerError> {
    let count = text.split(|&byte| byte == b'\n').next().and_then(number::decimal).ok_or(INVALID)?;
    usize::try_from(count).ok().and_then(|count| count.checked_mul(2)?.checked_add(1)).ok_or(INVALID)
}

fn parse_lines(text: &[u8]) -> Result<Vec<(u64, u64)>, LayerError> {
    let lines = text.split(|&byte| byte == b'\n').take(lines_wanted(text)?).skip(1);
    let numbers: Vec<u64> = lines.map(number::decimal).collect::<Option<_>>().ok_or(INVALID)?;
    Ok(numbers.as_chunks::<2>().0.iter().map(|&[offset, length]| (offset, length)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_must_ascend_and_account_for_all_data() {
        let check = |segments: &[(u64, u64)], stored| {
            SparseMap { size: 100, segments: segments.to_vec() }.check(stored).is_ok()
        };
        assert!(check(&[], 0));
        assert!(check(&[(0, 10), (50, 50), (100, 0)], 60));
        assert!(!check(&[(50, 10), (40, 5)], 15));
        assert!(!check(&[(0, 10), (5, 10)], 20));
        assert!(!check(&[(90, 11)], 11));
        assert!(!check(&[(0, 10)], 9));
        assert!(!check(&[(u64::MAX, 2)], 2));
    }

    #[test]
    fn a_list_of_segments_has_two_lines_for_each() {
        assert_eq!(parse_lines(b"2\n0\n10\n20\n5\n\0\0").unwrap(), [(0, 10), (20, 5)]);
        assert_eq!(parse_lines(b"0\n\0").unwrap(), []);
        assert_eq!(lines_wanted(b"7\n1").unwrap(), 15);
        for bad in ["x\n", "18446744073709551615\n", "9223372036854775808\n"] {
            assert!(lines_wanted(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(parse_lines(b"1\n0\nx\n").is_err());
    }
}

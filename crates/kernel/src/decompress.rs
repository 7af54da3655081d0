//! Decompression by magic number, streaming and with bounded memory: gzip, xz, lzma, zstd, and the legacy
//! LZ4 frame that kernels are packed in; anything else is passed through.

use std::io::{self, BufRead, Read};

use liblzma::stream::Stream;

/// What a decoder of the LZMA family may allocate; `xz -9` needs 65 MiB.
const MAX_LZMA_MEMORY: u64 = 256 << 20;
/// A legacy LZ4 frame holds blocks of this size, the last one excepted.
const LZ4_BLOCK: usize = 8 << 20;

/// The ways of packing that are known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    Plain,
    Gzip,
    Xz,
    Lzma,
    Zstd,
    Lz4Legacy,
}

impl Packing {
    /// Tells the packing from the first bytes.
    pub(crate) fn of(start: &[u8]) -> Self {
        let magics: [(&[u8], Self); 5] = [
            (&[0x1f, 0x8b, 0x08], Self::Gzip),
            (&[0xfd, b'7', b'z', b'X', b'Z', 0x00], Self::Xz),
            (&[0x5d, 0x00, 0x00], Self::Lzma),
            (&[0x28, 0xb5, 0x2f, 0xfd], Self::Zstd),
            (&[0x02, 0x21, 0x4c, 0x18], Self::Lz4Legacy),
        ];
        let found = magics.iter().find(|(magic, _)| start.starts_with(magic));
        found.map_or(Self::Plain, |&(_, packing)| packing)
    }
}

/// A reader of what `packed` holds.
pub(crate) fn unpacked<'a>(mut packed: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let packing = Packing::of(packed.fill_buf()?);
    Ok(match packing {
        Packing::Plain => Box::new(packed),
        Packing::Gzip => Box::new(flate2::bufread::GzDecoder::new(packed)),
        Packing::Xz => lzma_family(packed, Stream::new_stream_decoder(MAX_LZMA_MEMORY, 0)?),
        Packing::Lzma => lzma_family(packed, Stream::new_lzma_decoder(MAX_LZMA_MEMORY)?),
        Packing::Zstd => Box::new(zstd::Decoder::with_buffer(packed)?.single_frame()),
        Packing::Lz4Legacy => Box::new(Lz4Legacy::new(packed)?),
    })
}

fn lzma_family<'a>(packed: impl BufRead + 'a, decoder: Stream) -> Box<dyn Read + 'a> {
    Box::new(liblzma::bufread::XzDecoder::new_stream(packed, decoder))
}

/// The legacy LZ4 frame: a magic number, then blocks that each follow their packed size.
///
/// The frame has no end mark. A kernel's payload has its unpacked size appended, which looks like the size
/// of one more block that is not there.
struct Lz4Legacy<R> {
    packed: R,
    block: Vec<u8>,
    position: usize,
}

impl<R: Read> Lz4Legacy<R> {
    fn new(mut packed: R) -> io::Result<Self> {
        packed.read_exact(&mut [0; 4])?;
        Ok(Self { packed, block: Vec::new(), position: 0 })
    }

    /// Unpacks the next block; at the end it is empty.
    fn advance(&mut self) -> io::Result<()> {
        self.position = 0;
        self.block.clear();
        let mut size = [0; 4];
        if read_up_to(&mut self.packed, &mut size)? < size.len() {
            return Ok(());
        }
        let size = u64::from(u32::from_le_bytes(size));
        let mut packed = Vec::new();
        (&mut self.packed).take(size.min(2 * LZ4_BLOCK as u64)).read_to_end(&mut packed)?;
        if packed.is_empty() {
            return Ok(());
        }
        if (packed.len() as u64) < size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.block.resize(LZ4_BLOCK, 0);
        let length = lz4_flex::block::decompress_into(&packed, &mut self.block)
            .map_err(|source| io::Error::new(io::ErrorKind::InvalidData, source))?;
        self.block.truncate(length);
        Ok(())
    }
}

impl<R: Read> Read for Lz4Legacy<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.position == self.block.len() {
            self.advance()?;
        }
        let count = self.block[self.position..].as_ref().read(into)?;
        self.position += count;
        Ok(count)
    }
}

fn read_up_to(reader: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < into.len() {
        match reader.read(&mut into[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    fn read_all(packed: &[u8]) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        unpacked(packed)?.take(1 << 24).read_to_end(&mut content)?;
        Ok(content)
    }

    fn lz4_legacy(blocks: &[&[u8]]) -> Vec<u8> {
        let mut packed = vec![0x02, 0x21, 0x4c, 0x18];
        for block in blocks {
            // A block of literals only: a token of 15, the rest of the length in bytes, the literals.
            let mut literals = vec![0xf0];
            let mut rest = block.len() - 15;
            while rest >= 255 {
                literals.push(255);
                rest -= 255;
            }
            literals.push(u8::try_from(rest).unwrap());
            literals.extend_from_slice(block);
            packed.extend(u32::try_from(literals.len()).unwrap().to_le_bytes());
            packed.extend(literals);
        }
        packed
    }

    #[test]
    fn each_packing_is_told_by_its_magic_and_unpacked() {
        let content = b"the same content in every packing ".repeat(1000);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&content).unwrap();
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(&content).unwrap();
        let options = liblzma::stream::LzmaOptions::new_preset(1).unwrap();
        let lzma = Stream::new_lzma_encoder(&options).unwrap();
        let mut lzma = liblzma::write::XzEncoder::new_stream(Vec::new(), lzma);
        lzma.write_all(&content).unwrap();
        let zstd = zstd::encode_all(content.as_slice(), 1).unwrap();
        let (first, second) = content.split_at(20_000);
        let lz4 = lz4_legacy(&[first, second]);
        let packings = [content.clone(), gzip.finish().unwrap(), xz.finish().unwrap()];
        for packed in packings.iter().chain([&lzma.finish().unwrap(), &zstd, &lz4]) {
            assert_eq!(read_all(packed).unwrap(), content);
        }
    }

    #[test]
    fn the_size_that_kernels_append_to_lz4_is_no_block() {
        let content = [7; 5000];
        let mut packed = lz4_legacy(&[&content]);
        packed.extend(5000_u32.to_le_bytes());
        assert_eq!(read_all(&packed).unwrap(), content);
    }

    #[test]
    fn a_truncated_block_is_an_error() {
        let packed = lz4_legacy(&[&[7; 5000]]);
        assert!(read_all(&packed[..packed.len() - 1]).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(kind in 0..5_usize, tail in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let magics: [&[u8]; 5] =
                [&[0x1f, 0x8b, 8], b"\xfd7zXZ\0", &[0x5d, 0, 0], &[0x28, 0xb5, 0x2f, 0xfd], &[2, 0x21, 0x4c, 0x18]];
            let mut packed = magics[kind].to_vec();
            packed.extend(tail);
            let _ = read_all(&packed);
        }
    }
}

//! What is large goes through a disk, and arrives as what goes through the stream does.
#![allow(clippy::unwrap_used, reason = "what a test is built on may fail it")]

use std::fs::{self, File, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::Ordering;

use microagent_transfer as transfer;
use microagent_transfer::{
    BLOCK, BLOCKS, Destination, Entry, Header, Kind, Owners, PackError, PackOptions, PageCache, Policy,
    REGION, Reader, Receiving, Region, Sending, StreamError, Time, UnpackError, Writer,
};

const POLICY: Policy = Policy { owners: Owners::Own, privileged: false };

/// The system's number for `O_DIRECT`.
fn flags(cache: PageCache) -> i32 {
    match cache {
        PageCache::Used => 0,
        PageCache::Bypassed => rustix::fs::OFlags::DIRECT.bits().cast_signed(),
    }
}

/// A directory on a file system that knows `O_DIRECT`, and a disk of two regions in it.
fn place() -> tempfile::TempDir {
    let place = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    File::create(place.path().join("disk")).unwrap().set_len(2 * REGION).unwrap();
    place
}

fn disk(place: &Path, cache: PageCache) -> OwnedFd {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(flags(cache)).open(place.join("disk")).unwrap().into()
}

fn region(place: &Path, cache: PageCache) -> Region {
    Region::new(disk(place, cache), 1, cache)
}

/// Copies `from` to `to` through a stream and a disk that the sides use in these ways; tells how many bytes went
/// through the disk, and how many through the stream.
fn copy(place: &Path, from: &Path, to: &Path, sides: (PageCache, PageCache)) -> (u64, u64) {
    let (mut out, input) = UnixStream::pair().unwrap();
    let (free, freed) = UnixStream::pair().unwrap();
    let sending = Sending::new(region(place, sides.0), freed);
    let sent = sending.sent();
    let from = from.to_owned();
    let packing = std::thread::spawn(move || {
        let mut counted = Counted(&mut out, 0);
        transfer::pack(&from, PackOptions::default(), &mut counted, Some(sending)).unwrap();
        counted.1
    });
    let receiving = Receiving::new(region(place, sides.1), free);
    let destination = Destination { path: to.to_owned(), name: None, merge: false };
    transfer::unpack(input, Some(receiving), &destination, POLICY, &mut |_| ()).unwrap();
    (sent.load(Ordering::Relaxed), packing.join().unwrap())
}

struct Counted<W>(W, u64);

impl<W: std::io::Write> std::io::Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let length = self.0.write(bytes)?;
        self.1 += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index % 253 + index / 65536) as u8).collect()
}

#[test]
fn files_of_every_size_arrive_whatever_way_the_sides_use_the_disk() {
    let place = place();
    let from = place.path().join("from");
    fs::create_dir(&from).unwrap();
    let sizes = [0, 1, 4096, 65_535, 65_536, 300_001, BLOCK, 3 * BLOCK + 4097, 11 * BLOCK + 77];
    for size in sizes {
        fs::write(from.join(size.to_string()), content(size)).unwrap();
    }
    let mut copied = 0;
    for sides in [
        (PageCache::Used, PageCache::Used),
        (PageCache::Used, PageCache::Bypassed),
        (PageCache::Bypassed, PageCache::Used),
    ] {
        copied += 1;
        let to = place.path().join(copied.to_string());
        let (beside, within) = copy(place.path(), &from, &to, sides);
        for size in sizes {
            let arrived = fs::read(to.join(size.to_string())).unwrap();
            assert!(arrived == content(size), "{size} bytes, {sides:?}");
        }
        assert!(beside > 14 * BLOCK as u64, "{beside} bytes through the disk");
        assert!(within < BLOCK as u64, "{within} bytes through the stream");
    }
}

#[test]
fn holes_stay_holes() {
    let place = place();
    let from = place.path().join("from");
    let file = File::create(&from).unwrap();
    let data = content(BLOCK);
    file.write_all_at(&data, 64 << 20).unwrap();
    file.write_all_at(&data[..70_000], 200 << 20).unwrap();
    file.set_len((300 << 20) + 5).unwrap();
    for (number, sides) in [(PageCache::Used, PageCache::Bypassed), (PageCache::Bypassed, PageCache::Used)]
        .into_iter()
        .enumerate()
    {
        let to = place.path().join(number.to_string());
        copy(place.path(), &from, &to, sides);
        let arrived = File::open(&to).unwrap();
        let metadata = arrived.metadata().unwrap();
        assert_eq!(metadata.len(), (300 << 20) + 5);
        assert!(metadata.blocks() * 512 < 8 << 20, "{} blocks", metadata.blocks());
        let mut there = vec![0; BLOCK];
        arrived.read_exact_at(&mut there, 64 << 20).unwrap();
        assert!(there == data);
        arrived.read_exact_at(&mut there, 200 << 20).unwrap();
        assert!(there[..70_000] == data[..70_000] && there[70_000..].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn a_sender_that_nobody_frees_a_block_for_waits_and_ends_with_its_receiver() {
    let place = place();
    let from = place.path().join("from");
    fs::write(&from, content((BLOCKS as usize + 1) * BLOCK)).unwrap();
    let (free, freed) = UnixStream::pair().unwrap();
    let sending = Sending::new(region(place.path(), PageCache::Used), freed);
    let sent = sending.sent();
    let packing = std::thread::spawn(move || {
        transfer::pack(&from, PackOptions::default(), &mut std::io::sink(), Some(sending))
    });
    while sent.load(Ordering::Relaxed) < REGION {
        std::thread::yield_now();
    }
    drop(free);
    assert!(matches!(packing.join().unwrap(), Err(PackError::Write(_))));
    assert_eq!(sent.load(Ordering::Relaxed), REGION);
}

/// Offsets, lengths and blocks.
type Data<'a> = &'a [(u64, u32, u32)];

/// A stream of one file of `size` bytes whose data are said to be at these places of the disk.
fn stream(size: u64, blocks: Data<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes);
    let modified = Time { seconds: 0, nanoseconds: 0 };
    let root = Entry { path: b"", kind: Kind::File { size }, mode: 0o644, uid: 0, gid: 0, modified };
    writer.header(&Header::Entry(root)).unwrap();
    for (offset, length, block) in blocks.iter().copied() {
        writer.header(&Header::Exchanged { offset, length, block }).unwrap();
    }
    writer.header(&Header::End).unwrap();
    bytes
}

#[test]
fn what_leads_out_of_the_region_or_the_file_is_refused() {
    let place = place();
    let block = u32::try_from(BLOCK).unwrap();
    let cases: [(u64, Data<'_>); 6] = [
        (100, &[(0, 101, 0)]),
        (100, &[(0, 0, 0)]),
        (1 << 40, &[(0, block + 1, 0)]),
        (1 << 40, &[(0, 1, BLOCKS)]),
        (1 << 40, &[(0, block, 0), (1, 1, 1)]),
        (1 << 40, &[(u64::MAX, 2, 0)]),
    ];
    for (size, blocks) in cases {
        let receiving = Receiving::new(region(place.path(), PageCache::Used), std::io::sink());
        let destination = Destination { path: place.path().join("to"), name: None, merge: false };
        let error =
            transfer::unpack(&stream(size, blocks)[..], Some(receiving), &destination, POLICY, &mut |_| ());
        let error = error.unwrap_err();
        assert!(
            matches!(error, UnpackError::Stream(StreamError::Malformed("data is out of bounds"))),
            "{blocks:?}: {error}"
        );
        assert!(!place.path().join("to").exists());
    }
}

#[test]
fn a_stream_may_not_speak_of_a_disk_that_is_not_there() {
    let bytes = stream(10, &[(0, 10, 0)]);
    let mut reader = Reader::new(&bytes[..]);
    reader.next_header().unwrap();
    let error = reader.next_header().unwrap_err();
    assert!(error.to_string().contains("no disk for exchange"), "{error}");
}

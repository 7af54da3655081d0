use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;

const MAC: Mac = [2, 0, 0, 0, 0, 1];

fn ends(six: bool) -> (SocketAddr, SocketAddr) {
    let text = if six {
        ("[2001:db8::1]:80", "[fd6d:6963:726f::f]:1000")
    } else {
        ("192.0.2.1:80", "10.0.2.15:1000")
    };
    (text.0.parse().unwrap(), text.1.parse().unwrap())
}

fn packet(frame: &[u8]) -> Packet<'_> {
    match parse(frame).unwrap().content {
        Content::Ip(packet) => packet,
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn segments_are_read_as_they_are_written(
        six: bool, sequence: u32, acknowledged: u32, window: u16, scale in 0_u8..15, size: u16,
        data in proptest::collection::vec(any::<u8>(), 0..300), cut in 0_usize..300,
    ) {
        let (from, to) = ends(six);
        let flags = Flags::SYN.and(Flags::ACK);
        let options = Some((size, Some(scale)));
        let sending = Sending { from, to, sequence, acknowledged, flags, window, options };
        let mut frame = Vec::new();
        let (front, back) = data.split_at(cut.min(data.len()));
        emit_segment(&mut frame, MAC, &sending, [front, back]);
        let segment = Segment::parse(&packet(&frame)).unwrap();
        prop_assert_eq!((segment.from, segment.to, segment.payload), (from, to, &data[..]));
        prop_assert_eq!((segment.sequence, segment.acknowledged), (sequence, acknowledged));
        prop_assert_eq!((segment.window, segment.most, segment.scale), (window, Some(size), Some(scale)));
        // Any bit that is wrong is noticed.
        let at = frame.len() - 1 - cut % 20;
        frame[at] ^= 1;
        prop_assert_eq!(Segment::parse(&packet(&frame)), None);
    }

    #[test]
    fn datagrams_are_read_as_they_are_written(six: bool, data in proptest::collection::vec(any::<u8>(), 0..300)) {
        let (from, to) = ends(six);
        let mut frame = Vec::new();
        emit_datagram(&mut frame, MAC, from, to, &data);
        let packet = packet(&frame);
        prop_assert_eq!(Datagram::parse(&packet), Some(Datagram { from, to, payload: &data }));
    }

    #[test]
    fn any_frame_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0_usize..4) {
        let mut frame = vec![0; 12];
        frame.extend_from_slice([&[8, 0, 0x45][..], &[8, 0, 0x4f], &[0x86, 0xdd, 0x60], &[8, 6]][kind]);
        frame.extend_from_slice(&bytes);
        let mut out = Vec::new();
        match parse(&frame).map(|frame| frame.content) {
            Some(Content::Arp(content)) => drop(arp_reply(&mut out, content)),
            Some(Content::Ip(packet)) => {
                Segment::parse(&packet);
                Datagram::parse(&packet);
                echo(&packet);
                neighbour_reply(&mut out, MAC, &packet);
            }
            _ => {}
        }
    }
}

#[test]
fn only_our_own_addresses_are_answered_for() {
    let mut request = vec![0, 1, 8, 0, 6, 4, 0, 1];
    request.extend_from_slice(&MAC);
    request.extend_from_slice(&[10, 0, 2, 15, 0, 0, 0, 0, 0, 0, 10, 0, 2, 2]);
    let mut out = Vec::new();
    assert_eq!(arp_reply(&mut out, &request), Some(()));
    assert_eq!((&out[..6], &out[22..28]), (&MAC[..], &OUR_MAC[..]));
    request[27] = 15;
    assert_eq!(arp_reply(&mut out, &request), None);
}

#[test]
fn fragments_are_no_packets() {
    let (from, to) = ends(false);
    let mut frame = Vec::new();
    emit_datagram(&mut frame, MAC, from, to, b"x");
    // More fragments, with the header's checksum put right.
    frame[20] |= 0x20;
    frame[24] = frame[24].wrapping_sub(0x20);
    assert_eq!(parse(&frame), None);
    assert!(is_fragment(&frame));
    let (from, to) = ends(true);
    let mut frame = Vec::new();
    emit_datagram(&mut frame, MAC, from, to, b"x");
    assert!(!is_fragment(&frame) && !is_fragment(&[]) && !is_fragment(&frame[..15]));
    frame[20] = 44;
    assert!(is_fragment(&frame));
}

#[test]
fn a_ping_is_answered_with_what_it_carries() {
    let (from, to) = ends(true);
    let mut frame = Vec::new();
    let reply = Echo { identifier: 7, sequence: 9, payload: b"abc" };
    echo_reply(&mut frame, MAC, from.ip(), to.ip(), reply);
    // A reply is no request.
    assert_eq!(echo(&packet(&frame)), None);
    frame[54] = 128;
    frame[56] = frame[56].wrapping_add(1);
    assert_eq!(echo(&packet(&frame)), Some(reply));
}

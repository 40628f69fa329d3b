use core::net::Ipv4Addr;

use super::*;

const SRC: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const DST: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

fn pseudo() -> PseudoHeader {
    PseudoHeader::v4(SRC, DST, PROTOCOL)
}

fn header(flags: Flags, options: Options) -> Header {
    Header {
        src_port: 40_000,
        dst_port: 7,
        seq: 0xffff_fff0,
        ack: 0x0102_0304,
        flags,
        window: 0xfedc,
        urgent: 9,
        options,
    }
}

/// Parses a SYN with these option bytes (padded with zeros to whole words) and the text "text".
fn options_of(flags: Flags, options: &[u8]) -> Options {
    let mut bytes = [0; 64];
    header(flags, Options::NONE).emit(&mut bytes).unwrap();
    let header_len = HEADER + options.len().next_multiple_of(4);
    bytes[12] = (header_len / 4) as u8 * 16;
    bytes[HEADER..HEADER + options.len()].copy_from_slice(options);
    bytes[header_len..header_len + 4].copy_from_slice(b"text");
    let segment = Segment::parse(&bytes[..header_len + 4]).unwrap();
    assert_eq!(segment.payload, b"text");
    segment.options
}

#[test]
fn every_combination_of_options_is_read_as_written() {
    let sack = |count| {
        let mut blocks = SackBlocks::NONE;
        (0..count).for_each(|i| blocks.push(SackBlock { left: i, right: i + 7 }));
        blocks
    };
    let timestamps = Some(Timestamps { value: 1, echo: u32::MAX });
    for choice in 0..0x100u32 {
        let flags = if choice & 1 == 1 { Flags::SYN } else { Flags::ACK | Flags::PSH };
        let options = Options {
            mss: (choice & 2 != 0).then_some(1460),
            window_scale: (choice & 4 != 0).then_some(7),
            sack_permitted: choice & 8 != 0,
            timestamps: timestamps.filter(|_| choice & 16 != 0),
            sack: sack(choice >> 5 & 7),
        };
        let out = header(flags, options);
        let mut bytes = [0xcc; 80];
        let text_len = out.emit(&mut bytes).unwrap().len();
        assert_eq!(80 - text_len, out.header_len());
        assert!(out.header_len() <= HEADER_MAX && out.header_len() % 4 == 0);
        assert!(out.emit(&mut [0; 80][..out.header_len() - 1]).is_none());
        let segment = Segment::parse(&bytes).unwrap();
        assert_eq!(segment.header.len(), out.header_len());
        let syn = flags == Flags::SYN;
        assert_eq!(segment.options.mss, options.mss.filter(|_| syn));
        assert_eq!(segment.options.window_scale, options.window_scale.filter(|_| syn));
        assert_eq!(segment.options.sack_permitted, options.sack_permitted && syn);
        assert_eq!(segment.options.timestamps, options.timestamps);
        let written = segment.options.sack.as_slice();
        assert!(options.sack.as_slice().starts_with(written));
        let fits = if options.timestamps.is_some() { 3 } else { 4 };
        if !syn {
            assert_eq!(written.len(), options.sack.as_slice().len().min(fits));
        }
    }
}

#[test]
fn a_syn_has_its_options_in_linux_order() {
    let options = Options {
        mss: Some(1460),
        window_scale: Some(7),
        sack_permitted: true,
        timestamps: Some(Timestamps { value: 1, echo: 2 }),
        sack: SackBlocks::NONE,
    };
    let out = header(Flags::SYN, options);
    let mut bytes = [0; HEADER + 20];
    assert!(out.emit(&mut bytes).unwrap().is_empty());
    let expected = [2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 3, 3, 7];
    assert_eq!(bytes[HEADER..], expected);
}

#[test]
fn fields_are_read_as_written() {
    let out = header(Flags::SYN | Flags::ACK, Options::NONE);
    let mut bytes = [0; 24];
    out.emit(&mut bytes).unwrap().copy_from_slice(b"text");
    let segment = Segment::parse(&bytes).unwrap();
    assert_eq!((segment.src_port, segment.dst_port), (40_000, 7));
    assert_eq!((segment.seq, segment.ack), (out.seq, out.ack));
    assert_eq!((segment.flags, segment.window, segment.urgent), (out.flags, out.window, 9));
    assert_eq!((segment.payload, segment.len()), (&b"text"[..], 5));
    assert!(!segment.is_empty());
}

#[test]
fn data_offsets_outside_the_segment_are_refused() {
    let mut bytes = [0; 40];
    header(Flags::SYN, Options::NONE).emit(&mut bytes).unwrap();
    assert_eq!(Segment::parse(&bytes[..19]), Err(Malformed::TcpTruncated));
    assert_eq!(Segment::parse(&bytes[..8]), Err(Malformed::TcpTruncated));
    for words in [0, 4, 11, 15] {
        bytes[12] = words * 16;
        assert_eq!(Segment::parse(&bytes), Err(Malformed::TcpDataOffset), "{words} words");
    }
    // The reserved bits beside the data offset are not looked at.
    bytes[12] = 0xaf;
    assert!(Segment::parse(&bytes).unwrap().payload.is_empty());
}

#[test]
fn illegal_lengths_end_the_list_and_keep_what_came_before() {
    let mss = Options { mss: Some(1460), ..Options::NONE };
    for tail in [[8, 0, 4, 2], [8, 1, 4, 2], [200, 0, 4, 2], [8, 10, 4, 2], [253, 255, 4, 2]] {
        let mut options = [2, 4, 5, 180, 0, 0, 0, 0];
        options[4..].copy_from_slice(&tail);
        assert_eq!(options_of(Flags::SYN, &options), mss, "{tail:?}");
    }
    assert_eq!(options_of(Flags::SYN, &[2, 4, 5, 180, 1, 1, 1, 8]), mss, "no room for a length");
}

#[test]
fn known_options_of_a_wrong_length_are_passed_over() {
    // MSS, window scale, timestamps and SACK, each of a wrong length; then three that are right.
    let wrong = [2, 3, 5, 3, 4, 7, 7, 8, 3, 9, 5, 9, 0, 0, 0, 0, 0, 0, 0];
    let right = [4, 2, 3, 3, 7, 2, 4, 5, 180];
    let mut options = [NOP; 28];
    options[..wrong.len()].copy_from_slice(&wrong);
    options[wrong.len()..].copy_from_slice(&right);
    let expected =
        Options { mss: Some(1460), window_scale: Some(7), sack_permitted: true, ..Options::NONE };
    assert_eq!(options_of(Flags::SYN, &options), expected);
    // Longer than they should be, they hold no value either.
    let long = [2, 6, 5, 180, 0, 0, 3, 4, 7, 0, 4, 3, 0, 8, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(options_of(Flags::SYN, &long), Options::NONE);
}

#[test]
fn values_come_as_they_are() {
    assert_eq!(options_of(Flags::SYN, &[2, 4, 0, 0]).mss, Some(0));
    assert_eq!(options_of(Flags::SYN, &[2, 4, 0, 1]).mss, Some(1));
    assert_eq!(options_of(Flags::SYN, &[1, 3, 3, 255]).window_scale, Some(255));
    assert_eq!(options_of(Flags::SYN, &[]), Options::NONE);
}

#[test]
fn unknown_options_and_padding_are_passed_over() {
    let found = options_of(Flags::SYN, &[200, 6, 9, 9, 9, 9, 253, 2, 1, 2, 4, 5, 180]);
    assert_eq!(found, Options { mss: Some(1460), ..Options::NONE });
    assert_eq!(options_of(Flags::SYN, &[NOP; 40]), Options::NONE);
    assert_eq!(options_of(Flags::SYN, &[0, 2, 4, 5, 180]), Options::NONE, "after the end");
    assert_eq!(options_of(Flags::ACK, &[200, 4, 1, 2]), Options::NONE);
    // MD5, AO, Fast Open with an odd cookie.
    let mut signed = [0; 20];
    (signed[0], signed[1]) = (19, 18);
    assert_eq!(options_of(Flags::SYN, &signed), Options::NONE);
    assert_eq!(options_of(Flags::SYN, &[29, 4, 0, 0, 34, 5, 1, 2, 3]), Options::NONE);
}

#[test]
fn of_two_the_first_counts() {
    let twice = [2, 4, 5, 180, 2, 4, 0, 1, 3, 3, 7, 3, 3, 1, 4, 2, 4, 2];
    let found = options_of(Flags::SYN, &twice);
    assert_eq!((found.mss, found.window_scale, found.sack_permitted), (Some(1460), Some(7), true));
    let clocks = [8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 8, 10, 0, 0, 0, 3, 0, 0, 0, 4];
    let found = options_of(Flags::ACK, &clocks);
    assert_eq!(found.timestamps, Some(Timestamps { value: 1, echo: 2 }));
}

#[test]
fn what_only_a_syn_carries_counts_only_there() {
    let options = [2, 4, 5, 180, 4, 2, 3, 3, 7];
    assert_eq!(options_of(Flags::ACK, &options), Options::NONE);
}

#[test]
fn broken_sack_options_are_passed_over() {
    let mut option = [0xab; 36];
    (option[0], option[1]) = (SACK, 34);
    assert_eq!(options_of(Flags::ACK, &option).sack.as_slice().len(), 4);
    for len in [2, 3, 9, 11, 33] {
        option[1] = len;
        assert_eq!(options_of(Flags::ACK, &option[..len.into()]).sack, SackBlocks::NONE, "{len}");
    }
}

#[test]
fn checksums_are_set_and_found_right_in_every_way() {
    let options = Options { timestamps: Some(Timestamps { value: 3, echo: 4 }), ..Options::NONE };
    let out = header(Flags::ACK, options);
    let text: [u8; 101] = core::array::from_fn(|i| (i * 83) as u8);
    for text_len in [0, 1, 2, 31, 64, 101] {
        let text = &text[..text_len];
        let mut bytes = [0; 140];
        let segment = &mut bytes[..out.header_len() + text_len];
        out.emit(segment).unwrap().copy_from_slice(text);
        set_checksum(segment, pseudo());
        assert!(checksum_ok(segment, pseudo()));

        let mut fused = [0; 140];
        let fused = &mut fused[..out.header_len() + text_len];
        let text_sum = checksum::copy_and_sum(out.emit(fused).unwrap(), text, 0);
        set_checksum_with(fused, out.header_len(), text_sum, pseudo());
        assert_eq!(fused, segment);

        let parsed = Segment::parse(segment).unwrap();
        assert!(parsed.checksum_ok(pseudo()));
        let mut copy = [0; 101];
        assert!(parsed.copy_payload(&mut copy[..text_len], pseudo()));
        assert_eq!(&copy[..text_len], text);
        assert!(text_len == 101 || !parsed.copy_payload(&mut copy[..text_len + 1], pseudo()));
    }
}

#[test]
fn every_flipped_bit_breaks_the_checksum() {
    let mut bytes = [0; 25];
    header(Flags::ACK, Options::NONE).emit(&mut bytes).unwrap().copy_from_slice(b"texts");
    set_checksum(&mut bytes, pseudo());
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes;
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(!checksum_ok(&flipped, pseudo()), "bit {bit}");
    }
    assert!(!checksum_ok(&bytes[..24], pseudo()));
    let elsewhere = PseudoHeader::v4(SRC, Ipv4Addr::new(10, 77, 0, 3), PROTOCOL);
    assert!(!checksum_ok(&bytes, elsewhere));
    bytes[16..18].fill(0);
    assert!(!checksum_ok(&bytes, pseudo()), "a zero field is a wrong field");
}

#[test]
fn setting_a_checksum_of_too_few_bytes_does_nothing() {
    let mut bytes = [7; 19];
    set_checksum(&mut bytes, pseudo());
    set_checksum_with(&mut bytes, 40, 0, pseudo());
    assert_eq!(bytes, [7; 19]);
}

#[test]
fn flags_are_shown_by_name() {
    extern crate std;
    use std::format;
    assert_eq!(format!("{:?}", Flags::SYN | Flags::ACK), "SYN|ACK");
    assert_eq!(format!("{:?}", Flags::NONE), "none");
}

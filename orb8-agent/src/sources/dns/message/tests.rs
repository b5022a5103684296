use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::super::samples::*;
use super::*;

fn parse(message: &[u8]) -> Message {
    Message::parse(message, message.len() as u32).unwrap()
}

fn name_of(message: &[u8]) -> String {
    parse(message).question.unwrap().name.to_string()
}

/// A message whose question's name has these bytes.
fn asking_for(name: &[u8]) -> Vec<u8> {
    [words([1, 0x0100, 1, 0, 0, 0]), name.to_vec(), words([A, 1])].concat()
}

#[test]
fn a_query_of_dig_is_read() {
    // dig +noall www.example.com, as on the wire.
    let bytes = b"\x12\x34\x01\x20\x00\x01\x00\x00\x00\x00\x00\x01\x03www\x07example\x03com\x00\
                  \x00\x01\x00\x01\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x0c\x00\x0a\x00\x08\
                  \x01\x02\x03\x04\x05\x06\x07\x08";
    let message = parse(bytes);
    assert_eq!((message.id, message.opcode), (0x1234, 0));
    assert_eq!(message.response, None);
    let question = DnsQuestion { name: "www.example.com".into(), kind: A, class: 1 };
    assert_eq!(message.question, Some(question));
    assert_eq!(parse(&edns_query(0x1234, "www.example.com", A)), message);
}

#[test]
fn names_are_presented_in_one_way() {
    assert_eq!(name_of(&query(1, "", A)), ".");
    assert_eq!(name_of(&query(1, "wWw.ExAmPlE.CoM", A)), "www.example.com", "0x20");
    assert_eq!(name_of(&query(1, "xn--mnchen-3ya.de", A)), "xn--mnchen-3ya.de", "punycode");
    assert_eq!(name_of(&asking_for(b"\x03a.b\x02\\@\x00")), r"a\.b.\\\@");
    assert_eq!(name_of(&asking_for(b"\x04\x00 \xc3\xbc\x00")), r"\000\032\195\188");
}

#[test]
fn the_longest_name_is_read_and_a_longer_one_is_not() {
    let label = [&[63][..], &[b'a'; 63]].concat();
    let last = |length: u8| [&[length][..], &vec![b'b'; length.into()], &[0]].concat();
    let longest = [label.repeat(3), last(61)].concat();
    assert_eq!(longest.len(), 255);
    assert_eq!(name_of(&asking_for(&longest)).len(), 253);
    let longer = asking_for(&[label.repeat(3), last(62)].concat());
    assert_eq!(Message::parse(&longer, longer.len() as u32), Err(NoMessage::Malformed));
    // Bytes that are written as four characters each.
    let wide: Vec<u8> =
        longest.iter().map(|&byte| if byte >= b'a' { 0xff } else { byte }).collect();
    assert_eq!(name_of(&asking_for(&wide)).len(), 4 * 250 + 3);
}

#[test]
fn compression_that_leads_nowhere_is_malformed() {
    for name in [&[0xc0, 12][..], &[0xc0, 40], &[1, b'a', 0xc0, 12], &[0xff, 0xff], &[0x40, 0]] {
        let message = asking_for(name);
        let parsed = Message::parse(&message, message.len() as u32);
        assert_eq!(parsed, Err(NoMessage::Malformed), "{name:x?}");
    }
    // In an answer it takes the answer along, and what comes behind it.
    let looping = record(&[0xc0, 45], A, 1, 1, &[1, 2, 3, 4]);
    let message = response(1, "example.com", A, &[address(1), looping, address(3)]);
    let response = parse(&message).response.unwrap();
    assert_eq!((response.answers.len(), response.answer_count), (1, 3));
}

#[test]
fn answers_say_what_they_point_to() {
    let target = [&b"\x04edge"[..], &[0xc0, 16]].concat();
    let chain = record(ASKED, CNAME, 1, 60, &target);
    let addressed = record(&[0xc0, 45], A, 1, 30, &[198, 51, 100, 7]);
    let v6: [u8; 16] = Ipv6Addr::from(0x2001_0db8_u128 << 96 | 1).octets();
    let v6 = record(ASKED, 28, 1, 5, &v6);
    let exchanger = record(ASKED, 15, 1, 5, &[&[0, 10][..], ASKED].concat());
    let service =
        record(ASKED, 33, 1, 5, &[&[0, 1, 0, 2, 0, 53][..], &wire("Ns.Example")].concat());
    let text = record(ASKED, 16, 1, 5, b"\x02hi");
    let unknown = record(ASKED, 65_280, 1, 5, &[1, 2, 3]);
    let wrong = record(ASKED, A, 1, 5, &[1, 2, 3]);
    let chaos = record(ASKED, A, 3, 5, &[1, 2, 3, 4]);
    let answers = [chain, addressed, v6, exchanger, service, text, unknown, wrong, chaos];
    let message = parse(&response(5, "www.example.com", A, &answers));
    let answers = message.response.unwrap().answers;
    let data: Vec<&DnsData> = answers.iter().map(|answer| &answer.data).collect();
    let name = |name: &str| DnsData::Name(name.into());
    let v6 = Ipv6Addr::from(0x2001_0db8_u128 << 96 | 1);
    assert_eq!(
        data,
        [
            &name("edge.example.com"),
            &DnsData::Address(Ipv4Addr::new(198, 51, 100, 7).into()),
            &DnsData::Address(v6.into()),
            &name("www.example.com"),
            &name("ns.example"),
            &DnsData::Other,
            &DnsData::Other,
            &DnsData::Other,
            &DnsData::Other,
        ]
    );
    assert_eq!(
        (&*answers[0].name, answers[0].kind, answers[0].ttl),
        ("www.example.com", CNAME, 60)
    );
    assert_eq!((&*answers[1].name, answers[1].ttl), ("edge.example.com", 30));
}

#[test]
fn names_of_one_message_are_kept_once() {
    let target = record(ASKED, CNAME, 1, 60, &wire("edge.example"));
    let of_target = |last: u8| record(&wire("Edge.Example"), A, 1, 30, &[192, 0, 2, last]);
    let message = parse(&response(5, "www.example.com", A, &[target, of_target(1), of_target(2)]));
    let answers = message.response.unwrap().answers;
    assert!(Arc::ptr_eq(&answers[0].name, &message.question.unwrap().name));
    let DnsData::Name(edge) = &answers[0].data else { panic!("{answers:?}") };
    assert!(answers[1..].iter().all(|answer| Arc::ptr_eq(&answer.name, edge)));
}

#[test]
fn names_of_one_message_are_bounded() {
    let wide = |first: u8| {
        let label = [&[63, first][..], &[0xff; 62]].concat();
        [label.repeat(3), vec![60], vec![0xff; 60], vec![0]].concat()
    };
    let answers: Vec<_> =
        (0..9).map(|first| record(&wide(first), A, 1, 60, &[192, 0, 2, first])).collect();
    let response = parse(&response(5, "www.example.com", A, &answers)).response.unwrap();
    assert_eq!((response.answers.len(), response.answer_count), (4, 9));
    let bytes: usize = response.answers.iter().map(|answer| answer.name.len()).sum();
    assert!(bytes <= MAX_NAME_BYTES, "{bytes}");
}

#[test]
fn response_codes_and_flags_are_read() {
    let coded = |flags: u16, extended: Option<u8>| {
        let mut message = response(1, "example.com", A, &[]);
        message[2..4].copy_from_slice(&flags.to_be_bytes());
        if let Some(extended) = extended {
            message[11] = 1;
            message.extend(record(&[0], OPT, 1232, u32::from(extended) << 24, &[]));
        }
        parse(&message).response.unwrap()
    };
    assert_eq!(coded(0x8183, None).rcode, 3, "NXDOMAIN");
    assert_eq!(coded(0x8182, None).rcode, 2, "SERVFAIL");
    assert_eq!(coded(0x8180, Some(1)).rcode, 16, "BADVERS");
    assert_eq!(coded(0x8187, Some(1)).rcode, 23, "BADCOOKIE");
    let all = coded(0x87a0, None);
    assert!(all.truncated && all.authoritative && all.recursion_available && all.authentic_data);
    let none = coded(0x8000, None);
    assert!(!(none.truncated || none.authoritative || none.recursion_available));
    assert!(!none.authentic_data && !none.late);
}

#[test]
fn what_a_capture_has_is_read() {
    let answers: Vec<Vec<u8>> = (0..40).map(address).collect();
    let whole = response(9, "example.com", A, &answers);
    let read = |captured: usize| Message::parse(&whole[..captured], whole.len() as u32);
    let header_and_question = 12 + 13 + 4;
    assert_eq!(read(header_and_question - 1), Err(NoMessage::CutShort));
    assert_eq!(read(5), Err(NoMessage::CutShort));
    let answers = |captured| read(captured).unwrap().response.unwrap().answers.len();
    assert_eq!(answers(header_and_question), 0);
    assert_eq!(answers(header_and_question + 3 * 16 + 15), 3);
    let response = read(whole.len()).unwrap().response.unwrap();
    assert_eq!((response.answers.len(), response.answer_count), (MAX_ANSWERS, 40));
    assert_eq!(response.bytes as usize, whole.len());
}

#[test]
fn what_is_no_message_is_malformed() {
    let malformed = |bytes: &[u8]| {
        let parsed = Message::parse(bytes, bytes.len() as u32);
        assert_eq!(parsed, Err(NoMessage::Malformed), "{bytes:x?}");
    };
    malformed(b"");
    malformed(b"GET / HTTP");
    malformed(&query(1, "example.com", A)[..11]);
    malformed(&query(1, "example.com", A)[..20]);
    // Nothing is asked: a header may stand alone.
    assert_eq!(parse(&words([7, 0x8001, 0, 0, 0, 0])).question, None);
}

#[test]
fn the_middle_of_a_stream_is_told_from_a_message() {
    assert!(Message::is_plausible(&edns_query(1, "example.com", A)));
    assert!(!Message::is_plausible(b"http/1.1 200 ok"));
    assert!(!Message::is_plausible(&[]));
}

proptest! {
    #[test]
    fn no_bytes_break_the_bounds(mut bytes in prop::collection::vec(any::<u8>(), 0..600), few: bool) {
        if few && bytes.len() > HEADER {
            // Plausible counts, so that what follows is read.
            bytes[4..12].copy_from_slice(&[0, 1, 0, 30, 0, 1, 0, 1]);
        }
        if let Ok(message) = Message::parse(&bytes, bytes.len() as u32) {
            let names = message.question.iter().map(|question| &question.name);
            let response = message.response.unwrap_or_default();
            prop_assert!(response.answers.len() <= MAX_ANSWERS);
            let answers = response.answers.iter().map(|answer| &answer.name);
            for name in names.chain(answers) {
                prop_assert!(name.len() <= 255 * 4 && !name.is_empty() && name.is_ascii());
            }
        }
    }

    #[test]
    fn a_cut_capture_never_says_more(cut in 0_usize..700) {
        let answers: Vec<Vec<u8>> = (0..30).map(address).collect();
        let whole = response(9, "example.com", A, &answers);
        let cut = cut.min(whole.len());
        let all = Message::parse(&whole, whole.len() as u32).unwrap();
        if let Ok(part) = Message::parse(&whole[..cut], whole.len() as u32) {
            prop_assert_eq!(&part.question, &all.question);
            let (part, all) = (part.response.unwrap(), all.response.unwrap());
            prop_assert!(all.answers.starts_with(&part.answers));
        }
    }
}

use proptest::prelude::*;

use super::*;

/// What a kernel said of a connection to `10.96.0.10:80`, which `127.0.0.1:8080` answers: its mark,
/// identity, timeout and TCP state behind both directions.
const ANSWER: &str = "
    d4000000 0001 0200 449c0000 933d0000 02000000
    34000180 14000180 08000100 0a010001 08000200 0a60000a
             1c000280 05000100 06000000 06000200 91460000 06000300 00500000
    34000280 14000180 08000100 7f000001 08000200 0a010001
             1c000280 05000100 06000000 06000200 1f900000 06000300 91460000
    08000300 000001ae 08000800 00000000 08000c00 d25e709f 08000b00 00000002 08000700 0006977f
    30000480 2c000180 05000100 03000000 05000200 0a000000 05000300 0a000000 06000400 23000000
             06000500 23000000";

/// The same over IPv6: `fd96::10:80`, which `[::1]:8080` answers.
const ANSWER6: &str = "
    ac000000 0001 0200 87380100 933d0000 0a000000
    4c000180 2c000180 14000300 00000000 00000000 00000000 00000001
                      14000400 fd960000 00000000 00000000 00000010
             1c000280 05000100 06000000 06000200 917c0000 06000300 00500000
    4c000280 2c000180 14000300 00000000 00000000 00000000 00000001
                      14000400 00000000 00000000 00000000 00000001
             1c000280 05000100 06000000 06000200 1f900000 06000300 917c0000";

const SEQUENCE: u32 = 0x9c44;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        hex.chars().filter_map(|digit| digit.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn end(text: &str) -> SocketEnd {
    let end: std::net::SocketAddr = text.parse().unwrap();
    let addr = match end.ip() {
        std::net::IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        std::net::IpAddr::V6(ip) => ip,
    };
    SocketEnd { addr: addr.octets(), port: end.port() }
}

fn tuple(source: &str, destination: &str) -> Tuple {
    Tuple { source: end(source), destination: end(destination), protocol: 6 }
}

fn tracked(bytes: &[u8], sequence: u32) -> Option<(Tuple, Tuple)> {
    match Answer::read(bytes, sequence)? {
        Answer::Tracked { original, reply } => Some((original, reply)),
        Answer::Untracked | Answer::Refused(_) => None,
    }
}

#[test]
fn both_directions_are_read() {
    let expected =
        (tuple("10.1.0.1:37190", "10.96.0.10:80"), tuple("127.0.0.1:8080", "10.1.0.1:37190"));
    assert_eq!(tracked(&bytes(ANSWER), SEQUENCE), Some(expected));
    let expected = (tuple("[::1]:37244", "[fd96::10]:80"), tuple("[::1]:8080", "[::1]:37244"));
    assert_eq!(tracked(&bytes(ANSWER6), 0x13887), Some(expected));
}

#[test]
fn only_the_answer_to_the_question_counts() {
    let mut several = bytes(ANSWER6);
    several.extend(bytes(ANSWER));
    assert!(tracked(&several, SEQUENCE).is_some());
    assert!(Answer::read(&several, SEQUENCE + 1).is_none());
    assert!(Answer::read(&[], SEQUENCE).is_none());
}

#[test]
fn refusals_are_told_from_absence() {
    let refusal = |code: i32| {
        let mut message = bytes("24000000 0200 0000 449c0000 933d0000");
        message.extend(code.to_ne_bytes());
        message.extend([0; 16]);
        message
    };
    let kind = |code| match Answer::read(&refusal(code), SEQUENCE) {
        Some(Answer::Refused(error)) => Some(error.kind()),
        Some(Answer::Untracked) => None,
        other => panic!("{other:?}"),
    };
    assert_eq!(kind(-libc::ENOENT), None);
    assert_eq!(kind(-libc::EPERM), Some(io::ErrorKind::PermissionDenied));
    assert_eq!(
        kind(0),
        Some(io::ErrorKind::InvalidData),
        "an acknowledgement that nobody asked for"
    );
    assert_eq!(kind(i32::MIN), Some(io::ErrorKind::InvalidData));
}

/// As the kernel's own answer has them, which it takes as well.
#[test]
fn questions_have_the_form_of_answers() {
    for (answer, original) in [
        (ANSWER, tuple("10.1.0.1:37190", "10.96.0.10:80")),
        (ANSWER6, tuple("[::1]:37244", "[fd96::10]:80")),
    ] {
        let question = Question::new(&original, 7).unwrap();
        let mut expected = bytes(answer)[..question.bytes().len()].to_vec();
        let length = expected.len() as u32;
        expected[..4].copy_from_slice(&length.to_ne_bytes());
        expected[4..HEADER].copy_from_slice(&bytes("0101 0100 07000000 00000000"));
        assert_eq!(question.bytes(), expected);
    }
    assert!(Question::new(&tuple("10.0.0.1:1", "[fd96::10]:80"), 7).is_none());
}

proptest! {
    /// Whatever is changed or cut off, there is an answer or none, and no panic.
    #[test]
    fn nonsense_is_no_answer(
        v6: bool,
        cut in 0_usize..220,
        changes in prop::collection::vec((0_usize..220, any::<u8>()), 0..8),
    ) {
        let mut message = bytes(if v6 { ANSWER6 } else { ANSWER });
        for (at, byte) in changes {
            let length = message.len();
            message[at % length] = byte;
        }
        message.truncate(cut);
        let sequence = u32::from_ne_bytes(message.get(8..12).map_or([0; 4], |sequence| sequence.try_into().unwrap()));
        let _ = Answer::read(&message, sequence);
    }
}

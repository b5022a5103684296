use std::collections::HashSet;
use std::io::{self, Write};

use orb8_proto::v1::{Flow, RecordingHeader};
use proptest::prelude::*;

use super::*;

const START: u64 = 1_769_860_800_000_000_000;

fn header() -> RecordingHeader {
    RecordingHeader {
        node_name: "worker-1".into(),
        version: "0.1.0".into(),
        started_ns: START,
        signals: vec!["flow".into()],
        ..RecordingHeader::default()
    }
}

fn event(number: u64) -> StreamEventsResponse {
    let flow = Flow { bytes: number, node_name: "worker-1".into(), ..Flow::default() };
    StreamEventsResponse { time_ns: START + number, flow: Some(flow), ..Default::default() }
}

/// Blocks of three events each, then the end.
fn write(events: u64) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), &header()).unwrap();
    for number in 0..events {
        writer.add(Kind::FlowEvent, START + number, &event(number).encode_to_vec()).unwrap();
        if number % 3 == 2 {
            writer.flush().unwrap();
        }
    }
    let end = RecordingEnd { events, ..RecordingEnd::default() };
    writer.add(Kind::End, START + events, &end.encode_to_vec()).unwrap();
    writer.flush().unwrap();
    assert_eq!(writer.written(), writer.get_ref().len() as u64);
    writer.into_inner()
}

/// The numbers of the events that can be read.
fn read_events<S: Source>(recording: &Recording<S>) -> Vec<u64> {
    let mut numbers = Vec::new();
    for block in 0..recording.blocks() {
        let raw = recording.block(block).unwrap();
        let (first, last) = recording.times(block).unwrap();
        for frame in Frames::new(&raw) {
            assert!((first..=last).contains(&frame.time_ns));
            if frame.kind == Some(Kind::FlowEvent) {
                assert!(recording.has(block, Kind::FlowEvent));
                let event = StreamEventsResponse::decode(frame.message).unwrap();
                numbers.push(event.flow.unwrap().bytes);
            }
        }
    }
    numbers
}

fn all(count: u64) -> Vec<u64> {
    (0..count).collect()
}

#[test]
fn what_is_written_is_read() {
    let recording = Recording::read(write(20)).unwrap();
    assert_eq!(recording.header(), &header());
    assert_eq!(recording.version(), VERSION);
    assert!(recording.damage().is_none(), "{:?}", recording.damage());
    assert_eq!(read_events(&recording), all(20));
}

#[test]
fn blocks_are_small_and_compressed() {
    let mut writer = Writer::new(Vec::new(), &header()).unwrap();
    for number in 0..20_000 {
        writer.add(Kind::FlowEvent, START, &event(number).encode_to_vec()).unwrap();
    }
    writer.flush().unwrap();
    let recording = Recording::read(writer.into_inner()).unwrap();
    assert!((2..20).contains(&recording.blocks()), "{}", recording.blocks());
    let raw: usize = (0..recording.blocks()).map(|at| recording.block(at).unwrap().len()).sum();
    assert!(recording.block(0).unwrap().len() <= 256 << 10);
    assert!(write(20_000).len() < raw, "even in blocks of three events");
    assert_eq!(read_events(&recording), all(20_000));
}

#[test]
fn times_do_not_go_back() {
    let mut writer = Writer::new(Vec::new(), &header()).unwrap();
    for time in [START + 5, START + 3, START - 9] {
        writer.add(Kind::FlowEvent, time, &event(0).encode_to_vec()).unwrap();
    }
    writer.flush().unwrap();
    let recording = Recording::read(writer.into_inner()).unwrap();
    assert_eq!(recording.times(0), Some((START + 5, START + 5)));
}

#[test]
fn large_messages_have_blocks_of_their_own_and_larger_ones_are_refused() {
    let mut writer = Writer::new(Vec::new(), &header()).unwrap();
    for size in [10, MAX_MESSAGE, 10] {
        writer.add(Kind::Pods, START, &vec![1; size]).unwrap();
    }
    let error = writer.add(Kind::Pods, START, &vec![1; MAX_MESSAGE + 1]).unwrap_err();
    assert!(matches!(error, RecordingError::TooLarge(_)), "{error}");
    writer.flush().unwrap();
    let recording = Recording::read(writer.into_inner()).unwrap();
    assert_eq!(recording.blocks(), 3);
    assert_eq!(
        Frames::new(&recording.block(1).unwrap()).next().unwrap().message.len(),
        MAX_MESSAGE
    );
}

#[test]
fn a_large_block_of_many_messages_is_damage() {
    let mut raw = Vec::new();
    for _ in 0..50_000 {
        Frame::write(Kind::FlowEvent, START, &[], &mut raw);
    }
    let stored = zstd::bulk::compress(&raw, 3).unwrap();
    let block = block::BlockHeader {
        stored: stored.len() as u32,
        raw: raw.len() as u32,
        frames: 50_000,
        first_ns: START,
        last_ns: START,
        kinds: Kind::FlowEvent.bit(),
        checksum: crc32fast::hash(&stored),
    };
    let mut file = Writer::new(Vec::new(), &header()).unwrap().into_inner();
    file.extend(block.write());
    file.extend(stored);
    let recording = Recording::read(file).unwrap();
    assert_eq!((recording.blocks(), recording.damage().damaged), (0, 1));
}

#[test]
fn a_file_that_is_cut_off_anywhere_has_its_whole_blocks() {
    let whole = write(12);
    let mut seen = HashSet::new();
    for length in 0..whole.len() {
        match Recording::read(whole[..length].to_vec()) {
            Ok(recording) => {
                let events = read_events(&recording);
                assert_eq!(events, all(events.len() as u64), "cut at {length}");
                assert_eq!(events.len() % 3, 0);
                let damage = recording.damage();
                assert!(damage.has_no_end && damage.first_damaged.is_none(), "{damage:?}");
                seen.insert(events.len());
            }
            Err(error) => {
                let expected = match length {
                    0 => "it is empty",
                    _ => "it ends within its header",
                };
                assert!(error.to_string().starts_with(expected), "cut at {length}: {error}");
                assert!(length < 60, "{length}");
            }
        }
    }
    assert_eq!(seen.len(), 5, "0, 3, 6, 9 and 12 events");
}

#[test]
fn a_damaged_byte_anywhere_costs_one_block_at_most() {
    let whole = write(12);
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x41;
        let Ok(recording) = Recording::read(damaged) else {
            assert!(at < 60, "only the header is needed for all: {at}");
            continue;
        };
        let events = read_events(&recording);
        assert!(events.len() >= 9, "at {at}: {events:?}");
        assert!(!recording.damage().is_none(), "at {at}: it is told");
        assert!(events.is_sorted() && events.iter().all(|event| *event < 12));
    }
}

#[test]
fn what_is_no_recording_is_refused() {
    let refuse = |bytes: &[u8]| Recording::read(bytes.to_vec()).unwrap_err().to_string();
    assert!(refuse(b"").starts_with("it is empty"));
    for other in
        [&b"\x7fELF\x02\x01\x01"[..], b"{\"type\":\"flow\"}\n", &[0; 100], b"\x89ORB8\n\x1a"]
    {
        assert_eq!(refuse(other), "it is no recording of orb8 record");
    }
    let mut newer = write(1);
    newer[8] = 2;
    assert_eq!(
        refuse(&newer),
        "it has format 2.1, and this orb8 reads 1.1: update orb8 to replay it"
    );
    // Also where no more of it is there, or its header is another one.
    assert!(refuse(&newer[..10]).starts_with("it has format 2.0"));
    let mut long = write(1);
    long[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(refuse(&long).starts_with("its header is damaged"));
}

#[test]
fn a_newer_minor_version_is_read_without_what_is_unknown() {
    let mut bytes = write(3);
    // Version 1.7, with its checksum.
    bytes[10] = 7;
    let length = u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize;
    let checked = [&bytes[8..16], &bytes[20..20 + length]].concat();
    bytes[16..20].copy_from_slice(&crc32fast::hash(&checked).to_le_bytes());
    let recording = Recording::read(bytes).unwrap();
    assert_eq!(recording.version(), Version { major: 1, minor: 7 });
    assert_eq!(read_events(&recording), all(3));

    let mut raw = Vec::new();
    Frame::write(Kind::Pods, 1, b"a", &mut raw);
    raw[0] = 60;
    Frame::write(Kind::Dns, 2, b"bc", &mut raw);
    let frames: Vec<Frame<'_>> = Frames::new(&raw).collect();
    assert_eq!(frames[0], Frame { kind: None, time_ns: 1, message: b"a" });
    assert_eq!(frames[1], Frame { kind: Some(Kind::Dns), time_ns: 2, message: b"bc" });
}

/// A disk with room for so many bytes.
struct Disk {
    bytes: Vec<u8>,
    room: usize,
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let fits = bytes.len().min(self.room - self.bytes.len());
        if fits == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.bytes.extend(&bytes[..fits]);
        Ok(fits)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_leaves_what_was_written() {
    let whole = write(30).len();
    for room in 100..whole {
        let mut writer = Writer::new(Disk { bytes: Vec::new(), room }, &header()).unwrap();
        let mut failed = None;
        for number in 0..30 {
            let message = event(number).encode_to_vec();
            let added = writer.add(Kind::FlowEvent, START + number, &message);
            let flushed =
                added.and_then(|()| if number % 3 == 2 { writer.flush() } else { Ok(()) });
            if let Err(error) = flushed {
                failed = Some(error);
                break;
            }
        }
        let Some(error) = failed else { continue };
        let full = matches!(&error, RecordingError::Io(error) if error.kind() == io::ErrorKind::StorageFull);
        assert!(full, "{error}");
        let written = writer.written() as usize;
        let mut bytes = writer.into_inner().bytes;
        let cut = Recording::read(bytes.clone()).unwrap();
        bytes.truncate(written);
        let trimmed = Recording::read(bytes).unwrap();
        assert_eq!(read_events(&cut), read_events(&trimmed));
        assert_eq!(trimmed.damage().cut_at, None);
    }
}

#[test]
fn numbers_of_kinds_have_a_bit_each_and_lead_back() {
    let mut bits = HashSet::new();
    for (kind, ..) in Kind::TABLE {
        assert_eq!(Kind::of(*kind as u16), Some(*kind));
        assert!(bits.insert(kind.bit()) && (*kind as u16) < 64);
        assert!(kind.decodes(&[]));
    }
    assert_eq!(Kind::of(0), None);
}

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/recording.md");

#[test]
fn the_page_has_every_kind() {
    let mut table = String::from("| kind | message | what it is |\n|---|---|---|\n");
    for (kind, message, what) in Kind::TABLE {
        table += &format!("| {} | `{message}` | {} |\n", *kind as u16, what.trim());
    }
    let old = std::fs::read_to_string(PAGE).unwrap();
    let begin = old.find("<!-- begin kinds").unwrap();
    let begin = begin + old[begin..].find("-->\n").unwrap() + "-->\n".len();
    let end = old.find("<!-- end kinds -->").unwrap();
    let new = format!("{}\n{table}\n{}", &old[..begin], &old[end..]);
    if std::env::var_os("ORB8_BLESS").is_some() {
        std::fs::write(PAGE, &new).unwrap();
        return;
    }
    assert!(old == new, "stale; run `ORB8_BLESS=1 cargo test -p orb8-cli --lib recording`");
}

proptest! {
    /// Whatever is behind a valid header, nothing panics, and nothing is asked for that is not there.
    #[test]
    fn nonsense_is_survived(tail in prop::collection::vec(any::<u8>(), 0..600), cut in 0_usize..200) {
        let mut bytes = write(2);
        bytes.truncate(bytes.len().saturating_sub(cut).max(60));
        bytes.extend(tail);
        if let Ok(recording) = Recording::read(bytes) {
            for block in 0..recording.blocks() {
                let _ = recording.block(block);
            }
        }
    }

    #[test]
    fn frames_of_nonsense_are_survived(raw in prop::collection::vec(any::<u8>(), 0..300)) {
        let bytes: usize = Frames::new(&raw).map(|frame| frame.message.len() + 16).sum();
        prop_assert!(bytes <= raw.len());
    }
}

//! Recordings: a file may come from anywhere.
//!
//! An input is what a recording has behind its header, or the frames of one block.

use orb8_cli::recording::{Frames, Kind, Recording, Writer};
use orb8_proto::v1::RecordingHeader;

/// Opens a recording, and reads everything that it says that it has.
pub fn run(data: &[u8]) {
    // As a whole file, behind a header that can be read, and as frames whose checksum nobody asks for.
    read(data.to_vec());
    let mut file = header();
    file.extend(data);
    read(file);
    frames(data);
}

fn read(file: Vec<u8>) {
    let length = file.len();
    let Ok(recording) = Recording::read(file) else {
        return;
    };
    assert!(recording.blocks() <= length / 48, "blocks that are not there");
    for block in 0..recording.blocks() {
        let (first, last) = recording.times(block).expect("a block has times");
        assert!(recording.times(recording.blocks()).is_none(), "{first} to {last}");
        if let Ok(raw) = recording.block(block) {
            frames(&raw);
        }
    }
}

fn frames(raw: &[u8]) {
    let mut bytes = 0;
    for frame in Frames::new(raw) {
        bytes += 16 + frame.message.len();
        if let Some(kind) = frame.kind {
            // Whatever comes of it: nothing panics.
            let _ = kind.decodes(frame.message);
        }
    }
    assert!(bytes <= raw.len(), "frames overlap");
}

fn header() -> Vec<u8> {
    written(&RecordingHeader::default(), &[])
}

fn written(header: &RecordingHeader, messages: &[(Kind, &[u8])]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), header).expect("memory takes everything");
    for (time, (kind, message)) in (1..).zip(messages) {
        writer.add(*kind, time, message).expect("memory takes everything");
        if time % 2 == 0 {
            writer.flush().expect("memory takes everything");
        }
    }
    writer.flush().expect("memory takes everything");
    writer.into_inner()
}

/// A recording of a few blocks, its blocks alone, and frames.
pub fn seeds() -> Vec<Vec<u8>> {
    let message: &[u8] = &[8, 1];
    let messages = [
        (Kind::FlowEvent, message),
        (Kind::DnsEvent, &[][..]),
        (Kind::Flows, message),
        (Kind::Snapshot, &[16, 1][..]),
        (Kind::End, &[][..]),
    ];
    let name = RecordingHeader { node_name: "worker-1".into(), ..RecordingHeader::default() };
    let whole = written(&RecordingHeader::default(), &messages);
    let blocks = whole[header().len()..].to_vec();
    let frame = [&[1, 0, 0, 0, 2, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0][..], message].concat();
    vec![whole, blocks, frame, written(&name, &messages), Vec::new()]
}

//! Reading a recording: an index of its blocks first, and each block when it is wanted.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use orb8_proto::v1::RecordingHeader;
use prost::Message;

use super::block::{BlockHeader, HEADER};
use super::{Frames, Kind, MAGIC, MAX_HEADER, OpenError, RecordingError, VERSION, Version};

/// Bytes before the header's message.
const PREAMBLE: usize = 20;

/// Bytes that are looked through at once for the block after a damaged one.
const SEARCH: usize = 64 << 10;

/// Where a recording's bytes are.
pub trait Source {
    /// Returns how many there are.
    ///
    /// # Errors
    ///
    /// What the file system says.
    fn length(&self) -> io::Result<u64>;

    /// Fills a buffer from a place on, and returns how far it came.
    ///
    /// # Errors
    ///
    /// What the file system says.
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize>;
}

impl Source for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, mut at: u64, mut buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len();
        while !buffer.is_empty() {
            match FileExt::read_at(self, buffer, at) {
                Ok(0) => break,
                Ok(read) => {
                    at += read as u64;
                    buffer = &mut buffer[read..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(wanted - buffer.len())
    }
}

impl Source for Vec<u8> {
    fn length(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let from = usize::try_from(at).unwrap_or(usize::MAX).min(self.len());
        let bytes = &self[from..self.len().min(from.saturating_add(buffer.len()))];
        buffer[..bytes.len()].copy_from_slice(bytes);
        Ok(bytes.len())
    }
}

/// A recording that can be read.
#[derive(Debug)]
pub struct Recording<S> {
    source: S,
    header: RecordingHeader,
    version: Version,
    blocks: Vec<Place>,
    damage: Damage,
}

/// What of a recording cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// It ends within a block that begins here.
    pub cut_at: Option<u64>,
    /// Where the first damaged block begins.
    pub first_damaged: Option<u64>,
    /// Damaged blocks, or runs of them.
    pub damaged: u64,
    /// Whether it does not end as recordings do: whoever recorded was killed, or is still at it.
    pub has_no_end: bool,
}

/// Where a whole block is, and what it is.
#[derive(Clone, Copy, Debug)]
struct Place {
    at: u64,
    header: BlockHeader,
}

impl Recording<File> {
    /// Opens a recording and checks all of it.
    ///
    /// # Errors
    ///
    /// Why there is nothing to read: see [`RecordingError`].
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let open = || -> Result<Self, RecordingError> {
            // Before it is opened, which would wait for whoever writes to a named pipe.
            if !std::fs::metadata(path)?.is_file() {
                let problem = "it is no regular file: a recording is read back and forth";
                return Err(io::Error::other(problem).into());
            }
            Self::read(File::open(path)?)
        };
        open().map_err(|problem| OpenError { path: path.to_owned(), problem })
    }
}

impl<S: Source> Recording<S> {
    /// Reads the header, and finds and checks the blocks.
    ///
    /// # Errors
    ///
    /// Why there is nothing to read: see [`RecordingError`].
    pub fn read(source: S) -> Result<Self, RecordingError> {
        let length = source.length()?;
        let (header, version, begin) = read_header(&source, length)?;
        let mut recording =
            Self { source, header, version, blocks: Vec::new(), damage: Damage::default() };
        recording.find_blocks(begin, length)?;
        let has_end = recording.blocks.last().is_some_and(|block| block.has(Kind::End));
        recording.damage.has_no_end = !has_end;
        Ok(recording)
    }

    /// Returns what it is of.
    #[must_use]
    pub const fn header(&self) -> &RecordingHeader {
        &self.header
    }

    /// Returns the version of its format.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Returns what of it cannot be read.
    #[must_use]
    pub const fn damage(&self) -> Damage {
        self.damage
    }

    /// Returns how many blocks can be read.
    #[must_use]
    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Whether a block has messages of a kind.
    #[must_use]
    pub fn has(&self, block: usize, kind: Kind) -> bool {
        self.blocks.get(block).is_some_and(|block| block.has(kind))
    }

    /// Returns the times of a block's first and last message, Unix time in nanoseconds.
    #[must_use]
    pub fn times(&self, block: usize) -> Option<(u64, u64)> {
        let Place { header, .. } = self.blocks.get(block)?;
        Some((header.first_ns, header.last_ns))
    }

    /// Returns the frames of a block, decompressed, for [`Frames`].
    ///
    /// # Errors
    ///
    /// What the file system says, or that the block changed since it was checked.
    pub fn block(&self, block: usize) -> io::Result<Vec<u8>> {
        let Some(Place { at, header }) = self.blocks.get(block) else { return Ok(Vec::new()) };
        let stored = self.stored(*at, header)?;
        let is_whole = header.checks(&stored);
        let raw = is_whole.then(|| zstd::bulk::decompress(&stored, header.raw as usize));
        let changed =
            || io::Error::other(format!("the block at byte {at} changed while it was read"));
        let raw = raw.ok_or_else(changed)??;
        if Frames::new(&raw).count() != header.frames as usize {
            return Err(io::Error::other(format!(
                "the block at byte {at} has other messages than it says"
            )));
        }
        Ok(raw)
    }

    fn stored(&self, at: u64, header: &BlockHeader) -> io::Result<Vec<u8>> {
        let mut stored = vec![0; header.stored as usize];
        let read = self.source.read_at(at + HEADER as u64, &mut stored)?;
        stored.truncate(read);
        Ok(stored)
    }

    fn find_blocks(&mut self, begin: u64, length: u64) -> io::Result<()> {
        let mut at = begin;
        while at < length {
            let mut bytes = [0; HEADER];
            let is_whole = self.source.read_at(at, &mut bytes)? == HEADER;
            let header = BlockHeader::read(&bytes).filter(|_| is_whole);
            let Some(header) = header else {
                let next = self.find_header(at + 1)?;
                match next {
                    Some(_) => self.damage.add(at),
                    None => {
                        self.end_at(at, is_whole);
                        return Ok(());
                    }
                }
                at = next.unwrap_or(length);
                continue;
            };
            let end = at + (HEADER as u64) + u64::from(header.stored);
            if end > length {
                self.damage.cut_at = Some(at);
                return Ok(());
            }
            let stored = self.stored(at, &header)?;
            if header.checks(&stored) {
                self.blocks.push(Place { at, header });
            } else {
                self.damage.add(at);
            }
            at = end;
        }
        Ok(())
    }

    /// Notes that there is no block any more: what is left was cut off, or is damaged.
    fn end_at(&mut self, at: u64, has_header: bool) {
        if has_header {
            self.damage.add(at);
        } else {
            self.damage.cut_at = Some(at);
        }
    }

    /// Returns where the next whole header is.
    fn find_header(&self, from: u64) -> io::Result<Option<u64>> {
        let mut at = from;
        let mut buffer = vec![0; SEARCH + HEADER];
        loop {
            let read = self.source.read_at(at, &mut buffer)?;
            let mut place = 0;
            while let Some(found) = BlockHeader::find(&buffer[place..read]) {
                place += found;
                let header = buffer[place..read].first_chunk::<HEADER>();
                if header.is_some_and(|bytes| BlockHeader::read(bytes).is_some()) {
                    return Ok(Some(at + place as u64));
                }
                place += 1;
            }
            if read < buffer.len() {
                return Ok(None);
            }
            at += SEARCH as u64;
        }
    }
}

impl Place {
    const fn has(&self, kind: Kind) -> bool {
        self.header.kinds & kind.bit() != 0
    }
}

impl Damage {
    fn add(&mut self, at: u64) {
        self.damaged += 1;
        self.first_damaged.get_or_insert(at);
    }

    /// Whether everything that was recorded can be read.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        let Self { cut_at, first_damaged, damaged: _, has_no_end } = self;
        cut_at.is_none() && first_damaged.is_none() && !*has_no_end
    }
}

/// Reads what is before the first block, and returns where that is.
fn read_header(
    source: &impl Source,
    length: u64,
) -> Result<(RecordingHeader, Version, u64), RecordingError> {
    let mut preamble = [0; PREAMBLE];
    let read = source.read_at(0, &mut preamble)?;
    if read == 0 {
        return Err(RecordingError::Empty);
    }
    let magic = read.min(MAGIC.len());
    if preamble[..magic] != MAGIC[..magic] {
        return Err(RecordingError::NotARecording);
    }
    let version_at = MAGIC.len();
    let number = |at: usize| u16::from_le_bytes([preamble[at], preamble[at + 1]]);
    let found = Version { major: number(version_at), minor: number(version_at + 2) };
    if read >= version_at + 2 && found.major > VERSION.major {
        return Err(RecordingError::Newer { found });
    }
    let word = |at: usize| u32::from(number(at)) | u32::from(number(at + 2)) << 16;
    let (size, checksum) = (word(version_at + 4) as usize, word(version_at + 8));
    if read < PREAMBLE {
        return Err(RecordingError::NoHeader(length));
    }
    if size > MAX_HEADER {
        return Err(RecordingError::DamagedHeader);
    }
    let mut checked = preamble[version_at..version_at + 8].to_vec();
    checked.resize(8 + size, 0);
    if source.read_at(PREAMBLE as u64, &mut checked[8..])? < size {
        return Err(RecordingError::NoHeader(length));
    }
    if crc32fast::hash(&checked) != checksum {
        return Err(RecordingError::DamagedHeader);
    }
    let header =
        RecordingHeader::decode(&checked[8..]).map_err(|_| RecordingError::DamagedHeader)?;
    Ok((header, found, (PREAMBLE + size) as u64))
}

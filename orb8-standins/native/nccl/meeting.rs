//! Where ranks meet: memory that all processes of a communicator see, found by its unique id.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use std::ffi::{c_int, c_void};

use super::error::{Error, INVALID_ARGUMENT, SYSTEM};

/// Ranks that a communicator can have.
pub(super) const RANKS: usize = 1_024;

/// How long a rank waits for the others to come. The real one waits for ever.
const PATIENCE: Duration = Duration::from_secs(60);

const LOOK: Duration = Duration::from_micros(200);

/// What `complete` says once the communicator was given up: past every collective.
const GIVEN_UP: u64 = 1 << 62;

unsafe extern "C" {
    fn mmap(
        address: *mut c_void,
        length: usize,
        protection: c_int,
        flags: c_int,
        file: c_int,
        offset: i64,
    ) -> *mut c_void;
}

/// The shared memory. It begins as zeros.
#[repr(C)]
struct Board {
    /// Ranks that came.
    present: AtomicU64,
    /// Collectives that all ranks asked for.
    complete: AtomicU64,
    /// The rank that gave up, and 1.
    given_up_by: AtomicU64,
    ranks: [Rank; RANKS],
}

#[repr(C)]
struct Rank {
    is_present: AtomicU64,
    /// What it said when it came.
    said: AtomicU64,
    /// Collectives that it asked for.
    asked: AtomicU64,
}

/// A communicator's meeting.
#[derive(Clone, Copy)]
pub(super) struct Meeting {
    board: &'static Board,
    ranks: usize,
    rank: usize,
}

impl Meeting {
    /// Comes, and waits until all are there.
    pub(super) fn join(id: &[u8; 128], ranks: usize, rank: usize) -> Result<Self, Error> {
        Self::join_saying(0, id, ranks, rank)
    }

    /// Comes with something to say, and waits until all are there.
    pub(super) fn join_saying(
        said: u64,
        id: &[u8; 128],
        ranks: usize,
        rank: usize,
    ) -> Result<Self, Error> {
        let path = path(id);
        let board = open(&path).map_err(|_| SYSTEM)?;
        let meeting = Self { board, ranks, rank };
        if board.ranks[rank].is_present.swap(1, SeqCst) != 0 {
            return Err(INVALID_ARGUMENT);
        }
        board.ranks[rank].said.store(said, SeqCst);
        board.present.fetch_add(1, SeqCst);
        let start = Instant::now();
        while (board.present.load(SeqCst) as usize) < ranks {
            if start.elapsed() > PATIENCE {
                let _ = fs::remove_file(path);
                return Err(SYSTEM);
            }
            thread::sleep(LOOK);
        }
        // All have it open: nobody needs its name any more.
        if rank == 0 {
            let _ = fs::remove_file(path);
        }
        Ok(meeting)
    }

    /// Returns what each rank said when it came, in the order of ranks.
    pub(super) fn said(self) -> impl Iterator<Item = u64> {
        self.board.ranks[..self.ranks].iter().map(|rank| rank.said.load(SeqCst))
    }

    /// Comes as all ranks of a new communicator at once.
    pub(super) fn alone(id: &[u8; 128], ranks: usize) -> Result<Vec<Self>, Error> {
        let path = path(id);
        let board = open(&path).map_err(|_| SYSTEM)?;
        // Nobody else comes.
        let _ = fs::remove_file(path);
        board.present.store(ranks as u64, SeqCst);
        let come = |rank: usize| {
            board.ranks[rank].is_present.store(1, SeqCst);
            Self { board, ranks, rank }
        };
        Ok((0..ranks).map(come).collect())
    }

    /// Asks for the next collective and returns its number.
    pub(super) fn ask(self) -> u64 {
        let number = self.board.ranks[self.rank].asked.fetch_add(1, SeqCst) + 1;
        let ranks = &self.board.ranks[..self.ranks];
        // Of two ranks that ask at the same time, at least one sees the other's.
        let all = ranks.iter().map(|rank| rank.asked.load(SeqCst)).min().unwrap_or(number);
        self.board.complete.fetch_max(all, SeqCst);
        number
    }

    /// Returns where the number of collectives is that all have asked for.
    pub(super) fn complete(self) -> *const u64 {
        self.board.complete.as_ptr().cast_const()
    }

    /// Lets all go on whatever they wait for.
    pub(super) fn give_up(self) {
        self.board.given_up_by.store(self.rank as u64 + 1, SeqCst);
        self.board.complete.fetch_max(GIVEN_UP, SeqCst);
    }

    /// Whether another rank gave up.
    pub(super) fn is_given_up(self) -> bool {
        let by = self.board.given_up_by.load(SeqCst);
        by != 0 && by != self.rank as u64 + 1
    }
}

fn path(id: &[u8; 128]) -> PathBuf {
    let folder = if fs::exists("/dev/shm").unwrap_or(false) {
        PathBuf::from("/dev/shm")
    } else {
        std::env::temp_dir()
    };
    folder.join(format!("nccl-standin-{:016x}", hash(id)))
}

/// FNV-1a: other ids, other numbers.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Returns the id of what is made out of a communicator: `number` and `part` say which of it.
pub(super) fn id_within(id: &[u8; 128], number: u32, part: c_int) -> [u8; 128] {
    let words = [hash(id), u64::from(number), u64::from(part.cast_unsigned())];
    let mut within = [0; 128];
    for (bytes, word) in within.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    within
}

fn open(path: &PathBuf) -> io::Result<&'static Board> {
    let file: File = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    file.set_len(size_of::<Board>() as u64)?;
    const READ_WRITE: c_int = 3;
    const SHARED: c_int = 1;
    // SAFETY: a new mapping of a file that has this length.
    let address = unsafe {
        mmap(std::ptr::null_mut(), size_of::<Board>(), READ_WRITE, SHARED, file.as_raw_fd(), 0)
    };
    if address as isize == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the mapping has the board's length and a page's alignment, every content is one, and it
    // is never unmapped, since streams look into it as long as they like.
    Ok(unsafe { &*address.cast::<Board>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> [u8; 128] {
        let mut id = [0; 128];
        let text = format!("{name} {}", std::process::id());
        id[..text.len()].copy_from_slice(text.as_bytes());
        id
    }

    fn meet(name: &str, ranks: usize) -> Vec<Meeting> {
        let id = id(name);
        let join = |rank| thread::spawn(move || Meeting::join(&id, ranks, rank).unwrap());
        let ranks: Vec<_> = (0..ranks).map(join).collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    }

    fn complete(meeting: Meeting) -> u64 {
        meeting.board.complete.load(SeqCst)
    }

    #[test]
    fn a_collective_is_done_when_all_asked() {
        let ranks = meet("all", 3);
        assert_eq!((ranks[0].ask(), ranks[0].ask(), ranks[1].ask()), (1, 2, 1));
        assert_eq!(complete(ranks[2]), 0, "one rank is missing");
        assert_eq!(ranks[2].ask(), 1);
        assert_eq!(complete(ranks[0]), 1);
        assert!(!path(&id("all")).exists(), "the file goes when all are there");
    }

    #[test]
    fn all_hear_what_each_said() {
        let id = id("said");
        let join =
            |rank| thread::spawn(move || Meeting::join_saying(7 + rank as u64, &id, 2, rank));
        let ranks: Vec<_> = (0..2).map(join).collect();
        for rank in ranks {
            assert_eq!(Vec::from_iter(rank.join().unwrap().unwrap().said()), [7, 8]);
        }
        let parts = [(0, 0), (0, 1), (1, 0)].map(|(number, part)| id_within(&id, number, part));
        assert!(parts[0] != parts[1] && parts[0] != parts[2] && parts[1] != parts[2]);
        assert_ne!(id_within(&parts[0], 0, 0), parts[0], "a part of a part");
    }

    #[test]
    fn one_may_come_as_all() {
        let ranks = Meeting::alone(&id("alone"), 2).unwrap();
        assert!(!path(&id("alone")).exists());
        assert_eq!((ranks[0].ask(), complete(ranks[1])), (1, 0));
        assert_eq!((ranks[1].ask(), complete(ranks[0])), (1, 1));
    }

    #[test]
    fn who_gives_up_lets_the_others_go_and_know() {
        let ranks = meet("given up", 2);
        ranks[0].ask();
        ranks[1].give_up();
        assert!(complete(ranks[0]) >= 1);
        assert!(ranks[0].is_given_up() && !ranks[1].is_given_up());
    }
}

//! What was asked of connection tracking, kept for a while.

use std::io;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use orb8_common::packet::protocol;

use super::{Conntrack, ConntrackError, Tuple};
use crate::clock::Clock;
use crate::error::chain;
use crate::event::UnixNanos;

/// A packet is seen before the kernel has tracked its connection: where there is none yet, it is asked
/// again after so long, and each time after twice as long. A short connection has few events to ask
/// at.
const RETRY: Duration = Duration::from_millis(1);
/// So often, which is for a second.
const TRIES: u8 = 10;
/// And then no sooner than this: what is translated elsewhere is never tracked here.
const REST: Duration = Duration::from_secs(30);
/// A port is used again for another connection, which may have another backend.
const FOUND: Duration = Duration::from_secs(30);
/// A question takes about 5 µs, so that all of them take 1 % of a core.
const PER_SECOND: u32 = 2_000;
/// Of these, so many are for Services' addresses alone, where an answer is to be expected.
const FOR_SERVICES: u32 = PER_SECOND / 2;
/// Without connection tracking, whether there is some now is looked at this often.
const REOPEN: Duration = Duration::from_secs(30);
/// Connections that are remembered are at least this many, and at most twice as many: 3 MiB.
const REMEMBERED: usize = 8_192;

/// Who knows what becomes of a connection's addresses.
pub trait Tracking: std::fmt::Debug + Send {
    /// See [`Conntrack::opposite_of`].
    ///
    /// # Errors
    /// What the kernel said.
    fn opposite_of(&mut self, tuple: &Tuple) -> io::Result<Option<Tuple>>;
}

/// What is asked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// What one direction of the connection says on its way.
    pub tuple: Tuple,
    /// When the connection began.
    pub began: UnixNanos,
    /// Whether it leads to a Service's address: most others are not translated.
    pub is_service: bool,
}

/// Opens a [`Tracking`].
pub(crate) type Open = fn() -> Result<Box<dyn Tracking>, ConntrackError>;

type ByTuple<T> = HashMap<Tuple, T, foldhash::fast::RandomState>;

/// What becomes of connections' addresses. Bounded, and asks the kernel so often and no more.
#[derive(Debug)]
pub struct Translations {
    open: Open,
    tracking: Option<Box<dyn Tracking>>,
    /// When to open it (again).
    next_open: Option<Instant>,
    problem: Option<String>,
    recent: ByTuple<Known>,
    /// Those that were recent before; what is asked for again becomes so again.
    older: ByTuple<Known>,
    /// When the second began in which so many questions may still be asked.
    second: Option<Instant>,
    left: u32,
    skipped: u64,
    pub(super) clock: Clock,
}

/// What the kernel said of one tuple.
#[derive(Clone, Copy, Debug)]
struct Known {
    opposite: Option<Tuple>,
    /// When it said so.
    asked: UnixNanos,
    /// Not asked again before.
    next: Instant,
    /// Times in a row that nothing was tracked.
    tries: u8,
}

impl Translations {
    /// Opens connection tracking in the calling thread's network namespace now, while nobody waits for
    /// it: the kernel may have to load a module. Where there is none, it is looked for now and then.
    #[must_use]
    pub fn start(now: Instant) -> Self {
        let mut translations = Self::new(|| Ok(Box::new(Conntrack::open()?)));
        translations.reopen(now);
        translations
    }

    /// Asks whatever `open` opens, when it is first asked.
    pub(crate) fn new(open: Open) -> Self {
        Self {
            open,
            tracking: None,
            next_open: None,
            problem: None,
            recent: ByTuple::default(),
            older: ByTuple::default(),
            second: None,
            left: 0,
            skipped: 0,
            clock: Clock::system(),
        }
    }

    /// Returns what comes back, as it is sent. Its source is who is behind the destination: the
    /// backend that answers in place of a Service, or the client behind an address that this node
    /// masquerades it with; its destination is whom that one talks to. `None` where nothing is
    /// translated, or that is not known (yet).
    pub fn opposite(&mut self, wanted: &Wanted, now: Instant) -> Option<Tuple> {
        let Wanted { tuple, began, is_service } = *wanted;
        if !tuple.is_tracked() {
            return None;
        }
        let known = self.recall(&tuple).filter(|known| !known.is_of_another(&tuple, began));
        let opposite = known.and_then(|known| known.opposite);
        if known.is_some_and(|known| now < known.next) || !self.may_ask(is_service, now) {
            return opposite;
        }
        let asked = self.clock.now();
        let known = match self.ask(&tuple)? {
            Ok(Some(opposite)) => {
                let opposite = Some(opposite).filter(|opposite| *opposite != tuple.reversed());
                Known { opposite, asked, next: now + FOUND, tries: 0 }
            }
            Ok(None) => {
                let tries = known.map_or(0, |known| known.tries).saturating_add(1);
                let rest = if tries < TRIES { RETRY * (1 << (tries - 1)) } else { REST };
                Known { opposite: None, asked, next: now + rest, tries }
            }
            Err(error) => {
                self.tracking = None;
                self.fail(&ConntrackError::Io(error), now);
                return opposite;
            }
        };
        self.remember(tuple, known);
        known.opposite
    }

    /// Asks once more after an error: an answer that was late, or a buffer that was full, is no
    /// reason to do without for half a minute.
    fn ask(&mut self, tuple: &Tuple) -> Option<io::Result<Option<Tuple>>> {
        let tracking = self.tracking.as_mut()?;
        Some(tracking.opposite_of(tuple).or_else(|_| tracking.opposite_of(tuple)))
    }

    /// Returns how often it was not asked, since too much was asked already.
    #[must_use]
    pub const fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Says why nothing is known, where that is so.
    #[must_use]
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Whether there is somebody to ask, and it was not asked too much.
    fn may_ask(&mut self, is_service: bool, now: Instant) -> bool {
        if self.tracking.is_none() && !self.reopen(now) {
            return false;
        }
        let is_over = |start: Instant| now.saturating_duration_since(start).as_secs() >= 1;
        if self.second.is_none_or(is_over) {
            (self.second, self.left) = (Some(now), PER_SECOND);
        }
        let is_left = self.left > if is_service { 0 } else { FOR_SERVICES };
        self.left -= u32::from(is_left);
        self.skipped += u64::from(!is_left);
        is_left
    }

    fn reopen(&mut self, now: Instant) -> bool {
        if self.next_open.is_some_and(|next| now < next) {
            return false;
        }
        match (self.open)() {
            Ok(tracking) => {
                self.tracking = Some(tracking);
                self.problem = None;
                true
            }
            Err(error) => {
                self.fail(&error, now);
                false
            }
        }
    }

    fn fail(&mut self, error: &ConntrackError, now: Instant) {
        self.next_open = Some(now + REOPEN);
        let reason = chain(error);
        if self.problem.as_ref() != Some(&reason) {
            tracing::info!(reason, "translated addresses are shown as they are");
        }
        self.problem = Some(reason);
    }

    fn recall(&mut self, tuple: &Tuple) -> Option<Known> {
        if let Some(known) = self.recent.get(tuple) {
            return Some(*known);
        }
        let known = *self.older.get(tuple)?;
        self.remember(*tuple, known);
        Some(known)
    }

    fn remember(&mut self, tuple: Tuple, known: Known) {
        if self.recent.len() >= REMEMBERED && !self.recent.contains_key(&tuple) {
            std::mem::swap(&mut self.recent, &mut self.older);
            self.recent.clear();
        }
        self.recent.insert(tuple, known);
    }
}

impl Known {
    /// Whether it was said of a connection before this one, whose client had the same port. Of others
    /// than these, one entry is all that ever goes by a tuple.
    fn is_of_another(&self, tuple: &Tuple, began: UnixNanos) -> bool {
        matches!(tuple.protocol, protocol::TCP | protocol::SCTP) && self.asked < began
    }
}

#[cfg(test)]
mod tests;

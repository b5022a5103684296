//! What the tests stand on: places that are their own, traffic, and two ways to count it.

use std::{
    io::Write,
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::{Duration, Instant},
};

pub(crate) mod agent;
pub(crate) mod cgroup;
pub(crate) mod cluster;
pub(crate) mod container;
pub(crate) mod dns;
pub(crate) mod engine;
pub(crate) mod frames;
pub(crate) mod hubble;
pub(crate) mod name_server;
pub(crate) mod netns;
pub(crate) mod nft;
pub(crate) mod node;
pub(crate) mod objects;
pub(crate) mod program;
pub(crate) mod reference;
pub(crate) mod roles;
pub(crate) mod seen;
pub(crate) mod standins;
pub(crate) mod tcp;
pub(crate) mod traffic;
pub(crate) mod views;
pub(crate) mod watch;

use cgroup::{Cgroup, Joined};
use netns::Pair;

/// Two joined namespaces, and a cgroup that this process is in: what most tests need.
///
/// Fields are dropped in order: the cgroup is left before it is removed, and the turn ends last.
pub(crate) struct Lab {
    pub(crate) pair: Pair,
    _joined: Joined,
    pub(crate) cgroup: Cgroup,
    _turn: Turn,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let turn = turn();
        let cgroup = Cgroup::new();
        let joined = cgroup.join();
        Self { pair: Pair::new(), _joined: joined, cgroup, _turn: turn }
    }
}

/// What a test holds while it is at work.
pub(crate) enum Turn {
    Alone { _guard: RwLockWriteGuard<'static, ()> },
    Beside { _guard: RwLockReadGuard<'static, ()> },
}

static TURN: RwLock<()> = RwLock::new(());

/// Waits until no other test is at work: a whole process is in one cgroup, with all that it starts and
/// all of its sockets.
pub(crate) fn turn() -> Turn {
    Turn::Alone { _guard: TURN.write().unwrap_or_else(PoisonError::into_inner) }
}

/// Waits until only such tests are at work as do not mind each other: those that look at processes of
/// their own, by libraries of their own, and measure nothing that these would disturb.
pub(crate) fn turn_beside() -> Turn {
    Turn::Beside { _guard: TURN.read().unwrap_or_else(PoisonError::into_inner) }
}

/// `count` times `ORB8_TEST_SCALE`, and at least one.
pub(crate) fn scaled(count: u64) -> u64 {
    ((count as f64 * scale()) as u64).max(1)
}

/// A time of load times `ORB8_TEST_SCALE`.
pub(crate) fn scaled_time(time: Duration) -> Duration {
    time.mul_f64(scale())
}

/// How long a machine may take for what takes `time` on one that is not emulated.
pub(crate) fn slack(time: Duration) -> Duration {
    time.div_f64(scale())
}

fn scale() -> f64 {
    std::env::var("ORB8_TEST_SCALE").map_or(1.0, |scale| scale.parse().expect("a number"))
}

/// Says why a test does not run here; fails where the machine is known to have the feature.
pub(crate) fn skip(feature: &str, reason: &str) {
    let required = std::env::var("ORB8_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|name| name == feature), "{feature} is required: {reason}");
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("test");
    // Not a macro: the harness keeps to itself what a test that passes prints by one.
    let told = writeln!(std::io::stderr(), "SKIPPED {test}: no {feature}: {reason}");
    told.expect("standard error");
}

/// How long anything that has to happen may take, on a slow emulated machine too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Calls `check` until it gives something.
///
/// # Panics
/// When it does not within [`PATIENCE`].
pub(crate) fn eventually<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

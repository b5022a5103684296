//! What a watch knows of its conversation so far.

use std::time::Duration;

use tokio::time::Instant;

use crate::watch::{
    failure::Failure,
    timing::{Backoff, Timing, random},
};

/// Lists that were to be streamed and broke, after which they are asked for whole: it is not the
/// connection, but a server or a proxy that cannot stream them to their end.
const BROKEN_STREAMS: u32 = 2;

pub(super) struct State {
    /// The version that is known: watches go on from it, and lists are no older. `None`: there is
    /// none, or the server does not know it.
    pub(super) version: Option<String>,
    /// What is known is of the version; else a list is needed.
    pub(super) listed: bool,
    /// The server may stream lists.
    pub(super) streaming: bool,
    /// Streamed lists that ended before their end, in a row.
    broken_streams: u32,
    /// The server sends bookmarks, so silence means something.
    pub(super) bookmarks: bool,
    /// It failed, and is to count as reconnected.
    pub(super) failed: bool,
    /// What comes may be from the time that it was disconnected.
    pub(super) behind: bool,
    /// Since when the watch tells what changes.
    pub(super) following: Option<Instant>,
    /// Something came since it was opened.
    pub(super) heard: bool,
    /// A watch lasted since its version was last too old.
    pub(super) has_stood: bool,
    /// The version at which something came that is not valid.
    malformed_at: Option<String>,
    /// There was a list, and no watch that lasted since.
    fruitless: bool,
    /// Between tries.
    backoff: Backoff,
    /// Between lists that lead to no watch.
    relists: Backoff,
}

impl State {
    pub(super) fn new(timing: &Timing) -> Self {
        Self {
            version: None,
            listed: false,
            streaming: true,
            broken_streams: 0,
            bookmarks: false,
            failed: false,
            behind: false,
            following: None,
            heard: false,
            has_stood: false,
            malformed_at: None,
            fruitless: false,
            backoff: Backoff::new(timing.backoff),
            relists: Backoff::new((timing.backoff.0, timing.relist)),
        }
    }

    /// A list is complete.
    pub(super) fn complete(&mut self) {
        self.listed = true;
        self.fruitless = true;
        self.broken_streams = 0;
        self.following = Some(Instant::now());
    }

    /// The watch lasted, whatever ended it.
    pub(super) fn stood(&mut self) {
        self.has_stood = true;
        self.fruitless = false;
        self.backoff.reset();
        self.relists.reset();
    }

    /// A streamed list ended before its end.
    pub(super) fn lost_a_stream(&mut self) {
        self.broken_streams += 1;
        self.streaming &= self.broken_streams < BROKEN_STREAMS;
    }

    /// Takes in what a failure says about the version, and tells how long to wait.
    pub(super) fn learn(&mut self, failure: &Failure) -> Duration {
        let unheard = self.following.is_some() && !self.heard;
        match failure {
            // A list that is too old is one of several pages, or of a server without a cache.
            Failure::Expired => self.list_again(self.listed),
            // A server whose etcd was restored; what it has is older, and all there is.
            Failure::Ahead => self.list_again(false),
            Failure::Refused(refusal) if refusal.is_about_version() => self.list_again(false),
            // So does a restored server look to who goes on from a version of before.
            Failure::Stalled(_) if unheard => self.list_again(true),
            // It would come again from the same version, for ever.
            Failure::Malformed(_) if self.listed && self.malformed_at == self.version => {
                self.list_again(true);
            }
            Failure::Malformed(_) => self.malformed_at.clone_from(&self.version),
            _ => {}
        }
        // A list is not asked for again and again where no watch follows from it.
        if !self.listed && std::mem::take(&mut self.fruitless) {
            return self.relists.wait(random());
        }
        self.backoff.wait(random())
    }

    fn list_again(&mut self, from_version: bool) {
        self.listed = false;
        if !from_version {
            self.version = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::failure::Verb;

    fn listed(version: &str) -> State {
        let mut state = State::new(&Timing::default());
        state.version = Some(version.to_owned());
        state.complete();
        state
    }

    fn answer(code: u16) -> Failure {
        let code = http::StatusCode::from_u16(code).unwrap();
        let verb = Verb::Watch { streaming: false };
        Failure::answer(code, &http::HeaderMap::new(), b"", verb)
    }

    /// Whether a list is needed, and the version that it may not be older than.
    fn after(failures: &[Failure]) -> (bool, Option<String>) {
        let mut state = listed("7");
        for failure in failures {
            state.learn(failure);
        }
        (!state.listed, state.version)
    }

    #[test]
    fn a_list_is_no_older_than_what_is_known_unless_the_server_does_not_know_it() {
        let seven = Some("7".to_owned());
        let malformed = || Failure::malformed("odd");
        assert_eq!(after(&[Failure::Expired]), (true, seven.clone()));
        assert_eq!(after(&[Failure::Expired, Failure::Expired]), (true, None));
        assert_eq!(after(&[Failure::Expired, Failure::Ahead]), (true, None));
        assert_eq!(after(&[answer(422)]), (true, None));
        assert_eq!(after(&[malformed()]), (false, seven.clone()));
        assert_eq!(after(&[malformed(), malformed()]), (true, seven.clone()));
        for failure in [answer(404), answer(405), answer(429), answer(500), Failure::Hasty] {
            let named = format!("{failure:?}");
            assert_eq!(after(&[failure]), (false, seven.clone()), "{named}");
        }
    }

    #[test]
    fn malformed_events_at_different_versions_are_no_reason_to_list() {
        let mut state = listed("7");
        for version in ["8", "9", "10"] {
            state.version = Some(version.to_owned());
            state.learn(&Failure::malformed("odd"));
            assert!(state.listed);
        }
    }

    #[test]
    fn lists_that_lead_nowhere_become_rare() {
        let mut state = listed("7");
        let mut waits = Vec::new();
        for _ in 0..12 {
            state.complete();
            waits.push(state.learn(&Failure::Expired));
        }
        assert!(waits[0] <= Duration::from_secs(2), "{waits:?}");
        assert!(waits[11] >= Duration::from_secs(300), "{waits:?}");
        // Once it waited, a list that fails is tried again as usual.
        assert!(state.learn(&answer(503)) <= Duration::from_secs(2));
        state.complete();
        state.stood();
        assert!(state.learn(&Failure::Expired) <= Duration::from_secs(2));
    }
}

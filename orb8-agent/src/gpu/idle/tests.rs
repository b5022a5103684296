use super::*;
use crate::gpu::reading::DeviceState;
use crate::gpu::samples::{device, owner, sampled};
use crate::gpu::share::{Held, Shares};

const GPU: &str = "GPU-1";
const IDLE_AFTER: Duration = Duration::from_secs(60);

/// A device, seen second by second.
struct Clock {
    standings: Standings,
    start: Instant,
    seconds: u64,
    known: Known,
}

impl Clock {
    fn new() -> Self {
        let standings = Standings::new(IDLE_AFTER);
        Self { standings, start: Instant::now(), seconds: 1, known: Known::default() }
    }

    fn now(&self) -> (Instant, UnixNanos) {
        let time = UnixNanos(self.seconds * 1_000_000_000);
        (self.start + Duration::from_secs(self.seconds), time)
    }

    /// Looks once, and returns what the first owner does and what was told.
    fn look(&mut self, state: Option<DeviceState>, shares: Vec<Share>) -> (Standing, Vec<String>) {
        let mut seen = sampled(device(GPU), |sample| sample.busy.gpu = Some(0.3));
        seen.state = state.unwrap_or(seen.state);
        let shares = Shares { shares, ..Shares::default() };
        let mut views = [DeviceView { seen, shares, counts: Default::default() }];
        let events = self.standings.judge(self.now(), &mut views, &self.known);
        let standing = views[0].shares.shares.first().map(|share| share.standing);
        self.seconds += 1;
        (standing.unwrap_or(Standing::InUse), events.iter().map(told).collect())
    }

    /// Looks for so many seconds, and returns everything that was told.
    fn look_for(&mut self, seconds: u64, share: &Share) -> Vec<String> {
        (0..seconds).flat_map(|_| self.look(None, vec![share.clone()]).1).collect()
    }
}

fn told(event: &GpuEvent) -> String {
    assert_eq!(event.device, Some(DeviceId::new(GPU)));
    let pod = event.owners[0].pod.as_deref().unwrap_or("-");
    match &event.kind {
        GpuEventKind::Idle { began, lasted } => {
            format!("{pod} idle {began} {}", lasted.as_secs())
        }
        GpuEventKind::Unallocated { began } => format!("{pod} unallocated {began}"),
        other => panic!("{other:?}"),
    }
}

fn share(pod: &str, holds: bool, memory: u64, busy: f64) -> Share {
    let held = Held { resource: "nvidia.com/gpu".into(), is_shared: false, claim: None };
    Share {
        device: DeviceId::new(GPU),
        owner: owner(pod),
        holds: holds.then_some(held),
        memory: Some((memory, Basis::Exact)),
        busy: Some((busy, Basis::Exact)),
        processes: Vec::new(),
        standing: Standing::InUse,
    }
}

fn idle(since: u64, is_long: bool) -> Standing {
    Standing::Idle { since: UnixNanos(since * 1_000_000_000), is_long }
}

#[test]
fn a_holder_is_idle_after_a_pause_and_told_after_long() {
    let mut clock = Clock::new();
    let busy = share("a", true, 100, 0.5);
    let resting = share("a", true, 100, 0.0);
    assert_eq!(clock.look(None, vec![busy.clone()]), (Standing::Active, vec![]));
    assert_eq!(clock.look_for(4, &resting), Vec::<String>::new());
    assert_eq!(clock.look(None, vec![resting.clone()]).0, idle(1, false));
    assert_eq!(clock.look_for(54, &resting), Vec::<String>::new());
    let (standing, told) = clock.look(None, vec![resting.clone()]);
    assert_eq!((standing, told), (idle(1, true), vec!["a idle true 60".to_owned()]));
    assert_eq!(clock.look_for(30, &resting), Vec::<String>::new(), "once");
    let (standing, told) = clock.look(None, vec![busy]);
    assert_eq!((standing, told), (Standing::Active, vec!["a idle false 91".to_owned()]));
    // Memory that comes or goes is use as well.
    assert_eq!(clock.look_for(61, &resting), ["a idle true 60"]);
    let more = share("a", true, 101, 0.0);
    assert_eq!(clock.look_for(1, &more), ["a idle false 62"]);
}

#[test]
fn who_never_used_a_device_is_idle_since_it_was_seen_to_hold_it() {
    let mut clock = Clock::new();
    let resting = share("a", true, 0, 0.0);
    assert_eq!(clock.look(None, vec![resting.clone()]).0, idle(1, false));
    assert_eq!(clock.look_for(60, &resting), ["a idle true 60"]);
    // The pod goes, and its idleness with it.
    assert_eq!(clock.look(None, vec![]).1, ["a idle false 61"]);
    assert_eq!(clock.look(None, vec![]).1, Vec::<String>::new());
}

#[test]
fn time_without_an_answer_is_not_idle() {
    let mut clock = Clock::new();
    let resting = share("a", true, 0, 0.0);
    clock.look_for(30, &resting);
    let silent = || Some(DeviceState::Silent { reason: "no answer".into() });
    for _ in 0..200 {
        assert_eq!(clock.look(silent(), vec![resting.clone()]).1, Vec::<String>::new());
    }
    assert_eq!(clock.look_for(30, &resting), Vec::<String>::new());
    assert_eq!(clock.look_for(1, &resting), ["a idle true 260"], "since it was seen");
}

#[test]
fn who_holds_a_lost_device_neither_uses_it_nor_leaves_it_idle() {
    let mut clock = Clock::new();
    let resting = share("a", true, 100, 0.0);
    assert_eq!(clock.look_for(61, &resting), ["a idle true 60"]);
    let lost = || DeviceState::Lost { reason: "fell off the bus".into(), since: UnixNanos(0) };
    let (standing, told) = clock.look(Some(lost()), vec![resting.clone()]);
    assert_eq!((standing, told), (Standing::Lost, vec!["a idle false 61".to_owned()]));
    for _ in 0..100 {
        assert_eq!(clock.look(Some(lost()), vec![resting.clone()]), (Standing::Lost, vec![]));
    }
    // Reset, and back: neither was it idle while it was away, nor is its empty memory a use.
    let empty = Share { memory: Some((0, Basis::Exact)), ..resting };
    assert_eq!(clock.look(None, vec![empty.clone()]), (idle(162, false), vec![]));
    assert_eq!(clock.look_for(58, &empty), Vec::<String>::new());
    assert_eq!(clock.look_for(2, &empty), ["a idle true 60"]);
}

#[test]
fn nobody_is_idle_where_time_is_not_told() {
    let mut clock = Clock::new();
    let silent_about_time = || Some(sampled(device(GPU), |_| {}).state);
    let unknown = Share { busy: None, ..share("a", true, 1, 0.0) };
    for _ in 0..100 {
        let (standing, told) = clock.look(silent_about_time(), vec![unknown.clone()]);
        assert_eq!((standing, told), (Standing::Active, vec![]));
    }
    // Where the device tells its own, a process without a sample did nothing.
    assert_eq!(clock.look_for(61, &unknown), ["a idle true 60"]);
}

#[test]
fn use_without_holding_is_told_once_it_is_known() {
    let mut clock = Clock::new();
    let foreign = share("b", false, 1, 0.1);
    assert_eq!(clock.look(None, vec![foreign.clone()]).0, Standing::InUse, "no kubelet");
    clock.known.holders = Some(clock.start);
    assert_eq!(clock.look(None, vec![foreign.clone()]).0, Standing::InUse, "asked before");
    clock.known.holders = Some(clock.now().0);
    let (standing, told) = clock.look(None, vec![foreign.clone()]);
    assert_eq!((standing, told), (Standing::Unallocated, vec!["b unallocated true".to_owned()]));
    let silent = DeviceState::Silent { reason: "no answer".into() };
    assert_eq!(clock.look(Some(silent), vec![]).1, Vec::<String>::new(), "it did not go");
    assert_eq!(clock.look(None, vec![foreign.clone()]).1, Vec::<String>::new());
    assert_eq!(clock.look(None, vec![]).1, ["b unallocated false"]);
    // A pod whose claim could not be matched may hold just this one.
    clock.known.unmatched.insert(foreign.owner.key());
    clock.look(None, vec![foreign.clone()]);
    clock.known.holders = Some(clock.now().0);
    assert_eq!(clock.look(None, vec![foreign.clone()]).0, Standing::InUse);
    // And so may one without a name.
    clock.known.unmatched.clear();
    let mut unnamed = foreign;
    let mut workload = unnamed.owner.workload.as_deref().cloned().unwrap();
    (workload.pod, workload.container) = (None, None);
    unnamed.owner.pod = None;
    unnamed.owner.workload = Some(workload.into());
    clock.look(None, vec![unnamed.clone()]);
    clock.known.holders = Some(clock.now().0);
    assert_eq!(clock.look(None, vec![unnamed]).0, Standing::InUse);
}

#[test]
fn the_kubelet_is_asked_at_once_about_who_is_new() {
    let mut clock = Clock::new();
    let mut unheld = |shares: Vec<Share>, asked: Option<Instant>| {
        let seen = sampled(device(GPU), |_| {});
        let shares = Shares { shares, ..Shares::default() };
        let mut views = [DeviceView { seen, shares, counts: Default::default() }];
        let now = clock.now();
        clock.standings.judge(now, &mut views, &Known::default());
        clock.standings.unheld(&views, asked)
    };
    let pod = PodName { namespace: "ml".into(), pod: "b".into() };
    let start = Instant::now();
    assert_eq!(unheld(vec![share("a", true, 0, 0.0)], Some(start)), None);
    let foreign = share("b", false, 1, 0.1);
    assert_eq!(unheld(vec![foreign.clone()], Some(start)), Some(Some(pod.clone())));
    assert_eq!(unheld(vec![foreign.clone()], None), Some(Some(pod)));
    let later = start + Duration::from_secs(60);
    assert_eq!(unheld(vec![foreign], Some(later)), None, "it was asked since");
}

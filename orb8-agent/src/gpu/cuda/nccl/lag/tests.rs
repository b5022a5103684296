use super::*;

/// Ranks of communicator 7 and how many calls each made, over time.
struct Scene {
    lags: Lags,
    now: Instant,
    ranks: Vec<Member>,
}

impl Scene {
    fn new(ranks: u32) -> Self {
        let now = Instant::now();
        let member = |rank| Member {
            rank,
            calls: 0,
            moved: now,
            patience: STRAGGLES_AFTER,
            is_gone: false,
            missing: Vec::new(),
        };
        Self { lags: Lags::default(), now, ranks: (0..ranks).map(member).collect() }
    }

    /// Lets a second pass in which ranks come to so many calls.
    fn second(&mut self, calls: &[u64]) -> Vec<Straggler<u32>> {
        self.now += Duration::from_secs(1);
        for (rank, calls) in self.ranks.iter_mut().zip(calls) {
            if rank.calls != *calls {
                (rank.calls, rank.moved) = (*calls, self.now);
            }
        }
        let ranks = self.ranks.iter().map(|rank| (100 + rank.rank, rank.clone())).collect();
        self.lags.compare(&HashMap::from([(7, ranks)]), self.now)
    }

    fn lag(&self) -> Option<(u64, u32)> {
        self.lags.of(7).map(|lag| (lag.behind, lag.slowest))
    }
}

fn straggler(rank: u32, behind: u64, is_missing: bool) -> Straggler<u32> {
    let event = GpuEventKind::Straggler { communicator: 7, rank, behind, is_missing };
    Straggler { process: Some(100 + rank), event }
}

#[test]
fn ranks_that_go_on_are_no_stragglers() {
    let mut scene = Scene::new(3);
    for i in 0..60 {
        // One is always a little behind.
        assert_eq!(scene.second(&[i * 10 + 10, i * 10 + 10, i * 10 + 7]), []);
        assert_eq!(scene.lag(), Some((3, 2)));
    }
    // All of them stand: the job does something else.
    for _ in 0..60 {
        assert_eq!(scene.second(&[600, 600, 600]), []);
    }
    assert_eq!(scene.lag(), Some((0, 0)));
}

#[test]
fn a_rank_that_stands_while_others_are_ahead_is_told_once() {
    let mut scene = Scene::new(3);
    scene.second(&[10, 10, 10]);
    let mut told = Vec::new();
    for second in 1..40 {
        for event in scene.second(&[12, 10, 12]) {
            told.push((second, event));
        }
    }
    assert_eq!(told, [(10, straggler(1, 2, false))]);
    // It goes on, and stands again: another time.
    assert_eq!(scene.second(&[20, 20, 20]), []);
    let told: Vec<_> = (0..20).flat_map(|_| scene.second(&[21, 20, 21])).collect();
    assert_eq!(told, [straggler(1, 1, false)]);
}

#[test]
fn a_rank_whose_process_ended_is_told_at_once() {
    let mut scene = Scene::new(2);
    scene.second(&[10, 10]);
    scene.ranks[1].is_gone = true;
    // It had done as much as the others: they may be at the end, too.
    assert_eq!(scene.second(&[10, 10]), []);
    assert_eq!(scene.second(&[11, 10]), [straggler(1, 1, true)]);
    assert_eq!(scene.second(&[11, 10]), []);
}

#[test]
fn a_rank_that_nccl_misses_is_told_wherever_it_is() {
    let mut scene = Scene::new(2);
    scene.ranks[0].missing = vec![5];
    let told = scene.second(&[10, 10]);
    let event = GpuEventKind::Straggler { communicator: 7, rank: 5, behind: 0, is_missing: true };
    assert_eq!(told, [Straggler { process: None, event }]);
    assert_eq!(scene.second(&[10, 10]), []);
}

#[test]
fn one_rank_alone_has_no_lag() {
    let mut scene = Scene::new(1);
    for _ in 0..20 {
        assert_eq!(scene.second(&[10]), []);
    }
    assert_eq!(scene.lag(), None);
}

#[test]
fn what_is_compared_is_bounded_and_forgotten() {
    let mut lags = Lags::default();
    let now = Instant::now();
    let member = Member {
        rank: 0,
        calls: 1,
        moved: now,
        patience: STRAGGLES_AFTER,
        is_gone: false,
        missing: Vec::new(),
    };
    let many = |from: u64| {
        (from..from + 2_000).map(|hash| (hash, vec![(0_u32, member.clone())])).collect()
    };
    lags.compare(&many(0), now);
    assert_eq!(lags.rows.len(), MAX_COMPARED);
    lags.compare(&many(10_000), now);
    lags.compare(&many(10_000), now);
    assert_eq!(lags.rows.len(), MAX_COMPARED);
    lags.compare::<u32>(&HashMap::new(), now);
    assert!(lags.rows.is_empty());
}

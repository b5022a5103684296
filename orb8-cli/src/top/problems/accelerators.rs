//! What goes wrong on accelerators: devices that are not well, and memory or time that is wasted.

use std::cmp::Reverse;
use std::time::Duration;

use orb8_proto::columns::{Tone, owner};
use orb8_proto::gpu::Places;
use orb8_proto::gpu::health::{Finding, Verdict, judge, of_xid};
use orb8_proto::units;
use orb8_proto::v1::{
    GpuActivity, GpuDevice, GpuShare, GpuStanding, GpuXidAction, QueryGpuResponse, Workload,
};

use super::{Found, Rank, WORST};

impl Found<'_> {
    pub(super) fn accelerators(&mut self, answer: &QueryGpuResponse) {
        let places = Places::new(&answer.devices);
        for device in &answer.devices {
            self.device(&places.label(&device.id), device);
        }
        self.idle(answer, &places);
        self.unallocated(answer, &places);
        self.leaks(answer);
    }

    /// What a device has lasts until somebody does something about it; what a program did to it is over.
    fn device(&mut self, label: &str, device: &GpuDevice) {
        let counts = device.counts.iter().flat_map(|counts| &counts.xids);
        let of_programs: Vec<_> = counts
            .filter(|count| count.xid.as_ref().is_some_and(|xid| is_of_program(xid.action())))
            .collect();
        for count in &of_programs {
            let Some(xid) = &count.xid else { continue };
            let key = format!("xid {} {}", xid.code, device.id);
            self.count(&key, count.count, Tone::Warn, |count| {
                format!("GPU {label}: XID {} ×{count}: {}; restart the pod", xid.code, xid.meaning)
            });
        }
        let told: Vec<Finding> = of_programs.into_iter().filter_map(of_xid).collect();
        for finding in judge(device).iter().filter(|finding| !told.contains(finding)) {
            let Finding { verdict, remedy, .. } = finding;
            let what = finding.told(self.now_ns);
            let (rank, tone) = match verdict {
                Verdict::Ok => continue,
                Verdict::Warn => (Rank::Missing, Tone::Warn),
                Verdict::Bad => (Rank::Down, Tone::Bad),
            };
            self.add(rank, tone, format!("GPU {label}: {what}; {remedy}"));
        }
    }

    fn idle(&mut self, answer: &QueryGpuResponse, places: &Places<'_>) {
        let mut idle: Vec<&GpuShare> = shares(answer).filter(|share| share.idle_long).collect();
        idle.sort_by_key(|share| share.idle_since_ns);
        for share in idle.iter().take(WORST) {
            let (who, gpu) = (name(share.owner.as_ref()), places.label(&share.device));
            let lasted = answer.time_ns.saturating_sub(share.idle_since_ns) / 1_000_000_000;
            let lasted = units::duration(Duration::from_secs(lasted));
            let text = format!("{who} holds GPU {gpu}, and has not used it for {lasted}");
            self.add(Rank::Missing, Tone::Warn, text);
        }
        self.others(idle.len(), "more devices that are held and not used: orb8 gpu idle");
    }

    fn unallocated(&mut self, answer: &QueryGpuResponse, places: &Places<'_>) {
        let is_taken = |share: &&GpuShare| share.standing() == GpuStanding::Unallocated;
        let taken: Vec<&GpuShare> = shares(answer).filter(is_taken).collect();
        for share in taken.iter().take(WORST) {
            let (who, gpu) = (name(share.owner.as_ref()), places.label(&share.device));
            let text = format!("{who} uses GPU {gpu}, which it was not given");
            self.add(Rank::Missing, Tone::Warn, text);
        }
        self.others(taken.len(), "more devices that are used and not held: orb8 gpu idle");
    }

    fn leaks(&mut self, answer: &QueryGpuResponse) {
        let growth = |activity: &GpuActivity| {
            let leak = activity.memory.as_ref()?.leak.as_ref()?;
            // A verdict is only passed on what grows.
            Some(leak.growth_bytes_per_second.max(0.0) as u64)
        };
        let mut leaks: Vec<(u64, &GpuActivity)> =
            answer.activity.iter().filter_map(|of| Some((growth(of)?, of))).collect();
        leaks.sort_by_key(|(growth, _)| Reverse(*growth));
        for (growth, activity) in leaks.iter().take(WORST) {
            let who = name(activity.owner.as_ref());
            let has = activity.memory.as_ref().map_or(0, |memory| memory.outstanding_bytes);
            let text = format!(
                "{who}: {}[{}] seems to lose device memory, {} a second; it has {}: orb8 gpu leaks",
                activity.name,
                activity.pid,
                units::memory_short(*growth),
                units::memory_short(has)
            );
            self.add(Rank::Growing, Tone::Bad, text);
        }
        self.others(leaks.len(), "more processes that seem to lose device memory: orb8 gpu leaks");
    }

    /// Says how many were not named.
    fn others(&mut self, all: usize, text: &str) {
        if all > WORST {
            self.add(Rank::Missing, Tone::Warn, format!("{} {text}", all - WORST));
        }
    }
}

fn is_of_program(action: GpuXidAction) -> bool {
    action == GpuXidAction::RestartPod
}

fn shares(answer: &QueryGpuResponse) -> impl Iterator<Item = &GpuShare> {
    answer.devices.iter().flat_map(|device| &device.shares)
}

fn name(of: Option<&Workload>) -> String {
    of.and_then(owner).unwrap_or_else(|| "(unknown)".to_owned())
}

#[cfg(test)]
mod tests {
    use orb8_proto::v1::GetStatusResponse;

    use super::super::{Known, find};
    use super::*;
    use crate::tests::samples;
    use crate::top::trail::Growth;

    fn found(answer: &QueryGpuResponse, at: u64, growth: &mut Growth) -> Vec<(Tone, String)> {
        let status = GetStatusResponse::default();
        let (gpu, now_ns) = (Some(answer), samples::NOON + at * 1_000_000_000);
        let known = Known { status: &status, workloads: &[], dns: None, tcp: None, gpu, now_ns };
        find(&known, growth).into_iter().map(|problem| (problem.tone, problem.text)).collect()
    }

    #[test]
    fn what_wants_action_comes_first() {
        let texts = found(&samples::gpu::answer(), 0, &mut Growth::default());
        insta::assert_debug_snapshot!(texts);
        assert!(texts[0].1.starts_with("GPU 3: lost: GPU is lost; drain the node"), "{texts:?}");
    }

    #[test]
    fn what_a_program_did_is_quiet_until_it_does_it_again() {
        let mut answer = samples::gpu::answer();
        let mut growth = Growth::default();
        let xid = |texts: Vec<(Tone, String)>| {
            texts.into_iter().find(|(_, text)| text.contains("XID 31")).unwrap()
        };
        assert_eq!(xid(found(&answer, 0, &mut growth)).0, Tone::Quiet);
        answer.devices[1].counts.as_mut().unwrap().xids[0].count += 1;
        let again = xid(found(&answer, 5, &mut growth));
        assert_eq!(again.0, Tone::Warn);
        assert!(again.1.ends_with("1 in the last minute"), "{again:?}");
    }

    #[test]
    fn a_node_of_idlers_is_said_in_few_lines() {
        let mut answer = samples::gpu::answer();
        let idle = answer.devices[1].shares[1].clone();
        assert!(idle.idle_long);
        answer.devices[1].shares = vec![idle; 40];
        let texts = found(&answer, 0, &mut Growth::default());
        let about = |what: &str| texts.iter().filter(|(_, text)| text.contains(what)).count();
        assert_eq!((about("has not used it"), about("35 more devices")), (WORST, 1), "{texts:?}");
    }

    #[test]
    fn a_node_without_any_has_no_problem() {
        assert!(found(&samples::gpu::none(), 0, &mut Growth::default()).is_empty());
    }
}

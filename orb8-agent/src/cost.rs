//! What the agent itself costs: processor time and memory.

use std::fs;

use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, sysconf};

/// The page size where the system does not tell.
const USUAL_PAGE: u64 = 4096;

/// One reading of the agent's own cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnCost {
    /// Processor time of all threads, user and system, nanoseconds since start.
    pub cpu_ns: u64,
    /// Resident memory, bytes.
    pub rss_bytes: u64,
}

impl OwnCost {
    /// Reads the process's clock and `/proc/self/statm`. What cannot be read is 0.
    #[must_use]
    pub fn read() -> Self {
        let cpu_ns = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or(0, |time| {
            time.tv_sec().cast_unsigned() * 1_000_000_000 + time.tv_nsec().cast_unsigned()
        });
        let rss_pages = fs::read_to_string("/proc/self/statm")
            .ok()
            .and_then(|text| resident_pages(&text))
            .unwrap_or(0);
        Self { cpu_ns, rss_bytes: rss_pages * page_size() }
    }
}

/// Returns the size of a memory page, bytes: 4 KiB on most machines, 64 KiB on some arm64 ones.
#[must_use]
pub fn page_size() -> u64 {
    match sysconf(SysconfVar::PAGE_SIZE) {
        Ok(Some(size)) => u64::try_from(size).unwrap_or(USUAL_PAGE),
        _ => USUAL_PAGE,
    }
}

/// The second number of `/proc/<pid>/statm`.
fn resident_pages(statm: &str) -> Option<u64> {
    statm.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::*;

    #[test]
    fn reads_the_second_number_of_statm() {
        assert_eq!(resident_pages("57220 1234 899 11 0 5421 0\n"), Some(1234));
        assert_eq!(resident_pages("57220"), None);
        assert_eq!(resident_pages(""), None);
    }

    #[test]
    fn own_cost_is_plausible_and_grows() {
        let before = OwnCost::read();
        assert!(before.rss_bytes > 100 * 1024, "{before:?}");
        let mut sum = 0_u64;
        for i in 0..2_000_000_u64 {
            sum = black_box(sum.wrapping_add(i));
        }
        assert!(OwnCost::read().cpu_ns > before.cpu_ns);
    }
}

//! What of accelerators is looked at.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::reader::Reader;
use super::settings;
use super::values::{absolute_path, boolean, duration, unless_off};
use crate::gpu::SourceKind;
use crate::gpu::config::{GpuConfig, SourceSelection, TraceMode};

/// Drivers have nothing new more often, and what is read more seldom misses what happens.
const INTERVAL: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(10);
/// Shorter than the pauses of any job, to a day.
const IDLE_AFTER: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_hours(24);
/// Five of them are what a verdict takes.
const LEAK_WINDOW: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(1);
/// Percent: less would see nothing, and more is felt.
const BUDGET: RangeInclusive<f64> = 0.1..=10.0;

impl Reader<'_> {
    /// Reads every setting of accelerators.
    pub(super) fn gpu(&mut self) -> Option<GpuConfig> {
        let sources = self.optional(&settings::GPU_SOURCES, sources);
        let interval = self.required(&settings::GPU_INTERVAL, duration(INTERVAL, "from 1s to 10s"));
        let nvml_library = self.optional(&settings::GPU_NVML_LIBRARY, absolute_path);
        let dcgm = self.required(&settings::GPU_DCGM, url);
        let pod_resources =
            self.required(&settings::GPU_POD_RESOURCES, |text| unless_off(text, absolute_path));
        let idle_after =
            self.required(&settings::GPU_IDLE_AFTER, duration(IDLE_AFTER, "from 10s to 24h"));
        let trace = self.required(&settings::GPU_TRACE, boolean);
        let trace_budget = self.required(&settings::GPU_TRACE_BUDGET, percent);
        let leak_window =
            self.required(&settings::GPU_LEAK_WINDOW, duration(LEAK_WINDOW, "from 1s to 1h"));
        let neuron_monitor = self.optional(&settings::GPU_NEURON_MONITOR, absolute_path);
        Some(GpuConfig {
            interval: interval?,
            sources: sources?.map_or(SourceSelection::Auto, SourceSelection::Only),
            nvml_library: nvml_library?,
            dcgm: dcgm?,
            pod_resources: pod_resources?,
            idle_after: idle_after?,
            trace: if trace? { TraceMode::Auto } else { TraceMode::Off },
            trace_budget: trace_budget?,
            leak_window: leak_window?,
            neuron_monitor: neuron_monitor?,
            ..GpuConfig::default()
        })
    }
}

fn sources(text: &str) -> Result<Vec<SourceKind>, String> {
    let named = |name: &str| SourceKind::ALL.into_iter().find(|kind| kind.word() == name);
    let kinds: Option<Vec<SourceKind>> = text.split(',').map(|name| named(name.trim())).collect();
    kinds.ok_or_else(|| {
        let words = SourceKind::ALL.map(SourceKind::word).join(", ");
        format!("must be one or more of {words}, comma-separated")
    })
}

fn url(text: &str) -> Result<String, String> {
    let wrong = || "must be an http URL, such as http://localhost:9400/metrics".to_owned();
    let uri: http::Uri = text.trim().parse().map_err(|_| wrong())?;
    let is_http = uri.scheme_str() == Some("http") && uri.host().is_some_and(|it| !it.is_empty());
    is_http.then(|| uri.to_string()).ok_or_else(wrong)
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.trim().strip_suffix('%').and_then(|number| number.trim().parse().ok());
    number
        .filter(|percent| BUDGET.contains(percent))
        .map(|percent: f64| percent / 100.0)
        .ok_or_else(|| "must be a percentage from 0.1% to 10%, such as 1%".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_named() {
        assert_eq!(sources("nvml, amd"), Ok(vec![SourceKind::Nvml, SourceKind::Amd]));
        for bad in ["", "nvml,", "nvidia"] {
            assert!(sources(bad).unwrap_err().contains("nvml, dcgm, amd"), "{bad}");
        }
    }

    #[test]
    fn budgets_are_percentages() {
        assert_eq!(percent("1%"), Ok(0.01));
        for bad in ["1", "0.01%", "11%", "NaN%", "-1%", "%"] {
            assert!(percent(bad).unwrap_err().starts_with("must "), "{bad}");
        }
    }

    #[test]
    fn the_exporter_is_found_by_a_url() {
        assert_eq!(url("http://10.0.0.1:9400/metrics").unwrap(), "http://10.0.0.1:9400/metrics");
        for bad in ["", "localhost:9400", "https://x/metrics", "ftp://x"] {
            assert!(url(bad).unwrap_err().starts_with("must "), "{bad}");
        }
    }
}

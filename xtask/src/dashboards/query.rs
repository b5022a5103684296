//! The few forms that most queries have.

/// Of the nodes that were chosen.
pub(super) const NODES: &str = r#"node=~"$node""#;

/// Of the workloads that were chosen.
pub(super) const WORKLOADS: &str =
    r#"node=~"$node", namespace=~"$namespace", workload=~"$workload""#;

/// The same in what the recording rules made, which have no node.
pub(super) const RECORDED: &str = r#"namespace=~"$namespace", workload=~"$workload""#;

/// What is said where recorded series are missing.
pub(super) const NEEDS_RULES: &str = "needs the rules of deploy/prometheus";

/// A counter's increase per second, summed by labels (of all, where there are none).
pub(super) fn rate(metric: &str, matchers: &[&str], by: &str) -> String {
    format!("{}(rate({metric}{{{}}}[$__rate_interval]))", sum(by), matchers.join(", "))
}

/// A gauge, summed by labels.
pub(super) fn total(metric: &str, matchers: &[&str], by: &str) -> String {
    format!("{}({metric}{{{}}})", sum(by), matchers.join(", "))
}

fn sum(by: &str) -> String {
    if by.is_empty() { "sum".to_owned() } else { format!("sum by ({by}) ") }
}

/// A part of something, 0 to 1. Parts that do not occur have no series: they are 0.
pub(super) fn ratio(part: &str, whole: &str) -> String {
    format!("({part} or 0 * {whole}) / {whole}")
}

/// A quantile of a histogram by labels, whichever kind the Prometheus keeps: classic or native.
pub(super) fn quantile(quantile: &str, metric: &str, matchers: &[&str], by: &str) -> String {
    let with_bound = if by.is_empty() { "le".to_owned() } else { format!("{by}, le") };
    let classic = rate(&format!("{metric}_bucket"), matchers, &with_bound);
    let native = rate(metric, matchers, by);
    format!("histogram_quantile({quantile}, {classic}) or histogram_quantile({quantile}, {native})")
}

/// The largest ones.
pub(super) fn top(count: u32, expression: &str) -> String {
    format!("topk({count}, {expression})")
}

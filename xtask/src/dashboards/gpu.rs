//! Accelerators: what they do, for whom, and what is wrong with them.

use super::model::{Dashboard, Panel, Row, Scope, Unit};
use super::query::{NODES, rate, top, total};

/// What is said where no figure of that kind comes.
const NO_PROFILING: &str =
    "needs a device that profiles itself (Hopper and later), or dcgm-exporter";
const NO_NVLINK: &str = "no device has NVLink";
const NO_MIG: &str = "no device is divided by MIG";
const NO_CALLS: &str = "no process that uses a device calls CUDA";
const NO_NCCL: &str = "no process that uses a device calls NCCL";
const NO_XID: &str = "no driver reported an error";
const NO_STRANGER: &str = "nobody uses a device without holding it";

const DEVICE: &str = "node, gpu";
const POD: &str = "namespace, pod, container";

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        uid: "orb8-gpu",
        title: "orb8 / GPUs",
        description: "What accelerators do, for whom, and what is wrong with them.",
        scope: Scope::Nodes,
        rows: vec![
            now(),
            owners(),
            devices(),
            profile(),
            links(),
            health(),
            calls(),
            collectives(),
        ],
    }
}

/// A gauge's mean over the devices that were chosen.
fn mean(metric: &str) -> String {
    format!("avg({metric}{{{NODES}}})")
}

/// What is nobody's known, of devices and of the parts of those that are divided.
fn unattributed(what: &str) -> String {
    let of = |of: &str| format!("orb8_gpu_{of}unattributed_{what}{{{NODES}}}");
    format!("sum({} or {})", of(""), of("instance_"))
}

fn now() -> Row {
    Row {
        title: "Now",
        panels: vec![
            Panel::number("Devices", Unit::Count, "Devices that agents know.")
                .query("devices", format!("count(orb8_gpu_up{{{NODES}}})")),
            Panel::number(
                "Devices down",
                Unit::Count,
                "Devices that were lost or do not answer: `orb8 gpu health` says what to do.",
            )
            .query("down", format!("sum(orb8_gpu_up{{{NODES}}} == bool 0)"))
            .fail_from(1.0),
            Panel::number("Utilization", Unit::Ratio, "Time in which any kernel ran, mean.")
                .query("utilization", mean("orb8_gpu_utilization")),
            Panel::number("Memory", Unit::Ratio, "Device memory that is used.").query(
                "memory",
                format!(
                    "{} / {}",
                    total("orb8_gpu_memory_used", &[NODES], ""),
                    total("orb8_gpu_memory_size", &[NODES], "")
                ),
            ),
            Panel::number(
                "Held, not used",
                Unit::Count,
                "Devices that a container has held for long without using them.",
            )
            .query("idle", total("orb8_gpu_pod_idle", &[NODES], ""))
            .warn_from(1.0),
            Panel::number("Power", Unit::Watts, "What all devices draw.")
                .query("power", total("orb8_gpu_power_watts", &[NODES], "")),
        ],
    }
}

fn owners() -> Row {
    let of = |metric| total(metric, &[NODES], "namespace, pod, container, node, gpu");
    Row {
        title: "Owners",
        panels: vec![
            Panel::table(
                "Who has what",
                "A row for each container and device: whether it holds it, what it uses of it, and \
                 for how long it has held it without using it. Of a device that is lost, only who \
                 holds it is known.",
            )
            .column("Held", Unit::Count, of("orb8_gpu_pod_holds"))
            .column("Memory", Unit::Bytes, of("orb8_gpu_pod_memory_used"))
            .column("Utilization", Unit::Ratio, of("orb8_gpu_pod_utilization"))
            .column("Idle", Unit::Seconds, of("orb8_gpu_pod_idle_seconds")),
            Panel::stack("Memory by owner", Unit::Bytes, "What is nobody's known is on top.")
                .query("{{namespace}}/{{pod}}", total("orb8_gpu_pod_memory_used", &[NODES], POD))
                .query("unattributed", unattributed("memory")),
            Panel::stack(
                "Devices' time by owner",
                Unit::Count,
                "1 is a whole device, busy all the time.",
            )
            .query("{{namespace}}/{{pod}}", total("orb8_gpu_pod_utilization", &[NODES], POD))
            .query("unattributed", unattributed("utilization")),
            Panel::lines(
                "Time held without use",
                Unit::Seconds,
                "For how long a container has held a device without using it.",
            )
            .query(
                "{{namespace}}/{{pod}}",
                format!("max by ({POD}) (orb8_gpu_pod_idle_seconds{{{NODES}}})"),
            ),
            Panel::lines(
                "Used, not held",
                Unit::Count,
                "Devices that somebody uses who was not given them.",
            )
            .query("{{namespace}}/{{pod}}", total("orb8_gpu_pod_unallocated", &[NODES], POD))
            .warn_from(1.0)
            .without_data(NO_STRANGER),
        ],
    }
}

fn devices() -> Row {
    let of = |metric: &str| format!("max by ({DEVICE}) ({metric}{{{NODES}}})");
    Row {
        title: "Devices",
        panels: vec![
            Panel::lines("Utilization by device", Unit::Ratio, "Time in which any kernel ran.")
                .query("{{node}} {{gpu}}", of("orb8_gpu_utilization")),
            Panel::lines("Memory used", Unit::Bytes, "What processes have.")
                .query("{{node}} {{gpu}}", of("orb8_gpu_memory_used")),
            Panel::lines("Power by device", Unit::Watts, "What each draws.")
                .wide(8)
                .query("{{node}} {{gpu}}", of("orb8_gpu_power_watts")),
            Panel::lines("Temperature", Unit::Celsius, "Of the chip.").wide(8).query(
                "{{node}} {{gpu}}",
                format!(
                    "max by ({DEVICE}) (orb8_gpu_temperature_celsius{{{NODES}, sensor=\"gpu\"}})"
                ),
            ),
            Panel::lines("Clock", Unit::Hertz, "Of the multiprocessors.").wide(8).query(
                "{{node}} {{gpu}}",
                format!("max by ({DEVICE}) (orb8_gpu_clock_hertz{{{NODES}, clock=\"sm\"}})"),
            ),
            Panel::lines(
                "Time lost to throttling",
                Unit::Ratio,
                "Part of the time in which something slowed a device down, by what did.",
            )
            .query(
                "{{node}} {{gpu}}: {{reason}}",
                top(10, &rate("orb8_gpu_throttled_seconds_total", &[NODES], "node, gpu, reason")),
            )
            .warn_from(0.1),
            Panel::lines(
                "MIG instances: memory",
                Unit::Ratio,
                "Of each instance of devices that are divided.",
            )
            .query(
                "{{node}} {{gpu}} {{profile}}",
                format!(
                    "sum by (node, gpu, profile) (orb8_gpu_instance_memory_used{{{NODES}}}) / \
                     sum by (node, gpu, profile) (orb8_gpu_instance_memory_size{{{NODES}}})"
                ),
            )
            .without_data(NO_MIG),
        ],
    }
}

fn profile() -> Row {
    let of = |metric: &str| format!("max by ({DEVICE}) ({metric}{{{NODES}}})");
    let panel = |title, metric: &str, text| {
        let panel = Panel::lines(title, Unit::Ratio, text).wide(6);
        panel.query("{{node}} {{gpu}}", of(metric)).without_data(NO_PROFILING)
    };
    Row {
        title: "Profile",
        panels: vec![
            panel(
                "SM active",
                "orb8_gpu_sm_active",
                "Multiprocessors with work: far below utilization means small kernels.",
            ),
            panel("SM occupancy", "orb8_gpu_sm_occupancy", "Warps of those that fit."),
            panel("Tensor cores", "orb8_gpu_tensor_active", "Cycles in which they were active."),
            panel("Memory bandwidth", "orb8_gpu_dram_active", "Cycles in which it was used."),
        ],
    }
}

fn links() -> Row {
    Row {
        title: "Links",
        panels: vec![
            Panel::lines("PCIe", Unit::BytesPerSecond, "To the machine and from it.")
                .wide(8)
                .query(
                    "{{node}} {{gpu}} {{direction}}",
                    total("orb8_gpu_pcie_bytes_per_second", &[NODES], "node, gpu, direction"),
                ),
            Panel::lines(
                "PCIe links below their width",
                Unit::Count,
                "Devices with fewer lanes than device and slot have: reseat the board.",
            )
            .wide(8)
            .query(
                "{{node}} {{gpu}}",
                format!(
                    "sum by ({DEVICE}) (orb8_gpu_pcie_link_width{{{NODES}}} < bool \
                     orb8_gpu_pcie_link_width_max{{{NODES}}})"
                ),
            )
            .warn_from(1.0),
            Panel::lines("NVLink", Unit::BytesPerSecond, "Between devices.")
                .wide(8)
                .query(
                    "{{node}} {{gpu}} {{direction}}",
                    rate("orb8_gpu_nvlink_bytes_total", &[NODES], "node, gpu, direction"),
                )
                .without_data(NO_NVLINK),
        ],
    }
}

fn health() -> Row {
    Row {
        title: "Health",
        panels: vec![
            Panel::stack(
                "Errors that drivers reported",
                Unit::PerSecond,
                "By NVIDIA's number (XID) and what to do about it.",
            )
            .wide(8)
            .query(
                "{{node}} {{gpu}}: {{xid}} ({{action}})",
                rate("orb8_gpu_xid_errors_total", &[NODES], "node, gpu, xid, action"),
            )
            .without_data(NO_XID),
            Panel::lines(
                "Errors of device memory",
                Unit::PerSecond,
                "Those that were mended and those that were not.",
            )
            .wide(8)
            .query(
                "{{node}} {{gpu}} {{kind}}",
                rate("orb8_gpu_ecc_errors_total", &[NODES], "node, gpu, kind"),
            ),
            Panel::lines(
                "Remapped rows",
                Unit::Count,
                "Rows of device memory that spares stand in for.",
            )
            .wide(8)
            .query(
                "{{node}} {{gpu}} {{kind}}",
                total("orb8_gpu_remapped_rows", &[NODES], "node, gpu, kind"),
            ),
            Panel::lines("PCIe replays", Unit::PerSecond, "Packets that were sent again.")
                .query("{{node}} {{gpu}}", rate("orb8_gpu_pcie_replays_total", &[NODES], DEVICE)),
            Panel::lines("NVLink errors", Unit::PerSecond, "By kind.")
                .query(
                    "{{node}} {{gpu}} {{kind}}",
                    rate("orb8_gpu_nvlink_errors_total", &[NODES], "node, gpu, kind"),
                )
                .without_data(NO_NVLINK),
        ],
    }
}

fn calls() -> Row {
    let line = |title, unit, text, metric: &str, by: &str, name| {
        let by = format!("{POD}{by}");
        let panel = Panel::lines(title, unit, text).wide(8);
        panel.query(name, rate(metric, &[NODES], &by)).without_data(NO_CALLS)
    };
    Row {
        title: "CUDA",
        panels: vec![
            line(
                "Launches",
                Unit::PerSecond,
                "Kernels that processes launched.",
                "orb8_gpu_pod_launches_total",
                "",
                "{{namespace}}/{{pod}}",
            ),
            line(
                "Copied",
                Unit::BytesPerSecond,
                "By direction.",
                "orb8_gpu_pod_copied_bytes_total",
                ", kind",
                "{{namespace}}/{{pod}} {{kind}}",
            ),
            line(
                "Waiting for the device",
                Unit::Ratio,
                "Time that threads spent in synchronisation; above 1 where several wait.",
                "orb8_gpu_pod_wait_seconds_total",
                ", kind",
                "{{namespace}}/{{pod}} {{kind}}",
            ),
            Panel::lines(
                "Outstanding memory",
                Unit::Bytes,
                "Device memory that was taken and not given back, as far as that was watched.",
            )
            .wide(8)
            .query("{{namespace}}/{{pod}}", total("orb8_gpu_pod_outstanding_bytes", &[NODES], POD))
            .without_data(NO_CALLS),
            Panel::lines(
                "Leaks",
                Unit::BytesPerSecond,
                "Growth of what a process seems to lose: `orb8 gpu leaks` says where.",
            )
            .wide(8)
            .query(
                "{{namespace}}/{{pod}}",
                format!("max by ({POD}) (orb8_gpu_pod_leak_bytes_per_second{{{NODES}}})"),
            )
            .fail_from(1.0)
            .without_data(NO_CALLS),
            line(
                "Allocations that failed",
                Unit::PerSecond,
                "Out of memory, mostly.",
                "orb8_gpu_pod_allocation_failures_total",
                "",
                "{{namespace}}/{{pod}}",
            ),
        ],
    }
}

fn collectives() -> Row {
    Row {
        title: "NCCL",
        panels: vec![
            Panel::lines("Collectives", Unit::PerSecond, "Calls by kind.")
                .wide(8)
                .query(
                    "{{namespace}}/{{pod}} {{kind}}",
                    rate(
                        "orb8_gpu_pod_collectives_total",
                        &[NODES],
                        "namespace, pod, container, kind",
                    ),
                )
                .without_data(NO_NCCL),
            Panel::lines("Collectives' bytes", Unit::BytesPerSecond, "That ranks put in.")
                .wide(8)
                .query(
                    "{{namespace}}/{{pod}} {{kind}}",
                    rate(
                        "orb8_gpu_pod_collective_bytes_total",
                        &[NODES],
                        "namespace, pod, container, kind",
                    ),
                )
                .without_data(NO_NCCL),
            Panel::lines(
                "Behind",
                Unit::Count,
                "Collectives by which a rank is behind the first of its communicator.",
            )
            .wide(8)
            .query(
                "{{namespace}}/{{pod}}",
                format!("max by ({POD}) (orb8_gpu_pod_collectives_behind{{{NODES}}})"),
            )
            .without_data(NO_NCCL),
            Panel::lines(
                "Cost of watching",
                Unit::Ratio,
                "Part of the busiest thread's time that watching its calls takes.",
            )
            .query("{{node}}", format!("max by (node) (orb8_gpu_trace_cost{{{NODES}}})"))
            .warn_from(0.02)
            .without_data(NO_CALLS),
            Panel::lines(
                "Sources: readings that failed",
                Unit::PerSecond,
                "Of about one a second: a source that hangs or is broken fails each time.",
            )
            .query(
                "{{node}} {{source}}",
                rate("orb8_gpu_source_failures_total", &[NODES], "node, source"),
            ),
        ],
    }
}

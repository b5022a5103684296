//! Flows.

use orb8_common::flow::HOOK_SOCKET;
use orb8_proto::filter::{End, FlowFields};
use orb8_proto::v1::{self, Protocol};

use super::ends::{self, Between, Line};
use super::{Record, Severity};
use crate::event::UnixNanos;
use crate::otlp::attributes::Attributes;
use crate::otlp::names;
use crate::pipeline::{FlowEvent, FlowStep};
use crate::store::{Added, EndReason, FlowView, InterfaceNames};

/// Returns a record of a flow, with what was added since its last one.
pub(in crate::otlp) fn flow(
    time: UnixNanos,
    event: &FlowEvent,
    added: Added,
    interfaces: &InterfaceNames,
) -> Record {
    let FlowEvent { step, row, packets: _, bytes: _ } = event;
    let flow = &row.flow;
    let view = FlowView { flow, interfaces };
    let domain = |end| flow.label(end).map(|label| &*label.name);
    let between = Between {
        local: flow.local_end(),
        parties: End::BOTH.map(|end| view.party(end)),
        domains: End::BOTH.map(domain),
    };
    let mut attributes = Attributes::default();
    ends::tell(&view, &between, &mut attributes);
    let hook = if flow.key.hook == HOOK_SOCKET { v1::Hook::Socket } else { v1::Hook::Interface };
    attributes.text(names::HOOK, hook.word());
    if view.protocol() == Protocol::Other {
        attributes.number(names::IP_PROTOCOL, flow.key.protocol);
    }
    if view.has_icmp_type() {
        attributes.number(names::ICMP_TYPE, flow.key.source_port);
        attributes.number(names::ICMP_CODE, flow.key.destination_port);
    }
    if flow.key.vlan != 0 {
        attributes.number(names::VLAN, flow.key.vlan);
    }
    let Added { packets, bytes } = added;
    attributes.number(names::FLOW_PACKETS, packets);
    attributes.number(names::FLOW_BYTES, bytes);
    attributes.number(names::FLOW_TOTAL_PACKETS, flow.packets);
    attributes.number(names::FLOW_TOTAL_BYTES, flow.bytes);
    let duration = flow.last.0.saturating_sub(flow.first.0);
    attributes.seconds(names::FLOW_DURATION, Some(duration));
    if let Some(health) = &row.tcp {
        attributes.seconds(names::TCP_RTT, health.srtt_ns);
        attributes.number(names::TCP_RETRANSMITS, health.retransmits);
    }
    let end = match step {
        FlowStep::End(reason) => Some(match reason {
            EndReason::Fin => v1::EndReason::Fin,
            EndReason::Rst => v1::EndReason::Rst,
            EndReason::Idle => v1::EndReason::Idle,
            EndReason::Evicted => v1::EndReason::Evicted,
        }),
        FlowStep::New | FlowStep::Update | FlowStep::Closing(_) => None,
    };
    let reason = end.and_then(v1::EndReason::word);
    attributes.text(names::FLOW_END, reason);
    let protocol = view.protocol().word().unwrap_or_default();
    let ends = Line(&view, &between);
    let ended = reason.map(|reason| format!(", ended ({reason})")).unwrap_or_default();
    Record {
        time,
        name: if end.is_some() { "orb8.flow.end" } else { "orb8.flow.update" },
        severity: Severity::Info,
        body: format!("{ends} {protocol} {packets} packets, {bytes} bytes{ended}"),
        attributes,
    }
}

//! One workload that someone looks into: its peers and its flows.

use orb8_proto::columns::Format;
use orb8_proto::columns::workload::workload as name_of;
use orb8_proto::filter::End;
use orb8_proto::v1::{
    Controller, Flow, FlowFilter, QueryFlowsRequest, QueryFlowsResponse, QueryWorkloadsRequest,
    QueryWorkloadsResponse, Workload, WorkloadSummary,
};

use super::list::{Cursor, ListTab};
use super::poll::Part;
use crate::args::FlowsArgs;

/// Peers that are asked for.
const PEERS: u32 = 200;

/// Flows that are asked for: those of others among them are left out here.
const FLOWS: u32 = 5_000;

/// One workload, and what it does.
#[derive(Debug)]
pub(super) struct Focus {
    pub(super) name: String,
    /// As of the last answer that had it.
    pub(super) summary: WorkloadSummary,
    /// The last answer did not have it.
    pub(super) is_gone: bool,
    pub(super) peers: Cursor,
    pub(super) flows: ListTab<FlowsArgs>,
    pub(super) pane: Pane,
    group: i32,
}

/// The list that keys act on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Pane {
    #[default]
    Peers,
    Flows,
}

impl Focus {
    pub(super) fn new(summary: &WorkloadSummary, group: i32) -> Self {
        Self {
            name: name_of(summary.workload.as_ref()),
            summary: summary.clone(),
            is_gone: false,
            peers: Cursor::default(),
            flows: ListTab::default(),
            pane: Pane::default(),
            group,
        }
    }

    pub(super) fn workloads_request(&self, include_self: bool) -> QueryWorkloadsRequest {
        QueryWorkloadsRequest {
            group_by: self.group,
            keys: vec![self.summary.key.clone()],
            limit: 1,
            peers: PEERS,
            include_self_traffic: include_self,
            ..QueryWorkloadsRequest::default()
        }
    }

    /// Asks for flows with it at either end, as far as filters can tell it.
    pub(super) fn flows_request(&self, include_self: bool) -> QueryFlowsRequest {
        let mut request = self.flows.request(include_self, self.group);
        request.include.extend(self.summary.workload.as_ref().and_then(filter));
        request.limit = FLOWS;
        request
    }

    pub(super) fn take(&mut self, part: Part<QueryWorkloadsResponse>) {
        let Ok(mut answer) = part else { return };
        let found = answer.workloads.iter().position(|row| row.key == self.summary.key);
        self.is_gone = found.is_none();
        if let Some(at) = found {
            self.summary = answer.workloads.swap_remove(at);
        }
    }

    pub(super) fn take_flows(
        &mut self,
        part: Part<QueryFlowsResponse>,
        format: &Format,
        page: usize,
    ) {
        let owner = self.summary.workload.as_ref();
        let active_flows = self.summary.active_flows;
        let part = part.map(|mut answer| {
            let told = answer.flows.len();
            let is_all = told as u64 >= answer.total_matched;
            answer.flows.retain(|flow| is_of(owner, flow));
            let own = answer.flows.len();
            if is_all {
                answer.total_matched = own as u64;
            } else if own < told {
                // How many of those that were not told are its own, its summary says.
                answer.total_matched = active_flows.max(own as u64);
            }
            answer
        });
        self.flows.take(part, format, page);
    }
}

/// Returns the filter that says most of who a row is; `None` where no filter can: of a cgroup, say.
fn filter(of: &Workload) -> Option<FlowFilter> {
    let mut filter = FlowFilter::default();
    match of.controller.as_ref().filter(|_| of.pod.is_empty()) {
        Some(Controller { kind, name }) => {
            filter.namespace.push(of.namespace.clone());
            filter.workload.push(format!("{kind}/{name}"));
        }
        None if !of.pod.is_empty() && !of.namespace.is_empty() => {
            filter.pod.push(format!("{}/{}", of.namespace, of.pod));
        }
        None if !of.container_id.is_empty() => filter.container.push(of.container_id.clone()),
        None if !of.unit.is_empty() => filter.unit.push(of.unit.clone()),
        None => return None,
    }
    Some(filter)
}

/// Whether a flow is the row's own: what a neighbour on this node sends to it is the neighbour's.
fn is_of(owner: Option<&Workload>, flow: &Flow) -> bool {
    let owns = |end: End| match (owner, flow.workload(end)) {
        (None, None) => true,
        (Some(owner), Some(workload)) => is_part_of(owner, workload),
        (None, Some(_)) | (Some(_), None) => false,
    };
    match flow.local() {
        Some(end) => owns(end),
        // Seen on an interface.
        None => End::BOTH.into_iter().any(owns),
    }
}

fn is_part_of(owner: &Workload, workload: &Workload) -> bool {
    if owner.pod.is_empty() && owner.controller.is_some() {
        return owner.namespace == workload.namespace && owner.controller == workload.controller;
    }
    if owner.container.is_empty() && !owner.pod_uid.is_empty() {
        return owner.pod_uid == workload.pod_uid;
    }
    match (owner.pod_uid.is_empty(), owner.unit.is_empty()) {
        (false, _) => {
            (&owner.pod_uid, &owner.container) == (&workload.pod_uid, &workload.container)
        }
        // Cgroups below a unit are the unit's.
        (true, false) => owner.unit == workload.unit,
        (true, true) => owner.cgroup_path == workload.cgroup_path,
    }
}

#[cfg(test)]
mod tests {
    use orb8_proto::v1::{Endpoint, LocalEnd};

    use super::*;

    fn pod(name: &str, controller: &str, container: &str) -> Workload {
        Workload {
            namespace: "shop".into(),
            pod: name.into(),
            pod_uid: format!("uid-{name}"),
            container: container.into(),
            controller: Some(Controller { kind: "Deployment".into(), name: controller.into() }),
            ..Workload::default()
        }
    }

    fn unit(name: &str) -> Workload {
        let cgroup_path = format!("/system.slice/{name}/worker");
        Workload { unit: name.into(), cgroup_path, ..Workload::default() }
    }

    fn sent(source: Option<Workload>, destination: Option<Workload>) -> Flow {
        let end = |workload| Some(Endpoint { workload, ..Endpoint::default() });
        Flow {
            source: end(source),
            destination: end(destination),
            local_end: LocalEnd::Source.into(),
            ..Flow::default()
        }
    }

    #[test]
    fn a_flow_is_its_local_ends() {
        let (web, db) = (pod("web-1", "web", "app"), pod("db-1", "db", "app"));
        let controller = Workload {
            namespace: "shop".into(),
            controller: web.controller.clone(),
            ..Workload::default()
        };
        let flow = sent(Some(web.clone()), Some(db.clone()));
        let whole = Workload { container: String::new(), ..web.clone() };
        for owner in [&controller, &whole, &web] {
            assert!(is_of(Some(owner), &flow), "{owner:?}");
        }
        assert!(!is_of(Some(&db), &flow), "the other end has its own");
        assert!(!is_of(Some(&pod("web-1", "web", "proxy")), &flow));
        assert!(!is_of(None, &flow) && is_of(None, &sent(None, Some(db))));
        let ssh =
            Workload { cgroup_path: "/system.slice/ssh.service".into(), ..unit("ssh.service") };
        assert!(is_of(Some(&ssh), &sent(Some(unit("ssh.service")), None)));
    }

    #[test]
    fn flows_that_were_not_told_are_counted() {
        let summary = WorkloadSummary {
            workload: Some(unit("a.service")),
            active_flows: 70,
            ..WorkloadSummary::default()
        };
        let format =
            Format { numeric: false, names: true, time_zone: jiff::tz::TimeZone::UTC, now_ns: 0 };
        let mut focus = Focus::new(&summary, 0);
        let own = sent(summary.workload, None);
        let other = sent(Some(unit("b.service")), None);
        let mut total = |flows: &[&Flow], total_matched| {
            let flows = flows.iter().copied().cloned().collect();
            let answer = QueryFlowsResponse { flows, total_matched, ..Default::default() };
            focus.take_flows(Ok(answer), &format, 10);
            (focus.flows.shown.len(), focus.flows.answer.as_ref().unwrap().total_matched)
        };
        assert_eq!(total(&[&own, &other], 2), (1, 1), "all were told");
        assert_eq!(total(&[&own, &own], 90), (2, 90), "all that matched are its own");
        assert_eq!(total(&[&own, &other], 90), (1, 70), "as many as the summary has");
    }

    #[test]
    fn filters_narrow_what_is_asked_for() {
        let web = pod("web-1", "web", "app");
        let controller = Workload { pod: String::new(), pod_uid: String::new(), ..web.clone() };
        let narrowed = filter(&controller).unwrap();
        assert_eq!(
            (narrowed.namespace, narrowed.workload),
            (vec!["shop".to_owned()], vec!["Deployment/web".to_owned()])
        );
        assert_eq!(filter(&web).unwrap().pod, ["shop/web-1"]);
        assert_eq!(filter(&unit("ssh.service")).unwrap().unit, ["ssh.service"]);
        assert_eq!(filter(&Workload { cgroup_path: "/".into(), ..Workload::default() }), None);
    }
}

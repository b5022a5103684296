//! What the agent has of the Kubernetes API.

use orb8_proto::units;
use orb8_proto::v1::{Kubernetes, KubernetesState, KubernetesWatch};

use super::{BAD, GOOD, QUIET, Report, WARN, paint};

impl Report {
    pub(super) fn kubernetes(&mut self, kubernetes: Option<&Kubernetes>) {
        let Some(kubernetes) = kubernetes else { return };
        // Exhaustive, so that a new field is not forgotten here.
        let Kubernetes {
            state: _,
            access,
            server,
            reason,
            watches,
            pods,
            services,
            nodes,
            address_conflicts,
        } = kubernetes;
        self.section("Kubernetes");
        let state = kubernetes.state();
        let style = match state {
            KubernetesState::Connected => GOOD,
            KubernetesState::Syncing => WARN,
            KubernetesState::Disconnected => BAD,
            KubernetesState::Off | KubernetesState::Unspecified => QUIET,
        };
        let painted = paint(state.word().unwrap_or("-"), style, self.colors);
        let colon = if reason.is_empty() { "" } else { ": " };
        self.label("State", &format!("{painted}{colon}{reason}"));
        if !access.is_empty() {
            self.label("Access", access);
        }
        if !server.is_empty() {
            self.label("Server", server);
        }
        if watches.is_empty() {
            return;
        }
        let known = [(*pods, "pods"), (*services, "Services"), (*nodes, "nodes")];
        let known = known.map(|(count, what)| format!("{} {what}", units::count(count)));
        self.label("Known", &known.join(", "));
        if *address_conflicts > 0 {
            let conflicts = format!("{address_conflicts} (addresses that several pods have)");
            self.label("Conflicts", &paint(&conflicts, WARN, self.colors));
        }
        self.watches(watches);
    }

    /// Those that work are only counted.
    fn watches(&mut self, watches: &[KubernetesWatch]) {
        let connected = watches.iter().filter(|watch| watch.connected).count();
        let reconnections: u64 = watches.iter().map(|watch| watch.reconnections).sum();
        let (all, again) = (watches.len(), units::count(reconnections));
        self.label("Watches", &format!("{connected} of {all} connected, {again} reconnections"));
        for watch in watches.iter().filter(|watch| !watch.connected) {
            let error = if watch.error.is_empty() { "not connected yet" } else { &watch.error };
            self.label(&format!("  {}", watch.resource), &paint(error, BAD, self.colors));
        }
    }
}

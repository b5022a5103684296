//! Nodes.

use std::sync::Arc;

use hashbrown::HashMap;

use super::claims::{Claim, Claims};
use super::tables::{Address, Map};
use super::writer::Context;
use crate::object::{Node, Text};
use crate::wire::{self, NodeObject};

/// The nodes that there are. One that is made anew may be told of before the old one's end.
#[derive(Default)]
pub(super) struct Nodes {
    /// By uid.
    records: HashMap<Text, Arc<Node>, foldhash::fast::RandomState>,
    names: Claims<Text, Arc<Node>>,
    addresses: Claims<Address, Arc<Node>>,
}

impl Nodes {
    pub(super) fn apply(&mut self, cx: &mut Context, object: &NodeObject, name: Text, uid: &Text) {
        let addresses = object.addresses();
        cx.skipped_addresses += addresses.skipped;
        let node = Node { name, ips: addresses.ips.into() };
        let before = self.records.get(uid).cloned();
        if before.as_deref() == Some(&node) {
            return;
        }
        let node = Arc::new(node);
        self.records.insert(uid.clone(), Arc::clone(&node));
        let created = wire::created(&object.metadata).unwrap_or(0);
        let claim = || Claim { by: uid.clone(), created, value: Arc::clone(&node) };
        self.names.set(node.name.clone(), claim());
        publish(cx, &self.names, |cx| &cx.tables.nodes, &node.name);
        for ip in &node.ips {
            self.addresses.set(Address::from(*ip), claim());
            publish(cx, &self.addresses, |cx| &cx.tables.node_addresses, &Address::from(*ip));
        }
        let former = before.as_ref().map(|before| &*before.ips).unwrap_or_default();
        for ip in former.iter().filter(|ip| !node.ips.contains(ip)) {
            self.release(cx, Address::from(*ip), uid);
        }
    }

    pub(super) fn remove(&mut self, cx: &mut Context, uid: &Text) {
        let Some(node) = self.records.remove(uid) else {
            return;
        };
        for ip in &node.ips {
            self.release(cx, Address::from(*ip), uid);
        }
        self.names.remove(&node.name, uid);
        publish(cx, &self.names, |cx| &cx.tables.nodes, &node.name);
    }

    fn release(&mut self, cx: &mut Context, address: Address, uid: &Text) {
        self.addresses.remove(&address, uid);
        publish(cx, &self.addresses, |cx| &cx.tables.node_addresses, &address);
    }
}

/// Shows readers the node that was made last of those with a name or address.
fn publish<K: Clone + Eq + std::hash::Hash + Send + 'static>(
    cx: &mut Context,
    claims: &Claims<K, Arc<Node>>,
    table: impl Fn(&Context) -> &Map<K, Arc<Node>>,
    key: &K,
) {
    let guard = cx.tables.guard();
    let latest = claims.of(key).iter().max_by_key(|claim| (claim.created, &claim.by));
    match latest {
        Some(claim) => drop(table(cx).insert(key.clone(), Arc::clone(&claim.value), &guard)),
        None => drop(table(cx).remove(key, &guard)),
    }
    drop(guard);
    cx.changed = true;
}

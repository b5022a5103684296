//! Services and their endpoints.

use std::cmp::Reverse;
use std::sync::Arc;

use hashbrown::HashMap;

use super::claims::{Claim, Claims};
use super::tables::{Address, AddressServices, Port};
use super::writer::{Context, Identity};
use crate::object::{AddressKind, Service, ServiceAddress, Text};
use crate::wire::{self, Addresses, EndpointSliceObject, ServiceObject, ServicePort};

type ByUid<T> = HashMap<Text, T, foldhash::fast::RandomState>;

/// The Services and EndpointSlices that there are.
#[derive(Default)]
pub(super) struct Services {
    claims: Claims<Place, Vec<Has>>,
    services: ByUid<ServiceRecord>,
    /// Those with endpoints that are no pods.
    slices: ByUid<SliceRecord>,
    /// What belongs together by name: slices name their Service, which may come after them.
    named: HashMap<Arc<Service>, Named, foldhash::fast::RandomState>,
    endpoints: u64,
}

struct ServiceRecord {
    service: Arc<Service>,
    places: Box<[Place]>,
}

struct SliceRecord {
    service: Arc<Service>,
    created: u64,
    /// With the names of the Service's ports.
    endpoints: Box<[Endpoint]>,
}

#[derive(Default)]
struct Named {
    /// Uid of the Service that was told of last.
    uid: Option<Text>,
    /// Its ports by name.
    ports: Box<[(Option<Text>, u16)]>,
    /// Uids of its slices.
    slices: Vec<Text>,
}

/// An address, a port of it, and the name of the Service's port.
type Endpoint = (Address, Port, Option<Text>);

/// What a Service can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Place {
    Address(Address),
    /// A port of every node.
    NodePort(Port),
}

/// What an object has of a place: a port of an address, or with none all the others.
type Has = (Option<Port>, Arc<ServiceAddress>);

/// What an object claims.
type Wanted = HashMap<Place, Vec<Has>, foldhash::fast::RandomState>;

impl Services {
    /// How many endpoints are kept.
    pub(super) fn endpoints(&self) -> u64 {
        self.endpoints
    }

    pub(super) fn apply(
        &mut self,
        cx: &mut Context,
        object: &ServiceObject,
        Identity { namespace, name, uid }: &Identity,
    ) {
        let service = self.service(namespace.clone(), name.clone());
        let wanted = wanted_by(cx, &service, object);
        let places: Box<[_]> = wanted.keys().copied().collect();
        let record = ServiceRecord { service: Arc::clone(&service), places };
        let before = self.services.insert(uid.clone(), record);
        let former = before.map(|before| before.places).unwrap_or_default();
        let created = wire::created(&object.metadata).unwrap_or(0);
        self.claim(cx, uid, created, wanted, &former);
        let ports: Box<[_]> =
            object.ports().map(|port| (cx.names.optional(port.name), port.port)).collect();
        let named = self.named.entry(Arc::clone(&service)).or_default();
        named.uid = Some(uid.clone());
        if named.ports != ports {
            named.ports = ports;
            self.claim_slices(cx, &service);
        }
    }

    pub(super) fn remove(&mut self, cx: &mut Context, uid: &Text) {
        let Some(record) = self.services.remove(uid) else {
            return;
        };
        self.disclaim(cx, uid, record.places);
        if let Some(named) = self.named.get_mut(&record.service)
            && named.uid.as_ref() == Some(uid)
        {
            named.uid = None;
            named.ports = Box::default();
            self.claim_slices(cx, &record.service);
        }
        self.forget_name(&record.service);
    }

    pub(super) fn apply_slice(
        &mut self,
        cx: &mut Context,
        object: &EndpointSliceObject,
        Identity { namespace, uid, .. }: &Identity,
    ) {
        let (endpoints, skipped) = object.endpoints();
        cx.skipped_addresses += skipped;
        let Some(name) = object.service().filter(|_| !endpoints.is_empty()) else {
            self.remove_slice(cx, uid);
            return;
        };
        let service = self.service(namespace.clone(), cx.names.text(name));
        let endpoints: Box<[_]> = endpoints
            .iter()
            .map(|one| {
                let port = Port { protocol: one.protocol, number: one.port };
                (Address::from(one.ip), port, cx.names.optional(one.name))
            })
            .collect();
        let created = wire::created(&object.metadata).unwrap_or(0);
        self.endpoints += endpoints.len() as u64;
        let record = SliceRecord { service: Arc::clone(&service), created, endpoints };
        let before = self.slices.insert(uid.clone(), record);
        let named = self.named.entry(Arc::clone(&service)).or_default();
        if !named.slices.contains(uid) {
            named.slices.push(uid.clone());
        }
        self.claim_slice(cx, uid, before.as_ref());
        if let Some(before) = before {
            self.endpoints -= before.endpoints.len() as u64;
            if before.service != service {
                self.unname_slice(&before.service, uid);
            }
        }
    }

    pub(super) fn remove_slice(&mut self, cx: &mut Context, uid: &Text) {
        let Some(record) = self.slices.remove(uid) else {
            return;
        };
        self.endpoints -= record.endpoints.len() as u64;
        self.disclaim(cx, uid, places(&record));
        self.unname_slice(&record.service, uid);
    }

    /// The one copy of a Service's name.
    fn service(&self, namespace: Text, name: Text) -> Arc<Service> {
        let service = Service { namespace, name };
        let known = self.named.get_key_value(&service);
        known.map_or_else(|| Arc::new(service.clone()), |(known, _)| Arc::clone(known))
    }

    fn unname_slice(&mut self, service: &Service, uid: &Text) {
        if let Some(named) = self.named.get_mut(service) {
            named.slices.retain(|slice| slice != uid);
        }
        self.forget_name(service);
    }

    fn forget_name(&mut self, service: &Service) {
        let is_used = |named: &Named| named.uid.is_some() || !named.slices.is_empty();
        if self.named.get(service).is_some_and(|named| !is_used(named)) {
            self.named.remove(service);
        }
    }

    fn claim_slices(&mut self, cx: &mut Context, service: &Service) {
        let slices = self.named.get(service).map(|named| named.slices.clone());
        for uid in slices.into_iter().flatten() {
            self.claim_slice(cx, &uid, None);
        }
    }

    /// Claims a slice's endpoints, and gives up those that it had before.
    fn claim_slice(&mut self, cx: &mut Context, uid: &Text, before: Option<&SliceRecord>) {
        let Some(record) = self.slices.get(uid) else {
            return;
        };
        let ports = self.named.get(&record.service).map(|named| &*named.ports).unwrap_or_default();
        let mut wanted = Wanted::default();
        for (address, port, name) in &record.endpoints {
            let value = ServiceAddress {
                service: Arc::clone(&record.service),
                port: ports.iter().find(|(known, _)| known == name).map(|(_, port)| *port),
                port_name: name.clone(),
                kind: AddressKind::Endpoint,
            };
            let place = wanted.entry(Place::Address(*address)).or_default();
            place.push((Some(*port), Arc::new(value)));
        }
        let created = record.created;
        let former: Vec<_> = before.into_iter().flat_map(places).collect();
        self.claim(cx, uid, created, wanted, &former);
    }

    /// Claims what an object wants, then gives up what it had besides.
    fn claim(
        &mut self,
        cx: &mut Context,
        by: &Text,
        created: u64,
        wanted: Wanted,
        former: &[Place],
    ) {
        let unwanted: Vec<_> =
            former.iter().filter(|place| !wanted.contains_key(*place)).copied().collect();
        for (place, value) in wanted {
            self.claims.set(place, Claim { by: by.clone(), created, value });
            self.publish(cx, place);
        }
        self.disclaim(cx, by, unwanted);
    }

    fn disclaim(&mut self, cx: &mut Context, by: &Text, places: impl IntoIterator<Item = Place>) {
        for place in places {
            self.claims.remove(&place, by);
            self.publish(cx, place);
        }
    }

    /// Shows readers whose a place is now.
    fn publish(&self, cx: &mut Context, place: Place) {
        let tables = Arc::clone(&cx.tables);
        let guard = tables.guard();
        let owners = owners(self.claims.of(&place));
        match place {
            Place::NodePort(port) => {
                let owner = owners.ports.first().map(|(_, owner)| owner);
                if tables.node_ports.get(&port, &guard) == owner {
                    return;
                }
                match owner {
                    Some(owner) => drop(tables.node_ports.insert(port, Arc::clone(owner), &guard)),
                    None => drop(tables.node_ports.remove(&port, &guard)),
                }
            }
            Place::Address(address) if owners.is_empty() => {
                if tables.services.remove(&address, &guard).is_none() {
                    return;
                }
            }
            Place::Address(address) => {
                if tables.services.get(&address, &guard) == Some(&owners) {
                    return;
                }
                tables.services.insert(address, owners, &guard);
            }
        }
        cx.changed = true;
    }
}

/// Whose a place is, of those that claim it. A cluster address is given out by the API server, and
/// no other Service's whatever that says. Services may share a load balancer's address: then a port
/// is one's, but the address as a whole is nobody's.
fn owners(claims: &[Claim<Vec<Has>>]) -> AddressServices {
    let each = claims.iter().flat_map(|claim| claim.value.iter().map(move |has| (claim, has)));
    let mut all: Vec<_> = each.collect();
    let is_cluster = |(_, (_, value)): &(_, &Has)| value.kind == AddressKind::Cluster;
    if all.iter().any(is_cluster) {
        all.retain(is_cluster);
    }
    all.sort_by_key(|(claim, (port, value))| {
        (*port, value.kind, &value.service, Reverse(claim.created), &claim.by)
    });
    let whole: Vec<_> =
        all.iter().map_while(|(_, (port, value))| port.is_none().then_some(value)).collect();
    let is_shared = |first: &ServiceAddress| {
        whole.iter().any(|one| one.kind == first.kind && one.service != first.service)
    };
    let owner = whole.first().filter(|first| !is_shared(first));
    let mut ports: Vec<_> =
        all.iter().filter_map(|(_, (port, value))| Some((port.as_ref()?, value))).collect();
    ports.dedup_by_key(|(port, _)| **port);
    AddressServices {
        whole: owner.map(|owner| Arc::clone(owner)),
        ports: ports.into_iter().map(|(port, value)| (*port, Arc::clone(value))).collect(),
    }
}

/// What a slice claims.
fn places(record: &SliceRecord) -> Vec<Place> {
    record.endpoints.iter().map(|(address, ..)| Place::Address(*address)).collect()
}

/// What a Service claims.
fn wanted_by(cx: &mut Context, service: &Arc<Service>, object: &ServiceObject) -> Wanted {
    let mut wanted = Wanted::default();
    let kinds = [
        (AddressKind::Cluster, object.cluster_addresses()),
        (AddressKind::External, object.external_addresses()),
    ];
    for (kind, Addresses { ips, skipped }) in kinds {
        cx.skipped_addresses += skipped;
        let mut has = vec![(None, address_of(cx, service, kind, None))];
        has.extend(object.ports().map(|port| {
            let value = address_of(cx, service, kind, Some(port));
            (Some(Port { protocol: port.protocol, number: port.port }), value)
        }));
        for ip in ips {
            wanted.entry(Place::Address(ip.into())).or_default().extend(has.iter().cloned());
        }
    }
    for port in object.ports() {
        let Some(number) = port.node_port else {
            continue;
        };
        let place = Port { protocol: port.protocol, number };
        let value = address_of(cx, service, AddressKind::NodePort, Some(port));
        wanted.entry(Place::NodePort(place)).or_default().push((Some(place), value));
    }
    wanted
}

fn address_of(
    cx: &mut Context,
    service: &Arc<Service>,
    kind: AddressKind,
    port: Option<ServicePort<'_>>,
) -> Arc<ServiceAddress> {
    Arc::new(ServiceAddress {
        service: Arc::clone(service),
        port: port.map(|port| port.port),
        port_name: cx.names.optional(port.and_then(|port| port.name)),
        kind,
    })
}

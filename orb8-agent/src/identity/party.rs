//! Who is at one end of what happened, and how that is known.

use std::sync::Arc;

use orb8_k8s::object::{Controller, Node, Pod, ServiceAddress};
use orb8_proto::filter::End;

use super::Workload;
use crate::event::SocketEnd;

/// Who is at one end. Cheap to clone: what many ends share is shared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Party {
    /// Nobody known.
    #[default]
    Unknown,
    /// Told by the cgroup of its socket on this node: exact.
    Workload(Arc<Workload>),
    /// Told by the address that the pod had at that time.
    Pod(Arc<Pod>),
    /// Told by the node's address, which its processes and its host network pods share.
    Node(Arc<Node>),
    /// Told by an address that stands for others.
    Front(Arc<Front>),
}

/// An address that connection tracking puts in place of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Front {
    /// Whose address it is; or the Service that was asked for, where a process of this node's network
    /// sends to the backend already.
    pub address: Address,
    /// What is behind it, where that is known.
    pub behind: Option<Behind>,
}

/// Whose address a [`Front`] has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A Service's.
    Service(Arc<ServiceAddress>),
    /// A node's.
    Node(Arc<Node>),
    /// This node's, of which no Node object tells: a bridge's, say.
    Own,
}

/// What is behind a [`Front`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behind {
    /// The address that is there; `None` where it is the end's own.
    pub at: Option<SocketEnd>,
    /// Who that is. Never a front.
    pub party: Party,
}

impl Party {
    /// Returns what its socket's cgroup told, itself or behind a front.
    #[must_use]
    pub fn workload(&self) -> Option<&Workload> {
        match self.behind() {
            Self::Workload(workload) => Some(workload),
            Self::Unknown | Self::Pod(_) | Self::Node(_) | Self::Front(_) => None,
        }
    }

    /// Returns what the Kubernetes API says of the pod, itself or behind a front.
    #[must_use]
    pub fn pod(&self) -> Option<&Pod> {
        match self.behind() {
            Self::Workload(workload) => workload.api.as_deref(),
            Self::Pod(pod) => Some(pod),
            Self::Unknown | Self::Node(_) | Self::Front(_) => None,
        }
    }

    /// Returns the pod's name.
    #[must_use]
    pub fn pod_name(&self) -> Option<&str> {
        let named = || self.workload()?.pod.as_deref();
        self.pod().map(|pod| &*pod.name).or_else(named)
    }

    /// Returns the pod's namespace, or else the Service's.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        let named = || self.workload()?.namespace.as_deref();
        let service = || Some(&*self.service()?.service.namespace);
        self.pod().map(|pod| &*pod.namespace).or_else(named).or_else(service)
    }

    /// Returns the value of a label of the pod.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        self.pod()?.label(key)
    }

    /// Returns the controller at the top of the pod's ownerReferences.
    #[must_use]
    pub fn controller(&self) -> Option<&Controller> {
        self.pod()?.controller.as_ref()
    }

    /// Returns the Service whose address it is.
    #[must_use]
    pub fn service(&self) -> Option<&ServiceAddress> {
        match self.front()?.address {
            Address::Service(ref service) => Some(service),
            Address::Node(_) | Address::Own => None,
        }
    }

    /// Returns the node whose address it is.
    #[must_use]
    pub fn node(&self) -> Option<&Node> {
        match self {
            Self::Node(node) => Some(node),
            Self::Front(front) => match &front.address {
                Address::Node(node) => Some(node),
                Address::Service(_) | Address::Own => None,
            },
            Self::Unknown | Self::Workload(_) | Self::Pod(_) => None,
        }
    }

    /// Returns the name of the node that it runs on, or whose address it is.
    #[must_use]
    pub fn node_name(&self) -> Option<&str> {
        let runs_on = self.pod().and_then(|pod| pod.node.as_deref());
        let behind = || match self.behind() {
            Self::Node(node) => Some(&*node.name),
            Self::Unknown | Self::Workload(_) | Self::Pod(_) | Self::Front(_) => None,
        };
        runs_on.or_else(behind).or_else(|| self.node().map(|node| &*node.name))
    }

    /// Returns the address that stands for another.
    #[must_use]
    pub fn front(&self) -> Option<&Front> {
        match self {
            Self::Front(front) => Some(front),
            Self::Unknown | Self::Workload(_) | Self::Pod(_) | Self::Node(_) => None,
        }
    }

    /// Takes what is known now, unless that is less than what was known of the same.
    pub fn learn(&mut self, now: Self) {
        if now.rank() >= self.rank() || self.stands_for_another(&now) {
            *self = now;
        }
    }

    /// Takes what is known now in place of an owner that is gone, if that is somebody else.
    pub fn succeed(&mut self, now: Self) {
        let is_somebody = match now.behind() {
            Self::Workload(workload) => !workload.is_root(),
            Self::Pod(pod) => self.pod().is_none_or(|known| known.uid != pod.uid),
            Self::Unknown | Self::Node(_) | Self::Front(_) => false,
        };
        if is_somebody {
            *self = now;
        }
    }

    /// Whether both are fronts, and connection tracking has put another address behind the new one.
    fn stands_for_another(&self, now: &Self) -> bool {
        let at = |party: &Self| party.front()?.behind.as_ref()?.at;
        matches!((at(self), at(now)), (Some(known), Some(now)) if known != now)
    }

    /// Takes another instance of the workload that it is, itself or behind a front, if there is one
    /// that `find` knows more of.
    pub fn rename(&mut self, find: &mut impl FnMut(&Workload) -> Option<Arc<Workload>>) {
        match self {
            Self::Workload(workload) if workload.awaits_names() => {
                if let Some(found) = find(workload) {
                    *workload = found;
                }
            }
            Self::Front(front) => {
                let is_wanted = |behind: &Behind| matches!(&behind.party, Self::Workload(workload) if workload.awaits_names());
                if front.behind.as_ref().is_some_and(is_wanted)
                    && let Some(behind) = &mut Arc::make_mut(front).behind
                {
                    behind.party.rename(find);
                }
            }
            Self::Unknown | Self::Workload(_) | Self::Pod(_) | Self::Node(_) => {}
        }
    }

    /// How much it tells.
    fn rank(&self) -> Rank {
        match self {
            Self::Unknown => Rank::Nobody,
            Self::Node(_) => Rank::Node,
            Self::Pod(_) => Rank::Pod,
            Self::Workload(workload) if workload.is_root() => Rank::Root,
            Self::Workload(_) => Rank::Workload,
            Self::Front(front) => match front.behind.as_ref().map(|behind| behind.party.rank()) {
                None => Rank::Front,
                Some(Rank::Nobody) => Rank::FrontOfAddress,
                Some(Rank::Node | Rank::Root) => Rank::FrontOfNode,
                Some(Rank::Pod) => Rank::FrontOfPod,
                Some(_) => Rank::FrontOfWorkload,
            },
        }
    }

    /// Whether nothing better can become known of it.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        match self {
            Self::Workload(workload) => !workload.awaits_names() && !workload.is_root(),
            Self::Front(front) => {
                front.behind.as_ref().is_some_and(|behind| behind.party.is_settled())
            }
            Self::Unknown | Self::Pod(_) | Self::Node(_) => false,
        }
    }

    /// Whether it is told by its own socket: a process's, not the kernel's.
    #[must_use]
    pub fn is_socket(&self) -> bool {
        self.rank() == Rank::Workload
    }

    /// Whether it is somebody in particular.
    #[must_use]
    pub fn is_named(&self) -> bool {
        match self {
            Self::Workload(workload) => !workload.awaits_names() && !workload.is_root(),
            Self::Pod(_) => true,
            Self::Front(front) => {
                front.behind.as_ref().is_some_and(|behind| behind.party.is_named())
            }
            Self::Unknown | Self::Node(_) => false,
        }
    }

    /// Itself, or what is behind it.
    fn behind(&self) -> &Self {
        self.front().and_then(|front| front.behind.as_ref()).map_or(self, |behind| &behind.party)
    }
}

/// How much is told of an end, from least to most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// Nothing.
    Nobody,
    /// Any process or host network pod of a machine.
    Node,
    /// A machine's own processes, or its kernel, which sends in pods' names as well: an address tells
    /// more, unless it is the machine's.
    Root,
    /// Whom the other end asked, and nobody who answers.
    Front,
    /// Exactly one pod, but not which of its containers.
    Pod,
    /// Whom the other end asked, and where that went.
    FrontOfAddress,
    /// The same, and on which machine that is.
    FrontOfNode,
    /// The same, and the one pod that it is.
    FrontOfPod,
    /// The same, and the one socket that it is.
    FrontOfWorkload,
    /// The one socket that has the end's own address: nothing is in between.
    Workload,
}

impl From<Option<Arc<Workload>>> for Party {
    fn from(workload: Option<Arc<Workload>>) -> Self {
        workload.map_or(Self::Unknown, Self::Workload)
    }
}

/// Who is at both ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// Where packets come from, or who asks.
    pub source: Party,
    /// Where they go, or who answers.
    pub destination: Party,
}

impl Ends {
    /// Returns who is at one of them.
    #[must_use]
    pub const fn get(&self, end: End) -> &Party {
        match end {
            End::Source => &self.source,
            End::Destination => &self.destination,
        }
    }

    /// Returns who is at one of them, to change it.
    pub const fn get_mut(&mut self, end: End) -> &mut Party {
        match end {
            End::Source => &mut self.source,
            End::Destination => &mut self.destination,
        }
    }
}

#[cfg(test)]
mod tests;

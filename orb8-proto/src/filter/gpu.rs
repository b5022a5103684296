//! Which accelerators, and whose part in them, someone wants.
//!
//! Filters say who holds or uses a device. Of a device that is wanted, the parts of others are left
//! out, so that `--namespace ml` tells what is of `ml` and nothing else.

use std::collections::BTreeSet;

use self::device::DeviceMatcher;
use super::rule::{any, enums};
use super::{End, FilterError, OwnerMatcher};
use crate::flow::{owners_alone, present};
use crate::gpu::Places;
use crate::v1::{
    FlowFilter, GpuEventKind, GpuXid, GpuXidAction, QueryGpuRequest, QueryGpuResponse,
    StreamGpuRequest, StreamGpuResponse, Workload,
};

mod device;

pub use self::device::DevicePlace;

/// A compiled [`QueryGpuRequest`].
#[derive(Clone, Debug)]
pub struct GpuQuery {
    owners: Owners,
    devices: DeviceMatcher,
    without_activity: bool,
}

/// A compiled [`StreamGpuRequest`], but for the part of time that it asks for.
#[derive(Clone, Debug)]
pub struct GpuEventMatcher {
    owners: Owners,
    devices: DeviceMatcher,
    kinds: Vec<GpuEventKind>,
    at_least: GpuXidAction,
}

/// Which owners are wanted.
#[derive(Clone, Debug)]
struct Owners {
    matcher: OwnerMatcher,
    /// Whether somebody must be an owner.
    is_somebodys: bool,
}

/// One owner, as filters look at it.
struct Who<'a>(Option<&'a Workload>);

impl GpuQuery {
    /// Compiles a request.
    ///
    /// # Errors
    ///
    /// The first value that cannot be understood, or that no owner has: a port or a side.
    pub fn new(request: &QueryGpuRequest) -> Result<Self, FilterError> {
        let QueryGpuRequest { include, exclude, devices, without_activity } = request;
        Ok(Self {
            owners: Owners::new(include, exclude)?,
            devices: DeviceMatcher::new(devices)?,
            without_activity: *without_activity,
        })
    }

    /// Leaves of an answer with everything what is wanted, and of each part what it is a part of.
    ///
    /// # Errors
    ///
    /// A device that is none of those that are there, where there are any.
    pub fn select(&self, mut answer: QueryGpuResponse) -> Result<QueryGpuResponse, FilterError> {
        if self.without_activity {
            answer.activity.clear();
        }
        if self.owners.is_any() && self.devices.is_any() {
            return Ok(answer);
        }
        let mut chosen = {
            let places = Places::new(&answer.devices);
            self.devices.check(&places)?;
            let is_chosen = |place: &DevicePlace<'_>| self.devices.matches(place);
            places.all().filter(is_chosen).map(|place| place.id.to_owned()).collect()
        };
        self.keep_devices(&mut answer, &mut chosen);
        answer.processes.retain(|process| {
            chosen.contains(&process.device) && self.owners.want(process.owner.as_ref())
        });
        answer.activity.retain(|activity| {
            let is_there = activity.devices.iter().any(|device| chosen.contains(device));
            (self.devices.is_any() || is_there) && self.owners.want(activity.owner.as_ref())
        });
        Ok(answer)
    }

    /// Leaves the chosen devices that somebody who is wanted has a part in.
    fn keep_devices(&self, answer: &mut QueryGpuResponse, chosen: &mut BTreeSet<String>) {
        let mut context = BTreeSet::new();
        for device in &mut answer.devices {
            let had_owner = !device.shares.is_empty();
            device.shares.retain(|share| self.owners.want(share.owner.as_ref()));
            let is_wanted = match had_owner {
                true => !device.shares.is_empty(),
                false => self.owners.want_nobody(),
            };
            if !is_wanted {
                chosen.remove(&device.id);
            } else if chosen.contains(&device.id)
                && let Some(part) = &device.part
            {
                context.insert(part.parent.clone());
            }
        }
        answer.devices.retain(|device| chosen.contains(&device.id) || context.contains(&device.id));
    }
}

impl GpuEventMatcher {
    /// Compiles a request.
    ///
    /// # Errors
    ///
    /// The first value that cannot be understood, or that no owner has: a port or a side.
    pub fn new(request: &StreamGpuRequest) -> Result<Self, FilterError> {
        let StreamGpuRequest {
            include,
            exclude,
            devices,
            kinds,
            at_least,
            last: _,
            no_follow: _,
            since_time_ns: _,
        } = request;
        let at_least = match *at_least {
            0 => GpuXidAction::Unspecified,
            action => enums("at_least", &[action])?.remove(0),
        };
        Ok(Self {
            owners: Owners::new(include, exclude)?,
            devices: DeviceMatcher::new(devices)?,
            kinds: enums("kinds", kinds)?,
            at_least,
        })
    }

    /// Whether the event is wanted. That something was lost is a kind of its own, and nobody's.
    #[must_use]
    pub fn matches(&self, event: &StreamGpuResponse) -> bool {
        let xid = event.xid.as_ref().map(GpuXid::action);
        self.wants_kind(event.kind(), xid)
            && (event.kind() == GpuEventKind::Lost
                || (self.wants_device(&DevicePlace::of_event(event))
                    && self.wants_owners(&event.owners)))
    }

    /// Whether events of a kind, and of an XID with what is to be done about it, are wanted.
    #[must_use]
    pub fn wants_kind(&self, kind: GpuEventKind, action: Option<GpuXidAction>) -> bool {
        any(&self.kinds, |wanted| *wanted == kind)
            && action.is_none_or(|action| action >= self.at_least)
    }

    /// Whether events of a device are wanted.
    #[must_use]
    pub fn wants_device(&self, place: &DevicePlace<'_>) -> bool {
        self.devices.matches(place)
    }

    /// Whether it wants every device's events.
    #[must_use]
    pub fn wants_all_devices(&self) -> bool {
        self.devices.is_any()
    }

    /// Whether events of these owners are wanted.
    #[must_use]
    pub fn wants_owners(&self, owners: &[Workload]) -> bool {
        match owners {
            [] => self.owners.want_nobody(),
            owners => owners.iter().any(|owner| self.owners.want(Some(owner))),
        }
    }

    /// Whether it wants every owner's events.
    #[must_use]
    pub fn wants_all_owners(&self) -> bool {
        self.owners.is_any()
    }
}

impl Owners {
    fn new(include: &[FlowFilter], exclude: &[FlowFilter]) -> Result<Self, FilterError> {
        let matcher = OwnerMatcher::new(include, exclude)?;
        // A filter that says nothing of an owner is nobody's too.
        let is_any = include.iter().any(|filter| *filter == FlowFilter::default());
        Ok(Self { matcher, is_somebodys: !include.is_empty() && !is_any })
    }

    fn is_any(&self) -> bool {
        self.matcher.is_empty()
    }

    fn want(&self, owner: Option<&Workload>) -> bool {
        self.matcher.matches(&Who(owner))
    }

    const fn want_nobody(&self) -> bool {
        !self.is_somebodys
    }
}

impl Who<'_> {
    /// It is whose both ends would be; only who that is can be asked.
    const fn workload(&self, _: End) -> Option<&Workload> {
        self.0
    }
}

owners_alone! { Who<'_> }

#[cfg(test)]
mod tests;

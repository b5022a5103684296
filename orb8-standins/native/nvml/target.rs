//! What a handle stands for, and what is so of it now.

use super::curve::mean;
use super::play::{Now, current, enter, enter_device};
use super::scenario::{Device, Instance, Process, ProcessKind, Quantity};
use super::status::{Answer, Status};

/// `nvmlDevice_t`: a number that says what it stands for, so that a stale or invented one is told.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Handle(usize);

const TAG: usize = 0x4e56;

/// What a handle says.
struct Meaning {
    epoch: u16,
    index: usize,
    /// The number of the layout, and the place in it.
    instance: Option<(usize, usize)>,
}

impl Handle {
    /// `instance` is the number of the layout, and the place in it.
    pub(super) fn new(epoch: u16, index: usize, instance: Option<(usize, usize)>) -> Self {
        let (layout, place) = instance.map_or((0, 0), |(layout, place)| (layout, place + 1));
        Self(TAG << 48 | usize::from(epoch) << 32 | layout << 16 | place << 8 | index)
    }

    fn read(self) -> Option<Meaning> {
        let byte = |shift: u32| self.0 >> shift & 0xff;
        let instance = byte(8).checked_sub(1).map(|place| (byte(16), place));
        let meaning = Meaning { epoch: (self.0 >> 32) as u16, index: byte(0), instance };
        (self.0 >> 48 == TAG).then_some(meaning)
    }
}

/// A device, or an instance of one, now.
pub(super) struct Target {
    pub(super) now: Now,
    pub(super) index: usize,
    /// The place of the instance in its device's layout.
    pub(super) place: Option<usize>,
}

impl Target {
    /// Finds what a handle stands for, for a function.
    pub(super) fn find(function: &'static str, handle: Handle) -> Answer<Self> {
        let now = current()?;
        let Meaning { epoch, index, instance } = handle.read().ok_or(Status::INVALID_ARGUMENT)?;
        if epoch != now.epoch {
            return Err(Status::INVALID_ARGUMENT);
        }
        now.device(index)?;
        drop(now);
        let target = Self {
            now: enter_device(function, index)?,
            index,
            place: instance.map(|(_, place)| place),
        };
        if let Some((layout, place)) = instance {
            let device = target.now.device(index)?;
            let (number, instances) = device.layout(target.now.time);
            let is_there =
                number & 0xff == layout && instances.is_some_and(|all| place < all.len());
            if !is_there {
                return Err(Status::INVALID_ARGUMENT);
            }
        }
        Ok(target)
    }

    /// Finds a device by its number, for a function.
    pub(super) fn by_index(function: &'static str, index: usize) -> Answer<Self> {
        current()?.device(index)?;
        Ok(Self { now: enter_device(function, index)?, index, place: None })
    }

    /// Finds a device or an instance by what it is.
    pub(super) fn by(
        function: &'static str,
        is_device: impl Fn(&Device) -> bool,
        is_instance: impl Fn(&Instance) -> bool,
    ) -> Answer<Self> {
        let now = enter(function)?;
        for device in &now.play.scenario.devices {
            if is_device(device) {
                return Self::by_index(function, device.index);
            }
            let instances = device.layout(now.time).1.unwrap_or_default();
            if let Some(place) = instances.iter().position(&is_instance) {
                let now = enter_device(function, device.index)?;
                return Ok(Self { now, index: device.index, place: Some(place) });
            }
        }
        Err(Status::NOT_FOUND)
    }

    pub(super) fn handle(&self) -> Answer<Handle> {
        let layout = self.device()?.layout(self.now.time).0 & 0xff;
        Ok(Handle::new(self.now.epoch, self.index, self.place.map(|place| (layout, place))))
    }

    /// Returns the device, also of an instance.
    pub(super) fn device(&self) -> Answer<&Device> {
        self.now.device(self.index)
    }

    /// Returns the device; what is asked for is not told of instances.
    pub(super) fn whole(&self) -> Answer<&Device> {
        if self.place.is_some() { Err(Status::NOT_SUPPORTED) } else { self.device() }
    }

    /// Returns the instance that this is; `None` of a device.
    pub(super) fn instance(&self) -> Option<&Instance> {
        let instances = self.instances()?;
        instances.get(self.place?)
    }

    /// Returns the instances of the device; `None` where MIG is off.
    pub(super) fn instances(&self) -> Option<&[Instance]> {
        self.device().ok()?.layout(self.now.time).1
    }

    /// Returns a quantity of the whole device.
    pub(super) fn value(&self, quantity: Quantity) -> Answer<f64> {
        self.value_at(quantity, self.now.time)
    }

    pub(super) fn value_at(&self, quantity: Quantity, time: f64) -> Answer<f64> {
        let curve = self.whole()?.curve(quantity).ok_or(Status::NOT_SUPPORTED)?;
        Ok(curve.value(time))
    }

    /// Returns a quantity as a whole number.
    pub(super) fn number<T: Number>(&self, quantity: Quantity) -> Answer<T> {
        self.value(quantity).map(T::of)
    }

    /// Returns what a quantity sums to since the driver was loaded, its unit times s.
    pub(super) fn total(&self, quantity: Quantity) -> Answer<f64> {
        let curve = self.whole()?.curve(quantity).ok_or(Status::NOT_SUPPORTED)?;
        Ok(curve.total(self.now.time) - curve.total(self.now.loaded()))
    }

    /// Returns what a counter was raised by since the driver was loaded.
    pub(super) fn counter(&self, quantity: Quantity) -> Answer<f64> {
        let curve = self.whole()?.curve(quantity).ok_or(Status::NOT_SUPPORTED)?;
        Ok(curve.value(self.now.time) - curve.value_before(self.now.loaded()))
    }

    /// Returns the processes on this device or instance now.
    pub(super) fn processes(&self) -> impl Iterator<Item = &Process> {
        self.processes_of(self.place, self.now.time)
    }

    fn processes_of(&self, place: Option<usize>, time: f64) -> impl Iterator<Item = &Process> {
        let instance = place.and_then(|place| self.instances()?.get(place));
        let is_here =
            move |process: &&Process| self.has(process, instance) && process.window.contains(time);
        self.now.processes().filter(is_here)
    }

    /// Whether a process uses this device, or an instance of it, when it is there.
    pub(super) fn has(&self, process: &Process, instance: Option<&Instance>) -> bool {
        process.devices.has(self.index)
            && instance.is_none_or(|it| process.instance == Some((it.gpu, it.compute)))
    }

    /// Returns total, reserved, used and free memory, bytes.
    pub(super) fn memory(&self) -> Answer<Memory> {
        let device = self.device()?;
        let quantity = |quantity| device.curve(quantity).ok_or(Status::NOT_SUPPORTED);
        let (total, reserved, other) = match self.instance() {
            // Of each instance the driver keeps as little as that.
            Some(instance) => (instance.memory as f64, 16_777_216.0, 0.0),
            None => (
                quantity(Quantity::Memory)?.value(self.now.time),
                quantity(Quantity::Reserved)?.value(self.now.time),
                quantity(Quantity::OtherMemory)?.value(self.now.time),
            ),
        };
        if !total.is_finite() || total < 0.0 {
            // What a driver says that has lost its mind.
            let nonsense = u64::of(total);
            return Ok(Memory {
                total: nonsense,
                reserved: nonsense,
                used: nonsense,
                free: nonsense,
            });
        }
        let memory = |process: &Process| Some(process.memory.as_ref()?.value(self.now.time));
        let taken: f64 = self.processes().filter_map(memory).sum();
        let (total, reserved) = (u64::of(total), u64::of(reserved.min(total)));
        let used = u64::of((taken + other).max(0.0)).min(total - reserved);
        Ok(Memory { total, reserved, used, free: total - reserved - used })
    }

    /// Returns how busy the device is, percent.
    pub(super) fn utilization(&self, time: f64) -> Answer<f64> {
        let device = self.whole()?;
        if device.layout(time).1.is_some() {
            return Err(Status::NOT_SUPPORTED);
        }
        self.busy(time)
    }

    /// Returns how busy the device or instance is, percent, also where only GPM tells it.
    pub(super) fn busy(&self, time: f64) -> Answer<f64> {
        let Some(place) = self.place else { return self.busy_device(time) };
        Ok(self.busy_instance(place, time))
    }

    fn busy_device(&self, time: f64) -> Answer<f64> {
        let device = self.device()?;
        if !device.derives(Quantity::Utilization) {
            let curve = device.curve(Quantity::Utilization).ok_or(Status::NOT_SUPPORTED)?;
            return Ok(curve.value(time));
        }
        let Some(instances) = self.instances() else { return Ok(self.sum(None, time)) };
        let part = |(place, instance): (usize, &Instance)| {
            self.busy_instance(place, time) * f64::from(instance.slices.1) / 7.0
        };
        Ok(instances.iter().enumerate().map(part).sum::<f64>().min(100.0))
    }

    fn busy_instance(&self, place: usize, time: f64) -> f64 {
        let said = self.instances().and_then(|all| all.get(place)?.busy.as_ref());
        said.map_or_else(|| self.sum(Some(place), time), |busy| busy.value(time))
    }

    fn sum(&self, place: Option<usize>, time: f64) -> f64 {
        let sms = self.processes_of(place, time).map(|process| process.sm.value(time));
        sms.sum::<f64>().min(100.0)
    }

    /// Returns how busy the device's memory is, percent: half of the time where it is not said.
    pub(super) fn memory_utilization(&self, time: f64) -> Answer<f64> {
        if self.device()?.derives(Quantity::MemoryUtilization) {
            return Ok(self.utilization(time)? / 2.0);
        }
        self.value_at(Quantity::MemoryUtilization, time)
    }

    /// Returns a part of what GPM tells, percent, as a mean between two times.
    pub(super) fn activity(
        &self,
        quantity: Quantity,
        of_busy: f64,
        from: f64,
        to: f64,
    ) -> Answer<f64> {
        let device = self.device()?;
        let own = device.curve(quantity).filter(|_| self.place.is_none());
        if own.is_none() && !device.derives(quantity) && self.place.is_none() {
            return Err(Status::NOT_SUPPORTED);
        }
        self.busy(from)?;
        Ok(mean(from, to, |time| match own {
            Some(curve) => curve.value(time),
            None => self.busy(time).unwrap_or(f64::NAN) * of_busy,
        }))
    }
}

/// A device's memory, bytes.
pub(super) struct Memory {
    pub(super) total: u64,
    pub(super) reserved: u64,
    pub(super) used: u64,
    pub(super) free: u64,
}

/// A whole number that a value becomes as a driver's does: what is too large has all bits set, what is
/// negative wraps around.
pub(super) trait Number {
    fn of(value: f64) -> Self;
}

impl Number for u32 {
    fn of(value: f64) -> Self {
        if value < 0.0 { value as i32 as Self } else { value as Self }
    }
}

impl Number for u64 {
    fn of(value: f64) -> Self {
        if value < 0.0 { value as i64 as Self } else { value as Self }
    }
}

impl Number for i64 {
    fn of(value: f64) -> Self {
        value as Self
    }
}

impl ProcessKind {
    /// Returns the number that `nvmlProcessDetailList_t` has for it.
    pub(super) const fn mode(self) -> u32 {
        match self {
            Self::Compute => 0,
            Self::Graphics => 1,
            Self::Mps => 2,
        }
    }
}

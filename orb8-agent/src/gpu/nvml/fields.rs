//! Values that are asked for by number, many in one call.

use nvml_wrapper::Device as Handle;
use nvml_wrapper::sys_exports::field_id as id;

use crate::gpu::checked::Checked;

use super::call::{Asker, Call, Refused, Stop};
use super::raw::{self, ALL_LINKS, Number};

/// What is asked for in each reading, with its scope.
pub(super) const FAST: [(u32, u32); 12] = [
    (id::NVML_FI_DEV_MEMORY_TEMP, 0),
    (id::NVML_FI_DEV_PERF_POLICY_POWER, 0),
    (id::NVML_FI_DEV_PERF_POLICY_SYNC_BOOST, 0),
    (id::NVML_FI_DEV_PERF_POLICY_BOARD_LIMIT, 0),
    (id::NVML_FI_DEV_PERF_POLICY_RELIABILITY, 0),
    (id::NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN, 0),
    (id::NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN, 0),
    (id::NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN, 0),
    (id::NVML_FI_DEV_PCIE_COUNT_TX_BYTES, 0),
    (id::NVML_FI_DEV_PCIE_COUNT_RX_BYTES, 0),
    (id::NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX, ALL_LINKS),
    (id::NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX, ALL_LINKS),
];

/// What changes seldom, and costs the driver a look at the device.
pub(super) const SLOW: [(u32, u32); 10] = [
    (id::NVML_FI_DEV_PCIE_REPLAY_COUNTER, 0),
    (id::NVML_FI_DEV_ECC_SBE_VOL_TOTAL, 0),
    (id::NVML_FI_DEV_ECC_DBE_VOL_TOTAL, 0),
    (id::NVML_FI_DEV_ECC_SBE_AGG_TOTAL, 0),
    (id::NVML_FI_DEV_ECC_DBE_AGG_TOTAL, 0),
    (id::NVML_FI_DEV_NVLINK_LINK_COUNT, 0),
    (id::NVML_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL, 0),
    (id::NVML_FI_DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL, 0),
    (id::NVML_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL, 0),
    (id::NVML_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL, 0),
];

/// Fields of which a device does not have all.
#[derive(Debug)]
pub(super) struct Fields {
    wanted: Vec<(u32, u32)>,
}

/// What was told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Values(Vec<(u32, u64)>);

impl Fields {
    /// Asks for these, until the device says which of them it does not have.
    pub(super) fn new(wanted: &[(u32, u32)]) -> Self {
        Self { wanted: wanted.to_vec() }
    }

    /// Reads them.
    ///
    /// # Errors
    ///
    /// [`Stop`] where the device is not to be asked any further.
    pub(super) fn read(
        &mut self,
        asker: &mut Asker,
        refused: &mut Refused,
        handle: &Handle<'_>,
    ) -> Result<Values, Stop> {
        if self.wanted.is_empty() {
            return Ok(Values::default());
        }
        let read = asker.ask(refused, Call::Fields, || raw::fields(handle, &self.wanted))?;
        let mut values = Values::default();
        let mut lacking = Vec::new();
        for (&(field, scope), result) in self.wanted.iter().zip(read.unwrap_or_default()) {
            match result {
                Ok(number) => {
                    let value = whole(&mut asker.checked, number);
                    values.0.extend(value.map(|value| (field, value)));
                }
                Err(error) => {
                    if !asker.refuse_value(Call::Fields, error)? {
                        lacking.push((field, scope));
                    }
                }
            }
        }
        self.wanted.retain(|wanted| !lacking.contains(wanted));
        Ok(values)
    }
}

impl Values {
    /// Returns a field's value.
    pub(super) fn get(&self, field: u32) -> Option<u64> {
        self.0.iter().find(|(known, _)| *known == field).map(|(_, value)| *value)
    }

    /// Returns the sum of a field over all scopes that it was told for.
    pub(super) fn sum(&self, field: u32) -> Option<u64> {
        let values = self.0.iter().filter(|(known, _)| *known == field).map(|(_, value)| *value);
        values.reduce(u64::saturating_add)
    }
}

fn whole(checked: &mut Checked, number: Number) -> Option<u64> {
    match number {
        // A counter of 32 bits that is full, or all ones: both mean that there is none.
        Number::Unsigned(value) if value == u64::from(u32::MAX) => checked.whole(u64::MAX),
        Number::Unsigned(value) => checked.whole(value),
        Number::Signed(value) => checked.whole(u64::try_from(value).unwrap_or(u64::MAX)),
        Number::Float(value) => checked.count(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentinels_and_negative_values_are_left_out_and_counted() {
        let mut checked = Checked::default();
        assert_eq!(whole(&mut checked, Number::Unsigned(12)), Some(12));
        assert_eq!(whole(&mut checked, Number::Signed(3)), Some(3));
        assert_eq!(whole(&mut checked, Number::Float(4.0)), Some(4));
        assert_eq!(checked.invalid, 0);
        for nonsense in [
            Number::Unsigned(u64::MAX),
            Number::Unsigned(u64::from(u32::MAX)),
            Number::Signed(-1),
            Number::Float(f64::NAN),
            Number::Float(-2.0),
        ] {
            assert_eq!(whole(&mut checked, nonsense), None, "{nonsense:?}");
        }
        assert_eq!(checked.invalid, 5);
    }

    #[test]
    fn a_field_of_several_links_is_their_sum() {
        let values = Values(vec![(161, 3), (162, 1), (161, 4)]);
        assert_eq!((values.sum(161), values.sum(162), values.sum(163)), (Some(7), Some(1), None));
    }

    #[test]
    fn no_field_is_asked_for_twice() {
        let mut all: Vec<u32> = FAST.iter().chain(&SLOW).map(|(field, _)| *field).collect();
        all.sort_unstable();
        let count = all.len();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}

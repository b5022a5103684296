//! Values that are asked for by number (`nvmlDeviceGetFieldValues`).

use super::export::errors::{ecc_errors, rows};
use super::export::links::{is_up, link, part, whole_part};
use super::export::load::{energy, violated};
use super::scenario::Quantity;
use super::status::{Answer, SUCCESS, Status};
use super::target::{Number, Target};
use super::types::{FieldValue, Value};

/// A value with its type.
enum Field {
    UInt(u32),
    ULongLong(u64),
}

/// Writes one value, or why there is none.
pub(super) fn fill(target: &Target, value: &mut FieldValue) {
    value.time = i64::try_from(target.now.micros).unwrap_or(i64::MAX);
    value.latency = 1;
    match field(target, value.field, value.scope) {
        Ok(Field::UInt(uint)) => {
            // All of it: who reads another member sees no rest of before.
            value.value = Value { ulonglong: u64::from(uint) };
            (value.kind, value.status) = (1, SUCCESS);
        }
        Ok(Field::ULongLong(ulonglong)) => {
            value.value = Value { ulonglong };
            (value.kind, value.status) = (3, SUCCESS);
        }
        Err(Status(code)) => value.status = code,
    }
}

fn field(it: &Target, number: u32, scope: u32) -> Answer<Field> {
    let uint = |answer: Answer<u32>| answer.map(Field::UInt);
    let long = |answer: Answer<u64>| answer.map(Field::ULongLong);
    let count = |quantity| long(it.counter(quantity).map(u64::of));
    let milliwatts = |quantity| uint(it.value(quantity).map(|watts| u32::of(watts * 1e3)));
    match number {
        1 | 2 => uint(it.whole()?.ecc.map(u32::from).ok_or(Status::NOT_SUPPORTED)),
        3..=6 => long(ecc_errors(it, (number - 3) % 2, (number - 3) / 2)),
        29..=31 => it
            .value(Quantity::RetiredPages)
            .map(|pages| Field::UInt(if number == 30 { u32::of(pages) } else { 0 })),
        38 => count(Quantity::NvLinkCrc).and_then(|field| linked(it, field)),
        52 => count(Quantity::NvLinkReplays).and_then(|field| linked(it, field)),
        59 => count(Quantity::NvLinkRecoveries).and_then(|field| linked(it, field)),
        74..=79 => long(violated(&it.now, whole(it)?, number - 74)),
        80 | 81 => long(violated(&it.now, whole(it)?, number - 70)),
        82 => uint(it.number(Quantity::MemoryTemperature)),
        83 | 191 => long(energy(it)),
        90 => linked(it, Field::UInt(speed(it)?)),
        91 => uint(it.whole().map(|device| device.links)),
        94 => uint(it.counter(Quantity::PcieReplays).map(u32::of)),
        95 => uint(it.counter(Quantity::PcieReplays).map(|_| 0)),
        138 | 140 => long(throughput(it, scope, Quantity::NvLinkTx).map(|bytes| bytes / 1024)),
        139 | 141 => long(throughput(it, scope, Quantity::NvLinkRx).map(|bytes| bytes / 1024)),
        142 => uint(rows(it, Quantity::RowsCorrectable)),
        143 => uint(rows(it, Quantity::RowsUncorrectable)),
        144 => uint(rows(it, Quantity::RowsPending)),
        145 => uint(rows(it, Quantity::RowsFailed)),
        161 => long(of_link(it, scope, Quantity::NvLinkReplays)),
        162 => long(of_link(it, scope, Quantity::NvLinkRecoveries)),
        163 => long(of_link(it, scope, Quantity::NvLinkCrc)),
        164 => uint(link(it, scope).and_then(|_| speed(it))),
        165 => uint(link(it, scope).map(|device| u32::from(is_up(device, scope)))),
        166 => uint(link(it, scope).map(|device| device.link_version)),
        169 | 173..=183 => uint(it.whole().map(|_| 0)),
        185 | 186 => milliwatts(Quantity::Power),
        188..=190 | 192 => milliwatts(Quantity::PowerLimit),
        193 => to_limit(it, Quantity::Shutdown),
        194 => to_limit(it, Quantity::Slowdown),
        195 => to_limit(it, Quantity::HottestMemory),
        196 => to_limit(it, Quantity::HottestGpu),
        197 => long(it.total(Quantity::PcieTx).map(u64::of)),
        198 => long(it.total(Quantity::PcieRx).map(u64::of)),
        202 if is_fifth(it) => long(throughput(it, scope, Quantity::NvLinkTx)),
        204 if is_fifth(it) => long(throughput(it, scope, Quantity::NvLinkRx)),
        // What these numbers mean changed with the driver's version 580.82.
        251..=253 | 269..=271 => {
            let first = if is_renumbered(&it.now.play.scenario.driver.version) { 269 } else { 251 };
            let reason = number.checked_sub(first).ok_or(Status::NOT_SUPPORTED)?;
            let bits = [0x20, 0x40, 0x80].get(reason as usize).ok_or(Status::NOT_SUPPORTED)?;
            long(Ok(u64::of(it.now.throttled(whole(it)?, *bits) * 1e9)))
        }
        _ => Err(Status::NOT_SUPPORTED),
    }
}

fn whole(it: &Target) -> Answer<usize> {
    it.whole().map(|device| device.index)
}

/// Whether a driver has the numbers of fields that came with version 580.82.
fn is_renumbered(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    let version: (u32, u32) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    version >= (580, 82)
}

/// Tells a value where there are links.
fn linked(it: &Target, field: Field) -> Answer<Field> {
    if it.whole()?.links == 0 { Err(Status::NOT_SUPPORTED) } else { Ok(field) }
}

fn is_fifth(it: &Target) -> bool {
    it.whole().is_ok_and(|device| device.links > 0 && device.link_version >= 5)
}

/// MB/s of one link.
fn speed(it: &Target) -> Answer<u32> {
    Ok(match it.whole()?.link_version {
        5 => 50_000,
        3 | 4 => 25_000,
        _ => 20_000,
    })
}

fn of_link(it: &Target, number: u32, quantity: Quantity) -> Answer<u64> {
    let device = link(it, number)?;
    Ok(whole_part(device, number, it.counter(quantity)?))
}

/// Returns the bytes of a link, or of all of them, since the driver was loaded.
fn throughput(it: &Target, scope: u32, quantity: Quantity) -> Answer<u64> {
    let all = u32::MAX;
    let device = link(it, if scope == all { 0 } else { scope })?;
    let bytes = it.total(quantity)?;
    Ok(u64::of(if scope == all { bytes } else { part(device, scope, bytes) }))
}

/// Returns how many degrees it is to a limit, as newer drivers tell limits.
fn to_limit(it: &Target, limit: Quantity) -> Answer<Field> {
    Ok(Field::UInt(u32::of(it.value(limit)? - it.value(Quantity::Temperature)?)))
}

#[cfg(test)]
mod tests {
    use super::is_renumbered;

    #[test]
    fn fields_have_other_numbers_since_a_version() {
        assert!(!is_renumbered("570.124.06") && !is_renumbered("580.65.06"));
        assert!(is_renumbered("580.82.07") && is_renumbered("590.1"));
    }
}

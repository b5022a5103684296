//! `gpu_metrics`: the firmware's table of figures, binary, in a layout for each revision.
//!
//! ```text
//! u16 size, u8 format, u8 content │ figures as drivers/gpu/drm/amd/include/kgd_pp_interface.h lists
//! ```
//! A revision that is not known here, and a table whose size is not its revision's, tell nothing. All
//! ones stand for a value that there is not. Format 2 is of processors with graphics: they tell as much
//! by files.

/// Links to other devices that a table has room for.
const LINKS: usize = 8;
/// Dies of one device, and of one partition.
const DIES: usize = 8;
/// Partitions that a table has room for.
const PARTITIONS: usize = 8;

/// What a table told. Units are the table's own.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Metrics {
    /// Of the whole device, percent.
    pub(super) gfx_activity: Option<u16>,
    /// Of its memory controllers, percent.
    pub(super) memory_activity: Option<u16>,
    /// Watts.
    pub(super) power: Option<u16>,
    /// 2^-16 joules.
    pub(super) energy: Option<u64>,
    /// Of the hottest place, degrees.
    pub(super) hotspot: Option<u16>,
    /// Degrees.
    pub(super) memory_temperature: Option<u16>,
    /// Of the fastest die, megahertz.
    pub(super) gfx_clock: Option<u16>,
    /// Megahertz.
    pub(super) memory_clock: Option<u16>,
    /// Bits of what slows it down, the same on all products.
    pub(super) throttle: Option<u64>,
    /// Counters of what slowed it down.
    pub(super) residency: Option<Residency>,
    /// Links to others.
    pub(super) links: Option<Links>,
    /// Packets of the link to the machine that had to be sent again.
    pub(super) replays: Option<u64>,
    /// Of each partition, percent.
    pub(super) partitions: Vec<Option<f64>>,
}

/// How often the firmware looked, and how often it found the device held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Residency {
    pub(super) looked: u32,
    pub(super) prochot: u32,
    pub(super) power: u32,
    pub(super) socket_thermal: u32,
    pub(super) regulator_thermal: u32,
    pub(super) memory_thermal: u32,
}

/// Links to other devices, all together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Links {
    pub(super) count: u32,
    pub(super) active: Option<u32>,
    /// Kilobytes since the driver was loaded.
    pub(super) read: u64,
    /// Kilobytes since then.
    pub(super) written: u64,
}

/// Where figures lie in 1.1 to 1.3, which differ at the end only: Vega, MI100, MI200 and RDNA. Their
/// energy has a unit of each product's own.
mod early {
    pub(super) const SIZES: [(u8, usize); 3] = [(1, 96), (2, 104), (3, 120)];
    pub(super) const HOTSPOT: usize = 6;
    pub(super) const MEMORY_TEMPERATURE: usize = 8;
    pub(super) const GFX_ACTIVITY: usize = 16;
    pub(super) const MEMORY_ACTIVITY: usize = 18;
    pub(super) const POWER: usize = 22;
    pub(super) const GFX_CLOCK: usize = 54;
    pub(super) const MEMORY_CLOCK: usize = 58;
    /// 1.3 only.
    pub(super) const THROTTLE: usize = 112;
}

/// Where figures lie in 1.4 and later: MI300 and its successors. What is not here lies in the same
/// place in all of them.
struct Layout {
    content: u8,
    /// Of the whole table.
    size: usize,
    energy: usize,
    residency: Option<usize>,
    replays: usize,
    links: usize,
    /// State of each link.
    link_states: Option<usize>,
    clocks: usize,
    /// The first partition, and bytes of each.
    partitions: Option<(usize, usize)>,
}

#[rustfmt::skip]
const LAYOUTS: [Layout; 5] = [
    Layout { content: 4, size: 288, energy: 24, residency: None, replays: 88, links: 104, link_states: None, clocks: 240, partitions: None },
    Layout { content: 5, size: 360, energy: 88, residency: None, replays: 152, links: 176, link_states: None, clocks: 312, partitions: None },
    Layout { content: 6, size: 1664, energy: 16, residency: Some(32), replays: 104, links: 128, link_states: None, clocks: 264, partitions: Some((312, 168)) },
    Layout { content: 7, size: 2208, energy: 24, residency: Some(40), replays: 112, links: 136, link_states: Some(264), clocks: 296, partitions: Some((344, 232)) },
    Layout { content: 8, size: 3872, energy: 24, residency: Some(40), replays: 112, links: 136, link_states: Some(264), clocks: 296, partitions: Some((344, 440)) },
];

const HOTSPOT: usize = 4;
const MEMORY_TEMPERATURE: usize = 6;
const POWER: usize = 10;
const GFX_ACTIVITY: usize = 12;
const MEMORY_ACTIVITY: usize = 14;
/// After the clocks of dies and of 12 other places.
const MEMORY_CLOCK: usize = 2 * (DIES + 12);
const PARTITION_COUNT: usize = MEMORY_CLOCK + 2;

/// Reads a table; `None` for a revision that is not known here.
pub(super) fn parse(table: &[u8]) -> Option<Metrics> {
    let &[first, second, format, content, ..] = table else { return None };
    let size = usize::from(u16::from_ne_bytes([first, second]));
    if format != 1 || size != table.len() {
        return None;
    }
    if early::SIZES.contains(&(content, size)) {
        return Some(early(table, content));
    }
    let layout = LAYOUTS.iter().find(|is| (is.content, is.size) == (content, size))?;
    Some(late(table, layout))
}

fn early(table: &[u8], content: u8) -> Metrics {
    Metrics {
        gfx_activity: u16_at(table, early::GFX_ACTIVITY),
        memory_activity: u16_at(table, early::MEMORY_ACTIVITY),
        power: u16_at(table, early::POWER),
        hotspot: u16_at(table, early::HOTSPOT),
        memory_temperature: u16_at(table, early::MEMORY_TEMPERATURE),
        gfx_clock: u16_at(table, early::GFX_CLOCK),
        memory_clock: u16_at(table, early::MEMORY_CLOCK),
        throttle: if content == 3 { u64_at(table, early::THROTTLE) } else { None },
        ..Metrics::default()
    }
}

fn late(table: &[u8], layout: &Layout) -> Metrics {
    let die_clocks = (0..DIES).filter_map(|die| u16_at(table, layout.clocks + 2 * die));
    Metrics {
        gfx_activity: u16_at(table, GFX_ACTIVITY),
        memory_activity: u16_at(table, MEMORY_ACTIVITY),
        power: u16_at(table, POWER),
        energy: u64_at(table, layout.energy),
        hotspot: u16_at(table, HOTSPOT),
        memory_temperature: u16_at(table, MEMORY_TEMPERATURE),
        gfx_clock: die_clocks.max(),
        memory_clock: u16_at(table, layout.clocks + MEMORY_CLOCK),
        throttle: None,
        residency: layout.residency.and_then(|offset| residency(table, offset)),
        links: links(table, layout),
        replays: u64_at(table, layout.replays),
        partitions: partitions(table, layout),
    }
}

fn residency(table: &[u8], offset: usize) -> Option<Residency> {
    let counter = |number: usize| u32_at(table, offset + 4 * number);
    Some(Residency {
        looked: counter(0)?,
        prochot: counter(1)?,
        power: counter(2)?,
        socket_thermal: counter(3)?,
        regulator_thermal: counter(4)?,
        memory_thermal: counter(5)?,
    })
}

fn links(table: &[u8], layout: &Layout) -> Option<Links> {
    let figures = |first: usize| {
        (0..LINKS).filter_map(move |link| u64_at(table, layout.links + 8 * (first + link)))
    };
    let states = layout
        .link_states
        .map(|offset| (0..LINKS).filter_map(move |link| u16_at(table, offset + 2 * link)));
    let count = states.clone().map_or_else(|| figures(0).count(), Iterator::count);
    // At most `LINKS`.
    (count > 0).then(|| Links {
        count: count as u32,
        active: states.map(|states| states.filter(|state| *state == 1).count() as u32),
        read: figures(0).fold(0, u64::saturating_add),
        written: figures(LINKS).fold(0, u64::saturating_add),
    })
}

/// Returns how busy each partition is, where there are several: the mean of its dies.
fn partitions(table: &[u8], layout: &Layout) -> Vec<Option<f64>> {
    let Some((first, size)) = layout.partitions else { return Vec::new() };
    let count = u16_at(table, layout.clocks + PARTITION_COUNT).map_or(0, usize::from);
    if !(2..=PARTITIONS).contains(&count) {
        return Vec::new();
    }
    let busy = |partition: usize| {
        let dies = (0..DIES).filter_map(|die| u32_at(table, first + partition * size + 4 * die));
        let dies: Vec<f64> = dies.map(f64::from).collect();
        (!dies.is_empty()).then(|| dies.iter().sum::<f64>() / dies.len() as f64)
    };
    (0..count).map(busy).collect()
}

fn u16_at(table: &[u8], offset: usize) -> Option<u16> {
    bytes_at(table, offset).map(u16::from_ne_bytes).filter(|value| *value != u16::MAX)
}

fn u32_at(table: &[u8], offset: usize) -> Option<u32> {
    bytes_at(table, offset).map(u32::from_ne_bytes).filter(|value| *value != u32::MAX)
}

fn u64_at(table: &[u8], offset: usize) -> Option<u64> {
    bytes_at(table, offset).map(u64::from_ne_bytes).filter(|value| *value != u64::MAX)
}

fn bytes_at<const N: usize>(table: &[u8], offset: usize) -> Option<[u8; N]> {
    table.get(offset..)?.first_chunk().copied()
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Writes a table with a value in each place that is read, all ones elsewhere.
    pub(crate) struct Table(pub(crate) Vec<u8>);

    impl Table {
        pub(crate) fn new(content: u8, size: usize) -> Self {
            let mut table = vec![0xff; size];
            table[..2].copy_from_slice(&(size as u16).to_ne_bytes());
            table[2] = 1;
            table[3] = content;
            Self(table)
        }

        pub(crate) fn put(mut self, offset: usize, bytes: &[u8]) -> Self {
            self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
            self
        }

        fn put16(self, offset: usize, value: u16) -> Self {
            self.put(offset, &value.to_ne_bytes())
        }

        fn put32(self, offset: usize, value: u32) -> Self {
            self.put(offset, &value.to_ne_bytes())
        }

        fn put64(self, offset: usize, value: u64) -> Self {
            self.put(offset, &value.to_ne_bytes())
        }
    }

    /// MI300X as kernel 6.12 tells it, with four partitions.
    pub(crate) fn mi300(energy: u64, looked: u32, power: u32) -> Vec<u8> {
        let mut table = Table::new(7, 2208)
            .put16(HOTSPOT, 61)
            .put16(MEMORY_TEMPERATURE, 48)
            .put16(POWER, 643)
            .put16(GFX_ACTIVITY, 97)
            .put16(MEMORY_ACTIVITY, 41)
            .put64(24, energy)
            .put64(112, 7)
            .put16(296, 1900)
            .put16(298, 2100)
            .put16(336, 1300)
            .put16(338, 4);
        for (number, value) in [looked, 10, power, 3, 2, 1].into_iter().enumerate() {
            table = table.put32(40 + 4 * number, value);
        }
        for link in 0..7 {
            table = table.put64(136 + 8 * link, 1000).put64(200 + 8 * link, 500);
            table = table.put16(264 + 2 * link, u16::from(link != 3));
        }
        for partition in 0..4_usize {
            let busy = 20 * (partition as u32 + 1);
            table = table.put32(344 + 232 * partition, busy).put32(348 + 232 * partition, busy);
        }
        table.0
    }

    #[test]
    fn an_mi300_is_read() {
        let metrics = parse(&mi300(655_360, 1000, 100)).unwrap();
        assert_eq!((metrics.gfx_activity, metrics.memory_activity), (Some(97), Some(41)));
        assert_eq!((metrics.power, metrics.energy), (Some(643), Some(655_360)));
        assert_eq!((metrics.hotspot, metrics.memory_temperature), (Some(61), Some(48)));
        assert_eq!((metrics.gfx_clock, metrics.memory_clock), (Some(2100), Some(1300)));
        let links = Links { count: 7, active: Some(6), read: 7000, written: 3500 };
        assert_eq!(metrics.links, Some(links));
        assert_eq!(metrics.replays, Some(7));
        let residency = metrics.residency.unwrap();
        assert_eq!((residency.looked, residency.power, residency.memory_thermal), (1000, 100, 1));
        let partitions = [20.0, 40.0, 60.0, 80.0].map(Some);
        assert_eq!(metrics.partitions, partitions);
    }

    #[test]
    fn an_mi200_is_read() {
        let table = Table::new(3, 120)
            .put16(early::HOTSPOT, 55)
            .put16(early::GFX_ACTIVITY, 12)
            .put16(early::POWER, 300)
            .put16(early::GFX_CLOCK, 1700)
            .put64(early::THROTTLE, 1 << 36 | 1);
        let metrics = parse(&table.0).unwrap();
        assert_eq!((metrics.hotspot, metrics.power), (Some(55), Some(300)));
        assert_eq!((metrics.gfx_activity, metrics.memory_activity), (Some(12), None));
        assert_eq!((metrics.gfx_clock, metrics.throttle), (Some(1700), Some(1 << 36 | 1)));
        assert_eq!((metrics.energy, metrics.links), (None, None));
    }

    #[test]
    fn what_is_all_ones_is_no_value() {
        for layout in &LAYOUTS {
            let metrics = parse(&Table::new(layout.content, layout.size).0).unwrap();
            assert_eq!(metrics, Metrics::default(), "1.{}", layout.content);
        }
    }

    #[test]
    fn other_revisions_and_sizes_tell_nothing() {
        assert_eq!(parse(&[]), None);
        assert_eq!(parse(&Table::new(9, 4000).0), None);
        assert_eq!(parse(&Table::new(7, 2200).0), None);
        assert_eq!(parse(&Table::new(7, 2208).0[..2000]), None, "cut off");
        let mut apu = Table::new(3, 120).0;
        apu[2] = 2;
        assert_eq!(parse(&apu), None);
    }

    proptest! {
        #[test]
        fn any_table_is_read_without_a_panic(
            content in 0_u8..10,
            size in prop::sample::select(vec![0, 3, 96, 104, 120, 288, 360, 1664, 2208, 3872]),
            bytes in prop::collection::vec(any::<u8>(), 3872),
        ) {
            let mut table = bytes[..size].to_vec();
            let size = size as u16;
            if let Some(header) = table.first_chunk_mut::<4>() {
                let [first, second] = size.to_ne_bytes();
                *header = [first, second, 1, content];
            }
            parse(&table);
        }
    }
}

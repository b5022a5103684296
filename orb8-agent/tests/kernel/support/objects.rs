//! Programs, maps and links: those of this process, and those of the kernel.

use std::{collections::BTreeSet, fs};

use aya::{
    maps::loaded_maps,
    programs::{loaded_links, loaded_programs},
};

/// What this process holds of the kernel's BPF objects: kind and id.
pub(crate) fn held() -> BTreeSet<(&'static str, u32)> {
    let mut held = BTreeSet::new();
    for entry in fs::read_dir("/proc/self/fdinfo").expect("the descriptors").flatten() {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        for kind in ["prog_id", "map_id", "link_id"] {
            let value = text.lines().find_map(|line| line.strip_prefix(kind)?.strip_prefix(':'));
            if let Some(id) = value.and_then(|value| value.trim().parse().ok()) {
                held.insert((kind, id));
            }
        }
    }
    held
}

/// Every BPF object that the kernel has.
pub(crate) fn alive() -> BTreeSet<(&'static str, u32)> {
    let programs = loaded_programs().flatten().map(|program| ("prog_id", program.id()));
    let maps = loaded_maps().flatten().map(|map| ("map_id", map.id()));
    let links = loaded_links().flatten().map(|link| ("link_id", link.id()));
    programs.chain(maps).chain(links).collect()
}

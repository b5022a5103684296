//! Kernel records of cgroups that come and go.
//!
//! No signal of its own: it tells whose the other signals' events are. One ring record is a
//! [`CgroupChange`] and the path behind it, in one of the sizes of [`PATH_SIZES`].

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Room for a path behind a [`CgroupChange`], the NUL byte at its end included. A container's path
/// fits the first, and what does not fit the second the kernel itself cuts off.
pub const PATH_SIZES: [usize; 2] = [256, 1024];

/// `kind` of a [`CgroupChange`]: it was made.
pub const MADE: u32 = 1;
/// It was removed. The record has no path: the id tells which it was.
pub const REMOVED: u32 = 2;

/// What the ring carries: one cgroup of the v2 hierarchy, before its path. 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CgroupChange {
    /// cgroup v2 id, which is its directory's inode number.
    pub id: u64,
    /// [`MADE`] or [`REMOVED`].
    pub kind: u32,
    /// Bytes of the path behind this header, without a NUL byte; 0 where the path is not told: the
    /// cgroup was removed, or its path is longer than the largest of [`PATH_SIZES`].
    pub path_length: u32,
}

/// A ring record with room for a path of `N` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CgroupRecord<const N: usize> {
    /// Which cgroup, and what happened to it.
    pub change: CgroupChange,
    /// Its path from the root of the hierarchy: [`CgroupChange::path_length`] bytes, then whatever
    /// the ring held before.
    pub path: [u8; N],
}

/// Where the members that the programs read are in the kernel's structures, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Offsets {
    /// `cgroup.root`
    pub root: u32,
    /// `cgroup_root.hierarchy_id`
    pub hierarchy_id: u32,
    /// `cgroup.kn`
    pub kn: u32,
    /// `kernfs_node.id`
    pub kn_id: u32,
}

/// Index into the `COUNTERS` entry, an array per CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Counter {
    /// Records that the ring had no room for.
    Lost = 0,
}

impl Counter {
    /// Length of the array.
    pub const COUNT: usize = 1;
}

impl CgroupChange {
    /// Splits a ring record into its header and the path. `None` where the bytes are no such record.
    #[must_use]
    pub fn read(record: &[u8]) -> Option<(Self, &[u8])> {
        let (change, path) = Self::read_from_prefix(record).ok()?;
        matches!(change.kind, MADE | REMOVED).then_some(())?;
        Some((change, path.get(..change.path_length as usize)?))
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::*;

    fn record(kind: u32, path_length: u32, room: usize) -> Vec<u8> {
        let mut record = CgroupChange { id: 7, kind, path_length }.as_bytes().to_vec();
        record.extend(std::iter::repeat_n(b'/', room));
        record
    }

    #[test]
    fn a_record_is_read_as_far_as_its_path_goes() {
        assert_eq!(size_of::<CgroupChange>(), 16);
        let path = |record: &[u8]| CgroupChange::read(record).map(|(_, path)| path.len());
        for room in PATH_SIZES {
            assert_eq!(path(&record(MADE, 40, room)), Some(40));
            assert_eq!(path(&record(MADE, room as u32, room)), Some(room));
            assert_eq!(path(&record(REMOVED, 0, room)), Some(0));
        }
        assert_eq!(path(&record(MADE, 257, 256)), None, "more than there is room for");
        assert_eq!(path(&record(3, 0, 256)), None, "a kind that is not known");
        assert_eq!(path(&record(MADE, 0, 0)[1..]), None);
    }
}

//! Every exported function, with what does its work.

mod base;
#[cfg(not(partial))]
mod newer;

use super::shared::prologue::Slot;

/// Functions on a stream 0 that is the context's, and on one that is the thread's own.
const SHARED: bool = false;
const OWN: bool = true;

/// Returns all exported functions by name.
pub(super) fn all() -> impl Iterator<Item = &'static (&'static str, Slot)> {
    let exports = base::EXPORTS.iter();
    #[cfg(not(partial))]
    let exports = exports.chain(newer::EXPORTS);
    exports
}

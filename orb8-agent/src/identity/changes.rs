//! What the kernel tells of cgroups that come and go.

/// What happened to a cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// It was made.
    Made {
        /// cgroup v2 id.
        id: u64,
        /// Path from the root of the hierarchy; `None` where it is too long to be told.
        path: Option<&'a str>,
    },
    /// It was removed.
    Removed {
        /// cgroup v2 id.
        id: u64,
    },
}

/// Where changes are read, in the order in which they happened.
pub trait Changes: std::fmt::Debug + Send {
    /// Hands over what happened since the last call, without waiting for more.
    fn read(&mut self, visit: &mut dyn FnMut(Change<'_>));
}

//! One library, and the links of its groups.

use std::fs::File;
use std::sync::Arc;
use std::time::Instant;

use super::super::functions::return_program;
use super::super::governor::{GROUPS, Group};
use super::super::libraries::Kind;
use super::super::symbols::Site;
use crate::ebpf::{EbpfError, GpuProbes, Place, ProbeLinks};
use crate::error::chain;

/// A library that is probed.
pub(super) struct Library {
    kind: Kind,
    /// As output has it.
    pub name: Arc<str>,
    pub file: File,
    pub sites: Vec<Site>,
    /// Functions that are not watched, and why.
    pub missing: Vec<Arc<str>>,
    /// By group; what has no group is last.
    links: [Links; GROUPS + 1],
    /// When a followed process was last seen to map it.
    pub last_used: Instant,
}

/// Which sites of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// Those that the kernel does not step over.
    Cheap,
    All,
}

impl Which {
    pub(super) fn has(self, site: &Site) -> bool {
        self == Self::All || !site.is_expensive()
    }
}

/// The links of a library's group.
#[derive(Debug)]
struct Links {
    links: Vec<ProbeLinks>,
    which: Option<Which>,
}

impl Links {
    const NONE: Self = Self { links: Vec::new(), which: None };
}

impl Library {
    /// Takes a library that is not probed yet.
    pub(super) fn new(
        kind: Kind,
        name: Arc<str>,
        file: File,
        sites: Vec<Site>,
        missing: Vec<Arc<str>>,
        now: Instant,
    ) -> Self {
        let links = [const { Links::NONE }; GROUPS + 1];
        Self { kind, name, file, sites, missing, links, last_used: now }
    }

    /// Puts probes of a group in, those that are not there yet.
    pub(super) fn attach(&mut self, probes: &mut GpuProbes, group: Option<Group>, which: Which) {
        let attached = self.links[index(group)].which;
        let is_wanted = |site: &&Site| {
            let is_there = attached.is_some_and(|which| which.has(site));
            site.function.group == group && which.has(site) && !is_there
        };
        let sites: Vec<Site> = self.sites.iter().filter(is_wanted).copied().collect();
        self.links[index(group)].which = Some(which);
        if sites.is_empty() {
            return;
        }
        let returns = return_program(self.kind);
        let place = |site: &Site| Place {
            program: site.function.program,
            returns: site.function.returns.then_some(returns),
            offset: site.offset,
        };
        let places: Vec<Place> = sites.iter().map(place).collect();
        let (added, refused) = probes.attach(&self.file, &places);
        self.links[index(group)].links.push(added);
        for (number, error) in refused {
            let (name, function) = (&self.name, sites[number].function.name);
            let problem = format!("{function} in {name}: {}", brief(&error));
            if !self.missing.iter().any(|known| **known == *problem) {
                self.missing.push(problem.into());
            }
        }
    }

    /// Returns the links of its groups, each by itself.
    pub(super) fn into_links(self) -> impl Iterator<Item = ProbeLinks> {
        self.links.into_iter().flat_map(|group| group.links)
    }

    /// Gives up a group's probes: they are there as long as what it returns.
    pub(super) fn detach(&mut self, group: Option<Group>) -> Vec<ProbeLinks> {
        std::mem::replace(&mut self.links[index(group)], Links::NONE).links
    }

    pub(super) fn is_attached(&self, site: &Site) -> bool {
        self.links[index(site.function.group)].which.is_some_and(|which| which.has(site))
    }

    /// Whether a group's expensive probes wait for a window.
    pub(super) fn waits(&self, group: Group) -> bool {
        self.links[group as usize].which == Some(Which::Cheap)
            && self
                .sites
                .iter()
                .any(|site| site.function.group == Some(group) && site.is_expensive())
    }

    /// Says which groups wait for a window.
    pub(super) fn waiting(&self) -> Option<Arc<str>> {
        let waits = |group: &&Group| self.waits(**group);
        let words: Vec<_> = Group::ALL.iter().filter(waits).map(|group| group.word()).collect();
        (!words.is_empty()).then(|| {
            let (words, name) = (words.join(", "), &self.name);
            format!("some {words} in {name}: probes there are dear, and wait for a window").into()
        })
    }
}

/// What an error says, in one line. The kernel's verifier, which may be in it, tells megabytes.
pub(super) fn brief(error: &EbpfError) -> String {
    const LONGEST: usize = 240;
    let text = chain(error);
    let line = text.lines().next().unwrap_or_default();
    line.split(" Verifier output").next().unwrap_or_default().chars().take(LONGEST).collect()
}

fn index(group: Option<Group>) -> usize {
    group.map_or(GROUPS, |group| group as usize)
}

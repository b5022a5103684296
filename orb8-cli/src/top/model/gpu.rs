//! What keys and answers make of the accelerators' tab.

use orb8_proto::columns::Format;
use orb8_proto::v1::QueryGpuResponse;

use super::Model;
use crate::commands::list::gpu::{Told, problems, watch_problems};
use crate::connection::absence;
use crate::top::doings;
use crate::top::listed::share_sort;
use crate::top::poll::Part;
use crate::top::view::areas;

/// The signal's name among the agent's sources.
const SIGNAL: &str = "gpu";

impl Model {
    /// Whether the agent says that it reads accelerators.
    pub(super) fn watches_gpus(&self) -> bool {
        self.status.as_ref().is_some_and(|status| absence(SIGNAL, status).is_none())
    }

    /// Says why the agent reads no accelerators, where it does not.
    pub(in crate::top) fn gpu_absence(&self) -> Option<String> {
        absence(SIGNAL, self.status.as_ref()?)
    }

    /// Says what of accelerators is not known.
    pub(in crate::top) fn gpu_notes(&self) -> Vec<String> {
        let Some(told) = &self.gpu.answer else { return Vec::new() };
        let mut notes = problems(told.answer());
        notes.extend(watch_problems(told.answer()));
        notes
    }

    /// Parts of the tab on a screen of some size, by what there is to show.
    pub(in crate::top) fn gpu_areas(&self, size: (u16, u16)) -> areas::Gpu {
        let devices = self.gpu.answer.as_ref().map_or(0, |told| told.answer().devices.len());
        areas::gpu(size, devices, self.gpu_notes().len())
    }

    /// Rows of shares that fit the screen.
    pub(super) fn gpu_page(&self) -> usize {
        self.gpu_areas(self.size).rows().into()
    }

    pub(super) fn take_gpu(&mut self, part: Part<QueryGpuResponse>, format: &Format) {
        let filter = &self.gpu.filter;
        // What is nobody's matches no filter.
        let is_everyone = filter.include.is_empty() && filter.exclude.is_empty();
        let (sort, ascending) = (share_sort(self.gpu.sort()), self.gpu.ascending);
        let part = part.map(|answer| {
            let mut told = Told::parts(answer, is_everyone);
            told.sort(sort, ascending);
            told
        });
        let page = self.gpu_page();
        self.gpu.take(part, format, page);
        // There may be more or fewer devices above it now.
        let page = self.gpu_page();
        self.gpu.cursor.follow(self.gpu.shown.len(), page);
    }

    /// Sorts what is there anew: nobody has to be asked.
    pub(super) fn sort_gpu(&mut self) {
        let (sort, ascending) = (share_sort(self.gpu.sort()), self.gpu.ascending);
        let (format, page) = (self.format(), self.gpu_page());
        if let Some(told) = &mut self.gpu.answer {
            told.sort(sort, ascending);
            self.gpu.arrange(&format, page);
        }
    }

    /// Returns all that is known of the selected share, and of its processes.
    pub(super) fn gpu_details(&self, format: &Format) -> Option<Vec<(&'static str, String)>> {
        let mut rows = self.gpu.details(format)?;
        let row = self.gpu.selected()?;
        let answer = self.gpu.answer.as_ref()?.answer();
        rows.extend(row.share.map(|share| doings::of(share, answer, format)).unwrap_or_default());
        Some(rows)
    }
}

//! What the server sends.

use std::time::Duration;

use futures::AsyncBufRead;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::value::RawValue;
use tokio::time::timeout;
use tracing::warn;

use super::{Feed, State};
use crate::{
    index::Source,
    watch::{
        failure::Failure,
        lines::{Event, Kind, Lines, Outline},
        timing::Timing,
    },
    wire::{self, Object, OwnerObject},
};

/// What was missed while a watch was down comes at once when it is open again; after such a
/// silence there is no more of it.
const SETTLED: Duration = Duration::from_secs(1);

/// A list that comes as a stream: its objects so far, until it ends.
type Listing = Option<u64>;

impl Feed {
    /// Takes in what comes, until the server ends it.
    pub(super) async fn read<R: AsyncBufRead + Unpin>(
        &self,
        mut lines: Lines<R>,
        state: &mut State,
        stream: bool,
    ) -> Result<(), Failure> {
        let mut listing = stream.then_some(0);
        if stream {
            self.begin();
        }
        let mut silence = Duration::ZERO;
        loop {
            let most = self.patience(state, listing);
            let wait = if state.behind { SETTLED.min(most) } else { most };
            let line = match timeout(wait, lines.next()).await {
                Ok(line) => line?,
                Err(_) if silence + wait >= most => return Err(Failure::Stalled(most)),
                Err(_) => {
                    silence += wait;
                    if listing.is_none() {
                        self.current(state);
                    }
                    continue;
                }
            };
            silence = Duration::ZERO;
            match line {
                Some(line) if line.trim_ascii().is_empty() => {}
                Some(line) => self.take_in(&Event::parse(line)?, state, &mut listing)?,
                None if listing.is_some() => return Err(Failure::cut_within("within the list")),
                None => return Ok(()),
            }
        }
    }

    /// How long silence may last.
    fn patience(&self, state: &State, listing: Listing) -> Duration {
        let Timing { answer, quiet, grace, server_timeout: (_, most), .. } = self.timing;
        match (listing, state.bookmarks) {
            (Some(_), _) => answer,
            (None, true) => quiet.min(most + grace),
            (None, false) => most + grace,
        }
    }

    fn take_in(
        &self,
        event: &Event<'_>,
        state: &mut State,
        listing: &mut Listing,
    ) -> Result<(), Failure> {
        state.heard = true;
        let version = match event.kind {
            Kind::Error => return Err(event.failure()),
            Kind::Bookmark => return self.bookmark(&Outline::of(event.object), state, listing),
            Kind::Added | Kind::Modified => self.apply(event.object),
            Kind::Deleted => self.delete(event.object),
            Kind::Other => Outline::of(event.object).version(),
        };
        self.update(|health| {
            health.heard();
            let objects = listing.as_mut().unwrap_or(&mut health.objects);
            match event.kind {
                Kind::Added => *objects += 1,
                Kind::Deleted => *objects = objects.saturating_sub(1),
                _ => {}
            }
        });
        // Within a list there is no version to go on from.
        if listing.is_none() && version.is_some() {
            state.version = version;
        }
        Ok(())
    }

    fn bookmark(
        &self,
        bookmark: &Outline,
        state: &mut State,
        listing: &mut Listing,
    ) -> Result<(), Failure> {
        if listing.is_some() && !bookmark.ends_list() {
            // It ignores what was asked for: the list's end would never be told.
            return Err(Failure::NoStreaming);
        }
        state.bookmarks = true;
        state.version = bookmark.version().or(state.version.take());
        match listing.take() {
            Some(objects) => self.complete(state, objects),
            None => self.current(state),
        }
        self.update(|health| health.heard());
        Ok(())
    }

    /// Takes in an object; its version. One that cannot be understood is counted and left out: what
    /// is known of it stays.
    pub(super) fn apply(&self, object: &RawValue) -> Option<String> {
        match parse(self.source, object.get()) {
            Ok(object) => {
                let version = metadata(&object).resource_version.clone();
                self.lock().apply(self.source, object);
                version
            }
            Err(error) => self.left_out(&error, object),
        }
    }

    /// Forgets an object; its version.
    fn delete(&self, object: &RawValue) -> Option<String> {
        match serde_json::from_str::<OwnerObject>(object.get()) {
            Ok(OwnerObject { metadata }) => {
                self.lock().delete(self.source, &metadata);
                metadata.resource_version
            }
            Err(error) => self.left_out(&error, object),
        }
    }

    fn left_out(&self, error: &serde_json::Error, object: &RawValue) -> Option<String> {
        let bad = self.update(|health| {
            health.bad_objects += 1;
            health.bad_objects
        });
        if bad == 1 {
            warn!(%error, "an object of the API server is not valid; left out, as others will be");
        }
        let outline = Outline::of(object);
        if let Some(uid) = outline.uid() {
            self.lock().keep(self.source, uid);
        }
        outline.version()
    }
}

/// Understands an object of a watch.
fn parse(source: Source, text: &str) -> serde_json::Result<Object> {
    use serde_json::from_str;
    Ok(match source {
        Source::LocalPods | Source::RemotePods => from_str::<wire::PodObject>(text)?.into(),
        Source::Services => from_str::<wire::ServiceObject>(text)?.into(),
        Source::EndpointSlices => from_str::<wire::EndpointSliceObject>(text)?.into(),
        Source::Nodes => from_str::<wire::NodeObject>(text)?.into(),
        Source::ReplicaSets | Source::Jobs | Source::StatefulSets => {
            from_str::<OwnerObject>(text)?.into()
        }
    })
}

fn metadata(object: &Object) -> &ObjectMeta {
    match object {
        Object::Pod(object) => &object.metadata,
        Object::Service(object) => &object.metadata,
        Object::EndpointSlice(object) => &object.metadata,
        Object::Node(object) => &object.metadata,
        Object::Owner(object) => &object.metadata,
    }
}

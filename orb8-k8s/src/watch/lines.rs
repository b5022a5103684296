//! The lines of a watch: one event each.

use futures::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};
use kube::core::Status;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::failure::Failure;

/// An object has at most a few MiB (etcd's own limit is 1.5); what is longer is no event.
pub(super) const LONGEST: u64 = 16 << 20;
/// Room that is kept for the next object; nearly all of them fit.
const KEPT: usize = 64 << 10;

/// A body that is read line by line.
pub(super) struct Lines<R> {
    body: R,
    line: Vec<u8>,
    whole: bool,
}

/// An event, of which the object is still text.
#[derive(Debug, Deserialize)]
pub(super) struct Event<'line> {
    #[serde(rename = "type")]
    pub(super) kind: Kind,
    #[serde(borrow)]
    pub(super) object: &'line RawValue,
}

/// What an event says about its object.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Kind {
    Added,
    Modified,
    Deleted,
    Bookmark,
    Error,
    /// Of a newer API; it has a version like all others.
    #[serde(other)]
    Other,
}

/// What every object has, whatever else is wrong with it.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Outline {
    #[serde(default)]
    metadata: OutlineMetadata,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct OutlineMetadata {
    uid: Option<String>,
    resource_version: Option<String>,
    annotations: Option<OutlineAnnotations>,
}

#[derive(Debug, Default, Deserialize)]
struct OutlineAnnotations {
    #[serde(rename = "k8s.io/initial-events-end")]
    initial_events_end: Option<String>,
}

impl<R: AsyncBufRead + Unpin> Lines<R> {
    pub(super) fn new(body: R) -> Self {
        Self { body, line: Vec::new(), whole: false }
    }

    /// Waits for the next line; `None` at the end of the body. Nothing is lost when the future is
    /// dropped.
    pub(super) async fn next(&mut self) -> Result<Option<&[u8]>, Failure> {
        if std::mem::take(&mut self.whole) {
            clear(&mut self.line);
        }
        let room = LONGEST - self.line.len() as u64;
        let mut limited = (&mut self.body).take(room);
        let read = limited.read_until(b'\n', &mut self.line).await;
        read.map_err(Failure::Cut)?;
        match self.line.last() {
            Some(b'\n') => {
                self.whole = true;
                Ok(Some(&self.line))
            }
            None => Ok(None),
            Some(_) if self.line.len() as u64 >= LONGEST => {
                Err(Failure::malformed(format!("an event of more than {LONGEST} bytes")))
            }
            Some(_) => Err(Failure::cut_within("within an event")),
        }
    }
}

/// Makes room for the next object, without the memory that a large one took.
pub(super) fn clear(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.shrink_to(KEPT);
}

impl<'line> Event<'line> {
    /// Understands a line.
    pub(super) fn parse(line: &'line [u8]) -> Result<Self, Failure> {
        match serde_json::from_slice::<Self>(line) {
            Ok(event) => Ok(event),
            // A server that fails within a watch may send the status by itself.
            Err(error) => Err(match serde_json::from_slice::<Status>(line) {
                Ok(status) if status.code != 0 => Failure::status(&status),
                _ => Failure::malformed(error),
            }),
        }
    }

    /// The status of an event that is an error.
    pub(super) fn failure(&self) -> Failure {
        match serde_json::from_str::<Status>(self.object.get()) {
            Ok(status) if status.code != 0 => Failure::status(&status),
            Ok(_) => Failure::malformed("an error without a code"),
            Err(error) => Failure::malformed(error),
        }
    }
}

impl Outline {
    /// What can be told of an object without understanding it.
    pub(super) fn of(object: &RawValue) -> Self {
        serde_json::from_str(object.get()).unwrap_or_default()
    }

    /// The version to go on from.
    pub(super) fn version(&self) -> Option<String> {
        self.metadata.resource_version.clone().filter(|version| !version.is_empty())
    }

    /// What it is known by.
    pub(super) fn uid(&self) -> Option<&str> {
        self.metadata.uid.as_deref()
    }

    /// Whether it is the bookmark at the end of a streamed list.
    pub(super) fn ends_list(&self) -> bool {
        let annotations = self.metadata.annotations.as_ref();
        annotations.is_some_and(|it| it.initial_events_end.as_deref() == Some("true"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_end_with_the_body_but_not_within_one() {
        let mut lines = Lines::new(&b"{}\n\nab"[..]);
        assert_eq!(lines.next().await.unwrap(), Some(&b"{}\n"[..]));
        assert_eq!(lines.next().await.unwrap(), Some(&b"\n"[..]));
        assert!(matches!(lines.next().await, Err(Failure::Cut(_))));
        assert_eq!(Lines::new(&b""[..]).next().await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_large_line_does_not_keep_its_memory() {
        let body = [vec![b'a'; 4 << 20], b"\n{}\n".to_vec()].concat();
        let mut lines = Lines::new(&body[..]);
        assert_eq!(lines.next().await.unwrap().unwrap().len(), (4 << 20) + 1);
        assert_eq!(lines.next().await.unwrap(), Some(&b"{}\n"[..]));
        assert!(lines.line.capacity() <= KEPT, "{}", lines.line.capacity());
    }

    #[tokio::test]
    async fn an_endless_line_is_given_up() {
        let body = futures::io::BufReader::new(futures::io::repeat(b'a'));
        let failure = Lines::new(body).next().await.unwrap_err();
        assert!(matches!(failure, Failure::Malformed(_)), "{failure:?}");
    }

    #[test]
    fn a_bookmark_may_end_the_list() {
        let line = br#"{"type":"BOOKMARK","object":{"kind":"Pod","metadata":{"resourceVersion":"7",
            "annotations":{"k8s.io/initial-events-end":"true"}}}}"#;
        let event = Event::parse(line).unwrap();
        assert_eq!(event.kind, Kind::Bookmark);
        let outline = Outline::of(event.object);
        assert!(outline.ends_list());
        assert_eq!(outline.version().as_deref(), Some("7"));
    }

    #[test]
    fn an_error_is_its_status_with_or_without_an_event() {
        let status = r#"{"kind":"Status","status":"Failure","message":"too old","code":410}"#;
        let line = format!(r#"{{"type":"ERROR","object":{status}}}"#);
        let event = Event::parse(line.as_bytes()).unwrap();
        assert!(matches!(event.failure(), Failure::Expired));
        assert!(matches!(Event::parse(status.as_bytes()), Err(Failure::Expired)));
        let odd = Event::parse(br#"{"type":"ERROR","object":{"message":"odd"}}"#).unwrap();
        assert!(matches!(odd.failure(), Failure::Malformed(_)));
        assert!(matches!(Event::parse(b"{}\n").unwrap_err(), Failure::Malformed(_)));
    }

    #[test]
    fn unknown_events_and_odd_objects_do_not_end_a_watch() {
        let event = Event::parse(br#"{"type":"NEW","object":{"metadata":null}}"#).unwrap();
        assert_eq!(event.kind, Kind::Other);
        assert_eq!(Outline::of(event.object).version(), None);
    }
}

//! A list, of which one object is in memory at a time: the server's cache gives no pages, and all
//! pods of a large cluster are hundreds of megabytes.

use futures::{AsyncBufRead, AsyncBufReadExt};
use serde::Deserialize;

use super::failure::Failure;
use super::lines::{LONGEST, clear};

/// What is around the objects is a few hundred bytes; a page of a proxy may be longer than that.
const LONGEST_FRAME: usize = 1 << 20;

/// The body of a list.
pub(super) struct List<R> {
    body: R,
    /// The list without its objects and without white space.
    frame: Vec<u8>,
    /// The object that is read.
    object: Vec<u8>,
    /// The object is whole, and was handed out.
    whole: bool,
    place: Place,
}

/// Where in the text a list is.
#[derive(Default)]
struct Place {
    /// Open braces and brackets.
    depth: u32,
    in_objects: bool,
    in_text: bool,
    escaped: bool,
}

/// What goes with a list.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ListMetadata {
    resource_version: Option<String>,
    r#continue: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Frame {
    metadata: ListMetadata,
}

impl<R: AsyncBufRead + Unpin> List<R> {
    pub(super) fn new(body: R) -> Self {
        Self { body, frame: Vec::new(), object: Vec::new(), whole: false, place: Place::default() }
    }

    /// Waits for the next object; `None` at the end of the body. Nothing is lost when the future is
    /// dropped.
    pub(super) async fn next(&mut self) -> Result<Option<&[u8]>, Failure> {
        if std::mem::take(&mut self.whole) {
            clear(&mut self.object);
        }
        while !self.whole {
            let piece = self.body.fill_buf().await.map_err(Failure::Cut)?;
            if piece.is_empty() {
                return Ok(None);
            }
            let mut read = 0;
            while read < piece.len() && !self.whole {
                self.whole = self.place.take(piece[read], &mut self.frame, &mut self.object);
                read += 1;
            }
            self.body.consume_unpin(read);
            if self.object.len() as u64 > LONGEST || self.frame.len() > LONGEST_FRAME {
                return Err(Failure::malformed("more than the API sends"));
            }
        }
        Ok(Some(&self.object))
    }

    /// What went with the list, after its end.
    pub(super) fn metadata(self) -> Result<ListMetadata, Failure> {
        let frame = serde_json::from_slice::<Frame>(&self.frame);
        frame.map(|frame| frame.metadata).map_err(Failure::malformed)
    }
}

impl Place {
    /// Takes in a byte; whether an object is whole.
    fn take(&mut self, byte: u8, frame: &mut Vec<u8>, object: &mut Vec<u8>) -> bool {
        if self.in_text {
            self.in_text = self.escaped || byte != b'"';
            self.escaped = !self.escaped && byte == b'\\';
        } else {
            match byte {
                byte if byte.is_ascii_whitespace() => return false,
                b'"' => self.in_text = true,
                b'{' | b'[' => {
                    self.depth += 1;
                    if self.depth == 2 && byte == b'[' && is_before_objects(frame) {
                        frame.push(byte);
                        self.in_objects = true;
                        return false;
                    }
                }
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.in_objects && self.depth == 1 {
                        frame.push(byte);
                        self.in_objects = false;
                        return !object.is_empty();
                    }
                }
                b',' if self.in_objects && self.depth == 2 => return !object.is_empty(),
                _ => {}
            }
        }
        let place = if self.in_objects { object } else { frame };
        place.push(byte);
        false
    }
}

impl ListMetadata {
    /// The version to go on from.
    pub(super) fn version(self) -> Result<String, Failure> {
        let version = self.resource_version.filter(|version| !version.is_empty());
        version.ok_or_else(|| Failure::malformed("a list without a resourceVersion"))
    }

    /// Where the list goes on, if it does.
    pub(super) fn rest(&mut self) -> Option<String> {
        self.r#continue.take().filter(|token| !token.is_empty())
    }
}

/// Whether the value that begins is that of `items`, rather than one that ends like it.
fn is_before_objects(frame: &[u8]) -> bool {
    frame.ends_with(b",\"items\":") || frame.ends_with(b"{\"items\":")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its objects, and its metadata; read in pieces of so many bytes.
    async fn read(text: &str, pieces: usize) -> Result<(Vec<String>, ListMetadata), Failure> {
        let body = futures::io::BufReader::with_capacity(pieces, text.as_bytes());
        let mut list = List::new(body);
        let mut objects = Vec::new();
        while let Some(object) = list.next().await? {
            objects.push(String::from_utf8(object.to_vec()).unwrap());
        }
        Ok((objects, list.metadata()?))
    }

    #[tokio::test]
    async fn objects_come_one_by_one_wherever_the_metadata_is() {
        let metadata = r#""metadata": {"resourceVersion": "7", "continue": "", "items": [1]}"#;
        let items = r#""items": [ {"a": "} ] , \" \\", "items": [{}, []]},
            {"b": {}} , null ]"#;
        let expected = [r#"{"a":"} ] , \" \\","items":[{},[]]}"#, r#"{"b":{}}"#, "null"];
        for text in [
            format!("{{\"kind\": \"PodList\", {metadata}, {items}}}\n"),
            format!("{{{items}, {metadata}}}"),
        ] {
            for pieces in [1, 7, 4096] {
                let (objects, mut metadata) = read(&text, pieces).await.unwrap();
                assert_eq!(objects, expected);
                assert_eq!(metadata.rest(), None);
                assert_eq!(metadata.version().unwrap(), "7");
            }
        }
    }

    #[tokio::test]
    async fn a_list_may_be_empty_and_may_go_on() {
        for items in ["[]", "null", "[ ]"] {
            let text = format!(r#"{{"metadata":{{"continue":"token"}},"items":{items}}}"#);
            let (objects, mut metadata) = read(&text, 64).await.unwrap();
            assert!(objects.is_empty());
            assert_eq!(metadata.rest().as_deref(), Some("token"));
            assert!(matches!(metadata.version(), Err(Failure::Malformed(_))));
        }
    }

    #[tokio::test]
    async fn what_is_no_list_or_not_whole_is_refused() {
        for text in [
            "",
            "<html>login\n</html>",
            "{}",
            r#"{"metadata":{"resourceVersion":"7"},"items":[{"a":1},{"b""#,
            r#"{"metadata":{"resourceVersion":"7"},"items":[{"a":1}]"#,
        ] {
            let failure = read(text, 64).await.unwrap_err();
            assert!(matches!(failure, Failure::Malformed(_)), "{text}: {failure:?}");
        }
        let endless = futures::io::BufReader::new(futures::io::repeat(b'a'));
        assert!(matches!(List::new(endless).next().await, Err(Failure::Malformed(_))));
    }
}

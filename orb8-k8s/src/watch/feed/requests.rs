//! What is asked of the server.

use std::io;

use futures::{AsyncBufRead, TryStreamExt};
use http::Request as HttpRequest;
use http_body_util::BodyExt;
use kube::{
    api::{ListParams, VersionMatch, WatchParams},
    client::Body,
    core::{Request, request},
};
use tokio::time::timeout;

use super::{Feed, State};
use crate::{
    resources::Part,
    watch::{
        failure::{Failure, Verb},
        lines::Lines,
        list::List,
        timing::random,
    },
};

/// Any version that the server has cached, however old.
const ANY: &str = "0";
/// Objects of a list that are taken in before others get their turn.
const TURN: u64 = 64;
/// Of an answer that is no success; a status is shorter, and of a page the beginning will do.
const LONGEST_REFUSAL: usize = 16 << 10;

impl State {
    /// The version that a list may not be older than.
    ///
    /// Without one a server reads all objects from etcd, and so for each page where there is a
    /// limit; for the agents of all nodes that is more than etcd bears. With one its cache answers:
    /// with all at once, which is why objects are taken in as they come ([`List`]). The first list
    /// takes whatever is cached, as does the one after etcd was restored, when all that is known is
    /// newer than the server; the watch from there brings the rest. Others do not go back in time.
    fn no_older_than(&self) -> &str {
        self.version.as_deref().unwrap_or(ANY)
    }
}

impl Feed {
    /// Lists, and takes in what comes; the list's version and how many objects it has.
    pub(super) async fn list(&self, state: &State) -> Result<(String, u64), Failure> {
        let mut params = ListParams {
            field_selector: self.selector.clone(),
            resource_version: Some(state.no_older_than().to_owned()),
            version_match: Some(VersionMatch::NotOlderThan),
            ..ListParams::default()
        };
        self.begin();
        let mut objects = 0;
        loop {
            let request = Request::new(self.resource.path());
            let request = match self.resource.part {
                Part::Whole => request.list(&params),
                Part::Metadata => request.list_metadata(&params),
            };
            let mut list = List::new(self.send(request, Verb::List).await?);
            while let Some(object) = self.next(&mut list).await? {
                self.apply(serde_json::from_slice(object).map_err(Failure::malformed)?);
                objects += 1;
                if objects % TURN == 0 {
                    tokio::task::yield_now().await;
                }
            }
            let mut metadata = list.metadata()?;
            match metadata.rest() {
                // Nobody asked for pages, but one without the rest is no list.
                Some(token) => params.continue_token = Some(token),
                None => return Ok((metadata.version()?, objects)),
            }
        }
    }

    async fn next<'list, R: AsyncBufRead + Unpin>(
        &self,
        list: &'list mut List<R>,
    ) -> Result<Option<&'list [u8]>, Failure> {
        let next = timeout(self.timing.answer, list.next()).await;
        next.unwrap_or(Err(Failure::Stalled(self.timing.answer)))
    }

    /// Opens a watch that begins with a streamed list, or goes on from the version.
    pub(super) async fn open(
        &self,
        state: &State,
        stream: bool,
    ) -> Result<Lines<impl AsyncBufRead + Unpin + use<>>, Failure> {
        let params = WatchParams {
            field_selector: self.selector.clone(),
            timeout: Some(self.timing.server_timeout(random())),
            bookmarks: true,
            send_initial_events: stream,
            ..WatchParams::default()
        };
        let request = Request::new(self.resource.path());
        let version = state.no_older_than();
        let request = match self.resource.part {
            Part::Whole => request.watch(&params, version),
            Part::Metadata => request.watch_metadata(&params, version),
        };
        Ok(Lines::new(self.send(request, Verb::Watch { streaming: stream }).await?))
    }

    /// Sends a request; the body of a success. kube's own way loses the status of an answer that
    /// no API server made, and its headers.
    async fn send(
        &self,
        request: Result<HttpRequest<Vec<u8>>, request::Error>,
        verb: Verb,
    ) -> Result<impl AsyncBufRead + Unpin + use<>, Failure> {
        let request = request.map_err(Failure::malformed)?;
        let answer = timeout(self.timing.answer, self.client.send(request.map(Body::from))).await;
        let answer = answer.map_err(|_| Failure::Stalled(self.timing.answer))?;
        let (head, body) = answer.map_err(Failure::unanswered)?.into_parts();
        if !head.status.is_success() {
            let mut said = Vec::new();
            // What came of it until then is enough.
            let _late = timeout(self.timing.answer, read_some(body, &mut said)).await;
            return Err(Failure::answer(head.status, &head.headers, &said, verb));
        }
        Ok(Box::pin(body.into_data_stream().map_err(io::Error::other).into_async_read()))
    }
}

/// Reads the beginning of a body.
async fn read_some(mut body: Body, into: &mut Vec<u8>) {
    while let Some(Ok(frame)) = body.frame().await
        && into.len() < LONGEST_REFUSAL
    {
        let data = frame.data_ref().map_or(&[][..], |data| data);
        into.extend_from_slice(&data[..data.len().min(LONGEST_REFUSAL - into.len())]);
    }
}

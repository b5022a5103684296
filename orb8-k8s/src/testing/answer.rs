//! Requests, and what they get.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header::RETRY_AFTER};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    State,
    faults::StreamingLists,
    lock,
    selector::Selector,
    store::{self, Key},
    stream::{Watch, thawed},
};

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// As long as a server lets a watch last that does not say.
const LONGEST_WATCH: Duration = Duration::from_secs(1800);

/// A list or a watch of a resource.
struct Asked {
    /// Plural name.
    resource: String,
    /// The same with its group: `jobs.batch`.
    name: String,
    query: HashMap<String, String>,
    metadata_only: bool,
}

pub(super) async fn answer(
    state: Arc<State>,
    request: Request<Incoming>,
) -> Result<Answer, Infallible> {
    let frozen = lock(&state.faults).frozen.subscribe();
    thawed(frozen).await;
    let Some(asked) = Asked::parse(&request) else {
        return Ok(refusal(404, "NotFound", "the server could not find the requested resource"));
    };
    let watches = asked.flag("watch");
    let verb = if watches { "watch" } else { "list" };
    let parameters = asked.query.iter().map(|(name, value)| (name.clone(), value.clone()));
    lock(&state.asked)
        .entry((verb.to_owned(), asked.name.clone()))
        .or_default()
        .push(parameters.collect());
    if !asked.metadata_only {
        lock(&state.asked_whole).insert(asked.name.clone());
    }
    let (refusal_code, retry_after) = {
        let faults = lock(&state.faults);
        (faults.refusal(verb, &asked.resource), faults.retry_after)
    };
    if let Some(code) = refusal_code {
        let mut refused = asked.refused(verb, code);
        let seconds = retry_after.map(|wanted| HeaderValue::from(wanted.as_secs()));
        refused.headers_mut().extend(seconds.map(|seconds| (RETRY_AFTER, seconds)));
        return Ok(refused);
    }
    let selector = asked.query.get("fieldSelector").map_or("", String::as_str);
    let selector = match Selector::parse(selector) {
        Ok(selector) => selector,
        Err(problem) => return Ok(refusal(400, "BadRequest", &problem)),
    };
    Ok(if watches { asked.watch(&state, selector) } else { asked.list(&state, &selector) })
}

impl Asked {
    fn parse(request: &Request<Incoming>) -> Option<Self> {
        let path: Vec<&str> = request.uri().path().trim_matches('/').split('/').collect();
        let (group, version, resource) = match path[..] {
            ["api", version, resource] => ("", version.to_owned(), resource),
            ["apis", group, version, resource] => (group, format!("{group}/{version}"), resource),
            _ => return None,
        };
        store::kind(resource).filter(|(served, _)| *served == version)?;
        let query = request.uri().query().unwrap_or_default().as_bytes();
        let accept = request.headers().get(http::header::ACCEPT);
        let accept = accept.and_then(|accept| accept.to_str().ok()).unwrap_or_default();
        Some(Self {
            resource: resource.to_owned(),
            name: match group {
                "" => resource.to_owned(),
                group => format!("{resource}.{group}"),
            },
            query: form_urlencoded::parse(query).into_owned().collect(),
            metadata_only: accept.contains("as=PartialObjectMetadata"),
        })
    }

    fn list(&self, state: &State, selector: &Selector) -> Answer {
        let page = match self.query.get("continue").map(|token| Continue::parse(token)) {
            Some(Some(page)) if state.store.since(&self.resource, page.version).is_ok() => {
                Some(page)
            }
            Some(_) => {
                return refusal(410, "Expired", "the provided continue parameter is too old");
            }
            None => None,
        };
        if page.is_none() && state.store.is_ahead(self.version().unwrap_or_default()) {
            return whole(StatusCode::GATEWAY_TIMEOUT, &too_large());
        }
        let after = page.as_ref().map(|page| &page.after);
        let (mut objects, now) = state.store.list(&self.resource, after);
        objects.retain(|(_, object)| selector.matches(object));
        // Later pages are of the first one's version; what changed since comes by the watch.
        let version = page.map_or(now, |page| page.version);
        let limit = self.query.get("limit").and_then(|limit| limit.parse().ok());
        let limit = limit.or(lock(&state.faults).page);
        let rest = objects.len().saturating_sub(limit.unwrap_or(usize::MAX));
        objects.truncate(objects.len() - rest);
        let token = match objects.last() {
            Some((after, _)) if rest > 0 => Continue { version, after: after.clone() }.text(),
            _ => String::new(),
        };
        let items: Vec<Value> =
            objects.iter().map(|(_, object)| trimmed(object, self.metadata_only)).collect();
        let (api, kind) = store::kind(&self.resource).unwrap_or_default();
        let metadata = json!({"resourceVersion": version.to_string(), "continue": token});
        let list = json!({
            "kind": format!("{kind}List"), "apiVersion": api, "metadata": metadata, "items": items,
        });
        whole(StatusCode::OK, &list)
    }

    fn watch(&self, state: &Arc<State>, selector: Selector) -> Answer {
        let (streaming, every, frozen) = {
            let faults = lock(&state.faults);
            (faults.streaming, faults.bookmarks, faults.frozen.subscribe())
        };
        let wanted = self.flag("sendInitialEvents");
        if wanted && streaming == StreamingLists::Refused {
            let problem = "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch \
                           unless the WatchList feature gate is enabled";
            return refusal(422, "Invalid", problem);
        }
        let seconds = self.query.get("timeoutSeconds").and_then(|seconds| seconds.parse().ok());
        let lasts = seconds.map_or(LONGEST_WATCH, Duration::from_secs);
        let mut watch = Watch {
            state: Arc::clone(state),
            resource: self.resource.clone(),
            selector,
            metadata_only: self.metadata_only,
            bookmarks: self.flag("allowWatchBookmarks"),
            until: Instant::now() + lasts,
            version: self.version().unwrap_or_default(),
            pending: Default::default(),
            changed: state.store.changed(),
            frozen,
            next_bookmark: Instant::now() + every.unwrap_or_default(),
            over: false,
        };
        if wanted && state.store.is_ahead(watch.version) {
            watch.send_error(too_large());
        } else if watch.version == 0 || wanted {
            watch.send_initial(wanted && streaming == StreamingLists::Offered);
            watch.over = wanted && streaming == StreamingLists::Cut;
        } else if !state.store.knows(watch.version) {
            watch.send_too_old();
        }
        Response::new(BodyExt::boxed_unsync(StreamBody::new(watch.lines())))
    }

    fn refused(&self, verb: &str, code: u16) -> Answer {
        let (reason, message) = match code {
            401 => ("Unauthorized", "Unauthorized".to_owned()),
            403 => ("Forbidden", format!("{} is forbidden: User cannot {verb} it", self.name)),
            404 => ("NotFound", "the server could not find the requested resource".to_owned()),
            _ => ("InternalError", "refused by the test".to_owned()),
        };
        refusal(code, reason, &message)
    }

    /// The version to go on from, or to be no older than.
    fn version(&self) -> Option<u64> {
        self.query.get("resourceVersion")?.parse().ok()
    }

    fn flag(&self, name: &str) -> bool {
        self.query.get(name).is_some_and(|value| value == "true" || value == "1")
    }
}

/// Where the next page begins.
struct Continue {
    version: u64,
    after: Key,
}

impl Continue {
    fn parse(token: &str) -> Option<Self> {
        let mut parts = token.split('|').map(str::to_owned);
        let version = parts.next()?.parse().ok()?;
        let after = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self { version, after })
    }

    fn text(&self) -> String {
        let Self { version, after: (resource, namespace, name) } = self;
        format!("{version}|{resource}|{namespace}|{name}")
    }
}

/// An object, or its metadata alone.
pub(super) fn trimmed(object: &Value, metadata_only: bool) -> Value {
    if !metadata_only {
        return object.clone();
    }
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object["metadata"],
    })
}

/// A status, as the body of a refusal or the object of an error event.
pub(super) fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "code": code, "reason": reason, "message": message,
    })
}

/// What is said where a version is still to come.
fn too_large() -> Value {
    let mut status = status(504, "Timeout", "Timeout: Too large resource version");
    let cause =
        json!({"reason": "ResourceVersionTooLarge", "message": "Too large resource version"});
    status["details"] = json!({"causes": [cause], "retryAfterSeconds": 1});
    status
}

fn refusal(code: u16, reason: &str, message: &str) -> Answer {
    let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    whole(code, &status(code.as_u16(), reason, message))
}

fn whole(code: StatusCode, body: &Value) -> Answer {
    let body = Full::new(Bytes::from(body.to_string()));
    let mut answer = Response::new(BodyExt::boxed_unsync(body));
    *answer.status_mut() = code;
    answer
}

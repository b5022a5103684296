//! `GetFlowsRequest` → what is looked for. What cannot be understood is refused, and named.

use orb8_proto::hubble::observer::GetFlowsRequest;
use prost_types::Timestamp;
use tonic::Status;

use super::filter::Filters;
use super::mask::Mask;
use crate::event::UnixNanos;

const SECOND: u64 = 1_000_000_000;

/// What a client asks for.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) filters: Filters,
    pub(super) mask: Option<Mask>,
    pub(super) span: Span,
}

/// Which part of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) past: Past,
    pub(super) since: UnixNanos,
    pub(super) until: UnixNanos,
    /// Whether what happens from now on is wanted too.
    pub(super) follow: bool,
}

/// Which of the kept flows between the two times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Past {
    All,
    First(u64),
    Last(u64),
}

impl Wanted {
    /// Reads a request. `node` is the name of this node.
    pub(super) fn new(request: &GetFlowsRequest, node: &str) -> Result<Self, Status> {
        let filters = Filters::new(&request.whitelist, &request.blacklist, node)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let mask = Mask::new(request.field_mask.as_ref()).map_err(Status::invalid_argument)?;
        Ok(Self { filters, mask, span: Span::new(request)? })
    }
}

impl Span {
    fn new(request: &GetFlowsRequest) -> Result<Self, Status> {
        let GetFlowsRequest { number, first, follow, ref since, ref until, .. } = *request;
        if first && follow {
            return Err(Status::invalid_argument("first: not together with follow"));
        }
        let since = since.as_ref().map(|time| nanos("since", time)).transpose()?;
        let until = until.as_ref().map(|time| nanos("until", time)).transpose()?;
        let past = match (number, since.is_some()) {
            // Nothing of the past is asked for.
            (0, false) if follow => Past::Last(0),
            (0, _) => Past::All,
            (_, true) if follow => Past::All,
            (number, true) => Past::First(number),
            (number, false) if first => Past::First(number),
            (number, false) => Past::Last(number),
        };
        let since = since.unwrap_or_default();
        Ok(Self { past, since, until: until.unwrap_or(UnixNanos(u64::MAX)), follow })
    }
}

/// Reads a time; one before 1970 is 1970.
fn nanos(field: &str, time: &Timestamp) -> Result<UnixNanos, Status> {
    let Timestamp { seconds, nanos } = *time;
    let below = u64::try_from(nanos).ok().filter(|nanos| *nanos < SECOND);
    let below = below.ok_or_else(|| {
        Status::invalid_argument(format!("{field}: nanos must be from 0 to 999999999"))
    })?;
    let Ok(seconds) = u64::try_from(seconds) else { return Ok(UnixNanos(0)) };
    Ok(UnixNanos(seconds.saturating_mul(SECOND).saturating_add(below)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(number: u64, first: bool, follow: bool, since: Option<i64>) -> Span {
        let since = since.map(|seconds| Timestamp { seconds, nanos: 5 });
        Span::new(&GetFlowsRequest { number, first, follow, since, ..Default::default() }).unwrap()
    }

    #[test]
    fn what_part_of_time_is_asked_for() {
        for (number, first, follow, since, past) in [
            (0, false, false, None, Past::All),
            (0, false, true, None, Past::Last(0)),
            (20, false, false, None, Past::Last(20)),
            (20, false, true, None, Past::Last(20)),
            (20, true, false, None, Past::First(20)),
            (0, true, false, None, Past::All),
            (u64::MAX, false, false, None, Past::Last(u64::MAX)),
            (0, false, false, Some(7), Past::All),
            (0, false, true, Some(7), Past::All),
            (20, false, false, Some(7), Past::First(20)),
            (20, false, true, Some(7), Past::All),
        ] {
            let span = span(number, first, follow, since);
            assert_eq!(span.past, past, "{number} {first} {follow} {since:?}");
            assert_eq!(span.since.0, since.map_or(0, |_| 7 * SECOND + 5));
            assert_eq!((span.until.0, span.follow), (u64::MAX, follow));
        }
        assert_eq!(span(0, false, false, Some(-1)).since.0, 0, "before 1970");
        assert_eq!(span(0, false, false, Some(i64::MAX)).since.0, u64::MAX);
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let both = GetFlowsRequest { first: true, follow: true, ..Default::default() };
        assert!(Span::new(&both).unwrap_err().message().contains("first"));
        for nanos in [-1, 1_000_000_000] {
            let until = Some(Timestamp { seconds: 1, nanos });
            let bad = GetFlowsRequest { until, ..Default::default() };
            assert!(Span::new(&bad).unwrap_err().message().starts_with("until: nanos"));
        }
    }
}

//! Asking the agent, again and again, beside the drawing: a slow agent makes old data, and no slow keys.

use std::time::Duration;

use orb8_proto::v1::{
    GetStatusRequest, GetStatusResponse, QueryDnsRequest, QueryDnsResponse, QueryFlowsRequest,
    QueryFlowsResponse, QueryGpuRequest, QueryGpuResponse, QueryTcpRequest, QueryTcpResponse,
    QueryWorkloadsRequest, QueryWorkloadsResponse,
};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Response, Status};

use crate::connection::Connection;

/// How often what is asked for [now and then](Often::NowAndThen) is asked for at most.
const NOW_AND_THEN: Duration = Duration::from_secs(5);

/// What is asked for, until there is another one.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// Tells answers to this from answers to earlier ones.
    pub(super) number: u64,
    pub(super) asks: Asks,
    /// Ask once, and not again.
    pub(super) is_paused: bool,
}

/// Questions besides the one for the agent's status.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Asks {
    /// For what all workloads add up to.
    pub(super) totals: Option<QueryWorkloadsRequest>,
    pub(super) workloads: Option<QueryWorkloadsRequest>,
    pub(super) flows: Option<QueryFlowsRequest>,
    pub(super) dns: Option<QueryDnsRequest>,
    pub(super) tcp: Option<QueryTcpRequest>,
    pub(super) gpu: Option<(QueryGpuRequest, Often)>,
    /// Tells the same questions from those before rows were forgotten.
    pub(super) forgotten: u64,
}

/// How often something is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Often {
    Always,
    /// With new questions, and every [`NOW_AND_THEN`]: it changes slowly, or few look at it.
    NowAndThen,
}

/// What came of asking.
#[derive(Debug)]
pub(super) enum Heard {
    Answer(Box<Answer>),
    /// Nobody answered.
    Silence(String),
}

/// Answers to a plan's questions.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer {
    pub(super) plan: u64,
    pub(super) status: GetStatusResponse,
    pub(super) totals: Option<Part<QueryWorkloadsResponse>>,
    pub(super) workloads: Option<Part<QueryWorkloadsResponse>>,
    pub(super) flows: Option<Part<QueryFlowsResponse>>,
    pub(super) dns: Option<Part<QueryDnsResponse>>,
    pub(super) tcp: Option<Part<QueryTcpResponse>>,
    pub(super) gpu: Option<Part<QueryGpuResponse>>,
}

/// An answer, or why there is none though the agent is there.
pub(super) type Part<T> = Result<T, String>;

/// Asks until it is stopped, and returns the connection.
pub(super) async fn poll(
    mut connection: Connection,
    mut plans: watch::Receiver<Plan>,
    heard: mpsc::Sender<Heard>,
    interval: Duration,
    stop: CancellationToken,
) -> Connection {
    let mut rarely = Rarely::default();
    loop {
        let mut plan = plans.borrow_and_update().clone();
        plan.asks.gpu.take_if(|(_, often)| !rarely.is_due(plan.number, *often, Instant::now()));
        let next = Instant::now() + interval;
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            // What was asked for is not wanted any more.
            Ok(()) = plans.changed() => continue,
            answer = ask(&mut connection, &plan) => {
                rarely.note(&plan, Instant::now());
                // Who draws is slower: there is no use in asking on.
                let sent = tokio::select! {
                    () = stop.cancelled() => break,
                    sent = heard.send(answer) => sent,
                };
                if sent.is_err() {
                    break;
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => break,
            changed = plans.changed() => if changed.is_err() { break },
            () = sleep_until(next), if !plan.is_paused => {}
        }
    }
    connection
}

/// When what is asked for now and then was asked for last, and for which plan.
#[derive(Debug, Default)]
struct Rarely(Option<(u64, Instant)>);

impl Rarely {
    fn is_due(&self, plan: u64, often: Often, now: Instant) -> bool {
        let is_recent = self.0.is_some_and(|(last, at)| last == plan && now < at + NOW_AND_THEN);
        often == Often::Always || !is_recent
    }

    /// Takes note of questions that were answered, whatever the answer.
    fn note(&mut self, asked: &Plan, now: Instant) {
        if asked.asks.gpu.is_some() {
            self.0 = Some((asked.number, now));
        }
    }
}

async fn ask(connection: &mut Connection, plan: &Plan) -> Heard {
    /// Asks one question, where it is asked.
    macro_rules! asked {
        ($method:ident, $request:expr) => {{
            let (mut client, request) =
                (connection.client.clone(), $request.map(|message| connection.request(message)));
            async move {
                match request {
                    Some(request) => Some(client.$method(request).await),
                    None => None,
                }
            }
        }};
    }
    let Asks { totals, workloads, flows, dns, tcp, gpu, forgotten: _ } = plan.asks.clone();
    let (status, totals, workloads, flows, dns, tcp, gpu) = tokio::join!(
        asked!(get_status, Some(GetStatusRequest {})),
        asked!(query_workloads, totals),
        asked!(query_workloads, workloads),
        asked!(query_flows, flows),
        asked!(query_dns, dns),
        asked!(query_tcp, tcp),
        asked!(query_gpu, gpu.map(|(request, _)| request)),
    );
    let version = match &status {
        Some(Ok(status)) => status.get_ref().version.clone(),
        Some(Err(_)) | None => String::new(),
    };
    let collect = || -> Result<Answer, Status> {
        Ok(Answer {
            plan: plan.number,
            status: status.transpose()?.map(Response::into_inner).unwrap_or_default(),
            totals: part(totals, &version)?,
            workloads: part(workloads, &version)?,
            flows: part(flows, &version)?,
            dns: part(dns, &version)?,
            tcp: part(tcp, &version)?,
            gpu: part(gpu, &version)?,
        })
    };
    match collect() {
        Ok(answer) => Heard::Answer(Box::new(answer)),
        Err(status) => {
            let error = connection.error(&status).to_string();
            Heard::Silence(error.lines().next().unwrap_or_default().to_owned())
        }
    }
}

/// Tells an agent that refuses from one that is not there.
fn part<T>(
    answer: Option<Result<Response<T>, Status>>,
    version: &str,
) -> Result<Option<Part<T>>, Status> {
    match answer {
        None => Ok(None),
        Some(Ok(answer)) => Ok(Some(Ok(answer.into_inner()))),
        Some(Err(status)) if is_silence(&status) => Err(status),
        Some(Err(status)) if status.code() == Code::Unimplemented => Ok(Some(Err(format!(
            "the agent does not know this: it is version {version}, update it"
        )))),
        Some(Err(status)) => Ok(Some(Err(status.message().to_owned()))),
    }
}

fn is_silence(status: &Status) -> bool {
    let is_of_connection = std::error::Error::source(status).is_some();
    is_of_connection
        || matches!(status.code(), Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded)
}

#[cfg(test)]
mod tests;

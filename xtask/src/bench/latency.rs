//! From the kernel's time of a flow's first packet to a subscriber's hands.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use orb8_proto::v1::{
    EventKind, StreamEventsRequest, orbit_agent_service_client::OrbitAgentServiceClient,
};
use tokio::{runtime, time::timeout};
use tonic::transport::Endpoint;

use super::{
    agent::{Agent, Signals},
    interrupt::pause,
    lab::Lab,
    plan::Plan,
    programs::Hook,
    report::Table,
    stats::percentile,
    targets,
    workload::{Load, Place, Workload},
};

pub(super) fn measure(lab: &Lab, plan: &Plan) -> Result<Table> {
    let note = format!(
        "{} Short TCP connections at {} a second; one subscriber of new flows at the agent's unix \
         socket. Each connection is several new flows: both directions, at both ends.",
        plan.machine, plan.connection_rate
    );
    let header = &["hook", "connections", "events", "p50", "p99", "most"];
    let mut table = Table::new(note, header);
    for hook in [Hook::Socket, Hook::Interface] {
        eprintln!("latency: {} hook", hook.name());
        let agent = Agent::start(lab, hook, Signals::FLOW, &[])?;
        pause(plan.settling)?;
        let (connections, ms) = subscribe(lab, plan, &agent)?;
        ensure!(
            ms.len() as u64 >= connections,
            "{connections} connections, and {} events of new flows",
            ms.len()
        );
        let [p50, p99, most] =
            [50.0, 99.0, 100.0].map(|percent| percentile(&ms, percent).unwrap_or(f64::NAN));
        let shown = |ms: f64| format!("{ms:.2} ms");
        let cells = vec![
            hook.name().to_owned(),
            connections.to_string(),
            ms.len().to_string(),
            shown(p50),
            shown(p99),
            shown(most),
        ];
        table.row(cells, &[("p99", p99, targets::LATENCY_P99)]);
    }
    Ok(table)
}

/// Connections that were made, and the events' ages at their arrival, milliseconds.
fn subscribe(lab: &Lab, plan: &Plan, agent: &Agent) -> Result<(u64, Vec<f64>)> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let uri = format!("unix://{}", agent.socket().display());
        let channel = Endpoint::from_shared(uri)?.connect().await.context("the agent's socket")?;
        let request = StreamEventsRequest {
            kinds: vec![EventKind::FlowNew.into()],
            ..StreamEventsRequest::default()
        };
        let mut client = OrbitAgentServiceClient::new(channel);
        let mut events = client.stream_events(request).await?.into_inner();
        let mut load = Load::start(lab, Workload::TcpShort, Place::Pods, plan.connection_rate)?;
        /// Late flows that are printed, to tell what they have in common.
        const SHOWN: u32 = 4;
        let (mut ages, mut late) = (Vec::new(), 0);
        let (mut connections, mut asked) = (0, SystemTime::now());
        loop {
            /// No event for so long: the connections have ended, or the agent is mute.
            const PATIENCE: Duration = Duration::from_secs(2);
            const BETWEEN: Duration = Duration::from_millis(250);
            let Ok(event) = timeout(PATIENCE, events.message()).await else {
                break;
            };
            let now = SystemTime::now();
            let event = event?.context("the agent ended the stream")?;
            let age = age_ms(now, event.time_ns)?;
            if !targets::LATENCY_P99.is_met_by(age) && late < SHOWN {
                late += 1;
                eprintln!("late by {age:.0} ms: {:?}", event.flow.unwrap_or_default());
            }
            ages.push(age);
            if now.duration_since(asked).is_ok_and(|elapsed| elapsed > BETWEEN) {
                pause(Duration::ZERO)?;
                (connections, asked) = (load.sent()?, now);
                if connections >= plan.connections {
                    break;
                }
            }
        }
        Ok((connections, ages))
    })
}

/// Negative where the event is from the future: then a clock is wrong.
fn age_ms(now: SystemTime, time_ns: u64) -> Result<f64> {
    let now = now.duration_since(SystemTime::UNIX_EPOCH)?.as_nanos();
    Ok((now as i128 - i128::from(time_ns)) as f64 / 1e6)
}

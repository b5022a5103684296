//! The history of real traffic: each part of time has what was sent in it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use orb8_agent::config::AttachStrategy;
use orb8_proto::v1::{Flow, QueryFlowsRequest, QueryFlowsResponse};

use super::support::{
    Lab,
    agent::{self, Agent, in_runtime},
    netns::VERSIONS,
    scaled,
    traffic::{Ends, Udp, headers, udp_echo},
};

/// A payload that no other traffic has.
const SIZE: usize = 321;

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock");
    u64::try_from(since.as_nanos()).expect("this century")
}

async fn ask(agent: &mut Agent, from: Option<u64>, to: Option<u64>) -> QueryFlowsResponse {
    let request = QueryFlowsRequest {
        limit: 10_000,
        include_self_traffic: true,
        start_time_ns: from,
        end_time_ns: to,
        ..QueryFlowsRequest::default()
    };
    agent.client.query_flows(request).await.expect("the flows").into_inner()
}

/// Packets and bytes of the flows of an echo, one for each direction and end.
fn of(answer: &QueryFlowsResponse, ends: &Ends) -> Vec<(u64, u64)> {
    let ports = [ends.client.port(), ends.server.port()].map(u32::from);
    let is_one = |flow: &&Flow| {
        let port = |end: &Option<orb8_proto::v1::Endpoint>| end.as_ref().map_or(0, |end| end.port);
        let found = [port(&flow.source), port(&flow.destination)];
        found == ports || found == [ports[1], ports[0]]
    };
    answer.flows.iter().filter(is_one).map(|flow| (flow.packets, flow.bytes)).collect()
}

#[test]
fn parts_of_time_have_what_was_sent_in_them() {
    let lab = Lab::new();
    in_runtime(&lab.pair.client, async || {
        let config = agent::config(AttachStrategy::Cgroup, Some(&lab.cgroup));
        let mut agent = Agent::start(config).await;
        let mut rounds = Vec::new();
        for (round, addresses) in VERSIONS.into_iter().cycle().take(4).enumerate() {
            let count = scaled(20 + 10 * round as u64);
            let begin = now();
            let ends = udp_echo(&lab.pair, addresses, Udp::Connected, count, SIZE);
            agent.drain().await;
            // A question divides the history.
            let answer = ask(&mut agent, Some(begin), None).await;
            let bytes = count * (SIZE as u64 + headers(ends.server.ip()));
            assert_eq!(of(&answer, &ends), [(count, bytes); 4], "round {round}");
            let end = answer.window_end_ns.expect("a history");
            rounds.push((begin, end, ends, count, bytes));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Asked again, when all of it is past.
        let end_of_all = now();
        for (round, (begin, end, ends, count, bytes)) in rounds.iter().enumerate() {
            let answer = ask(&mut agent, Some(*begin), Some(*end)).await;
            assert_eq!(of(&answer, ends), [(*count, *bytes); 4], "round {round}");
            for (other, (.., ends, _, _)) in rounds.iter().enumerate() {
                let is_there = !of(&answer, ends).is_empty();
                assert_eq!(is_there, other == round, "{other} in {round}");
            }
        }
        let all = ask(&mut agent, Some(0), Some(end_of_all)).await;
        let held = agent.flows().await;
        for (.., ends, count, bytes) in &rounds {
            assert_eq!(of(&all, ends), [(*count, *bytes); 4]);
            assert_eq!(of(&held, ends), [(*count, *bytes); 4]);
        }
        let sum =
            |answer: &QueryFlowsResponse| answer.flows.iter().map(|flow| flow.bytes).sum::<u64>();
        assert_eq!(sum(&all), sum(&held), "nothing is counted twice, and nothing is missing");
        agent.stop().await;
    });
}

//! The server of a scenario: in-process, or a real one.

use std::error::Error;
use std::time::Duration;

use kube::Client;
use orb8_k8s::testing::{ApiServer, StreamingLists, objects};
use serde_json::Value;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::real::{Cluster, Tenant};
use crate::script::{Scenario, Step};

/// A server that steps act on.
pub(crate) enum Server {
    InProcess(ApiServer),
    Real(Box<Tenant>),
}

type Outcome = Result<(), Box<dyn Error>>;

impl Server {
    pub(crate) async fn in_process(scenario: &Scenario) -> Result<Self, Box<dyn Error>> {
        let server = ApiServer::start().await?;
        match scenario.streaming.as_deref() {
            Some("refused") => server.set_streaming_lists(StreamingLists::Refused),
            Some("ignored") => server.set_streaming_lists(StreamingLists::Ignored),
            Some("cut") => server.set_streaming_lists(StreamingLists::Cut),
            Some(other) => return Err(format!("no such streaming: {other}").into()),
            None => {}
        }
        if let Some(ms) = scenario.bookmarks_ms {
            server.send_bookmarks(Some(Duration::from_millis(ms)));
        }
        Ok(Self::InProcess(server))
    }

    pub(crate) async fn real(cluster: &Cluster) -> Result<Self, Box<dyn Error>> {
        Ok(Self::Real(Box::new(cluster.tenant().await?)))
    }

    pub(crate) fn is_real(&self) -> bool {
        matches!(self, Self::Real(_))
    }

    /// A client as the agent has it.
    pub(crate) async fn client(&self) -> Result<Client, Box<dyn Error>> {
        match self {
            Self::InProcess(server) => Ok(server.client()),
            Self::Real(tenant) => tenant.client().await,
        }
    }

    /// Removes what the scenario left to the next one.
    pub(crate) async fn clean_up(&self) -> Outcome {
        match self {
            Self::InProcess(_) => Ok(()),
            Self::Real(tenant) => tenant.clean_up().await,
        }
    }

    pub(crate) async fn act(&mut self, step: &Step) -> Outcome {
        match (step, &mut *self) {
            (Step::Apply(thing), _) => self.apply(thing.object()).await,
            (Step::Delete(resource, name), _) => self.delete(resource, name).await,
            (Step::Bulk(pods), _) => self.bulk(*pods).await,
            (Step::Churn(pods, rate), _) => self.churn(*pods, *rate).await,
            (Step::WaitMs(ms), _) => {
                sleep(Duration::from_millis(*ms)).await;
                Ok(())
            }
            (Step::Server(what), Self::InProcess(server)) => in_process(server, what).await,
            (Step::Server(what), Self::Real(tenant)) => tenant.act(what).await,
            (Step::Refuse(verb, resource, code), Self::InProcess(server)) => {
                server.refuse(verb, resource, *code);
                Ok(())
            }
            (Step::Refuse(verb, resource, 403), Self::Real(tenant)) => {
                tenant.forbid(verb, resource).await
            }
            (Step::RefuseAll(code), Self::InProcess(server)) => {
                server.refuse_all(*code);
                Ok(())
            }
            (Step::SlowMs(ms), Self::InProcess(server)) => {
                server.slow_down(Duration::from_millis(*ms));
                Ok(())
            }
            (Step::SlowMs(ms), Self::Real(tenant)) => {
                tenant.slow_down(Duration::from_millis(*ms));
                Ok(())
            }
            (step, _) => Err(format!("this server cannot {}", step.name()).into()),
        }
    }

    async fn apply(&mut self, object: Value) -> Outcome {
        match self {
            Self::InProcess(server) => {
                server.apply(object);
                Ok(())
            }
            Self::Real(tenant) => tenant.apply(object).await,
        }
    }

    async fn delete(&mut self, resource: &str, name: &str) -> Outcome {
        let (namespace, name) = name.split_once('/').unwrap_or(("", name));
        match self {
            Self::InProcess(server) if server.delete(resource, namespace, name) => Ok(()),
            Self::InProcess(_) => Err("there is no such object".into()),
            Self::Real(tenant) => tenant.delete(resource, namespace, name).await,
        }
    }

    async fn bulk(&mut self, pods: u32) -> Outcome {
        for at in 0..pods {
            self.apply(bulk_pod(&format!("pod-{at}"), at)).await?;
        }
        Ok(())
    }

    /// Replaces pods one by one: another pod gets the address of one that goes.
    async fn churn(&mut self, pods: u32, rate: u32) -> Outcome {
        let mut tick = interval(Duration::from_secs(1) / rate);
        tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
        for at in 0..pods {
            tick.tick().await;
            self.delete("pods", &format!("bulk/pod-{at}")).await?;
            self.apply(bulk_pod(&format!("next-{at}"), at)).await?;
        }
        Ok(())
    }
}

async fn in_process(server: &ApiServer, what: &str) -> Outcome {
    match what {
        "cut" => server.cut(),
        "close" => server.close(),
        "open" => server.open().await?,
        "freeze" => server.freeze(),
        "thaw" => server.thaw(),
        "compact" => server.compact(),
        "restore" => server.restore(),
        "permit" => server.permit(),
        other => return Err(format!("no such step: {other}").into()),
    }
    Ok(())
}

fn bulk_pod(name: &str, at: u32) -> Value {
    let ip = format!("10.128.{}.{}", at / 256, at % 256);
    objects::bulky(objects::pod("bulk", name, &format!("n{}", 2 + at % 50), &[&ip]))
}

//! A Prometheus of the test's own, and what it answers.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::kernel::support::{PATIENCE, eventually};

/// What it makes of histograms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Histograms {
    Classic,
    Native,
}

/// A running server. It is killed when it is dropped.
pub(super) struct Prometheus {
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl Prometheus {
    /// Starts it at a port of this namespace's loopback. It scrapes one agent each second.
    pub(super) fn start(port: u16, agent: u16, node: &str, histograms: Histograms) -> Self {
        let folder = TempDir::new().expect("a folder");
        let config = config(agent, node);
        let file = folder.path().join("prometheus.yaml");
        fs::write(&file, config.to_string()).expect("its configuration");
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        command.arg("--log.level=error");
        if histograms == Histograms::Native {
            command.arg("--enable-feature=native-histograms");
        }
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().expect("prometheus runs");
        let mut server = Self { child, port, _folder: folder };
        eventually("a Prometheus that is ready", || {
            let ended = server.child.try_wait().expect("its state");
            assert!(ended.is_none(), "prometheus ended: {ended:?}");
            server.get("/-/ready").ok()
        });
        server
    }

    /// Values of an expression now, NaN for native histograms; why not, where it is no expression.
    pub(super) fn query(&self, expression: &str) -> Result<Vec<f64>, String> {
        let data = self.ask(&format!("/api/v1/query?query={}", encoded(expression)))?;
        let results = data["result"].as_array().into_iter().flatten();
        let value = |result: &Value| result["value"][1].as_str()?.parse().ok();
        Ok(results.map(|result| value(result).unwrap_or(f64::NAN)).collect())
    }

    /// The value of an expression that has one.
    pub(super) fn value(&self, expression: &str) -> Option<f64> {
        match self.query(expression).as_deref() {
            Ok([value]) => Some(*value),
            Ok(_) => None,
            Err(error) => panic!("{expression}: {error}"),
        }
    }

    /// Values of a label among the series that a selector picks.
    pub(super) fn label_values(&self, selector: &str, label: &str) -> Vec<String> {
        let path = format!("/api/v1/label/{label}/values?match[]={}", encoded(selector));
        let values = self.ask(&path);
        serde_json::from_value(values.expect("the values")).expect("texts")
    }

    /// Every rule, as the server tells of it.
    pub(super) fn rules(&self) -> Vec<Value> {
        let data = self.ask("/api/v1/rules").expect("the rules");
        let groups = data["groups"].as_array().into_iter().flatten();
        groups.filter_map(|group| group["rules"].as_array()).flatten().cloned().collect()
    }

    fn ask(&self, path: &str) -> Result<Value, String> {
        let body = self.get(path)?;
        let answer: Value = serde_json::from_str(&body).map_err(|error| error.to_string())?;
        match answer["status"].as_str() {
            Some("success") => Ok(answer["data"].clone()),
            _ => Err(answer["error"].to_string()),
        }
    }

    /// Gets a page; the body of an answer that is not 200 is the error, unless it is JSON.
    fn get(&self, path: &str) -> Result<String, String> {
        let get = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
            stream.set_read_timeout(Some(PATIENCE))?;
            // HTTP/1.0: the answer ends with the connection, and is in one piece.
            write!(stream, "GET {path} HTTP/1.0\r\nHost: prometheus\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        let answer = get().map_err(|error| error.to_string())?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("no HTTP answer")?;
        let is_ok = head.split(' ').nth(1) == Some("200");
        if is_ok || body.starts_with('{') { Ok(body.to_owned()) } else { Err(body.to_owned()) }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // Fails when it ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn encoded(text: &str) -> impl std::fmt::Display {
    utf8_percent_encode(text, NON_ALPHANUMERIC)
}

/// JSON is YAML.
fn config(agent: u16, node: &str) -> Value {
    json!({
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [deployed("prometheus/rules/*.yaml")],
        "scrape_configs": [{
            "job_name": "orb8-agent",
            "static_configs": [{"targets": [format!("127.0.0.1:{agent}")], "labels": {"node": node}}],
        }],
    })
}

/// A path below `deploy/`.
pub(super) fn deployed(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the checkout");
    root.join("deploy").join(path).display().to_string()
}

/// Asks again and again until nothing is missing; panics with what still is after `time`.
pub(super) fn until_nothing_is_missing(time: Duration, mut missing: impl FnMut() -> Vec<String>) {
    let start = Instant::now();
    loop {
        let left = missing();
        if left.is_empty() {
            return;
        }
        assert!(start.elapsed() < time, "not within {time:?}:\n{}", left.join("\n"));
        std::thread::sleep(Duration::from_millis(500));
    }
}

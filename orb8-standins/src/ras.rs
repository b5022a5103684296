//! NCCL's RAS on a port of one's own: the state of a job, made from a list, as JSON or as older
//! versions tell it.

use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::serving::Serving;

/// A server that answers until it is dropped.
#[derive(Debug)]
pub struct Ras {
    serving: Serving,
    job: Arc<Mutex<Job>>,
}

/// The job, and how the server does.
#[derive(Clone, Debug, Default)]
pub struct Job {
    /// Its communicators.
    pub communicators: Vec<Communicator>,
    /// Whether it can tell as JSON; it could not at first.
    pub is_old: bool,
    /// How long it takes for the report, as it does when a rank does not answer.
    pub delay: Duration,
}

/// A communicator.
#[derive(Clone, Debug, Default)]
pub struct Communicator {
    /// A hash of its unique id.
    pub hash: u64,
    /// Ranks that answer.
    pub ranks: Vec<Rank>,
    /// Ranks that do not.
    pub missing: Vec<u32>,
}

/// A process in a communicator.
#[derive(Clone, Debug, Default)]
pub struct Rank {
    /// Its number.
    pub rank: u32,
    /// The process, as its namespace counts.
    pub pid: u32,
    /// Names of collectives (`AllReduce`), and how many it began.
    pub counts: Vec<(String, u64)>,
    /// Whether it gave up.
    pub is_aborted: bool,
}

impl Ras {
    /// Starts one on a free port.
    ///
    /// # Errors
    ///
    /// There is no port or no thread.
    pub fn start(job: Job) -> io::Result<Self> {
        Self::start_on(0, job)
    }

    /// Starts one on a port; NCCL's is 28028.
    ///
    /// # Errors
    ///
    /// The port is in use, or there is no thread.
    pub fn start_on(port: u16, job: Job) -> io::Result<Self> {
        let job = Arc::new(Mutex::new(job));
        let shared = Arc::clone(&job);
        let state = move || shared.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let serving = Serving::start(port, move |stream| serve(stream, &state))?;
        Ok(Self { serving, job })
    }

    /// Returns its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.serving.address().port()
    }

    /// Changes the job.
    pub fn set(&self, job: Job) {
        *self.job.lock().unwrap_or_else(PoisonError::into_inner) = job;
    }
}

impl Job {
    /// Returns the report, as NCCL 2.28 writes it.
    #[must_use]
    pub fn report(&self) -> Value {
        let communicators: Vec<Value> =
            self.communicators.iter().map(Communicator::report).collect();
        json!({
            "nccl_version": "2.28.9",
            "cuda_runtime_version": 13000,
            "cuda_driver_version": 13000,
            "communicators_count": communicators.len(),
            "communicators": communicators,
            "ras": {"collection_time_sec": self.delay.as_secs_f64(), "timeouts_count": 0},
        })
    }
}

impl Communicator {
    fn report(&self) -> Value {
        let Self { hash, ranks, missing } = self;
        json!({
            "hash": format!("{hash:#x}"),
            "secondary_hash": "0x0:0x0",
            "size": ranks.len() + missing.len(),
            "ranks_count": ranks.len(),
            "missing_ranks_count": missing.len(),
            "ranks": ranks.iter().map(Rank::report).collect::<Vec<_>>(),
            "missing_ranks": missing.iter().map(|rank| json!({"rank": rank})).collect::<Vec<_>>(),
        })
    }
}

impl Rank {
    fn report(&self) -> Value {
        let Self { rank, pid, counts, is_aborted } = self;
        let counts = counts.iter().map(|(kind, count)| (kind.clone(), json!(count)));
        json!({
            "rank": rank,
            "host": "127.0.0.1",
            "pid": pid,
            "cuda_dev": rank,
            "nvml_dev": rank,
            "status": {"init_state": 0, "async_error": 0, "finalize_called": false,
                "destroy_flag": false, "abort_flag": is_aborted},
            "collective_counts": counts.collect::<serde_json::Map<_, _>>(),
        })
    }
}

fn serve(mut stream: TcpStream, state: &impl Fn() -> Job) -> io::Result<()> {
    let lines = BufReader::new(stream.try_clone()?).lines();
    let mut is_json = false;
    for line in lines {
        let line = line?.trim().to_ascii_uppercase();
        let answer = match line.as_str() {
            "SET FORMAT JSON" if !state().is_old => {
                is_json = true;
                "OK".to_owned()
            }
            "STATUS" | "VERBOSE STATUS" => {
                let job = state();
                thread::sleep(job.delay);
                let text = "NCCL version 2.24.3 compiled with CUDA 12.8\nJob summary\n".to_owned();
                let report = if is_json { job.report().to_string() } else { text };
                return stream.write_all(report.as_bytes());
            }
            line if line.starts_with("CLIENT PROTOCOL ") => "SERVER PROTOCOL 2".to_owned(),
            line if line.starts_with("TIMEOUT ") => "OK".to_owned(),
            line => format!("ERROR: Unknown command: {line}"),
        };
        stream.write_all(format!("{answer}\n").as_bytes())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn ask(server: &Ras, commands: &str) -> String {
        let mut stream = TcpStream::connect(server.serving.address()).unwrap();
        stream.write_all(commands.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn it_speaks_nccls_protocol() {
        let rank = Rank { rank: 1, counts: vec![("AllReduce".into(), 7)], ..Rank::default() };
        let communicator = Communicator { hash: 0xab, ranks: vec![rank], missing: vec![0] };
        let job = Job { communicators: vec![communicator], ..Job::default() };
        let server = Ras::start(job).unwrap();
        let commands = "client protocol 2\nTIMEOUT 5\nHELLO\nSET FORMAT json\nVERBOSE STATUS\n";
        let answer = ask(&server, commands);
        let lines: Vec<&str> = answer.lines().collect();
        assert_eq!(lines[..4], ["SERVER PROTOCOL 2", "OK", "ERROR: Unknown command: HELLO", "OK"]);
        let report: Value = serde_json::from_str(lines[4]).unwrap();
        assert_eq!(report["communicators"][0]["hash"], "0xab");
        assert_eq!(report["communicators"][0]["ranks"][0]["collective_counts"]["AllReduce"], 7);
        assert_eq!(report["communicators"][0]["missing_ranks"][0]["rank"], 0);
        server.set(Job { is_old: true, ..Job::default() });
        let answer = ask(&server, "SET FORMAT JSON\nSTATUS\n");
        assert!(answer.starts_with("ERROR") && answer.contains("2.24.3"), "{answer}");
    }
}

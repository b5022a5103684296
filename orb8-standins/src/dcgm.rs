//! dcgm-exporter on a port of one's own: a text, or one made from a list of devices, and all ways to
//! answer badly.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::serving::Serving;

/// An exporter that answers until it is dropped.
#[derive(Debug)]
pub struct Dcgm {
    serving: Serving,
    answer: Arc<Mutex<Answer>>,
}

/// How it answers.
#[derive(Clone, Debug)]
pub enum Answer {
    /// With this text.
    Text(String),
    /// With an error.
    Status(u16),
    /// With this text, after a time.
    Slow(Duration, String),
    /// With lines that never end.
    Huge,
    /// With half of what it says that it will send.
    CutOff(String),
    /// Not at all.
    Hang,
}

/// A device, or an instance of one, as the exporter tells it.
#[derive(Clone, Debug, Default)]
pub struct Device {
    /// Its number.
    pub index: u32,
    /// `GPU-…`; of an instance, its device's.
    pub uuid: String,
    /// Number and profile of an instance.
    pub instance: Option<(u32, String)>,
    /// Namespace, pod and container that it was given to, each with a series of its own where there are
    /// several.
    pub holders: Vec<(String, String, String)>,
    /// Names and values of its metrics.
    pub values: Vec<(String, f64)>,
}

impl Dcgm {
    /// Starts one on a free port.
    ///
    /// # Errors
    ///
    /// There is no port or no thread.
    pub fn start(answer: Answer) -> io::Result<Self> {
        Self::start_on(0, answer)
    }

    /// Starts one on a port.
    ///
    /// # Errors
    ///
    /// The port is in use, or there is no thread.
    pub fn start_on(port: u16, answer: Answer) -> io::Result<Self> {
        let answer = Arc::new(Mutex::new(answer));
        let shared = Arc::clone(&answer);
        let serving = Serving::start(port, move |stream| {
            let answer = shared.lock().unwrap_or_else(PoisonError::into_inner).clone();
            serve(stream, answer)
        })?;
        Ok(Self { serving, answer })
    }

    /// Returns where its metrics are.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/metrics", self.serving.address())
    }

    /// Answers otherwise from now on.
    pub fn set(&self, answer: Answer) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    }
}

/// Writes the text that the exporter has for devices.
#[must_use]
pub fn text(devices: &[Device]) -> String {
    let mut names: Vec<&str> =
        devices.iter().flat_map(|device| device.values.iter().map(|(name, _)| &**name)).collect();
    names.sort_unstable();
    names.dedup();
    let mut text = String::new();
    for name in names {
        // Writing to a string does not fail.
        let _ = writeln!(text, "# HELP {name} {name}.\n# TYPE {name} gauge");
        for device in devices {
            let value = device.values.iter().find(|(known, _)| known == name);
            value.into_iter().for_each(|(_, value)| device.write(name, *value, &mut text));
        }
    }
    text
}

impl Device {
    fn write(&self, name: &str, value: f64, text: &mut String) {
        let Self { index, uuid, instance, holders, .. } = self;
        let mut labels = format!(
            "gpu=\"{index}\",UUID=\"{uuid}\",pci_bus_id=\"00000000:{:02X}:00.0\",device=\"nvidia{index}\",\
             modelName=\"NVIDIA H100 80GB HBM3\"",
            0x1b + index
        );
        if let Some((id, profile)) = instance {
            let _ = write!(labels, ",GPU_I_PROFILE=\"{profile}\",GPU_I_ID=\"{id}\"");
        }
        labels.push_str(",Hostname=\"gpu-node-1\",DCGM_FI_DRIVER_VERSION=\"580.159.04\"");
        if holders.is_empty() {
            let _ = writeln!(text, "{name}{{{labels}}} {value}");
        }
        for (namespace, pod, container) in holders {
            let _ = writeln!(
                text,
                "{name}{{{labels},container=\"{container}\",namespace=\"{namespace}\",pod=\"{pod}\"}} {value}"
            );
        }
    }
}

fn serve(mut stream: TcpStream, answer: Answer) -> io::Result<()> {
    let mut requests = BufReader::new(stream.try_clone()?).lines();
    // A request ends with an empty line.
    while requests.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    match answer {
        Answer::Text(text) => reply(&mut stream, "200 OK", text.len(), &text),
        Answer::Status(status) => reply(&mut stream, &format!("{status} Error"), 0, ""),
        Answer::Slow(time, text) => {
            thread::sleep(time);
            reply(&mut stream, "200 OK", text.len(), &text)
        }
        Answer::Huge => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
            let line =
                format!("DCGM_FI_DEV_GPU_UTIL{{gpu=\"0\",UUID=\"{}\"}} 1\n", "x".repeat(8000));
            // Ends when the client has had enough.
            loop {
                stream.write_all(line.as_bytes())?;
            }
        }
        Answer::CutOff(text) => reply(&mut stream, "200 OK", text.len() * 2, &text),
        Answer::Hang => {
            // Ends when the client goes, or after the longest time that a client is waited for.
            requests.next();
            Ok(())
        }
    }
}

fn reply(stream: &mut TcpStream, status: &str, length: usize, body: &str) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn get(server: &Dcgm) -> String {
        let mut stream = TcpStream::connect(server.serving.address()).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn a_list_of_devices_is_a_text() {
        let device = Device {
            uuid: "GPU-a".into(),
            instance: Some((3, "1g.10gb".into())),
            holders: vec![
                ("n".into(), "p".into(), "c".into()),
                ("n".into(), "q".into(), "c".into()),
            ],
            values: vec![("DCGM_FI_DEV_FB_USED".into(), 5.0)],
            ..Device::default()
        };
        let text = text(&[device]);
        assert_eq!(text.lines().count(), 4);
        assert!(text.contains("GPU_I_ID=\"3\"") && text.contains("pod=\"q\"} 5"), "{text}");
    }

    #[test]
    fn it_answers_as_it_is_told() {
        let server = Dcgm::start(Answer::Text("A 1\n".into())).unwrap();
        assert!(get(&server).ends_with("\r\n\r\nA 1\n"));
        server.set(Answer::Status(503));
        assert!(get(&server).starts_with("HTTP/1.1 503"));
        server.set(Answer::CutOff("A 1\n".into()));
        assert!(get(&server).contains("Content-Length: 8"));
    }
}

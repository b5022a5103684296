//! `orb8 top` in a real terminal, which tmux makes: over the engine in its own process, attached to a
//! cgroup of the test's own where another process sends packets to itself.

#![cfg(target_os = "linux")]

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long anything may take: the engine starts, and others use the machine too.
const PATIENCE: Duration = Duration::from_secs(60);

/// A cgroup of the test's own.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new(name: &str) -> Option<Self> {
        let mounts = fs::read_to_string("/proc/mounts").ok()?;
        let mut mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let root = mounts.find(|mount| mount.get(2) == Some(&"cgroup2"))?[1].to_owned();
        let path = Path::new(&root).join(format!("orb8-top-{name}-{}", std::process::id()));
        fs::create_dir(&path).ok()?;
        Some(Self(path))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// Someone who sends, in the cgroup.
struct Sender(Child);

impl Sender {
    fn start(cgroup: &Cgroup) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--ignored", "--exact", "sends"]).env("CGROUP", &cgroup.0);
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Not a test: what [`Sender`] runs.
#[test]
#[ignore = "sends packets to itself; another test runs it in a cgroup"]
fn sends() {
    let cgroup = std::env::var_os("CGROUP").unwrap();
    let processes = Path::new(&cgroup).join("cgroup.procs");
    fs::write(processes, std::process::id().to_string()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut far, _) = listener.accept().unwrap();
    let mut buffer = [0; 1_000];
    let end = Instant::now() + 3 * PATIENCE;
    while Instant::now() < end {
        near.write_all(&buffer).unwrap();
        far.read_exact(&mut buffer).unwrap();
        sleep(Duration::from_millis(2));
    }
}

/// A terminal, and the shell in it.
struct Terminal {
    folder: tempfile::TempDir,
}

impl Terminal {
    /// Runs `orb8` and then says how the terminal is.
    fn start(args: &str) -> Self {
        let terminal = Self { folder: tempfile::tempdir().unwrap() };
        let line = format!(
            "'{}' {args}; echo \"exit $?\"; (stty -a; echo done) > '{}'; sleep 600",
            env!("CARGO_BIN_EXE_orb8"),
            terminal.modes().display()
        );
        let size = ["-x", "80", "-y", "24"];
        terminal.tmux(&[&["new-session", "-d"], &size[..], &[&line]].concat());
        terminal
    }

    fn modes(&self) -> PathBuf {
        self.folder.path().join("modes")
    }

    fn tmux(&self, args: &[&str]) -> String {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(self.folder.path().join("socket")).args(["-f", "/dev/null"]);
        command.args(args).env_remove("TMUX").env_remove("NO_COLOR").env("LC_ALL", "C.UTF-8");
        let output = command.stdin(Stdio::null()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits until the screen shows all of it.
    fn shows(&self, texts: &[&str]) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let screen = self.screen();
            if texts.iter().all(|text| screen.contains(text)) {
                return screen;
            }
            assert!(Instant::now() < end, "{texts:?} are not on the screen:\n{screen}");
            sleep(Duration::from_millis(100));
        }
    }

    /// Returns the process that the shell runs.
    fn child(&self) -> String {
        let shell = self.tmux(&["display", "-p", "#{pane_pid}"]);
        let shell = shell.trim();
        let path = format!("/proc/{shell}/task/{shell}/children");
        fs::read_to_string(path).unwrap().split_whitespace().next().unwrap().to_owned()
    }

    /// Waits until the shell has the terminal again, and checks that it is as it was.
    fn is_given_back(&self) {
        let end = Instant::now() + PATIENCE;
        let modes = loop {
            let modes = fs::read_to_string(self.modes()).unwrap_or_default();
            if modes.contains("done") {
                break modes;
            }
            assert!(Instant::now() < end, "it goes on:\n{}", self.screen());
            sleep(Duration::from_millis(100));
        };
        assert!(modes.contains(" icanon") && modes.contains(" echo "), "{modes}");
        let flags = "#{alternate_on} #{cursor_flag} #{mouse_any_flag}";
        let flags = self.tmux(&["display", "-p", flags]);
        assert_eq!(flags.trim(), "0 1 0", "alternate screen, cursor, mouse");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

/// Says what is missing, if anything.
fn missing() -> Option<&'static str> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    if Command::new("tmux").arg("-V").output().is_err() {
        Some("there is no tmux")
    } else if !status.contains("\nUid:\t0\t") {
        Some("the engine needs root")
    } else {
        None
    }
}

/// Seconds of CPU time that a process has had.
fn cpu(process: &str) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // utime and stime, in the ticks that every kernel shows: hundredths.
    [11, 12].iter().map(|field| fields[*field].parse::<f64>().unwrap() / 100.0).sum()
}

#[test]
fn keys_and_signals_do_what_they_say() {
    let Some(cgroup) = missing().is_none().then(|| Cgroup::new("keys")).flatten() else {
        let reason = missing().unwrap_or("no cgroup can be made");
        println!("SKIPPED keys_and_signals_do_what_they_say: {reason}");
        return;
    };
    let _sender = Sender::start(&cgroup);
    let folder = tempfile::tempdir().unwrap();
    let terminal = Terminal::start(&format!(
        "top --standalone --interval 200ms --kubernetes off --cgroup-root '{}' --attach cgroup \
         --export-to '{}' --mouse",
        cgroup.0.display(),
        folder.path().display()
    ));

    terminal.shows(&["by rate", "problems", "KB/s", "? help"]);
    terminal.press(&["2"]);
    terminal.shows(&["flows by rate", "127.0.0.1", "TCP"]);
    terminal.press(&["s"]);
    terminal.shows(&["flows by bytes", "BYTES▼"]);
    terminal.press(&["5"]);
    terminal.shows(&["connections by retransmits"]);
    terminal.press(&["7"]);
    terminal.shows(&["Agent Status", "Health:"]);

    terminal.press(&["3"]);
    // The root of what the engine is attached to: the sender's row is there.
    terminal.shows(&["by rate", "\nhost "]);
    terminal.press(&["Enter"]);
    terminal.shows(&["peer by bytes", "flows by rate", "sent/s"]);
    terminal.press(&["Escape"]);
    terminal.press(&["/", "-n nobody", "Enter"]);
    terminal.shows(&["no workloads match the filter"]);
    terminal.press(&["Escape"]);
    terminal.press(&["?"]);
    terminal.shows(&["This help"]);
    terminal.press(&["Escape", "Space"]);
    // A pause asks once more: an export needs rows.
    terminal.shows(&["PAUSED", "\nhost "]);
    terminal.press(&["Space", "e", "c"]);
    let screen = terminal.shows(&["wrote "]);
    let exported: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(exported.len(), 1, "{screen}");
    let table = fs::read_to_string(exported[0].as_ref().unwrap().path()).unwrap();
    assert!(table.lines().next().unwrap().contains("sent.bytes_per_second"), "{table}");

    terminal.tmux(&["resize-window", "-x", "20", "-y", "5"]);
    terminal.shows(&["orb8 top needs"]);
    terminal.tmux(&["resize-window", "-x", "200", "-y", "60"]);
    terminal.shows(&["by rate", "\nhost ", "PACKETS"]);

    let process = terminal.child();
    let before = cpu(&process);
    sleep(Duration::from_secs(5));
    let share = (cpu(&process) - before) / 5.0 * 100.0;
    println!("the screen and the engine, 200x60, five answers a second: {share:.1} % of a core");

    Command::new("kill").args(["-TERM", &process]).status().unwrap();
    terminal.is_given_back();
    terminal.shows(&["exit 0"]);
}

/// A node of stand-ins: devices, who has them, what a process does, and what goes wrong.
#[test]
fn accelerators_are_seen_with_their_owners() {
    if let Some(reason) = missing() {
        println!("SKIPPED accelerators_are_seen_with_their_owners: {reason}");
        return;
    }
    let terminal = Terminal::start("demo gpu -- top --tab gpu");
    terminal.shows(&["MIG 3g.40gb", "parts by device", "team-a/ranker", "unallocated"]);
    terminal.press(&["s"]);
    terminal.shows(&["parts by memory", "MEMORY▼"]);
    terminal.press(&["Enter"]);
    terminal.shows(&["part of a device", "ml-training/llama-ft-worker-0", "gpu-workload"]);
    terminal.press(&["End"]);
    terminal.shows(&["nccl", "all-reduce"]);
    terminal.press(&["Escape"]);
    terminal.press(&["/", "notebook", "Enter"]);
    terminal.shows(&["1 of ", "filter: notebook", "research/notebook-0"]);
    terminal.press(&["1"]);
    terminal.shows(&["research/notebook-0 holds GPU 5"]);
    terminal.press(&["q"]);
    terminal.is_given_back();
    terminal.shows(&["exit 0"]);
}

#[test]
fn q_and_a_hangup_end_it_too() {
    let Some(cgroup) = missing().is_none().then(|| Cgroup::new("ends")).flatten() else {
        let reason = missing().unwrap_or("no cgroup can be made");
        println!("SKIPPED q_and_a_hangup_end_it_too: {reason}");
        return;
    };
    for signal in [None, Some("-HUP"), Some("-INT")] {
        let args = "top --standalone --kubernetes off --color never --attach cgroup";
        let terminal = Terminal::start(&format!("{args} --cgroup-root '{}'", cgroup.0.display()));
        terminal.shows(&["by rate", "problems"]);
        match signal {
            None => terminal.press(&["q"]),
            Some(signal) => {
                let process = terminal.child();
                Command::new("kill").args([signal, &process]).status().unwrap();
            }
        }
        terminal.is_given_back();
        terminal.shows(&["exit 0"]);
    }
}

//! Runs the kernel tests on stock Debian kernels, each booted in QEMU by `xtask/vmtest.py`.

use std::fs::{self, File};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::workspace::{self, Unavailable, root};

/// Oldest first: one of each generation of hooks that orb8 knows.
const KERNELS: [&str; 4] = [
    "5.10", // clsact only, no coarse clock
    "6.1",  // clsact only
    "6.12", // TCX
    "7",    // the newest that the mirror has
];

/// Programs that the tests call, and the Debian packages that have them. The guest's own shell
/// would run its own reduced `ip`, so the host's comes along too.
const TOOLS: [(&str, &str); 8] = [
    ("ip", "iproute2"),
    ("tc", "iproute2"),
    ("ss", "iproute2"),
    ("ping", "iputils-ping"),
    ("sh", "dash"),
    ("dig", "bind9-dnsutils"),
    ("dnsmasq", "dnsmasq-base"),
    ("nft", "nftables"),
];

/// Tests of what user space does with what the programs told, which no kernel changes: on an emulated
/// machine they take ten seconds each.
const USER_SPACE: [&str; 16] = [
    "kernel::cuda",
    "kernel::dns::exchanges",
    "kernel::dns::messages",
    "kernel::dns::resolver",
    "kernel::dns::sums",
    "kernel::gpu::libraries",
    "kernel::gpu::limits",
    "kernel::gpu::nccl",
    "kernel::history",
    "kernel::hubble",
    "kernel::identity::metrics",
    "kernel::otlp",
    "kernel::moments::moments_reach_a_subscriber_in_time",
    "kernel::tcp::connections::many_connections",
    "kernel::tcp::running::only_what_was_asked_for",
    "kernel::tcp::running::a_signal_that_cannot_run",
];

/// What each hook and each signal does at least: where time is short, the newest kernel runs these alone.
/// The oldest, which differs most from the one that developers run, runs more.
const ESSENTIAL: [&str; 8] = [
    "kernel::flows",
    "kernel::gpu::counts::every_kind_of_call_is_counted_once",
    "kernel::gpu::limits::what_a_probe_costs_is_measured",
    "kernel::identity::traffic",
    "kernel::dns::places",
    "kernel::lifecycle",
    "kernel::tcp::connections::opened_used_and_closed",
    "kernel::tcp::running::every_signal_runs",
];

/// That every program loads and tells something: what kernels between run where time is short. Those of
/// distributions have mends of newer ones, so what neither end refuses they may.
const LOADING: [&str; 2] = [
    "kernel::gpu::counts::every_kind_of_call_is_counted_once",
    "kernel::tcp::running::every_signal_runs",
];

/// About half of what the oldest kernel runs where time is short: it is booted twice then, so that two
/// CPUs are busy to the end.
const FIRST_HALF: [&str; 7] = [
    "kernel::accounting",
    "kernel::cgroups",
    "kernel::conntrack",
    "kernel::devices",
    "kernel::dns",
    "kernel::flows",
    "kernel::gpu",
];

/// An emulated machine is ten to twenty times slower than this one.
const SLOW: [(&str, &str); 2] = [("ORB8_TEST_SCALE", "0.1"), ("ORB8_TEST_LATENCY_MS", "500")];

/// What `vmtest.py` says when the VM itself failed, not the command in it.
const VM_FAILED: i32 = 125;
const TIMED_OUT: i32 = 124;
/// What `vmtest.py` says when the host lacks something; its message says what.
const MISSING: i32 = 126;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Kernel to test on, by the start of its version (repeatable) [default: 5.10, 6.1, 6.12, 7]
    #[arg(long = "kernel", value_name = "VERSION")]
    kernels: Vec<String>,
    /// Leave out what depends on user space alone, on the newest kernel what is not essential, and on those
    /// between all but that programs load
    #[arg(long, conflicts_with = "args")]
    quick: bool,
    /// Seconds that the tests may take on one kernel
    #[arg(long, value_name = "SECONDS", default_value_t = 1500)]
    timeout: u32,
    /// VMs at a time
    #[arg(long, default_value_t = one_per_cpu())]
    jobs: NonZero<usize>,
    /// Arguments for the test binary
    #[arg(last = true)]
    args: Vec<String>,
}

/// A VM keeps about one CPU busy: the tests run one after another.
fn one_per_cpu() -> NonZero<usize> {
    thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN)
}

/// Which of the tests a VM runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    All,
    FirstHalf,
    SecondHalf,
    Essential,
    Loading,
}

impl Args {
    fn kernels(&self) -> Vec<&str> {
        match self.kernels.is_empty() {
            true => KERNELS.to_vec(),
            false => self.kernels.iter().map(String::as_str).collect(),
        }
    }

    /// Kernels and what they run, the longest first.
    fn work(&self) -> Vec<(&str, Part)> {
        let parts = |kernel| match kernel {
            _ if !self.quick => &[Part::All][..],
            _ if kernel == KERNELS[0] => &[Part::SecondHalf, Part::FirstHalf],
            _ if kernel == KERNELS[KERNELS.len() - 1] => &[Part::Essential],
            _ => &[Part::Loading],
        };
        let kernels = self.kernels().into_iter();
        let work = kernels.flat_map(|kernel| parts(kernel).iter().map(move |part| (kernel, *part)));
        let mut work = Vec::from_iter(work);
        work.sort_by_key(|(_, part)| *part == Part::Loading);
        work
    }
}

impl Part {
    /// What a log's name ends in.
    const fn suffix(self) -> &'static str {
        match self {
            Self::All | Self::Essential | Self::Loading => "",
            Self::FirstHalf => "-1",
            Self::SecondHalf => "-2",
        }
    }

    /// Arguments of the test binary that choose the tests.
    fn arguments(self) -> Vec<&'static str> {
        let without = |names: &[&'static str]| -> Vec<_> {
            names.iter().flat_map(|name| ["--skip", name]).collect()
        };
        match self {
            Self::All => Vec::new(),
            Self::FirstHalf => [without(&USER_SPACE), FIRST_HALF.to_vec()].concat(),
            Self::SecondHalf => [without(&USER_SPACE), without(&FIRST_HALF)].concat(),
            Self::Essential => ESSENTIAL.to_vec(),
            Self::Loading => LOADING.to_vec(),
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if !cfg!(target_arch = "x86_64") {
        bail!(Unavailable("the VMs are x86-64 and run this host's test binary".into()));
    }
    let test = build_test()?;
    let logs = root().join("target/vm-test");
    fs::create_dir_all(&logs)?;
    let queue = Mutex::new(args.work().into_iter());
    let failed = Mutex::new(Vec::new());
    let work = || -> Result<()> {
        // Not `while let`: it would hold the queue's lock all along.
        loop {
            let Some((kernel, part)) = lock(&queue).next() else {
                return Ok(());
            };
            if !test_on(kernel, part, &test, &logs, args)? {
                lock(&failed).push(kernel);
            }
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..args.jobs.get()).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("no panic"))
    })?;
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    if !failed.is_empty() {
        bail!("kernel tests failed on {}", failed.join(", "));
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs the tests on one kernel, once more where the VM failed. Returns whether they passed.
fn test_on(kernel: &str, part: Part, test: &Path, logs: &Path, args: &Args) -> Result<bool> {
    let log = logs.join(format!("{kernel}{}.log", part.suffix()));
    let started = Instant::now();
    let mut code = boot(kernel, part, test, &log, args)?;
    if code == VM_FAILED {
        code = boot(kernel, part, test, &log, args)?;
    }
    report(kernel, code, started.elapsed(), &log)
}

/// Builds the kernel tests and returns their binary.
fn build_test() -> Result<PathBuf> {
    let mut build = Command::new("cargo");
    build
        .args(["test", "--package", "orb8-agent", "--test", "kernel", "--no-run"])
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(root())
        .stderr(Stdio::inherit());
    let messages = workspace::output(&mut build)?;
    messages.lines().find_map(executable).context("cargo built no test named `kernel`")
}

fn executable(message: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let is_test = message["target"]["name"] == "kernel" && message["profile"]["test"] == true;
    is_test.then(|| message["executable"].as_str().map(PathBuf::from))?
}

/// Boots one kernel, runs the tests in it, and returns `vmtest.py`'s exit code.
fn boot(kernel: &str, part: Part, test: &Path, log: &Path, args: &Args) -> Result<i32> {
    let mut vmtest = Command::new("python3");
    vmtest
        .arg(root().join("xtask/vmtest.py"))
        .args(["--times", "--smp", "2", "--timeout", &args.timeout.to_string()])
        // The test harness is in cargo's place: the package's folder.
        .current_dir(root().join("orb8-agent"));
    for (tool, package) in TOOLS {
        let Some(path) = find(tool) else {
            bail!(Unavailable(format!("no `{tool}` here: apt-get install {package}")));
        };
        vmtest.arg("--add").arg(path);
    }
    for (name, value) in SLOW {
        if std::env::var_os(name).is_none() {
            vmtest.env(name, value);
        }
    }
    let output = File::create(log)?;
    // The tests take turns anyway; threads that wait for theirs make an emulated machine crawl.
    vmtest.args([kernel, "--"]).arg(test).arg("--test-threads=1").args(&args.args);
    vmtest.args(part.arguments());
    vmtest.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    let status = vmtest.status().map_err(|error| {
        Unavailable(format!("python3 does not run ({error}): apt-get install python3"))
    })?;
    let code = status.code().unwrap_or(VM_FAILED);
    if code == MISSING {
        bail!(Unavailable(fs::read_to_string(log)?.trim().to_owned()));
    }
    Ok(code)
}

/// Prints one line about a kernel, and the whole log where it failed. Returns whether it passed.
fn report(kernel: &str, code: i32, took: Duration, log: &Path) -> Result<bool> {
    let text = String::from_utf8_lossy(&fs::read(log)?).into_owned();
    let release = text.split_once(" kernel=").and_then(|(_, rest)| rest.split(' ').next());
    let verdict = match code {
        0 => "pass".to_owned(),
        TIMED_OUT => "FAIL (timeout)".to_owned(),
        VM_FAILED => "FAIL (the VM died, twice)".to_owned(),
        code => format!("FAIL (exit {code})"),
    };
    if code != 0 {
        println!("{text}");
    }
    let summary = text.lines().rev().find(|line| line.starts_with("test result:"));
    println!(
        "{kernel:5} {} {verdict} in {:.1} s; {}",
        release.unwrap_or("?"),
        took.as_secs_f64(),
        summary.unwrap_or("no test result")
    );
    Ok(code == 0)
}

/// Finds a program on `PATH`, or where administrators' programs are.
fn find(tool: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(more).map(|dir| dir.join(tool)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One that was renamed would be run again, and nobody would notice.
    #[test]
    fn what_is_named_is_there() {
        let named = USER_SPACE.into_iter().chain(ESSENTIAL).chain(LOADING).chain(FIRST_HALF);
        for name in named {
            let path = name.replace("::", "/");
            let tests = root().join("orb8-agent/tests");
            let (module, test) = path.rsplit_once('/').expect("a test is in a module");
            let is_module = tests.join(format!("{path}.rs")).is_file();
            let is_test = fs::read_to_string(tests.join(format!("{module}.rs")))
                .is_ok_and(|text| text.contains(&format!("fn {test}(")));
            assert!(is_module || is_test, "{name}");
        }
    }
}

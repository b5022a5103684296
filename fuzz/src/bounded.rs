//! Runs every fuzz target for a bounded time: stable Rust, no coverage, the same inputs for the
//! same seed.
//!
//! ```text
//! bounded [--seconds N] [--seed N] [TARGET...]     N seconds in all, 20 unless told
//! bounded --input FILE TARGET                      one input again
//! ```

use std::fs;
use std::panic;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use orb8_fuzz::mutate::{Random, mutate};
use orb8_fuzz::{TARGETS, Target};

/// What one input may take before it counts as a hang.
const SLOW: Duration = Duration::from_secs(2);

struct Options {
    seconds: u64,
    seed: u64,
    input: Option<PathBuf>,
    targets: Vec<Target>,
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(message) => {
            eprintln!("error: {message}");
            return ExitCode::from(2);
        }
    };
    let ok = match &options.input {
        Some(path) => replay(path, &options.targets),
        None => fuzz(&options),
    };
    if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn options() -> Result<Options, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let mut options = Options { seconds: 20, seed: now, input: None, targets: Vec::new() };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} wants a value"));
        let number = |text: String| text.parse().map_err(|error| format!("{arg} {text}: {error}"));
        match arg.as_str() {
            "--seconds" => options.seconds = number(value()?)?,
            "--seed" => options.seed = number(value()?)?,
            "--input" => options.input = Some(value()?.into()),
            name => {
                let target = TARGETS.into_iter().find(|target| target.name == name);
                options.targets.push(target.ok_or(format!("no target {name}: {}", names()))?);
            }
        }
    }
    if options.targets.is_empty() {
        options.targets = TARGETS.to_vec();
    }
    Ok(options)
}

fn names() -> String {
    TARGETS.map(|target| target.name).join(", ")
}

fn replay(path: &PathBuf, targets: &[Target]) -> bool {
    match (fs::read(path), targets) {
        (Ok(input), [target]) => {
            (target.run)(&input);
            println!("{}: {} passes", target.name, path.display());
            true
        }
        (Ok(_), _) => {
            eprintln!("error: --input wants one target");
            false
        }
        (Err(error), _) => {
            eprintln!("error: {}: {error}", path.display());
            false
        }
    }
}

/// Gives each target its share of the time. Returns whether all passed.
fn fuzz(options: &Options) -> bool {
    let share = Duration::from_secs(options.seconds) / options.targets.len() as u32;
    println!("fuzzing with --seed {}", options.seed);
    let mut ok = true;
    for target in &options.targets {
        let started = Instant::now();
        match fuzz_one(target, options.seed, share) {
            Ok(inputs) => {
                let took = started.elapsed().as_secs_f64();
                println!("fuzz {:12} ok: {inputs} inputs in {took:.1} s", target.name);
            }
            Err(failure) => {
                println!("fuzz {:12} FAILED: {failure}", target.name);
                ok = false;
            }
        }
    }
    ok
}

fn fuzz_one(target: &Target, seed: u64, share: Duration) -> Result<u64, String> {
    let seeds = (target.seeds)();
    let mut random = Random::new(seed);
    let started = Instant::now();
    let mut inputs = 0;
    for input in &seeds {
        check(target, input)?;
        inputs += 1;
    }
    while started.elapsed() < share {
        check(target, &mutate(&mut random, &seeds))?;
        inputs += 1;
    }
    Ok(inputs)
}

/// Runs one input; one that fails is kept.
fn check(target: &Target, input: &[u8]) -> Result<(), String> {
    let started = Instant::now();
    let result = panic::catch_unwind(|| (target.run)(input));
    let problem = match result {
        Ok(()) if started.elapsed() < SLOW => return Ok(()),
        Ok(()) => "took too long",
        Err(_) => "panicked",
    };
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("artifacts").join(target.name);
    let file = dir.join(format!("{:016x}", fingerprint(input)));
    let kept = fs::create_dir_all(&dir).and_then(|()| fs::write(&file, input));
    kept.map_err(|error| format!("{problem}; the input cannot be kept: {error}"))?;
    Err(format!("{problem}; again: cargo xtask fuzz --input {} {}", file.display(), target.name))
}

/// FNV-1a: names a file.
fn fingerprint(input: &[u8]) -> u64 {
    input.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

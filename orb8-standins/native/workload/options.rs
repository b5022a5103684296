//! The command line.

use std::path::PathBuf;
use std::time::Duration;

/// What `--help` says.
pub(crate) const HELP: &str = "\
A program that uses a GPU, and says exactly what it did.

Usage: gpu-workload WORK [OPTIONS]
       gpu-workload id            prints an id for --id

Work, in each step:
  train     copies in, launches, an all-reduce of ranks, waits, copies out
  launches  launches and a wait
  graphs    launches a graph of so many kernels, and waits
  copies    a copy of each kind, those that wait and those that do not
  churn     takes and gives back memory of each kind
  leak      takes memory and keeps it, always at the same place
  fill      takes memory until there is no more
  load      loads a module
  collectives  a collective of each kind
  every     all of it, but for leak, fill and collectives
  hold      nothing: it only has memory

How much:
  --steps N           steps [default: 10, without end with --seconds]
  --seconds S         ends after that time
  --rate R            steps a second [default: as many as can be]
  --launches N        launches in a step, kernels in a graph [default: 10]
  --copy BYTES        of each copy [default: 65536]
  --bytes BYTES       taken for all the time, or in each step of leak and fill [default: 1048576]
  --allreduce BYTES   of each collective [default: 1048576]
  --threads N         that work at the same time, each with a stream [default: 1]

How:
  --layer LAYER       driver, per-thread (its functions with a stream of each thread), or runtime
                      (libcudart) [default: driver]
  --libraries DIR     where the libraries are [default: where the program is]
  --cuda FILE         the driver's library there [default: libcuda.so.1]
  --device N          [default: 0; a rank's own number where there are several]
  --devices N, --memory-mib N, --kernel-us N, --copy-mib-s N, --jit-ms N
                      what the stand-in of the driver's library plays

Ranks of NCCL:
  --ranks N           so many threads, each a rank; with --rank, so many processes
  --rank R --id HEX   this process is rank R of those with the same id
  --at-once           one call joins all ranks (ncclCommInitAll), each thread works as one
  --split N           into N parts (ncclCommSplit), and works in those: rank R is in part R mod N,
                      where the last is the first
  --stop RANK:STEP    that rank stops before that step
  --stop-seconds S    for so long [default: for ever]
  --abort RANK:STEP   that rank gives up before that step

With others:
  --wait              once the libraries are loaded, waits for a line on standard input
  --attached          ends at once when standard input is closed
  --hold              after the report, waits for a line before it ends
  --progress S        says how far it is every so many seconds
  --keep              does not give its memory back before the report
  --pid-file FILE     adds a line with its pid and device, for NVML's stand-in, while it runs
  --pid-line TEXT     what that line also says, as `sm=60`
";

/// What to do.
pub(crate) enum Command {
    Help,
    Id,
    Run(Box<Options>),
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Train,
    Launches,
    Graphs,
    Copies,
    Churn,
    Leak,
    Fill,
    Load,
    Collectives,
    Every,
    Hold,
}

impl Work {
    const ALL: [(&str, Self); 11] = [
        ("train", Self::Train),
        ("launches", Self::Launches),
        ("graphs", Self::Graphs),
        ("copies", Self::Copies),
        ("churn", Self::Churn),
        ("leak", Self::Leak),
        ("fill", Self::Fill),
        ("load", Self::Load),
        ("collectives", Self::Collectives),
        ("every", Self::Every),
        ("hold", Self::Hold),
    ];

    pub(crate) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, work)| *work == self).map_or("", |(name, _)| name)
    }
}

/// By which functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layer {
    Driver,
    PerThread,
    Runtime,
}

impl Layer {
    const ALL: [(&str, Self); 3] =
        [("driver", Self::Driver), ("per-thread", Self::PerThread), ("runtime", Self::Runtime)];

    pub(crate) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, layer)| *layer == self).map_or("", |(name, _)| name)
    }
}

/// A rank and a step.
pub(crate) type At = (u32, u64);

/// See [`HELP`].
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) work: Work,
    pub(crate) steps: Option<u64>,
    pub(crate) lasts: Option<Duration>,
    pub(crate) rate: Option<f64>,
    pub(crate) progress: Option<Duration>,
    pub(crate) launches: u64,
    pub(crate) copy: u64,
    pub(crate) bytes: u64,
    pub(crate) allreduce: u64,
    pub(crate) threads: u32,
    pub(crate) layer: Layer,
    pub(crate) libraries: Option<PathBuf>,
    pub(crate) cuda: String,
    pub(crate) device: Option<i32>,
    /// What the stand-in of the driver plays, as `name=number`.
    pub(crate) driver: Vec<String>,
    pub(crate) ranks: u32,
    pub(crate) rank: Option<u32>,
    pub(crate) id: Option<String>,
    pub(crate) at_once: bool,
    pub(crate) split: Option<u32>,
    pub(crate) stop: Option<At>,
    pub(crate) stop_for: Option<Duration>,
    pub(crate) abort: Option<At>,
    pub(crate) wait: bool,
    pub(crate) is_attached: bool,
    pub(crate) hold: bool,
    pub(crate) keep: bool,
    pub(crate) pid_file: Option<PathBuf>,
    pub(crate) pid_line: String,
}

impl Options {
    fn new(work: Work) -> Self {
        Self {
            work,
            steps: None,
            lasts: None,
            rate: None,
            progress: None,
            launches: 10,
            copy: 64 << 10,
            bytes: 1 << 20,
            allreduce: 1 << 20,
            threads: 1,
            layer: Layer::Driver,
            libraries: None,
            cuda: "libcuda.so.1".into(),
            device: None,
            driver: Vec::new(),
            ranks: 0,
            rank: None,
            id: None,
            at_once: false,
            split: None,
            stop: None,
            stop_for: None,
            abort: None,
            wait: false,
            is_attached: false,
            hold: false,
            keep: false,
            pid_file: None,
            pid_line: String::new(),
        }
    }

    /// Returns how many steps there are; without end where only the time says so.
    pub(crate) fn steps(&self) -> u64 {
        match (self.steps, self.lasts, self.rate) {
            (Some(steps), ..) => steps,
            // Ranks end together: by the number of steps, not by each one's clock.
            (None, Some(lasts), Some(rate)) if self.ranks > 0 => {
                (lasts.as_secs_f64() * rate).round() as u64
            }
            (None, Some(_), _) => u64::MAX,
            (None, None, _) => 10,
        }
    }

    /// Whether the work copies, or has collectives.
    pub(crate) fn has_buffers(&self) -> bool {
        matches!(self.work, Work::Train | Work::Copies | Work::Every | Work::Collectives)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "--steps" => self.steps = Some(number(value)?),
            "--seconds" => self.lasts = Some(seconds(value)?),
            "--rate" => {
                let rate: f64 = number(value)?;
                if !(rate > 0.0 && rate.is_finite()) {
                    return Err("a rate is more than 0".into());
                }
                self.rate = Some(rate);
            }
            "--progress" => self.progress = Some(seconds(value)?),
            "--launches" => self.launches = number(value)?,
            "--copy" => self.copy = number(value)?,
            "--bytes" => self.bytes = number(value)?,
            "--allreduce" => self.allreduce = number(value)?,
            "--threads" => self.threads = number(value)?,
            "--layer" => self.layer = named(&Layer::ALL, value)?,
            "--libraries" => self.libraries = Some(value.into()),
            "--cuda" => self.cuda = value.into(),
            "--device" => self.device = Some(number(value)?),
            "--devices" | "--memory-mib" | "--kernel-us" | "--copy-mib-s" | "--jit-ms" => {
                let value: u64 = number(value)?;
                self.driver.push(format!("{}={value}", &name[2..]));
            }
            "--ranks" => self.ranks = number(value)?,
            "--rank" => self.rank = Some(number(value)?),
            "--id" => self.id = Some(value.into()),
            "--split" => self.split = Some(number(value)?),
            "--stop" => self.stop = Some(at(value)?),
            "--stop-seconds" => self.stop_for = Some(seconds(value)?),
            "--abort" => self.abort = Some(at(value)?),
            "--pid-file" => self.pid_file = Some(value.into()),
            "--pid-line" => self.pid_line = value.into(),
            _ => return Err("there is no such option".into()),
        }
        Ok(())
    }

    fn switch(&mut self, name: &str) -> bool {
        let switch = match name {
            "--at-once" => &mut self.at_once,
            "--wait" => &mut self.wait,
            "--attached" => &mut self.is_attached,
            "--hold" => &mut self.hold,
            "--keep" => &mut self.keep,
            _ => return false,
        };
        *switch = true;
        true
    }

    /// Refuses what does not go together.
    fn check(&self) -> Result<(), String> {
        let has_ranks = self.ranks > 0;
        if self.rank.is_some() != self.id.is_some() {
            return Err("--rank and --id go together".into());
        }
        if self.rank.is_some_and(|rank| rank >= self.ranks) {
            return Err("--rank is less than --ranks".into());
        }
        if self.work == Work::Collectives && !has_ranks {
            return Err("collectives need --ranks".into());
        }
        if has_ranks && self.threads > 1 {
            return Err("a rank is one thread: --ranks without --threads".into());
        }
        if !has_ranks && (self.stop.is_some() || self.abort.is_some()) {
            return Err("--stop and --abort need --ranks".into());
        }
        if has_ranks && self.lasts.is_some() && self.steps.is_none() && self.rate.is_none() {
            return Err("with --ranks, --seconds needs --rate".into());
        }
        if self.at_once && (!has_ranks || self.rank.is_some() || self.device.is_some()) {
            return Err("--at-once needs --ranks, without --rank and --device".into());
        }
        if self.split.is_some_and(|parts| parts == 0 || parts > self.ranks) {
            return Err("--split is from 1 to --ranks".into());
        }
        if self.is_attached && self.hold {
            return Err("--attached or --hold: both read standard input".into());
        }
        if self.threads == 0 || self.launches == 0 || self.copy == 0 || self.bytes == 0 {
            return Err("numbers are more than 0".into());
        }
        Ok(())
    }
}

/// Reads the arguments behind the program's name.
pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Command, String> {
    let work = arguments.next().ok_or("what to do is missing")?;
    match work.as_str() {
        "--help" | "-h" | "help" => return Ok(Command::Help),
        "id" => return Ok(Command::Id),
        _ => {}
    }
    let mut options = Options::new(named(&Work::ALL, &work)?);
    while let Some(argument) = arguments.next() {
        let (name, value) = match argument.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (argument, None),
        };
        if value.is_none() && options.switch(&name) {
            continue;
        }
        if name == "--help" {
            return Ok(Command::Help);
        }
        let value = value.or_else(|| arguments.next()).ok_or(format!("{name} needs a value"))?;
        options.set(&name, &value).map_err(|error| format!("{name} {value}: {error}"))?;
    }
    options.check()?;
    Ok(Command::Run(Box::new(options)))
}

fn number<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

fn seconds(text: &str) -> Result<Duration, String> {
    Duration::try_from_secs_f64(number(text)?).map_err(|error| error.to_string())
}

fn at(text: &str) -> Result<At, String> {
    let (rank, step) = text.split_once(':').ok_or("it is RANK:STEP")?;
    Ok((number(rank)?, number(step)?))
}

fn named<T: Copy>(all: &[(&str, T)], name: &str) -> Result<T, String> {
    let names = || all.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let found = all.iter().find(|(known, _)| *known == name);
    found.map(|(_, value)| *value).ok_or_else(|| format!("{name:?} is none of {}", names()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> Result<Box<Options>, String> {
        match parse(line.split_whitespace().map(str::to_owned))? {
            Command::Run(options) => Ok(options),
            _ => Err("something else".into()),
        }
    }

    #[test]
    fn reads_a_line() {
        let options = options("train --steps 3 --stop=1:2 --ranks 2 --wait --kernel-us 5").unwrap();
        assert_eq!((options.work, options.steps()), (Work::Train, 3));
        assert_eq!((options.stop, options.ranks, options.wait), (Some((1, 2)), 2, true));
        assert_eq!(options.driver, ["kernel-us=5"]);
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        for line in [
            "",
            "dance",
            "train --steps",
            "train --steps many",
            "train --colour red",
            "train --rank 0",
            "train --ranks 2 --rank 2 --id 00",
            "train --stop 1:2",
            "train --ranks 2 --stop 1",
            "collectives",
            "launches --launches 0",
            "launches --rate 0",
            "launches --ranks 2 --threads 2",
            "train --ranks 2 --seconds 5",
            "train --hold --attached",
            "train --at-once",
            "train --ranks 2 --rank 0 --id 00 --at-once",
            "train --split 1",
            "train --ranks 2 --split 0",
            "train --ranks 2 --split 3",
        ] {
            assert!(options(line).is_err(), "{line}");
        }
    }

    #[test]
    fn the_help_has_every_work_and_option() {
        for (name, _) in Work::ALL {
            assert!(HELP.contains(&format!("\n  {name} ")), "{name}");
        }
        for (name, _) in Layer::ALL {
            assert!(HELP.contains(name), "{name}");
        }
    }
}

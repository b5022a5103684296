//! The steps, in as many threads as there are.

use std::ffi::c_int;
use std::sync::PoisonError;
use std::thread;
use std::time::{Duration, Instant};

use super::gpu::{Failure, Gpu};
use super::nccl::{Communicator, End};
use super::options::{At, Options};
use super::pace::Pace;
use super::program::Program;

mod job;
use job::Job;

/// What came of it.
pub(crate) struct Outcome {
    /// Steps of all threads.
    pub(crate) steps: u64,
    pub(crate) took: Duration,
    pub(crate) failure: Option<Failure>,
}

/// What one thread does: where, and as which rank.
#[derive(Clone, Copy)]
struct Place {
    device: c_int,
    rank: Option<u32>,
    /// Its communicator, where another thread joined for it.
    handle: Option<usize>,
}

/// Does all steps.
pub(crate) fn run(program: &Program, options: &Options) -> Outcome {
    let start = Instant::now();
    let places = match places(program, options) {
        Ok(places) => places,
        Err(failure) => {
            return Outcome { steps: 0, took: start.elapsed(), failure: Some(failure) };
        }
    };
    let ends: Vec<_> = thread::scope(|scope| {
        let work = |place| move || work(program, options, place);
        // Alone it works in the main thread, as most programs do.
        if let [place] = places[..] {
            return vec![work(place)()];
        }
        let threads: Vec<_> = places.into_iter().map(|place| scope.spawn(work(place))).collect();
        let died = || (0, Some(Failure { call: "thread", code: -1 }));
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| died())).collect()
    });
    Outcome {
        steps: ends.iter().map(|(steps, _)| steps).sum(),
        took: start.elapsed(),
        failure: ends.into_iter().find_map(|(_, failure)| failure),
    }
}

fn places(program: &Program, options: &Options) -> Result<Vec<Place>, Failure> {
    let device = |number: u32| options.device.unwrap_or(number.cast_signed());
    let place = |rank: u32| Place { device: device(rank), rank: Some(rank), handle: None };
    Ok(match (options.ranks, options.rank) {
        (0, _) => {
            let place = Place { device: device(0), rank: None, handle: None };
            vec![place; options.threads as usize]
        }
        (_, Some(rank)) => vec![place(rank)],
        (ranks, None) => {
            let mut places: Vec<Place> = (0..ranks).map(place).collect();
            if let Some(nccl) = program.nccl.as_ref().filter(|_| options.at_once) {
                program.gpu().enter(0)?;
                for (place, handle) in places.iter_mut().zip(nccl.join_all(ranks)?) {
                    place.handle = Some(handle);
                }
            }
            places
        }
    })
}

/// Does one thread's steps, and returns how many with what stopped it.
fn work(program: &Program, options: &Options, place: Place) -> (u64, Option<Failure>) {
    let mut pace = Pace::new(options);
    let failure = try_work(program, options, place, &mut pace).err();
    (pace.done(), failure)
}

fn try_work(
    program: &Program,
    options: &Options,
    place: Place,
    pace: &mut Pace,
) -> Result<(), Failure> {
    let gpu: Gpu<'_> = program.gpu();
    gpu.enter(place.device)?;
    let communicator = match (place.rank, &program.nccl) {
        (Some(rank), Some(nccl)) => Some(match place.handle {
            Some(handle) => nccl.communicator(handle, rank, options.ranks),
            None => nccl.join(program.id, rank, options.ranks)?,
        }),
        _ => None,
    };
    let part = match (&communicator, options.split) {
        (Some(whole), Some(parts)) => Some(whole.split(parts)?),
        _ => None,
    };
    let working = part.as_ref().or(communicator.as_ref());
    *pace = Pace::new(options);
    let mut job = Job::new(gpu, options)?;
    let mut end = End::Destroyed;
    while let Some(step) = pace.next() {
        if let (Some(rank), Some(working)) = (place.rank, working)
            && is_over(rank, working, options, step)?
        {
            end = End::Aborted;
            break;
        }
        job.step(working)?;
        program.progress.step();
    }
    for communicator in part.into_iter().chain(communicator) {
        let communicator = communicator.end(end)?;
        program.communicators.lock().unwrap_or_else(PoisonError::into_inner).push(communicator);
    }
    job.end(options.keep)
}

/// Stops where it should, and says whether this rank gives up before a step.
fn is_over(
    rank: u32,
    working: &Communicator<'_>,
    options: &Options,
    step: u64,
) -> Result<bool, Failure> {
    let is_now = |at: Option<At>| at == Some((rank, step));
    if is_now(options.stop) {
        match options.stop_for {
            Some(time) => thread::sleep(time),
            None => loop {
                thread::park();
            },
        }
    }
    Ok(is_now(options.abort) || working.is_broken()?)
}

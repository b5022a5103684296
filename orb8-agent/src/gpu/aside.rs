//! Work that may never return: a driver's file of a device that is dying, say.
//!
//! It is done on a thread of its own. One that is late is left behind, and nothing new is begun in
//! its place before it returns: so no more than one thread waits in one place, and the process can
//! end without it.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

/// A state that work is done with, one piece at a time.
#[derive(Debug)]
pub(super) struct Aside<T, R> {
    /// Of the thread, for who looks with `ps -L`.
    name: String,
    idle: Option<T>,
    busy: Option<(Instant, oneshot::Receiver<(T, R)>)>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Late {
    /// It has not come for so long.
    #[error("no answer for {} ms: the driver or the kernel does not return from a read", .0.as_millis())]
    Waiting(Duration),
    /// A thread could not be made.
    #[error("no thread could be started: {0}")]
    Thread(#[from] io::Error),
    /// The thread panicked and took its state along.
    #[error("reading stopped by an error of orb8's own, see its log; restart the agent")]
    Gone,
}

impl<T: Send + 'static, R: Send + 'static> Aside<T, R> {
    /// Takes the state that work is done with.
    pub(super) fn new(name: impl Into<String>, state: T) -> Self {
        Self { name: name.into(), idle: Some(state), busy: None }
    }

    /// Does a piece of work, or waits for one that was late, and returns its result.
    ///
    /// # Errors
    ///
    /// [`Late`] where there is none within the time.
    pub(super) async fn run(
        &mut self,
        within: Duration,
        work: impl FnOnce(&mut T) -> R + Send + 'static,
    ) -> Result<R, Late> {
        if let Some(state) = self.idle.take() {
            // Through a slot, so that it is not lost where no thread can be had.
            let slot = Arc::new(Mutex::new(Some(state)));
            let inside = Arc::clone(&slot);
            let (sender, receiver) = oneshot::channel();
            let spawned = thread::Builder::new().name(self.name.clone()).spawn(move || {
                let Some(mut state) = take(&inside) else { return };
                let result = work(&mut state);
                // Nobody waits any more when the agent stops.
                let _ = sender.send((state, result));
            });
            if let Err(error) = spawned {
                self.idle = take(&slot);
                return Err(error.into());
            }
            self.busy = Some((Instant::now(), receiver));
        }
        let Some((since, receiver)) = &mut self.busy else { return Err(Late::Gone) };
        match tokio::time::timeout(within, receiver).await {
            Ok(Ok((state, result))) => {
                self.idle = Some(state);
                self.busy = None;
                Ok(result)
            }
            Ok(Err(_)) => {
                self.busy = None;
                Err(Late::Gone)
            }
            Err(_) => Err(Late::Waiting(since.elapsed())),
        }
    }
}

fn take<T>(slot: &Mutex<Option<T>>) -> Option<T> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const SOON: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn what_is_late_is_waited_for_and_not_begun_again() {
        let (release, gate) = mpsc::sync_channel::<()>(1);
        let mut aside = Aside::new("test", (gate, 0_u32));
        let work = |(gate, runs): &mut (mpsc::Receiver<()>, u32)| {
            *runs += 1;
            gate.recv().expect("released");
            *runs
        };
        assert!(matches!(aside.run(SOON, work).await, Err(Late::Waiting(_))));
        let late = aside.run(SOON, work).await.unwrap_err();
        assert!(matches!(late, Late::Waiting(waited) if waited >= SOON * 2), "{late}");
        release.send(()).unwrap();
        assert_eq!(aside.run(Duration::from_secs(10), work).await.unwrap(), 1);
        release.send(()).unwrap();
        assert_eq!(aside.run(Duration::from_secs(10), work).await.unwrap(), 2);
    }

    #[tokio::test]
    async fn a_panic_is_told_each_time() {
        let mut aside: Aside<(), ()> = Aside::new("test-panics", ());
        for _ in 0..2 {
            let late = aside.run(Duration::from_secs(10), |()| panic!("as the test asks")).await;
            assert!(matches!(late, Err(Late::Gone)));
        }
    }
}

//! A connection whose patience ends.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// How a connection was left. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub(super) struct Course(Arc<CourseState>);

#[derive(Debug, Default)]
struct CourseState {
    /// Bytes of a request came, and its answer was not sent yet.
    has_request: AtomicBool,
    /// An answer was sent.
    has_answered: AtomicBool,
    /// An answer was not read in time.
    is_unread: AtomicBool,
}

impl Course {
    /// Whether the other end was to say something, and did not: an idle connection that was of use
    /// before is none.
    pub(super) fn lacks_request(&self) -> bool {
        self.0.has_request.load(Relaxed) || !self.0.has_answered.load(Relaxed)
    }

    pub(super) fn is_unread(&self) -> bool {
        self.0.is_unread.load(Relaxed)
    }
}

/// A stream of which each answer has to be taken in time, as a whole: one byte now and then is not
/// enough. What was not is thrown away, in the kernel as well.
#[derive(Debug)]
pub(super) struct Patient {
    stream: TcpStream,
    course: Course,
    patience: Duration,
    /// Some of an answer was written: what is flushed is it.
    has_written: bool,
    /// Runs while an answer waits to be taken.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    pub(super) fn new(stream: TcpStream, patience: Duration) -> (Self, Course) {
        let course = Course::default();
        let patient =
            Self { stream, course: course.clone(), patience, has_written: false, deadline: None };
        (patient, course)
    }

    /// Notes what the other end took; where that is nothing, fails when it had enough time.
    fn note(
        &mut self,
        taken: Poll<io::Result<usize>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if taken.is_ready() {
            self.has_written = true;
            return taken;
        }
        let patience = self.patience;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(deadline.as_mut().poll(cx));
        self.course.0.is_unread.store(true, Relaxed);
        // Without it, the kernel would keep what is on its way and try for minutes.
        let _ = self.stream.set_zero_linger();
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.course.0.has_request.store(true, Relaxed);
        }
        read
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let taken = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note(taken, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let taken = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.note(taken, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Called when all of an answer was written, and when there is nothing to write.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.deadline = None;
        if std::mem::take(&mut self.has_written) {
            self.course.0.has_request.store(false, Relaxed);
            self.course.0.has_answered.store(true, Relaxed);
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

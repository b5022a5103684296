//! The terminal: taken over, and given back whatever happens.

use std::io::{self, BufWriter, Stdout, Write};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use crossterm::event::{DisableMouseCapture, EnableMouseCapture};
use crossterm::{cursor, execute, terminal};
use ratatui::backend::CrosstermBackend;
use ratatui::{Frame, Terminal};

/// A frame of a large terminal where every cell changes.
const BUFFER: usize = 256 * 1024;

/// Whether the terminal is ours. Whoever sets it to false gives the terminal back.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// A terminal that is taken over. Dropped, it is as it was before; a panic gives it back first, so that
/// its message can be read.
#[derive(Debug)]
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<Stdout>>>,
}

impl Screen {
    pub(super) fn open(mouse: bool) -> io::Result<Self> {
        give_back_on_panic();
        terminal::enable_raw_mode()?;
        TAKEN.store(true, Ordering::SeqCst);
        let opened = Self::open_raw(mouse);
        if opened.is_err() {
            give_back();
        }
        opened
    }

    fn open_raw(mouse: bool) -> io::Result<Self> {
        let mut out = BufWriter::with_capacity(BUFFER, io::stdout());
        execute!(out, terminal::EnterAlternateScreen, cursor::Hide)?;
        let terminal = Terminal::new(CrosstermBackend::new(out))?;
        let mut screen = Self { terminal };
        if mouse {
            screen.set_mouse(true)?;
        }
        Ok(screen)
    }

    /// Draws what has changed.
    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        // After a panic elsewhere the terminal is the shell's.
        if TAKEN.load(Ordering::SeqCst) {
            self.terminal.draw(draw)?;
        }
        Ok(())
    }

    /// Forgets what is on the screen, so that all of it is drawn next.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        self.terminal.clear()
    }

    pub(super) fn set_mouse(&mut self, is_on: bool) -> io::Result<()> {
        let out = self.terminal.backend_mut();
        if is_on { execute!(out, EnableMouseCapture) } else { execute!(out, DisableMouseCapture) }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// Gives the terminal back, once.
fn give_back() {
    if !TAKEN.swap(false, Ordering::SeqCst) {
        return;
    }
    let mut out = io::stdout();
    // Where the terminal is gone, there is nothing to give back.
    let _ = execute!(out, DisableMouseCapture, terminal::LeaveAlternateScreen, cursor::Show);
    let _ = out.flush();
    let _ = terminal::disable_raw_mode();
}

fn give_back_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            give_back();
            report(panic);
        }));
    });
}

#[cfg(test)]
pub(super) mod tests;

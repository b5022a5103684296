//! `orb8 top`: what happens on the network and on accelerators, live.
//!
//! ```text
//! keys, mouse, sizes ─┐
//! ticks ──────────────┼─▶ Model::update ─▶ view ─▶ screen
//! poll ─answers───────┘        │ └─ effects: export, quit, …
//!   ▲                          │
//!   └────────── plan ──────────┘  what to ask next
//! ```
//! Nothing that takes time is between a key and what it does: [`poll`] asks beside it, and what is
//! shown meanwhile is what was known. [`keys`] has the one table of keys.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::Duration;

use crossterm::event::{Event, EventStream, MouseButton, MouseEventKind};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;

use crate::args::{GlobalArgs, OutputFormat, TopArgs};
use crate::connection::{Connection, Fallback};
use crate::console::Console;
use crate::error::{CliError, Exit};
use model::{Effect, Input, Model, Settings};
use poll::Heard;
use screen::Screen;
use view::{Canvas, Charset};

mod ansi;
mod doings;
mod export;
mod filter;
mod focus;
mod keys;
mod list;
mod listed;
mod model;
mod poll;
mod problems;
mod screen;
mod trail;
mod view;

#[cfg(test)]
pub(crate) use keys::markdown as keys_markdown;

/// How often the clock moves, and what is overdue is told, whatever answers come.
const TICK: Duration = Duration::from_secs(1);

/// One part of the screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tab {
    #[default]
    Overview,
    Flows,
    Workloads,
    Dns,
    Tcp,
    Gpu,
    Agent,
}

impl Tab {
    /// Every tab with its word, in order.
    pub(crate) const WORDS: &[(Self, &'static str)] = &[
        (Self::Overview, "overview"),
        (Self::Flows, "flows"),
        (Self::Workloads, "workloads"),
        (Self::Dns, "dns"),
        (Self::Tcp, "tcp"),
        (Self::Gpu, "gpu"),
        (Self::Agent, "agent"),
    ];

    const ALL: [Self; 7] = [
        Self::Overview,
        Self::Flows,
        Self::Workloads,
        Self::Dns,
        Self::Tcp,
        Self::Gpu,
        Self::Agent,
    ];

    const fn word(self) -> &'static str {
        Self::WORDS[self as usize].1
    }

    const fn next(self) -> Self {
        Self::ALL[(self as usize + 1) % Self::ALL.len()]
    }

    const fn previous(self) -> Self {
        Self::ALL[(self as usize + Self::ALL.len() - 1) % Self::ALL.len()]
    }
}

/// Shows what happens until someone has seen enough.
pub(crate) async fn run(
    global: &GlobalArgs,
    args: &TopArgs,
    console: &mut Console,
) -> Result<Exit, CliError> {
    check(global, console)?;
    let connection = Connection::open(global, Fallback::Engine(&args.engine), console).await?;
    let (connection, result) = follow(connection, args, console).await;
    if let Some(connection) = connection {
        connection.close().await;
    }
    result.map(|()| Exit::Success)
}

/// Refuses what cannot be drawn on, and what asks for something else.
fn check(global: &GlobalArgs, console: &Console) -> Result<(), CliError> {
    const INSTEAD: &str = "`orb8 workloads --watch` prints the same again and again, and with \
                           `-o json` for programs";
    let problem = if !matches!(global.output, OutputFormat::Table | OutputFormat::Wide) {
        "top draws on a terminal: it has no output format"
    } else if console.terminal.is_none() {
        "top draws on a terminal, and standard output is none"
    } else if !io::stdin().is_terminal() {
        "top reads keys, and standard input is no terminal"
    } else if std::env::var_os("TERM").is_some_and(|term| term == "dumb") {
        "top draws on a terminal, and TERM=dumb says that this one cannot"
    } else {
        return Ok(());
    };
    Err(CliError::Usage(format!("{problem}\n  {INSTEAD}")))
}

/// What is left of following: the connection, unless it was lost to a panic, and how it ended.
type Followed = (Option<Connection>, Result<(), CliError>);

async fn follow(connection: Connection, args: &TopArgs, console: &mut Console) -> Followed {
    let mut model = match model(&connection, args, console) {
        Ok(model) => model,
        Err(error) => return (Some(connection), Err(error)),
    };
    let (plans, plan) = watch::channel(model.plan().clone());
    // One on its way: more would be old when they are shown.
    let (heard, answers) = mpsc::channel(1);
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let mut poller = tokio::spawn(poll::poll(connection, plan, heard, args.interval, stop.clone()));
    let (interrupt, now_ns) = (console.interrupt.clone(), console.now_ns.clone());
    let shown = Shown { args, plans, answers, interrupt, now_ns };
    let result = tokio::select! {
        result = shown.run(&mut model) => result,
        ended = &mut poller => {
            let reason = ended.err().map(|error| error.to_string()).unwrap_or_default();
            return (None, Err(CliError::Failed(format!("asking the agent failed: {reason}"))));
        }
    };
    stop.cancel();
    (poller.await.ok(), result)
}

fn model(connection: &Connection, args: &TopArgs, console: &Console) -> Result<Model, CliError> {
    let settings = Settings {
        agent: connection.name.clone(),
        include_self: args.include_self,
        colors: console.colors,
        time_zone: console.time_zone.clone(),
        interval: u64::try_from(args.interval.as_nanos()).unwrap_or(u64::MAX),
    };
    let size = console.terminal.map_or((80, 24), |terminal| (terminal.width, terminal.height));
    let mut model = Model::new(settings, args.tab(), size, (console.now_ns)());
    model.mouse = args.mouse;
    let words = args.filters.words.iter().map(String::as_str);
    let filter = shlex::try_join(words).map_err(|error| CliError::Usage(error.to_string()))?;
    model.filter_all(&filter).map_err(CliError::Usage)?;
    Ok(model)
}

/// The screen, and what it hears.
struct Shown<'a> {
    args: &'a TopArgs,
    plans: watch::Sender<poll::Plan>,
    answers: mpsc::Receiver<Heard>,
    interrupt: CancellationToken,
    /// The clock: Unix time in nanoseconds.
    now_ns: Arc<dyn Fn() -> u64 + Send + Sync>,
}

impl Shown<'_> {
    async fn run(mut self, model: &mut Model) -> Result<(), CliError> {
        // crossterm would leave them out by NO_COLOR alone, even where a flag wants them.
        crossterm::style::force_color_output(model.settings.colors);
        let mut hangup = signal(SignalKind::hangup())
            .map_err(|error| CliError::Failed(format!("cannot hear of a hangup: {error}")))?;
        let mut events = EventStream::new();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut canvas = Canvas::new(Charset::of_locale(|name| std::env::var_os(name)));
        let mut screen = Screen::open(model.mouse)?;
        loop {
            screen.draw(|frame| view::draw(frame, model, &mut canvas))?;
            let input = tokio::select! {
                biased;
                () = self.interrupt.cancelled() => return Ok(()),
                _ = hangup.recv() => return Ok(()),
                event = events.next() => match event {
                    Some(Ok(event)) => self::input(&event),
                    Some(Err(error)) => {
                        return Err(CliError::Failed(format!("cannot read keys: {error}")));
                    }
                    // Nobody can press a key any more.
                    None => return Ok(()),
                },
                Some(heard) = self.answers.recv() => Some(Input::Heard(heard)),
                _ = ticks.tick() => Some(Input::Tick),
            };
            let Some(input) = input else { continue };
            let effect = model.update(input, (self.now_ns)());
            if let Some(effect) = effect
                && self.is_last(effect, model, &mut screen)?
            {
                return Ok(());
            }
            self.plans.send_if_modified(|plan| {
                let is_new = plan != model.plan();
                if is_new {
                    plan.clone_from(model.plan());
                }
                is_new
            });
        }
    }

    /// Does what the model asks for, and returns whether that was the last thing to do.
    fn is_last(
        &self,
        effect: Effect,
        model: &mut Model,
        screen: &mut Screen,
    ) -> Result<bool, CliError> {
        match effect {
            Effect::Quit => return Ok(true),
            Effect::Clear => screen.clear()?,
            Effect::Mouse(is_on) => {
                screen.set_mouse(is_on)?;
                let text = match is_on {
                    true => "the mouse chooses tabs and rows; m gives it back to the terminal",
                    false => "the mouse is the terminal's",
                };
                model.update(Input::Note(text.to_owned()), (self.now_ns)());
            }
            Effect::Export(format) => {
                let written = export::write(model, format, &self.args.export_to);
                let text = match written {
                    Ok(path) => format!("wrote {}", path.display()),
                    Err(error) => error,
                };
                model.update(Input::Note(text), (self.now_ns)());
            }
        }
        Ok(false)
    }
}

/// Returns what an event of the terminal means, `None` for nothing.
fn input(event: &Event) -> Option<Input> {
    match event {
        Event::Key(key) => Some(Input::Key(*key)),
        Event::Resize(width, height) => Some(Input::Resize(*width, *height)),
        Event::Mouse(mouse) => match mouse.kind {
            MouseEventKind::Down(MouseButton::Left) => Some(Input::Click(mouse.column, mouse.row)),
            MouseEventKind::ScrollUp => Some(Input::Wheel { is_up: true }),
            MouseEventKind::ScrollDown => Some(Input::Wheel { is_up: false }),
            _ => None,
        },
        Event::FocusGained | Event::FocusLost | Event::Paste(_) => None,
    }
}

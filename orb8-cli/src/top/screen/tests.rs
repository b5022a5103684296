//! The terminal is given back: seen in a real one, which tmux makes.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::*;

/// A tmux server of the test's own.
struct Tmux {
    folder: tempfile::TempDir,
}

impl Tmux {
    /// Runs a shell's command line in a terminal of the usual size.
    fn start(line: &str) -> Self {
        let tmux = Self { folder: tempfile::tempdir().unwrap() };
        let size = ["-x", "80", "-y", "24"];
        let args = [&["new-session", "-d"], &size[..], &[line]].concat();
        assert!(tmux.command().args(args).status().unwrap().success());
        tmux
    }

    fn command(&self) -> Command {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(self.folder.path().join("socket")).args(["-f", "/dev/null"]);
        command.env_remove("TMUX").stdin(Stdio::null());
        command
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = self.command().arg("kill-server").stderr(Stdio::null()).status();
    }
}

fn content(path: &Path) -> String {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        // The last line that the shell writes.
        if text.contains("done") || Instant::now() > end {
            return text;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Not a test: what the one below runs in a terminal.
#[test]
#[ignore = "takes the terminal over; another test runs it in one of its own"]
fn panics_on_a_screen() {
    let mut screen = Screen::open(true).unwrap();
    screen.draw(|frame| frame.render_widget("drawn", frame.area())).unwrap();
    let elsewhere = std::thread::spawn(|| panic!("on purpose"));
    assert!(elsewhere.join().is_err());
    // Nothing more is drawn on what is the shell's again.
    screen.draw(|frame| frame.render_widget("drawn late", frame.area())).unwrap();
}

#[test]
fn a_panic_gives_the_terminal_back() {
    if Command::new("tmux").arg("-V").output().is_err() {
        println!("SKIPPED a_panic_gives_the_terminal_back: there is no tmux");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let seen = folder.path().join("seen");
    let program = std::env::current_exe().unwrap();
    let test = "top::screen::tests::panics_on_a_screen";
    let line = format!(
        "'{}' --ignored --exact {test} --nocapture 2>&1; (stty -a; echo done) > '{}'; sleep 60",
        program.display(),
        seen.display()
    );
    let tmux = Tmux::start(&line);
    let modes = content(&seen);
    assert!(modes.contains(" icanon") && modes.contains(" echo "), "{modes}");
    let show = |args: &[&str]| {
        let output = tmux.command().args(args).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let screen = show(&["capture-pane", "-p"]);
    assert!(screen.contains("on purpose"), "its message can be read: {screen}");
    assert!(screen.contains("test result: ok. 1 passed"), "{screen}");
    assert!(!screen.contains("drawn"), "{screen}");
    let flags = show(&["display", "-p", "#{alternate_on} #{cursor_flag} #{mouse_any_flag}"]);
    assert_eq!(flags.trim(), "0 1 0", "alternate screen, cursor, mouse");
}

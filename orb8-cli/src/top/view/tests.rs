//! Frames, as a terminal shows them.

use std::fmt::Write as _;

use crossterm::event::KeyCode;
use insta::assert_snapshot;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::{Color, Style};

use super::*;
use crate::top::model::Input;
use crate::top::model::tests::Bench;

const SMALL: (u16, u16) = (80, 24);
const WIDE: (u16, u16) = (160, 50);

fn drawn(bench: &Bench, charset: Charset) -> Buffer {
    let (width, height) = bench.model.size;
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let mut canvas = Canvas::new(charset);
    terminal.draw(|frame| draw(frame, &bench.model, &mut canvas)).unwrap();
    terminal.backend().buffer().clone()
}

/// The characters, without blanks at the ends of lines.
fn frame(bench: &Bench) -> String {
    let buffer = drawn(bench, Charset::Unicode);
    let lines = buffer.content.chunks(buffer.area.width.into());
    let text = |line: &[ratatui::buffer::Cell]| {
        let line: String = line.iter().map(ratatui::buffer::Cell::symbol).collect();
        line.trim_end().to_owned()
    };
    lines.map(text).collect::<Vec<_>>().join("\n")
}

/// A tab with a few seconds of answers.
fn tab(key: char, size: (u16, u16)) -> Bench {
    let mut bench = Bench::new(size);
    bench.answer();
    bench.press(KeyCode::Char(key));
    bench.answer();
    bench.answer();
    bench
}

#[test]
fn overview_in_80x24() {
    assert_snapshot!(frame(&tab('1', SMALL)));
}

#[test]
fn overview_in_160x50() {
    assert_snapshot!(frame(&tab('1', WIDE)));
}

#[test]
fn flows_in_80x24() {
    assert_snapshot!(frame(&tab('2', SMALL)));
}

#[test]
fn flows_in_160x50() {
    assert_snapshot!(frame(&tab('2', WIDE)));
}

#[test]
fn workloads_in_80x24() {
    assert_snapshot!(frame(&tab('3', SMALL)));
}

#[test]
fn workloads_in_160x50() {
    assert_snapshot!(frame(&tab('3', WIDE)));
}

#[test]
fn dns_in_80x24() {
    assert_snapshot!(frame(&tab('4', SMALL)));
}

#[test]
fn dns_in_160x50() {
    assert_snapshot!(frame(&tab('4', WIDE)));
}

#[test]
fn tcp_in_80x24() {
    assert_snapshot!(frame(&tab('5', SMALL)));
}

#[test]
fn tcp_in_160x50() {
    assert_snapshot!(frame(&tab('5', WIDE)));
}

/// A tab of a node that has accelerators.
fn accelerators(key: char, size: (u16, u16)) -> Bench {
    let mut bench = Bench::new(size);
    bench.accelerators = Some(crate::tests::samples::gpu::answer());
    bench.answer();
    bench.press(KeyCode::Char(key));
    bench.answer();
    bench.answer();
    bench
}

#[test]
fn gpu_in_80x24() {
    assert_snapshot!(frame(&accelerators('6', SMALL)));
}

#[test]
fn gpu_in_200x50() {
    assert_snapshot!(frame(&accelerators('6', (200, 50))));
}

#[test]
fn gpu_in_color() {
    let mut bench = Bench::with(SMALL, true);
    bench.accelerators = Some(crate::tests::samples::gpu::answer());
    bench.press(KeyCode::Char('6'));
    bench.answer();
    assert_snapshot!(styles(&drawn(&bench, Charset::Unicode)));
}

#[test]
fn gpu_details_in_80x24() {
    let mut bench = accelerators('6', SMALL);
    bench.press(KeyCode::Enter);
    assert_snapshot!(frame(&bench));
}

#[test]
fn gpu_without_any_in_80x24() {
    assert_snapshot!(frame(&tab('6', SMALL)));
}

#[test]
fn an_agent_without_the_signal_says_so() {
    let mut bench = Bench::new(SMALL);
    bench.press(KeyCode::Char('6'));
    let mut answer = crate::top::model::tests::answers(bench.model.plan());
    answer.status.sources.retain(|source| source.name == "flow");
    answer.gpu = Some(Ok(orb8_proto::v1::QueryGpuResponse::default()));
    let heard = crate::top::poll::Heard::Answer(Box::new(answer));
    bench.model.update(Input::Heard(heard), bench.model.now_ns);
    let text = frame(&bench);
    let expected = "the agent does not run the gpu signal: it runs flow only; --signals chooses";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn problems_of_accelerators_in_80x24() {
    let mut bench = accelerators('1', SMALL);
    bench.press(KeyCode::Char('p'));
    assert_snapshot!(frame(&bench));
}

/// Eight boards in seven parts each: what has no room is counted, and what is lost among it is said.
#[test]
fn devices_without_room_are_counted() {
    let mut bench = accelerators('6', SMALL);
    let mut many = crate::tests::samples::gpu::answer();
    many.devices = many.devices.iter().cycle().take(64).cloned().collect();
    bench.accelerators = Some(many);
    bench.answer();
    let text = frame(&bench);
    assert!(text.contains("\n… 56 more, 9 lost\n"), "{text}");
    assert!(text.contains("parts by device") && text.contains("llama-trainer-0"), "{text}");
}

/// Who looks for one that has no room selects who has it.
#[test]
fn the_device_of_the_selected_part_is_shown() {
    let mut bench = accelerators('6', SMALL);
    let mut many = crate::tests::samples::gpu::answer();
    let board = many.devices[0].clone();
    let numbered = |at: u32| {
        let mut device = board.clone();
        device.id = format!("GPU-{at:02}");
        device.index = Some(at);
        device.shares.iter_mut().for_each(|share| share.device.clone_from(&device.id));
        device
    };
    many.devices = (0..64).map(numbered).collect();
    bench.accelerators = Some(many);
    bench.answer();
    let is_shown = |text: &str, at: u32| {
        let devices = text.split("parts by device").next().unwrap_or_default();
        devices.lines().any(|line| line.trim_start().starts_with(&format!("{at} ")))
    };
    let before = frame(&bench);
    assert!(is_shown(&before, 0) && !is_shown(&before, 63), "{before}");
    bench.press(KeyCode::End);
    let after = frame(&bench);
    assert!(!is_shown(&after, 0) && is_shown(&after, 63), "{after}");
    assert!(after.contains("\n… 56 more\n"), "{after}");
}

#[test]
fn agent_in_80x24() {
    assert_snapshot!(frame(&tab('7', SMALL)));
}

#[test]
fn agent_in_160x50() {
    assert_snapshot!(frame(&tab('7', WIDE)));
}

fn opened(size: (u16, u16)) -> Bench {
    let mut bench = tab('3', size);
    bench.press(KeyCode::Down);
    bench.press(KeyCode::Up);
    bench.press(KeyCode::Enter);
    bench.answer();
    bench
}

#[test]
fn workload_in_80x24() {
    assert_snapshot!(frame(&opened(SMALL)));
}

#[test]
fn workload_in_160x50() {
    assert_snapshot!(frame(&opened(WIDE)));
}

#[test]
fn help_in_80x24() {
    let mut bench = tab('3', SMALL);
    bench.press(KeyCode::Char('?'));
    assert_snapshot!(frame(&bench));
}

#[test]
fn details_in_80x24() {
    let mut bench = tab('2', SMALL);
    bench.press(KeyCode::Enter);
    assert_snapshot!(frame(&bench));
}

#[test]
fn a_filter_that_is_refused_in_80x24() {
    let mut bench = tab('4', SMALL);
    bench.type_text("/-n ml --port 53");
    bench.press(KeyCode::Enter);
    assert_snapshot!(frame(&bench));
}

#[test]
fn an_agent_that_is_away_in_80x24() {
    let mut bench = tab('2', SMALL);
    bench.silence(7);
    assert_snapshot!(frame(&bench));
}

#[test]
fn nothing_yet_in_80x24() {
    assert_snapshot!(frame(&Bench::new(SMALL)));
}

#[test]
fn anything_in_20x5() {
    for key in '1'..='7' {
        let text = frame(&tab(key, (20, 5)));
        assert!(text.contains("orb8 top needs"), "{text}");
    }
    assert_snapshot!(frame(&tab('2', (20, 5))));
}

#[test]
fn no_size_breaks_it() {
    for width in [0, 1, 2, 20, 39, 40, 41, 79, 80, 119, 120, 200, 400] {
        for height in [0, 1, 2, 5, 9, 10, 11, 24, 34, 35, 60, 100] {
            for key in '1'..='7' {
                let mut bench = accelerators(key, (width, height));
                drawn(&bench, Charset::Unicode);
                for code in [KeyCode::Enter, KeyCode::Char('?'), KeyCode::Char('/')] {
                    bench.press(code);
                    bench.answer();
                    drawn(&bench, Charset::Unicode);
                }
            }
        }
    }
}

#[test]
fn a_frame_may_be_drawn_before_its_size_is_heard_of() {
    let bench = tab('1', (300, 100));
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
    let mut canvas = Canvas::default();
    terminal.draw(|frame| draw(frame, &bench.model, &mut canvas)).unwrap();
}

/// Runs of cells with the same style, by line.
fn styles(buffer: &Buffer) -> String {
    let mut text = String::new();
    for line in buffer.content.chunks(buffer.area.width.into()) {
        let mut runs: Vec<(Style, String)> = Vec::new();
        for cell in line {
            match runs.last_mut() {
                Some((style, run)) if *style == cell.style() => run.push_str(cell.symbol()),
                _ => runs.push((cell.style(), cell.symbol().to_owned())),
            }
        }
        for (style, run) in runs {
            let run = run.trim();
            if run.is_empty() {
                continue;
            }
            let color = style.fg.filter(|color| *color != Color::Reset);
            let color = color.map(|color| format!("{color} ")).unwrap_or_default();
            let modifiers = format!("{:?}", style.add_modifier);
            writeln!(text, "{color}{modifiers}: {run}").unwrap();
        }
    }
    text.replace("NONE: ", "plain: ")
}

#[test]
fn overview_in_color() {
    let mut bench = Bench::with(SMALL, true);
    bench.answer();
    bench.answer();
    assert_snapshot!(styles(&drawn(&bench, Charset::Unicode)));
}

#[test]
fn without_colors_there_are_none() {
    for key in '1'..='7' {
        let mut bench = accelerators(key, WIDE);
        for code in [KeyCode::Enter, KeyCode::Char('?')] {
            bench.press(code);
            let buffer = drawn(&bench, Charset::Unicode);
            let is_plain = |cell: &ratatui::buffer::Cell| {
                let modifiers = cell.style().add_modifier;
                let colors = (cell.fg, cell.bg) == (Color::Reset, Color::Reset);
                colors && Modifier::REVERSED.contains(modifiers)
            };
            assert!(buffer.content.iter().all(is_plain), "{key} {code:?}");
        }
    }
}

#[test]
fn ascii_is_enough() {
    for key in '1'..='7' {
        let mut bench = accelerators(key, WIDE);
        bench.press(KeyCode::Char('?'));
        for _ in ["help", "the tab"] {
            let (unicode, ascii) = (drawn(&bench, Charset::Unicode), drawn(&bench, Charset::Ascii));
            for (unicode, ascii) in unicode.content.iter().zip(&ascii.content) {
                assert!(ascii.symbol().is_ascii());
                let is_unknown = ascii.symbol() == "?" && unicode.symbol() != "?";
                assert!(!is_unknown, "{key}: {}", unicode.symbol());
            }
            bench.press(KeyCode::Esc);
        }
    }
}

#[test]
fn columns_do_not_jump_from_one_answer_to_the_next() {
    let mut bench = tab('3', SMALL);
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
    let mut canvas = Canvas::default();
    let mut header = |bench: &Bench| {
        terminal.draw(|frame| draw(frame, &bench.model, &mut canvas)).unwrap();
        let buffer = terminal.backend().buffer();
        (0..80).map(|x| buffer[(x, 3)].symbol().to_owned()).collect::<String>()
    };
    let before = header(&bench);
    let mut answer = crate::top::model::tests::answers(bench.model.plan());
    if let Some(Ok(answer)) = &mut answer.workloads {
        answer.workloads.truncate(0);
    }
    let heard = crate::top::poll::Heard::Answer(Box::new(answer));
    bench.model.update(Input::Heard(heard), bench.model.now_ns);
    assert_eq!(header(&bench), before);
}

/// What a second of the screen costs, at one answer a second: taking it in, and drawing it. Prints how
/// much that is; `--nocapture` shows it.
#[test]
fn a_redraw_costs_little() {
    const ANSWERS: u32 = 10;
    // Not optimized, and on a machine that does other things too.
    const MOST: std::time::Duration = std::time::Duration::from_millis(30);
    for size in [SMALL, (200, 60)] {
        for key in ['1', '2', '3', '6'] {
            let mut bench = accelerators(key, size);
            let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).unwrap();
            let mut canvas = Canvas::default();
            let mut answer = crate::top::model::tests::answers(bench.model.plan());
            answer.gpu = answer.gpu.map(|_| Ok(crate::tests::samples::gpu::answer()));
            multiply(&mut answer, 500);
            let mut least = std::time::Duration::MAX;
            for second in 0..ANSWERS {
                let heard = crate::top::poll::Heard::Answer(Box::new(answer.clone()));
                let begin = std::time::Instant::now();
                bench.model.update(Input::Heard(heard), bench.model.now_ns + u64::from(second));
                terminal.draw(|frame| draw(frame, &bench.model, &mut canvas)).unwrap();
                least = least.min(begin.elapsed());
            }
            let share = least.as_secs_f64() * 100.0;
            println!("tab {key} in {}x{}: {least:?}, {share:.2} % of a core", size.0, size.1);
            assert!(least < MOST, "tab {key}: {least:?}");
        }
    }
}

/// Makes a busy node of the samples.
fn multiply(answer: &mut crate::top::poll::Answer, rows: usize) {
    if let Some(Ok(flows)) = &mut answer.flows {
        let more = flows.flows.iter().cycle().take(rows).enumerate();
        flows.flows = more
            .map(|(at, flow)| orb8_proto::v1::Flow { first_seen_ns: at as u64, ..flow.clone() })
            .collect();
    }
    if let Some(Ok(workloads)) = &mut answer.workloads {
        let more = workloads.workloads.iter().cycle().take(rows).enumerate();
        workloads.workloads = more
            .map(|(at, row)| orb8_proto::v1::WorkloadSummary {
                key: format!("{at} {}", row.key),
                ..row.clone()
            })
            .collect();
    }
    if let Some(Ok(gpus)) = &mut answer.gpu {
        // No node has more: eight boards in seven parts each.
        let more = gpus.devices.iter().cycle().take(64).enumerate();
        gpus.devices = more
            .map(|(at, of)| orb8_proto::v1::GpuDevice {
                id: format!("{at} {}", of.id),
                ..of.clone()
            })
            .collect();
    }
}

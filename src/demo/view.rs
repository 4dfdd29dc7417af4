//! The picture: a screen that refreshes in place, or a line every now and then.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::Duration;

use super::figures::{BudgetFigures, Frame, InputFigures, OutputFigures};

/// Size of the screen in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Characters a line.
    pub columns: usize,
    /// Lines.
    pub rows: usize,
}

/// Graphite lines that are shown.
pub(super) const LINES: usize = 3;
/// Warnings and errors that are shown.
pub(super) const LOG_LINES: usize = 5;
/// Lines that the log has on any screen that is not tiny, with its heading.
const LEAST_LOG: usize = 4;
/// Budgets that are shown.
const BUDGETS: usize = 4;
/// Characters of an input's cell.
const CELL: usize = 38;
/// Characters of a bar.
const BAR: usize = 20;

/// The screen of a terminal, in its alternate buffer until this is dropped.
#[derive(Debug)]
pub(super) struct Screen {
    out: io::Stdout,
}

impl Screen {
    /// Changes to the alternate screen and hides the cursor.
    pub fn open() -> io::Result<Self> {
        let screen = Self { out: io::stdout() };
        screen.out.lock().write_all(b"\x1b[?1049h\x1b[?25l\x1b[2J")?;
        Ok(screen)
    }

    /// Draws a picture over the last one.
    pub fn draw(&mut self, frame: &Frame) -> io::Result<()> {
        let size = self.size();
        let mut picture = String::from("\x1b[H");
        let lines = picture_of(frame, size);
        for (row, line) in lines.iter().enumerate() {
            // Without the break after the last line, the screen does not scroll.
            picture.push_str(if row == 0 { "" } else { "\r\n" });
            match line {
                Line::Heading(text) => drop(write!(picture, "\x1b[1m{text}\x1b[0m\x1b[K")),
                Line::Alarm(text) => drop(write!(picture, "\x1b[33m{text}\x1b[0m\x1b[K")),
                Line::Plain(text) => drop(write!(picture, "{text}\x1b[K")),
            }
        }
        picture.push_str("\x1b[J");
        let mut out = self.out.lock();
        out.write_all(picture.as_bytes())?;
        out.flush()
    }

    /// The size of the terminal, or that of old ones if it does not say.
    fn size(&self) -> Size {
        match rustix::termios::tcgetwinsize(&self.out) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
                Size { columns: usize::from(size.ws_col), rows: usize::from(size.ws_row) }
            }
            _ => Size { columns: 80, rows: 24 },
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // The terminal may be gone.
        let _ = self.out.lock().write_all(b"\x1b[?25h\x1b[?1049l");
        let _ = self.out.flush();
    }
}

/// A line of the picture and how it stands out.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Line {
    Heading(String),
    Plain(String),
    Alarm(String),
}

impl Line {
    /// Cuts to a number of characters; what would move the cursor becomes a question mark.
    fn fit(self, columns: usize) -> Self {
        let cut = |text: String| {
            text.trim_end().chars().take(columns).map(|c| if c.is_control() { '?' } else { c }).collect::<String>()
        };
        match self {
            Self::Heading(text) => Self::Heading(cut(text)),
            Self::Plain(text) => Self::Plain(cut(text)),
            Self::Alarm(text) => Self::Alarm(cut(text)),
        }
    }
}

/// The picture, never larger than the screen. A small one has no gaps and fewer budgets, so that the log has some lines.
fn picture_of(frame: &Frame, size: Size) -> Vec<Line> {
    let upper = |most| [head(frame), inputs(frame, size), outputs(frame), budgets(frame, most), graphite(frame)];
    let height = |sections: &[Vec<Line>]| sections.iter().map(Vec::len).sum::<usize>();
    let mut sections = upper(BUDGETS);
    let with_gaps = height(&sections) + sections.len() + LEAST_LOG <= size.rows;
    if !with_gaps {
        sections = upper(1);
    }
    let mut lines = Vec::new();
    for section in sections {
        lines.extend(section);
        if with_gaps {
            lines.push(Line::Plain(String::new()));
        }
    }
    lines.extend(log(frame, size.columns, size.rows.saturating_sub(lines.len())));
    lines.truncate(size.rows);
    lines.into_iter().map(|line| line.fit(size.columns)).collect()
}

fn head(frame: &Frame) -> Vec<Line> {
    let devices = &frame.devices;
    vec![
        Line::Heading(format!("heliograph demo   up {}   Ctrl-C ends", time(frame.uptime))),
        Line::Plain(format!("config  {}", frame.files.config.display())),
        Line::Plain(format!(
            "MQTT    {:.0}/s in, {:.0}/s sent by {} devices; {} unreadable, {} made-up ids",
            devices.received, devices.sent, devices.count, devices.unreadable, devices.invented
        )),
    ]
}

fn inputs(frame: &Frame, size: Size) -> Vec<Line> {
    let columns = if size.columns >= 2 * CELL + 2 { 2 } else { 1 };
    let head = format!("{:<14}{:>10}{:>9}{:>5}", "INPUT", "metrics/s", "gather", "err");
    let mut lines = vec![Line::Heading(vec![head; columns].join("  "))];
    let rows = frame.inputs.len().div_ceil(columns);
    for row in 0..rows {
        // Down the first column, then down the second.
        let cells: Vec<&InputFigures> = frame.inputs.iter().skip(row).step_by(rows).collect();
        let text = cells.iter().map(|input| cell(input)).collect::<Vec<_>>().join("  ");
        lines.push(standing_out(text, cells.iter().any(|input| input.errors > 0)));
    }
    lines
}

fn cell(input: &InputFigures) -> String {
    format!("{:<14}{:>10.1}{:>9}{:>5}", input.name, input.metrics, gather(input.gather), input.errors)
}

fn gather(time: Option<Duration>) -> String {
    time.map_or("-".to_owned(), |time| format!("{:.2} ms", time.as_secs_f64() * 1e3))
}

fn outputs(frame: &Frame) -> Vec<Line> {
    let head = format!("{:<14}{:>10}{:>19}{:>10}{:>6}", "OUTPUT", "metrics/s", "backlog / limit", "dropped", "err");
    let row = |output: &OutputFigures| {
        let OutputFigures { name, metrics, backlog, limit, dropped, errors } = output;
        let text = format!("{name:<14}{metrics:>10.1}{:>19}{dropped:>10}{errors:>6}", format!("{backlog} / {limit}"));
        standing_out(text, *dropped > 0 || *errors > 0)
    };
    std::iter::once(Line::Heading(head)).chain(frame.outputs.iter().map(row)).collect()
}

fn budgets(frame: &Frame, most: usize) -> Vec<Line> {
    let head = format!(
        "{:<32}{:>14}  folded {:.1}/s, dropped {:.1}/s",
        "SERIES", "used / budget", frame.folded, frame.dropped
    );
    let row = |budget: &BudgetFigures| {
        let used = format!("{} / {}", budget.series, budget.limit);
        let text = format!("{:<32.32}{:>14}  {}", budget.measurement, used, bar(budget.series, budget.limit));
        standing_out(text, budget.series * 10 >= budget.limit * 9)
    };
    let mut lines: Vec<Line> = vec![Line::Heading(head)];
    lines.extend(frame.budgets.iter().take(most).map(row));
    if let Some(others) = frame.budgets.get(most..).filter(|others| !others.is_empty()) {
        let series: i64 = others.iter().map(|budget| budget.series).sum();
        lines.push(Line::Plain(format!("and {series} series of {} more measurements", others.len())));
    }
    lines
}

/// `[#####-----]`
fn bar(used: i64, limit: i64) -> String {
    let share = used.max(0) as f64 / limit.max(1) as f64;
    let full = ((share * BAR as f64).round() as usize).min(BAR);
    format!("[{}{}] {:>3.0} %", "#".repeat(full), "-".repeat(BAR - full), share * 100.0)
}

fn graphite(frame: &Frame) -> Vec<Line> {
    let head = Line::Heading(format!("GRAPHITE LINES  {}", frame.files.lines.display()));
    let lines = frame.lines.iter().cloned().map(Line::Plain);
    let folded = frame.folded_line.iter().map(|line| Line::Alarm(format!("over budget:  {line}")));
    std::iter::once(head).chain(lines).chain(folded).collect()
}

/// Long messages go on in further lines, as their end says why; without room for that the newest are there, cut.
fn log(frame: &Frame, columns: usize, rows: usize) -> Vec<Line> {
    let mut lines = vec![Line::Heading(format!("WARNINGS AND ERRORS  {}", frame.files.log.display()))];
    let wrapped: Vec<String> = frame.log.iter().flat_map(|message| wrap(message, columns)).collect();
    let rows = rows.saturating_sub(1);
    let shown = if wrapped.len() <= rows { &wrapped } else { &frame.log[frame.log.len().saturating_sub(rows)..] };
    lines.extend(shown.iter().cloned().map(Line::Alarm));
    lines
}

fn wrap(text: &str, columns: usize) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    let parts = characters.chunks(columns.saturating_sub(2).max(1)).map(|part| part.iter().collect::<String>());
    parts.enumerate().map(|(number, part)| if number == 0 { part } else { format!("  {part}") }).collect()
}

fn standing_out(text: String, alarm: bool) -> Line {
    if alarm { Line::Alarm(text) } else { Line::Plain(text) }
}

/// `1h 2m 3s`, without the units that are zero in front.
pub(super) fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m {seconds}s"),
        _ => format!("{hours}h {minutes}m {seconds}s"),
    }
}

/// The same figures in one line, for a pipe.
pub(super) fn line_of(frame: &Frame) -> String {
    let devices = &frame.devices;
    let mut out = format!(
        "up {} | mqtt in {:.0}/s, sent {:.0}/s, unreadable {}, ids made up {}",
        time(frame.uptime),
        devices.received,
        devices.sent,
        devices.unreadable,
        devices.invented
    );
    for input in &frame.inputs {
        let InputFigures { name, metrics, errors, .. } = input;
        let _ = write!(out, " | {name} {metrics:.1}/s, gather {}, errors {errors}", gather(input.gather));
    }
    for OutputFigures { name, metrics, backlog, limit, dropped, errors } in &frame.outputs {
        let _ = write!(
            out,
            " | output {name} {metrics:.1}/s, backlog {backlog}/{limit}, dropped {dropped}, errors {errors}"
        );
    }
    for BudgetFigures { measurement, series, limit } in frame.budgets.iter().take(1) {
        let _ = write!(out, " | series {measurement} {series}/{limit}");
    }
    let _ = write!(out, " | folded {:.1}/s, dropped {:.1}/s", frame.folded, frame.dropped);
    out
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::super::figures::{DeviceFigures, Files};
    use super::*;

    fn frame() -> Frame {
        let input = |name: &str, metrics, gather_us: Option<u64>, errors| InputFigures {
            name: name.to_owned(),
            metrics,
            gather: gather_us.map(Duration::from_micros),
            errors,
        };
        let output = |name: &str, metrics, backlog, dropped, errors| OutputFigures {
            name: name.to_owned(),
            metrics,
            backlog,
            limit: 20_000,
            dropped,
            errors,
        };
        let budget = |name: &str, series, limit| BudgetFigures { measurement: name.to_owned(), series, limit };
        Frame {
            uptime: Duration::from_secs(83),
            inputs: vec![
                input("cpu", 1.5, Some(241), 0),
                input("mem", 0.5, Some(93), 0),
                input("mqtt_consumer", 501.3, None, 1),
            ],
            outputs: vec![output("file", 523.2, 736, 0, 0), output("graphite", 0.0, 20_000, 440, 19)],
            budgets: vec![
                budget("climate", 325, 360),
                budget("internal_cardinality_measurement", 18, 10_000),
                budget("internal_gather", 8, 10_000),
                budget("disk", 5, 10_000),
                budget("cpu", 3, 10_000),
                budget("mem", 1, 10_000),
            ],
            folded: 1.0,
            dropped: 0.0,
            devices: DeviceFigures { count: 300, sent: 501.6, received: 502.1, unreadable: 82, invented: 83 },
            files: Files { config: "/tmp/d/telegraf.conf".into(), log: "/tmp/d/l.log".into(), lines: "/tmp/d/g".into() },
            lines: vec!["climate.berlin.hall-1.dev-00140.temperature 17.52 1795508720".to_owned()],
            folded_line: Some("climate.berlin.hall-1.other.temperature_count 2 1795508726".to_owned()),
            log: vec![
                "2026-11-24T08:24:43Z E! [inputs.mqtt_consumer] error in plugin: topic \"climate/quito/hall-1/broken-1\": cannot parse JSON"
                    .to_owned(),
            ],
        }
    }

    fn check(frame: &Frame, columns: usize, rows: usize, expected: Expect) {
        let mark = |line: &Line| match line {
            Line::Heading(text) => format!("= {text}\n"),
            Line::Alarm(text) => format!("! {text}\n"),
            Line::Plain(text) if text.is_empty() => "\n".to_owned(),
            Line::Plain(text) => format!("  {text}\n"),
        };
        expected.assert_eq(&picture_of(frame, Size { columns, rows }).iter().map(mark).collect::<String>());
    }

    #[test]
    fn a_wide_screen() {
        check(
            &frame(),
            100,
            40,
            expect![[r#"
                = heliograph demo   up 1m 23s   Ctrl-C ends
                  config  /tmp/d/telegraf.conf
                  MQTT    502/s in, 502/s sent by 300 devices; 82 unreadable, 83 made-up ids

                = INPUT          metrics/s   gather  err  INPUT          metrics/s   gather  err
                ! cpu                  1.5  0.24 ms    0  mqtt_consumer      501.3        -    1
                  mem                  0.5  0.09 ms    0

                = OUTPUT         metrics/s    backlog / limit   dropped   err
                  file               523.2        736 / 20000         0     0
                ! graphite             0.0      20000 / 20000       440    19

                = SERIES                           used / budget  folded 1.0/s, dropped 0.0/s
                ! climate                              325 / 360  [##################--]  90 %
                  internal_cardinality_measurement    18 / 10000  [--------------------]   0 %
                  internal_gather                      8 / 10000  [--------------------]   0 %
                  disk                                 5 / 10000  [--------------------]   0 %
                  and 4 series of 2 more measurements

                = GRAPHITE LINES  /tmp/d/g
                  climate.berlin.hall-1.dev-00140.temperature 17.52 1795508720
                ! over budget:  climate.berlin.hall-1.other.temperature_count 2 1795508726

                = WARNINGS AND ERRORS  /tmp/d/l.log
                ! 2026-11-24T08:24:43Z E! [inputs.mqtt_consumer] error in plugin: topic "climate/quito/hall-1/broken
                !   -1": cannot parse JSON
            "#]],
        );
    }

    #[test]
    fn a_terminal_of_old_has_no_gaps() {
        check(
            &frame(),
            80,
            24,
            expect![[r#"
            = heliograph demo   up 1m 23s   Ctrl-C ends
              config  /tmp/d/telegraf.conf
              MQTT    502/s in, 502/s sent by 300 devices; 82 unreadable, 83 made-up ids
            = INPUT          metrics/s   gather  err  INPUT          metrics/s   gather  err
            ! cpu                  1.5  0.24 ms    0  mqtt_consumer      501.3        -    1
              mem                  0.5  0.09 ms    0
            = OUTPUT         metrics/s    backlog / limit   dropped   err
              file               523.2        736 / 20000         0     0
            ! graphite             0.0      20000 / 20000       440    19
            = SERIES                           used / budget  folded 1.0/s, dropped 0.0/s
            ! climate                              325 / 360  [##################--]  90 %
              and 35 series of 5 more measurements
            = GRAPHITE LINES  /tmp/d/g
              climate.berlin.hall-1.dev-00140.temperature 17.52 1795508720
            ! over budget:  climate.berlin.hall-1.other.temperature_count 2 1795508726
            = WARNINGS AND ERRORS  /tmp/d/l.log
            ! 2026-11-24T08:24:43Z E! [inputs.mqtt_consumer] error in plugin: topic "climate
            !   /quito/hall-1/broken-1": cannot parse JSON
        "#]],
        );
    }

    #[test]
    fn a_tiny_screen_is_cut() {
        check(
            &frame(),
            50,
            12,
            expect![[r#"
                = heliograph demo   up 1m 23s   Ctrl-C ends
                  config  /tmp/d/telegraf.conf
                  MQTT    502/s in, 502/s sent by 300 devices; 82 un
                = INPUT          metrics/s   gather  err
                  cpu                  1.5  0.24 ms    0
                  mem                  0.5  0.09 ms    0
                ! mqtt_consumer      501.3        -    1
                = OUTPUT         metrics/s    backlog / limit   drop
                  file               523.2        736 / 20000       
                ! graphite             0.0      20000 / 20000       
                = SERIES                           used / budget  fo
                ! climate                              325 / 360  [#
            "#]],
        );
    }

    #[test]
    fn before_there_is_anything_to_show() {
        check(
            &Frame::default(),
            80,
            24,
            expect![[r#"
                = heliograph demo   up 0s   Ctrl-C ends
                  config
                  MQTT    0/s in, 0/s sent by 0 devices; 0 unreadable, 0 made-up ids

                = INPUT          metrics/s   gather  err  INPUT          metrics/s   gather  err

                = OUTPUT         metrics/s    backlog / limit   dropped   err

                = SERIES                           used / budget  folded 0.0/s, dropped 0.0/s

                = GRAPHITE LINES

                = WARNINGS AND ERRORS
            "#]],
        );
    }

    #[test]
    fn a_line_for_a_pipe() {
        expect!["up 1m 23s | mqtt in 502/s, sent 502/s, unreadable 82, ids made up 83 | cpu 1.5/s, gather 0.24 ms, errors 0 | mem 0.5/s, gather 0.09 ms, errors 0 | mqtt_consumer 501.3/s, gather -, errors 1 | output file 523.2/s, backlog 736/20000, dropped 0, errors 0 | output graphite 0.0/s, backlog 20000/20000, dropped 440, errors 19 | series climate 325/360 | folded 1.0/s, dropped 0.0/s"].assert_eq(&line_of(&frame()));
    }

    #[test]
    fn bars_and_times() {
        assert_eq!(bar(0, 10), "[--------------------]   0 %");
        assert_eq!(bar(5, 10), "[##########----------]  50 %");
        assert_eq!(bar(20, 10), "[####################] 200 %");
        assert_eq!(bar(0, 0), "[--------------------]   0 %");
        assert_eq!([59, 61, 7322].map(|seconds| time(Duration::from_secs(seconds))), ["59s", "1m 1s", "2h 2m 2s"]);
    }

    #[test]
    fn what_would_move_the_cursor_is_shown_as_a_question_mark() {
        assert_eq!(Line::Plain("a\x1b[2Jb  ".to_owned()).fit(80), Line::Plain("a?[2Jb".to_owned()));
    }

    proptest::proptest! {
        #[test]
        fn it_never_exceeds_the_screen(columns in 0..200_usize, rows in 0..60_usize) {
            let lines = picture_of(&frame(), Size { columns, rows });
            assert!(lines.len() <= rows);
            for line in lines {
                let (Line::Heading(text) | Line::Alarm(text) | Line::Plain(text)) = line;
                assert!(text.chars().count() <= columns);
            }
        }
    }
}

//! What the person at the terminal sees while a run goes on: a line per host, or plain log lines.
use std::{
    collections::BTreeMap,
    io::{self, IsTerminal, Write},
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use autoprof_core::{
    Secret,
    event::{HostEvent, RunEvent, RunEventKind},
    manifest::{HostRecord, HostStep, Manifest, RunPhase},
    protocol::EventKind,
    registry::Prompter,
    run::Observer,
    test::TestOutput,
    text::one_line,
};
use autoprof_report::size::bytes;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often a live line is drawn anew, so that its clock goes on.
const TICK: Duration = Duration::from_millis(250);
/// Lines that are left for other things on a terminal.
const OTHER_LINES: usize = 8;

/// Whether live lines are drawn at all.
static DRAWING: AtomicBool = AtomicBool::new(false);

fn bars() -> &'static MultiProgress {
    static BARS: OnceLock<MultiProgress> = OnceLock::new();
    BARS.get_or_init(|| MultiProgress::with_draw_target(ProgressDrawTarget::hidden()))
}

/// Prints one line to standard error, above what is drawn there.
pub fn line(text: &str) {
    plain(&format!("autoprof: {text}\n"));
}

/// Prints to standard error, above what is drawn there. A terminal that was closed is no reason to leave hosts as they
/// are (`eprintln!` would end the program there).
pub fn plain(text: &str) {
    stop_drawing_without_terminal();
    above(crate::output::plain(text).as_bytes());
}

/// Not by `suspend`, which ends the program where the lines cannot be taken away; they are drawn again with the next tick.
fn above(text: &[u8]) {
    let _ = bars().clear();
    let _ = io::stderr().write_all(text);
}

/// Draws no more once the terminal is gone: the library that draws ends the program when it cannot.
pub fn stop_drawing_without_terminal() {
    if DRAWING.load(Ordering::SeqCst) && !io::stderr().is_terminal() {
        DRAWING.store(false, Ordering::SeqCst);
        bars().set_draw_target(ProgressDrawTarget::hidden());
    }
}

/// Where log lines go: to standard error, above what is drawn there.
pub fn log_writer() -> LogLine {
    LogLine
}

/// Writes log lines.
#[derive(Debug)]
pub struct LogLine;

impl Write for LogLine {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        stop_drawing_without_terminal();
        above(crate::output::plain(&String::from_utf8_lossy(text)).as_bytes());
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Say {
    /// What went wrong.
    Errors,
    /// The phases of the run.
    Phases,
    /// The steps of every host.
    Steps,
}

/// Shows a run as it goes on.
#[derive(Debug)]
pub struct Screen {
    say: Say,
    live: Mutex<Option<Live>>,
}

#[derive(Debug)]
struct Live {
    hosts: BTreeMap<String, ProgressBar>,
    /// In place of the hosts' lines when they do not fit.
    summary: Option<ProgressBar>,
}

impl Screen {
    /// A screen that draws live lines when standard error is a terminal.
    pub fn new(say: Say) -> Self {
        let live = say >= Say::Phases && io::stderr().is_terminal();
        if live {
            bars().set_draw_target(ProgressDrawTarget::stderr());
            DRAWING.store(true, Ordering::SeqCst);
        }
        let live = live.then(|| Live { hosts: BTreeMap::new(), summary: None });
        Self { say, live: Mutex::new(live) }
    }

    /// Whether live lines are drawn.
    pub fn is_live(&self) -> bool {
        self.lock().is_some()
    }

    /// Takes the live lines away.
    pub fn close(&self) {
        if let Some(live) = self.lock().take() {
            DRAWING.store(false, Ordering::SeqCst);
            live.hosts.values().for_each(ProgressBar::finish_and_clear);
            live.summary.iter().for_each(ProgressBar::finish_and_clear);
            let _ = bars().clear();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, level: Say, text: &str) {
        if level <= self.say {
            line(text);
        }
    }

    fn draw(&self, event: &RunEvent, manifest: &Manifest) {
        let mut live = self.lock();
        let Some(live) = live.as_mut() else { return };
        let rows = terminal_rows().saturating_sub(OTHER_LINES).max(1);
        if manifest.hosts.len() > rows {
            live.summary.get_or_insert_with(bar).set_message(summary_line(manifest));
        } else if let RunEventKind::Host { host, .. } = &event.kind
            && let Some(record) = manifest.hosts.get(host)
        {
            let width = manifest.hosts.keys().map(String::len).max().unwrap_or(0);
            let bar = live.hosts.entry(host.clone()).or_insert_with(bar);
            bar.set_message(one_line(&format!("{host:width$}  {}", host_line(record))));
        }
    }
}

fn bar() -> ProgressBar {
    let bar = bars().add(ProgressBar::new_spinner());
    if let Ok(style) = ProgressStyle::with_template("{elapsed:>5} {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(TICK);
    bar
}

fn terminal_rows() -> usize {
    usize::from(console::Term::stderr().size().0)
}

fn host_line(record: &HostRecord) -> String {
    let step = if record.is_lost() { "lost, looking for it" } else { record.step.word() };
    match record.bytes() {
        0 => step.to_owned(),
        n => format!("{step}  {}", bytes(n)),
    }
}

fn summary_line(manifest: &Manifest) -> String {
    let at = |step: HostStep| manifest.hosts.values().filter(|h| h.step == step).count();
    let steps = [
        HostStep::Waiting,
        HostStep::Connecting,
        HostStep::Installing,
        HostStep::Ready,
        HostStep::Collecting,
        HostStep::Stopped,
        HostStep::Reported,
        HostStep::Collected,
        HostStep::Cleaned,
        HostStep::Failed,
    ];
    let counts = steps.into_iter().filter_map(|step| match at(step) {
        0 => None,
        n => Some(format!("{n} {}", step.word())),
    });
    let total = manifest.hosts.values().map(HostRecord::bytes).fold(0, u64::saturating_add);
    format!("{}: {}  {}", manifest.phase.word(), counts.collect::<Vec<_>>().join(", "), bytes(total))
}

impl Observer for Screen {
    fn event(&self, event: &RunEvent, manifest: &Manifest) {
        match &event.kind {
            RunEventKind::Phase { phase } => self.say(Say::Phases, &phase_text(*phase, manifest)),
            RunEventKind::WindowOpened { window, by } => {
                self.say(Say::Phases, &format!("window {window} opens: {by}"));
            }
            RunEventKind::WindowClosed { window, by } => {
                self.say(Say::Phases, &format!("window {window} closes: {by}"));
            }
            RunEventKind::Marked { name, .. } => self.say(Say::Steps, &format!("mark: {name}")),
            RunEventKind::TestEnded { status, .. } => self.say(Say::Phases, &format!("the test ended: {status}")),
            RunEventKind::Host { host, event } => match event {
                HostEvent::Failed { error } => {
                    self.say(Say::Errors, &format!("{host}: {}: {}", error.step, error.message));
                    if let Some(hint) = &error.hint {
                        self.say(Say::Errors, &format!("  hint: {hint}"));
                    }
                }
                HostEvent::Refused { profiler, reason, .. } => {
                    self.say(Say::Errors, &format!("{host}: {profiler} cannot run: {reason}"));
                }
                HostEvent::Client { event } => {
                    if let Some(text) = client_text(&event.kind) {
                        self.say(Say::Steps, &format!("{host}: {}", one_line(&text)));
                    }
                }
                HostEvent::Skipped { profiler, reason, .. } => {
                    self.say(Say::Steps, &format!("{host}: {profiler} skipped: {reason}"));
                }
                HostEvent::Collected { files, .. } => {
                    let total: u64 = files.iter().map(|f| f.bytes).sum();
                    self.say(Say::Steps, &format!("{host}: {} files, {}", files.len(), bytes(total)));
                }
                HostEvent::Lost { reason } => {
                    let span = autoprof_core::duration::Span::clone(&manifest.settings.timeouts.reconnect);
                    self.say(Say::Phases, &format!("{host}: lost ({reason}); looking for it for {span}"));
                }
                HostEvent::Back => self.say(Say::Phases, &format!("{host}: found again")),
                HostEvent::Broken { cause, .. } => self.say(Say::Phases, &format!("{host}: {}", cause.words())),
                HostEvent::Checkpoint { files, bytes: n } => {
                    self.say(Say::Steps, &format!("{host}: checkpoint: {files} files, {}", bytes(*n)));
                }
                HostEvent::Connecting => self.say(Say::Steps, &format!("{host}: connecting")),
                HostEvent::Cleaned => self.say(Say::Steps, &format!("{host}: cleaned")),
                _ => {}
            },
            _ => {}
        }
        self.draw(event, manifest);
    }
}

/// So many hosts, in words.
pub fn hosts(count: usize) -> String {
    if count == 1 { "1 host".to_owned() } else { format!("{count} hosts") }
}

fn phase_text(phase: RunPhase, manifest: &Manifest) -> String {
    let all = manifest.hosts.len();
    let hosts = hosts(all);
    match phase {
        RunPhase::Running => {
            let begun = manifest.hosts.values().filter(|host| host.can_begin()).count();
            let hosts = if begun == all { hosts } else { format!("{begun} of {hosts}") };
            let skew = manifest.skew_s.filter(|_| manifest.hosts.len() > 1);
            let skew = skew.map(|s| format!(", begun within {:.0} ms", s * 1e3)).unwrap_or_default();
            format!("profiling {hosts}{skew}")
        }
        RunPhase::Collecting => format!("collecting from {hosts}"),
        RunPhase::Preparing | RunPhase::Stopped | RunPhase::Finished => phase.word().to_owned(),
    }
}

fn client_text(kind: &EventKind) -> Option<String> {
    match kind {
        EventKind::Began { profiler, .. } => Some(format!("{profiler} collects")),
        EventKind::Ended(ended) => {
            let reason = ended.reason.as_ref().map(|r| format!(": {r}"));
            Some(format!("{} ended{}", ended.profiler, reason.unwrap_or_default()))
        }
        EventKind::ClockSet { step_ns } => Some(format!("its clock was set, by {} s", step_ns / 1_000_000_000)),
        EventKind::LimitReached { limit } => Some(format!("the client's {limit} was reached")),
        _ => None,
    }
}

/// Where a test's standard output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TestStdout {
    /// To this program's standard output.
    Stdout,
    /// To this program's standard error, when its standard output has another use.
    Stderr,
}

/// Passes a test's output through untouched, with live lines kept out of its way.
#[derive(Debug)]
pub struct TestStreams {
    stdout: TestStdout,
}

impl TestStreams {
    /// Streams whose standard output goes there.
    pub fn new(stdout: TestStdout) -> Self {
        Self { stdout }
    }
}

impl TestOutput for TestStreams {
    fn stdout(&self, text: &[u8]) -> io::Result<()> {
        match self.stdout {
            TestStdout::Stdout => pass(io::stdout(), text),
            TestStdout::Stderr => pass(io::stderr(), text),
        }
    }

    fn stderr(&self, text: &[u8]) -> io::Result<()> {
        pass(io::stderr(), text)
    }
}

/// Whether the test has begun a line on the terminal and not ended it: nothing may be drawn over that.
static MID_LINE: AtomicBool = AtomicBool::new(false);

fn pass(mut to: impl Write + IsTerminal, text: &[u8]) -> io::Result<()> {
    let mut write = || to.write_all(text).and_then(|()| to.flush());
    if !io::stderr().is_terminal() {
        return write();
    }
    let ends_line = text.last() == Some(&b'\n');
    if !MID_LINE.swap(!ends_line, Ordering::SeqCst) {
        let _ = bars().clear();
    }
    if !ends_line {
        bars().set_draw_target(ProgressDrawTarget::hidden());
    }
    let written = write();
    if ends_line && DRAWING.load(Ordering::SeqCst) {
        bars().set_draw_target(ProgressDrawTarget::stderr());
    }
    written
}

/// Asks for secrets at the terminal.
#[derive(Debug, Clone, Copy)]
pub struct Terminal;

impl Prompter for Terminal {
    fn secret(&self, text: &str) -> Option<Secret> {
        bars().suspend(|| rpassword::prompt_password(one_line(text) + ": ").ok()).map(Secret::from)
    }
}

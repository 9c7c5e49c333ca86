//! How a profiler runs on a host, as data.
//!
//! An encoder (a plugin on the controller) makes an [`Invocation`]; the client runs it without knowing which
//! profiler it is. Every `argv` is a list: no shell sees it. The working directory of every command is the
//! profiler's own result directory, so file names are relative and nothing needs to be substituted.
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Everything the client needs to run one profiler.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Invocation {
    /// Commands that are run to their end, in order, before the client says that it is ready.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prepare: Vec<Vec<String>>,
    /// The tool that runs from start to stop, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<Start>,
    /// How the tool is ended.
    pub stop: Stop,
    /// Commands that are run in order when the report is asked for, the tool long gone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub report: Vec<Report>,
    /// Files that the profiler is known to leave behind.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<Output>,
    /// Files that the client itself reads again and again, instead of or beside a tool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<Samples>,
    /// A command that is run again and again, instead of or beside a tool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub poll: Option<Poll>,
    /// Whether the profiler is started again, as a new segment, after the host rebooted during the run.
    pub restart_after_reboot: bool,
}

/// The tool that runs from start to stop.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Start {
    /// Program and arguments; the program is looked up in the host's `PATH`.
    pub argv: Vec<String>,
    /// Environment on top of the client's own (which has `LC_ALL=C` and `TZ=UTC`).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// File that takes standard output; none: it is thrown away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdout: Option<String>,
    /// How the tool is made ready before the start and begins at an instant; none: it is spawned at the instant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arm: Option<Arm>,
    /// Whether the tool may end by itself before the stop without that being a failure.
    pub may_end: bool,
}

/// A tool that can be running but not recording, and says when it began.
///
/// The client makes both FIFOs before it spawns the tool; at the start it writes `enable` to the one and waits
/// for `answer` on the other (`perf record -D -1 --control fifo:CONTROL,ACK`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arm {
    /// The FIFO that the tool reads commands from.
    pub control: String,
    /// The FIFO that the tool writes its answers to.
    pub ack: String,
    /// The command that makes it record.
    pub enable: String,
    /// What the tool answers once it records.
    pub answer: String,
}

/// How a tool is ended: a signal, then patience, then `SIGTERM`, then `SIGKILL` of its process group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    /// The first signal, sent to the tool's process group.
    pub signal: StopSignal,
    /// How long the tool may take to finish its files after that, in milliseconds.
    pub grace_ms: u64,
}

impl Default for Stop {
    /// `SIGINT` and ten seconds: right for all tools but those that declare otherwise.
    fn default() -> Self {
        Self { signal: StopSignal::Interrupt, grace_ms: 10_000 }
    }
}

/// Signals that ask a tool to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopSignal {
    /// `SIGINT`
    Interrupt,
    /// `SIGTERM`
    Terminate,
    /// `SIGHUP`
    Hangup,
    /// `SIGUSR1`
    User1,
    /// `SIGUSR2`
    User2,
}

/// One command of the report step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// File that takes standard output; none: it is thrown away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout: Option<String>,
    /// How long it may take, in milliseconds; then it is killed and the raw data stands alone.
    pub timeout_ms: u64,
}

/// A file that a profiler is known to leave behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// Path below the profiler's result directory.
    pub file: String,
    /// What is in it.
    pub format: OutputFormat,
    /// Whether the profiler has failed if the file is absent or empty.
    #[serde(default)]
    pub required: bool,
}

/// What is in an output file; an open set, `raw` when nothing more is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OutputFormat {
    /// Readable text.
    Text,
    /// JSON.
    Json,
    /// Comma-separated values with a header.
    Csv,
    /// Whatever the tool itself reads back.
    Raw,
}

/// Sampling that the client does itself: it reads files at an interval and appends what they hold, with a stamp.
///
/// Before each sample there is a line `# <unix ns> <boot ns>`; then, for each file, a line `@ <path> <bytes>` and
/// that many bytes. Nothing is interpreted on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Samples {
    /// Interval in milliseconds.
    pub every_ms: u64,
    /// Absolute paths; one that cannot be read is left out of the sample.
    pub files: Vec<String>,
    /// File that takes the samples.
    pub output: String,
}

/// A command that is run again and again; a run that outlasts the interval is not overlapped.
///
/// Before each run's output there is a line `# <unix ns> <boot ns>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Poll {
    /// Interval in milliseconds.
    pub every_ms: u64,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// File that takes standard output and standard error of every run.
    pub output: String,
}

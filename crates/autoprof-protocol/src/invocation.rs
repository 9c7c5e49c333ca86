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
    /// Settings of the kernel that are changed while the profiler runs, and restored afterwards; by default none is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<Setting>,
    /// Files of the controller that are put on the host before the client is launched.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<SentFile>,
    /// Which variables all commands of the profiler begin with.
    #[serde(skip_serializing_if = "Environment::is_clean")]
    pub environment: Environment,
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
    /// What the host keeps from the profiler, for people, a line each: its data stands, and has less in it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// What stands before a command that runs as root: sudo(8), which fails rather than asks for a password.
const SUDO: [&str; 3] = ["sudo", "-n", "--"];

/// A command that runs as root through sudo.
///
/// It is run through a script on the host that has just this command in it, which root has put there. The program has to
/// be an absolute path. Do not pass it a path of a file to open: who may write in the directory could put a link to any
/// file of the host there. Let it write to standard output instead. Do not let it copy its input to its output either:
/// both are the user's, and could be any file that the user may open and root alone may write to.
#[must_use]
pub fn as_root<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Vec<String> {
    SUDO.map(Into::into).into_iter().chain(argv.into_iter().map(Into::into)).collect()
}

/// What a command of [`as_root`] runs; none: it is no such command.
fn run_as_root(argv: &[String]) -> Option<&[String]> {
    let (before, command) = argv.split_at_checked(SUDO.len())?;
    (before == SUDO).then_some(command)
}

impl Invocation {
    /// The commands that run as root, without what [`as_root`] puts before them.
    pub fn root_commands(&self) -> impl Iterator<Item = &[String]> {
        let starts = self.start.iter().map(|start| &start.argv);
        let reports = self.report.iter().map(|report| &report.argv);
        let all = self.prepare.iter().chain(starts).chain(self.poll.iter().map(|poll| &poll.argv)).chain(reports);
        all.filter_map(|argv| run_as_root(argv))
    }

    /// The same with other commands instead of those that run as root.
    #[must_use]
    pub fn with_root_commands(mut self, other: impl Fn(&[String]) -> Vec<String>) -> Self {
        let starts = self.start.iter_mut().map(|start| &mut start.argv);
        let reports = self.report.iter_mut().map(|report| &mut report.argv);
        let polls = self.poll.iter_mut().map(|poll| &mut poll.argv);
        for argv in self.prepare.iter_mut().chain(starts).chain(polls).chain(reports) {
            if let Some(command) = run_as_root(argv) {
                *argv = as_root(other(command));
            }
        }
        self
    }
}

/// A file of the controller, or a directory with all that is in it, that a profiler needs on the host.
///
/// It is below [`FILES_DIR`](crate::FILES_DIR)`/PROFILER/` of the client's directory, which every command finds in its
/// variable [`CLIENT_VARIABLE`](crate::CLIENT_VARIABLE), and is gone with that directory when the run is over.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SentFile {
    /// Its path on the controller; a relative one begins where autoprof was started.
    pub from: String,
    /// Its name on the host: one word of a path.
    pub name: String,
}

/// A setting of the kernel that a profiler needs to have a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    /// Its file, below `/proc/sys` or `/sys/kernel/tracing`.
    pub path: String,
    /// The value, as the file shows it.
    pub value: String,
}

/// The tool that runs from start to stop.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Start {
    /// Program and arguments; the program is looked up in the host's `PATH`.
    pub argv: Vec<String>,
    /// Variables on top of the [`Environment`].
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// File that takes standard output; none: it is thrown away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdout: Option<String>,
    /// How the tool is made ready before the start and begins at an instant; none: it is spawned at the instant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arm: Option<Arm>,
    /// Whether the tool wakes up at an interval, takes a sample within milliseconds, and sleeps again. It has a real-time
    /// priority then, where the client may give it one, so that it does not wait for the load that it measures.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub samples: bool,
    /// Whether the tool may end by itself before the stop without that being a failure.
    pub may_end: bool,
    /// The name, as in `/proc/PID/comm`, of a program that the tool runs for as long as it records, and that reads its
    /// standard input to the end (`perf record -a -- cat`). The tool has begun once that runs. Its input is a pipe of
    /// the client's, and it is asked to end by closing that, which takes no right to signal it and happens by itself
    /// when the client dies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
}

/// Which variables a command begins with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// Nothing of the login's that changes what tools print: `PATH` (absolute directories, with those for
    /// administrators), `HOME` and `TMPDIR` (in the client's directory), `USER`, `LOGNAME`, `LC_ALL=C`, `TZ=UTC`,
    /// `TERM=dumb`, `PERF_CONFIG=/dev/null`.
    #[default]
    Clean,
    /// All that the login has, with `LC_ALL=C` and `TZ=UTC`: for commands of the user's own.
    Login,
}

impl Environment {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_clean(&self) -> bool {
        *self == Self::Clean
    }
}

/// A tool that can be running but not recording, and says when it began.
///
/// The client makes both FIFOs before it spawns the tool, and writes `probe` to the one: once there is an `answer` on
/// the other the tool is ready. At the start it writes `enable`, and waits for the answer to that (`perf record -D -1
/// --control fifo:CONTROL,ACK`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arm {
    /// The FIFO that the tool reads commands from.
    pub control: String,
    /// The FIFO that the tool writes its answers to.
    pub ack: String,
    /// A command that changes nothing and is answered; none: the tool is taken to be ready as soon as it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<String>,
    /// The command that makes it record.
    pub enable: String,
    /// What the tool answers to a command that it has done.
    pub answer: String,
    /// What makes it write out what it holds in memory, again and again, while it records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flush: Option<Flush>,
}

/// A command on an armed tool's control FIFO that has a side effect which is wanted: what the tool holds in memory
/// goes to its file, and is not lost when it is killed or its host loses power.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flush {
    /// The command.
    pub command: String,
    /// How often, in milliseconds.
    pub every_ms: u64,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_as_root_are_told_from_others() {
        let argv = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let report = |argv| Report { argv, stdout: None, timeout_ms: 1 };
        let invocation = Invocation {
            prepare: vec![argv(&["sudo", "-n"]), argv(&["sudo"])],
            start: Some(Start { argv: as_root(["/usr/bin/perf", "record"]), ..Start::default() }),
            report: vec![report(argv(&["perf", "report"])), report(as_root(["/bin/cat", "/proc/kallsyms"]))],
            ..Invocation::default()
        };
        let commands: Vec<_> = invocation.root_commands().collect();
        assert_eq!(commands, [argv(&["/usr/bin/perf", "record"]), argv(&["/bin/cat", "/proc/kallsyms"])]);
        let other = invocation.clone().with_root_commands(|_| argv(&["/x"]));
        assert_eq!(other.start.unwrap().argv, argv(&["sudo", "-n", "--", "/x"]));
        assert_eq!((&other.prepare, &other.report[0]), (&invocation.prepare, &invocation.report[0]));
    }
}

//! The manifest: what is known of a run, host by host and profiler by profiler. It is a fold over the run's events.
mod check;
mod fold;

use std::collections::BTreeMap;

use autoprof_protocol::{DiskLimits, HostFacts, HostText, Invocation, Policy, SamplerStats, Stamp};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    args::Args,
    encoder::{SampleCount, Table},
    event::Cause,
    host::Host,
    job::{Require, Timeouts},
    quantity::TableInfo,
};

/// Version of the manifest's schema. A reader takes the same major version; a higher minor only adds.
pub const SCHEMA_VERSION: &str = "1.2";

/// What is known of a run.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Manifest {
    /// Version of this schema.
    pub schema: String,
    /// The run's id.
    pub id: String,
    /// The version of autoprof that began it.
    pub autoprof: String,
    /// The machine that it was begun on.
    pub controller: String,
    /// When it was begun (UTC).
    #[schemars(with = "String")]
    pub created: Timestamp,
    /// Where the run is in its life.
    pub phase: RunPhase,
    /// Which share of the hosts must be whole.
    pub require: Require,
    /// Whether that was met, once the run is over.
    pub require_met: Option<bool>,
    /// The test, when there was one.
    pub test: Option<TestRecord>,
    /// When and by what the run was interrupted, when it was.
    pub interrupted: Option<String>,
    /// Named instants, in the order in which they were named.
    pub marks: Vec<Mark>,
    /// The windows of a run that has several; empty: there is one, around the test.
    pub windows: Vec<WindowRecord>,
    /// Largest spread, over the hosts, of the instants at which a profiler began, by the hosts' clocks as they stood
    /// against the controller's, in seconds.
    pub skew_s: Option<f64>,
    /// Every host, by the name that the controller has for it.
    pub hosts: BTreeMap<String, HostRecord>,
    /// How the run was set up.
    pub settings: RunSettings,
    /// What the tables of each profiler measure, by the profiler's name, as it declared when they were made: a report
    /// needs no plugin. Once for all hosts, since their tables are alike.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tables: BTreeMap<String, Vec<TableInfo>>,
}

/// Where a run is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunPhase {
    /// Hosts are being connected to and clients installed.
    Preparing,
    /// The profilers collect.
    Running,
    /// The profilers are being stopped, or have been, and wait for their report.
    Stopped,
    /// Results are being brought back.
    Collecting,
    /// Nothing is left to do.
    Finished,
}

impl RunPhase {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Collecting => "collecting",
            Self::Finished => "finished",
        }
    }
}

/// How a run was set up: what another process needs to go on with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunSettings {
    /// How clients are signalled.
    pub signaler: String,
    /// Parent of the clients' directories.
    pub tmpdir: String,
    /// Whether the clients' directories stay on the hosts.
    pub keep: bool,
    /// Whether the client's program stays on the hosts, so that the next run need not send it.
    #[serde(default)]
    pub keep_client: bool,
    /// How many hosts are connected to at the same time. At 1,000 hosts on two cores 64 at a time took 11 s where all at
    /// once took 17 s (docs/performance.md says how that was measured).
    pub forks: u32,
    /// How long a client goes on without a controller, in milliseconds; none: as long as it goes on at all.
    pub lease_ms: Option<u64>,
    /// How long a client goes on at all, in milliseconds.
    pub max_duration_ms: u64,
    /// How long each step may take.
    pub timeouts: Timeouts,
    /// How much of a host's disk the results may take.
    #[serde(default)]
    pub disk: DiskLimits,
    /// How often results are brought back while the profilers collect, in milliseconds; none: only at the end.
    #[serde(default)]
    pub checkpoint_ms: Option<u64>,
    /// Whether what the test prints opens and closes windows, so that each has a directory of its own.
    #[serde(default)]
    pub several_windows: bool,
    /// Whether profilers may run commands as root.
    #[serde(default)]
    pub sudo: Sudo,
}

/// Whether profilers may run commands as root through sudo, on hosts where the client's user is not root.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sudo {
    /// They may not.
    #[default]
    Never,
    /// They may, where the host's sudo allows exactly those commands without a password.
    Allowed,
    /// It is taken that sudo allows them: to find out what its rules have to be.
    Assumed,
}

impl Default for RunSettings {
    /// Marker files, `/tmp/profilers`, clients that end 5 minutes after their controller is gone and after a day at the
    /// latest.
    fn default() -> Self {
        Self {
            signaler: "marker".to_owned(),
            tmpdir: autoprof_protocol::DEFAULT_TMPDIR.to_owned(),
            keep: false,
            keep_client: false,
            forks: 64,
            lease_ms: Some(5 * 60_000),
            max_duration_ms: 24 * 3_600_000,
            timeouts: Timeouts::default(),
            disk: DiskLimits::default(),
            checkpoint_ms: None,
            several_windows: false,
            sudo: Sudo::Never,
        }
    }
}

/// A named instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Mark {
    /// Its name.
    pub name: String,
    /// The instant, by the controller's clock (UTC).
    #[schemars(with = "String")]
    pub at: Timestamp,
}

/// One of several windows of a run.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct WindowRecord {
    /// Its number, from 1; its data is below `hosts/<host>/window-N/`.
    pub window: u32,
    /// When it was opened, by the controller's clock (UTC).
    #[schemars(with = "String")]
    pub opened: Timestamp,
    /// The line of the test's output that opened it.
    pub opened_by: String,
    /// When it was closed.
    #[schemars(with = "Option<String>")]
    pub closed: Option<Timestamp>,
    /// The line that closed it, or what else did.
    pub closed_by: Option<String>,
    /// The profilers of each host in this window, where a later one came after it.
    pub hosts: BTreeMap<String, BTreeMap<String, ProfilerRecord>>,
}

/// The test of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TestRecord {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// When it began (UTC, the controller's clock).
    #[schemars(with = "Option<String>")]
    pub began: Option<Timestamp>,
    /// When it ended.
    #[schemars(with = "Option<String>")]
    pub ended: Option<Timestamp>,
    /// How it ended, in words.
    pub status: Option<String>,
    /// The exit status that stands for it.
    pub exit_code: Option<u8>,
    /// Those environment variables whose names the job allows to be kept.
    pub env: BTreeMap<String, String>,
}

/// How the client and the tools that sample were scheduled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SchedulingRecord {
    /// What they had.
    pub policy: Policy,
    /// Why they had no more than that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<HostText>,
}

/// One host of a run.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct HostRecord {
    /// How it is reached.
    pub host: Host,
    /// What the controller is doing with it, or did last.
    pub step: HostStep,
    /// Whether it can take part in the run.
    #[serde(default)]
    pub readiness: Readiness,
    /// What is known of it.
    pub facts: Option<HostFacts>,
    /// Its clock against the controller's.
    pub clock: Option<ClockOffset>,
    /// The same, compared again at the stop: between the two it drifted.
    #[serde(default)]
    pub clock_at_stop: Option<ClockOffset>,
    /// CPU time that the client itself took until the profilers had ended, in seconds; that of each tool is with its
    /// profiler.
    #[serde(default)]
    pub client_cpu_s: Option<f64>,
    /// How the client and the tools that sample were scheduled while profilers collected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduling: Option<SchedulingRecord>,
    /// How long after the instant that was planned for all hosts it heard of the start, in seconds; none: before it.
    #[serde(default)]
    pub late_s: Option<f64>,
    /// Its client.
    pub client: Option<ClientRecord>,
    /// What went wrong with the host as a whole, in order.
    pub errors: Vec<HostError>,
    /// Its profilers, by name.
    pub profilers: BTreeMap<String, ProfilerRecord>,
    /// Which part of the data its client makes: one more each time that it was started again.
    pub segment: u32,
    /// Times during which it could not be heard.
    pub outages: Vec<Outage>,
    /// Settings of it that were changed for profilers, and restored, in order.
    pub settings: Vec<SettingChange>,
    /// When its clock was set, and how far it jumped.
    pub clock_steps: Vec<ClockStep>,
    /// The instant of the last thing that its client said, by its clocks.
    pub last_heard: Option<Stamp>,
    /// What of its results is here while the run goes on.
    pub checkpoint: Option<Checkpoint>,
    /// Its profilers in the window before, until the next one opens.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub earlier: BTreeMap<String, ProfilerRecord>,
}

/// A time during which a host could not be heard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Outage {
    /// When it was noticed (UTC, the controller's clock).
    #[schemars(with = "String")]
    pub noticed: Timestamp,
    /// When the host was heard again; none: not, or not yet.
    #[schemars(with = "Option<String>")]
    pub back: Option<Timestamp>,
    /// What was noticed.
    pub reason: String,
    /// What it did to the profilers; none: they went on.
    pub cause: Option<Cause>,
}

/// A setting of a host that was changed, or restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SettingChange {
    /// When, by the host's clock.
    pub at: Instant,
    /// Its file.
    pub path: String,
    /// The value before.
    pub from: String,
    /// The value since.
    pub to: String,
}

/// A jump of a host's clock.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClockStep {
    /// When, by the clock after the jump.
    pub at: Instant,
    /// How far, in nanoseconds; negative: backwards.
    pub step_ns: i64,
    /// In which segment.
    pub segment: u32,
}

/// What of a host's results is here while the run goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Checkpoint {
    /// When it was made (UTC, the controller's clock).
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// Files in all.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
}

/// Whether a host can take part in a run.
///
/// This is a state of its own and not read from the last step: within one window a host only moves down this list, in
/// whatever order its events arrive, so that the cleanup of a host that failed cannot make it look ready.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Readiness {
    /// Nothing is known yet.
    #[default]
    Unknown,
    /// It was reached, and what each profiler would run there is known.
    Surveyed,
    /// Its client is up and waits for the start, or has started.
    Ready,
    /// Something failed that concerns the host as a whole.
    Failed,
}

/// The steps of a host through a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HostStep {
    /// Nothing has happened yet.
    Waiting,
    /// It is being connected to.
    Connecting,
    /// The client is being installed.
    Installing,
    /// The client waits for the start.
    Ready,
    /// The profilers collect.
    Collecting,
    /// The profilers have ended.
    Stopped,
    /// The reports are made.
    Reported,
    /// The results are here.
    Collected,
    /// Nothing of ours is left on it.
    Cleaned,
    /// The controller gave up on it.
    Failed,
}

impl HostStep {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Connecting => "connecting",
            Self::Installing => "installing",
            Self::Ready => "ready",
            Self::Collecting => "collecting",
            Self::Stopped => "stopped",
            Self::Reported => "reported",
            Self::Collected => "collected",
            Self::Cleaned => "cleaned",
            Self::Failed => "failed",
        }
    }
}

/// A host's clock against the controller's, from one exchange.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClockOffset {
    /// How far the host's clock is ahead, in seconds.
    pub ahead_s: f64,
    /// How far off that may be: half the round trip, in seconds.
    pub error_s: f64,
}

/// The client of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClientRecord {
    /// Its directory on the host.
    pub directory: String,
    /// The number of its last event.
    pub last_event: u64,
    /// Whether the directory is still there.
    pub present: bool,
    /// Bytes of results on the host, when it last said.
    pub bytes: u64,
}

/// Something that went wrong with a host as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostError {
    /// The step: connect, install, ready, start, watch, stop, report, collect, clean.
    pub step: String,
    /// What happened.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// One profiler on one host.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ProfilerRecord {
    /// How it went, or goes.
    pub state: ProfilerState,
    /// Why it is not `ok`.
    pub reason: Option<String>,
    /// What [`Self::reason`] is made of, so that a part of it can be withdrawn.
    #[serde(skip)]
    pub(crate) reasons: Vec<(ReasonKind, String)>,
    /// The end of what its tool printed on standard error, when it is not `ok`.
    pub last_words: Option<String>,
    /// The preset that asked for it; none: the user named it.
    pub preset: Option<String>,
    /// Its arguments, complete.
    pub args: Args,
    /// What the client was told to run.
    #[schemars(with = "Option<serde_json::Value>")]
    pub invocation: Option<Invocation>,
    /// The tool's version on this host.
    pub tool_version: Option<String>,
    /// Which part of its data the last one is: a new one begins when it had to be started again.
    pub segment: u32,
    /// Its parts: one, unless it had to be started again.
    pub segments: Vec<SegmentRecord>,
    /// When it was to begin, on all hosts at once, by the host's clock; none: as soon as it could.
    #[serde(default)]
    pub planned: Option<Instant>,
    /// When it began to collect, by the host's clock.
    pub began: Option<Instant>,
    /// When it was asked to end, by the host's clock; none: as soon as it could be, or it was not asked.
    #[serde(default)]
    pub planned_end: Option<Instant>,
    /// When its tool was gone, by the host's clock.
    pub ended: Option<Instant>,
    /// Its tool's exit status in words.
    pub status: Option<String>,
    /// CPU time that its tool took, in seconds.
    pub cpu_s: Option<f64>,
    /// Samples that the tool says it lost; none: it does not say.
    pub lost_samples: Option<u64>,
    /// How many samples the client itself took for it in its last segment, of how many, and how late at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<SamplerStats>,
    /// Why not all of its files came back, when they did not: part of the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
    /// Files that came back.
    pub files: Vec<FileRecord>,
    /// Bytes of those files.
    pub bytes: u64,
    /// Tables that were made of them.
    pub tables: Vec<TableRecord>,
}

/// What a reason is about, which decides when it is withdrawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReasonKind {
    /// What happened while the profiler was planned, ran or made its report: it stays.
    Profiling,
    /// Its host was given up: withdrawn when everything came back after all.
    Reach,
    /// What a collection lacked: each collection says it anew.
    Collection,
    /// What a conversion lacked: each conversion says it anew.
    Conversion,
}

/// One part of a profiler's data: from one of its starts to the end that followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SegmentRecord {
    /// Its number, from 1; the data of a later one is in a directory `segment-N`.
    pub segment: u32,
    /// When it began to collect, by the host's clock.
    pub began: Instant,
    /// When its tool was gone, by the host's clock; none: it was not seen to end.
    pub ended: Option<Instant>,
    /// Where it was not seen to end, the instant after which there can be no data of it.
    pub until: Option<Instant>,
    /// Time without data before it, in nanoseconds; none for the first.
    pub gap_ns: Option<i64>,
}

/// How one profiler on one host went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProfilerState {
    /// It is still to start.
    Pending,
    /// It collects.
    Running,
    /// It has ended, and its data is still on the host.
    Ended,
    /// It collected over the whole window and its data is here.
    Ok,
    /// Some of its data is here; the reason says what is missing.
    Partial,
    /// It did not collect.
    Failed,
    /// It was asked for by a preset and cannot run here.
    Skipped,
    /// It collected, and its data could not be brought back.
    Lost,
}

impl ProfilerState {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Ended => "ended",
            Self::Ok => "ok",
            Self::Partial => "partial",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Lost => "lost",
        }
    }
}

/// An instant of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Instant {
    /// UTC, by the host's clock.
    #[schemars(with = "String")]
    pub utc: Timestamp,
    /// Both of the host's clocks.
    pub stamp: Stamp,
}

impl From<Stamp> for Instant {
    fn from(stamp: Stamp) -> Self {
        let utc = Timestamp::from_nanosecond(i128::from(stamp.unix_ns)).unwrap_or(Timestamp::UNIX_EPOCH);
        Self { utc, stamp }
    }
}

/// A file that came back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileRecord {
    /// Path below the profiler's directory.
    pub path: String,
    /// Size in bytes.
    pub bytes: u64,
    /// BLAKE3 digest, made on the host and checked here.
    pub blake3: String,
    /// Whether it is only a beginning: what came before the host was lost. Its digest is of what is here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
}

/// A table that was made of a profiler's files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TableRecord {
    /// Path below the profiler's directory.
    pub path: String,
    /// Rows below the header.
    pub rows: u64,
    /// What had to be left out.
    pub warnings: Vec<String>,
    /// How many samples a table with a fixed interval has; none: it has no fixed interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<SampleCount>,
}

impl From<Table> for TableRecord {
    fn from(table: Table) -> Self {
        Self { path: table.file, rows: table.rows, warnings: table.warnings, samples: table.samples }
    }
}

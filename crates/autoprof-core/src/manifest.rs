//! The manifest: what is known of a run, host by host and profiler by profiler. It is a fold over the run's events.
use std::collections::BTreeMap;

use autoprof_protocol::{EventKind, HostFacts, Invocation, Outcome, Stamp};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    args::Args,
    encoder::Table,
    event::{HostEvent, RunEvent, RunEventKind},
    host::Host,
    job::{Require, Timeouts},
};

/// Version of the manifest's schema. A reader takes the same major version; a higher minor only adds.
pub const SCHEMA_VERSION: &str = "1.0";

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
    /// Largest spread, over the hosts, of the instants at which a profiler began, by the hosts' clocks as they stood
    /// against the controller's, in seconds.
    pub skew_s: Option<f64>,
    /// Every host, by the name that the controller has for it.
    pub hosts: BTreeMap<String, HostRecord>,
    /// How the run was set up.
    pub settings: RunSettings,
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
    /// How many hosts are connected to at the same time.
    pub forks: u32,
    /// How long a client goes on without a controller, in milliseconds; none: as long as it goes on at all.
    pub lease_ms: Option<u64>,
    /// How long a client goes on at all, in milliseconds.
    pub max_duration_ms: u64,
    /// How long each step may take.
    pub timeouts: Timeouts,
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
}

/// One host of a run.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct HostRecord {
    /// How it is reached.
    pub host: Host,
    /// What the controller is doing with it, or did last.
    pub step: HostStep,
    /// What is known of it.
    pub facts: Option<HostFacts>,
    /// Its clock against the controller's.
    pub clock: Option<ClockOffset>,
    /// Its client.
    pub client: Option<ClientRecord>,
    /// What went wrong with the host as a whole, in order.
    pub errors: Vec<HostError>,
    /// Its profilers, by name.
    pub profilers: BTreeMap<String, ProfilerRecord>,
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
    /// Which part of its data this is: a new one begins when it had to be started again.
    pub segment: u32,
    /// When it began to collect, by the host's clock.
    pub began: Option<Instant>,
    /// When its tool was gone, by the host's clock.
    pub ended: Option<Instant>,
    /// Its tool's exit status in words.
    pub status: Option<String>,
    /// CPU time that its tool took, in seconds.
    pub cpu_s: Option<f64>,
    /// Samples that the tool says it lost; none: it does not say.
    pub lost_samples: Option<u64>,
    /// Files that came back.
    pub files: Vec<FileRecord>,
    /// Bytes of those files.
    pub bytes: u64,
    /// Tables that were made of them.
    pub tables: Vec<TableRecord>,
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
}

impl From<Table> for TableRecord {
    fn from(table: Table) -> Self {
        Self { path: table.file, rows: table.rows, warnings: table.warnings }
    }
}

impl Manifest {
    /// The JSON Schema of manifests.
    #[must_use]
    pub fn json_schema() -> serde_json::Value {
        schemars::schema_for!(Manifest).to_value()
    }

    /// Folds a run's events; none when the first one does not begin a run.
    #[must_use]
    pub fn fold<'a>(events: impl IntoIterator<Item = &'a RunEvent>) -> Option<Self> {
        let mut events = events.into_iter();
        let mut manifest = Self::begin(events.next()?)?;
        events.for_each(|event| manifest.apply(event));
        Some(manifest)
    }

    /// The manifest of a run that has just begun.
    #[must_use]
    pub fn begin(event: &RunEvent) -> Option<Self> {
        let RunEventKind::Created { id, autoprof, controller, require, test, hosts, settings } = &event.kind else {
            return None;
        };
        Some(Self {
            schema: SCHEMA_VERSION.to_owned(),
            id: id.clone(),
            autoprof: autoprof.clone(),
            controller: controller.clone(),
            created: event.at,
            phase: RunPhase::Preparing,
            require: *require,
            require_met: None,
            test: test.as_ref().map(|argv| TestRecord {
                argv: argv.clone(),
                began: None,
                ended: None,
                status: None,
                exit_code: None,
            }),
            interrupted: None,
            skew_s: None,
            hosts: hosts.iter().map(|host| (host.name.clone(), HostRecord::new(host.clone()))).collect(),
            settings: settings.clone(),
        })
    }

    /// Takes one more event into account.
    pub fn apply(&mut self, event: &RunEvent) {
        match &event.kind {
            RunEventKind::Created { .. } => {}
            RunEventKind::Phase { phase } => {
                self.phase = *phase;
                self.skew_s = self.skew();
            }
            RunEventKind::TestBegan => {
                if let Some(test) = &mut self.test {
                    test.began = Some(event.at);
                }
            }
            RunEventKind::TestEnded { status, exit_code } => {
                if let Some(test) = &mut self.test {
                    test.ended = Some(event.at);
                    test.status = Some(status.clone());
                    test.exit_code = Some(*exit_code);
                }
            }
            RunEventKind::Interrupted { by } => self.interrupted = Some(by.clone()),
            RunEventKind::Finished { require_met } => {
                self.phase = RunPhase::Finished;
                self.require_met = Some(*require_met);
            }
            RunEventKind::Host { host, event } => {
                if let Some(record) = self.hosts.get_mut(host) {
                    record.apply(event);
                }
            }
        }
    }

    /// How many hosts are whole: nothing is missing of what was asked for.
    #[must_use]
    pub fn whole_hosts(&self) -> usize {
        self.hosts.values().filter(|host| host.is_whole()).count()
    }

    /// Whether the run's requirement is met as things stand.
    #[must_use]
    pub fn meets_requirement(&self) -> bool {
        self.require.is_met(self.whole_hosts(), self.hosts.len())
    }

    /// The largest spread over the hosts that any profiler began with: those of one host are not compared with each
    /// other, since some acknowledge later than others.
    #[expect(clippy::cast_precision_loss, reason = "differences of instants, far below 2^52 ns")]
    fn skew(&self) -> Option<f64> {
        let mut began: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        let base = self.hosts.values().flat_map(|h| h.profilers.values()).find_map(|p| p.began)?.stamp.unix_ns;
        for host in self.hosts.values() {
            let ahead = host.clock.map_or(0.0, |c| c.ahead_s);
            for (name, profiler) in &host.profilers {
                let at = profiler.began.map(|b| (b.stamp.unix_ns - base) as f64 / 1e9 - ahead);
                began.entry(name).or_default().extend(at);
            }
        }
        let spread = |at: &Vec<f64>| {
            at.iter().copied().reduce(f64::max).unwrap_or(0.0) - at.iter().copied().reduce(f64::min).unwrap_or(0.0)
        };
        began.values().map(spread).reduce(f64::max)
    }
}

impl HostRecord {
    fn new(host: Host) -> Self {
        Self {
            host,
            step: HostStep::Waiting,
            facts: None,
            clock: None,
            client: None,
            errors: Vec::new(),
            profilers: BTreeMap::new(),
        }
    }

    /// Whether nothing is missing of what was asked for on this host.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !self.profilers.is_empty()
            && self.errors.iter().all(|e| e.step == "clean")
            && self.profilers.values().all(|p| matches!(p.state, ProfilerState::Ok | ProfilerState::Skipped))
    }

    /// Bytes that came back from this host, or that it last said it had.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let here: u64 = self.profilers.values().map(|p| p.bytes).sum();
        if here > 0 { here } else { self.client.as_ref().map_or(0, |c| c.bytes) }
    }

    fn apply(&mut self, event: &HostEvent) {
        match event {
            HostEvent::Connecting => self.step = HostStep::Connecting,
            HostEvent::Installing { directory } => {
                self.step = HostStep::Installing;
                self.client =
                    Some(ClientRecord { directory: directory.clone(), last_event: 0, present: true, bytes: 0 });
            }
            HostEvent::Facts { facts } => self.facts = Some(facts.as_ref().clone()),
            HostEvent::Clock { offset } => self.clock = Some(*offset),
            HostEvent::Planned { profiler, preset, args, invocation, tool_version } => {
                let record = ProfilerRecord {
                    invocation: Some(invocation.as_ref().clone()),
                    tool_version: tool_version.clone(),
                    ..ProfilerRecord::new(ProfilerState::Pending, preset.clone(), args.clone())
                };
                self.profilers.insert(profiler.clone(), record);
            }
            HostEvent::Skipped { profiler, preset, args, reason } => {
                let record = ProfilerRecord {
                    reason: Some(reason.clone()),
                    ..ProfilerRecord::new(ProfilerState::Skipped, preset.clone(), args.clone())
                };
                self.profilers.insert(profiler.clone(), record);
            }
            HostEvent::Refused { profiler, args, reason } => {
                let record = ProfilerRecord {
                    reason: Some(reason.clone()),
                    ..ProfilerRecord::new(ProfilerState::Failed, None, args.clone())
                };
                self.profilers.insert(profiler.clone(), record);
            }
            HostEvent::Client { event } => self.apply_client(event),
            HostEvent::Failed { error } => {
                self.errors.push(error.clone());
                if error.step != "clean" && self.step < HostStep::Collected {
                    self.step = HostStep::Failed;
                    self.give_up(&error.message);
                }
            }
            HostEvent::Collected { files, missing } => {
                self.step = HostStep::Collected;
                self.collected(files, missing.as_deref());
            }
            HostEvent::Converted { profiler, tables, problem } => {
                if let Some(record) = self.profilers.get_mut(profiler) {
                    record.tables = tables.iter().cloned().map(TableRecord::from).collect();
                    if let Some(problem) = problem {
                        record.degrade(ProfilerState::Partial, problem);
                    }
                }
            }
            HostEvent::Cleaned => {
                self.step = self.step.max(HostStep::Cleaned);
                if let Some(client) = &mut self.client {
                    client.present = false;
                }
            }
        }
    }

    fn apply_client(&mut self, event: &autoprof_protocol::Event) {
        if let Some(client) = &mut self.client {
            client.last_event = client.last_event.max(event.seq);
            if let EventKind::Beat { bytes } = event.kind {
                client.bytes = bytes;
            }
        }
        match &event.kind {
            EventKind::Ready { .. } => self.step = HostStep::Ready,
            EventKind::Began { profiler, began, .. } => {
                if let Some(record) = self.profilers.get_mut(profiler) {
                    record.state = ProfilerState::Running;
                    record.began = Some((*began).into());
                }
            }
            EventKind::Started { .. } => self.step = HostStep::Collecting,
            EventKind::Ended(ended) => {
                if let Some(record) = self.profilers.get_mut(&ended.profiler) {
                    record.ended(ended);
                }
            }
            EventKind::Stopped => self.step = HostStep::Stopped,
            EventKind::ReportFailed { profiler, reason } => {
                if let Some(record) = self.profilers.get_mut(profiler) {
                    record.degrade(ProfilerState::Partial, &format!("its report on the host failed: {reason}"));
                }
            }
            EventKind::Reported => self.step = HostStep::Reported,
            EventKind::LimitReached { limit } => {
                for record in self.profilers.values_mut().filter(|r| r.state == ProfilerState::Running) {
                    record.degrade(ProfilerState::Running, &format!("stopped early: the client's {limit} was reached"));
                }
            }
            _ => {}
        }
    }

    /// Takes in what came back; a profiler that collected and of which nothing came back has lost its data.
    fn collected(&mut self, files: &[FileRecord], missing: Option<&str>) {
        for file in files {
            let Some((profiler, path)) = file.path.split_once('/') else { continue };
            if let Some(record) = self.profilers.get_mut(profiler) {
                record.files.push(FileRecord { path: path.to_owned(), ..file.clone() });
                record.bytes += file.bytes;
            }
        }
        for record in self.profilers.values_mut() {
            record.settle(missing);
        }
    }

    /// Decides what becomes of profilers whose host was given up.
    fn give_up(&mut self, why: &str) {
        for record in self.profilers.values_mut() {
            match record.state {
                ProfilerState::Pending => {
                    record.state = ProfilerState::Failed;
                    record.reason.get_or_insert_with(|| why.to_owned());
                }
                ProfilerState::Running | ProfilerState::Ended => {
                    record.state = ProfilerState::Lost;
                    record.reason = Some(why.to_owned());
                }
                _ => {}
            }
        }
    }
}

impl ProfilerRecord {
    fn new(state: ProfilerState, preset: Option<String>, args: Args) -> Self {
        Self {
            state,
            reason: None,
            last_words: None,
            preset,
            args,
            invocation: None,
            tool_version: None,
            segment: 1,
            began: None,
            ended: None,
            status: None,
            cpu_s: None,
            lost_samples: None,
            files: Vec::new(),
            bytes: 0,
            tables: Vec::new(),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "microseconds of CPU time")]
    fn ended(&mut self, ended: &autoprof_protocol::Ended) {
        self.ended = Some(ended.ended.into());
        self.status = (!ended.status.is_empty()).then(|| ended.status.clone());
        self.cpu_s = (ended.cpu_us > 0).then_some(ended.cpu_us as f64 / 1e6);
        self.last_words.clone_from(&ended.last_words);
        self.state = if ended.outcome == Outcome::Failed { ProfilerState::Failed } else { ProfilerState::Ended };
        if let Some(reason) = &ended.reason {
            self.degrade(self.state, reason);
        }
    }

    /// Notes a reason; the first one is the one that counts, later ones follow it.
    fn degrade(&mut self, state: ProfilerState, reason: &str) {
        self.state = state;
        self.reason = Some(match self.reason.take() {
            Some(earlier) if !earlier.contains(reason) => format!("{earlier}; {reason}"),
            Some(earlier) => earlier,
            None => reason.to_owned(),
        });
    }

    /// The state of a profiler whose results are as complete as they will be.
    fn settle(&mut self, missing: Option<&str>) {
        use ProfilerState::{Ended, Lost, Partial, Running};
        // One that was given up for lost may come back after all.
        let was_lost = self.state == Lost && !self.files.is_empty();
        if !was_lost && !matches!(self.state, Running | Ended | Partial) {
            return;
        }
        let lacks = self
            .invocation
            .iter()
            .flat_map(|i| &i.outputs)
            .filter(|output| output.required && !self.files.iter().any(|f| f.path == output.file && f.bytes > 0));
        let lacks: Vec<&str> = lacks.map(|output| output.file.as_str()).collect();
        let lacks = (!lacks.is_empty()).then(|| format!("{} did not come back, or is empty", lacks.join(", ")));
        if self.files.is_empty() {
            let why = missing.map_or_else(|| "it left no file".to_owned(), str::to_owned);
            self.degrade(ProfilerState::Lost, &why);
        } else if let Some(why) = missing.map(str::to_owned).or(lacks) {
            self.degrade(ProfilerState::Partial, &why);
        } else if self.state == ProfilerState::Running {
            self.degrade(ProfilerState::Partial, "its end was not heard of");
        } else if self.reason.is_some() {
            self.state = ProfilerState::Partial;
        } else {
            self.state = ProfilerState::Ok;
        }
    }
}

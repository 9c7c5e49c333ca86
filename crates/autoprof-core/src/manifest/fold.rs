//! What each event makes of what is known of a run.
use std::collections::BTreeMap;

use autoprof_protocol::{EventKind, Marker, Outcome, Stamp};
use jiff::Timestamp;

use super::{
    Checkpoint, ClientRecord, ClockStep, FileRecord, HostRecord, HostStep, Instant, Manifest, Mark, Outage,
    ProfilerRecord, ProfilerState, Readiness, ReasonKind, RunPhase, SCHEMA_VERSION, SchedulingRecord, SegmentRecord,
    SettingChange, TableRecord, TestRecord, WindowRecord,
};
use crate::{
    args::Args,
    encoder::Table,
    event::{Cause, HostEvent, RunEvent, RunEventKind},
    host::Host,
    text::HostText,
};

/// When a reason has so many bytes, no other one is added to it: a host can go on giving reasons for ever.
const LONGEST_REASON: usize = 2000;

/// Steps whose failure no longer matters once all results are here.
const MADE_GOOD_BY_RESULTS: [&str; 3] = ["stop", "reconnect", "collect"];

/// What tables that were made of a torn file say of their profiler; of several files, the one with most samples counts.
fn repaired(tables: &[Table]) -> Option<String> {
    let samples = tables.iter().filter_map(|table| table.repaired).max()?;
    Some(format!("repaired, {samples} samples"))
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
                env: BTreeMap::new(),
            }),
            interrupted: None,
            marks: Vec::new(),
            windows: Vec::new(),
            skew_s: None,
            hosts: hosts.iter().map(|host| (host.name.clone(), HostRecord::new(host.clone()))).collect(),
            settings: settings.as_ref().clone(),
            tables: BTreeMap::new(),
        })
    }

    /// Takes one more event into account.
    pub fn apply(&mut self, event: &RunEvent) {
        let at = event.at;
        match &event.kind {
            RunEventKind::Created { .. } | RunEventKind::Resumed { .. } => {}
            RunEventKind::Phase { phase } => {
                self.phase = *phase;
                self.skew_s = self.skew();
            }
            RunEventKind::TestBegan { env } => {
                if let Some(test) = &mut self.test {
                    test.began = Some(event.at);
                    test.env.clone_from(env);
                }
            }
            RunEventKind::Marked { name, marked } => self.marks.push(Mark { name: name.clone(), at: *marked }),
            RunEventKind::WindowOpened { window, by } => self.open_window(*window, by, event.at),
            RunEventKind::WindowClosed { window, by } => {
                if let Some(record) = self.windows.iter_mut().rfind(|w| w.window == *window) {
                    record.closed = Some(event.at);
                    record.closed_by = Some(by.clone());
                }
            }
            RunEventKind::WindowUnused => self.hosts.values_mut().for_each(HostRecord::forget_window),
            RunEventKind::TestEnded { status, exit_code } => {
                if let Some(test) = &mut self.test {
                    test.ended = Some(event.at);
                    test.status = Some(status.clone());
                    test.exit_code = Some(*exit_code);
                }
            }
            RunEventKind::Tables { profiler, tables } => {
                self.tables.insert(profiler.clone(), tables.clone());
            }
            RunEventKind::Interrupted { by } => self.interrupted = Some(by.clone()),
            RunEventKind::Finished { require_met } => {
                self.phase = RunPhase::Finished;
                self.hosts.values_mut().flat_map(|h| h.profilers.values_mut()).for_each(ProfilerRecord::end_run);
                self.require_met = Some(*require_met);
            }
            RunEventKind::Host { host, event } => {
                if let Some(record) = self.hosts.get_mut(host) {
                    record.apply(at, event);
                }
            }
        }
    }

    /// What the profilers were in the window before is kept with that window.
    fn open_window(&mut self, window: u32, by: &str, at: Timestamp) {
        if let Some(before) = self.windows.last_mut() {
            for (name, host) in &mut self.hosts {
                before.hosts.insert(name.clone(), std::mem::take(&mut host.earlier));
            }
        }
        self.windows.push(WindowRecord {
            window,
            opened: at,
            opened_by: by.to_owned(),
            closed: None,
            closed_by: None,
            hosts: BTreeMap::new(),
        });
    }

    /// How many hosts are whole: nothing is missing of what was asked for, in any window.
    #[must_use]
    pub fn whole_hosts(&self) -> usize {
        let in_windows = |name: &String| {
            self.windows.iter().filter_map(|w| w.hosts.get(name)).flat_map(BTreeMap::values).all(is_whole)
        };
        self.hosts.iter().filter(|(name, host)| host.is_whole() && in_windows(name)).count()
    }

    /// Whether enough hosts can begin for what is required.
    #[must_use]
    pub fn can_begin(&self) -> bool {
        self.require.is_met(self.hosts.values().filter(|host| host.can_begin()).count(), self.hosts.len())
    }

    /// Whether the run's requirement is met as things stand.
    #[must_use]
    pub fn meets_requirement(&self) -> bool {
        self.require.is_met(self.whole_hosts(), self.hosts.len())
    }

    /// The largest spread over the hosts that any profiler began with: those of one host are not compared with each
    /// other, since some acknowledge later than others.
    #[expect(
        clippy::cast_precision_loss,
        reason = "differences of instants; of hosts that can be believed, far below 2^52 ns"
    )]
    fn skew(&self) -> Option<f64> {
        let mut began: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        let base = self.hosts.values().flat_map(|h| h.profilers.values()).find_map(|p| p.began)?.stamp.unix_ns;
        for host in self.hosts.values() {
            let ahead = host.clock.map_or(0.0, |c| c.ahead_s);
            for (name, profiler) in &host.profilers {
                // A host may say anything of its clock, also that it stands in another age.
                let since = |stamp: Stamp| i128::from(stamp.unix_ns) - i128::from(base);
                let at = profiler.began.map(|b| since(b.stamp) as f64 / 1e9 - ahead);
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
            readiness: Readiness::Unknown,
            facts: None,
            clock: None,
            clock_at_stop: None,
            late_s: None,
            client_cpu_s: None,
            scheduling: None,
            client: None,
            errors: Vec::new(),
            profilers: BTreeMap::new(),
            segment: 1,
            outages: Vec::new(),
            settings: Vec::new(),
            clock_steps: Vec::new(),
            last_heard: None,
            checkpoint: None,
            earlier: BTreeMap::new(),
        }
    }

    /// Whether it cannot be heard at the moment.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.outages.last().is_some_and(|outage| outage.back.is_none())
    }

    /// Another window begins for this host: what the profilers were in the one before is put aside.
    fn begin_window(&mut self) {
        if self.profilers.values().any(|p| p.state != ProfilerState::Pending) {
            self.earlier = std::mem::take(&mut self.profilers);
        }
        self.segment = 1;
        self.checkpoint = None;
        self.late_s = None;
    }

    /// The window that was made ready last is none.
    fn forget_window(&mut self) {
        if self.earlier.is_empty() {
            self.give_up("no line of the test's output opened a window");
        } else {
            self.profilers = std::mem::take(&mut self.earlier);
        }
    }

    /// Whether nothing is missing of what was asked for on this host.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.profilers.values().chain(self.earlier.values()).any(|record| record.state == ProfilerState::Ok)
            && self.errors.iter().all(|e| e.step == "clean")
            && self.profilers.values().chain(self.earlier.values()).all(is_whole)
    }

    /// Bytes that came back from this host, or that it last said it had.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let here = self.profilers.values().fold(0u64, |sum, p| sum.saturating_add(p.bytes));
        if here > 0 { here } else { self.client.as_ref().map_or(0, |c| c.bytes) }
    }

    /// Whether it takes part: it is up, none of the profilers that were asked for by name has failed, and at least one
    /// can collect.
    #[must_use]
    pub fn can_begin(&self) -> bool {
        self.readiness == Readiness::Ready && self.has_usable_profilers()
    }

    /// Whether a run would profile it: it was reached, and at least one profiler can collect there.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        matches!(self.readiness, Readiness::Surveyed | Readiness::Ready) && self.has_usable_profilers()
    }

    fn has_usable_profilers(&self) -> bool {
        let states = || self.profilers.values().map(|record| record.state);
        states().all(|state| state != ProfilerState::Failed) && states().any(|state| state != ProfilerState::Skipped)
    }

    /// Moves on; a failure stays.
    fn reach(&mut self, readiness: Readiness) {
        self.readiness = self.readiness.max(readiness);
    }

    fn apply(&mut self, at: Timestamp, event: &HostEvent) {
        match event {
            HostEvent::Connecting => {
                self.begin_window();
                self.readiness = Readiness::Unknown;
                self.step = HostStep::Connecting;
            }
            HostEvent::Lost { reason } => {
                if !self.is_lost() {
                    let (reason, back, cause) = (reason.clone(), None, None);
                    self.outages.push(Outage { noticed: at, back, reason, cause });
                }
            }
            HostEvent::Back => {
                if let Some(outage) = self.outages.last_mut() {
                    outage.back.get_or_insert(at);
                }
            }
            HostEvent::Broken { cause, until, .. } => self.broken(*cause, *until),
            HostEvent::Reinstalled { directory } => {
                if let Some(client) = &mut self.client {
                    client.directory.clone_from(directory);
                    client.present = true;
                    client.bytes = 0;
                }
            }
            HostEvent::Checkpoint { files, bytes } => {
                self.checkpoint = Some(Checkpoint { at, files: *files, bytes: *bytes });
            }
            HostEvent::Installing { directory } => {
                self.step = HostStep::Installing;
                self.client =
                    Some(ClientRecord { directory: directory.clone(), last_event: 0, present: true, bytes: 0 });
            }
            HostEvent::Facts { facts } => {
                self.reach(Readiness::Surveyed);
                self.facts = Some(facts.as_ref().clone());
            }
            HostEvent::Clock { offset } if self.step >= HostStep::Collecting => self.clock_at_stop = Some(*offset),
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
                let mut record = ProfilerRecord::new(ProfilerState::Skipped, preset.clone(), args.clone());
                record.note(ReasonKind::Profiling, reason);
                self.profilers.insert(profiler.clone(), record);
            }
            HostEvent::Refused { profiler, args, reason } => {
                let mut record = ProfilerRecord::new(ProfilerState::Failed, None, args.clone());
                record.note(ReasonKind::Profiling, reason);
                self.profilers.insert(profiler.clone(), record);
            }
            HostEvent::Client { event } => self.apply_client(event),
            HostEvent::Failed { error } => {
                self.errors.push(error.clone());
                if error.step != "clean" {
                    self.reach(Readiness::Failed);
                    // Profilers whose results are here are settled, and stay as they are.
                    self.give_up(&error.message);
                    if !matches!(self.step, HostStep::Collected | HostStep::Cleaned) {
                        self.step = HostStep::Failed;
                    }
                }
            }
            HostEvent::Collected { files, missing, left_out } => {
                if missing.is_none() {
                    self.step = HostStep::Collected;
                    // What kept the results away is made good.
                    self.errors.retain(|error| !MADE_GOOD_BY_RESULTS.contains(&error.step.as_str()));
                }
                self.collected(files, missing.as_deref(), left_out);
            }
            HostEvent::Converted { profiler, tables, problem } => {
                if let Some(record) = self.profilers.get_mut(profiler) {
                    record.withdraw(|kind| kind == ReasonKind::Conversion);
                    if let Some(reason) = repaired(tables) {
                        record.degrade(ProfilerState::Partial, ReasonKind::Conversion, &reason);
                    }
                    for reason in tables.iter().filter_map(|table| table.incomplete.as_deref()) {
                        record.degrade(ProfilerState::Partial, ReasonKind::Conversion, &one_line(reason));
                    }
                    record.tables = tables.iter().cloned().map(TableRecord::from).collect();
                    if let Some(problem) = problem {
                        record.degrade(ProfilerState::Partial, ReasonKind::Conversion, problem);
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
            if let EventKind::Beat { bytes, .. } = event.kind {
                client.bytes = bytes;
            }
        }
        // What is not in the client's file was made up by whoever looked for it (that it is gone), but for beats.
        if event.seq > 0 || matches!(event.kind, EventKind::Beat { .. }) {
            self.last_heard = Some(event.at);
        }
        match &event.kind {
            EventKind::Ready { segment, .. } => {
                self.reach(Readiness::Ready);
                self.step = HostStep::Ready;
                self.segment = *segment;
            }
            EventKind::Scheduled { marker, planned, late_ns } => self.scheduled(*marker, (*planned).into(), *late_ns),
            EventKind::Began { profiler, began, .. } => {
                let segment = self.segment;
                if let Some(record) = self.profilers.get_mut(profiler) {
                    record.began(segment, *began);
                }
            }
            EventKind::SettingChanged { path, from, to } => self.settings.push(SettingChange {
                at: event.at.into(),
                path: path.to_string(),
                from: from.to_string(),
                to: to.to_string(),
            }),
            EventKind::ClockSet { step_ns } => {
                let (at, segment) = (event.at.into(), self.segment);
                self.clock_steps.push(ClockStep { at, step_ns: *step_ns, segment });
            }
            EventKind::Started { .. } => self.step = HostStep::Collecting,
            EventKind::Ended(ended) => {
                let starting = self.step <= HostStep::Ready;
                if let Some(record) = self.profilers.get_mut(&ended.profiler) {
                    record.ended(ended, starting);
                }
            }
            #[expect(clippy::cast_precision_loss, reason = "microseconds of CPU time")]
            EventKind::Cost { cpu_us } => {
                // One client after another may have worked for the run.
                self.client_cpu_s = Some(self.client_cpu_s.unwrap_or(0.0) + *cpu_us as f64 / 1e6);
            }
            EventKind::Scheduling { policy, reason } => {
                self.scheduling = Some(SchedulingRecord { policy: *policy, reason: reason.clone() });
            }
            EventKind::Stopped => self.step = HostStep::Stopped,
            EventKind::ReportFailed { profiler, reason } => {
                if let Some(record) = self.profilers.get_mut(profiler) {
                    let reason = format!("its report on the host failed: {reason}");
                    record.degrade(ProfilerState::Partial, ReasonKind::Profiling, &reason);
                }
            }
            EventKind::Reported => self.step = HostStep::Reported,
            EventKind::LimitReached { limit } => {
                let reason = format!("stopped early: the client's {limit} was reached");
                for record in self.profilers.values_mut().filter(|r| r.state == ProfilerState::Running) {
                    record.degrade(ProfilerState::Running, ReasonKind::Profiling, &reason);
                }
            }
            _ => {}
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "nanoseconds that are told in seconds")]
    fn scheduled(&mut self, marker: Marker, planned: Instant, late_ns: u64) {
        match marker {
            Marker::Start => {
                self.late_s = (late_ns > 0).then(|| late_ns as f64 / 1e9);
                let waiting = self.profilers.values_mut().filter(|record| record.state == ProfilerState::Pending);
                waiting.for_each(|record| record.planned = Some(planned));
            }
            Marker::Stop => {
                let running = self.profilers.values_mut().filter(|record| record.state == ProfilerState::Running);
                running.for_each(|record| record.planned_end = Some(planned));
            }
            Marker::Report => {}
        }
    }

    /// Notes that everything that collected has ended without having been stopped.
    fn broken(&mut self, cause: Cause, until: Option<Stamp>) {
        // Nothing can have been collected after the client was heard last but before the host went; where the boot that
        // followed is known, that is the later bound.
        let heard = self.last_heard;
        let until = until.into_iter().chain(heard).max_by_key(|stamp| stamp.unix_ns);
        let checkpoint = self.checkpoint.as_ref().map(|c| c.at);
        let noticed = self.outages.last().map(|outage| outage.noticed);
        if let Some(outage) = self.outages.last_mut() {
            outage.cause = Some(cause);
        }
        for record in self.profilers.values_mut() {
            record.broken(cause, until, checkpoint, noticed);
        }
    }

    /// Takes in what came back; a profiler that collected and of which nothing came back has lost its data.
    fn collected(&mut self, files: &[FileRecord], missing: Option<&str>, left_out: &[String]) {
        for record in self.profilers.values_mut() {
            record.files.clear();
            record.bytes = 0;
            let complete = missing.is_none();
            record.withdraw(|kind| match kind {
                ReasonKind::Profiling => false,
                ReasonKind::Reach => complete,
                ReasonKind::Collection | ReasonKind::Conversion => true,
            });
        }
        for file in files {
            let Some((profiler, path)) = file.path.split_once('/') else { continue };
            if let Some(record) = self.profilers.get_mut(profiler) {
                record.files.push(FileRecord { path: path.to_owned(), ..file.clone() });
                record.bytes = record.bytes.saturating_add(file.bytes);
            }
        }
        for (name, record) in &mut self.profilers {
            let own = |line: &&String| line.split('/').next() == Some(name.as_str());
            let left_out: Vec<&str> = left_out.iter().filter(own).map(String::as_str).collect();
            let left_out = (!left_out.is_empty()).then(|| format!("not all files came back: {}", left_out.join("; ")));
            record.settle(missing.map(str::to_owned).or(left_out));
        }
    }

    /// Decides what becomes of profilers whose host was given up.
    fn give_up(&mut self, why: &str) {
        for record in self.profilers.values_mut() {
            match record.state {
                ProfilerState::Pending => {
                    record.state = ProfilerState::Failed;
                    if record.reasons.is_empty() {
                        record.note(ReasonKind::Profiling, why);
                    }
                }
                ProfilerState::Running | ProfilerState::Ended => {
                    record.degrade(ProfilerState::Lost, ReasonKind::Reach, why);
                }
                _ => {}
            }
        }
    }
}

fn is_whole(record: &ProfilerRecord) -> bool {
    matches!(record.state, ProfilerState::Ok | ProfilerState::Skipped)
}

impl ProfilerRecord {
    fn new(state: ProfilerState, preset: Option<String>, args: Args) -> Self {
        Self {
            state,
            reason: None,
            reasons: Vec::new(),
            last_words: None,
            preset,
            args,
            invocation: None,
            tool_version: None,
            segment: 1,
            segments: Vec::new(),
            planned: None,
            began: None,
            planned_end: None,
            ended: None,
            status: None,
            cpu_s: None,
            lost_samples: None,
            samples: None,
            missing: None,
            files: Vec::new(),
            bytes: 0,
            tables: Vec::new(),
        }
    }

    /// Notes that it collects; after a start that was not its first one, how long it did not.
    fn began(&mut self, segment: u32, began: Stamp) {
        let began: Instant = began.into();
        let before = self.segments.last().and_then(|last| last.ended.or(last.until));
        let gap_ns = before.map(|before| began.stamp.unix_ns.saturating_sub(before.stamp.unix_ns).max(0));
        if segment > 1 {
            // Whole seconds are what is known of the end of what was not seen to end.
            let gap = gap_ns.map_or_else(String::new, |ns| format!(" after {:.1} s without data", seconds(ns)));
            self.degrade(self.state, ReasonKind::Profiling, &format!("segment {segment} began{gap}"));
        }
        self.state = ProfilerState::Running;
        self.segment = segment;
        self.began.get_or_insert(began);
        self.segments.push(SegmentRecord { segment, began, ended: None, until: None, gap_ns });
    }

    /// Notes that it ended without having been stopped.
    fn broken(
        &mut self,
        cause: Cause,
        until: Option<Stamp>,
        checkpoint: Option<Timestamp>,
        noticed: Option<Timestamp>,
    ) {
        let was_running = self.state == ProfilerState::Running;
        let was_there = cause.loses_data() && self.state == ProfilerState::Ended;
        if !was_running && !was_there {
            return;
        }
        let Some(last) = self.segments.last_mut().filter(|last| last.until.is_none()) else { return };
        last.until = until.map(Instant::from).or(Some(last.began));
        let mut reason = cause.words().to_owned();
        if cause.loses_data() {
            let from = checkpoint.map_or_else(|| last.began.utc, |at| at.max(last.began.utc));
            // It went on to collect until the outage was noticed, as far as anybody knows.
            let to = last.ended.map(|i| i.utc).or(noticed).or(last.until.map(|i| i.utc)).unwrap_or(from).max(from);
            let kept = if checkpoint.is_some() { " (what came before is here, by the last checkpoint)" } else { "" };
            reason = format!("{reason}: what was collected from {from:.0} to {to:.0} is lost{kept}");
        }
        self.degrade(ProfilerState::Ended, ReasonKind::Profiling, &reason);
    }

    #[expect(clippy::cast_precision_loss, reason = "microseconds of CPU time")]
    fn ended(&mut self, ended: &autoprof_protocol::Ended, starting: bool) {
        let again = self.segments.len() > 1 || (self.segments.len() == 1 && self.state == ProfilerState::Ended);
        if let Some(last) = self.segments.last_mut().filter(|last| last.until.is_none()) {
            last.ended = Some(ended.ended.into());
        }
        self.ended = Some(ended.ended.into());
        self.status = Some(ended.status.to_string()).filter(|status| !status.is_empty());
        let cpu_s = self.cpu_s.unwrap_or(0.0) + ended.cpu_us as f64 / 1e6;
        self.cpu_s = (cpu_s > 0.0).then_some(cpu_s);
        self.samples = ended.samples.or(self.samples);
        if ended.last_words.is_some() {
            self.last_words = ended.last_words.as_ref().map(HostText::printable);
        }
        // One that could not begin again has collected before.
        let failed = ended.outcome == Outcome::Failed && !again;
        self.state = match (failed, starting && self.preset.is_some()) {
            // What a preset brings and the host cannot run is skipped, also where that shows only at the start.
            (true, true) => ProfilerState::Skipped,
            (true, false) => ProfilerState::Failed,
            (false, _) => ProfilerState::Ended,
        };
        if let Some(reason) = &ended.reason {
            self.degrade(self.state, ReasonKind::Profiling, &reason.to_string());
        }
    }

    /// Changes the state and notes why.
    fn degrade(&mut self, state: ProfilerState, kind: ReasonKind, reason: &str) {
        self.state = state;
        self.note(kind, reason);
    }

    /// Notes a reason behind those that there are, while there is room.
    fn note(&mut self, kind: ReasonKind, reason: &str) {
        let length: usize = self.reasons.iter().map(|(_, text)| text.len() + 2).sum();
        if length < LONGEST_REASON && !self.reasons.iter().any(|(_, earlier)| earlier.contains(reason)) {
            self.reasons.push((kind, reason.to_owned()));
            self.say_reasons();
        }
    }

    /// Takes reasons of some kinds back.
    fn withdraw(&mut self, which: impl Fn(ReasonKind) -> bool) {
        self.reasons.retain(|(kind, _)| !which(*kind));
        self.say_reasons();
    }

    fn say_reasons(&mut self) {
        let texts: Vec<&str> = self.reasons.iter().map(|(_, text)| text.as_str()).collect();
        self.reason = (!texts.is_empty()).then(|| texts.join("; "));
    }

    /// In a run that is over nothing waits or goes on: what did ended with a run that was given up.
    fn end_run(&mut self) {
        match self.state {
            ProfilerState::Pending => {
                self.degrade(ProfilerState::Failed, ReasonKind::Profiling, "the run ended before it was started");
            }
            ProfilerState::Running | ProfilerState::Ended => {
                self.degrade(ProfilerState::Lost, ReasonKind::Reach, "the run was given up before its data was wanted");
            }
            _ => {}
        }
    }

    /// The state of a profiler whose results are as complete as they will be.
    fn settle(&mut self, missing: Option<String>) {
        self.missing.clone_from(&missing);
        use ProfilerState::{Ended, Lost, Partial, Running};
        // One that was given up for lost may come back after all.
        let was_lost = self.state == Lost && !self.files.is_empty();
        if !was_lost && !matches!(self.state, Running | Ended | Partial) {
            return;
        }
        let lacks = self.invocation.iter().flat_map(|i| &i.outputs).filter(|output| {
            // A part of it that lies in a later segment will do.
            let is_it = |path: &str| path.rsplit_once('/').map_or(path, |(_, name)| name) == output.file;
            output.required && !self.files.iter().any(|f| is_it(&f.path) && f.bytes > 0)
        });
        let lacks: Vec<&str> = lacks.map(|output| output.file.as_str()).collect();
        let lacks = (!lacks.is_empty()).then(|| format!("{} did not come back, or is empty", lacks.join(", ")));
        if self.files.is_empty() {
            let why = missing.unwrap_or_else(|| "it left no file".to_owned());
            self.degrade(ProfilerState::Lost, ReasonKind::Collection, &why);
        } else if let Some(why) = missing.or(lacks) {
            self.degrade(ProfilerState::Partial, ReasonKind::Collection, &why);
        } else if self.segments.last().is_some_and(|last| last.ended.is_none() && last.until.is_none()) {
            self.degrade(ProfilerState::Partial, ReasonKind::Collection, "its end was not heard of");
        } else if self.reason.is_some() {
            self.state = ProfilerState::Partial;
        } else {
            self.state = ProfilerState::Ok;
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "for a message")]
fn seconds(ns: i64) -> f64 {
    ns as f64 / 1e9
}

//! Bringing one host's results back, and making tables of them.
use std::{
    collections::BTreeMap,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use autoprof_protocol::blocks::BLOCK;
use camino::{Utf8Path, Utf8PathBuf};

use super::{HostClient, Trouble};
use crate::{
    collect::{self, Collection, How, Purpose, collect},
    duration::Span,
    encoder::{ClockStep, RawResults, Table},
    event::{HostEvent, RunEventKind},
    manifest::{FileRecord, ProfilerRecord, ProfilerState, SegmentRecord},
    profiler::ProfilerProxy,
    protocol::segment_dir,
    tables,
};

/// How much of an archive is compressed together at least, over a line that breaks again and again.
const SMALLEST_BLOCK: usize = 4 << 10;
/// How long one checkpoint may take where clients go on for as long as they like without a controller.
const CHECKPOINT: Duration = Duration::from_secs(120);

impl HostClient {
    /// Where this host's results of this window go.
    fn target(&self) -> Utf8PathBuf {
        let own = self.context.recorder.host_directory(&self.host.name);
        self.window.map_or_else(|| own.clone(), |n| own.join(format!("window-{n}")))
    }

    /// Brings back what has been added to the results while the profilers go on. What goes wrong with it shows at the
    /// next one, or at the end.
    pub(super) async fn checkpoint(&mut self) {
        let target = self.target();
        // While it goes on the client hears nothing else of us, and its lease must not end.
        let total = Span(self.context.settings.lease_ms.map_or(CHECKPOINT, |ms| Duration::from_millis(ms / 2)));
        match self.pull(&target, Purpose::Added, (total, Instant::now() + total.0), BLOCK).await {
            Ok(Collection { error: None, .. }) => {
                if let Ok(files) = here(target, BTreeMap::new()).await {
                    let bytes = files.iter().map(|f| f.bytes).sum();
                    self.note(HostEvent::Checkpoint { files: files.len() as u64, bytes });
                }
            }
            Ok(Collection { error: Some(e), .. }) if e.is_of_the_connection() => self.lose(&e.to_string()),
            Ok(Collection { error: Some(e), .. }) => tracing::warn!(host = %self.host, "no checkpoint: {e}"),
            Err(trouble) if trouble.lost => self.lose(&trouble.message),
            Err(trouble) => tracing::warn!(host = %self.host, "no checkpoint: {}", trouble.message),
        }
        self.lend();
    }

    /// Brings the results back and makes tables of them.
    pub(crate) async fn collect(&mut self, encoders: &[&ProfilerProxy]) {
        self.channel = None;
        let target = self.target();
        // An earlier process may have been given up after the results were here and before the host was clean.
        if !self.is_collected() {
            // Of what came over tables are made, whatever became of the rest.
            self.fetch(&target).await;
        }
        self.convert_all(encoders, &target).await;
    }

    /// Brings back what a profiler printed that failed before anything was collected: nothing else says more of why.
    pub(crate) async fn fetch_failed(&mut self) {
        let failed = |m: &crate::manifest::Manifest| {
            let host = m.hosts.get(&self.host.name);
            host.is_some_and(|h| h.profilers.values().any(|p| p.state == ProfilerState::Failed && p.began.is_none()))
        };
        if self.is_up() && self.channel.is_some() && self.context.recorder.with_manifest(failed) {
            self.channel = None;
            let target = self.target();
            self.fetch(&target).await;
        }
    }

    /// Whether profilers of this host had begun and their data has not come back.
    pub(crate) fn has_collected_data(&self) -> bool {
        self.has_begun() && !self.is_collected()
    }

    /// Brings back what a client that died, or does not answer, has left; then the host may be cleaned. What a
    /// checkpoint brought here stands whatever comes of it.
    pub(crate) async fn salvage(&mut self, encoders: &[&ProfilerProxy]) {
        self.drop_connection();
        if self.directory.is_some() {
            self.failed = false;
            self.lost = None;
            self.collect(encoders).await;
        } else {
            self.keep_checkpoint("its results on the host are gone").await;
            let target = self.target();
            self.convert_all(encoders, &target).await;
        }
    }

    async fn fetch(&mut self, target: &Utf8Path) -> Option<()> {
        let mut verified = BTreeMap::new();
        let timeouts = &self.context.settings.timeouts;
        let (begun, patience, total) = (Instant::now(), timeouts.reconnect, timeouts.transfer);
        let until = (total, begun + total.0);
        let mut received = 0_u64;
        let mut block = BLOCK;
        let (left_out, missing) = loop {
            let trouble = match self.pull(target, Purpose::All, until, block).await {
                Ok(done) => {
                    // What was verified is verified, whatever became of the rest.
                    verified.extend(done.verified);
                    match done.error {
                        None => break (done.left_out, None),
                        Some(e) if !e.is_of_the_connection() => break (done.left_out, Some(e.to_string())),
                        Some(e) => {
                            received = received.saturating_add(done.received);
                            if done.received == 0 {
                                // The line may break before a block is through: smaller ones may come.
                                block = (block / 16).max(SMALLEST_BLOCK);
                            }
                            Trouble::lost(e)
                        }
                    }
                }
                Err(trouble) => trouble,
            };
            self.drop_connection();
            // Every verified byte buys time, and not every byte: a host could send the same ones for ever.
            let earned = Duration::from_secs(received / collect::LEAST_RATE);
            if !trouble.lost || self.given_up || begun.elapsed() >= (patience.0 + earned).min(total.0) {
                break (Vec::new(), Some(trouble.message));
            }
            tracing::info!(host = %self.host, "collecting goes on after: {}", trouble.message);
            tokio::time::sleep(super::find::jittered(super::find::FIRST_PAUSE * 4)).await;
        };
        let missing = missing.map(|why| format!("the results could not all be brought back: {why}"));
        let files = match here(target.to_owned(), verified).await {
            Ok(files) => files,
            Err(e) => return self.uncollected(format!("{target} cannot be read: {e}")),
        };
        // A beginning that a checkpoint brought and that the host no longer has is all that there is of it.
        let files: Vec<FileRecord> = files.into_iter().filter(|f| f.bytes > 0 || !f.cut).collect();
        if missing.is_some() && files.is_empty() {
            return self.uncollected(missing.unwrap_or_default());
        }
        self.note(HostEvent::Collected { files, missing: missing.clone(), left_out });
        match missing {
            Some(message) => self.uncollected(message),
            None => Some(()),
        }
    }

    /// One try to bring results back.
    async fn pull(
        &mut self,
        target: &Utf8Path,
        purpose: Purpose,
        total: (Span, Instant),
        block: usize,
    ) -> Result<Collection, Trouble> {
        let session = self.connect().await?;
        let directory = self.directory.clone().ok_or_else(|| Trouble::new("there is nothing of ours on it"))?;
        let settings = &self.context.settings;
        let how = How {
            purpose,
            most_bytes: collect::most_bytes(&settings.disk),
            stall: settings.timeouts.collect,
            total,
            block,
            segment: self.segment(),
            writing: Arc::clone(&self.writing),
        };
        Ok(collect(session.as_ref(), &directory, target, how).await)
    }

    /// What checkpoints brought here is all that there will be.
    async fn keep_checkpoint(&mut self, why: &str) {
        let files = here(self.target(), BTreeMap::new()).await.unwrap_or_default();
        if !files.is_empty() {
            let missing = Some(format!("{why}: this is what was here by the last checkpoint"));
            self.note(HostEvent::Collected { files, missing, left_out: Vec::new() });
        }
    }

    fn uncollected<T>(&mut self, message: String) -> Option<T> {
        let hint = Some(self.left_hint());
        self.fail("collect", &message, hint)
    }

    async fn convert_all(&self, encoders: &[&ProfilerProxy], target: &Utf8Path) {
        for proxy in encoders {
            let record = self.context.recorder.with_manifest(|m| {
                m.hosts.get(&self.host.name).and_then(|host| host.profilers.get(proxy.name())).cloned()
            });
            let Some(record) = record.filter(|r| matches!(r.state, ProfilerState::Ok | ProfilerState::Partial)) else {
                continue;
            };
            let (tables, problems) = self.convert(proxy, &record, &target.join(proxy.name())).await;
            let problem = (!problems.is_empty()).then(|| problems.join("; "));
            if !tables.is_empty() || problem.is_some() {
                self.declare(proxy);
                self.note(HostEvent::Converted { profiler: proxy.name().to_owned(), tables, problem });
            }
        }
    }

    /// Records what the tables of a profiler measure, unless another host's were declared alike.
    fn declare(&self, proxy: &ProfilerProxy) {
        let tables = proxy.encoder().profiler().tables.as_ref();
        let recorder = &self.context.recorder;
        let is_known = recorder.with_manifest(|m| m.tables.get(proxy.name()).map_or(&[][..], Vec::as_slice) == tables);
        if !is_known {
            recorder.record(RunEventKind::Tables { profiler: proxy.name().to_owned(), tables: tables.to_vec() });
        }
    }

    /// The jumps of the host's clock within a segment, on the axis of the clock as it stood when that began.
    fn clock_steps(&self, segment: &SegmentRecord) -> Vec<ClockStep> {
        let steps = self
            .context
            .recorder
            .with_manifest(|m| m.hosts.get(&self.host.name).map(|host| host.clock_steps.clone()).unwrap_or_default());
        let began = segment.began.stamp;
        let within = |step: &&crate::manifest::ClockStep| step.segment == segment.segment;
        let on_axis = |step: &crate::manifest::ClockStep| ClockStep {
            at_unix_ns: began.unix_ns.saturating_add(step.at.stamp.since(began)),
            step_ns: step.step_ns,
        };
        steps.iter().filter(within).map(on_axis).collect()
    }

    /// Makes tables of every segment, and of the later ones' one with the first's.
    async fn convert(
        &self,
        proxy: &ProfilerProxy,
        record: &ProfilerRecord,
        own: &Utf8Path,
    ) -> (Vec<Table>, Vec<String>) {
        let (mut tables, mut problems) = (Vec::new(), Vec::new());
        for (nth, segment) in record.segments.iter().enumerate() {
            let name = segment_dir(segment.segment);
            let directory = name.as_ref().map_or_else(|| own.to_owned(), |name| own.join(name));
            let files = directory.read_dir_utf8().into_iter().flatten().flatten();
            if !files.into_iter().any(|entry| entry.file_type().is_ok_and(|kind| kind.is_file())) {
                // It was lost with its host: the record says so.
                continue;
            }
            let next = record.segments.get(nth + 1);
            let files = files_of(record, name.as_deref());
            let raw = RawResults {
                directory,
                args: proxy.args().clone(),
                began_unix_ns: segment.began.stamp.unix_ns,
                ended_unix_ns: ended(segment, next),
                end_unknown: segment.ended.is_none(),
                facts: self.facts.clone().unwrap_or_default(),
                clock_steps: self.clock_steps(segment),
            };
            let interval_ns = interval_ns(proxy);
            let encoder = Arc::clone(proxy.encoder());
            let gap_at = segment.began.stamp.unix_seconds() - 1e-6;
            let own = own.to_owned();
            let converted = tokio::task::spawn_blocking(move || {
                let mut made = encoder.convert(&raw).map_err(|e| e.to_string())?;
                tables::require_rows(&mut made, &raw, &files, interval_ns);
                Ok::<_, String>(with_own(made, name.as_deref(), &own, gap_at))
            });
            match converted.await.unwrap_or_else(|e| Err(e.to_string())) {
                Ok(made) => merge(&mut tables, made),
                Err(e) => problems.push(match segment.segment {
                    1 => format!("no tables could be made: {e}"),
                    n => format!("no tables could be made of segment {n}: {e}"),
                }),
            }
        }
        (tables, problems)
    }
}

/// What is here of a host's results.
async fn here(target: Utf8PathBuf, verified: BTreeMap<String, String>) -> io::Result<Vec<FileRecord>> {
    tokio::task::spawn_blocking(move || collect::inventory(&target, &verified)).await.map_err(io::Error::other)?
}

/// Until when a segment can have rows: its end, or where that was not seen, the beginning of the next.
fn ended(segment: &SegmentRecord, next: Option<&SegmentRecord>) -> i64 {
    match (segment.ended, next) {
        // By the clock that nobody sets.
        (Some(ended), _) => segment.began.stamp.unix_ns.saturating_add(ended.stamp.since(segment.began.stamp)),
        (None, Some(next)) => next.began.stamp.unix_ns,
        (None, None) => crate::now().as_nanosecond().try_into().unwrap_or(i64::MAX),
    }
}

/// The files with something in them that came back of one segment.
fn files_of(record: &ProfilerRecord, segment: Option<&str>) -> Vec<String> {
    let within = |path: &str| match segment {
        Some(segment) => path.strip_prefix(segment)?.strip_prefix('/').map(str::to_owned),
        None => (!path.starts_with("segment-")).then(|| path.to_owned()),
    };
    record.files.iter().filter(|file| file.bytes > 0).filter_map(|file| within(&file.path)).collect()
}

/// Time between two samples, in nanoseconds; 0: the profiler has no interval.
#[expect(clippy::cast_possible_truncation, reason = "parameters are at most a day")]
fn interval_ns(proxy: &ProfilerProxy) -> i64 {
    let interval = proxy.args().number("interval").unwrap_or_default();
    let unit = proxy.encoder().profiler().param("interval").map_or("", |param| param.unit.as_ref());
    (interval * if unit == "ms" { 1e6 } else { 1e9 }) as i64
}

/// The tables of a later segment, each put behind the profiler's own too.
fn with_own(made: Vec<Table>, segment: Option<&str>, own: &Utf8Path, gap_at: f64) -> Vec<Table> {
    let Some(segment) = segment else { return made };
    let mut all = Vec::new();
    for mut table in made {
        match tables::join(&own.join(&table.file), &own.join(segment).join(&table.file), gap_at) {
            Ok(Some(rows)) => all.push(Table { rows, warnings: Vec::new(), ..table.clone() }),
            Ok(None) => {}
            Err(e) => table.warnings.push(format!("it could not be put behind the first segment's: {e}")),
        }
        table.file = format!("{segment}/{}", table.file);
        all.push(table);
    }
    all
}

/// Adds tables, and rows to those that are there.
fn merge(tables: &mut Vec<Table>, made: Vec<Table>) {
    for table in made {
        match tables.iter_mut().find(|t| t.file == table.file) {
            Some(there) => there.rows += table.rows,
            None => tables.push(table),
        }
    }
}

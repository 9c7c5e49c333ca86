//! A run in the forms that other viewers read.
mod columns;

use std::{
    io::{self, Write},
    time::{Duration, SystemTime},
};

use autoprof_core::{manifest::Manifest, text};
use camino::Utf8Path;
use fxprof_processed_profile::{
    CategoryHandle, CpuDelta, FrameFlags, FrameInfo, Profile, ReferenceTimestamp, SamplingInterval, Timestamp,
};
use serde_json::json;

use crate::{flame, frame, metrics};

/// Why nothing was exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The run has nothing of the kind.
    #[error("{run} has {what}")]
    Nothing {
        /// The run.
        run: String,
        /// What it has not.
        what: &'static str,
    },
    /// Something could not be read or written.
    #[error("cannot export: {0}")]
    Io(#[from] io::Error),
    /// A table, or a part of it, is not in what was written.
    #[error("not all is in it: {0}")]
    Incomplete(#[from] frame::FrameError),
    /// A table could not be written.
    #[error("cannot export: {0}")]
    Csv(#[from] csv::Error),
    /// Likewise, as Parquet.
    #[error("cannot export: {0}")]
    Parquet(#[from] parquet::errors::ParquetError),
}

impl ExportError {
    /// Whether whoever was to read it is gone.
    #[must_use]
    pub fn is_broken_pipe(&self) -> bool {
        let is = |e: &io::Error| e.kind() == io::ErrorKind::BrokenPipe;
        match self {
            Self::Io(e) => is(e),
            Self::Csv(e) => matches!(e.kind(), csv::ErrorKind::Io(e) if is(e)),
            Self::Parquet(parquet::errors::ParquetError::External(e)) => e.downcast_ref().is_some_and(is),
            Self::Parquet(_) | Self::Nothing { .. } | Self::Incomplete(_) => false,
        }
    }
}

/// Samples of a stack that the Firefox Profiler is given one by one; the rest are one of that weight.
const MOST_EACH: u64 = 100_000;

/// Stacks of all hosts, `host;command;outer;inner COUNT`: for flamegraph.pl, inferno, speedscope.
///
/// # Errors
/// When there are no stacks, or they cannot be read or written.
pub fn folded(run: &Utf8Path, manifest: &Manifest, out: &mut dyn Write) -> Result<(), ExportError> {
    let mut any = false;
    for host in manifest.hosts.keys() {
        for line in flame::lines(&flame::files(run, manifest, host), Some(host))? {
            any = true;
            writeln!(out, "{line}")?;
        }
    }
    if any { Ok(()) } else { Err(no_stacks(manifest)) }
}

fn no_stacks(manifest: &Manifest) -> ExportError {
    ExportError::Nothing { run: manifest.id.clone(), what: "no stacks: they come from the profiler perf" }
}

/// The numbers of one column that are about one thing, in order of time.
struct Numbers<'a> {
    host: &'a str,
    profiler: &'a str,
    table: &'a str,
    what: &'a str,
    column: &'a str,
    times: &'a [f64],
    /// As many; what is not known is no number.
    values: &'a [f64],
}

impl Numbers<'_> {
    /// What is known, with its time.
    fn known(&self) -> impl Iterator<Item = (f64, f64)> {
        self.times.iter().copied().zip(self.values.iter().copied()).filter(|(_, value)| !value.is_nan())
    }
}

/// Hands out every number of every table, column by column.
fn numbers(
    run: &Utf8Path,
    manifest: &Manifest,
    mut each: impl FnMut(&Numbers<'_>) -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    let mut any = false;
    let mut left_out = None;
    for host in manifest.hosts.keys() {
        let (tables, problems) = frame::of_host(run, manifest, host);
        left_out = left_out.or(problems.into_iter().next());
        for table in &tables {
            for group in &table.groups {
                for (column, values) in table.columns.iter().zip(&group.values) {
                    let (profiler, table, what) = (table.profiler.as_str(), table.file.as_str(), group.key.as_str());
                    let numbers = Numbers { host, profiler, table, what, column, times: &group.times, values };
                    if numbers.known().next().is_some() {
                        any = true;
                        each(&numbers)?;
                    }
                }
            }
        }
    }
    match left_out {
        Some(problem) => Err(problem.into()),
        None if any => Ok(()),
        None => Err(no_tables(manifest)),
    }
}

/// The columns of what [`csv`] and [`parquet`] write.
const COLUMNS: [&str; 7] = ["time_unix", "host", "profiler", "table", "what", "column", "value"];

/// Every number of every table, a row each: for R, pandas, DuckDB. Times are by the controller's clock.
///
/// # Errors
/// When there are no tables, or they cannot be written.
pub fn csv(run: &Utf8Path, manifest: &Manifest, out: &mut dyn Write) -> Result<(), ExportError> {
    let mut writer = csv::Writer::from_writer(out);
    let mut headed = false;
    let written = numbers(run, manifest, |numbers| {
        if !std::mem::replace(&mut headed, true) {
            writer.write_record(COLUMNS)?;
        }
        let Numbers { host, profiler, table, what, column, .. } = *numbers;
        let texts = [host, profiler, table, what, column].map(|text| text::cell(text.as_bytes()));
        for (time, value) in numbers.known() {
            writer.write_field(format!("{time:.6}"))?;
            texts.iter().try_for_each(|text| writer.write_field(text))?;
            writer.write_field(value.to_string())?;
            writer.write_record(None::<&[u8]>)?;
        }
        Ok(())
    });
    writer.flush()?;
    written
}

/// The same as Parquet, with times as `TIMESTAMP` in microseconds, UTC.
///
/// # Errors
/// When there are no tables, or they cannot be written.
pub fn parquet(run: &Utf8Path, manifest: &Manifest, out: &mut (dyn Write + Send)) -> Result<(), ExportError> {
    // Nothing is written until there is something.
    let (mut out, mut rows) = (Some(out), None);
    let written = numbers(run, manifest, |numbers| {
        if let Some(out) = out.take() {
            rows = Some(columns::Rows::new(out)?);
        }
        rows.as_mut().map_or(Ok(()), |rows| rows.add(numbers))
    });
    rows.map_or(Ok(()), columns::Rows::finish)?;
    written
}

fn no_tables(manifest: &Manifest) -> ExportError {
    ExportError::Nothing { run: manifest.id.clone(), what: "no tables with a time axis" }
}

/// Figures of every host as counters, and marks, in the trace event format: for ui.perfetto.dev and chrome://tracing.
///
/// Source of the format: "Trace Event Format", Google, of 2016.
///
/// # Errors
/// When there are no figures, or they cannot be written.
pub fn perfetto(run: &Utf8Path, manifest: &Manifest, out: &mut dyn Write) -> Result<(), ExportError> {
    let mut events = Vec::new();
    for (number, (host, record)) in manifest.hosts.iter().enumerate() {
        let pid = number + 1;
        let (frames, _) = frame::of_host(run, manifest, host);
        events.push(json!({"ph": "M", "pid": pid, "name": "process_name", "args": {"name": host}}));
        for (metric, figure) in metrics::of_host(&frames, record).figures {
            let name = format!("{}, {}", metric.title, metric.unit);
            let series = &figure.series;
            let known = series.times.iter().zip(&series.values).filter(|(_, value)| !value.is_nan());
            events.extend(known.map(|(time, value)| {
                json!({"ph": "C", "pid": pid, "name": name, "ts": time * 1e6, "args": {"value": value}})
            }));
        }
        let marks = manifest.marks.iter().map(|mark| {
            json!({"ph": "i", "s": "g", "pid": pid, "tid": 0, "name": mark.name,
                   "ts": mark.at.as_duration().as_secs_f64() * 1e6})
        });
        events.extend(marks);
    }
    if !events.iter().any(|event| event["ph"] == "C") {
        let what =
            "no figures of whole hosts, which are what perfetto shows; csv and parquet have the numbers of every table";
        return Err(ExportError::Nothing { run: manifest.id.clone(), what });
    }
    serde_json::to_writer(out, &json!({"traceEvents": events, "displayTimeUnit": "ms"})).map_err(io::Error::from)?;
    Ok(())
}

/// Stacks for profiler.firefox.com: a process for each host, a thread for each command.
///
/// Folded stacks say how often, not when: the samples of each thread follow one another.
///
/// # Errors
/// When there are no stacks, or they cannot be read or written.
pub fn firefox(run: &Utf8Path, manifest: &Manifest, out: &mut dyn Write) -> Result<(), ExportError> {
    const INTERVAL: Duration = Duration::from_millis(1);
    let began = SystemTime::UNIX_EPOCH + Duration::from_secs_f64(manifest.created.as_duration().as_secs_f64().max(0.0));
    let mut profile = Profile::new(&manifest.id, ReferenceTimestamp::from(began), SamplingInterval::from(INTERVAL));
    let (mut any, mut number) = (false, 0);
    let start = Timestamp::from_nanos_since_reference(0);
    for host in manifest.hosts.keys() {
        let lines = flame::lines(&flame::files(run, manifest, host), None)?;
        if lines.is_empty() {
            continue;
        }
        number += 1;
        let process = profile.add_process(host, number, start);
        let mut threads = std::collections::BTreeMap::new();
        for line in &lines {
            let Some((stack, count)) = line.rsplit_once(' ') else { continue };
            let Ok(count) = count.parse::<u64>() else { continue };
            let mut frames = stack.split(';');
            let Some(command) = frames.next() else { continue };
            let (thread, samples) = threads.entry(command.to_owned()).or_insert_with(|| {
                number += 1;
                let thread = profile.add_thread(process, number, start, false);
                profile.set_thread_name(thread, command);
                (thread, 0u64)
            });
            let frames: Vec<FrameInfo> = frames
                .map(|name| {
                    let label = profile.intern_string(name);
                    FrameInfo {
                        frame: fxprof_processed_profile::Frame::Label(label),
                        category_pair: CategoryHandle::OTHER.into(),
                        flags: FrameFlags::empty(),
                    }
                })
                .collect();
            let stack = profile.intern_stack_frames(*thread, frames.into_iter());
            // As many samples as there were, as long as there are not more than anybody looks at one by one.
            let (each, rest) = match count {
                0..=MOST_EACH => (count, 0),
                _ => (MOST_EACH, count - MOST_EACH),
            };
            let weights = (0..each).map(|_| 1).chain((rest > 0).then(|| i32::try_from(rest).unwrap_or(i32::MAX)));
            for weight in weights {
                let at = Timestamp::from_nanos_since_reference(*samples * 1_000_000);
                profile.add_sample(*thread, at, stack, CpuDelta::from(INTERVAL), weight);
                *samples += 1;
            }
            any = true;
        }
    }
    if !any {
        return Err(no_stacks(manifest));
    }
    serde_json::to_writer(out, &profile).map_err(io::Error::from)?;
    Ok(())
}

//! The report of a run: one file that opens from the disk and needs nothing else.
mod html;

use std::{
    collections::BTreeMap,
    io::{self, Write},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use autoprof_core::{
    atomic_file::AtomicFile,
    manifest::{HostRecord, Manifest, RunPhase},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use camino::{Utf8Path, Utf8PathBuf};
use flate2::{Compression, write::GzEncoder};
use jiff::Timestamp;
use serde::Serialize;

pub(crate) use html::document;

use crate::{
    charts::{self, Heat, milliseconds},
    flame, frame,
    measured::HostSize,
    metrics::{self, Figures, HostFigures, Metric, Series, robust_scores},
    place::{self, Place},
    timeline,
};

/// Most hosts whose flame graphs are drawn one by one; beyond it there is the one of all.
const MOST_FLAMES: usize = 128;
/// Most bytes of stacks over time in a page, packed, all hosts together.
const MOST_TIMELINES: usize = 8 << 20;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The run still goes on.
    #[error("{0} still goes on: there is nothing to show yet")]
    NotOver(Utf8PathBuf),
    /// The report cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: Utf8PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something could not be drawn.
    #[error("cannot draw {what}: {source}")]
    Draw {
        /// What.
        what: String,
        /// Why.
        source: io::Error,
    },
}

/// What is known of one host, for the page.
struct HostPage {
    /// Its charts, packed.
    packed: String,
    /// Its flame graph, packed.
    flame: Option<String>,
    /// Its stacks over time, packed.
    timeline: Option<String>,
    stacks: Vec<Utf8PathBuf>,
    problems: Vec<String>,
}

/// What the page's script is told.
#[derive(Serialize)]
struct Meta {
    begin_ms: i64,
    end_ms: i64,
    windows: Vec<Band>,
    marks: Vec<At>,
    fleet: Vec<Fleet>,
}

#[derive(Serialize)]
struct Band {
    from: i64,
    to: i64,
}

#[derive(Serialize)]
struct At {
    name: String,
    at: i64,
}

/// A figure of all hosts over time, those that differ most first.
#[derive(Serialize)]
struct Fleet {
    title: String,
    unit: String,
    heat: Heat,
}

/// Writes `report/index.html` of a run.
///
/// # Errors
/// When the run still goes on, or the file cannot be written.
pub fn write(run: &Utf8Path, manifest: &Manifest) -> Result<Utf8PathBuf, ReportError> {
    if manifest.phase != RunPhase::Finished {
        return Err(ReportError::NotOver(run.to_owned()));
    }
    let manifest = &*manifest.printable();
    let span = span(manifest);
    let (mut hosts, figures) = hosts(run, manifest, span);
    bound_timelines(&mut hosts);
    let merged = merged_flame(manifest, &hosts);
    let meta = meta(manifest, span, &figures);
    let page = html::page(manifest, &figures, &hosts, &merged, &meta);
    let directory = run.join("report");
    let path = directory.join("index.html");
    let failed = |source| ReportError::Write { path: path.clone(), source };
    std::fs::create_dir_all(&directory).map_err(failed)?;
    let mut file = AtomicFile::create(&path).map_err(failed)?;
    file.write_all(page.into_string().as_bytes()).and_then(|()| file.finish()).map_err(failed)?;
    Ok(path)
}

/// From the first profiler's begin to the last one's end, by the controller's clock, in seconds since 1970.
fn span(manifest: &Manifest) -> (f64, f64) {
    let (mut begin, mut end) = (f64::INFINITY, f64::NEG_INFINITY);
    for (name, host) in &manifest.hosts {
        let ahead = frame::ahead_s(host);
        for Place { record, .. } in place::of_host(manifest, name) {
            #[expect(clippy::cast_precision_loss, reason = "a float has microseconds enough until 2255")]
            let seconds = |ns: i64| ns as f64 / 1e9 - ahead;
            let parts = record.segments.iter().flat_map(|s| [Some(s.began), s.ended.or(s.until)]).flatten();
            for at in parts.chain(record.began).chain(record.ended) {
                begin = begin.min(seconds(at.stamp.unix_ns));
                end = end.max(seconds(at.stamp.unix_ns));
            }
        }
    }
    if begin > end {
        let created = seconds_of(manifest.created);
        return (created, created + 1.0);
    }
    (begin, end.max(begin + 1e-3))
}

fn seconds_of(at: Timestamp) -> f64 {
    at.as_duration().as_secs_f64()
}

/// Reads and packs every host, as many at a time as there are CPUs: a fleet's tables are many megabytes.
fn hosts(run: &Utf8Path, manifest: &Manifest, span: (f64, f64)) -> (BTreeMap<String, HostPage>, Figures) {
    let hosts: Vec<(&String, &HostRecord)> = manifest.hosts.iter().collect();
    let (next, done) = (AtomicUsize::new(0), Mutex::new((BTreeMap::new(), Figures::new())));
    let work = || {
        while let Some((name, host)) = hosts.get(next.fetch_add(1, Relaxed)) {
            let (page, figures) = host_page(run, manifest, name, host, span);
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            done.0.insert((*name).clone(), page);
            done.1.insert((*name).clone(), figures);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(hosts.len().max(1));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Leaves out the stacks over time of the hosts that come last, where all would make the page too large.
fn bound_timelines(hosts: &mut BTreeMap<String, HostPage>) {
    let mut left = MOST_TIMELINES;
    for host in hosts.values_mut() {
        let bytes = host.timeline.as_ref().map_or(0, String::len);
        match left.checked_sub(bytes) {
            Some(rest) => left = rest,
            None => {
                host.timeline = None;
                let most = MOST_TIMELINES >> 20;
                host.problems
                    .push(format!("its stacks over time are not shown: those of all hosts are more than {most} MiB"));
            }
        }
    }
}

fn host_page(
    run: &Utf8Path,
    manifest: &Manifest,
    name: &str,
    host: &HostRecord,
    (begin, end): (f64, f64),
) -> (HostPage, HostFigures) {
    let (frames, problems) = frame::of_host(run, manifest, name);
    let mut problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let charts = charts::of_host(&frames, HostSize::of(host), begin, end);
    let stacks = flame::files(run, manifest, name);
    let one_of_many = manifest.hosts.len() > 1;
    let flame = match manifest.hosts.len() {
        0..=MOST_FLAMES => {
            let title = if one_of_many { format!("CPU time of {name}") } else { "CPU time".to_owned() };
            let drawn = flame::lines(&stacks, None).and_then(|lines| flame::draw(&title, &lines));
            // One that cannot be drawn takes nothing from the rest of the report.
            drawn.unwrap_or_else(|e| {
                problems.push(format!("its flame graph cannot be drawn: {e}"));
                None
            })
        }
        _ => None,
    };
    // One that a page cannot hold takes nothing from the rest either.
    let timeline = timeline::read(&timeline::files(run, manifest, name), (begin, end), frame::ahead_s(host));
    let timeline = timeline.unwrap_or_else(|e| {
        problems.push(format!("its stacks over time are not shown: {e}"));
        None
    });
    let page = HostPage {
        packed: pack(&serde_json::to_vec(&charts).unwrap_or_default()),
        flame: flame.map(|svg| pack(svg.as_bytes())),
        timeline: timeline.map(|timeline| pack(&serde_json::to_vec(&timeline).unwrap_or_default())),
        stacks,
        problems,
    };
    (page, metrics::of_host(&frames, host))
}

/// All hosts in one flame graph, each a frame above its stacks, packed; none: fewer than two have stacks.
fn merged_flame(manifest: &Manifest, hosts: &BTreeMap<String, HostPage>) -> io::Result<Option<String>> {
    let with_stacks: Vec<_> = hosts.iter().filter(|(_, host)| !host.stacks.is_empty()).collect();
    if with_stacks.len() < 2 {
        return Ok(None);
    }
    flame::fits(with_stacks.iter().flat_map(|(_, host)| &host.stacks))?;
    let mut lines = Vec::new();
    for (name, host) in &with_stacks {
        lines.extend(flame::lines(&host.stacks, Some(name))?);
    }
    lines.sort();
    let title = format!("CPU time of {} of {} hosts", with_stacks.len(), manifest.hosts.len());
    Ok(flame::draw(&title, &lines)?.map(|svg| pack(svg.as_bytes())))
}

/// Packed so that it can stand in a page: the script there unpacks it when it is wanted.
fn pack(content: &[u8]) -> String {
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    // Memory takes all that it is given.
    let _ = packed.write_all(content);
    STANDARD.encode(packed.finish().unwrap_or_default())
}

fn meta(manifest: &Manifest, (begin, end): (f64, f64), figures: &Figures) -> Meta {
    let at = |timestamp: Timestamp| milliseconds(seconds_of(timestamp));
    let test = manifest.test.as_ref();
    let ends = |mark: &str, instant: Option<Timestamp>| instant.map(|i| At { name: mark.to_owned(), at: at(i) });
    let mut marks: Vec<At> =
        manifest.marks.iter().map(|mark| At { name: mark.name.clone(), at: at(mark.at) }).collect();
    marks.extend(ends("test began", test.and_then(|test| test.began)));
    marks.extend(ends("test ended", test.and_then(|test| test.ended)));
    let windows = manifest
        .windows
        .iter()
        .map(|window| Band { from: at(window.opened), to: window.closed.map_or_else(|| milliseconds(end), at) });
    let fleet = if figures.len() > 1 { fleet(figures, (begin, end)) } else { Vec::new() };
    Meta { begin_ms: milliseconds(begin), end_ms: milliseconds(end), windows: windows.collect(), marks, fleet }
}

fn fleet(figures: &Figures, span: (f64, f64)) -> Vec<Fleet> {
    let of = |metric: &Metric| {
        let known: Vec<(&String, &Series)> =
            figures.iter().filter_map(|(name, host)| Some((name, &host.figures.get(metric)?.series))).collect();
        let means: Vec<f64> = known.iter().map(|(_, series)| series.mean().unwrap_or_default()).collect();
        if known.is_empty() || means.iter().all(|mean| *mean == 0.0) {
            return None;
        }
        let mut order: Vec<_> = robust_scores(&means).into_iter().zip(known).collect();
        order.sort_by(|a, b| b.0.abs().total_cmp(&a.0.abs()));
        let rows = order.into_iter().map(|(_, (name, series))| (name.clone(), series.clone())).collect();
        let most = (metric.unit == "%").then_some(100.0);
        Some(Fleet { title: metric.title.to_string(), unit: metric.unit.to_string(), heat: Heat::of(rows, span, most) })
    };
    metrics::all(figures.values()).iter().filter_map(of).collect()
}

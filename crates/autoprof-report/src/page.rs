//! The report of a run: one file that opens from the disk and needs nothing else.
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufWriter, Write},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use autoprof_core::{
    manifest::{HostRecord, Manifest, ProfilerRecord, ProfilerState, RunPhase},
    transport::Command,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use camino::{Utf8Path, Utf8PathBuf};
use flate2::{Compression, write::GzEncoder};
use jiff::Timestamp;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::Serialize;

use crate::{
    charts, findings,
    findings::{Finding, figure},
    flame, frame,
    metrics::{Metric, Series, robust_scores},
    place::{self, Place},
    reduce,
    size::bytes,
};

/// The script that draws charts, packed by the build.
const PLOTLY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/plotly.js.gz"));
const SCRIPT: &str = include_str!("page/report.js");
pub(crate) const STYLE: &str = include_str!("page/report.css");

/// Columns of the fleet's heat map.
const FLEET_COLUMNS: usize = 300;
/// Most hosts whose flame graphs are drawn one by one; beyond it there is the one of all.
const MOST_FLAMES: usize = 128;
/// What a path must not have as it is in a link.
const PATH: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'<').add(b'>').add(b'?').add(b'`');

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
    metrics: BTreeMap<Metric, Series>,
    /// Its charts, packed.
    packed: String,
    /// Its flame graph, packed.
    flame: Option<String>,
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
    title: &'static str,
    unit: &'static str,
    hosts: Vec<String>,
    step: f64,
    z: Vec<Vec<Option<f64>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    most: Option<f64>,
}

/// Writes `report/index.html` of a run.
///
/// # Errors
/// When the run still goes on, or the file cannot be written.
pub fn write(run: &Utf8Path, manifest: &Manifest) -> Result<Utf8PathBuf, ReportError> {
    if manifest.phase != RunPhase::Finished {
        return Err(ReportError::NotOver(run.to_owned()));
    }
    let span = span(manifest);
    let hosts = hosts(run, manifest, span);
    let metrics: BTreeMap<String, BTreeMap<Metric, Series>> =
        hosts.iter().map(|(name, host)| (name.clone(), host.metrics.clone())).collect();
    let findings = findings::find(&metrics);
    let merged = merged_flame(manifest, &hosts)?;
    let meta = meta(manifest, span, &metrics);
    let page = page(manifest, &findings, &hosts, merged.as_deref(), &meta);
    let directory = run.join("report");
    let path = directory.join("index.html");
    // Whole or not at all: somebody may have it open.
    let part = directory.join(".index.html.part");
    let failed = |source| ReportError::Write { path: path.clone(), source };
    std::fs::create_dir_all(&directory).map_err(failed)?;
    let written = File::create(&part).and_then(|file| {
        let mut file = BufWriter::new(file);
        file.write_all(page.into_string().as_bytes())?;
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
    });
    written.and_then(|()| std::fs::rename(&part, &path)).map_err(failed)?;
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

fn milliseconds(seconds: f64) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "milliseconds since 1970")]
    let ms = (seconds * 1e3).round() as i64;
    ms
}

/// Reads and packs every host, as many at a time as there are CPUs: a fleet's tables are many megabytes.
fn hosts(run: &Utf8Path, manifest: &Manifest, span: (f64, f64)) -> BTreeMap<String, HostPage> {
    let names: Vec<&String> = manifest.hosts.keys().collect();
    let (next, done) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let work = || {
        while let Some(name) = names.get(next.fetch_add(1, Relaxed)) {
            let page = host_page(run, manifest, name, span);
            done.lock().unwrap_or_else(PoisonError::into_inner).insert((*name).clone(), page);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(names.len().max(1));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn host_page(run: &Utf8Path, manifest: &Manifest, name: &str, (begin, end): (f64, f64)) -> HostPage {
    let (frames, problems) = frame::of_host(run, manifest, name);
    let mut problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let cpus = manifest.hosts.get(name).and_then(|host| host.facts.as_ref()).map_or(1, |facts| facts.cpus);
    let metrics = Metric::ALL.iter().filter_map(|metric| Some((*metric, metric.of(&frames, cpus)?))).collect();
    let charts = charts::of_host(&frames, begin, end);
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
    HostPage {
        metrics,
        packed: pack(&serde_json::to_vec(&charts).unwrap_or_default()),
        flame: flame.map(|svg| pack(svg.as_bytes())),
        stacks,
        problems,
    }
}

/// All hosts in one flame graph, each a frame above its stacks; none: fewer than two have stacks.
fn merged_flame(manifest: &Manifest, hosts: &BTreeMap<String, HostPage>) -> Result<Option<String>, ReportError> {
    let with_stacks: Vec<_> = hosts.iter().filter(|(_, host)| !host.stacks.is_empty()).collect();
    if with_stacks.len() < 2 {
        return Ok(None);
    }
    let drawing = |source| ReportError::Draw { what: "the flame graph of all hosts".to_owned(), source };
    let mut lines = Vec::new();
    for (name, host) in &with_stacks {
        lines.extend(flame::lines(&host.stacks, Some(name)).map_err(drawing)?);
    }
    lines.sort();
    let title = format!("CPU time of {} of {} hosts", with_stacks.len(), manifest.hosts.len());
    Ok(flame::draw(&title, &lines).map_err(drawing)?.map(|svg| pack(svg.as_bytes())))
}

/// Packed so that it can stand in a page: the script there unpacks it when it is wanted.
fn pack(content: &[u8]) -> String {
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    // Memory takes all that it is given.
    let _ = packed.write_all(content);
    STANDARD.encode(packed.finish().unwrap_or_default())
}

fn meta(manifest: &Manifest, (begin, end): (f64, f64), metrics: &BTreeMap<String, BTreeMap<Metric, Series>>) -> Meta {
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
    let fleet = if metrics.len() > 1 { fleet(metrics, (begin, end)) } else { Vec::new() };
    Meta { begin_ms: milliseconds(begin), end_ms: milliseconds(end), windows: windows.collect(), marks, fleet }
}

fn fleet(metrics: &BTreeMap<String, BTreeMap<Metric, Series>>, span: (f64, f64)) -> Vec<Fleet> {
    let of = |metric: Metric| {
        let known: Vec<(&String, &Series)> =
            metrics.iter().filter_map(|(name, all)| Some((name, all.get(&metric)?))).collect();
        let means: Vec<f64> = known.iter().map(|(_, series)| series.mean().unwrap_or_default()).collect();
        if known.is_empty() || means.iter().all(|mean| *mean == 0.0) {
            return None;
        }
        let mut order: Vec<(f64, &String, &Series)> =
            robust_scores(&means).into_iter().zip(known).map(|(score, (name, series))| (score, name, series)).collect();
        order.sort_by(|a, b| b.0.abs().total_cmp(&a.0.abs()));
        let longest = order.iter().map(|(_, _, series)| series.times.len()).max().unwrap_or(1);
        let columns = longest.clamp(1, FLEET_COLUMNS);
        let cells = |series: &Series| {
            reduce::means(&series.times, &series.values, span, columns).into_iter().map(charts::rounded).collect()
        };
        #[expect(clippy::cast_precision_loss, reason = "a number of columns")]
        let step = (span.1 - span.0) * 1e3 / columns as f64;
        Some(Fleet {
            title: metric.title(),
            unit: metric.unit(),
            step,
            z: order.iter().map(|(_, _, series)| cells(series)).collect(),
            hosts: order.into_iter().map(|(_, name, _)| name.clone()).collect(),
            most: (metric.unit() == "%").then_some(100.0),
        })
    };
    Metric::ALL.iter().filter_map(|metric| of(*metric)).collect()
}

fn page(
    manifest: &Manifest,
    findings: &[Finding],
    hosts: &BTreeMap<String, HostPage>,
    merged: Option<&str>,
    meta: &Meta,
) -> Markup {
    let flames = merged.is_some() || hosts.values().any(|host| host.flame.is_some());
    let title = manifest.test.as_ref().map_or_else(|| manifest.id.clone(), |test| command(&test.argv));
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                // Nothing is fetched, whatever a host has said.
                meta http-equiv="Content-Security-Policy"
                    content="default-src 'none'; script-src 'unsafe-inline' blob:; style-src 'unsafe-inline'; img-src data: blob:; frame-src blob:";
                meta name="generator" content=(format!("autoprof {}", manifest.autoprof));
                link rel="icon" href="data:,";
                title { (title) " – autoprof" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                a .skip href="#main" { "Skip to the content" }
                header {
                    h1 { (title) }
                    p .soft { "autoprof report of run " code { (manifest.id) } }
                }
                nav aria-label="Sections" { div {
                    a href="#ran" { "What ran" }
                    a href="#findings" { "Findings" }
                    @if !meta.fleet.is_empty() { a href="#fleet" { "Fleet" } }
                    a href="#hosts" { "Hosts" }
                    @if flames { a href="#flames" { "Flame graphs" } }
                    a href="#tables" { "Tables" }
                    a href="#files" { "Files" }
                    div .tools role="group" aria-label="Time range of all charts" {
                        span #range .soft .small aria-live="polite" { "whole run" }
                        button #earlier type="button" title="earlier" aria-label="Earlier" { "←" }
                        button #later type="button" title="later" aria-label="Later" { "→" }
                        button #zoom-in type="button" title="zoom in" aria-label="Zoom in" { "+" }
                        button #zoom-out type="button" title="zoom out" aria-label="Zoom out" { "−" }
                        button #zoom-all type="button" { "whole run" }
                    }
                } }
                main #main {
                    noscript { p { "The charts need a script that is part of this file. Tables and links work without it." } }
                    (ran(manifest, meta))
                    (found(findings, meta, hosts.values().any(|host| !host.metrics.is_empty())))
                    @if !meta.fleet.is_empty() {
                        section #fleet {
                            h2 { "Fleet" }
                            div .bar {
                                label for="metric" { "Figure" }
                                select #metric { @for metric in &meta.fleet { option { (metric.title) } } }
                            }
                            div #fleet-charts .charts style="grid-template-columns: 1fr" {}
                        }
                    }
                    section #hosts {
                        h2 { "Hosts" }
                        div .bar {
                            label for="host" { "Host" }
                            select #host { @for name in hosts.keys() { option value=(name) { (name) } } }
                            span .soft .small { "Drag over a chart to zoom all of them; double-click for the whole run." }
                        }
                        div #host-charts .charts {}
                    }
                    @if flames {
                        section #flames {
                            h2 { "Flame graphs" }
                            div .bar {
                                label for="flame-of" { "Stacks of" }
                                select #flame-of {
                                    @if merged.is_some() { option value="all" { "all hosts" } }
                                    @for (n, (name, host)) in hosts.iter().enumerate() {
                                        @if host.flame.is_some() { option value=(n) { (name) } }
                                    }
                                }
                                a #flame-open target="_blank" href="#flames" { "open alone" }
                                span .soft .small { "Click a frame to zoom into it; Ctrl-F searches." }
                            }
                            iframe #flame .flame title="Flame graph" {}
                        }
                    }
                    (tables(hosts))
                    (files(manifest))
                }
                footer {
                    "Times are UTC by the controller's clock: each host's clock was compared with it, and what it was ahead is taken off. "
                    "Made by autoprof " (manifest.autoprof) "; charts by plotly.js, flame graphs by inferno."
                }
                (packed("data-meta", &pack(&serde_json::to_vec(meta).unwrap_or_default())))
                (packed("data-plotly", &STANDARD.encode(PLOTLY)))
                @for (n, host) in hosts.values().enumerate() {
                    (packed(&format!("data-host-{n}"), &host.packed))
                    @if let Some(flame) = &host.flame { (packed(&format!("data-flame-{n}"), flame)) }
                }
                @if let Some(merged) = merged { (packed("data-flame-all", merged)) }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    }
}

fn packed(id: &str, content: &str) -> Markup {
    html! { script id=(id) type="text/plain" { (PreEscaped(content)) } }
}

/// A command line as a shell reads it.
fn command(argv: &[String]) -> String {
    Command::new(argv.iter().cloned()).to_string()
}

fn seconds(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0} s"),
        size if size >= 1.0 => format!("{value:.1} s"),
        size if size >= 1e-3 => format!("{:.1} ms", value * 1e3),
        _ => format!("{:.0} µs", value * 1e6),
    }
}

/// What ran, where, and how it went.
fn ran(manifest: &Manifest, meta: &Meta) -> Markup {
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of a run")]
    let lasted = (meta.end_ms - meta.begin_ms) as f64 / 1e3;
    let has_begun = |name: &String| place::of_host(manifest, name).iter().any(|place| place.record.began.is_some());
    let began = manifest.hosts.keys().any(has_begun);
    let mut profilers: Vec<&String> = Vec::new();
    for name in manifest.hosts.values().flat_map(|host| host.profilers.keys()) {
        if !profilers.contains(&name) {
            profilers.push(name);
        }
    }
    html! {
        section #ran {
            h2 { "What ran" }
            dl .facts {
                @if let Some(test) = &manifest.test {
                    dt { "Test" } dd { code { (command(&test.argv)) } }
                    dt { "It ended" } dd { (test.status.as_deref().unwrap_or(if test.began.is_some() { "unknown" } else { "it was not run" })) }
                }
                @if !began { dt { "Collected" } dd { "nothing" } }
                @else { dt { "Collected" } dd { (seconds(lasted)) " on " (manifest.hosts.len()) @if manifest.hosts.len() == 1 { " host" } @else { " hosts" }
                    ", from " (short(meta.begin_ms)) " UTC" } }
                @if let Some(skew) = manifest.skew_s {
                    @if manifest.hosts.len() > 1 { dt { "Skew of the starts" } dd { (seconds(skew)) " between the first host and the last" } }
                }
                @if let Some(by) = &manifest.interrupted { dt { "Interrupted" } dd .failed { "by " (by) } }
                @if !manifest.marks.is_empty() {
                    dt { "Marks" } dd { (manifest.marks.iter().map(|mark| mark.name.as_str()).collect::<Vec<_>>().join(", ")) }
                }
                dt { "Controller" } dd { (manifest.controller) }
            }
            div .scroll tabindex="0" role="region" aria-label="Hosts and profilers" { table {
                thead { tr {
                    th scope="col" { "host" }
                    @for name in &profilers { th scope="col" { (name) } }
                    th .num scope="col" { "data" }
                    th .num scope="col" { "clock ahead" }
                    th .num scope="col" title="CPU time of the client and of the tools it ran" { "cost, CPU" }
                    th scope="col" { "machine" }
                } }
                tbody { @for (name, host) in &manifest.hosts { tr {
                    th scope="row" { (name) }
                    @for profiler in &profilers {
                        @match host.profilers.get(*profiler) {
                            Some(record) => { td { span class=(record.state.word()) title=[record.reason.as_deref()] { (record.state.word()) }
                                @if let Some(lost) = record.lost_samples.filter(|lost| *lost > 0) { " (" (lost) " samples lost)" }
                                @if record.segments.len() > 1 { " (" (record.segments.len()) " segments)" }
                            } }
                            None => { td .soft { "–" } }
                        }
                    }
                    td .num { (bytes(host.bytes())) }
                    td .num { (clock(host)) }
                    td .num { (cost(host, lasted)) }
                    td { (machine(host)) }
                } } }
            } }
            (reasons(manifest))
        }
    }
}

fn short(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map_or_else(|_| String::new(), |at| at.strftime("%Y-%m-%d %H:%M:%S").to_string())
}

fn clock(host: &HostRecord) -> String {
    let Some(offset) = host.clock.as_ref().or(host.clock_at_stop.as_ref()) else { return "unknown".to_owned() };
    format!("{} ± {}", seconds(frame::ahead_s(host)), seconds(offset.error_s))
}

fn cost(host: &HostRecord, lasted: f64) -> String {
    let tools: f64 = host.profilers.values().filter_map(|profiler| profiler.cpu_s).sum();
    let Some(client) = host.client_cpu_s else { return "unknown".to_owned() };
    format!("{} ({:.2} %)", seconds(client + tools), 100.0 * (client + tools) / lasted)
}

fn machine(host: &HostRecord) -> String {
    let Some(facts) = &host.facts else { return "unknown".to_owned() };
    format!("{} CPUs, {}, kernel {}", facts.cpus, facts.arch, facts.kernel)
}

/// Everything that is not as it should be.
fn reasons(manifest: &Manifest) -> Markup {
    let notes = crate::summary::notes(manifest);
    let gaps = manifest.hosts.iter().flat_map(|(name, host)| {
        let of = |profiler: &str, record: &ProfilerRecord| {
            let gaps = record.segments.iter().filter_map(|segment| segment.gap_ns.filter(|gap| *gap > 0));
            #[expect(clippy::cast_precision_loss, reason = "a time to be read")]
            let sum = gaps.sum::<i64>() as f64 / 1e9;
            (sum > 0.0).then(|| format!("{name}: {profiler} has a gap of {} in all", seconds(sum)))
        };
        host.profilers.iter().filter_map(|(profiler, record)| of(profiler, record)).collect::<Vec<_>>()
    });
    let gaps: Vec<String> = gaps.collect();
    html! {
        @if !notes.is_empty() || !gaps.is_empty() {
            h3 { "What is not as it should be" }
            ul {
                @for (text, hosts) in &notes { li { b { (crate::summary::join(hosts)) } ": " (text) } }
                @for gap in &gaps { li { (gap) } }
            }
        }
    }
}

fn found(findings: &[Finding], meta: &Meta, measured: bool) -> Markup {
    html! {
        section #findings {
            h2 { "Findings" }
            @if !measured {
                p { "No profiler of this run measured a figure that there is a rule for." }
            } @else if findings.is_empty() {
                p { "No rule found anything: no resource was at its end" @if !meta.fleet.is_empty() { ", and no host differs from the others" } "." }
            }
            ul .findings { @for finding in findings {
                li class=(match finding.level { findings::Level::Saturated => "saturated", findings::Level::Outlier => "outlier", findings::Level::Note => "note" }) {
                    div .finding-title { (finding.title) }
                    div { b { (crate::summary::join(&finding.hosts.iter().map(String::as_str).collect::<Vec<_>>())) } }
                    div { (finding.detail) }
                    @if let Some(from) = finding.from {
                        div { "first " (seconds((from - meta.begin_ms as f64 / 1e3).max(0.0))) " after the begin" }
                    }
                    div .soft .small { "Rule: " (finding.rule) }
                }
            } }
        }
    }
}

/// The figures of every host as numbers.
fn tables(hosts: &BTreeMap<String, HostPage>) -> Markup {
    let metrics: Vec<Metric> =
        Metric::ALL.into_iter().filter(|metric| hosts.values().any(|host| host.metrics.contains_key(metric))).collect();
    html! {
        section #tables {
            h2 { "Tables" }
            @if metrics.is_empty() { p { "There are no figures." } } @else {
            p .soft { "Mean and, in brackets, the greatest sample." }
            div .scroll tabindex="0" role="region" aria-label="Figures of every host" { table {
                thead { tr { th scope="col" { "host" } @for metric in &metrics { th .num scope="col" { (metric.title()) ", " (metric.unit()) } } } }
                tbody { @for (name, host) in hosts { tr {
                    th scope="row" { (name) }
                    @for metric in &metrics {
                        td .num { @match host.metrics.get(metric).and_then(|series| Some((series.mean()?, series.most()?))) {
                            Some((mean, most)) => { (figure(mean)) " (" (figure(most)) ")" }
                            None => { span .soft { "–" } }
                        } }
                    }
                } } }
            } }
            }
            @for (name, host) in hosts { @for problem in &host.problems { p .partial { (name) ": " (problem) } } }
        }
    }
}

/// Every file, with the command that made it.
fn files(manifest: &Manifest) -> Markup {
    let link = |path: &str| format!("../{}", utf8_percent_encode(path, PATH));
    let profiler = |Place { directory, profiler, record }: &Place<'_>| {
        let lines = record.invocation.as_ref().map(crate::plan::invocation_lines).unwrap_or_default();
        html! {
            details {
                summary { b { (profiler) } " " span class=(record.state.word()) { (record.state.word()) } " " span .soft { (bytes(record.bytes)) } }
                @if let Some(version) = &record.tool_version { p .soft .small { (version) } }
                pre .small { code { (lines) } }
                ul {
                    @for file in &record.files { li { a href=(link(directory.join(&file.path).as_str())) { (file.path) } " " span .soft .small { (bytes(file.bytes)) @if file.cut { ", cut" } } } }
                    @for table in &record.tables { li { a href=(link(directory.join(&table.path).as_str())) { (table.path) } " " span .soft .small { (table.rows) " rows" } } }
                }
            }
        }
    };
    html! {
        section #files {
            h2 { "Files" }
            p { a href="../manifest.json" { "manifest.json" } " · " a href="../events.jsonl" { "events.jsonl" }
                @if manifest.test.is_some() { " · " a href="../workload/stdout" { "the test's output" } " · " a href="../workload/stderr" { "its errors" } } }
            @for name in manifest.hosts.keys() {
                details open[manifest.hosts.len() == 1] {
                    summary { b { (name) } }
                    div style="padding-left: 1.2rem" {
                        @for place in place::of_host(manifest, name) {
                            @if place.record.state != ProfilerState::Skipped { (profiler(&place)) }
                        }
                    }
                }
            }
        }
    }
}

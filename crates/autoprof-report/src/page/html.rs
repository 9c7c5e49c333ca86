//! The report as a document: what stands in it, in which order.
use std::{collections::BTreeMap, io};

use autoprof_core::{
    manifest::{HostRecord, Manifest, ProfilerRecord, ProfilerState},
    transport::Command,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::{HostPage, Meta, pack};
use crate::{
    findings::{self, Finding, figure},
    frame,
    metrics::{self, Figures},
    place::{self, Place},
    plan,
    size::bytes,
    summary,
};

/// The script that draws charts, packed by the build.
const PLOTLY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/plotly.js.gz"));
const SCRIPT: &str = include_str!("report.js");
const STYLE: &str = include_str!("report.css");

/// What a path must not have as it is in a link.
const PATH: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'<').add(b'>').add(b'?').add(b'`');

pub(super) fn page(
    manifest: &Manifest,
    figures: &Figures,
    hosts: &BTreeMap<String, HostPage>,
    merged: &io::Result<Option<String>>,
    meta: &Meta,
) -> Markup {
    // One that cannot be drawn takes nothing from the rest.
    let (merged, problem) = match merged {
        Ok(merged) => (merged.as_deref(), None),
        Err(e) => (None, Some(format!("the flame graph of all hosts cannot be drawn: {e}"))),
    };
    let flames = merged.is_some() || hosts.values().any(|host| host.flame.is_some());
    let findings = findings::find(figures);
    let title = manifest.test.as_ref().map_or_else(|| manifest.id.clone(), |test| command(&test.argv));
    // Nothing is fetched, whatever a host has said.
    let policy = "default-src 'none'; script-src 'unsafe-inline' blob:; style-src 'unsafe-inline'; img-src data: blob:; \
                  frame-src blob:";
    document(
        &title,
        policy,
        &html! {
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
                    (found(&findings, meta, figures.values().any(|host| !host.figures.is_empty())))
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
                            div #interval hidden {
                                figure {
                                    figcaption {
                                        b { "Samples by second and part of a second" }
                                        span .soft { "  samples in 20 ms, without the idle task's" }
                                        span .soft .small { "  (click where an interval begins, then where it ends)" }
                                    }
                                    div #subsecond .plot .heat role="img" aria-label="Samples by second and part of a second" {}
                                }
                                div .bar {
                                    label for="from" { "Stacks from" } input #from type="number" min="0" step="0.02";
                                    label for="to" { "to" } input #to type="number" min="0" step="0.02";
                                    span { "s after the begin" }
                                    button #interval-range type="button" { "range of the charts" }
                                    button #interval-all type="button" { "whole run" }
                                    span #interval-text .soft .small aria-live="polite" {}
                                }
                                div #icicle role="img" aria-label="Flame graph of the interval" hidden {}
                            }
                            iframe #flame .flame title="Flame graph" {}
                        }
                    }
                    (tables(figures, hosts))
                    @if let Some(problem) = &problem { p .partial { (problem) } }
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
                    @if let Some(timeline) = &host.timeline { (packed(&format!("data-timeline-{n}"), timeline)) }
                }
                @if let Some(merged) = merged { (packed("data-flame-all", merged)) }
                script { (PreEscaped(SCRIPT)) }
        },
    )
}

/// A page with this title, of which the browser fetches no more than the policy allows.
pub(crate) fn document(title: &str, policy: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content=(policy);
                meta name="generator" content=(concat!("autoprof ", env!("CARGO_PKG_VERSION")));
                link rel="icon" href="data:,";
                title { (title) " – autoprof" }
                style { (PreEscaped(STYLE)) }
            }
            body { (body) }
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
    let profilers = summary::profilers(manifest);
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
                    th scope="row" { (name) @for group in &host.host.groups { " " span .soft { (group) } } }
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
    let notes = summary::notes(manifest);
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
                @for (text, hosts) in &notes { li { b { (summary::join(hosts)) } ": " (text) } }
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
                li class=(match finding.level { findings::Level::Disagreement => "disagreement", findings::Level::Saturated => "saturated", findings::Level::Outlier => "outlier", findings::Level::Note => "note" }) {
                    div .finding-title { (finding.title) }
                    div { b { (summary::join(&finding.hosts.iter().map(String::as_str).collect::<Vec<_>>())) } }
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
fn tables(figures: &Figures, hosts: &BTreeMap<String, HostPage>) -> Markup {
    let metrics = metrics::all(figures.values());
    html! {
        section #tables {
            h2 { "Tables" }
            @if metrics.is_empty() { p { "There are no figures." } } @else {
            p .soft { "Mean and, in brackets, the greatest sample." }
            div .scroll tabindex="0" role="region" aria-label="Figures of every host" { table {
                thead { tr { th scope="col" { "host" } @for metric in &metrics { th .num scope="col" { (metric.title) @if !metric.unit.is_empty() { ", " (metric.unit) } } } } }
                tbody { @for (name, of) in figures { tr {
                    th scope="row" { (name) }
                    @for metric in &metrics {
                        td .num { @match of.figures.get(metric).and_then(|of| Some((of.series.mean()?, of.series.most()?, &of.profiler))) {
                            Some((mean, most, profiler)) => { span title=(format!("from {profiler}")) { (figure(mean)) " (" (figure(most)) ")" } }
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
        let lines = record.invocation.as_ref().map(plan::invocation_lines).unwrap_or_default();
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

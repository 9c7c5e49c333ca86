//! The same quantity by several profilers of one host, which must agree.

use camino::Utf8Path;

use crate::table::{Row, Table};

/// A quantity that several profilers report.
struct Quantity {
    name: &'static str,
    unit: &'static str,
    /// By how much two values may differ: a share of the larger one, and an amount.
    share: f64,
    amount: f64,
    sources: &'static [Source],
}

/// Where a quantity is found. The value of a row is `None` where the row is about something else.
struct Source {
    profiler: &'static str,
    table: &'static str,
    value: fn(&Row<'_>, disk: &str) -> Option<f64>,
}

const fn source(profiler: &'static str, table: &'static str, value: fn(&Row<'_>, &str) -> Option<f64>) -> Source {
    Source { profiler, table, value }
}

const QUANTITIES: &[Quantity] = &[
    Quantity {
        name: "CPU busy",
        unit: "%",
        share: 0.0,
        amount: 6.0,
        sources: &[
            source("proc", "cpu.csv", |row, _| only(row, "cpu", "all").and_then(busy)),
            source("mpstat", "mpstat.csv", |row, _| only(row, "cpu", "all").and_then(busy)),
            source("vmstat", "vmstat.csv", |row, _| busy(row)),
        ],
    },
    Quantity {
        name: "bytes written to the disk",
        unit: "KiB/s",
        share: 0.15,
        amount: 512.0,
        sources: &[
            source("proc", "disk.csv", |row, disk| {
                only(row, "device", disk)?.number("write_bytes_per_s").map(|bytes| bytes / 1024.0)
            }),
            source("iostat", "iostat.csv", |row, disk| only(row, "device", disk)?.number("write_kib_per_s")),
        ],
    },
    Quantity {
        name: "bytes paged out",
        unit: "KiB/s",
        share: 0.15,
        amount: 512.0,
        sources: &[
            source("proc", "paging.csv", |row, _| row.number("page_out_kib_per_s")),
            source("sar", "sar-paging.csv", |row, _| row.number("page_out_kib_per_s")),
            source("vmstat", "vmstat.csv", |row, _| row.number("block_out_kib_per_s")),
        ],
    },
    Quantity {
        name: "context switches",
        unit: "1/s",
        share: 0.15,
        amount: 100.0,
        sources: &[
            source("proc", "load.csv", |row, _| row.number("context_switches_per_s")),
            source("vmstat", "vmstat.csv", |row, _| row.number("context_switches_per_s")),
            source("sar", "sar-load.csv", |row, _| row.number("context_switches_per_s")),
        ],
    },
    Quantity {
        name: "memory available",
        unit: "KiB",
        share: 0.03,
        amount: 0.0,
        sources: &[
            source("proc", "memory.csv", |row, _| row.number("available_kib")),
            source("sar", "sar-memory.csv", |row, _| row.number("available_kib")),
        ],
    },
    Quantity {
        name: "bytes received by lo",
        unit: "KiB/s",
        share: 0.15,
        amount: 64.0,
        sources: &[
            source("proc", "net.csv", |row, _| {
                only(row, "interface", "lo")?.number("rx_bytes_per_s").map(|bytes| bytes / 1024.0)
            }),
            source("sar", "sar-network.csv", |row, _| only(row, "interface", "lo")?.number("rx_kib_per_s")),
        ],
    },
];

/// What was found on one host: a line for each quantity, and those that are wrong.
#[derive(Default)]
pub struct Agreement {
    pub lines: Vec<String>,
    pub problems: Vec<String>,
}

/// Compares the tables in the directory of a host, of profilers that sample once a second.
pub fn compare(host: &Utf8Path, disk: &str) -> Agreement {
    let mut found = Agreement::default();
    for quantity in QUANTITIES {
        let mut all = Vec::new();
        for source in quantity.sources {
            // Not every profiler runs on every host.
            let Ok(table) = Table::read(&host.join(source.profiler).join(source.table)) else { continue };
            let series = table.series(1.0, |row| (source.value)(row, disk));
            match series.span() {
                Some(span) => all.push((source.profiler, series, span)),
                None => found.problems.push(format!("{} has no {}", source.profiler, quantity.name)),
            }
        }
        let from = all.iter().map(|(_, _, span)| span.0).fold(f64::NEG_INFINITY, f64::max);
        let to = all.iter().map(|(_, _, span)| span.1).fold(f64::INFINITY, f64::min);
        let means: Vec<_> = all.iter().filter_map(|(name, series, _)| Some((*name, series.mean(from, to)?))).collect();
        let list: Vec<_> = means.iter().map(|(name, mean)| format!("{name} {mean:.1}")).collect();
        let line = format!("{}: {} {}", quantity.name, list.join(", "), quantity.unit);
        let least = means.iter().map(|(_, mean)| *mean).fold(f64::INFINITY, f64::min);
        let most = means.iter().map(|(_, mean)| *mean).fold(f64::NEG_INFINITY, f64::max);
        if means.len() > 1 && most - least > quantity.share * most + quantity.amount {
            found.problems.push(format!("profilers disagree on {line}"));
        }
        if !means.is_empty() {
            found.lines.push(line);
        }
    }
    found
}

fn only<'a, 'b>(row: &'a Row<'b>, column: &str, wanted: &str) -> Option<&'a Row<'b>> {
    (row.text(column)? == wanted).then_some(row)
}

fn busy(row: &Row<'_>) -> Option<f64> {
    Some(100.0 - row.number("idle_percent")? - row.number("iowait_percent")?)
}

//! The summary of a run: hosts × profilers with their states, and why anything is not as it should be.
use std::collections::BTreeMap;

use autoprof_core::{
    manifest::{HostRecord, Manifest, ProfilerRecord, ProfilerState},
    text::one_line,
};
use comfy_table::{Attribute, Cell, Color, Table, presets};

use crate::size::bytes;

/// Whether colours may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// Colours by terminal escapes.
    Colour,
    /// Text alone.
    Plain,
}

/// The table hosts × profilers, and below it every reason, hosts with the same reason together.
#[must_use]
pub fn summary(manifest: &Manifest, paint: Paint) -> String {
    let mut out = format!("{}\n", table(manifest, paint));
    for (text, hosts) in notes(manifest) {
        out.push_str(&format!("{}: {text}\n", join(&hosts)));
    }
    out
}

/// Every profiler of a run, in the order in which they come up.
pub(crate) fn profilers(manifest: &Manifest) -> Vec<&str> {
    let mut profilers: Vec<&str> = Vec::new();
    for name in manifest.hosts.values().flat_map(|h| h.profilers.keys()) {
        if !profilers.contains(&name.as_str()) {
            profilers.push(name);
        }
    }
    profilers
}

fn table(manifest: &Manifest, paint: Paint) -> Table {
    let columns = profilers(manifest);
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if paint == Paint::Colour {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    let head = |text: &str| Cell::new(text).add_attribute(Attribute::Bold);
    let grouped = manifest.hosts.values().any(|host| !host.host.groups.is_empty());
    let groups = |host: &HostRecord| {
        let names: Vec<String> = host.host.groups.iter().map(|group| one_line(group)).collect();
        Cell::new(if names.is_empty() { "-".to_owned() } else { names.join(",") })
    };
    let header = ["host"].into_iter().chain(grouped.then_some("groups")).chain(columns.iter().copied()).chain(["data"]);
    table.set_header(header.map(head));
    for (name, host) in &manifest.hosts {
        let cells = columns.iter().map(|column| host.profilers.get(*column).map_or_else(|| Cell::new("-"), state_cell));
        let first = Cell::new(name);
        let last = Cell::new(data(host));
        table.add_row([first].into_iter().chain(grouped.then(|| groups(host))).chain(cells).chain([last]));
    }
    table
}

fn state_cell(record: &ProfilerRecord) -> Cell {
    let colour = match record.state {
        ProfilerState::Ok => Color::Green,
        ProfilerState::Partial | ProfilerState::Skipped => Color::Yellow,
        ProfilerState::Failed | ProfilerState::Lost => Color::Red,
        ProfilerState::Pending | ProfilerState::Running | ProfilerState::Ended => Color::Reset,
    };
    Cell::new(record.state.word()).fg(colour)
}

fn data(host: &HostRecord) -> String {
    match host.bytes() {
        0 => "-".to_owned(),
        n => bytes(n),
    }
}

/// Every reason with the hosts that it holds for, in the order of the first host.
pub(crate) fn notes(manifest: &Manifest) -> Vec<(String, Vec<&str>)> {
    let mut order: Vec<String> = Vec::new();
    let mut hosts: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let mut note = |host, text: String| {
        if !hosts.contains_key(&text) {
            order.push(text.clone());
        }
        hosts.entry(text).or_default().push(host);
    };
    for (name, host) in &manifest.hosts {
        for error in &host.errors {
            let hint = error.hint.as_ref().map(|h| format!("\n  hint: {h}")).unwrap_or_default();
            note(name.as_str(), format!("{}: {}{hint}", error.step, error.message));
        }
        // Less than a millisecond is what the clocks are compared to.
        if let Some(late_s) = host.late_s.filter(|late_s| *late_s >= 1e-3) {
            note(name.as_str(), format!("heard of the start {late_s:.3} s after the instant for all hosts"));
        }
        for (profiler, record) in &host.profilers {
            // What the host as a whole suffered has been said.
            let said = |reason: &String| host.errors.iter().any(|e| reason.contains(&e.message));
            if let Some(reason) = record.reason.as_ref().filter(|r| !said(r)) {
                let words = record.last_words.as_ref().map(|w| format!("\n  it said: {}", one_line(w)));
                let words = words.unwrap_or_default();
                note(name.as_str(), format!("{profiler} {}: {reason}{words}", record.state.word()));
            }
            for less in record.invocation.iter().flat_map(|invocation| &invocation.notes) {
                note(name.as_str(), format!("{profiler}: {less}"));
            }
            for table in &record.tables {
                for warning in &table.warnings {
                    note(name.as_str(), format!("{profiler}: {}: {warning}", table.path));
                }
            }
        }
    }
    order.into_iter().map(|text| (text.clone(), hosts.remove(&text).unwrap_or_default())).collect()
}

/// Names, and how many more there are when they would not fit a line.
pub(crate) fn join(hosts: &[&str]) -> String {
    const SHOWN: usize = 6;
    match hosts.len() {
        0..=SHOWN => hosts.join(", "),
        n => format!("{} and {} more", hosts[..SHOWN].join(", "), n - SHOWN),
    }
}

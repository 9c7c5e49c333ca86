//! The table.

use comfy_table::{CellAlignment, Table, presets};

use crate::contender::{Row, Unit};

/// What a reader must know of the numbers.
pub const NOTES: &str = "\
÷ autoprof: this median by that of the first line of its group; in ms more than 1 is slower than autoprof, in MiB/s faster.
pdsh, clush and plain ssh only connect and run `true`: they install nothing and leave nothing running, unless said.
launch: from the start of the process; a peer's time is that of its whole process. The peers' skew is that of `date`.
Collections write to the same directory and none is flushed to the disk before its time is taken.";

/// Renders the rows; the first one of each group is what the others are compared with.
pub fn render(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(["what", "contender", "median", "min – max", "unit", "÷ autoprof"]);
    let mut group: Option<(&str, f64)> = None;
    for row in rows {
        let what = row.measure.what.as_str();
        let Some(samples) = &row.samples else {
            table.add_row(["", &row.measure.name, "absent", "", "", ""]);
            continue;
        };
        let (low, middle, high) = summary(samples);
        let base = match group {
            Some((current, base)) if current == what => base,
            _ => middle,
        };
        let shown = if group.is_some_and(|(current, _)| current == what) { "" } else { what };
        group = Some((what, base));
        let unit = match row.measure.unit {
            Unit::Milliseconds => "ms",
            Unit::MebibytesPerSecond => "MiB/s",
        };
        table.add_row([
            shown,
            &row.measure.name,
            &number(middle),
            &format!("{} – {}", number(low), number(high)),
            unit,
            &format!("{:.2}", middle / base),
        ]);
    }
    for column in [2, 3, 5] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Least, median, greatest.
fn summary(samples: &[f64]) -> (f64, f64, f64) {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let median = if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) };
    (sorted[0], median, sorted[sorted.len() - 1])
}

/// Three digits, no more than a median of a few runs carries.
fn number(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

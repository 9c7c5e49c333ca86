//! The table.

use comfy_table::{CellAlignment, Table, presets};

use crate::contender::Row;

/// What a reader must know of the numbers.
pub const NOTES: &str = "\
÷ autoprof: this median by that of its group's first line; in ms more than 1 is slower than autoprof, in MiB/s faster.
`true` only: connects and runs `true`; installs nothing and leaves nothing running, so it does less than autoprof.
curve25519: without OpenSSH's own choice of key exchange, which takes it several times as long.
launch: from the start of the process; a peer's time is that of its whole process. The peers' skew is that of `date`.
Collections write to the same directory; none is flushed to the disk before its time is taken.";

/// Renders the rows; the first one of each group is what the others are compared with.
pub fn render(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(["what", "contender", "median", "min – max", "÷ autoprof"]);
    let mut group = ("", 0.0);
    for row in rows {
        let mut cells = [String::new(), row.name.clone(), "absent".to_owned(), String::new(), String::new()];
        if let Some((low, median, high)) = row.samples.as_deref().and_then(summary) {
            if group.0 != row.what {
                group = (&row.what, median);
                cells[0].clone_from(&row.what);
            }
            cells[2] = number(median);
            cells[3] = format!("{} – {}", number(low), number(high));
            cells[4] = format!("{:.2}", median / group.1);
        }
        table.add_row(cells);
    }
    table.column_iter_mut().skip(2).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}

/// The middle one of a row's values, if it has any.
pub fn median(row: &Row) -> Option<f64> {
    Some(summary(row.samples.as_deref()?)?.1)
}

/// Least, median, greatest.
fn summary(samples: &[f64]) -> Option<(f64, f64, f64)> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (*sorted.first()?, *sorted.last()?);
    let (below, above) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
    Some((low, f64::midpoint(below, above), high))
}

/// Three digits or so, no more than a median of a few runs carries.
pub fn number(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

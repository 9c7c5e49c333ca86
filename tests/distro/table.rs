//! Tables of a run, and means over a window.

use std::collections::BTreeMap;

use camino::Utf8Path;

/// A table in memory.
pub struct Table {
    pub header: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

/// One row, by the names of its cells.
pub struct Row<'a> {
    table: &'a Table,
    cells: &'a [String],
}

/// Values, each of which is the mean over the time between two instants.
pub struct Series(Vec<Sample>);

struct Sample {
    from: f64,
    to: f64,
    value: f64,
}

impl Table {
    /// Reads a CSV file.
    pub fn read(path: &Utf8Path) -> Result<Table, String> {
        let read = || -> Result<Table, csv::Error> {
            let mut reader = csv::Reader::from_path(path)?;
            let header = reader.headers()?.iter().map(str::to_owned).collect();
            let rows = reader.records().map(|row| Ok(row?.iter().map(str::to_owned).collect()));
            Ok(Table { header, rows: rows.collect::<Result<_, csv::Error>>()? })
        };
        read().map_err(|error| format!("cannot read {path}: {error}"))
    }

    /// The rows.
    pub fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.rows.iter().map(|cells| Row { table: self, cells })
    }

    /// A value at each instant, the sum of those of all rows with that instant for which there is one. The interval
    /// before the first instant is taken to be `interval` seconds long.
    pub fn series(&self, interval: f64, value: impl Fn(&Row<'_>) -> Option<f64>) -> Series {
        let mut sums: BTreeMap<u64, (f64, f64)> = BTreeMap::new();
        for row in self.rows() {
            if let (Some(time), Some(value)) = (row.number("time_unix"), value(&row)) {
                // Instants are positive, so the order of their bits is theirs.
                sums.entry(time.to_bits()).or_insert((time, 0.0)).1 += value;
            }
        }
        let mut samples: Vec<Sample> = Vec::new();
        for (to, value) in sums.into_values() {
            let from = samples.last().map_or(to - interval, |last| last.to);
            samples.push(Sample { from, to, value });
        }
        Series(samples)
    }
}

impl Row<'_> {
    /// The text of a cell.
    pub fn text(&self, column: &str) -> Option<&str> {
        let at = self.table.header.iter().position(|name| name == column)?;
        self.cells.get(at).map(String::as_str)
    }

    /// The number in a cell.
    pub fn number(&self, column: &str) -> Option<f64> {
        self.text(column)?.parse().ok()
    }
}

impl Series {
    /// From when to when there are values.
    pub fn span(&self) -> Option<(f64, f64)> {
        Some((self.0.first()?.from, self.0.last()?.to))
    }

    /// The mean over a window, weighted by time.
    pub fn mean(&self, from: f64, to: f64) -> Option<f64> {
        let mut sum = 0.0;
        let mut time = 0.0;
        for sample in &self.0 {
            let overlap = sample.to.min(to) - sample.from.max(from);
            if overlap > 0.0 {
                sum += sample.value * overlap;
                time += overlap;
            }
        }
        (time > 0.0).then(|| sum / time)
    }
}

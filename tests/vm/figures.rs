//! Figures from the tables of a run.

use std::fs;

use camino::Utf8Path;

/// The instants in a table, in seconds since 1970, each once, in the order of the rows.
pub struct Series(pub Vec<f64>);

impl Series {
    /// Reads the first column of a table.
    pub fn read(table: &Utf8Path) -> Series {
        let text = fs::read_to_string(table).unwrap_or_else(|error| panic!("cannot read {table}: {error}"));
        let mut rows = text.lines();
        let header = rows.next().unwrap_or_default();
        assert!(header.starts_with("time_unix,"), "{table} begins with {header:?}, not with time_unix");
        let instant = |row: &str| {
            let cell = row.split(',').next().unwrap_or_default();
            cell.parse::<f64>().unwrap_or_else(|_| panic!("{table} has a row without an instant: {row:?}"))
        };
        let mut times: Vec<_> = rows.map(instant).collect();
        // A table with a row for each processor has each instant that often.
        times.dedup();
        Series(times)
    }

    /// The largest distance between two rows, with the instants that it lies between.
    pub fn gap(&self) -> Option<(f64, f64)> {
        let pairs = self.0.windows(2).map(|pair| (pair[0], pair[1]));
        pairs.max_by(|a, b| (a.1 - a.0).total_cmp(&(b.1 - b.0)))
    }

    /// Without the last row, whose interval is cut short by the end of the run.
    pub fn whole_intervals(mut self) -> Series {
        self.0.pop();
        self
    }

    /// The distances between the rows, in seconds.
    pub fn steps(&self) -> impl Iterator<Item = f64> {
        self.0.windows(2).map(|pair| pair[1] - pair[0])
    }

    /// The largest distance between two rows, in seconds.
    pub fn longest_step(&self) -> f64 {
        self.steps().fold(0.0, f64::max)
    }

    /// The smallest distance between two rows, in seconds; negative when time runs backwards.
    pub fn shortest_step(&self) -> f64 {
        self.steps().fold(f64::INFINITY, f64::min)
    }
}

/// The mean of the numbers in a column of a table.
pub fn mean(table: &Utf8Path, column: &str) -> f64 {
    let mut reader = csv::Reader::from_path(table).unwrap_or_else(|error| panic!("cannot read {table}: {error}"));
    let header = reader.headers().unwrap_or_else(|error| panic!("cannot read {table}: {error}")).clone();
    let at = header.iter().position(|name| name == column);
    let at = at.unwrap_or_else(|| panic!("{table} has no column {column}: {header:?}"));
    let numbers = reader.records().flatten().filter_map(|row| row.get(at)?.parse::<f64>().ok());
    let (sum, count) = numbers.fold((0.0, 0.0), |(sum, count), number| (sum + number, count + 1.0));
    assert!(count > 0.0, "{table} has no number in {column}");
    sum / count
}

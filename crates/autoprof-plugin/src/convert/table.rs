//! Tables as CSV files.
use std::{
    collections::HashSet,
    fs::File,
    io::{BufRead, BufWriter},
    ops::RangeInclusive,
};

use autoprof_core::{
    RawResults, Table,
    error::{ConvertError, ConvertErrorKind},
    text,
};
use camino::{Utf8Path, Utf8PathBuf};

use super::{Lines, SECOND, column::Column, nanoseconds, series::Series, unix_seconds};

/// How much earlier than the measured begin a row may be: what lies between two readings of one clock.
const EARLY: i64 = SECOND / 10;

/// How many different warnings a table keeps.
const MOST_WARNINGS: usize = 20;

/// Writes one table as a CSV file: row by row, counted, in the order of time and within the time of the run.
///
/// It also sees to what holds for every table, whoever writes it:
/// - A number that cannot be is an empty cell and a counted warning: `nan`, text, a negative rate, 214748364.7 %. What a
///   column can hold is told by the unit at the end of its name (`_percent`, `_per_s`, `_kib`, `_ms`, …), or by
///   [`TableWriter::limit`]. Of the sample only that cell is lost.
/// - Missing samples of a table with a fixed interval are found from the timestamps and said; where more than 5 % are
///   missing the profiler is `partial`. A table of events, which come when they come, is made by
///   [`TableWriter::events`].
/// - Two columns of one name are told apart.
/// - A table without rows makes the profiler `partial` where its files had something in them, unless nothing happened:
///   [`TableWriter::nothing_happened`] says that the files were understood.
///
/// ```
/// # use autoprof_plugin::{convert::TableWriter, prelude::*};
/// fn convert(raw: &RawResults) -> Result<Vec<Table>, ConvertError> {
///     let mut table = TableWriter::create(raw, "load.csv", 1.0, &["load_1min"])?;
///     table.row(raw.began_unix_ns, ["0.25"])?;
///     Ok(vec![table.finish()?])
/// }
/// ```
#[derive(Debug)]
pub struct TableWriter {
    writer: csv::Writer<BufWriter<File>>,
    path: Utf8PathBuf,
    table: Table,
    columns: Vec<Column>,
    series: Option<Series>,
    from: i64,
    to: i64,
    last: i64,
    outside: u64,
    backwards: u64,
}

impl TableWriter {
    /// Creates the file and writes its header: `time_unix` and these columns.
    ///
    /// Rows are taken from when the tool began to one interval after it ended.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn create(
        raw: &RawResults,
        file: &str,
        interval_seconds: f64,
        columns: &[impl AsRef<str>],
    ) -> Result<Self, ConvertError> {
        Self::new(raw, file, nanoseconds(interval_seconds), columns, Series::new(raw, nanoseconds(interval_seconds)))
    }

    /// The same for rows that have no fixed interval: events, sums of each second in which there were some, totals. Rows
    /// are taken until a second after the tool ended.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn events(raw: &RawResults, file: &str, columns: &[impl AsRef<str>]) -> Result<Self, ConvertError> {
        Self::new(raw, file, SECOND, columns, None)
    }

    fn new(
        raw: &RawResults,
        file: &str,
        slack_ns: i64,
        columns: &[impl AsRef<str>],
        series: Option<Series>,
    ) -> Result<Self, ConvertError> {
        let path = raw.file(file);
        let columns = told_apart(columns).into_iter().map(|name| Column::new(name, &raw.facts)).collect::<Vec<_>>();
        let created = File::create(&path).map_err(|e| write_error(&path, &e))?;
        let mut writer = csv::WriterBuilder::new().flexible(true).from_writer(BufWriter::new(created));
        let safe = columns.iter().map(|column| text::cell(column.name.as_bytes()));
        let header = std::iter::once(b"time_unix"[..].into()).chain(safe);
        writer.write_record(header).map_err(|e| write_error(&path, &e))?;
        Ok(Self {
            writer,
            path,
            table: Table { file: file.to_owned(), ..Table::default() },
            columns,
            series,
            from: raw.began_unix_ns.saturating_sub(EARLY),
            to: raw.ended_unix_ns.saturating_add(slack_ns),
            last: i64::MIN,
            outside: 0,
            backwards: 0,
        })
    }

    /// What the numbers of a column can be, where the unit in its name says too much or nothing: more than 100 % of
    /// several CPUs ([`percent_of_all_cpus`](super::percent_of_all_cpus)), values below zero, numbers without a unit.
    /// What is no such number is left empty and counted.
    #[must_use]
    pub fn limit(mut self, column: &str, range: RangeInclusive<f64>) -> Self {
        if let Some(column) = self.columns.iter_mut().find(|known| known.name == column) {
            column.limit(range);
        }
        self
    }

    /// Notes that a sample was taken at this instant, also where no row comes of it: the host has no disk, no process was
    /// active. A row does so by itself.
    pub fn sample(&mut self, unix_ns: i64) {
        if let Some(series) = self.series.as_mut().filter(|_| (self.from..=self.to).contains(&unix_ns)) {
            series.sample(unix_ns);
        }
    }

    /// Notes that the files were understood, and that no row may come of them: nothing happened.
    pub const fn nothing_happened(&mut self) {
        self.table.may_be_empty = true;
    }

    /// Notes a value of a column that the tool did not print as a number, and that is an empty cell.
    pub fn unreadable(&mut self, column: &str, text: &str) {
        if let Some(column) = self.columns.iter_mut().find(|known| known.name == column) {
            column.unreadable(text);
        }
    }

    /// Says why the table holds less than it should: its profiler is `partial`. The first reason counts.
    pub fn incomplete(&mut self, reason: impl Into<String>) {
        self.table.incomplete.get_or_insert_with(|| reason.into());
    }

    /// Writes one row; one that lies outside the run, or before the row above it, is left out and counted.
    ///
    /// Cells that are too few are empty, those that are too many are left out. Text that a spreadsheet would take for a
    /// formula gets a `'` before it (see [`text::cell`]).
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn row(&mut self, unix_ns: i64, cells: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Result<(), ConvertError> {
        if unix_ns < self.from || unix_ns > self.to {
            self.outside += 1;
            return Ok(());
        }
        if unix_ns < self.last {
            self.backwards += 1;
            return Ok(());
        }
        self.last = unix_ns;
        self.sample(unix_ns);
        let mut columns = self.columns.iter_mut();
        let fields = || -> Result<(), csv::Error> {
            self.writer.write_field(unix_seconds(unix_ns))?;
            for (cell, column) in cells.into_iter().zip(columns.by_ref()) {
                let admitted = if column.admits(cell.as_ref()) { cell.as_ref() } else { b"" };
                self.writer.write_field(text::cell(admitted))?;
            }
            for _ in columns {
                self.writer.write_field("")?;
            }
            self.writer.write_record(None::<&[u8]>)
        };
        fields().map_err(|e| write_error(&self.path, &e))?;
        self.table.rows += 1;
        Ok(())
    }

    /// Adds what had to be left out; each text once, and not more than twenty.
    pub fn warn(&mut self, text: impl Into<String>) {
        let text = text.into();
        if self.table.warnings.len() < MOST_WARNINGS && !self.table.warnings.contains(&text) {
            self.table.warnings.push(text);
        }
    }

    /// Takes over what was left out of the file that the rows are made of; where that was torn, the rows are what was
    /// saved of it.
    pub fn account_for<R: BufRead>(&mut self, lines: &Lines<R>) {
        lines.warnings().for_each(|warning| self.warn(warning));
        if lines.torn() {
            self.repaired(self.rows());
        }
    }

    /// Notes that the file was torn, and how many whole samples were saved from it.
    pub const fn repaired(&mut self, samples: u64) {
        self.table.repaired = Some(samples);
    }

    /// Rows so far.
    #[must_use]
    pub const fn rows(&self) -> u64 {
        self.table.rows
    }

    /// Ends the file and tells what is in it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn finish(mut self) -> Result<Table, ConvertError> {
        if self.outside > 0 {
            self.warn(format!("{} rows from outside the run were left out", self.outside));
        }
        if self.backwards > 0 {
            self.warn(format!("{} rows that went back in time were left out", self.backwards));
        }
        self.judge_cells();
        if let Some(series) = self.series.take() {
            self.table.may_be_empty |= !series.is_empty();
            self.judge_samples(series);
        }
        self.writer.flush().map_err(|e| write_error(&self.path, &e))?;
        Ok(self.table)
    }

    fn judge_cells(&mut self) {
        let warnings: Vec<String> = self.columns.iter().flat_map(Column::warnings).collect();
        warnings.into_iter().for_each(|warning| self.warn(warning));
        let (spoiled, filled) = self.columns.iter().map(Column::spoiled).fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
        let file = &self.table.file;
        if spoiled.saturating_mul(2) > filled {
            let reason = format!("{spoiled} of {filled} values of {file} could not be used");
            self.incomplete(reason);
        } else if self.table.rows > 0 && filled == 0 && self.columns.iter().any(Column::is_number) {
            let reason = format!("no value of {file} was found in its {} rows", self.table.rows);
            self.incomplete(reason);
        }
    }

    fn judge_samples(&mut self, series: Series) {
        let Some(verdict) = series.finish() else { return };
        self.table.samples = Some(verdict.samples);
        let Some(gap) = verdict.gap else { return };
        self.warn(gap.clone());
        if verdict.incomplete {
            self.incomplete(gap);
        }
    }
}

/// Names of columns, each once: a second `x` is `x_2`.
fn told_apart(columns: &[impl AsRef<str>]) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(columns.len());
    let mut taken: HashSet<String> = HashSet::from(["time_unix".to_owned()]);
    for column in columns.iter().map(AsRef::as_ref) {
        let numbered = (2..).map(|n| format!("{column}_{n}"));
        let name = std::iter::once(column.to_owned()).chain(numbered).find(|name| !taken.contains(name));
        let name = name.unwrap_or_default();
        taken.insert(name.clone());
        names.push(name);
    }
    names
}

fn write_error(path: &Utf8Path, cause: &(dyn std::error::Error + 'static)) -> ConvertError {
    ConvertError::caused(ConvertErrorKind::Io, format!("cannot write {path}"), cause)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        convert::{TimeAxis, percent_of_all_cpus},
        testing::Scratch,
    };
    use autoprof_core::{Args, ClockStep, SampleCount, protocol::HostFacts};

    /// The table that a converter makes in a window of 30 s on a host of two CPUs, and its rows.
    fn made(
        create: impl Fn(&RawResults) -> Result<TableWriter, ConvertError>,
        fill: impl Fn(&mut TableWriter),
    ) -> (Table, Vec<String>) {
        let scratch = Scratch::new().unwrap();
        let facts = HostFacts { cpus: 2, ..HostFacts::default() };
        let raw = scratch.results(&Args::new(), [], &facts, (0, 30)).unwrap();
        let mut writer = create(&raw).unwrap();
        fill(&mut writer);
        let table = writer.finish().unwrap();
        let text = std::fs::read_to_string(raw.file(&table.file)).unwrap();
        (table, text.lines().map(str::to_owned).collect())
    }

    fn series(seconds: impl IntoIterator<Item = f64> + Clone) -> Table {
        let fill = |table: &mut TableWriter| {
            for second in seconds.clone() {
                table.row(nanoseconds(second), ["1"]).unwrap();
                table.row(nanoseconds(second), ["2"]).unwrap();
            }
        };
        made(|raw| TableWriter::create(raw, "t.csv", 1.0, &["x"]), fill).0
    }

    fn seconds(n: std::ops::RangeInclusive<u32>) -> impl Iterator<Item = f64> + Clone {
        n.map(f64::from)
    }

    #[test]
    fn samples_are_counted_by_their_instants() {
        let table = series(seconds(1..=30));
        assert_eq!(table.samples, Some(SampleCount { expected: 30, got: 30 }));
        assert_eq!((table.rows, table.warnings.len(), table.incomplete), (60, 0, None));
    }

    #[test]
    fn missing_samples_are_said_and_make_a_table_incomplete() {
        let table = series(seconds(1..=10).chain([16.2]).chain((17..=30).map(|n| f64::from(n) + 0.2)));
        let gap = "no samples for 6.2 s: expected 30 samples, got 25";
        assert_eq!((table.incomplete.as_deref(), table.warnings.as_slice()), (Some(gap), &[gap.to_owned()][..]));
        assert_eq!(table.samples, Some(SampleCount { expected: 30, got: 25 }));
    }

    #[test]
    fn samples_missing_at_either_end_are_missing() {
        let tail = series(seconds(1..=24));
        assert_eq!(tail.incomplete.as_deref(), Some("no samples for 6.0 s: expected 27 samples, got 24"));
        let head = series(seconds(8..=30));
        assert_eq!(head.incomplete.as_deref(), Some("no samples for 8.0 s: expected 29 samples, got 23"));
    }

    #[test]
    fn one_interval_at_each_end_and_jitter_are_no_gap() {
        for table in [
            series(seconds(2..=29)),
            series(seconds(0..=28)),
            series((1..=29).map(|n| f64::from(n) + if n % 2 == 0 { 0.4 } else { 0.0 })),
            // A tool that is a little late each time, and says whole seconds, skips one at times.
            series(seconds(1..=10).chain(seconds(12..=30))),
        ] {
            assert_eq!((table.incomplete, table.warnings.len()), (None, 0), "{:?}", table.samples);
        }
    }

    #[test]
    fn a_sampler_that_is_starved_is_found_by_its_few_samples() {
        let table = series([9.0, 19.0, 29.0]);
        assert_eq!(table.incomplete.as_deref(), Some("no samples for 10.0 s: expected 28 samples, got 3"));
    }

    #[test]
    fn a_short_gap_in_a_long_run_is_a_warning() {
        let few = |raw: &RawResults| TableWriter::create(raw, "t.csv", 0.1, &["x"]);
        let fill = |table: &mut TableWriter| {
            for tenth in (1..=300).filter(|n| !(100..105).contains(n)) {
                table.row(tenth * SECOND / 10, ["1"]).unwrap();
            }
        };
        let (table, _) = made(few, fill);
        assert_eq!(table.warnings, ["no samples for 0.6 s: expected 300 samples, got 295"]);
        assert_eq!(table.incomplete, None);
    }

    #[test]
    fn where_nobody_saw_the_end_nothing_is_missing_there() {
        let create = |raw: &RawResults| {
            TableWriter::create(&RawResults { end_unknown: true, ..raw.clone() }, "t.csv", 1.0, &["x"])
        };
        let fill = |table: &mut TableWriter| (1..=10).for_each(|n| table.row(n * SECOND, ["1"]).unwrap());
        assert_eq!(made(create, fill).0.samples, Some(SampleCount { expected: 10, got: 10 }));
    }

    #[test]
    fn a_clock_that_is_set_makes_no_gap_and_hides_none() {
        const HOUR: i64 = 3600;
        let steps = vec![ClockStep { at_unix_ns: 10 * SECOND + SECOND / 2, step_ns: HOUR * SECOND }];
        let table = |printed: &[i64]| {
            let create = |raw: &RawResults| TableWriter::create(raw, "t.csv", 1.0, &["x"]);
            let fill = |table: &mut TableWriter| {
                let scratch = Scratch::new().unwrap();
                let raw = scratch.results(&Args::new(), [], &HostFacts::default(), (0, 30)).unwrap();
                let mut axis = TimeAxis::new(&RawResults { clock_steps: steps.clone(), ..raw }, 1.0);
                printed.iter().for_each(|second| table.row(axis.place(*second), ["1"]).unwrap());
            };
            made(create, fill).0
        };
        let whole: Vec<i64> = (1..=30).map(|second| if second > 10 { second + HOUR } else { second }).collect();
        let found = table(&whole);
        assert_eq!((found.samples, found.incomplete), (Some(SampleCount { expected: 30, got: 30 }), None));
        let held: Vec<i64> = whole.iter().copied().filter(|second| !(8..14).contains(&(second % HOUR))).collect();
        let found = table(&held);
        assert_eq!(found.incomplete.as_deref(), Some("no samples for 7.0 s: expected 30 samples, got 24"));
    }

    #[test]
    fn events_have_no_gaps() {
        let fill = |table: &mut TableWriter| {
            table.row(SECOND, ["1"]).unwrap();
            table.row(29 * SECOND, ["2"]).unwrap();
        };
        let (table, _) = made(|raw| TableWriter::events(raw, "t.csv", &["x"]), fill);
        assert_eq!((table.samples, table.incomplete, table.warnings.len()), (None, None, 0));
    }

    #[test]
    fn a_sample_without_a_row_is_no_gap_and_makes_an_empty_table_valid() {
        let fill = |table: &mut TableWriter| (1..=30).for_each(|n| table.sample(n * SECOND));
        let (table, _) = made(|raw| TableWriter::create(raw, "t.csv", 1.0, &["x"]), fill);
        assert_eq!((table.rows, table.may_be_empty, table.incomplete), (0, true, None));
        let (table, _) = made(|raw| TableWriter::create(raw, "t.csv", 1.0, &["x"]), |_| ());
        assert!(!table.may_be_empty);
    }

    #[test]
    fn a_number_that_cannot_be_costs_only_its_cell() {
        let columns = ["device", "util_percent", "read_kib_per_s", "temperature_celsius", "busy_cpus", "note"];
        let fill = |table: &mut TableWriter| {
            for (at, row) in [
                ["vda", "99.99", "0", "-20", "2.1", "nan"],
                ["vdb", "214748364.70", "9223372036854775808.00", "5", "3", "-1"],
                ["vdc", "nan", "-0.01", "", "", "x"],
                ["vdd", "100.40", "1,5", "1e9", "-nan", ""],
                ["vde", "5", "6", "7", "1", "8"],
            ]
            .iter()
            .enumerate()
            {
                table.row(i64::try_from(at).unwrap() * SECOND, row).unwrap();
            }
        };
        let (table, rows) = made(|raw| TableWriter::events(raw, "t.csv", &columns), fill);
        let cells: Vec<&str> = rows.iter().skip(1).map(|row| row.split_once(',').unwrap().1).collect();
        assert_eq!(cells, ["vda,99.99,0,-20,2.1,nan", "vdb,,,5,,-1", "vdc,,,,,x", "vdd,100.40,,,,", "vde,5,6,7,1,8"],);
        assert_eq!(
            table.warnings,
            [
                "util_percent: 1 value left empty: not a number, such as nan",
                "util_percent: 1 value left empty: outside the possible range, such as 214748364.70",
                "read_kib_per_s: 1 value left empty: not a number, such as 1,5",
                "read_kib_per_s: 2 values left empty: outside the possible range, such as 9223372036854775808.00",
                "temperature_celsius: 1 value left empty: outside the possible range, such as 1e9",
                "busy_cpus: 1 value left empty: not a number, such as -nan",
                "busy_cpus: 1 value left empty: outside the possible range, such as 3",
            ]
        );
    }

    #[test]
    fn a_table_of_which_most_cannot_be_used_is_incomplete() {
        let fill = |table: &mut TableWriter| {
            for (second, cell) in [(1, "nan"), (2, "x"), (3, "1")] {
                table.row(second * SECOND, [cell]).unwrap();
            }
        };
        let (table, _) = made(|raw| TableWriter::events(raw, "t.csv", &["x_per_s"]), fill);
        assert_eq!(table.incomplete.as_deref(), Some("2 of 3 values of t.csv could not be used"));
        let nothing = |table: &mut TableWriter| table.row(SECOND, ["vda", ""]).unwrap();
        let (table, _) = made(|raw| TableWriter::events(raw, "t.csv", &["device", "x_per_s"]), nothing);
        assert_eq!(table.incomplete.as_deref(), Some("no value of t.csv was found in its 1 rows"));
    }

    #[test]
    fn a_column_may_have_limits_of_its_own() {
        let create = |raw: &RawResults| {
            let table = TableWriter::events(raw, "t.csv", &["cpu_percent", "drift_ms"])?;
            Ok(table.limit("cpu_percent", percent_of_all_cpus(&raw.facts)).limit("drift_ms", -1e6..=1e6))
        };
        let fill = |table: &mut TableWriter| {
            table.row(SECOND, ["199", "-7"]).unwrap();
            table.row(SECOND, ["1e4", "1e7"]).unwrap();
        };
        assert_eq!(made(create, fill).1[1..], ["1.000000,199,-7", "1.000000,,"]);
    }

    #[test]
    fn columns_of_one_name_are_told_apart() {
        let (_, rows) = made(|raw| TableWriter::events(raw, "t.csv", &["x", "x", "x_2", "x", "time_unix"]), |_| ());
        assert_eq!(rows, ["time_unix,x,x_2,x_2_2,x_3,time_unix_2"]);
    }
}

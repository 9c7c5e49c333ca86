//! Tables of a run, by columns: what the plugins made of the tools' output, read for drawing.
use std::{collections::HashMap, fs::File, io};

use autoprof_core::{
    TableInfo,
    manifest::{ClockOffset, HostRecord, Manifest},
};
use camino::{Utf8Path, Utf8PathBuf};

use crate::place::{self, Place};

/// Largest number of a table that is taken for one: a byte count of an exbibyte.
const MOST: f64 = (1u64 << 60) as f64;

/// The first column of every table that has a time axis: seconds since 1970, by the host's clock.
const TIME: &str = "time_unix";

/// Columns that say what a row is about though they hold numbers.
const KEYS: [&str; 5] = ["cpu", "node", "pid", "gpu", BUCKET];

/// The column that says which values a row of a histogram counts.
pub const BUCKET: &str = "bucket";

/// Most numbers of one table that are read, 256 MiB of them: a host may have sent any amount.
const MOST_NUMBERS: usize = 32 << 20;

/// Most series of one table; what a tool prints of more is in its file.
const MOST_GROUPS: usize = 4096;

/// A problem with a table: it, or a part of it, is left out of the pictures and named there.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: Utf8PathBuf,
        /// Why.
        source: csv::Error,
    },
    /// It is longer than what is read of one.
    #[error("{path} is read up to its first {MOST_NUMBERS} numbers")]
    TooLong {
        /// The file.
        path: Utf8PathBuf,
    },
}

/// One table, or its parts where a profiler had several.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Frame {
    /// The profiler's name.
    pub profiler: String,
    /// The file's name, without directories.
    pub file: String,
    /// Names of the columns that say what a row is about.
    pub keys: Vec<String>,
    /// Names of the columns with numbers, in the file's order.
    pub columns: Vec<String>,
    /// The rows by what they are about.
    pub groups: Vec<Group>,
    /// What its profiler declared of it; none: nothing.
    pub table: Option<TableInfo>,
}

/// The rows about one thing: a CPU, a device, a process; or all, where a table is about one thing only.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Group {
    /// Its name; empty where there is but one.
    pub key: String,
    /// Seconds since 1970, by the controller's clock.
    pub times: Vec<f64>,
    /// One list for each column, as long as the times; NaN where there is no value.
    pub values: Vec<Vec<f64>>,
}

impl Group {
    /// Marks that there is nothing from its last row to the first of the next part.
    fn end(&mut self, next: &[f64]) {
        const HARDLY: f64 = 1e-3;
        let (Some(last), Some(first)) = (self.times.last().copied(), next.first()) else { return };
        for time in [last + HARDLY, first - HARDLY] {
            self.times.push(time);
            self.values.iter_mut().for_each(|list| list.push(f64::NAN));
        }
    }

    /// Leaves out a last row that covers much less time than the others: the window ended soon after the one before it,
    /// and a rate over so short a time says nothing.
    fn without_stub(&mut self) {
        /// Share of the usual time between rows.
        const LEAST: f64 = 0.2;
        let [.., before, last] = self.times[..] else { return };
        if self.times.len() > 2 && last - before < LEAST * crate::reduce::usual_step(&self.times) {
            let kept = self.times.len() - 1;
            self.times.truncate(kept);
            self.values.iter_mut().for_each(|list| list.truncate(kept));
        }
    }
}

impl Frame {
    /// The place of a column.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column == name)
    }

    /// The rows about one thing.
    #[must_use]
    pub fn group(&self, key: &str) -> Option<&Group> {
        self.groups.iter().find(|group| group.key == key)
    }
}

/// How far a host's clock was ahead of the controller's: what its tables' times are moved back by.
#[must_use]
pub fn ahead_s(host: &HostRecord) -> f64 {
    // Before and after the window; between them it is taken to have moved evenly, and half-way is within both errors.
    let of = |offset: Option<&ClockOffset>| offset.map(|offset| offset.ahead_s);
    match (of(host.clock.as_ref()), of(host.clock_at_stop.as_ref())) {
        (Some(before), Some(after)) => f64::midpoint(before, after),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => 0.0,
    }
}

/// Reads every table with a time axis of one host.
///
/// Tables of the same name of a profiler's segments and windows become one.
#[must_use]
pub fn of_host(run: &Utf8Path, manifest: &Manifest, name: &str) -> (Vec<Frame>, Vec<FrameError>) {
    let (mut frames, mut problems) = (Vec::<Frame>::new(), Vec::new());
    let Some(host) = manifest.hosts.get(name) else { return (frames, problems) };
    let ahead = ahead_s(host);
    for Place { directory, profiler, record } in place::of_host(manifest, name) {
        for table in &record.tables {
            let path = run.join(&directory).join(&table.path);
            if path.extension() != Some("csv") {
                continue;
            }
            let declared = manifest.tables.get(profiler).into_iter().flatten();
            let declared = declared.into_iter().find(|table| path.file_name() == Some(&table.file));
            let declared = declared.filter(|table| table.holds_for(&record.args));
            match read(&path, declared, ahead, MOST_NUMBERS) {
                Ok(Some((mut frame, whole))) => {
                    profiler.clone_into(&mut frame.profiler);
                    merge(&mut frames, frame);
                    if !whole {
                        problems.push(FrameError::TooLong { path });
                    }
                }
                Ok(None) => {}
                Err(source) => problems.push(FrameError::Read { path, source }),
            }
        }
    }
    (frames, problems)
}

/// Adds a frame, or its rows to the one of the same table.
fn merge(frames: &mut Vec<Frame>, frame: Frame) {
    let same = |f: &&mut Frame| f.profiler == frame.profiler && f.file == frame.file && f.columns == frame.columns;
    let Some(before) = frames.iter_mut().find(same) else {
        frames.push(frame);
        return;
    };
    for group in frame.groups {
        match before.groups.iter_mut().find(|known| known.key == group.key) {
            Some(known) => {
                known.end(&group.times);
                known.times.extend(group.times);
                for (all, more) in known.values.iter_mut().zip(group.values) {
                    all.extend(more);
                }
            }
            None => before.groups.push(group),
        }
    }
}

/// Reads one file up to so many numbers, and says whether that is all; none: it has no time axis.
///
/// # Errors
/// When it cannot be read, or is no CSV.
fn read(
    path: &Utf8Path,
    declared: Option<&TableInfo>,
    ahead_s: f64,
    most: usize,
) -> Result<Option<(Frame, bool)>, csv::Error> {
    let file = File::open(path).map_err(csv::Error::from)?;
    let file = io::BufReader::with_capacity(1 << 16, file);
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(file);
    let headers = reader.headers()?.clone();
    if headers.get(0) != Some(TIME) {
        return Ok(None);
    }
    let mut rows = reader.into_records();
    let Some(first) = rows.next().transpose()? else { return Ok(None) };
    // pidstat says on which CPU a process ran last: a value there, not what the row is about.
    let of_processes = headers.iter().any(|name| name == "pid");
    let is_key = |at: usize, name: &str| {
        if let Some(table) = declared {
            return table.keys.split_whitespace().any(|key| key == name);
        }
        let named = KEYS.contains(&name) && !(of_processes && name == "cpu");
        let text = first.get(at).is_some_and(|value| !value.is_empty() && value.parse::<f64>().is_err());
        named || text
    };
    let (mut keys, mut numbers) = (Vec::new(), Vec::new());
    for (at, name) in headers.iter().enumerate().skip(1) {
        if is_key(at, name) {
            keys.push(at);
        } else if name != "uid" {
            numbers.push(at)
        }
    }
    let names = |places: &[usize]| places.iter().filter_map(|at| headers.get(*at)).map(ToOwned::to_owned).collect();
    let file = path.file_name().unwrap_or_default().to_owned();
    let mut frame =
        Frame { file, keys: names(&keys), columns: names(&numbers), table: declared.cloned(), ..Frame::default() };
    let mut known = HashMap::<String, usize>::new();
    let mut key = String::new();
    let (mut count, mut whole) = (0, true);
    for row in std::iter::once(Ok(first)).chain(rows) {
        let row = row?;
        let Some(time) = row.get(0).and_then(number) else { continue };
        // The time is one of them.
        count += numbers.len() + 1;
        if count > most {
            whole = false;
            break;
        }
        key.clear();
        for value in keys.iter().filter_map(|at| row.get(*at)) {
            if !key.is_empty() {
                key.push(' ');
            }
            key.push_str(value);
        }
        let at = match known.get(&key) {
            Some(at) => *at,
            None if frame.groups.len() >= MOST_GROUPS => continue,
            None => {
                let values = vec![Vec::new(); numbers.len()];
                frame.groups.push(Group { key: key.clone(), values, ..Group::default() });
                known.insert(key.clone(), frame.groups.len() - 1);
                frame.groups.len() - 1
            }
        };
        let group = &mut frame.groups[at];
        group.times.push(time - ahead_s);
        for (list, at) in group.values.iter_mut().zip(&numbers) {
            list.push(row.get(*at).and_then(number).unwrap_or(f64::NAN));
        }
    }
    frame.groups.iter_mut().for_each(Group::without_stub);
    Ok(Some((frame, whole)))
}

/// A number that something was measured to be: sums of any larger ones would be none.
fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.abs() <= MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_of(text: &str, ahead_s: f64, most: usize) -> Option<(Frame, bool)> {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(dir.path()).unwrap().join("t.csv");
        std::fs::write(&path, text).unwrap();
        read(&path, None, ahead_s, most).unwrap()
    }

    fn frame(text: &str, ahead_s: f64) -> Option<Frame> {
        Some(read_of(text, ahead_s, usize::MAX)?.0)
    }

    #[test]
    fn of_an_endless_table_the_beginning_is_read_and_the_rest_is_told() {
        let text = "time_unix,value\n1,1\n2,2\n3,3\n4,4\n";
        let (frame, whole) = read_of(text, 0.0, 6).unwrap();
        assert_eq!((frame.groups[0].times.as_slice(), whole), ([1.0, 2.0, 3.0].as_slice(), false));
        assert!(read_of(text, 0.0, 8).unwrap().1);
    }

    #[test]
    fn rows_are_sorted_by_what_they_are_about_and_moved_to_the_controllers_clock() {
        let read = frame("time_unix,cpu,user_percent\n11,all,1\n11,0,2\n12,all,\n12,0,4\n", 10.0).unwrap();
        assert_eq!(read.columns, ["user_percent"]);
        assert_eq!(read.groups[0].key, "all");
        assert_eq!(read.groups[1].times, [1.0, 2.0]);
        assert_eq!(read.groups[1].values, [[2.0, 4.0]]);
        assert!(read.groups[0].values[0][1].is_nan());
    }

    #[test]
    fn a_last_row_of_hardly_any_time_is_left_out() {
        let read = frame("time_unix,value\n1,1\n2,2\n3,3\n3.01,900\n", 0.0).unwrap();
        assert_eq!(read.groups[0].times, [1.0, 2.0, 3.0]);
    }

    #[test]
    fn parts_of_a_table_are_not_joined() {
        let mut frames = Vec::new();
        for text in ["time_unix,value\n1,1\n2,2\n", "time_unix,value\n4,4\n5,5\n"] {
            merge(&mut frames, frame(text, 0.0).unwrap());
        }
        let group = &frames[0].groups[0];
        assert_eq!(group.times.len(), 6);
        assert!(group.values[0][2].is_nan() && group.values[0][3].is_nan());
    }

    #[test]
    fn a_process_is_known_by_number_and_command() {
        let read = frame("time_unix,uid,pid,cpu_percent,cpu,command\n1,0,7,2.5,1,a b\n", 0.0).unwrap();
        assert_eq!(read.groups[0].key, "7 a b");
        assert_eq!(read.columns, ["cpu_percent", "cpu"]);
    }

    #[test]
    fn a_table_without_time_is_none() {
        assert_eq!(frame("name,value\na,1\n", 0.0), None);
        assert_eq!(frame("time_unix,value\n", 0.0), None);
    }
}

//! The pictures of one host: which columns of which tables belong together, as data for the page's script.
mod specs;

use std::collections::BTreeMap;

use serde::Serialize;

use autoprof_core::Measure;

use specs::{Part, SPECS, Spec};

use crate::{
    frame::{BUCKET, Frame, Group},
    measured::{self, HostSize, Measured},
    metrics::Series,
    reduce,
};

/// Stretches of time that a line is drawn from: two points each, about as many as a screen has columns.
const BUCKETS: usize = 500;
/// Columns of a heat map.
const HEAT_COLUMNS: usize = 300;
/// Most lines of one picture; of more things those with the greatest values are drawn.
const MOST_LINES: usize = 12;
/// Most rows of a heat map.
const MOST_ROWS: usize = 256;
/// Most pictures of a table that is not among those known here.
const MOST_OTHERS: usize = 6;

/// A picture.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Chart {
    /// What it is about: CPU, memory, …
    pub section: String,
    /// What it shows.
    pub title: String,
    /// Unit of its values.
    pub unit: String,
    /// How it is drawn.
    pub kind: Kind,
    /// The table that it was made of, `profiler/file`.
    pub source: String,
    /// What it does not show.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// Its lines or areas.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<Line>,
    /// Its cells, where it is a heat map.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heat: Option<Heat>,
}

/// How a picture is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Lines beside one another.
    Lines,
    /// Areas on top of one another.
    Stack,
    /// Things × time.
    Heat,
    /// A bar for each thing: what was counted over the whole window.
    Bars,
}

/// A line.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// Its name.
    pub name: String,
    /// Milliseconds: the first since the beginning of the report, each other since the one before it.
    pub t: Vec<i64>,
    /// Values; null: a gap.
    pub v: Vec<Option<f64>>,
}

/// Cells, row by row.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Heat {
    /// What the rows are about.
    pub rows: Vec<String>,
    /// Milliseconds from the beginning of the report to the first column.
    pub begin: i64,
    /// Milliseconds of a column.
    pub step: f64,
    /// Values; null: none.
    pub z: Vec<Vec<Option<f64>>>,
    /// The value of the strongest colour; none: the greatest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub most: Option<f64>,
}

impl Heat {
    /// Of several things over the same time, a row for each.
    #[must_use]
    pub fn of(rows: Vec<(String, Series)>, span: (f64, f64), most: Option<f64>) -> Self {
        let longest = rows.iter().map(|(_, series)| series.times.len()).max().unwrap_or(1);
        let columns = longest.clamp(1, HEAT_COLUMNS);
        let cells = |series: &Series| {
            reduce::means(&series.times, &series.values, span, columns).into_iter().map(rounded).collect()
        };
        let z = rows.iter().map(|(_, series)| cells(series)).collect();
        #[expect(clippy::cast_precision_loss, reason = "a number of columns")]
        let step = (span.1 - span.0) * 1e3 / columns as f64;
        Self { rows: rows.into_iter().map(|(name, _)| name).collect(), begin: 0, step, z, most }
    }
}

/// The pictures of a host whose report begins at `base` (seconds since 1970) and ends at `end`.
#[must_use]
pub fn of_host(frames: &[Frame], size: HostSize, base: f64, end: f64) -> Vec<Chart> {
    let span = (base, end);
    let mut charts: Vec<Chart> = SPECS.iter().filter_map(|spec| known(spec, frames, size, span)).collect();
    charts.extend(processes(frames, size, base));
    for frame in frames.iter().filter(|frame| !frame.table.as_ref().is_some_and(|table| table.summarized)) {
        if frame.keys.iter().any(|key| key == BUCKET) {
            charts.extend(histogram(frame, span));
        } else if frame.groups.len() > 1 && frame.groups.iter().all(|group| group.times.len() == 1) {
            charts.extend(bars(frame));
        } else {
            charts.extend(other(frame, base));
        }
    }
    charts
}

/// The picture of some quantities, of the most precise table that has any of them.
fn known(spec: &Spec, frames: &[Frame], size: HostSize, (base, end): (f64, f64)) -> Option<Chart> {
    let mut sources: Vec<&Frame> = frames.iter().filter(|frame| frame.table.is_some()).collect();
    sources.sort_by_key(|frame| (frame.table.as_ref().map(|table| table.precision), &frame.profiler));
    sources.into_iter().find_map(|frame| {
        let parts = spec.parts_of(&|quantity| measures(frame, quantity).next().is_some());
        let groups = groups(frame, &parts, spec.each, size);
        if groups.is_empty() {
            return None;
        }
        let groups: Vec<&Group> = groups.iter().collect();
        let columns: Vec<(usize, &str)> = parts.iter().enumerate().map(|(at, part)| (at, part.label)).collect();
        let mut chart = Chart {
            section: spec.section.to_owned(),
            title: spec.title.to_owned(),
            unit: spec.unit.to_owned(),
            kind: spec.kind,
            source: format!("{}/{}", frame.profiler, frame.file),
            note: String::new(),
            lines: Vec::new(),
            heat: None,
        };
        match spec.kind {
            Kind::Stack => chart.lines = stack(groups[0], &columns, base),
            Kind::Lines | Kind::Bars => (chart.lines, chart.note) = lines(&groups, &columns, base),
            Kind::Heat => {
                let most = (spec.unit == "%").then_some(100.0);
                chart.heat = Some(heat(&groups, columns[0].0, (base, end), most));
                if groups.len() > MOST_ROWS {
                    chart.note = format!("{MOST_ROWS} of {} shown", groups.len());
                }
            }
        }
        (!chart.lines.is_empty() || chart.heat.is_some()).then_some(chart)
    })
}

/// What a table declares of a quantity.
fn measures<'f>(frame: &'f Frame, quantity: &'f str) -> impl Iterator<Item = &'f Measure> {
    let declared = frame.table.iter().flat_map(|table| table.measures.iter());
    declared.filter(move |measure| measure.quantity == quantity)
}

/// The values of some quantities in a table, a column for each: of the host as a whole, or of each key.
fn groups(frame: &Frame, parts: &[&Part], each: bool, size: HostSize) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        let of_part = measures(frame, part.quantity).flat_map(|measure| measured::of_measure(frame, measure, size));
        for Measured { key, series, .. } in of_part.filter(|measured| measured.key.is_empty() != each) {
            let same = groups.iter_mut().find(|group| group.key == key && group.times == series.times);
            let group = match same {
                Some(group) => group,
                None => {
                    let values = vec![vec![f64::NAN; series.times.len()]; parts.len()];
                    groups.push(Group { key, times: series.times, values });
                    let last = groups.len() - 1;
                    &mut groups[last]
                }
            };
            group.values[at] = series.values;
        }
    }
    groups
}

/// Columns of one thing on top of one another: the same instants for all, chosen by their sum. What is zero throughout
/// has no area.
fn stack(group: &Group, columns: &[(usize, &str)], base: f64) -> Vec<Line> {
    let sum = |at: usize| columns.iter().map(|(column, _)| group.values[*column][at]).filter(|v| !v.is_nan()).sum();
    let sums: Vec<f64> = (0..group.times.len()).map(sum).collect();
    let rows = reduce::rows(&group.times, &sums, BUCKETS);
    let step = reduce::longest_step(&group.times);
    let has_area = |(column, _): &&(usize, &str)| group.values[*column].iter().any(|value| *value > 0.0);
    columns
        .iter()
        .filter(has_area)
        .map(|(column, label)| line((*label).to_owned(), &group.times, &group.values[*column], &rows, step, base))
        .collect()
}

/// A line for each thing and column; what is zero throughout is only named.
fn lines(groups: &[&Group], columns: &[(usize, &str)], base: f64) -> (Vec<Line>, String) {
    let (mut drawn, mut zero) = (Vec::<(f64, Line)>::new(), Vec::new());
    for group in groups {
        let step = reduce::longest_step(&group.times);
        for (column, label) in columns {
            let name = [group.key.as_str(), label].into_iter().filter(|s| !s.is_empty()).collect::<Vec<_>>().join(" ");
            let values = &group.values[*column];
            let most = values.iter().copied().filter(|value| !value.is_nan()).map(f64::abs).reduce(f64::max);
            match most {
                None => {}
                Some(0.0) => zero.push(name),
                Some(most) => {
                    let rows = reduce::rows(&group.times, values, BUCKETS);
                    drawn.push((most, line(name, &group.times, values, &rows, step, base)));
                }
            }
        }
    }
    let mut note = Vec::new();
    if drawn.len() > MOST_LINES {
        note.push(format!("the {MOST_LINES} with the greatest values of {}", drawn.len()));
        drawn.sort_by(|a, b| b.0.total_cmp(&a.0));
        drawn.truncate(MOST_LINES);
    }
    match zero.len() {
        0 => {}
        1..=8 => note.push(format!("zero throughout: {}", zero.join(", "))),
        n => note.push(format!("zero throughout: {n} others")),
    }
    (drawn.into_iter().map(|(_, line)| line).collect(), note.join("; "))
}

fn line(name: String, times: &[f64], values: &[f64], rows: &[usize], step: f64, base: f64) -> Line {
    let mut line = Line { name, t: Vec::with_capacity(rows.len()), v: Vec::with_capacity(rows.len()) };
    let (mut before, mut last_row) = (0, None::<usize>);
    let mut push = |at: i64, value: Option<f64>, line: &mut Line| {
        line.t.push(at - before);
        line.v.push(value);
        before = at;
    };
    for row in rows {
        let at = milliseconds(times[*row] - base);
        // Rows that were left out are no gap: only a step between rows that follow one another can be.
        let gap = |last: usize| (last..*row).any(|n| times[n + 1] - times[n] > step || values[n].is_nan());
        if let Some(last) = last_row.filter(|last| gap(*last)) {
            // At both ends: an area falls to nothing there, and is nothing in between.
            let ended = milliseconds(times[last] - base) + 1;
            push(ended.min(at - 1), None, &mut line);
            push(at - 1, None, &mut line);
        }
        push(at, rounded(values[*row]), &mut line);
        last_row = Some(*row);
    }
    line
}

fn heat(groups: &[&Group], column: usize, span: (f64, f64), most: Option<f64>) -> Heat {
    let mut groups = groups.to_vec();
    groups.sort_by(|a, b| natural(&a.key).cmp(&natural(&b.key)));
    groups.truncate(MOST_ROWS);
    let row = |group: &&Group| {
        (group.key.clone(), Series { times: group.times.clone(), values: group.values[column].clone() })
    };
    Heat::of(groups.iter().map(row).collect(), span, most)
}

/// By what stands before the last word, then by the number with which that begins; numbers before words.
fn natural(key: &str) -> (&str, u64, &str) {
    let (before, last) = key.rsplit_once(' ').unwrap_or(("", key));
    let digits = last.find(|c: char| !c.is_ascii_digit()).unwrap_or(last.len());
    (before, last[..digits].parse().unwrap_or(u64::MAX), last)
}

/// The processes that took most CPU time, on top of one another.
fn processes(frames: &[Frame], size: HostSize, base: f64) -> Option<Chart> {
    const PART: Part = Part::new("process.cpu", "");
    let of_processes = |frame: &&Frame| measures(frame, PART.quantity).next().is_some();
    let frame = frames.iter().find(of_processes)?;
    let all = groups(frame, &[&PART], true, size);
    let total = |group: &&Group| group.values[0].iter().filter(|v| !v.is_nan()).sum::<f64>();
    let mut groups: Vec<&Group> = all.iter().filter(|group| total(group) > 0.0).collect();
    groups.sort_by(|a, b| total(b).total_cmp(&total(a)));
    let all = groups.len();
    groups.truncate(MOST_LINES);
    // Processes come and go; areas need the same instants.
    let mut instants: Vec<f64> = groups.iter().flat_map(|group| group.times.iter().copied()).collect();
    instants.sort_by(f64::total_cmp);
    instants.dedup();
    let key = |time: f64| time.to_bits();
    let found: Vec<BTreeMap<u64, f64>> = groups
        .iter()
        .map(|group| group.times.iter().map(|t| key(*t)).zip(group.values[0].iter().copied()).collect())
        .collect();
    let values = |n: usize| -> Vec<f64> {
        instants.iter().map(|t| found[n].get(&key(*t)).copied().filter(|v| !v.is_nan()).unwrap_or(0.0)).collect()
    };
    let columns: Vec<Vec<f64>> = (0..groups.len()).map(values).collect();
    let sums: Vec<f64> = (0..instants.len()).map(|at| columns.iter().map(|column| column[at]).sum()).collect();
    let rows = reduce::rows(&instants, &sums, BUCKETS);
    let step = reduce::longest_step(&instants);
    let lines: Vec<Line> =
        groups.iter().zip(&columns).map(|(g, v)| line(process(&g.key), &instants, v, &rows, step, base)).collect();
    (!lines.is_empty()).then(|| Chart {
        section: "Processes".to_owned(),
        title: "CPU time by process".to_owned(),
        unit: "% of one CPU".to_owned(),
        kind: Kind::Stack,
        source: format!("{}/{}", frame.profiler, frame.file),
        note: if all > MOST_LINES { format!("the {MOST_LINES} busiest of {all}") } else { String::new() },
        lines,
        heat: None,
    })
}

/// A process by its number and its program's name, which is what fits beside a picture.
fn process(key: &str) -> String {
    let (pid, command) = key.split_once(' ').unwrap_or((key, ""));
    let program = command.split(' ').next().unwrap_or_default();
    // A kernel thread's name has slashes that are no directories.
    let name = if program.starts_with('/') { program.rsplit('/').next().unwrap_or(program) } else { program };
    format!("{} {pid}", name.chars().take(24).collect::<String>())
}

/// A histogram over time: its buckets × time.
fn histogram(frame: &Frame, span: (f64, f64)) -> Option<Chart> {
    let groups: Vec<&Group> = frame.groups.iter().collect();
    let heat = heat(&groups, 0, span, None);
    (!frame.columns.is_empty() && !groups.is_empty()).then(|| Chart {
        section: frame.profiler.clone(),
        title: String::new(),
        unit: unit(&frame.columns[0]).1.to_owned(),
        kind: Kind::Heat,
        source: format!("{}/{}", frame.profiler, frame.file),
        note: String::new(),
        lines: Vec::new(),
        heat: Some(heat),
    })
}

/// What a table says of things once, a bar for each thing, of its first columns.
fn bars(frame: &Frame) -> Vec<Chart> {
    const COLUMNS: usize = 4;
    let of = |(at, name): (usize, &String)| {
        let mut values: Vec<(f64, &str)> = frame
            .groups
            .iter()
            .map(|group| (group.values[at][0], group.key.as_str()))
            .filter(|(value, _)| *value != 0.0 && !value.is_nan())
            .collect();
        values.sort_by(|a, b| b.0.total_cmp(&a.0));
        let all = values.len();
        values.truncate(MOST_LINES);
        let (label, unit) = unit(name);
        let line = |(value, key): (f64, &str)| Line { name: key.to_owned(), t: vec![0], v: vec![rounded(value)] };
        Chart {
            section: frame.profiler.clone(),
            title: label.replace('_', " "),
            unit: unit.to_owned(),
            kind: Kind::Bars,
            source: format!("{}/{}", frame.profiler, frame.file),
            note: if all > MOST_LINES { format!("the {MOST_LINES} greatest of {all}") } else { String::new() },
            lines: values.into_iter().map(line).collect(),
            heat: None,
        }
    };
    frame.columns.iter().enumerate().map(of).filter(|chart| !chart.lines.is_empty()).take(COLUMNS).collect()
}

/// Pictures of a table that nothing is known of: its columns by their units.
fn other(frame: &Frame, base: f64) -> Vec<Chart> {
    let mut units = Vec::<(&str, Vec<(usize, &str)>)>::new();
    for (at, name) in frame.columns.iter().enumerate() {
        let (label, unit) = unit(name);
        match units.iter_mut().find(|(known, _)| *known == unit) {
            Some((_, columns)) => columns.push((at, label)),
            None => units.push((unit, vec![(at, label)])),
        }
    }
    let groups: Vec<&Group> = frame.groups.iter().collect();
    let stem = frame.file.strip_suffix(".csv").unwrap_or(&frame.file);
    units
        .into_iter()
        .map(|(unit, columns)| {
            let (lines, note) = lines(&groups, &columns, base);
            Chart {
                section: frame.profiler.clone(),
                title: if stem == frame.profiler { String::new() } else { stem.to_owned() },
                unit: unit.to_owned(),
                kind: Kind::Lines,
                source: format!("{}/{}", frame.profiler, frame.file),
                note,
                lines,
                heat: None,
            }
        })
        .filter(|chart| !chart.lines.is_empty())
        .take(MOST_OTHERS)
        .collect()
}

/// A column's name without its unit, and the unit, as the tables' names end with them.
fn unit(name: &str) -> (&str, &str) {
    const UNITS: [(&str, &str); 13] = [
        ("_kib_per_s", "KiB/s"),
        ("_bytes_per_s", "bytes/s"),
        ("_percent", "%"),
        ("_per_s", "1/s"),
        ("_kib", "KiB"),
        ("_bytes", "bytes"),
        ("_watts", "W"),
        ("_mhz", "MHz"),
        ("_celsius", "°C"),
        ("_ns", "ns"),
        ("_us", "µs"),
        ("_ms", "ms"),
        ("_s", "s"),
    ];
    let found = UNITS.iter().find_map(|(suffix, unit)| Some((name.strip_suffix(suffix)?, *unit)));
    found.filter(|(label, _)| !label.is_empty()).unwrap_or((name, ""))
}

/// Seconds as whole milliseconds.
pub(crate) fn milliseconds(seconds: f64) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "instants of this century, and less")]
    let ms = (seconds * 1e3).round() as i64;
    ms
}

/// Four digits, as many as can be told apart in a picture; none: no number.
fn rounded(value: f64) -> Option<f64> {
    if !value.is_finite() {
        return None;
    }
    if value == 0.0 {
        return Some(0.0);
    }
    let digits = 4.0 - value.abs().log10().ceil();
    let scale = 10f64.powf(digits);
    Some((value * scale).round() / scale)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measured::tests::SIZE;

    fn frame(profiler: &str, file: &str, columns: &[&str], groups: Vec<Group>) -> Frame {
        let columns = columns.iter().map(|name| (*name).to_owned()).collect();
        Frame { profiler: profiler.to_owned(), file: file.to_owned(), columns, groups, ..Frame::default() }
    }

    #[test]
    fn a_line_breaks_where_there_is_a_gap_and_only_there() {
        let times = vec![10.0, 11.0, 12.0, 30.0, 31.0, 32.0];
        let group = Group { key: String::new(), times, values: vec![vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]] };
        let charts = of_host(&[frame("mine", "mine.csv", &["depth"], vec![group])], SIZE, 10.0, 32.0);
        assert_eq!(charts.len(), 1);
        let (t, v) = (&charts[0].lines[0].t, &charts[0].lines[0].v);
        assert_eq!(v[..6], [Some(1.0), Some(2.0), Some(3.0), None, None, Some(4.0)]);
        assert_eq!(t[..6], [0, 1000, 1000, 1, 17_998, 1]);
    }

    #[test]
    fn columns_of_an_unknown_table_are_drawn_by_their_units() {
        let group = |key: &str| Group {
            key: key.to_owned(),
            times: vec![1.0, 2.0],
            values: vec![vec![1.0, 2.0], vec![3.0, 4.0], vec![0.0, 0.0]],
        };
        let columns = ["power_watts", "busy_percent", "idle_percent"];
        let charts = of_host(&[frame("gpu", "gpu.csv", &columns, vec![group("0"), group("1")])], SIZE, 0.0, 2.0);
        let units: Vec<_> = charts.iter().map(|chart| (chart.unit.as_str(), chart.lines.len())).collect();
        assert_eq!(units, [("W", 2), ("%", 2)]);
        assert_eq!(charts[1].note, "zero throughout: 0 idle, 1 idle");
    }

    #[test]
    fn a_histogram_is_a_heat_map_with_its_buckets_in_order() {
        let group = |key: &str| Group { key: key.to_owned(), times: vec![1.0, 2.0], values: vec![vec![1.0, 2.0]] };
        let groups = ["us 128-255", "us 2-3", "us 16-31"].map(group).into();
        let mut frame = frame("bpftrace", "histogram.csv", &["count_per_s"], groups);
        frame.keys = vec!["map".to_owned(), BUCKET.to_owned()];
        let charts = of_host(&[frame], SIZE, 0.0, 2.0);
        assert_eq!(charts[0].heat.as_ref().unwrap().rows, ["us 2-3", "us 16-31", "us 128-255"]);
    }

    #[test]
    fn what_is_said_once_is_drawn_as_bars() {
        let group = |key: &str, value| Group { key: key.to_owned(), times: vec![9.0], values: vec![vec![value]] };
        let groups = vec![group("read", 3.0), group("write", 7.0), group("close", 0.0)];
        let charts = of_host(&[frame("strace", "syscalls.csv", &["calls"], groups)], SIZE, 0.0, 9.0);
        assert_eq!(charts[0].kind, Kind::Bars);
        let names: Vec<_> = charts[0].lines.iter().map(|line| line.name.as_str()).collect();
        assert_eq!(names, ["write", "read"]);
    }

    #[test]
    fn four_digits_are_kept() {
        assert_eq!(rounded(123_456.0), Some(123_500.0));
        assert_eq!(rounded(0.123_456), Some(0.1235));
        assert_eq!(rounded(f64::NAN), None);
    }
}

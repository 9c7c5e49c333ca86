//! What `perf stat -I` writes, to a table of rates: a column for each event, a row for each interval.
use std::collections::HashMap;

use autoprof_plugin::{
    convert::{Lines, TableWriter, json, nanoseconds, number, open},
    prelude::*,
};

use crate::stat::{OUTPUT, counted};

/// How many events a table has columns for.
const MOST_EVENTS: usize = 1000;

/// The longest name of an event, in bytes.
const LONGEST_EVENT: usize = 500;

/// Percentages and ratios that need no knowledge of the CPU: the name, what, of what, and the factor.
const DERIVED: &[(&str, &str, &str, f64)] = &[
    ("instructions_per_cycle", "instructions", "cycles", 1.0),
    ("branch_miss_percent", "branch-misses", "branches", 100.0),
    ("cache_miss_percent", "cache-misses", "cache-references", 100.0),
];

/// One event in one interval.
struct Count {
    /// Seconds from the start of perf to the end of the interval.
    at: f64,
    event: String,
    unit: String,
    value: Option<f64>,
    /// What is there instead of a number, if not that nothing was counted.
    unreadable: Option<String>,
}

/// A value: none for `<not counted>` and `<not supported>`, and for what is no number at all, which is kept.
fn value(text: &str) -> (Option<f64>, Option<String>) {
    let number = text.parse().ok().filter(|x: &f64| x.is_finite());
    let told = number.is_some() || text.starts_with('<') || text.is_empty();
    (number, (!told).then(|| text.to_owned()))
}

/// Makes `perf-stat.csv`.
pub fn convert(raw: &RawResults) -> Result<Vec<Table>, ConvertError> {
    let mut lines = Lines::new(open(raw, OUTPUT)?);
    let mut rows = Rows { raw, table: None, columns: Vec::new(), last: 0.0 };
    let mut group: Vec<Count> = Vec::new();
    let mut strange = 0u64;
    while let Some(line) = lines.next_text()? {
        let count = match line.trim() {
            text if text.is_empty() || text.starts_with('#') => continue,
            text if text.starts_with('{') => object(text),
            text => separated(text),
        };
        match count {
            Ok(Some(count)) if count.event.len() + count.unit.len() > LONGEST_EVENT => strange += 1,
            Ok(Some(count)) => {
                if group.first().is_some_and(|first| first.at.total_cmp(&count.at).is_ne()) {
                    rows.write(&group)?;
                    group.clear();
                }
                if group.len() < MOST_EVENTS {
                    group.push(count);
                }
            }
            Ok(None) => {}
            Err(Strange) => strange += 1,
        }
    }
    // An interval of which not all events were written is not a row.
    let whole = group.len() >= if rows.columns.is_empty() && lines.torn() { events(raw) } else { rows.columns.len() };
    if whole && !group.is_empty() {
        rows.write(&group)?;
    }
    let Some(mut table) = rows.table else {
        return Err(ConvertError::new(ConvertErrorKind::Format, format!("there is no whole interval in {OUTPUT}")));
    };
    lines.warnings().for_each(|warning| table.warn(warning));
    if !whole {
        table.warn("the last interval is cut short and was left out");
    }
    if lines.torn() || !whole {
        table.repaired(table.rows());
    }
    if strange > 0 {
        table.warn(format!("{strange} lines that are not counts were left out"));
    }
    Ok(vec![table.finish()?])
}

/// How many events there should be, or more: one may have commas in it.
fn events(raw: &RawResults) -> usize {
    counted(&raw.args, &raw.facts).map_or(usize::MAX, |events| events.split(',').count())
}

/// A line that perf did not write.
struct Strange;

/// A line of `-j`; none when it has a metric alone.
fn object(line: &str) -> Result<Option<Count>, Strange> {
    // A metric of a count of nothing is a bare `nan` or `inf` (perf 6.1).
    let json::Read { value: line, unreadable } = json::read(line.as_bytes()).ok_or(Strange)?;
    let text = |key: &str| line.get(key).and_then(serde_json::Value::as_str);
    let Some(event) = text("event") else { return Ok(None) };
    let at = line.get("interval").and_then(serde_json::Value::as_f64).ok_or(Strange)?;
    let bare = || unreadable.iter().find(|(name, _)| name == "counter-value").map(|(_, text)| text.as_str());
    let (count, unreadable) = value(text("counter-value").or_else(bare).ok_or(Strange)?);
    Ok(Some(Count {
        at,
        event: event.to_owned(),
        unit: text("unit").unwrap_or_default().to_owned(),
        value: count,
        unreadable,
    }))
}

/// A line of `-x ';'`: time, value, unit, event, and more.
fn separated(line: &str) -> Result<Option<Count>, Strange> {
    let fields: Vec<&str> = line.split(';').map(str::trim).collect();
    let [at, count, unit, event, ..] = fields.as_slice() else { return Err(Strange) };
    let at = at.parse().ok().filter(|x: &f64| x.is_finite()).ok_or(Strange)?;
    if event.is_empty() {
        return Ok(None);
    }
    let (value, unreadable) = value(count);
    Ok(Some(Count { at, event: (*event).to_owned(), unit: (*unit).to_owned(), value, unreadable }))
}

/// The rows; the first interval says what columns there are.
struct Rows<'a> {
    raw: &'a RawResults,
    table: Option<TableWriter>,
    /// Events; one that was asked for twice is there twice.
    columns: Vec<(String, usize)>,
    last: f64,
}

/// Each count of an interval by its event, and how many of the same event are before it.
fn numbered(group: &[Count]) -> HashMap<(String, usize), &Count> {
    let (mut seen, mut counts) = (HashMap::<&str, usize>::new(), HashMap::new());
    for count in group {
        let nth = seen.entry(count.event.as_str()).or_default();
        counts.insert((count.event.clone(), *nth), count);
        *nth += 1;
    }
    counts
}

impl Rows<'_> {
    fn write(&mut self, group: &[Count]) -> Result<(), ConvertError> {
        let Some(first) = group.first() else { return Ok(()) };
        let (at, seconds) = (first.at, first.at - self.last);
        if self.table.is_none() {
            let mut seen = HashMap::<&str, usize>::new();
            for Count { event, .. } in group {
                let nth = seen.entry(event.as_str()).or_default();
                self.columns.push((event.clone(), *nth));
                *nth += 1;
            }
            let mut names: Vec<String> = group.iter().map(column).collect();
            names.extend(
                DERIVED.iter().filter(|(_, a, b, _)| self.has(a) && self.has(b)).map(|(n, ..)| (*n).to_owned()),
            );
            let interval = self.raw.args.number("interval").unwrap_or(1.0);
            self.table = Some(TableWriter::create(self.raw, "perf-stat.csv", interval, &names)?);
        }
        let value = |event: &str| group.iter().find(|count| count.event == event).and_then(|count| count.value);
        let counts = numbered(group);
        let rate = |event: &(String, usize)| {
            let count = counts.get(event)?;
            let scale = if is_clock(count) { 1000.0 } else { 1.0 };
            Some(count.value? / scale / seconds)
        };
        let cell = |x: Option<f64>| x.map(number).unwrap_or_default();
        let mut cells: Vec<String> = self.columns.iter().map(|event| cell(rate(event))).collect();
        for (_, what, of, factor) in DERIVED.iter().filter(|(_, a, b, _)| self.has(a) && self.has(b)) {
            cells.push(cell(value(what).zip(value(of)).map(|(what, of)| factor * what / of)));
        }
        let Some(table) = &mut self.table else { return Ok(()) };
        for count in group {
            if let Some(text) = &count.unreadable {
                table.unreadable(&column(count), text);
            }
        }
        if group.iter().any(|count| !self.columns.iter().any(|(event, _)| *event == count.event)) {
            table.warn("events that are not in the first interval were left out");
        }
        if group.iter().all(|count| count.value.is_none()) {
            table.warn("intervals in which nothing was counted");
        }
        if seconds <= 0.0 {
            table.warn("intervals that went back in time were left out");
            return Ok(());
        }
        self.last = at;
        table.row(self.raw.began_unix_ns.saturating_add(nanoseconds(at)), cells)
    }

    fn has(&self, event: &str) -> bool {
        self.columns.iter().any(|(column, _)| column == event)
    }
}

/// Whether it is time on CPUs in milliseconds: per second of time that is a number of CPUs.
fn is_clock(count: &Count) -> bool {
    count.unit == "msec"
}

/// The column of an event: `context_switches_per_s`, `task_clock_cpus`, `power_energy_pkg_joules_per_s`.
fn column(count: &Count) -> String {
    let word = |text: &str| -> String {
        let word: String = text
            .chars()
            .take(100)
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' })
            .collect();
        word.trim_matches('_').to_owned()
    };
    match (is_clock(count), word(&count.unit)) {
        (true, _) => format!("{}_cpus", word(&count.event)),
        (false, unit) if unit.is_empty() => format!("{}_per_s", word(&count.event)),
        (false, unit) => format!("{}_{unit}_per_s", word(&count.event)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PERF_STAT, PerfStat, events::test_facts};
    use proptest::prelude::*;

    const BEGAN: i64 = 1_795_384_838_975_643_126;

    // perf 6.1 on two CPUs without counters; the last interval was ended by SIGINT.
    const FILE: &str = include_str!("../tests/data/perf-stat.json");

    // The same with `-x ';'`.
    const SEPARATED: &str = "# started on Sun Nov 22 22:00:42 2026\n\n     \
        1.000349693;2000.87;msec;task-clock;2000866950;100.00;2.001;CPUs utilized\n     \
        1.000349693;<not supported>;;cycles;0;100.00;;\n     \
        1.000349693;76;;context-switches;2000866759;100.00;37.984;/sec\n";

    fn converted(text: &[u8]) -> Result<(Table, String), ConvertError> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(OUTPUT), text).unwrap();
        let raw = RawResults {
            directory: directory.path().to_str().unwrap().into(),
            args: Args::new().complete(&PERF_STAT).unwrap(),
            began_unix_ns: BEGAN,
            ended_unix_ns: BEGAN + 4_000_000_000,
            facts: test_facts("6.1"),
            clock_steps: Vec::new(),
            end_unknown: false,
        };
        let table = PerfStat.convert(&raw)?.remove(0);
        Ok((table, std::fs::read_to_string(raw.file("perf-stat.csv")).unwrap()))
    }

    #[test]
    fn counts_become_rates_at_exact_instants() {
        let (table, csv) = converted(FILE.as_bytes()).unwrap();
        assert_eq!((table.rows, table.warnings.len()), (4, 0));
        let mut lines = csv.lines();
        assert_eq!(
            lines.next().unwrap(),
            "time_unix,task_clock_cpus,context_switches_per_s,cpu_migrations_per_s,page_faults_per_s"
        );
        assert!(lines.next().unwrap().starts_with("1795384839.97"));
        // The last interval is a short one, but its rate is as good as the others.
        let last: f64 = csv.lines().last().unwrap().split(',').nth(1).unwrap().parse().unwrap();
        assert!((last - 2.0).abs() < 0.05, "{csv}");
    }

    #[test]
    fn separated_values_of_old_versions_are_read_too() {
        let (table, csv) = converted(SEPARATED.as_bytes()).unwrap();
        assert_eq!(table.rows, 1);
        assert_eq!(
            csv,
            "time_unix,task_clock_cpus,cycles_per_s,context_switches_per_s\n\
             1795384839.975992,2.000171,,75.973433\n"
        );
    }

    #[test]
    fn ratios_are_made_of_counters() {
        let text = "1.0;2000;;instructions\n1.0;1000;;cycles\n1.0;10;;branches\n1.0;1;;branch-misses\n";
        let (_, csv) = converted(text.as_bytes()).unwrap();
        assert!(csv.lines().next().unwrap().ends_with(",instructions_per_cycle,branch_miss_percent"));
        assert!(csv.lines().nth(1).unwrap().ends_with(",2,10"));
    }

    #[test]
    fn an_interval_that_was_cut_is_left_out() {
        let (table, _) = converted(&FILE.as_bytes()[..FILE.len() - 10]).unwrap();
        assert_eq!((table.rows, table.warnings.len(), table.repaired), (3, 2, Some(3)));
    }

    /// What perf writes for three intervals with these counts: value, unit, event, and what follows in the line.
    fn counted(counts: &[(&str, &str, &str, &str)]) -> (Table, Vec<String>) {
        let line = |second: u32, (value, unit, event, more): &(&str, &str, &str, &str)| {
            format!(
                "{{\"interval\" : {second}.001, \"counter-value\" : \"{value}\", \"unit\" : \"{unit}\", \"event\" : \"{event}\"{more}}}\n"
            )
        };
        let text: String = (1..=3).flat_map(|second| counts.iter().map(move |count| line(second, count))).collect();
        let args = Args::new();
        let (tables, csv) = autoprof_plugin::testing::converted(
            &PerfStat,
            &args,
            &[(OUTPUT, text.as_bytes())],
            (10, 3),
            "perf-stat.csv",
        );
        (tables.unwrap().remove(0), csv.lines().map(str::to_owned).collect())
    }

    // perf 6.1 writes a bare nan or inf for a metric of a count of nothing (PerfSpect#151).
    #[test]
    fn a_metric_that_is_no_number_costs_no_count() {
        let (table, rows) = counted(&[
            ("2000.12", "msec", "task-clock", ", \"metric-value\" : nan, \"metric-unit\" : \"CPUs utilized\""),
            ("1001.000000", "", "context-switches", ", \"metric-value\" : inf"),
        ]);
        assert_eq!(rows[0], "time_unix,task_clock_cpus,context_switches_per_s");
        assert_eq!(rows[1], "11.001000,1.998122,1000");
        assert_eq!((table.rows, table.warnings.len(), table.incomplete), (3, 0, None));
    }

    #[test]
    fn an_event_that_was_asked_for_twice_has_two_columns() {
        let (_, rows) =
            counted(&[("5.0", "", "page-faults", ""), ("7.0", "", "page-faults", ""), ("1", "", "page-faults:u", "")]);
        assert_eq!(rows[0], "time_unix,page_faults_per_s,page_faults_per_s_2,page_faults_u_per_s");
        assert_eq!(rows[2], "12.001000,5,7,1");
    }

    #[test]
    fn a_count_that_cannot_be_read_is_an_empty_cell_and_counted() {
        let (table, rows) = counted(&[
            ("2.000,12", "msec", "task-clock", ""),
            ("<not counted>", "", "cycles", ""),
            ("5", "", "a", ""),
            ("6", "", "b", ""),
        ]);
        assert_eq!(rows[3], "13.001000,,,5,6");
        assert_eq!(table.warnings, ["task_clock_cpus: 3 values left empty: not a number, such as 2.000,12"]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0..FILE.len()) {
            let _ = converted(&bytes);
            let _ = converted(&[&FILE.as_bytes()[..at], &bytes[..]].concat());
        }

        #[test]
        fn a_file_cut_anywhere_gives_its_whole_intervals(at in 0..FILE.len(), zeros in 0usize..9000) {
            let torn = [&FILE.as_bytes()[..at], &vec![0; zeros]].concat();
            // Two lines of introduction, then four events an interval.
            let lines = FILE[..at].matches('\n').count().saturating_sub(2);
            let whole = lines / 4;
            let is_torn = zeros > 0 || !FILE[..at].ends_with('\n') || !lines.is_multiple_of(4);
            match converted(&torn) {
                Ok((table, csv)) if whole > 0 => {
                    prop_assert_eq!(table.rows, whole as u64);
                    prop_assert_eq!(table.repaired, is_torn.then_some(whole as u64));
                    prop_assert!(csv.ends_with('\n') && converted(FILE.as_bytes()).unwrap().1.starts_with(&csv));
                }
                Err(_) if whole > 0 => prop_assert!(false, "{} whole intervals are lost", whole),
                _ => {}
            }
        }
    }
}

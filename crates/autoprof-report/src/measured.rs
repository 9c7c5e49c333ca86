//! The quantities of one host, computed from its tables as their profilers declared them.
use std::collections::BTreeMap;

use autoprof_core::{
    manifest::HostRecord,
    quantity::{self, Fold, Formula, HOST_NAMES, Kind, Measure, Precision, Quantity, matched},
};

use crate::{
    frame::{Frame, Group},
    metrics::Series,
};

/// Most names that a `*` in a column's name stands for, of one table.
const MAX_MATCHES: usize = 1000;

/// Most measures of one table that are computed: a manifest may come from anybody.
const MAX_MEASURES: usize = 200;

/// What is known of the host beside its tables.
#[derive(Debug, Clone, Copy)]
pub struct HostSize {
    cpus: f64,
    memory_bytes: f64,
}

impl HostSize {
    /// Takes it from what the client found.
    #[must_use]
    pub fn of(host: &HostRecord) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "memory of a host in KiB")]
        let memory = |kib: u64| if kib > 0 { kib as f64 * 1024.0 } else { f64::NAN };
        let facts = host.facts.as_ref();
        Self {
            cpus: facts.map_or(1.0, |facts| f64::from(facts.cpus.max(1))),
            memory_bytes: facts.map_or(f64::NAN, |facts| memory(facts.memory_kib)),
        }
    }

    fn value(&self, name: &str) -> Option<f64> {
        match HOST_NAMES.iter().position(|known| *known == name)? {
            0 => Some(self.cpus),
            _ => Some(self.memory_bytes),
        }
    }
}

/// A quantity of a host over time, from one table.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// Its name.
    pub quantity: String,
    /// Its unit.
    pub unit: String,
    /// The profiler that measured it.
    pub profiler: String,
    /// The table's file.
    pub file: String,
    /// What it is about: a device, an interface, a CPU; empty: the host as a whole.
    pub key: String,
    /// How precise the table is.
    pub precision: Precision,
    /// Its values; NaN: none, or an impossible one.
    pub series: Series,
}

impl Measured {
    /// What autoprof knows of the quantity.
    #[must_use]
    pub fn known(&self) -> Option<&'static Quantity> {
        quantity::known(&self.quantity)
    }

    /// What a value stands for; of a quantity that autoprof does not know, that of its row's time.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.known().map_or(Kind::Mean, |quantity| quantity.kind)
    }

    fn fold(&self) -> Fold {
        self.known().map_or(if self.unit == "%" { Fold::Max } else { Fold::Sum }, |quantity| quantity.fold)
    }
}

/// A formula of a table with the columns that it takes.
struct Bound {
    quantity: String,
    /// What a `*` matched, where that is a key.
    key: Option<String>,
    formula: Formula,
    places: Vec<Place>,
}

enum Place {
    Column(usize),
    Constant(f64),
}

/// Every quantity of a host that its tables have, but those of single processes.
#[must_use]
pub fn of_host(frames: &[Frame], size: HostSize) -> Vec<Measured> {
    let mut all = Vec::new();
    for frame in frames {
        let Some(table) = &frame.table else { continue };
        for measure in table.measures.iter().take(MAX_MEASURES) {
            if quantity::known(&measure.quantity).is_some_and(|quantity| quantity.fold == Fold::None) {
                continue;
            }
            for bound in bind(frame, measure, size) {
                all.extend(values(frame, table.precision, measure, &bound));
            }
        }
    }
    all
}

/// The series of one measure of a table, one for each key.
#[must_use]
pub fn of_measure(frame: &Frame, measure: &Measure, size: HostSize) -> Vec<Measured> {
    let precision = frame.table.as_ref().map_or_else(Precision::default, |table| table.precision);
    bind(frame, measure, size).iter().flat_map(|bound| values(frame, precision, measure, bound)).collect()
}

/// The formulas of a measure for the columns that the table has: several where a `*` matches several.
fn bind(frame: &Frame, measure: &Measure, size: HostSize) -> Vec<Bound> {
    let Ok(formula) = Formula::parse(&measure.formula) else { return Vec::new() };
    let place = |name: &str, inner: &str| {
        let name = if name.contains('*') { name.replacen('*', inner, 1) } else { name.to_owned() };
        size.value(&name).map(Place::Constant).or_else(|| frame.column(&name).map(Place::Column))
    };
    let pattern = formula.names().iter().find(|name| name.contains('*'));
    let inners: Vec<&str> = match pattern {
        None => vec![""],
        Some(pattern) => {
            // A column that has a quantity of its own is not counted twice.
            let named: Vec<String> =
                frame.table.iter().flat_map(|table| table.measures.iter()).filter_map(plain).collect();
            let columns = frame.columns.iter().filter(|column| !named.contains(column));
            columns.filter_map(|column| matched(pattern, column)).take(MAX_MATCHES).collect()
        }
    };
    let has_pattern = pattern.is_some();
    let of = |inner: &str| {
        let places = formula.names().iter().map(|name| place(name, inner)).collect::<Option<Vec<_>>>()?;
        let names_quantity = measure.quantity.contains('*');
        Some(Bound {
            quantity: measure.quantity.replacen('*', inner, 1),
            key: (has_pattern && !names_quantity).then(|| inner.to_owned()),
            formula: formula.clone(),
            places,
        })
    };
    inners.into_iter().filter_map(of).collect()
}

/// The column that a measure is, without any arithmetic.
fn plain(measure: &Measure) -> Option<String> {
    let formula = Formula::parse(&measure.formula).ok()?;
    formula.names().first().filter(|name| **name == measure.formula).cloned()
}

fn values<'a>(
    frame: &'a Frame,
    precision: Precision,
    measure: &'a Measure,
    bound: &'a Bound,
) -> impl Iterator<Item = Measured> + 'a {
    let of = move |group: &'a Group| {
        let key = measure.key_of(&group.key)?;
        let key = match &bound.key {
            Some(inner) if key.is_empty() => inner.clone(),
            Some(inner) => format!("{key} {inner}"),
            None => key.to_owned(),
        };
        let mut row = Vec::with_capacity(bound.places.len());
        let known = quantity::known(&bound.quantity);
        let value = |at: usize| {
            row.clear();
            row.extend(bound.places.iter().map(|place| match place {
                Place::Column(column) => group.values[*column][at],
                Place::Constant(value) => *value,
            }));
            let value = bound.formula.eval(&row);
            known.map_or(value, |quantity| quantity.bounded(value))
        };
        let values: Vec<f64> = (0..group.times.len()).map(value).collect();
        // A column that the tool does not print there.
        values.iter().any(|value| !value.is_nan()).then(|| Measured {
            quantity: bound.quantity.clone(),
            unit: known.map_or(measure.unit.as_ref(), |quantity| quantity.unit).to_owned(),
            profiler: frame.profiler.clone(),
            file: frame.file.clone(),
            key,
            precision,
            series: Series { times: group.times.clone(), values },
        })
    };
    frame.groups.iter().filter_map(of)
}

/// The value of the host as a whole of a quantity in one table: its own row, or all keys folded.
#[must_use]
pub fn whole<'m>(of_one_table: impl IntoIterator<Item = &'m Measured>) -> Option<Series> {
    let all: Vec<&Measured> = of_one_table.into_iter().collect();
    if let Some(own) = all.iter().find(|measured| measured.key.is_empty()) {
        return Some(own.series.clone());
    }
    let fold = all.first()?.fold();
    let mut instants = BTreeMap::<u64, (f64, f64, f64)>::new();
    for measured in &all {
        if fold == Fold::SumOfLinks && measured.key == "lo" {
            continue;
        }
        let Series { times, values } = &measured.series;
        for (time, value) in times.iter().zip(values).filter(|(_, value)| !value.is_nan()) {
            // Of positive numbers the bits are in the numbers' order; the same time is the same number of one file.
            let (_, folded, count) = instants.entry(time.to_bits()).or_insert((*time, f64::NAN, 0.0));
            *folded = match fold {
                _ if folded.is_nan() => *value,
                Fold::Max => folded.max(*value),
                Fold::Sum | Fold::SumOfLinks | Fold::Mean | Fold::None => *folded + value,
            };
            *count += 1.0;
        }
    }
    let mean = fold == Fold::Mean;
    let mut series = Series::default();
    for (time, folded, count) in instants.into_values() {
        series.times.push(time);
        series.values.push(if mean { folded / count } else { folded });
    }
    (!series.times.is_empty()).then_some(series)
}

#[cfg(test)]
pub(crate) mod tests {
    use autoprof_core::TableInfo;

    use super::*;

    pub(crate) const SIZE: HostSize = HostSize { cpus: 4.0, memory_bytes: 4096.0 };

    /// A table of a profiler with its declaration, for tests.
    pub(crate) fn frame(profiler: &str, table: &TableInfo, columns: &[&str], groups: &[(&str, &[&[f64]])]) -> Frame {
        let groups = groups.iter().map(|(key, values)| Group {
            key: (*key).to_owned(),
            times: (0..values[0].len()).map(|n| 100.0 + n as f64).collect(),
            values: values.iter().map(|list| list.to_vec()).collect(),
        });
        Frame {
            profiler: profiler.to_owned(),
            file: table.file.to_string(),
            keys: table.keys.split(' ').map(ToOwned::to_owned).collect(),
            columns: columns.iter().map(|c| (*c).to_owned()).collect(),
            groups: groups.collect(),
            table: Some(table.clone()),
        }
    }

    fn of(measures: &[Measure], columns: &[&str], groups: &[(&str, &[&[f64]])]) -> Vec<Measured> {
        let table = TableInfo { measures: measures.to_vec().into(), ..TableInfo::new("t.csv") };
        of_host(&[frame("mine", &table, columns, groups)], SIZE)
    }

    #[test]
    fn a_formula_is_computed_for_the_rows_that_it_is_about() {
        let busy = Measure::new("cpu.busy", "100 - idle");
        let groups: [(&str, &[&[f64]]); 2] = [("all", &[&[40.0, 240.0]]), ("0", &[&[100.5, f64::NAN]])];
        let found = of(&[busy.clone().rows("all"), busy.rows("!all")], &["idle"], &groups);
        assert_eq!(found.iter().map(|m| m.key.as_str()).collect::<Vec<_>>(), ["", "0"]);
        assert_eq!(found[0].series.values[0], 60.0);
        assert!(found[0].series.values[1].is_nan(), "240 % idle is impossible");
        assert_eq!(found[1].series.values[0], 0.0, "rounding is none");
    }

    #[test]
    fn names_of_columns_may_have_the_key_or_the_quantity_in_them() {
        let groups: [(&str, &[&[f64]]); 1] = [("", &[&[1.0], &[2.0], &[3.0]])];
        let wide = of(&[Measure::new("cpu.busy", "'cpu*_percent'")], &["cpu0_percent", "cpu1_percent", "x"], &groups);
        assert_eq!(
            wide.iter().map(|m| (m.key.as_str(), m.series.values[0])).collect::<Vec<_>>(),
            [("0", 1.0), ("1", 2.0)]
        );
        assert_eq!(whole(&wide).unwrap().values, [1.5]);
        let events = of(&[Measure::new("perf.*", "'*_per_s'").unit("1/s")], &["cycles_per_s", "a_per_s", "x"], &groups);
        assert_eq!(events.iter().map(|m| m.quantity.as_str()).collect::<Vec<_>>(), ["perf.cycles", "perf.a"]);
        assert!(events.iter().all(|m| m.unit == "1/s" && m.key.is_empty()));
        let measures = [Measure::new("system.forks", "a_per_s"), Measure::new("perf.*", "'*_per_s'").unit("1/s")];
        let events = of(&measures, &["cycles_per_s", "a_per_s", "x"], &groups);
        assert_eq!(events.iter().map(|m| m.quantity.as_str()).collect::<Vec<_>>(), ["system.forks", "perf.cycles"]);
    }

    #[test]
    fn what_is_known_of_the_host_may_be_in_a_formula() {
        let groups: [(&str, &[&[f64]]); 1] = [("", &[&[8.0]])];
        let queue = of(&[Measure::new("cpu.run_queue", "runnable / host.cpus")], &["runnable"], &groups);
        assert_eq!(queue[0].series.values, [2.0]);
        assert_eq!(of(&[Measure::new("cpu.run_queue", "absent")], &["runnable"], &groups), []);
    }

    #[test]
    fn keys_are_folded_instant_by_instant() {
        let groups: [(&str, &[&[f64]]); 3] =
            [("lo", &[&[9.0, 9.0]]), ("eth0", &[&[1.0, 2.0]]), ("eth1", &[&[10.0, f64::NAN]])];
        let net = of(&[Measure::new("net.rx_bytes", "rx")], &["rx"], &groups);
        assert_eq!(whole(&net).unwrap().values, [11.0, 2.0], "without the loopback interface");
        let disk = of(&[Measure::new("disk.busy", "rx")], &["rx"], &groups);
        assert_eq!(whole(&disk).unwrap().values, [10.0, 9.0], "the busiest");
    }
}

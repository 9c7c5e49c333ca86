//! Figures by which hosts are compared, each from the profiler that measured it most precisely.
use std::{borrow::Cow, collections::BTreeMap};

use autoprof_core::{
    manifest::HostRecord,
    quantity::{self, Precision},
};

use crate::{
    agreement::{self, Disagreement},
    frame::Frame,
    measured::{self, HostSize, Measured},
};

/// What was measured of one host.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HostFigures {
    /// Its figures.
    pub figures: BTreeMap<Metric, Figure>,
    /// Every quantity of every profiler, in numbers.
    pub readings: Vec<Reading>,
    /// What two profilers disagree on.
    pub disagreements: Vec<Disagreement>,
}

/// What was measured of every host.
pub type Figures = BTreeMap<String, HostFigures>;

/// A figure of one host.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figure {
    /// The profiler that it comes from.
    pub profiler: String,
    /// Others that measured it, too.
    pub others: Vec<String>,
    /// Its values.
    pub series: Series,
}

/// A quantity as one profiler measured it.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Reading {
    /// The quantity.
    pub quantity: String,
    /// Its unit.
    pub unit: String,
    /// The profiler.
    pub profiler: String,
    /// The table's file.
    pub table: String,
    /// What it is about; empty: the host as a whole.
    pub key: String,
    /// Its mean over the rows that have a value.
    pub mean: f64,
    /// Its greatest value.
    pub most: f64,
    /// How many rows have a value.
    pub samples: usize,
}

/// Most readings of one host: a table may have thousands of keys.
const MAX_READINGS: usize = 2000;

/// Every figure that a host's tables give.
#[must_use]
pub fn of_host(frames: &[Frame], host: &HostRecord) -> HostFigures {
    of_measured(&measured::of_host(frames, HostSize::of(host)))
}

/// Every figure of these quantities.
#[must_use]
pub fn of_measured(measured: &[Measured]) -> HostFigures {
    let mut figures = BTreeMap::new();
    for (rank, known) in KNOWN.iter().enumerate() {
        if let Some(figure) = figure(measured, known.parts) {
            figures.insert(known.metric(rank), figure);
        }
    }
    // What autoprof has no figure for, since only its profiler knows of it.
    for of in measured.iter().filter(|of| of.known().is_none()) {
        let metric =
            Metric { rank: KNOWN.len(), name: of.quantity.clone().into(), ..Metric::new(&of.quantity, &of.unit) };
        if let std::collections::btree_map::Entry::Vacant(free) = figures.entry(metric)
            && let Some(figure) = figure(measured, &[&of.quantity])
        {
            free.insert(figure);
        }
    }
    let reading = |of: &Measured| {
        Some(Reading {
            quantity: of.quantity.clone(),
            unit: of.unit.clone(),
            profiler: of.profiler.clone(),
            table: of.file.clone(),
            key: of.key.clone(),
            mean: of.series.mean()?,
            most: of.series.most()?,
            samples: of.series.known().count(),
        })
    };
    let readings = measured.iter().filter_map(reading).take(MAX_READINGS).collect();
    HostFigures { figures, readings, disagreements: agreement::disagreements(measured) }
}

/// The sum of some quantities of the host as a whole, from the most precise table that has any of them.
fn figure(measured: &[Measured], parts: &[&str]) -> Option<Figure> {
    let mut tables: Vec<(Precision, &str, &str)> = measured
        .iter()
        .filter(|of| parts.contains(&of.quantity.as_str()))
        .map(|of| (of.precision, of.profiler.as_str(), of.file.as_str()))
        .collect();
    tables.sort_unstable();
    tables.dedup();
    let series = |(_, profiler, file): &(Precision, &str, &str)| {
        let part = |name: &&str| {
            measured::whole(
                measured.iter().filter(|of| of.quantity == *name && of.profiler == *profiler && of.file == *file),
            )
        };
        let mut parts = parts.iter().filter_map(part);
        let first = parts.next()?;
        Some(parts.fold(first, |sum, part| sum.plus(&part)))
    };
    let at = tables.iter().position(|table| series(table).is_some())?;
    let mut profilers: Vec<&str> = tables[at..].iter().map(|(_, profiler, _)| *profiler).collect();
    profilers.dedup();
    let others = profilers[1..].iter().map(|name| (*name).to_owned()).collect();
    Some(Figure { profiler: profilers[0].to_owned(), others, series: series(&tables[at])? })
}

/// A figure of a host.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub struct Metric {
    /// Its place among the others.
    rank: usize,
    /// The name by which rules call it: that of a quantity, or of a sum of some.
    pub name: Cow<'static, str>,
    /// What it is called.
    pub title: Cow<'static, str>,
    /// Its unit.
    pub unit: Cow<'static, str>,
}

impl Metric {
    fn new(name: &str, unit: &str) -> Self {
        Self { rank: 0, name: name.to_owned().into(), title: name.to_owned().into(), unit: unit.to_owned().into() }
    }

    /// The figure that autoprof knows by this name.
    #[must_use]
    pub fn known(name: &str) -> Option<Self> {
        let rank = KNOWN.iter().position(|known| known.name == name)?;
        Some(KNOWN[rank].metric(rank))
    }
}

/// Every figure that any host has, in the order in which they are shown.
#[must_use]
pub fn all<'f>(hosts: impl IntoIterator<Item = &'f HostFigures>) -> Vec<Metric> {
    let all: std::collections::BTreeSet<&Metric> = hosts.into_iter().flat_map(|host| host.figures.keys()).collect();
    all.into_iter().cloned().collect()
}

/// A figure that autoprof knows: the sum of some quantities of the host as a whole.
struct Known {
    name: &'static str,
    title: &'static str,
    unit: &'static str,
    parts: &'static [&'static str],
}

impl Known {
    fn metric(&self, rank: usize) -> Metric {
        Metric {
            rank,
            name: Cow::Borrowed(self.name),
            title: Cow::Borrowed(self.title),
            unit: Cow::Borrowed(self.unit),
        }
    }
}

const fn one(parts: &'static [&'static str; 1], title: &'static str, unit: &'static str) -> Known {
    Known { name: parts[0], title, unit, parts }
}

/// In the order in which they are shown.
const KNOWN: [Known; 16] = [
    one(&["cpu.busy"], "CPU busy", "%"),
    one(&["cpu.iowait"], "CPU waiting for I/O", "%"),
    one(&["cpu.steal"], "CPU stolen", "%"),
    one(&["cpu.run_queue"], "run queue per CPU", "tasks"),
    one(&["memory.utilization"], "memory used", "%"),
    Known { name: "swap.pages", title: "swapping", unit: "pages/s", parts: &["swap.in_pages", "swap.out_pages"] },
    Known { name: "swap.bytes", title: "swap traffic", unit: "bytes/s", parts: &["swap.in_bytes", "swap.out_bytes"] },
    one(&["disk.busy"], "busiest disk", "%"),
    Known {
        name: "disk.bytes",
        title: "disk throughput",
        unit: "bytes/s",
        parts: &["disk.read_bytes", "disk.write_bytes"],
    },
    Known { name: "net.bytes", title: "network throughput", unit: "bytes/s", parts: &["net.rx_bytes", "net.tx_bytes"] },
    Known {
        name: "net.trouble",
        title: "network errors and drops",
        unit: "packets/s",
        parts: &["net.rx_errors", "net.rx_drops", "net.tx_errors", "net.tx_drops"],
    },
    one(&["tcp.retransmit_share"], "TCP retransmits", "%"),
    one(&["pressure.cpu"], "pressure on CPU", "%"),
    one(&["pressure.io"], "pressure on I/O", "%"),
    one(&["pressure.memory"], "pressure on memory", "%"),
    one(&["system.context_switches"], "context switches", "1/s"),
];

/// What a quantity of one thing is called: `bytes written to vda`.
#[must_use]
pub fn described(quantity: &str, key: &str) -> String {
    let title = quantity::known(quantity).map_or(quantity, |known| known.title);
    match (title.split_once("{}"), key) {
        (None, "") => title.to_owned(),
        (None, key) => format!("{title} of {key}"),
        (Some((before, after)), "") => {
            let prepositions = [" from ", " to ", " on ", " of "];
            let before = prepositions.iter().find_map(|word| before.strip_suffix(word)).unwrap_or(before);
            format!("{before}{after}")
        }
        (Some((before, after)), key) if before.ends_with(' ') => format!("{before}{key}{after}"),
        (Some((before, after)), key) => format!("{before} of {key}{after}"),
    }
}

/// A figure over time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Series {
    /// Seconds since 1970, by the controller's clock.
    pub times: Vec<f64>,
    /// As many values; NaN: none.
    pub values: Vec<f64>,
}

impl Series {
    /// The sum with another series of the same table; where only one has a value, that one's.
    #[must_use]
    fn plus(&self, other: &Self) -> Self {
        let mut instants = BTreeMap::<u64, (f64, f64)>::new();
        for series in [self, other] {
            for (time, value) in series.times.iter().zip(&series.values) {
                // Of positive numbers the bits are in the numbers' order.
                let (_, sum) = instants.entry(time.to_bits()).or_insert((*time, f64::NAN));
                *sum = match (sum.is_nan(), value.is_nan()) {
                    (true, _) => *value,
                    (_, true) => *sum,
                    _ => *sum + value,
                };
            }
        }
        let (times, values) = instants.into_values().unzip();
        Self { times, values }
    }

    /// The values that there are.
    pub fn known(&self) -> impl Iterator<Item = f64> {
        self.values.iter().copied().filter(|value| !value.is_nan())
    }

    /// Their mean.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        let (sum, count) = self.known().fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
        (count > 0.0).then(|| sum / count)
    }

    /// The greatest.
    #[must_use]
    pub fn most(&self) -> Option<f64> {
        self.known().reduce(f64::max)
    }
}

/// The middle of some values; none of none.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    Some(if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) })
}

/// How far each value is from the others, in robust standard deviations: 0.6745 (x − median) ÷ MAD.
///
/// Where more than half of them are equal the deviation is taken from the mean of the distances instead. Source:
/// Iglewicz and Hoaglin, "How to Detect and Handle Outliers" (1993), who take more than 3.5 for an outlier.
#[must_use]
pub fn robust_scores(values: &[f64]) -> Vec<f64> {
    let Some(middle) = median(values) else { return Vec::new() };
    let distances: Vec<f64> = values.iter().map(|value| (value - middle).abs()).collect();
    let mad = median(&distances).unwrap_or_default();
    #[expect(clippy::cast_precision_loss, reason = "a number of hosts")]
    let mean = distances.iter().sum::<f64>() / distances.len() as f64;
    let scale = if mad > 0.0 { mad / 0.6745 } else { mean * 1.2533 };
    values.iter().map(|value| if scale > 0.0 { (value - middle) / scale } else { 0.0 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    use autoprof_core::{Measure, Precision, TableInfo};

    use crate::measured::tests::{SIZE, frame};

    fn figures(frames: &[Frame]) -> HostFigures {
        of_measured(&measured::of_host(frames, SIZE))
    }

    fn table(file: &'static str, precision: Precision, measures: &[Measure]) -> TableInfo {
        TableInfo { measures: measures.to_vec().into(), ..TableInfo::new(file).precision(precision) }
    }

    #[test]
    fn a_figure_comes_from_the_most_precise_profiler() {
        let busy = [Measure::new("cpu.busy", "100 - idle")];
        let rows: [(&str, &[&[f64]]); 1] = [("", &[&[30.0]])];
        let rough = frame("a-rough-one", &table("r.csv", Precision::Integer, &busy), &["idle"], &rows);
        let exact = frame("exact", &table("e.csv", Precision::Exact, &busy), &["idle"], &[("", &[&[40.0]])]);
        let found = figures(&[rough.clone(), exact]);
        let figure = &found.figures[&Metric::known("cpu.busy").unwrap()];
        assert_eq!((figure.profiler.as_str(), figure.series.values.as_slice()), ("exact", [60.0].as_slice()));
        assert_eq!(figure.others, ["a-rough-one"]);
        assert_eq!(figures(&[rough]).figures[&Metric::known("cpu.busy").unwrap()].series.values, [70.0]);
        assert_eq!(figures(&[]), HostFigures::default());
    }

    #[test]
    fn a_profiler_whose_every_value_is_impossible_has_no_figure() {
        let busy = [Measure::new("cpu.busy", "100 - idle")];
        let broken = frame("broken", &table("b.csv", Precision::Exact, &busy), &["idle"], &[("", &[&[-900.0, 350.0]])]);
        assert_eq!(figures(std::slice::from_ref(&broken)), HostFigures::default());
        let other = frame("other", &table("o.csv", Precision::Decimal, &busy), &["idle"], &[("", &[&[40.0]])]);
        let found = figures(&[broken, other]);
        assert_eq!(found.figures[&Metric::known("cpu.busy").unwrap()].profiler, "other");
    }

    #[test]
    fn a_quantity_that_only_its_profiler_knows_is_a_figure() {
        let requests = [Measure::new("nginx.requests", "requests").unit("1/s")];
        let mine = frame("nginx", &table("n.csv", Precision::Decimal, &requests), &["requests"], &[("", &[&[7.0]])]);
        let found = figures(&[mine]);
        let (metric, figure) = found.figures.iter().next().unwrap();
        assert_eq!((metric.title.as_ref(), metric.unit.as_ref()), ("nginx.requests", "1/s"));
        assert_eq!((figure.profiler.as_str(), found.readings[0].mean), ("nginx", 7.0));
    }

    #[test]
    fn parts_of_a_figure_are_added_up_instant_by_instant() {
        let both = [Measure::new("net.rx_bytes", "rx"), Measure::new("net.tx_bytes", "tx")];
        let info = table("net.csv", Precision::Exact, &both).keys("interface");
        let groups: [(&str, &[&[f64]]); 3] = [
            ("lo", &[&[9.0, 9.0], &[9.0, 9.0]]),
            ("eth0", &[&[1.0, 2.0], &[0.0, 0.0]]),
            ("eth1", &[&[10.0, f64::NAN], &[0.5, 0.0]]),
        ];
        let found = figures(&[frame("proc", &info, &["rx", "tx"], &groups)]);
        let series = &found.figures[&Metric::known("net.bytes").unwrap()].series;
        assert_eq!((series.values.as_slice(), series.mean()), ([11.5, 2.0].as_slice(), Some(6.75)));
    }

    #[test]
    fn quantities_have_names_for_people() {
        assert_eq!(described("disk.write_bytes", "vda"), "bytes written to vda");
        assert_eq!(described("disk.write_bytes", ""), "bytes written");
        assert_eq!(described("cpu.busy", ""), "CPU busy");
        assert_eq!(described("cpu.busy", "3"), "CPU busy of 3");
        assert_eq!(described("nginx.requests", "web"), "nginx.requests of web");
        assert_eq!(described("memory.available", ""), "memory available");
    }

    #[test]
    fn one_host_of_many_stands_out() {
        let scores = robust_scores(&[10.0, 11.0, 9.0, 10.5, 50.0]);
        assert!(scores[4] > 3.5 && scores[..4].iter().all(|score| score.abs() < 3.5), "{scores:?}");
        assert!(robust_scores(&[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 2.0])[7] > 3.5);
        assert_eq!(robust_scores(&[1.0, 1.0]), [0.0, 0.0]);
    }
}

//! Figures by which hosts are compared, each from whichever profiler measured it.
use std::collections::BTreeMap;

use autoprof_core::manifest::HostRecord;

use crate::frame::{Frame, Group};

/// What was measured of one host.
pub type HostFigures = BTreeMap<Metric, Series>;

/// What was measured of every host.
pub type Figures = BTreeMap<String, HostFigures>;

/// Every figure that a host's tables give.
#[must_use]
pub fn of_host(frames: &[Frame], host: &HostRecord) -> HostFigures {
    let cpus = host.facts.as_ref().map_or(1, |facts| facts.cpus);
    Metric::ALL.iter().filter_map(|metric| Some((*metric, metric.of(frames, cpus)?))).collect()
}

/// A figure of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Metric {
    /// Time in which CPUs were neither idle nor waiting for I/O, percent of all CPUs.
    CpuBusy,
    /// Time in which CPUs were idle with I/O outstanding, percent of all CPUs.
    CpuIoWait,
    /// Time that the hypervisor gave to others, percent of all CPUs.
    CpuSteal,
    /// Tasks that run or wait for a CPU, for each CPU.
    RunQueue,
    /// Memory that is not available, percent of all.
    MemoryUsed,
    /// Swapped in and out, KiB/s or pages/s.
    Swapping,
    /// Time in which the busiest disk had requests, percent.
    DiskBusiest,
    /// Read and written on all disks, bytes/s.
    DiskBytes,
    /// Received and sent on all interfaces but the loopback, bytes/s.
    NetBytes,
    /// Packets dropped or with errors, a second.
    NetTrouble,
    /// Segments sent again, percent of those sent.
    Retransmits,
    /// Time in which some task waited for a CPU, percent.
    PressureCpu,
    /// Time in which some task waited for I/O, percent.
    PressureIo,
    /// Time in which some task waited for memory, percent.
    PressureMemory,
    /// Context switches a second.
    ContextSwitches,
}

impl Metric {
    /// All, in the order in which they are offered.
    pub const ALL: [Self; 15] = [
        Self::CpuBusy,
        Self::CpuIoWait,
        Self::CpuSteal,
        Self::RunQueue,
        Self::MemoryUsed,
        Self::Swapping,
        Self::DiskBusiest,
        Self::DiskBytes,
        Self::NetBytes,
        Self::NetTrouble,
        Self::Retransmits,
        Self::PressureCpu,
        Self::PressureIo,
        Self::PressureMemory,
        Self::ContextSwitches,
    ];

    /// What it is called.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::CpuBusy => "CPU busy",
            Self::CpuIoWait => "CPU waiting for I/O",
            Self::CpuSteal => "CPU stolen",
            Self::RunQueue => "run queue per CPU",
            Self::MemoryUsed => "memory used",
            Self::Swapping => "swapping",
            Self::DiskBusiest => "busiest disk",
            Self::DiskBytes => "disk throughput",
            Self::NetBytes => "network throughput",
            Self::NetTrouble => "network errors and drops",
            Self::Retransmits => "TCP retransmits",
            Self::PressureCpu => "pressure on CPU",
            Self::PressureIo => "pressure on I/O",
            Self::PressureMemory => "pressure on memory",
            Self::ContextSwitches => "context switches",
        }
    }

    /// Its unit.
    #[must_use]
    pub const fn unit(self) -> &'static str {
        match self {
            Self::RunQueue => "tasks",
            Self::Swapping => "1/s",
            Self::DiskBytes | Self::NetBytes => "bytes/s",
            Self::NetTrouble => "packets/s",
            Self::ContextSwitches => "1/s",
            _ => "%",
        }
    }

    /// The figure over time on a host with so many CPUs; none: no profiler measured it.
    #[must_use]
    pub fn of(self, frames: &[Frame], cpus: u32) -> Option<Series> {
        let found =
            |profiler: &str, file: &str| frames.iter().find(|frame| frame.profiler == profiler && frame.file == file);
        let one = |profiler: &str, file: &str, key: &str, f: &dyn Fn(&Row<'_>) -> f64| {
            let frame = found(profiler, file)?;
            Series::of(frame, frame.group(key)?, f)
        };
        let pressure = |what: &str| one("proc", "pressure.csv", what, &|row| row.get("some_percent"));
        let cpus = f64::from(cpus.max(1));
        match self {
            Self::CpuBusy => {
                let busy = |row: &Row<'_>| 100.0 - row.get("idle_percent") - row.get("iowait_percent");
                one("proc", "cpu.csv", "all", &busy)
                    .or_else(|| one("mpstat", "mpstat.csv", "all", &busy))
                    .or_else(|| one("vmstat", "vmstat.csv", "", &busy))
            }
            Self::CpuIoWait | Self::CpuSteal => {
                let column = if self == Self::CpuIoWait { "iowait_percent" } else { "steal_percent" };
                let part = |row: &Row<'_>| row.get(column);
                one("proc", "cpu.csv", "all", &part)
                    .or_else(|| one("mpstat", "mpstat.csv", "all", &part))
                    .or_else(|| one("vmstat", "vmstat.csv", "", &part))
            }
            Self::RunQueue => {
                let queue = |row: &Row<'_>| row.get("runnable") / cpus;
                one("proc", "load.csv", "", &queue)
                    .or_else(|| one("vmstat", "vmstat.csv", "", &queue))
                    .or_else(|| one("sar", "sar-load.csv", "", &queue))
            }
            Self::MemoryUsed => {
                let used = |row: &Row<'_>| 100.0 * (1.0 - row.get("available_kib") / row.get("total_kib"));
                one("proc", "memory.csv", "", &used)
                    .or_else(|| one("sar", "sar-memory.csv", "", &|row| row.get("used_percent")))
            }
            Self::Swapping => {
                let pages = |row: &Row<'_>| row.get("swap_in_pages_per_s") + row.get("swap_out_pages_per_s");
                one("proc", "paging.csv", "", &pages)
                    .or_else(|| {
                        let kib = |row: &Row<'_>| row.get("swap_in_kib_per_s") + row.get("swap_out_kib_per_s");
                        one("vmstat", "vmstat.csv", "", &kib)
                    })
                    .or_else(|| one("sar", "sar-paging.csv", "", &pages))
            }
            Self::DiskBusiest => {
                let busy = |row: &Row<'_>| row.get("util_percent");
                let most = |frame: &Frame| Series::folded(frame, |_| true, &busy, f64::max);
                most(found("proc", "disk.csv").or_else(|| found("iostat", "iostat.csv"))?)
            }
            Self::DiskBytes => found("proc", "disk.csv")
                .and_then(|frame| {
                    let bytes = |row: &Row<'_>| row.get("read_bytes_per_s") + row.get("write_bytes_per_s");
                    Series::folded(frame, |_| true, &bytes, |a, b| a + b)
                })
                .or_else(|| {
                    let bytes = |row: &Row<'_>| 1024.0 * (row.get("read_kib_per_s") + row.get("write_kib_per_s"));
                    Series::folded(found("iostat", "iostat.csv")?, |_| true, &bytes, |a, b| a + b)
                }),
            Self::NetBytes => found("proc", "net.csv")
                .and_then(|frame| {
                    let bytes = |row: &Row<'_>| row.get("rx_bytes_per_s") + row.get("tx_bytes_per_s");
                    Series::folded(frame, |key| key != "lo", &bytes, |a, b| a + b)
                })
                .or_else(|| {
                    let bytes = |row: &Row<'_>| 1024.0 * (row.get("rx_kib_per_s") + row.get("tx_kib_per_s"));
                    Series::folded(found("sar", "sar-network.csv")?, |key| key != "lo", &bytes, |a, b| a + b)
                }),
            Self::NetTrouble => {
                let frame = found("proc", "net.csv").or_else(|| found("sar", "sar-network.csv"))?;
                let trouble = |row: &Row<'_>| {
                    ["rx_errors_per_s", "rx_drops_per_s", "tx_errors_per_s", "tx_drops_per_s"]
                        .iter()
                        .map(|column| row.get(column))
                        .sum()
                };
                Series::folded(frame, |_| true, &trouble, |a, b| a + b)
            }
            Self::Retransmits => one("sar", "sar-tcp.csv", "", &|row| {
                let sent = row.get("segments_out_per_s");
                if sent == 0.0 { 0.0 } else { 100.0 * row.get("retransmits_per_s") / sent }
            }),
            Self::PressureCpu => pressure("cpu"),
            Self::PressureIo => pressure("io"),
            Self::PressureMemory => pressure("memory"),
            Self::ContextSwitches => {
                let switches = |row: &Row<'_>| row.get("context_switches_per_s");
                one("proc", "load.csv", "", &switches)
                    .or_else(|| one("vmstat", "vmstat.csv", "", &switches))
                    .or_else(|| one("sar", "sar-load.csv", "", &switches))
            }
        }
    }
}

/// A row of a table about one thing.
pub struct Row<'a> {
    frame: &'a Frame,
    group: &'a Group,
    at: usize,
}

impl Row<'_> {
    fn get(&self, column: &str) -> f64 {
        self.frame.column(column).map_or(f64::NAN, |column| self.group.values[column][self.at])
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
    fn of(frame: &Frame, group: &Group, f: &dyn Fn(&Row<'_>) -> f64) -> Option<Self> {
        let values: Vec<f64> = (0..group.times.len()).map(|at| f(&Row { frame, group, at })).collect();
        // A column that the tool does not print there.
        values.iter().any(|value| !value.is_nan()).then(|| Self { times: group.times.clone(), values })
    }

    /// One figure of several things at the same instants.
    fn folded(
        frame: &Frame,
        wanted: impl Fn(&str) -> bool,
        f: &dyn Fn(&Row<'_>) -> f64,
        fold: impl Fn(f64, f64) -> f64,
    ) -> Option<Self> {
        let mut all: Vec<(f64, f64)> = Vec::new();
        for group in frame.groups.iter().filter(|group| wanted(&group.key)) {
            all.extend(Self::of(frame, group, f).into_iter().flat_map(|s| s.times.into_iter().zip(s.values)));
        }
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut series = Self::default();
        for (time, value) in all.into_iter().filter(|(_, value)| !value.is_nan()) {
            match series.values.last_mut() {
                #[expect(clippy::float_cmp, reason = "the same number in the same file")]
                Some(last) if series.times.last().is_some_and(|t| *t == time) => *last = fold(*last, value),
                _ => {
                    series.times.push(time);
                    series.values.push(value);
                }
            }
        }
        (!series.times.is_empty()).then_some(series)
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

    fn frame(profiler: &str, file: &str, columns: &[&str], groups: &[(&str, &[&[f64]])]) -> Frame {
        let groups = groups.iter().map(|(key, values)| Group {
            key: (*key).to_owned(),
            times: (0..values[0].len()).map(|n| n as f64).collect(),
            values: values.iter().map(|list| list.to_vec()).collect(),
        });
        let columns = columns.iter().map(|c| (*c).to_owned()).collect();
        Frame {
            profiler: profiler.to_owned(),
            file: file.to_owned(),
            columns,
            groups: groups.collect(),
            ..Frame::default()
        }
    }

    #[test]
    fn a_figure_comes_from_whichever_profiler_measured_it() {
        let columns = ["idle_percent", "iowait_percent"];
        let proc = frame("proc", "cpu.csv", &columns, &[("all", &[&[30.0], &[10.0]]), ("0", &[&[0.0], &[0.0]])]);
        let vmstat = frame("vmstat", "vmstat.csv", &columns, &[("", &[&[50.0], &[0.0]])]);
        assert_eq!(Metric::CpuBusy.of(&[vmstat.clone(), proc], 1).unwrap().values, [60.0]);
        assert_eq!(Metric::CpuBusy.of(&[vmstat], 1).unwrap().values, [50.0]);
        assert_eq!(Metric::CpuBusy.of(&[], 1), None);
    }

    #[test]
    fn devices_are_folded_instant_by_instant() {
        let columns = ["rx_bytes_per_s", "tx_bytes_per_s"];
        let groups: [(&str, &[&[f64]]); 3] = [
            ("lo", &[&[9.0, 9.0], &[9.0, 9.0]]),
            ("eth0", &[&[1.0, 2.0], &[0.0, 0.0]]),
            ("eth1", &[&[10.0, f64::NAN], &[0.0, 0.0]]),
        ];
        let series = Metric::NetBytes.of(&[frame("proc", "net.csv", &columns, &groups)], 1).unwrap();
        assert_eq!(series.values, [11.0, 2.0]);
        assert_eq!(series.mean(), Some(6.5));
    }

    #[test]
    fn one_host_of_many_stands_out() {
        let scores = robust_scores(&[10.0, 11.0, 9.0, 10.5, 50.0]);
        assert!(scores[4] > 3.5 && scores[..4].iter().all(|score| score.abs() < 3.5), "{scores:?}");
        assert!(robust_scores(&[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 2.0])[7] > 3.5);
        assert_eq!(robust_scores(&[1.0, 1.0]), [0.0, 0.0]);
    }
}

//! Whether two profilers that measured the same quantity agree, as far as sampling lets them.
//!
//! Neither is taken for right. A difference is one only if no course of events could have given both: rows of two
//! profilers end at different instants, so what happened near a row's end may be in one row of the first and in another
//! of the second. `of_means` therefore bounds what the other profiler can have counted in a window whose ends are ends
//! of rows of the first one, and `of_instants` compares an instant's value with those around it.
use autoprof_core::quantity::Kind;

use crate::{measured::Measured, metrics::Series, reduce};

/// Two profilers that measured the same quantity and do not agree.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Disagreement {
    /// The quantity.
    pub quantity: String,
    /// Its unit.
    pub unit: String,
    /// What it is about; empty: the host as a whole.
    pub key: String,
    /// Both profilers, by name.
    pub profilers: [String; 2],
    /// The mean that each has over the time that both cover.
    pub means: [f64; 2],
    /// How long that time is, in seconds.
    pub seconds: f64,
}

/// Share of the larger value that two profilers may differ by for reasons that are not sampling.
const RELATIVE: f64 = 0.1;

/// Fewest rows of each that are compared.
const MIN_ROWS: usize = 3;

/// Every pair of profilers of a host that disagrees on something.
#[must_use]
pub fn disagreements(measured: &[Measured]) -> Vec<Disagreement> {
    let mut candidates: Vec<&Measured> =
        measured.iter().filter(|m| m.known().is_some_and(|quantity| quantity.compared)).collect();
    candidates.sort_by_key(|m| (&m.quantity, &m.key, &m.profiler, m.precision));
    // One table of each profiler: the most precise.
    candidates.dedup_by(|a, b| (&a.quantity, &a.key, &a.profiler) == (&b.quantity, &b.key, &b.profiler));
    let mut found: Vec<Disagreement> = Vec::new();
    for (at, a) in candidates.iter().enumerate() {
        let same = |b: &&&Measured| (&b.quantity, &b.key) == (&a.quantity, &a.key);
        for b in candidates[at + 1..].iter().take_while(same) {
            let compared = match a.kind() {
                Kind::Mean => of_means(&a.series, &b.series, floor(&a.unit)),
                Kind::Instant => of_instants(&a.series, &b.series, floor(&a.unit)),
            };
            found.extend(compared.filter(|compared| compared.differ).map(|compared| Disagreement {
                quantity: a.quantity.clone(),
                unit: a.unit.clone(),
                key: a.key.clone(),
                profilers: [a.profiler.clone(), b.profiler.clone()],
                means: compared.means,
                seconds: compared.seconds,
            }));
        }
    }
    found
}

/// A difference that does not matter, in this unit: an idle host has nothing to disagree on.
fn floor(unit: &str) -> f64 {
    match unit {
        "%" => 3.0,
        "bytes" => 32.0 * 1024.0 * 1024.0,
        "bytes/s" => 128.0 * 1024.0,
        "packets/s" => 50.0,
        _ => 100.0,
    }
}

/// What two series show over the time that both cover.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Compared {
    pub(crate) means: [f64; 2],
    pub(crate) seconds: f64,
    pub(crate) differ: bool,
}

/// Rows that follow one another without a gap: the ends of their intervals and their values. The first one's interval
/// began at an unknown instant, so that it is an end only.
type Run = Vec<(f64, f64)>;

fn runs(series: &Series) -> Vec<Run> {
    let step = reduce::usual_step(&series.times);
    let mut runs = vec![Run::new()];
    for (time, value) in series.times.iter().copied().zip(series.values.iter().copied()) {
        let last = runs.len() - 1;
        let is_gap =
            runs[last].last().is_some_and(|(before, _)| !(0.0..=reduce::MAX_STEP * step).contains(&(time - before)));
        if value.is_nan() || is_gap {
            runs.push(Run::new());
        }
        if !value.is_nan() {
            let last = runs.len() - 1;
            runs[last].push((time, value));
        }
    }
    runs.retain(|run| run.len() > 1);
    runs
}

/// How far the end of a row may be from where its table has it: a tool that prints whole seconds, and was late, is
/// known to part of a second.
fn tolerance_s(a: &Series, b: &Series) -> f64 {
    let step = reduce::usual_step(&a.times).min(reduce::usual_step(&b.times));
    0.1 + 0.3 * step.min(1.0)
}

/// Compares rows that are means of the time before them.
pub(crate) fn of_means(a: &Series, b: &Series, floor: f64) -> Option<Compared> {
    let (forth, back) = (one_way(a, b, floor), one_way(b, a, floor));
    let swap = |c: Compared| Compared { means: [c.means[1], c.means[0]], ..c };
    match (forth, back.map(swap)) {
        (Some(forth), Some(back)) => Some(if back.differ && !forth.differ { back } else { forth }),
        (one, other) => one.or(other),
    }
}

/// What `b` can have counted, at least and at most, between two ends of rows of `a`, and what `a` did.
fn one_way(a: &Series, b: &Series, floor: f64) -> Option<Compared> {
    let slack = tolerance_s(a, b);
    let (a_step, b_step) = (reduce::usual_step(&a.times), reduce::usual_step(&b.times));
    let (mut seconds, mut rows) = (0.0, 0);
    let (mut of_a, mut of_b) = (Amount::default(), Amount::default());
    let others = runs(b);
    for own in runs(a) {
        let (Some(own_first), Some(own_last)) = (own.first(), own.last()) else { continue };
        let overlapping = others.partition_point(|other| other.last().is_none_or(|last| last.0 < own_first.0));
        for other in &others[overlapping..] {
            let (Some(first), Some(last)) = (other.first(), other.last()) else { continue };
            if first.0 > own_last.0 {
                break;
            }
            let from = own.partition_point(|(time, _)| *time < first.0 + slack);
            let end = own.partition_point(|(time, _)| *time <= last.0 - slack);
            if end < from + 2 {
                continue;
            }
            let (begin, end, within) = (own[from].0, own[end - 1].0, &own[from..end]);
            seconds += end - begin;
            for pair in within.windows(2) {
                of_a.add(pair[1].1, pair[1].0 - pair[0].0, a_step, Coverage::Whole);
            }
            // From the end of a row that may reach into the window to that of one that may begin in it.
            let head = other.partition_point(|(time, _)| *time <= begin - slack).saturating_sub(1);
            let tail = (other.partition_point(|(time, _)| *time < end + slack) + 1).min(other.len());
            let mut inside = 0;
            for pair in other[head..tail].windows(2) {
                let [(start, _), (stop, value)] = [pair[0], pair[1]];
                inside += usize::from((begin..=end).contains(&stop));
                let coverage = match () {
                    () if start >= begin + slack && stop <= end - slack => Coverage::Whole,
                    () if stop > begin - slack && start < end + slack => {
                        Coverage::Part(((stop.min(end) - start.max(begin)) / (stop - start)).clamp(0.0, 1.0))
                    }
                    () => continue,
                };
                of_b.add(value, stop - start, b_step, coverage);
            }
            rows += inside.min(within.len() - 1);
        }
    }
    if rows < MIN_ROWS {
        return None;
    }
    let margin = RELATIVE * of_a.middle.max(of_b.middle) + floor * seconds;
    let differ = of_a.least > of_b.most + margin || of_a.most < of_b.least - margin;
    Some(Compared { means: [of_a.middle / seconds, of_b.middle / seconds], seconds, differ })
}

/// How much of a row lies within a window.
enum Coverage {
    Whole,
    /// This share, if it was even; anything up to all of it may lie within.
    Part(f64),
}

/// A number of bytes, switches or CPU seconds: what it is if rows were even, and its bounds.
#[derive(Debug, Default)]
struct Amount {
    least: f64,
    middle: f64,
    most: f64,
}

impl Amount {
    fn add(&mut self, value: f64, step: f64, usual: f64, coverage: Coverage) {
        // Where the step is unusual, the tool may have counted over the usual time and been late to print.
        let (short, long) = (value * step.min(usual), value * step.max(usual));
        match coverage {
            Coverage::Whole => {
                self.least += short;
                self.middle += value * step;
                self.most += long;
            }
            Coverage::Part(share) => {
                self.middle += share * value * step;
                self.most += long;
            }
        }
    }
}

/// Compares rows that are values of an instant: each of `a` with those of `b` around it, and the other way round.
pub(crate) fn of_instants(a: &Series, b: &Series, floor: f64) -> Option<Compared> {
    let (forth, back) = (beyond(a, b)?, beyond(b, a)?);
    let (from, to) = (forth.span.0.max(back.span.0), forth.span.1.min(back.span.1));
    let mean = |series: &Series| {
        let inside = series.times.iter().zip(&series.values).filter(|(t, v)| (from..=to).contains(*t) && !v.is_nan());
        let (sum, count) = inside.fold((0.0, 0.0), |(sum, count), (_, value)| (sum + value, count + 1.0));
        (count > 0.0).then(|| sum / count)
    };
    let means = [mean(a)?, mean(b)?];
    let margin = floor + 0.2 * RELATIVE * means[0].abs().max(means[1].abs());
    // Both must see the difference, with opposite signs.
    let differ = forth.median.abs() > margin && back.median.abs() > margin && forth.median * back.median < 0.0;
    Some(Compared { means, seconds: to - from, differ })
}

struct Beyond {
    /// How far a value is above the greatest, or below the least, of those around it: the median.
    median: f64,
    span: (f64, f64),
}

fn beyond(a: &Series, b: &Series) -> Option<Beyond> {
    let (others, mut distances) = (runs(b), Vec::new());
    let mut span = (f64::INFINITY, f64::NEG_INFINITY);
    for (time, value) in a.times.iter().copied().zip(a.values.iter().copied()).filter(|(_, value)| !value.is_nan()) {
        let at = others.partition_point(|run| run.last().is_none_or(|(last, _)| *last < time));
        let Some(run) = others.get(at) else { break };
        let next = run.partition_point(|(before, _)| *before < time);
        if next == 0 || next == run.len() {
            continue;
        }
        // One more on each side, since its own time is known to part of a second.
        let around = &run[next.saturating_sub(2)..(next + 2).min(run.len())];
        let low = around.iter().map(|(_, value)| *value).fold(f64::INFINITY, f64::min);
        let high = around.iter().map(|(_, value)| *value).fold(f64::NEG_INFINITY, f64::max);
        distances.push((value - high).max(0.0) + (value - low).min(0.0));
        span = (span.0.min(time), span.1.max(time));
    }
    if distances.len() < MIN_ROWS {
        return None;
    }
    Some(Beyond { median: crate::metrics::median(&distances)?, span })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Rows of a tool that sampled this course of events, a value for each tenth of a second, each `interval` from
    /// `phase` on.
    fn sampled(truth: &[f64], phase: usize, interval: usize, jitter: &[f64]) -> Series {
        let mut series = Series::default();
        let mut at = phase;
        while at + interval <= truth.len() {
            let row = &truth[at..at + interval];
            at += interval;
            let late = jitter.get(series.times.len() % jitter.len().max(1)).copied().unwrap_or_default();
            series.times.push(1e9 + at as f64 / 10.0 + late);
            series.values.push(row.iter().sum::<f64>() / interval as f64);
        }
        series
    }

    fn instants(truth: &[f64], phase: usize, interval: usize) -> Series {
        let at = (phase..truth.len()).step_by(interval);
        let (times, values) = at.map(|at| (1e9 + at as f64 / 10.0, truth[at])).unzip();
        Series { times, values }
    }

    fn times(series: &Series, factor: f64) -> Series {
        Series { values: series.values.iter().map(|value| value * factor).collect(), ..series.clone() }
    }

    #[test]
    fn twice_as_much_is_noticed_after_some_seconds() {
        let truth = vec![7e8; 120];
        let (a, b) = (sampled(&truth, 0, 10, &[]), sampled(&truth, 2, 10, &[]));
        let compared = of_means(&times(&a, 2.0), &b, floor("bytes/s")).unwrap();
        assert!(compared.differ && (compared.means[0] - 1.4e9).abs() < 1e6, "{compared:?}");
        assert!((compared.means[1] - 7e8).abs() < 1e6);
        let back = of_means(&b, &times(&a, 2.0), floor("bytes/s")).unwrap();
        assert!(back.differ && back.means[0] < back.means[1]);
    }

    #[test]
    fn too_few_rows_are_no_evidence() {
        let truth = vec![7e8; 30];
        let a = sampled(&truth, 0, 10, &[]);
        assert_eq!(of_means(&times(&a, 2.0), &a, floor("bytes/s")), None);
    }

    #[test]
    fn rows_across_a_gap_are_not_compared() {
        let truth = vec![7e8; 200];
        let (whole, mut torn) = (sampled(&truth, 0, 10, &[]), sampled(&truth, 3, 10, &[]));
        torn.times.drain(5..10);
        torn.values.drain(5..10);
        assert!(!of_means(&whole, &torn, floor("bytes/s")).unwrap().differ);
        assert!(of_means(&whole, &times(&torn, 0.5), floor("bytes/s")).unwrap().differ);
    }

    proptest! {
        #[test]
        fn two_samplers_of_the_same_events_never_disagree(
            truth in prop::collection::vec(prop_oneof![3 => Just(0.0), 1 => 0.0..1e9f64, 1 => Just(4e9)], 60..400),
            phases in (0usize..10, 0usize..50),
            intervals in (prop_oneof![Just(5usize), Just(10), Just(20)], prop_oneof![Just(10usize), Just(50)]),
            jitter in prop::collection::vec(0.0..0.09f64, 1..7),
        ) {
            let a = sampled(&truth, phases.0, intervals.0, &[]);
            let b = sampled(&truth, phases.1, intervals.1, &jitter);
            for compared in [of_means(&a, &b, floor("bytes/s")), of_means(&b, &a, floor("bytes/s"))].into_iter().flatten() {
                prop_assert!(!compared.differ, "{compared:?}");
            }
            let (a, b) = (instants(&truth, phases.0, intervals.0), instants(&truth, phases.1, intervals.1));
            if let Some(compared) = of_instants(&a, &b, floor("bytes")) {
                prop_assert!(!compared.differ, "{compared:?}");
            }
        }

        #[test]
        fn a_steady_load_counted_wrong_is_always_noticed(
            level in 2e7..4e9f64,
            noise in prop::collection::vec(0.8..1.2f64, 300..400),
            phases in (0usize..10, 0usize..10),
            factor in prop_oneof![1.5..10.0f64, 0.05..0.6f64],
        ) {
            let truth: Vec<f64> = noise.iter().map(|noise| noise * level).collect();
            let (a, b) = (sampled(&truth, phases.0, 10, &[]), sampled(&truth, phases.1, 10, &[]));
            prop_assert!(of_means(&a, &times(&b, factor), floor("bytes/s")).unwrap().differ);
            let (a, b) = (instants(&truth, phases.0, 10), instants(&truth, phases.1, 10));
            // Noise of a fifth each way is as much as two samples may lie apart.
            if !(0.6..1.6).contains(&factor) && level > 4e8 {
                prop_assert!(of_instants(&a, &times(&b, factor), floor("bytes")).unwrap().differ);
            }
        }
    }
}

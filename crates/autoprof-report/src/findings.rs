//! What stands out in a run: rules with stated thresholds, and the numbers behind each.
use crate::metrics::{Figures, HostFigures, Metric, median, robust_scores};

/// Something that is worth a look.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Finding {
    /// How much it matters.
    pub level: Level,
    /// Where: a host's name, or several.
    pub hosts: Vec<String>,
    /// What it is, in a few words.
    pub title: String,
    /// The numbers.
    pub detail: String,
    /// The rule by which it was found, with its threshold.
    pub rule: String,
    /// When it was seen first, seconds since 1970, where it has a beginning.
    pub from: Option<f64>,
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// A resource was at its end.
    Saturated,
    /// A host behaves otherwise than the others.
    Outlier,
    /// Good to know.
    Note,
}

/// A figure above a threshold for a share of the window.
struct Rule {
    metric: Metric,
    above: f64,
    /// Share of the samples, 0 to 1, that must be above.
    share: f64,
    level: Level,
    title: &'static str,
}

const RULES: [Rule; 11] = [
    rule(Metric::CpuBusy, 90.0, 0.1, Level::Saturated, "CPUs were saturated"),
    rule(Metric::RunQueue, 2.0, 0.1, Level::Saturated, "tasks queued for CPUs"),
    rule(Metric::CpuSteal, 5.0, 0.1, Level::Note, "the hypervisor gave CPU time to others"),
    rule(Metric::DiskBusiest, 90.0, 0.1, Level::Saturated, "a disk was saturated"),
    rule(Metric::CpuIoWait, 20.0, 0.1, Level::Saturated, "CPUs waited for I/O"),
    rule(Metric::MemoryUsed, 90.0, 0.1, Level::Saturated, "memory was nearly used up"),
    rule(Metric::Swapping, 0.0, 0.02, Level::Saturated, "memory was swapped"),
    rule(Metric::PressureIo, 20.0, 0.1, Level::Note, "tasks stalled on I/O"),
    rule(Metric::PressureMemory, 10.0, 0.02, Level::Saturated, "tasks stalled on memory"),
    rule(Metric::NetTrouble, 0.0, 0.02, Level::Note, "packets were dropped or broken"),
    rule(Metric::Retransmits, 1.0, 0.05, Level::Note, "TCP segments were sent again"),
];

const fn rule(metric: Metric, above: f64, share: f64, level: Level, title: &'static str) -> Rule {
    Rule { metric, above, share, level, title }
}

/// From how many robust standard deviations on a host is called an outlier.
const OUTLIER: f64 = 3.5;
/// Fewest hosts among which one can stand out.
const FLEET: usize = 4;

/// What stands out among the hosts, the gravest first.
#[must_use]
pub fn find(hosts: &Figures) -> Vec<Finding> {
    let mut findings: Vec<Finding> = RULES.iter().filter_map(|rule| saturated(rule, hosts)).collect();
    findings.extend(Metric::ALL.iter().flat_map(|metric| outliers(*metric, hosts)));
    findings.sort_by_key(|finding| finding.level);
    findings
}

/// The hosts that broke a rule, in one finding.
fn saturated(rule: &Rule, hosts: &Figures) -> Option<Finding> {
    let mut broken: Vec<(&String, f64, f64, f64)> = Vec::new();
    for (name, metrics) in hosts {
        let Some(series) = metrics.get(&rule.metric) else { continue };
        let known = series.known().count();
        let above = |value: &f64| *value > rule.above;
        let count = series.known().filter(above).count();
        #[expect(clippy::cast_precision_loss, reason = "numbers of samples")]
        let share = count as f64 / known.max(1) as f64;
        if count > 0 && share >= rule.share {
            let first = series.times.iter().zip(&series.values).find(|(_, value)| above(value)).map(|(time, _)| *time);
            broken.push((name, share, series.most().unwrap_or_default(), first.unwrap_or_default()));
        }
    }
    broken.sort_by(|a, b| b.1.total_cmp(&a.1));
    let (name, share, most, _) = broken.first()?;
    let unit = rule.metric.unit();
    let detail = format!(
        "{} above {} {unit} in {:.0} % of the samples{}, at most {} {unit}",
        rule.metric.title(),
        rule.above,
        share * 100.0,
        if broken.len() > 1 { format!(" on {name}") } else { String::new() },
        figure(*most),
    );
    Some(Finding {
        level: rule.level,
        title: rule.title.to_owned(),
        detail,
        rule: format!(
            "{} > {} {unit} in at least {:.0} % of the samples",
            rule.metric.title(),
            rule.above,
            rule.share * 100.0
        ),
        from: broken.iter().map(|(_, _, _, first)| *first).reduce(f64::min),
        hosts: broken.into_iter().map(|(name, ..)| name.clone()).collect(),
    })
}

/// The hosts whose mean is far from the others'.
fn outliers(metric: Metric, hosts: &Figures) -> Vec<Finding> {
    let mean = |metrics: &HostFigures| metrics.get(&metric)?.mean();
    let means: Vec<(&String, f64)> = hosts.iter().filter_map(|(name, m)| Some((name, mean(m)?))).collect();
    if means.len() < FLEET {
        return Vec::new();
    }
    let values: Vec<f64> = means.iter().map(|(_, mean)| *mean).collect();
    let middle = median(&values).unwrap_or_default();
    let unit = metric.unit();
    let scores = robust_scores(&values);
    let far = means.iter().zip(scores).filter(|((_, mean), score)| {
        // Among hosts that are nearly equal the least difference is many deviations: it must matter, too.
        score.abs() > OUTLIER && (mean - middle).abs() > least_that_matters(metric, middle)
    });
    far.map(|((name, mean), score)| Finding {
        level: Level::Outlier,
        hosts: vec![(*name).clone()],
        title: format!(
            "{} is {} than on the other hosts",
            metric.title(),
            if score > 0.0 { "higher" } else { "lower" }
        ),
        detail: format!(
            "mean {} {unit}, the hosts' median is {} {unit}: {score:+.1} robust standard deviations",
            figure(*mean),
            figure(middle)
        ),
        rule: format!("more than {OUTLIER} robust standard deviations from the median of {FLEET} hosts or more"),
        from: None,
    })
    .collect()
}

fn least_that_matters(metric: Metric, middle: f64) -> f64 {
    match metric.unit() {
        "%" => 5.0,
        "tasks" => 0.5,
        _ => middle.abs() * 0.25,
    }
}

/// A number with three digits or so, and a prefix for large ones.
#[must_use]
pub fn figure(value: f64) -> String {
    let size = value.abs();
    match size {
        _ if size >= 1e9 => format!("{:.2} G", value / 1e9),
        _ if size >= 1e6 => format!("{:.2} M", value / 1e6),
        _ if size >= 1e4 => format!("{:.1} k", value / 1e3),
        _ if size >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        _ if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::metrics::Series;

    fn hosts(busy: &[&[f64]]) -> Figures {
        let series = |values: &[f64]| Series {
            times: (0..values.len()).map(|n| 100.0 + n as f64).collect(),
            values: values.to_vec(),
        };
        let named = busy.iter().enumerate();
        named.map(|(n, values)| (format!("h{n}"), BTreeMap::from([(Metric::CpuBusy, series(values))]))).collect()
    }

    #[test]
    fn a_saturated_resource_is_named_with_its_numbers_and_its_beginning() {
        let found = find(&hosts(&[&[10.0, 95.0, 99.0, 10.0], &[1.0, 1.0, 1.0, 1.0]]));
        assert_eq!(found.len(), 1, "{found:#?}");
        assert_eq!((found[0].level, found[0].from), (Level::Saturated, Some(101.0)));
        assert_eq!(found[0].hosts, ["h0"]);
        assert_eq!(found[0].detail, "CPU busy above 90 % in 50 % of the samples, at most 99 %");
    }

    #[test]
    fn a_host_that_differs_is_an_outlier_only_where_it_matters() {
        let found = find(&hosts(&[&[10.0], &[11.0], &[9.0], &[10.0], &[60.0]]));
        assert_eq!(found[0].hosts, ["h4"], "{found:#?}");
        assert_eq!(found[0].level, Level::Outlier);
        assert_eq!(find(&hosts(&[&[10.0], &[10.1], &[9.9], &[10.0], &[11.0]])), []);
        assert_eq!(find(&hosts(&[&[10.0], &[60.0], &[10.0]])), []);
    }
}

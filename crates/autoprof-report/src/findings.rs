//! What stands out in a run: rules with stated thresholds, and the numbers behind each.
use std::collections::BTreeMap;

use crate::{
    agreement::Disagreement,
    metrics::{self, Figures, HostFigures, Metric, described, median, robust_scores},
};

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
    /// Two profilers disagree: a figure is wrong, whatever it says.
    Disagreement,
    /// A resource was at its end.
    Saturated,
    /// A host behaves otherwise than the others.
    Outlier,
    /// Good to know.
    Note,
}

/// A figure above a threshold for a share of the window.
struct Rule {
    /// The figure; the first of these that a host has.
    figures: &'static [&'static str],
    above: f64,
    /// Share of the samples, 0 to 1, that must be above.
    share: f64,
    level: Level,
    title: &'static str,
}

const RULES: [Rule; 11] = [
    rule(&["cpu.busy"], 90.0, 0.1, Level::Saturated, "CPUs were saturated"),
    rule(&["cpu.run_queue"], 2.0, 0.1, Level::Saturated, "tasks queued for CPUs"),
    rule(&["cpu.steal"], 5.0, 0.1, Level::Note, "the hypervisor gave CPU time to others"),
    rule(&["disk.busy"], 90.0, 0.1, Level::Saturated, "a disk was saturated"),
    rule(&["cpu.iowait"], 20.0, 0.1, Level::Saturated, "CPUs waited for I/O"),
    rule(&["memory.utilization"], 90.0, 0.1, Level::Saturated, "memory was nearly used up"),
    rule(&["swap.pages", "swap.bytes"], 0.0, 0.02, Level::Saturated, "memory was swapped"),
    rule(&["pressure.io"], 20.0, 0.1, Level::Note, "tasks stalled on I/O"),
    rule(&["pressure.memory"], 10.0, 0.02, Level::Saturated, "tasks stalled on memory"),
    rule(&["net.trouble"], 0.0, 0.02, Level::Note, "packets were dropped or broken"),
    rule(&["tcp.retransmit_share"], 1.0, 0.05, Level::Note, "TCP segments were sent again"),
];

const fn rule(figures: &'static [&'static str], above: f64, share: f64, level: Level, title: &'static str) -> Rule {
    Rule { figures, above, share, level, title }
}

/// From how many robust standard deviations on a host is called an outlier.
const OUTLIER: f64 = 3.5;
/// Fewest hosts among which one can stand out.
const FLEET: usize = 4;

/// What stands out among the hosts, the gravest first.
#[must_use]
pub fn find(hosts: &Figures) -> Vec<Finding> {
    let mut findings = disagreements(hosts);
    findings.extend(RULES.iter().filter_map(|rule| saturated(rule, hosts)));
    findings.extend(metrics::all(hosts.values()).iter().flat_map(|metric| outliers(metric, hosts)));
    findings.sort_by_key(|finding| finding.level);
    findings
}

/// The hosts that broke a rule, in one finding.
fn saturated(rule: &Rule, hosts: &Figures) -> Option<Finding> {
    let mut broken: Vec<(&String, f64, f64, f64, Metric)> = Vec::new();
    for (name, host) in hosts {
        let mut choice = rule.figures.iter().filter_map(|name| Metric::known(name));
        let has = |metric: Metric| Some((host.figures.get(&metric)?, metric));
        let Some((figure, metric)) = choice.find_map(has) else { continue };
        let series = &figure.series;
        let known = series.known().count();
        let above = |value: &f64| *value > rule.above;
        let count = series.known().filter(above).count();
        #[expect(clippy::cast_precision_loss, reason = "numbers of samples")]
        let share = count as f64 / known.max(1) as f64;
        if count > 0 && share >= rule.share {
            let first = series.times.iter().zip(&series.values).find(|(_, value)| above(value)).map(|(time, _)| *time);
            broken.push((name, share, series.most().unwrap_or_default(), first.unwrap_or_default(), metric));
        }
    }
    broken.sort_by(|a, b| b.1.total_cmp(&a.1));
    let (name, share, most, _, Metric { title, unit, .. }) = broken.first()?;
    let detail = format!(
        "{title} above {} {unit} in {:.0} % of the samples{}, at most {} {unit}",
        rule.above,
        share * 100.0,
        if broken.len() > 1 { format!(" on {name}") } else { String::new() },
        figure(*most),
    );
    Some(Finding {
        level: rule.level,
        title: rule.title.to_owned(),
        detail,
        rule: format!("{title} > {} {unit} in at least {:.0} % of the samples", rule.above, rule.share * 100.0),
        from: broken.iter().map(|(_, _, _, first, _)| *first).reduce(f64::min),
        hosts: broken.into_iter().map(|(name, ..)| name.clone()).collect(),
    })
}

/// Two profilers and a quantity.
type Pair<'a> = (&'a [String; 2], &'a str);

/// What two profilers disagree on, a finding for each pair and quantity: on many hosts, or of many devices, the largest
/// difference stands for all.
fn disagreements(hosts: &Figures) -> Vec<Finding> {
    let mut found = BTreeMap::<Pair<'_>, Vec<(&String, &Disagreement)>>::new();
    for (name, host) in hosts {
        for disagreement in &host.disagreements {
            let pair = (&disagreement.profilers, disagreement.quantity.as_str());
            found.entry(pair).or_default().push((name, disagreement));
        }
    }
    let ratio = |d: &Disagreement| d.means[0].max(d.means[1]) / d.means[0].min(d.means[1]).max(f64::MIN_POSITIVE);
    let of = |((profilers, quantity), all): (Pair<'_>, Vec<(&String, &Disagreement)>)| {
        // That of the host as a whole says more than that of one of its CPUs.
        let worst = all
            .iter()
            .max_by(|(_, a), (_, b)| a.key.is_empty().cmp(&b.key.is_empty()).then(ratio(a).total_cmp(&ratio(b))));
        let (host, worst) = worst?;
        let [a, b] = worst.means.map(|mean| amount(mean, &worst.unit));
        let mut hosts: Vec<String> = all.iter().map(|(name, _)| (*name).clone()).collect();
        hosts.dedup();
        let others = match all.len() {
            1 => String::new(),
            n => format!("; in {} more cases, too", n - 1),
        };
        let on = if hosts.len() > 1 { format!(" on {host}") } else { String::new() };
        Some(Finding {
            level: Level::Disagreement,
            title: format!(
                "{} and {} disagree on {}: {a} against {b}",
                profilers[0],
                profilers[1],
                described(quantity, &worst.key)
            ),
            detail: format!(
                "means over the {:.0} s{on} that both cover differ by more than sampling explains{others}",
                worst.seconds
            ),
            rule: format!("{quantity} of two profilers differs by more than sampling and 10 % explain"),
            from: None,
            hosts,
        })
    };
    found.into_iter().filter_map(of).collect()
}

/// A number with its unit, as people write it: `1.45 GB/s`.
fn amount(value: f64, unit: &str) -> String {
    let number = figure(value);
    let (number, prefix) = number.split_once(' ').unwrap_or((&number, ""));
    match unit {
        "bytes/s" => format!("{number} {prefix}B/s"),
        "bytes" => format!("{number} {prefix}B"),
        "1/s" => format!("{number}{}{prefix}/s", if prefix.is_empty() { "" } else { " " }),
        _ => format!("{number} {prefix}{unit}"),
    }
}

/// The hosts whose mean is far from the others'.
fn outliers(metric: &Metric, hosts: &Figures) -> Vec<Finding> {
    let mean = |host: &HostFigures| host.figures.get(metric)?.series.mean();
    let means: Vec<(&String, f64)> = hosts.iter().filter_map(|(name, m)| Some((name, mean(m)?))).collect();
    if means.len() < FLEET {
        return Vec::new();
    }
    let values: Vec<f64> = means.iter().map(|(_, mean)| *mean).collect();
    let middle = median(&values).unwrap_or_default();
    let unit = &metric.unit;
    let scores = robust_scores(&values);
    let far = means.iter().zip(scores).filter(|((_, mean), score)| {
        // Among hosts that are nearly equal the least difference is many deviations: it must matter, too.
        score.abs() > OUTLIER && (mean - middle).abs() > least_that_matters(metric, middle)
    });
    far.map(|((name, mean), score)| Finding {
        level: Level::Outlier,
        hosts: vec![(*name).clone()],
        title: format!("{} is {} than on the other hosts", metric.title, if score > 0.0 { "higher" } else { "lower" }),
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

fn least_that_matters(metric: &Metric, middle: f64) -> f64 {
    match metric.unit.as_ref() {
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
    use super::*;
    use crate::metrics::{Figure, Series};

    fn hosts(busy: &[&[f64]]) -> Figures {
        let series = |values: &[f64]| Series {
            times: (0..values.len()).map(|n| 100.0 + n as f64).collect(),
            values: values.to_vec(),
        };
        let named = busy.iter().enumerate();
        let figure = |values: &[f64]| Figure { series: series(values), ..Figure::default() };
        let busy = |values: &[f64]| HostFigures {
            figures: BTreeMap::from([(Metric::known("cpu.busy").unwrap(), figure(values))]),
            ..HostFigures::default()
        };
        named.map(|(n, values)| (format!("h{n}"), busy(values))).collect()
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

    #[test]
    fn two_profilers_that_disagree_come_first_and_once() {
        let mut hosts = hosts(&[&[95.0, 95.0], &[1.0, 1.0]]);
        let of = |key: &str, a: f64| Disagreement {
            quantity: "disk.write_bytes".to_owned(),
            unit: "bytes/s".to_owned(),
            key: key.to_owned(),
            profilers: ["iostat".to_owned(), "proc".to_owned()],
            means: [a, 7.2e8],
            seconds: 27.6,
        };
        hosts.get_mut("h0").unwrap().disagreements = vec![of("vdb", 8.5e8), of("vda", 1.45e9)];
        let found = find(&hosts);
        assert_eq!(found.len(), 2, "{found:#?}");
        assert_eq!((found[0].level, found[0].hosts.as_slice()), (Level::Disagreement, ["h0".to_owned()].as_slice()));
        assert_eq!(found[0].title, "iostat and proc disagree on bytes written to vda: 1.45 GB/s against 720.00 MB/s");
        assert_eq!(
            found[0].detail,
            "means over the 28 s that both cover differ by more than sampling explains; in 1 more cases, too"
        );
    }

    #[test]
    fn numbers_have_their_units_as_people_write_them() {
        assert_eq!(amount(1.45e9, "bytes/s"), "1.45 GB/s");
        assert_eq!(amount(12.0, "%"), "12 %");
        assert_eq!((amount(52_300.0, "1/s"), amount(52.0, "1/s")), ("52.3 k/s".to_owned(), "52/s".to_owned()));
    }
}

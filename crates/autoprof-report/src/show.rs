//! A run in the terminal: the figures of every host with a small picture of each, and what stands out.
use std::collections::BTreeMap;

use autoprof_core::manifest::Manifest;
use camino::Utf8Path;
use comfy_table::{Cell, CellAlignment, Table, presets};
use serde_json::{Value, json};

use crate::{
    findings::{self, Finding, Level, figure},
    frame,
    metrics::{self, Figure, Figures, HostFigures, Metric, Series},
    reduce,
    summary::{Paint, join, summary},
};

/// Columns of a small picture.
const WIDTH: usize = 24;

/// Most hosts that are shown one by one; beyond it those that stand out.
const MOST_HOSTS: usize = 16;

/// Reads the figures of every host of a run.
#[must_use]
pub fn figures(run: &Utf8Path, manifest: &Manifest) -> Figures {
    let of = |name: &String, host| metrics::of_host(&frame::of_host(run, manifest, name).0, host);
    manifest.hosts.iter().map(|(name, host)| (name.clone(), of(name, host))).collect()
}

/// The run as text.
#[must_use]
pub fn text(manifest: &Manifest, figures: &Figures, paint: Paint) -> String {
    let findings = findings::find(figures);
    let mut out = summary(manifest, paint);
    let mut shown: Vec<&String> = figures.keys().collect();
    if shown.len() > MOST_HOSTS {
        let stands_out = |name: &&String| findings.iter().any(|finding| finding.hosts.contains(name));
        shown.retain(stands_out);
        shown.truncate(MOST_HOSTS);
        out.push_str(&format!("\n{} of {} hosts, those that stand out:\n", shown.len(), figures.len()));
    }
    for name in shown {
        let metrics = &figures[name].figures;
        if metrics.is_empty() {
            continue;
        }
        // Which profiler a figure comes from is worth a column where there was a choice.
        let has_choice = metrics.values().any(|figure| !figure.others.is_empty());
        let mut table = Table::new();
        table.load_style(presets::NOTHING).force_no_tty();
        table.set_header(["", "mean", "most", "", if has_choice { "from" } else { "" }]);
        for (metric, Figure { profiler, series, .. }) in metrics {
            let (Some(mean), Some(most)) = (series.mean(), series.most()) else { continue };
            if most == 0.0 {
                continue;
            }
            let title = match metric.unit.as_ref() {
                "" => metric.title.to_string(),
                unit => format!("{}, {unit}", metric.title),
            };
            table.add_row([
                Cell::new(title),
                Cell::new(figure(mean)),
                Cell::new(figure(most)),
                Cell::new(sparkline(series, metric.unit == "%")),
                Cell::new(if has_choice { profiler.as_str() } else { "" }),
            ]);
        }
        (1..=2).filter_map(|n| table.column_mut(n).map(|c| c.set_cell_alignment(CellAlignment::Right))).for_each(drop);
        out.push_str(&format!("\n{name}\n{table}\n"));
    }
    if !findings.is_empty() {
        out.push_str("\nFindings\n");
    }
    for Finding { level, hosts, title, detail, .. } in &findings {
        let sign = match level {
            Level::Disagreement => "?",
            Level::Saturated => "!",
            Level::Outlier => "~",
            Level::Note => "-",
        };
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        out.push_str(&format!("{sign} {}: {title}\n    {detail}\n", join(&hosts)));
    }
    out
}

/// The same for programs.
#[must_use]
pub fn json(manifest: &Manifest, figures: &Figures) -> Value {
    let of = |host: &HostFigures| -> Vec<Value> {
        let figure = |(metric, Figure { profiler, series, .. }): (&Metric, &Figure)| {
            json!({"figure": metric.title, "name": metric.name, "unit": metric.unit, "profiler": profiler,
                   "mean": series.mean(), "most": series.most(), "samples": series.known().count()})
        };
        host.figures.iter().map(figure).collect()
    };
    let by_host = |what: &dyn Fn(&HostFigures) -> Value| -> BTreeMap<&String, Value> {
        figures.iter().map(|(name, host)| (name, what(host))).collect()
    };
    json!({
        "id": manifest.id,
        "hosts": figures.iter().map(|(name, figures)| (name.clone(), of(figures))).collect::<BTreeMap<_, _>>(),
        "quantities": by_host(&|host| json!(host.readings)),
        "disagreements": by_host(&|host| json!(host.disagreements)),
        "findings": findings::find(figures),
        "manifest": manifest,
    })
}

/// A series as one line of blocks; of a percentage the full height is 100.
fn sparkline(series: &Series, percent: bool) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let (Some(first), Some(last)) = (series.times.first(), series.times.last()) else { return String::new() };
    let step = reduce::usual_step(&series.times);
    let begin = if step.is_finite() { first - step } else { first - 1.0 };
    let means = reduce::means(&series.times, &series.values, (begin, *last), WIDTH.min(series.times.len()));
    let most = if percent { 100.0 } else { series.most().unwrap_or_default() };
    let block = |value: f64| {
        if value.is_nan() {
            return ' ';
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the number of blocks")]
        let at = if most > 0.0 { (value / most * 7.0).round().clamp(0.0, 7.0) as usize } else { 0 };
        BLOCKS[at]
    };
    means.into_iter().map(block).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_picture_has_the_shape_of_its_series() {
        let series = Series { times: vec![1.0, 2.0, 3.0, 4.0], values: vec![0.0, 50.0, 100.0, f64::NAN] };
        assert_eq!(sparkline(&series, true), "▁▅█ ");
        assert_eq!(sparkline(&Series { times: vec![1.0], values: vec![3.0] }, false), "█");
    }
}

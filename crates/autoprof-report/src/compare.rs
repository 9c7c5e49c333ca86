//! Two runs, or two hosts of one, side by side: figures with a test of whether they differ, and a flame graph of what
//! grew and what shrank.
use std::{
    collections::BTreeSet,
    io::{self, Write as _},
};

use autoprof_core::{atomic_file::AtomicFile, manifest::Manifest};
use camino::{Utf8Path, Utf8PathBuf};
use comfy_table::{Cell, CellAlignment, Table, presets};
use inferno::differential;
use maud::{Markup, html};
use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::{
    findings::figure,
    flame,
    metrics::{self, Figure, Metric, Series},
    page::{ReportError, document},
    show,
};

/// How many means the samples of a host are made into for the test.
///
/// Samples of a second depend on those before; means of stretches of them much less (the method of batch means: Law,
/// "Simulation Modeling and Analysis", chapter 9).
const BATCHES: usize = 10;

/// From which probability on a difference is taken for chance.
pub const ALPHA: f64 = 0.01;

/// One side of a comparison.
#[derive(Debug)]
pub struct Side<'a> {
    /// The run's directory.
    pub run: &'a Utf8Path,
    /// Its manifest.
    pub manifest: &'a Manifest,
    /// One host of it; none: all.
    pub host: Option<&'a str>,
}

impl Side<'_> {
    /// What it is called.
    #[must_use]
    pub fn name(&self) -> String {
        self.host.map_or_else(|| self.manifest.id.clone(), |host| format!("{} {host}", self.manifest.id))
    }

    fn hosts(&self) -> impl Iterator<Item = &String> {
        self.manifest.hosts.keys().filter(|name| self.host.is_none_or(|host| host == *name))
    }
}

/// A figure on both sides.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// What it is.
    pub figure: String,
    /// Its unit.
    pub unit: String,
    /// The profilers that it comes from, on each side.
    pub from: [String; 2],
    /// Mean of the first side.
    pub a: f64,
    /// Mean of the second.
    pub b: f64,
    /// How much the second is above the first, in percent of it; none where that is zero.
    pub change_percent: Option<f64>,
    /// Probability of a difference at least as large if there were none; none: too few samples to say.
    pub p: Option<f64>,
    /// Whether that is too improbable for chance.
    pub significant: bool,
}

/// What differs between two sides.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// What the sides are called.
    pub sides: [String; 2],
    /// Every figure that both have.
    pub figures: Vec<Difference>,
    /// How the probabilities were found.
    pub test: String,
}

/// Compares every figure that both sides have.
#[must_use]
pub fn compare(a: &Side<'_>, b: &Side<'_>) -> Comparison {
    let figures = [a, b].map(|side| show::figures(side.run, side.manifest));
    let of = |side: usize, metric: &Metric| -> Vec<&Figure> {
        let wanted = [a, b][side].hosts().collect::<Vec<_>>();
        let hosts = figures[side].iter().filter(|(name, _)| wanted.contains(name));
        hosts.filter_map(|(_, host)| host.figures.get(metric)).collect()
    };
    let both = |metric: &Metric| difference(metric, &of(0, metric), &of(1, metric));
    let all = metrics::all(figures.iter().flat_map(|side| side.values()));
    let mut figures: Vec<Difference> = all.iter().filter_map(both).collect();
    holm(&mut figures);
    Comparison {
        sides: [a.name(), b.name()],
        figures,
        test: format!(
            "Welch's t-test over the means of {BATCHES} stretches of each host's samples, which takes up most of what \
             neighbouring samples have to do with each other; p below {ALPHA} after Holm's correction for the number \
             of figures is called a difference"
        ),
    }
}

fn difference(metric: &Metric, a: &[&Figure], b: &[&Figure]) -> Option<Difference> {
    let from = [a, b].map(|side| {
        let names: BTreeSet<&str> = side.iter().map(|figure| figure.profiler.as_str()).collect();
        names.into_iter().collect::<Vec<_>>().join(", ")
    });
    let [a, b] = [a, b].map(|side| side.iter().map(|figure| &figure.series).collect::<Vec<&Series>>());
    let mean = |all: &[&Series]| {
        let (sum, count) = all.iter().flat_map(|s| s.known()).fold((0.0, 0.0), |(s, n), v| (s + v, n + 1.0));
        (count > 0.0).then(|| sum / count)
    };
    let (a_mean, b_mean) = (mean(&a)?, mean(&b)?);
    if a_mean == 0.0 && b_mean == 0.0 {
        return None;
    }
    let p = welch(&batches(&a), &batches(&b));
    let change_percent = (a_mean != 0.0).then(|| 100.0 * (b_mean - a_mean) / a_mean.abs());
    Some(Difference {
        figure: metric.title.to_string(),
        unit: metric.unit.to_string(),
        from,
        a: a_mean,
        b: b_mean,
        change_percent,
        p,
        significant: false,
    })
}

fn batches(all: &[&Series]) -> Vec<f64> {
    let of = |series: &&Series| {
        let known: Vec<f64> = series.known().collect();
        let size = known.len().div_ceil(BATCHES).max(1);
        #[expect(clippy::cast_precision_loss, reason = "a number of samples")]
        let mean = |batch: &[f64]| batch.iter().sum::<f64>() / batch.len() as f64;
        known.chunks(size).map(mean).collect::<Vec<f64>>()
    };
    all.iter().flat_map(of).collect()
}

/// The probability of two means so far apart, or farther, if there were no difference; none: too few values.
fn welch(a: &[f64], b: &[f64]) -> Option<f64> {
    const FEWEST: usize = 4;
    if a.len() < FEWEST || b.len() < FEWEST {
        return None;
    }
    let moments = |values: &[f64]| {
        #[expect(clippy::cast_precision_loss, reason = "a number of values")]
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (count - 1.0);
        (mean, variance / count, count)
    };
    let ((a_mean, a_error, a_count), (b_mean, b_error, b_count)) = (moments(a), moments(b));
    let error = a_error + b_error;
    if error == 0.0 {
        #[expect(clippy::float_cmp, reason = "both sides are constant")]
        return Some(if a_mean == b_mean { 1.0 } else { 0.0 });
    }
    let t = (a_mean - b_mean) / error.sqrt();
    let freedom = error.powi(2) / (a_error.powi(2) / (a_count - 1.0) + b_error.powi(2) / (b_count - 1.0));
    let student = StudentsT::new(0.0, 1.0, freedom).ok()?;
    Some(2.0 * student.sf(t.abs()))
}

/// Says which differences are significant when so many were looked at: the smallest probability must be below α ÷ n,
/// the next below α ÷ (n − 1), and so on. Source: Holm, "A Simple Sequentially Rejective Multiple Test Procedure" (1979).
fn holm(figures: &mut [Difference]) {
    let mut order: Vec<(usize, f64)> = figures.iter().enumerate().filter_map(|(n, f)| Some((n, f.p?))).collect();
    order.sort_by(|a, b| a.1.total_cmp(&b.1));
    let count = order.len();
    for (rank, (at, p)) in order.into_iter().enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "a number of figures")]
        if p >= ALPHA / (count - rank) as f64 {
            return;
        }
        figures[at].significant = true;
    }
}

impl Comparison {
    /// The comparison as text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).force_no_tty();
        table.set_header(["", "A", "B", "B − A", "p", ""]);
        for row in &self.figures {
            let cells = cells(row);
            table.add_row(cells.map(Cell::new));
        }
        table.column_iter_mut().skip(1).take(4).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
        format!("A: {}\nB: {}\n\n{table}\n\n{}\n", self.sides[0], self.sides[1], self.test)
    }
}

fn cells(row: &Difference) -> [String; 6] {
    let change = match row.change_percent {
        Some(percent) => format!("{percent:+.1} %"),
        None => format!("+{}", figure(row.b)),
    };
    let p = match row.p {
        None => "?".to_owned(),
        Some(p) if p < 1e-4 => "< 0.0001".to_owned(),
        Some(p) => format!("{p:.4}"),
    };
    let verdict = match (row.p, row.significant) {
        (None, _) => "too few samples",
        (_, true) => "differs",
        (_, false) => "",
    };
    let source = match &row.from {
        [a, b] if a == b => String::new(),
        [a, b] => format!(" ({a} / {b})"),
    };
    [format!("{}, {}{source}", row.figure, row.unit), figure(row.a), figure(row.b), change, p, verdict.to_owned()]
}

/// Folded stacks with the samples of both sides, those of the first scaled to as many as the second has; none: not
/// both have stacks.
///
/// # Errors
/// When stacks cannot be read.
pub fn folded(a: &Side<'_>, b: &Side<'_>) -> io::Result<Option<Vec<String>>> {
    let of = |side: &Side<'_>| -> io::Result<String> {
        let files: Vec<Utf8PathBuf> =
            side.hosts().flat_map(|host| flame::files(side.run, side.manifest, host)).collect();
        Ok(flame::lines(&files, None)?.join("\n"))
    };
    let (before, after) = (of(a)?, of(b)?);
    if before.is_empty() || after.is_empty() {
        return Ok(None);
    }
    let options = differential::Options { normalize: true, strip_hex: true };
    let mut folded = Vec::new();
    differential::from_readers(options, before.as_bytes(), after.as_bytes(), &mut folded).map_err(io::Error::other)?;
    Ok(Some(String::from_utf8_lossy(&folded).lines().map(ToOwned::to_owned).collect()))
}

/// Writes the comparison as a page of its own.
///
/// # Errors
/// When stacks cannot be drawn or the file cannot be written.
pub fn write(path: &Utf8Path, comparison: &Comparison, stacks: Option<&[String]>) -> Result<(), ReportError> {
    let drawing = |source| ReportError::Draw { what: "the flame graph of what differs".to_owned(), source };
    let flame = match stacks {
        Some(lines) => flame::draw("What differs: red has grown, blue has shrunk", lines).map_err(drawing)?,
        None => None,
    };
    let page = page(comparison, flame.as_deref());
    let write = || -> io::Result<()> {
        let mut file = AtomicFile::create(path)?;
        file.write_all(page.into_string().as_bytes())?;
        file.finish()
    };
    write().map_err(|source| ReportError::Write { path: path.to_owned(), source })
}

fn page(comparison: &Comparison, flame: Option<&str>) -> Markup {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let [a, b] = &comparison.sides;
    // The flame graph is a document of its own within this one.
    let policy =
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; frame-src data:";
    document(
        &format!("{a} against {b}"),
        policy,
        &html! {
                header { h1 { (a) " against " (b) } }
                main {
                    section {
                        h2 { "Figures" }
                        div .scroll tabindex="0" role="region" aria-label="Figures of both sides" { table {
                            thead { tr { th scope="col" { "" } th .num scope="col" { "A: " (a) } th .num scope="col" { "B: " (b) }
                                th .num scope="col" { "B − A" } th .num scope="col" { "p" } th scope="col" { "" } } }
                            tbody { @for row in &comparison.figures {
                                @let [what, a, b, change, p, verdict] = cells(row);
                                tr { th scope="row" { (what) } td .num { (a) } td .num { (b) } td .num { (change) } td .num { (p) }
                                    td class=(if row.significant { "failed" } else { "soft" }) { (verdict) } }
                            } }
                        } }
                        p .soft .small { (comparison.test) "." }
                    }
                    @if let Some(flame) = flame {
                        section {
                            h2 { "Stacks" }
                            p .soft { "Widths are those of B; samples of A are scaled to as many as B has." }
                            iframe .flame title="Flame graph of what differs"
                                src=(format!("data:image/svg+xml;base64,{}", STANDARD.encode(flame))) {}
                        }
                    }
                }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(values: &[f64]) -> Figure {
        let series = Series { times: (0..values.len()).map(|n| n as f64).collect(), values: values.to_vec() };
        Figure { profiler: "proc".to_owned(), series, ..Figure::default() }
    }

    fn metric(name: &str) -> Metric {
        Metric::known(name).unwrap()
    }

    #[test]
    fn what_differs_is_told_from_chance() {
        let noise = |base: f64, n: usize| base + [0.3, -0.2, 0.1, -0.4, 0.2][n % 5];
        let of = |base: f64| series(&(0..40).map(|n| noise(base, n)).collect::<Vec<_>>());
        let (low, same, high) = (of(10.0), of(10.02), of(12.0));
        let mut found = vec![
            difference(&metric("cpu.busy"), &[&low], &[&same]).unwrap(),
            difference(&metric("cpu.run_queue"), &[&low], &[&high]).unwrap(),
        ];
        holm(&mut found);
        assert!(!found[0].significant && found[1].significant, "{found:#?}");
        assert!((found[1].change_percent.unwrap() - 20.0).abs() < 0.5);
        assert_eq!(difference(&metric("cpu.busy"), &[&series(&[1.0])], &[&high]).unwrap().p, None);
    }

    #[test]
    fn the_test_agrees_with_numerical_integration() {
        // By Simpson's rule over the density: t = -2.907405 on 27.931496 degrees of freedom.
        let a = [27.5, 21.0, 19.0, 23.6, 17.0, 17.9, 16.9, 20.1, 21.9, 22.6, 23.1, 19.6, 19.0, 21.7, 21.4];
        let b = [27.1, 22.0, 20.8, 23.4, 23.4, 23.5, 25.8, 22.0, 24.8, 20.2, 21.9, 22.1, 22.9, 30.5, 25.5];
        let p = welch(&a, &b).unwrap();
        assert!((p - 0.007_063_822_8).abs() < 1e-8, "{p}");
    }
}

//! Who is measured, and the turns they take.

use std::process::Command;
use std::time::Instant;

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Milliseconds,
    MebibytesPerSecond,
}

/// One number that a contender gives each time it runs.
#[derive(Debug, Clone)]
pub struct Measure {
    pub what: String,
    pub name: String,
    pub unit: Unit,
}

/// All values of one measure; none when the contender's program is not installed.
#[derive(Debug)]
pub struct Row {
    pub measure: Measure,
    pub samples: Option<Vec<f64>>,
}

/// A way to do a job.
pub struct Contender<'a> {
    /// The program that must be installed.
    program: &'static str,
    measures: Vec<Measure>,
    /// Gives a value for each measure.
    run: Box<dyn FnMut() -> Vec<f64> + 'a>,
}

impl Measure {
    pub fn new(what: impl Into<String>, name: impl Into<String>, unit: Unit) -> Self {
        Self { what: what.into(), name: name.into(), unit }
    }
}

impl<'a> Contender<'a> {
    pub fn new(program: &'static str, measures: Vec<Measure>, run: impl FnMut() -> Vec<f64> + 'a) -> Self {
        Self { program, measures, run: Box::new(run) }
    }

    /// One that gives one number.
    pub fn single(program: &'static str, measure: Measure, mut run: impl FnMut() -> f64 + 'a) -> Self {
        Self::new(program, vec![measure], move || vec![run()])
    }

    fn is_there(&self) -> bool {
        self.program == "autoprof" || lab::find_program(self.program).is_some()
    }
}

/// Lets the contenders run in turns, another one first each time; the first round warms caches and does not count.
pub fn take_turns(runs: u32, mut contenders: Vec<Contender<'_>>) -> Vec<Row> {
    let mut rows: Vec<Vec<Row>> = contenders
        .iter()
        .map(|contender| {
            let samples = contender.is_there().then(Vec::new);
            contender.measures.iter().map(|m| Row { measure: m.clone(), samples: samples.clone() }).collect()
        })
        .collect();
    let count = contenders.len();
    for round in 0..=runs {
        for turn in 0..count {
            let index = (round as usize + turn) % count;
            if !contenders[index].is_there() {
                continue;
            }
            let values = (contenders[index].run)();
            for (row, value) in rows[index].iter_mut().zip(values) {
                row.samples.iter_mut().filter(|_| round > 0).for_each(|samples| samples.push(value));
            }
        }
    }
    rows.into_iter().flatten().collect()
}

/// Runs a command to its end; gives the milliseconds that it took and what it printed.
///
/// Not by `lab::run`, which looks only every 20 ms whether a command has ended.
pub fn timed(command: &mut Command) -> (f64, String) {
    let shown = format!("{command:?}");
    command.env_remove("SSH_AUTH_SOCK").stdin(std::process::Stdio::null());
    let began = Instant::now();
    let done = command.output().unwrap_or_else(|error| panic!("cannot start {shown}: {error}"));
    let took = began.elapsed().as_secs_f64() * 1e3;
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{shown}: {}\n{said}", done.status);
    (took, String::from_utf8_lossy(&done.stdout).into_owned())
}

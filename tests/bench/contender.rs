//! Who is measured, and the turns they take.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// One line of the table: what is measured (with its unit), by whom, and the values; none when the contender's program
/// is not installed.
pub struct Row {
    pub what: String,
    pub name: &'static str,
    pub samples: Option<Vec<f64>>,
}

/// A way to do a job.
pub struct Contender<'a> {
    rows: Vec<Row>,
    /// Gives a value for each row.
    run: Box<dyn FnMut() -> Vec<f64> + 'a>,
}

impl<'a> Contender<'a> {
    /// autoprof, whose one run gives a value for each of several rows.
    pub fn autoprof(rows: &[(&str, &'static str)], run: impl FnMut() -> Vec<f64> + 'a) -> Self {
        let row = |&(what, name): &(&str, &'static str)| Row { what: what.to_owned(), name, samples: Some(Vec::new()) };
        Self { rows: rows.iter().map(row).collect(), run: Box::new(run) }
    }

    /// A peer: a program that may be absent.
    pub fn peer(program: &str, what: &str, name: &'static str, mut run: impl FnMut() -> f64 + 'a) -> Self {
        let samples = lab::find_program(program).map(|_| Vec::new());
        Self { rows: vec![Row { what: what.to_owned(), name, samples }], run: Box::new(move || vec![run()]) }
    }
}

/// Lets the contenders run in turns, another one first each time; the first round warms caches and does not count.
pub fn take_turns(runs: u32, mut contenders: Vec<Contender<'_>>) -> Vec<Row> {
    for round in 0..=runs {
        let first = round as usize % contenders.len();
        let (before, after) = contenders.split_at_mut(first);
        for contender in after.iter_mut().chain(before) {
            if contender.rows.iter().any(|row| row.samples.is_some()) {
                // What the one before left, here and on the hosts, goes away meanwhile.
                std::thread::sleep(Duration::from_millis(200));
                let values = (contender.run)();
                for (row, value) in contender.rows.iter_mut().zip(values).filter(|_| round > 0) {
                    row.samples.get_or_insert_default().push(value);
                }
            }
        }
    }
    contenders.into_iter().flat_map(|contender| contender.rows).collect()
}

/// Runs a command to its end; gives the milliseconds that it took and what it printed.
///
/// Not by `lab::run`, which looks only every 20 ms whether a command has ended.
pub fn timed(command: &mut Command) -> (f64, String) {
    command.env_remove("SSH_AUTH_SOCK").stdin(Stdio::null());
    let began = Instant::now();
    let done = command.output().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let took = began.elapsed().as_secs_f64() * 1e3;
    assert!(done.status.success(), "{command:?}: {}\n{}", done.status, String::from_utf8_lossy(&done.stderr));
    (took, String::from_utf8_lossy(&done.stdout).into_owned())
}

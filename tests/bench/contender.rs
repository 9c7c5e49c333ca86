//! Who is measured, and the turns they take.

use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use camino::Utf8PathBuf;

/// Another build of autoprof, which takes the same turns.
static OTHER: OnceLock<Utf8PathBuf> = OnceLock::new();
/// Whether it is its turn.
static IS_OTHER: AtomicBool = AtomicBool::new(false);

/// Has every measurement of autoprof made with another build as well: an installed tree.
pub fn compare_with(prefix: Utf8PathBuf) {
    OTHER.set(prefix).expect("there is one build to compare with");
}

/// The installed tree of autoprof whose turn it is.
pub fn prefix() -> Utf8PathBuf {
    let other = OTHER.get().filter(|_| IS_OTHER.load(Ordering::Relaxed));
    other.cloned().unwrap_or_else(|| lab::stage().to_owned())
}

/// The program whose turn it is, with nothing of this process's environment.
pub fn autoprof() -> Command {
    lab::autoprof_of(&prefix())
}

/// One line of the table: what is measured (with its unit), by whom, and the values; none when the contender's program
/// is not installed.
pub struct Row {
    pub what: String,
    pub name: String,
    pub samples: Option<Vec<f64>>,
}

/// A way to do a job.
pub struct Contender<'a> {
    rows: Vec<Row>,
    /// Gives a value for each row.
    run: Box<dyn FnMut() -> Vec<f64> + 'a>,
}

impl<'a> Contender<'a> {
    /// autoprof, whose one run gives a value for each of several rows; with another build to compare with, twice as many
    /// rows and two runs, each first in every other round.
    pub fn autoprof(rows: &[(&str, &str)], mut run: impl FnMut() -> Vec<f64> + 'a) -> Self {
        let row = |&(what, name): &(&str, &str), build: &str| Row {
            what: what.to_owned(),
            name: format!("{name}{build}"),
            samples: Some(Vec::new()),
        };
        let Some(_) = OTHER.get() else {
            return Self { rows: rows.iter().map(|own| row(own, "")).collect(), run: Box::new(run) };
        };
        let builds = ["", " — the other build"];
        let mut order = [false, true];
        let run = move || {
            let mut values = [Vec::new(), Vec::new()];
            for is_other in order {
                IS_OTHER.store(is_other, Ordering::Relaxed);
                values[usize::from(is_other)] = run();
            }
            IS_OTHER.store(false, Ordering::Relaxed);
            order.reverse();
            let [own, other] = values;
            own.into_iter().zip(other).flat_map(|(own, other)| [own, other]).collect()
        };
        let rows = rows.iter().flat_map(|own| builds.map(|build| row(own, build))).collect();
        Self { rows, run: Box::new(run) }
    }

    /// A peer: a program that may be absent.
    pub fn peer(program: &str, what: &str, name: &str, mut run: impl FnMut() -> f64 + 'a) -> Self {
        let samples = lab::find_program(program).map(|_| Vec::new());
        Self {
            rows: vec![Row { what: what.to_owned(), name: name.to_owned(), samples }],
            run: Box::new(move || vec![run()]),
        }
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

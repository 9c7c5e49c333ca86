//! Every profiler on userlands of other systems: `just distro-test [NAMES]`.
//!
//! Each host is a root file system made from the packages of a Debian release (or busybox alone), with its own SSH
//! server, shell, libc and tools. On each, `autoprof check` is asked about every profiler, then all of them run under a
//! known load: what check promises must have rows, what it refuses must be refused by the run for the same reason, and
//! profilers that measure the same quantity must agree.
//!
//! The kernel is this machine's on all hosts. The runs and the matrix are left below `target/distro/`.

mod agreement;
mod load;
mod profilers;
mod subjects;
mod table;
mod visit;

use std::collections::BTreeMap;
use std::fs;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode};
use std::time::Instant;

use camino::Utf8Path;
use clap::Parser;
use comfy_table::{Table, presets};

use profilers::ROUNDS;
use subjects::{SUBJECTS, Subject};
use visit::Outcome;

/// Run every profiler on the userlands of several systems
#[derive(Debug, Parser)]
struct Options {
    /// Hosts to test, all by default; `list` prints them
    host: Vec<String>,
}

fn main() -> ExitCode {
    let Options { host: wanted } = Options::parse();
    if wanted.iter().any(|name| name == "list") {
        SUBJECTS.iter().for_each(|subject| println!("{:<14} {}", subject.name, subject.about));
        return ExitCode::SUCCESS;
    }
    if let Some(unknown) = wanted.iter().find(|name| SUBJECTS.iter().all(|subject| subject.name != **name)) {
        eprintln!("distro-test: there is no host {unknown}; `just distro-test list` prints them");
        return ExitCode::from(2);
    }
    if !lab::Lab::namespaces_available() {
        eprintln!("distro-test: only root can make the hosts; run: sudo just distro-test");
        return ExitCode::FAILURE;
    }
    // A failed assertion is printed in full, without the place in the source.
    panic::set_hook(Box::new(|panic| eprintln!("{}", panic.payload_as_str().unwrap_or("panicked"))));

    let workspace = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the workspace");
    let directory = workspace.join("target/distro");
    let mut outcomes = Vec::new();
    for subject in SUBJECTS.iter().filter(|subject| wanted.is_empty() || wanted.iter().any(|w| w == subject.name)) {
        let began = Instant::now();
        let outcome = build(workspace, subject).and_then(|()| visit(&directory, subject));
        let outcome = outcome.unwrap_or_else(|problem| Outcome { problems: vec![problem], ..Outcome::default() });
        let word = if outcome.problems.is_empty() { "ok  " } else { "FAIL" };
        println!("{word}  {:<14} {:>4} s", subject.name, began.elapsed().as_secs());
        outcome.lines.iter().for_each(|line| println!("        {line}"));
        outcome.problems.iter().for_each(|problem| println!("  FAIL  {problem}"));
        outcomes.push((subject.name, outcome));
    }

    let matrix = matrix(&outcomes);
    println!("\n{matrix}");
    let file = directory.join("matrix.txt");
    fs::write(&file, format!("{matrix}\n")).unwrap_or_else(|error| panic!("cannot write {file}: {error}"));
    if outcomes.iter().all(|(_, outcome)| outcome.problems.is_empty()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Builds the root file system of a host, unless that was done before.
fn build(workspace: &Utf8Path, subject: &Subject) -> Result<(), String> {
    let script = workspace.join("scripts/distro-root.sh");
    match Command::new(script.as_std_path()).arg(subject.root).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("cannot build {}: {script}: {status}", subject.root)),
        Err(error) => Err(format!("cannot run {script}: {error}")),
    }
}

fn visit(directory: &Utf8Path, subject: &Subject) -> Result<Outcome, String> {
    catch_unwind(AssertUnwindSafe(|| visit::visit(directory, subject))).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panicked").to_owned()
    })
}

/// Profilers by hosts, with what became of them.
fn matrix(outcomes: &[(&str, Outcome)]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(std::iter::once("").chain(outcomes.iter().map(|(name, _)| *name)));
    for profiler in ROUNDS.iter().flat_map(|round| round.profilers) {
        let cell = |cells: &BTreeMap<&str, String>| cells.get(profiler.name).cloned().unwrap_or_else(|| "-".to_owned());
        let cells = outcomes.iter().map(|(_, outcome)| cell(&outcome.cells));
        table.add_row(std::iter::once(profiler.name.to_owned()).chain(cells));
    }
    let versions = outcomes.iter().flat_map(|(name, outcome)| {
        let tools: Vec<_> = outcome.tools.iter().map(|(tool, version)| format!("{tool}: {version}")).collect();
        (!tools.is_empty()).then(|| format!("{name}: {}", tools.join("; ")))
    });
    let legend =
        "ok N: state ok, N rows; refused: check and run refuse it for the same reason; late: refused at its start";
    format!("{table}\n\n{legend}\n\n{}", versions.collect::<Vec<_>>().join("\n"))
}

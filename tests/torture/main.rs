//! Runs with a fault at a random instant, again and again, each checked against what must hold whatever happens:
//! `just torture`.
//!
//! Seeded: the seed is printed, and with `--seed` the same faults come at the same instants. What the machine makes of
//! them differs from time to time, so a failure's run directory is kept and named.

mod fault;
mod invariants;
mod round;

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;

use crate::{fault::Random, round::Round};

/// Inject faults into runs, and check what comes of them
#[derive(Debug, Parser)]
struct Options {
    /// How many runs
    #[arg(long, default_value_t = 100)]
    runs: u32,
    /// For at most so many minutes
    #[arg(long, default_value_t = 60)]
    minutes: u64,
    /// The same faults at the same instants as with this seed before
    #[arg(long)]
    seed: Option<u64>,
    /// Only this fault
    #[arg(long)]
    fault: Option<String>,
}

/// No fault that is injected is away for more than three seconds, and no wait for it is longer than a connection takes to
/// be known as dead. What takes longer waits for something that never comes.
const NO_HANG: Duration = Duration::from_secs(60);

/// What came of the runs with one fault.
#[derive(Debug, Default)]
struct Tally {
    runs: u32,
    failed: u32,
    lines_lost: u64,
    lines_lost_to_wipes: u64,
    longest: Duration,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if lab::skip_unless(&["sshd", "vmstat"]) || lab::skip_unless_namespaces() {
        return ExitCode::SUCCESS;
    }
    let seed = options.seed.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        u64::from(now.subsec_nanos()) ^ now.as_secs() << 20
    });
    println!("torture: seed {seed}, at most {} runs in {} min", options.runs, options.minutes);
    let mut random = Random::new(seed);
    let begun = Instant::now();
    let mut tallies: BTreeMap<&'static str, Tally> = BTreeMap::new();
    for number in 1..=options.runs {
        if begun.elapsed() > Duration::from_secs(options.minutes * 60) {
            break;
        }
        let round = Round::draw(number, &mut random, options.fault.as_deref());
        let tally = tallies.entry(round.fault.name()).or_default();
        let round_began = Instant::now();
        match catch_unwind(AssertUnwindSafe(|| round.run())) {
            Ok(_) if round_began.elapsed() > NO_HANG => {
                tally.failed += 1;
                println!("{number:>4}  {round}  HANGS, seed {seed}: {:.1} s", round_began.elapsed().as_secs_f64());
            }
            Ok(loss) => {
                tally.lines_lost += loss.unexplained;
                tally.lines_lost_to_wipes += loss.explained;
                println!("{number:>4}  {round}  ok in {:.1} s; {loss}", round_began.elapsed().as_secs_f64());
            }
            Err(_) => {
                tally.failed += 1;
                println!("{number:>4}  {round}  FAILED, seed {seed}; kept in {}", round.directory());
            }
        }
        tally.runs += 1;
        tally.longest = tally.longest.max(round_began.elapsed());
    }
    report(&tallies)
}

/// The table of all faults, and the status for it.
fn report(tallies: &BTreeMap<&'static str, Tally>) -> ExitCode {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["fault", "runs", "failed", "lines lost unsaid", "lines lost and said", "longest, s"]);
    for (name, tally) in tallies {
        table.add_row([
            (*name).to_owned(),
            tally.runs.to_string(),
            tally.failed.to_string(),
            tally.lines_lost.to_string(),
            tally.lines_lost_to_wipes.to_string(),
            format!("{:.1}", tally.longest.as_secs_f64()),
        ]);
    }
    println!("{table}");
    let (runs, failed) = tallies.values().fold((0, 0), |(runs, failed), t| (runs + t.runs, failed + t.failed));
    println!("{} passed, {failed} failed", runs - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

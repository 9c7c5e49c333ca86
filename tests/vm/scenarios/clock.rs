//! Somebody sets the clock during a run.

use crate::machine::Machine;
use crate::run::Run;

use super::collect_for;

/// An hour ahead, then back: the time of the rows goes on evenly, and the manifest says what happened.
pub fn steps(machine: &mut Machine) -> String {
    let mut run = Run::start(machine, &["-p", "proc:1", "-p", "vmstat"], 0);
    run.wait_for_beginning("vmstat", 1);
    collect_for(8);
    for step in ["+1 hour", "-1 hour"] {
        machine.sh(&format!("date -s '{step}'"));
        collect_for(8);
    }
    let results = run.end();
    assert_eq!(results.finished.code(), 0, "a clock that is set costs no data: {}", results.finished);

    let mut figures = String::new();
    for (profiler, table) in [("proc", "cpu.csv"), ("vmstat", "vmstat.csv")] {
        let series = results.series(profiler, table).whole_intervals();
        let (shortest, longest) = (series.shortest_step(), series.longest_step());
        let rows = series.0.len();
        assert!(rows >= 20, "{profiler} has rows for the whole window, and not {rows}");
        // The processor is emulated on a machine with other work, so that a row may be late.
        assert!(shortest > 0.5 && longest < 2.0, "the steps of {profiler} are between {shortest} s and {longest} s");
        figures += &format!("{profiler} {rows} rows, {shortest:.2} to {longest:.2} s apart; ");
    }
    let noted = results.host()["clock_steps"].as_array().cloned().unwrap_or_default();
    let noted: Vec<_> = noted.iter().filter_map(|step| step["step_ns"].as_f64()).map(|ns| ns / 1e9).collect();
    assert!(
        matches!(*noted, [ahead, back] if (ahead - 3600.0).abs() < 1.0 && (back + 3600.0).abs() < 1.0),
        "an hour ahead and an hour back are noted, and not {noted:?} s"
    );
    let left = machine.leftovers();
    assert!(left.is_empty(), "something is left on the machine:\n{left}");
    format!("{figures}noted {:.3} and {:.3} s", noted[0], noted[1])
}

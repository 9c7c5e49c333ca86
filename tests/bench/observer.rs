//! What profiling takes from the test: a load that does nothing but switch between two processes, with and without it.

use std::process::Command;

use lab::Lab;

use crate::autoprof::Run;
use crate::contender::{Contender, Row, take_turns};

/// How often the two processes wake each other: some seconds.
const LOOPS: &str = "500000";
/// What is measured: none, presets, and each event of perf-stat.
const WHAT: [(&str, Option<&str>); 9] = [
    ("no profiler", None),
    ("preset light", Some("light")),
    ("preset default", Some("default")),
    ("preset default, and perf-stat with context-switches", Some("default+")),
    ("perf-stat: task-clock", Some("perf-stat:{events: [task-clock]}")),
    ("perf-stat: cpu-migrations", Some("perf-stat:{events: [cpu-migrations]}")),
    ("perf-stat: page-faults", Some("perf-stat:{events: [page-faults]}")),
    ("perf-stat: context-switches", Some("perf-stat:{events: [context-switches]}")),
    ("no profiler, once more", None),
];

/// Measures how many switches a second there are; none when perf is not there.
pub fn measure(lab: &Lab, runs: u32) -> Vec<Row> {
    let contender = |(name, profilers): &(&'static str, Option<&'static str>)| {
        let profilers = *profilers;
        Contender::peer("perf", "perf bench sched pipe, kilo-operations a second", name, move || one(lab, profilers))
    };
    take_turns(runs, WHAT.iter().map(contender).collect())
}

fn one(lab: &Lab, profilers: Option<&str>) -> f64 {
    let text = match profilers {
        None => {
            let done = Command::new("perf").args(["bench", "sched", "pipe", "-l", LOOPS]).output().expect("perf");
            String::from_utf8_lossy(&done.stdout).into_owned()
        }
        Some(profilers) => {
            let specs: &[&str] = match profilers {
                "default+" => &[
                    "-p",
                    "light",
                    "-p",
                    "vmstat",
                    "-p",
                    "mpstat",
                    "-p",
                    "iostat",
                    "-p",
                    "sar",
                    "-p",
                    "pidstat",
                    "-p",
                    "perf-stat:{events: [task-clock, context-switches, cpu-migrations, page-faults]}",
                ],
                other => &["-p", other],
            };
            let test = ["--", "perf", "bench", "sched", "pipe", "-l", LOOPS];
            let run = Run::go(lab, "h1", &[specs, &test].concat());
            std::fs::read_to_string(run.directory.join("workload/stdout")).expect("the output of the test")
        }
    };
    let per_second =
        text.lines().find_map(|line| line.trim().strip_suffix("ops/sec")?.trim().replace(',', "").parse::<f64>().ok());
    per_second.unwrap_or_else(|| panic!("no operations a second in {text}")) / 1e3
}

//! A machine of another architecture than this one: its own client, and counters of an emulated PMU.

use std::process::Command;
use std::time::Duration;

use lab::{Running, Signal};

use crate::machine::Machine;
use crate::run::{Results, Run};

use super::collect_for;

/// Longer than a check on an emulated processor takes.
const LONG: Duration = Duration::from_secs(300);

/// What the preset `default` has.
const DEFAULT: [&str; 7] = ["proc", "vmstat", "mpstat", "iostat", "sar", "pidstat", "perf-stat"];

/// The client for aarch64 is installed and everything of the default preset works; perf samples on cycles.
pub fn presets(machine: &mut Machine) -> String {
    assert_eq!(machine.sh("uname -m"), "aarch64");
    let check = lab::run(
        lab::autoprof().args(["check", "--ssh-config", machine.ssh_config().as_str(), "-w", "vm", "-p", "heavy"]),
        LONG,
    );
    assert!(check.status.success(), "check finds that everything works: {check}");

    let light = profile(machine, "light", &["-p", "light"], 6);
    assert_eq!(light.profiler("proc")["state"], "ok", "{}", light.finished);
    let results = profile(machine, "default", &["-p", "default", "-p", "perf"], 12);
    for profiler in DEFAULT.iter().chain(&["perf"]) {
        assert_eq!(results.profiler(profiler)["state"], "ok", "{profiler}: {}", results.state(profiler));
    }
    for (profiler, table) in [
        ("proc", "cpu.csv"),
        ("vmstat", "vmstat.csv"),
        ("mpstat", "mpstat.csv"),
        ("iostat", "iostat.csv"),
        ("sar", "sar-load.csv"),
        ("perf-stat", "perf-stat.csv"),
    ] {
        let rows = results.series(profiler, table).0.len();
        assert!(rows >= 6, "{profiler} has a row a second, and not {rows}");
    }
    let facts = &results.host()["facts"];
    assert_eq!(facts["arch"], "aarch64", "{facts}");
    assert_eq!(facts["hardware_counters"], true, "the emulated PMU is seen: {facts}");
    let argv = results.profiler("perf")["invocation"]["start"]["argv"].to_string();
    assert!(argv.contains("\"cycles\""), "perf samples on cycles: {argv}");
    let samples = results.perf_samples("");
    assert!(samples > 10, "perf has samples, and not {samples}");
    let cycles = results.mean("perf-stat", "perf-stat.csv", "cycles_per_s");
    assert!(cycles > 1e6, "a busy processor has cycles, and not {cycles}");
    let left = machine.leftovers();
    assert!(left.is_empty(), "something is left on the machine:\n{left}");
    format!("default ok; perf on cycles, {samples} samples; {:.0} million cycles/s", cycles / 1e6)
}

/// Cycles and instructions, as perf itself prints them and as autoprof's tables have them.
pub fn counters(machine: &mut Machine) -> String {
    let stat = machine
        .sh("perf stat -e cycles,instructions -x, -- sh -c 'i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done' 2>&1");
    let count = |event: &str| -> f64 {
        let line = stat.lines().find(|line| line.split(',').nth(2).is_some_and(|name| name.starts_with(event)));
        let first = line.and_then(|line| line.split(',').next()).and_then(|count| count.parse().ok());
        first.unwrap_or_else(|| panic!("perf stat counts {event}: {stat}"))
    };
    let (cycles, instructions) = (count("cycles"), count("instructions"));
    assert!(instructions > 1e6, "the loop has instructions, and not {instructions}");
    let recorded = machine.sh(
        "cd /root && perf record -q -e cycles -c 1000000 -o p.data -- sh -c 'i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done' \
         && perf script -i p.data -F event | sort | uniq -c; rm -f p.data",
    );
    assert!(recorded.contains("cycles"), "perf record has samples of cycles: {recorded}");

    let results = profile(machine, "counters", &["-p", "perf-stat:events=[cycles,instructions]"], 10);
    assert_eq!(results.profiler("perf-stat")["state"], "ok", "{}", results.state("perf-stat"));
    let per_s = |column| results.mean("perf-stat", "perf-stat.csv", column);
    let (cycles_per_s, instructions_per_s) = (per_s("cycles_per_s"), per_s("instructions_per_s"));
    assert!(cycles_per_s > 1e6 && instructions_per_s > 1e5, "{cycles_per_s} cycles, {instructions_per_s} instructions");
    format!(
        "perf stat: {cycles} cycles, {instructions} instructions; perf record: {}; table: {:.1} million cycles/s, \
         {:.1} million instructions/s",
        recorded.split_whitespace().collect::<Vec<_>>().join(" "),
        cycles_per_s / 1e6,
        instructions_per_s / 1e6
    )
}

/// Profiles the machine while a shell on it computes.
fn profile(machine: &Machine, name: &str, options: &[&str], seconds: u64) -> Results {
    let mut busy = Command::new("ssh");
    busy.args(["-F", machine.ssh_config().as_str(), "-o", "BatchMode=yes", "vm", "--"]);
    busy.arg("echo $$ >/run/busy; exec sh -c 'while [ -e /run/busy ]; do i=$((i + 1)); done'");
    let mut busy = Running::start(&mut busy);
    let mut run = Run::start_named(machine, name, options, 0);
    run.wait_for_beginning(if options.contains(&"default") || name == "light" { "proc" } else { "perf-stat" }, 1);
    collect_for(seconds);
    let results = run.end();
    machine.sh("rm -f /run/busy");
    busy.signal(Signal::TERM);
    assert!(results.finished.status.success(), "{}", results.finished);
    results
}

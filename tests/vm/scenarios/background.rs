//! A run that nobody watches while the machine reboots.

use std::time::Duration;

use crate::machine::Machine;
use crate::run::Results;

use super::collect_for;

const LONG: Duration = Duration::from_secs(300);

/// What was collected before the reboot comes back later, and the report says why there is no more.
pub fn reboot(machine: &mut Machine) -> String {
    let config = machine.ssh_config();
    let directory = machine.directory().join("run");
    let mut start = lab::autoprof();
    start.args(["start", "--ssh-config", config.as_str(), "-w", "vm", "-o", directory.as_str(), "-p", "proc:1"]);
    start.args(["-p", "perf", "--tmpdir", "/var/tmp/profilers"]);
    lab::run(&mut start, LONG).expect_success();
    collect_for(8);
    machine.ssh("reboot");
    let down = machine.wait_for_next_boot().as_secs_f64();
    let report = lab::run(lab::autoprof().args(["report", directory.as_str()]), LONG);
    let results = Results::read(report, directory);
    let left = machine.leftovers();
    assert!(left.is_empty(), "something is left on the machine:\n{left}");

    assert_eq!(results.finished.code(), 125, "a host that rebooted is not whole: {}", results.finished);
    let record = results.profiler("proc");
    assert_eq!(record["state"], "partial", "proc: {record}");
    // systemd ends the client first, so that is what is known for certain.
    let reason = record["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("reboot") || reason.contains("shuts down"), "proc: {record}");
    let rows = results.series("proc", "cpu.csv").0.len();
    assert!(rows >= 6, "what came before the reboot is there: {rows} rows");
    format!(
        "back after {down:.1} s; {rows} rows of proc; proc {}; perf {}",
        results.state("proc"),
        results.state("perf")
    )
}

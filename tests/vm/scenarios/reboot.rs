//! Clean reboots: tools get SIGTERM, file systems are unmounted.

use crate::machine::Machine;
use crate::run::{Results, Run};

use super::collect_for;

const PROFILERS: [&str; 6] = ["-p", "proc:1", "-p", "vmstat", "-p", "perf"];

/// The files outlive the reboot, so both segments of every profiler come back.
pub fn with_kept_files(machine: &mut Machine) -> String {
    let mut options = PROFILERS.to_vec();
    options.extend(["--tmpdir", "/var/tmp/profilers"]);
    let (results, down) = reboot_during(machine, &options, 7);

    assert_eq!(results.finished.code(), 7, "the test's own status is kept: {}", results.finished);
    for profiler in ["proc", "vmstat", "perf"] {
        let record = results.profiler(profiler);
        assert_eq!(record["segments"].as_array().map(Vec::len), Some(2), "{profiler} before and after: {record}");
    }
    let proc = results.series("proc", "cpu.csv");
    let vmstat = results.series("vmstat", "vmstat.csv");
    for (name, series) in [("proc", &proc), ("vmstat", &vmstat)] {
        assert!(series.longest_step() > 5.0, "{name} has rows on both sides of the gap");
        assert!(series.shortest_step() > 0.0, "the time of {name} goes on after the reboot");
    }
    // What systemd sends when it ends a session lets perf finish its file, so that nothing is lost before the reboot.
    let samples = ["", "segment-2/"].map(|segment| results.perf_samples(segment));
    assert!(samples.iter().all(|samples| *samples > 10), "perf has samples before and after, and not {samples:?}");
    format!(
        "back after {down:.1} s; gap in proc {:.1} s, vmstat {:.1} s; perf {} + {} samples",
        proc.longest_step(),
        vmstat.longest_step(),
        samples[0],
        samples[1],
    )
}

/// The files are gone with the reboot: the client is installed anew, and the run says what was lost.
pub fn with_lost_files(machine: &mut Machine) -> String {
    let (results, down) = reboot_during(machine, &PROFILERS, 0);

    assert_eq!(results.finished.code(), 125, "a host that lost data is not whole: {}", results.finished);
    let proc = results.series("proc", "cpu.csv");
    assert!(proc.0.len() >= 4, "what came after the reboot is there: {} rows", proc.0.len());
    for profiler in ["proc", "vmstat", "perf"] {
        let record = results.profiler(profiler);
        assert_eq!(record["state"], "partial", "{profiler}: {record}");
        assert!(record["reason"].as_str().is_some_and(|reason| reason.contains("reboot")), "{profiler}: {record}");
    }
    format!("back after {down:.1} s; {} rows of proc after it; proc {}", proc.0.len(), results.state("proc"))
}

/// Profiles, reboots when there is data, profiles on, and ends; the seconds until somebody could log in again.
fn reboot_during(machine: &mut Machine, options: &[&str], status: u8) -> (Results, f64) {
    let mut run = Run::start(machine, options, status);
    run.wait_for_beginning("proc", 1);
    collect_for(8);
    // The connection may be closed before the command's status is told.
    machine.ssh("reboot");
    let down = machine.wait_for_next_boot();
    run.wait_for_beginning("proc", 2);
    collect_for(8);
    let results = run.end();
    let left = machine.leftovers();
    assert!(left.is_empty(), "something is left on the machine:\n{left}");
    (results, down.as_secs_f64())
}

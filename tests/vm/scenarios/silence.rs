//! The kernel is gone from one moment to the next: what was not written to the disk is lost.

use std::fs;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::machine::Machine;
use crate::run::Run;

use super::collect_for;

/// What the client is told.
const CHECKPOINT: &str = "5s";
/// What a checkpoint every 5 s and a sample a second may lose, and as much again as an emulated processor may take to
/// make a checkpoint.
const MAY_BE_LOST: f64 = 5.0 + 1.0 + 1.0;

/// What the other scenarios stand on: cutting this machine's power does to files what cutting a real one's does.
pub fn premise(machine: &mut Machine) -> String {
    machine.sh("echo flushed >/root/flushed && sync && echo not >/root/not-flushed");
    machine.cut();
    let down = machine.power_on().as_secs_f64();
    let flushed = machine.sh("cat /root/flushed");
    assert_eq!(flushed, "flushed", "a file that was flushed survives");
    let other = machine.sh("cat /root/not-flushed 2>/dev/null || true");
    assert_eq!(other, "", "a file that was not flushed is lost");
    format!("back after {down:.1} s; 8 of 8 B flushed, 0 of 4 B not flushed")
}

/// The reset button: the machine is silent, then it boots.
pub fn reset(machine: &mut Machine) -> String {
    // Whoever asks for no whole host has a run that succeeds.
    lose(machine, &["--require", "0%"], 0, |machine| {
        machine.reset();
        machine.wait_for_next_boot()
    })
}

/// One reset after the other: each begins a segment of its own.
pub fn reset_twice(machine: &mut Machine) -> String {
    let mut run =
        Run::start(machine, &["-p", "proc:1", "--tmpdir", "/var/tmp/profilers", "--checkpoint", CHECKPOINT], 0);
    for boot in 1..=3 {
        run.wait_for_beginning("proc", boot);
        collect_for(8);
        if boot < 3 {
            machine.reset();
            machine.wait_for_next_boot();
        }
    }
    let results = run.end();
    let left = machine.leftovers();
    assert!(left.is_empty(), "something is left on the machine:\n{left}");

    assert_eq!(results.finished.code(), 125, "a host that lost data is not whole: {}", results.finished);
    let segments = &results.profiler("proc")["segments"];
    assert_eq!(segments.as_array().map(Vec::len), Some(3), "proc has three: {}", results.profiler("proc"));
    let proc = results.series("proc", "cpu.csv");
    let gaps: Vec<_> = proc.steps().filter(|step| *step > 5.0).map(|step| format!("{step:.1} s")).collect();
    assert_eq!(gaps.len(), 2, "there are two gaps in {:?}", proc.0);
    assert!(proc.shortest_step() > 0.0, "the time of proc goes on after the resets: {:?}", proc.0);
    format!("gaps in proc {}; {} rows", gaps.join(" and "), proc.0.len())
}

/// The power goes and comes back.
pub fn power_cut(machine: &mut Machine) -> String {
    lose(machine, &[], 7, |machine| {
        machine.cut();
        machine.power_on()
    })
}

/// The power goes and does not come back: the run ends in its time, with what the checkpoints brought.
pub fn never_back(machine: &mut Machine) -> String {
    let job = machine.directory().join("job.yaml");
    fs::write(&job, "timeouts: { reconnect: 20s }\n").unwrap_or_else(|error| panic!("cannot write {job}: {error}"));
    let mut run = Run::start(machine, &["-p", "proc:1", "--checkpoint", CHECKPOINT, job.as_str()], 0);
    run.wait_for_beginning("proc", 1);
    collect_for(13);
    let cut_at = now();
    machine.cut();
    collect_for(2);
    let ending = Instant::now();
    let results = run.end();
    let ending = ending.elapsed().as_secs_f64();

    assert_eq!(results.finished.code(), 125, "a host that is lost is not whole: {}", results.finished);
    assert_ne!(results.profiler("proc")["state"], "ok", "a host that is lost is not whole");
    let proc = results.series("proc", "cpu.csv");
    let last = proc.0.last().unwrap_or_else(|| panic!("no row of proc is here: {}", results.profiler("proc")));
    let lost = cut_at + results.ahead() - last;
    assert!(lost <= MAY_BE_LOST, "{lost:.1} s before the end are lost, with a checkpoint every {CHECKPOINT}");
    format!("given up after {ending:.1} s; {lost:.1} s lost before the end; proc {}", results.state("proc"))
}

fn lose(machine: &mut Machine, more: &[&str], status: u8, boot_again: fn(&mut Machine) -> Duration) -> String {
    let mut options = vec![
        "-p",
        "proc:1",
        "-p",
        "vmstat",
        "-p",
        "perf",
        "--tmpdir",
        "/var/tmp/profilers",
        "--checkpoint",
        CHECKPOINT,
    ];
    options.extend(more);
    let mut run = Run::start(machine, &options, status);
    run.wait_for_beginning("proc", 1);
    collect_for(13);
    let lost_at = now();
    let down = boot_again(machine).as_secs_f64();
    run.wait_for_beginning("proc", 2);
    collect_for(8);
    let results = run.end();
    let left = machine.leftovers();
    assert!(left.is_empty(), "something is left on the machine:\n{left}");
    assert_eq!(results.finished.code(), i32::from(status), "the test's own status is kept: {}", results.finished);

    let segments = &results.profiler("proc")["segments"];
    assert_eq!(segments.as_array().map(Vec::len), Some(2), "proc before and after: {}", results.profiler("proc"));
    let proc = results.series("proc", "cpu.csv");
    let (last, next) = proc.gap().unwrap_or_else(|| panic!("proc has no rows: {}", results.profiler("proc")));
    assert!(next - last > 5.0, "proc has rows on both sides of the gap, and not only {:?}", proc.0);
    let lost = lost_at + results.ahead() - last;
    assert!(lost <= MAY_BE_LOST, "{lost:.1} s before the end are lost, with a checkpoint every {CHECKPOINT}");
    let samples = ["", "segment-2/"].map(|segment| results.perf_samples(segment));
    assert!(samples.iter().all(|samples| *samples > 10), "perf has samples before and after, and not {samples:?}");
    format!(
        "back after {down:.1} s; gap in proc {:.1} s, of which {lost:.1} s before the end; perf {} + {} samples; vmstat {}",
        next - last,
        samples[0],
        samples[1],
        results.state("vmstat"),
    )
}

/// Seconds since 1970, by this machine's clock.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

//! More and more hosts from one controller: time, memory, open files and CPU time.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use lab::Lab;

use crate::autoprof::{Run, milliseconds};
use crate::contender::{Contender, Row, autoprof, take_turns};
use crate::machine;

/// How often the controller is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// Clock ticks a second of the times in `/proc/PID/stat`, which have been that on Linux for ever.
const TICKS: f64 = 100.0;

/// Measures one run of `proc` on all hosts of the lab.
pub fn measure(lab: &Lab, runs: u32) -> Vec<Row> {
    let count = lab.hosts().len();
    let own = [
        ("from launch to the last host ready", "ms"),
        ("the whole run", "ms"),
        ("CPU of the controller for a host, until the last is connected (others install by then)", "ms"),
        ("CPU of the controller for a host, whole run", "ms"),
        ("most memory of the controller", "MiB"),
        ("most open files of the controller", "files"),
    ]
    .map(|(what, unit)| format!("{count} hosts, {what}, {unit}"));
    let rows: Vec<_> = own.iter().map(|what| (&**what, "autoprof")).collect();
    take_turns(runs, vec![Contender::autoprof(&rows, || one(lab, count))])
}

#[expect(clippy::cast_precision_loss, reason = "numbers of hosts and files")]
fn one(lab: &Lab, count: usize) -> Vec<f64> {
    let directory = lab.directory().join("run");
    let mut command = autoprof();
    let hosts = format!("h[1-{count}]");
    command.args([
        "run",
        "-q",
        "--no-report",
        "--ssh-config",
        lab.ssh_config().as_str(),
        "-w",
        &hosts,
        "-o",
        directory.as_str(),
    ]);
    command.args(["-p", "proc", "-d", "0"]).stdin(Stdio::null()).stdout(Stdio::null());
    let launched = jiff::Timestamp::now();
    let began = Instant::now();
    let mut child = command.spawn().expect("autoprof can be started");
    let (mut cpu, mut memory, mut files) = (Vec::new(), 0.0, 0);
    let status = loop {
        let proc = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", child.id())).unwrap_or_default();
        if let Some(seen) = cpu_seconds(&proc("stat")) {
            cpu.push((jiff::Timestamp::now(), seen));
        }
        memory = machine::most_memory(child.id()).unwrap_or(memory);
        let open = fs::read_dir(format!("/proc/{}/fd", child.id())).map_or(0, Iterator::count);
        files = files.max(open);
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            break status;
        }
        std::thread::sleep(LOOK);
    };
    let whole = began.elapsed().as_secs_f64() * 1e3;
    assert!(status.success(), "the run on {count} hosts: {status}");
    let run = Run::of(launched, directory);
    let ready = milliseconds(launched, run.last("/event/event/event", "ready"));
    let connected = milliseconds(launched, run.last("/event/what", "installing"));
    let by_then = cpu.iter().take_while(|(at, _)| milliseconds(launched, *at) <= connected).last();
    let per_host = |seen: Option<&(jiff::Timestamp, f64)>| seen.map_or(0.0, |(_, cpu)| cpu * 1e3 / count as f64);
    vec![ready, whole, per_host(by_then), per_host(cpu.last()), memory, files as f64]
}

/// User and system time of a process.
fn cpu_seconds(stat: &str) -> Option<f64> {
    // What is before the last bracket is a name, in which anything may be.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |nth: usize| fields.get(nth)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS)
}

/// How the time grows with the number of hosts: the exponent of the power law through the medians.
pub fn exponent(points: &[(f64, f64)]) -> f64 {
    let logs: Vec<(f64, f64)> = points.iter().map(|(hosts, time)| (hosts.ln(), time.ln())).collect();
    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    let count = logs.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| logs.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|p| p.0), mean(|p| p.1));
    let with = logs.iter().map(|p| (p.0 - x) * (p.1 - y)).sum::<f64>();
    with / logs.iter().map(|p| (p.0 - x).powi(2)).sum::<f64>()
}

//! How far apart hosts begin and end what they were told to begin and end at one instant.

use std::time::Duration;

use camino::Utf8Path;
use lab::Lab;
use serde_json::Value;

use crate::autoprof::{Run, milliseconds};
use crate::contender::{Contender, Row, take_turns};

/// The profilers, one run for each: all of them at once would take the two cores of a machine from each other, which has
/// all the hosts on it. perf samples as seldom as it can, since each perf sees all hosts.
const PROFILERS: [(&str, &str, &str); 3] = [
    ("proc", "proc", "proc: the client's own sampling"),
    ("perf", "perf:frequency=1,call_graph=none", "perf: armed, its answer to `enable`"),
    ("vmstat", "vmstat", "vmstat: spawned, seen to wait"),
];

/// Measures the spread over all hosts of the lab, which have this machine's clock, and how long a start takes.
///
/// Of a hundred hosts the farthest one is left out (p99 − p0), as the goal is put.
pub fn measure(lab: &Lab, runs: u32) -> Vec<Row> {
    measure_by(&lab.ssh_config(), "", lab, runs)
}

/// The same where every host is a round trip away.
pub fn measure_far(lab: &Lab, round_trip: Duration, runs: u32) -> Vec<Row> {
    let (links, config) = lab.links();
    links.iter().for_each(|link| link.delay(round_trip / 2));
    measure_by(&config, &format!(", {} ms away", round_trip.as_millis()), lab, runs)
}

fn measure_by(config: &Utf8Path, how: &str, lab: &Lab, runs: u32) -> Vec<Row> {
    let count = lab.hosts().len();
    let groups = [
        format!("told an instant → begun, p99 − p0, {count} hosts{how}, ms"),
        format!("after the instant, median, {count} hosts{how}, ms"),
        format!("start → all collecting, clients armed, {count} hosts{how}, ms"),
    ];
    let contender = |&(profiler, spec, name): &(&'static str, &'static str, &'static str)| {
        let own: Vec<_> = groups.iter().map(|group| (&**group, name)).collect();
        Contender::autoprof(&own, move || autoprof(config, lab, profiler, spec))
    };
    let mut rows = take_turns(runs, PROFILERS.iter().map(contender).collect());
    rows.sort_by_key(|row| groups.iter().position(|group| *group == row.what));
    rows
}

fn autoprof(config: &Utf8Path, lab: &Lab, profiler: &str, spec: &str) -> Vec<f64> {
    let count = lab.hosts().len();
    let run = Run::go_by(config, lab, &format!("h[1-{count}]"), &["-p", spec, "-d", "1"]);
    let manifest = lab::manifest(&run.directory);
    let hosts = manifest["hosts"].as_object().expect("a manifest has hosts");
    let instant = |host: &Value, which: &str| {
        host["profilers"][profiler][which]["stamp"]["unix_ns"].as_i64().expect("an instant of each profiler")
    };
    let mut began: Vec<i64> = hosts.values().map(|host| instant(host, "began")).collect();
    let mut late: Vec<i64> = hosts.values().map(|host| instant(host, "began") - instant(host, "planned")).collect();
    began.sort_unstable();
    late.sort_unstable();
    let p99 = began[(count * 99).div_ceil(100) - 1];
    let started =
        milliseconds(run.last_before("/event/what", "clock", "started"), run.last("/event/event/event", "started"));
    #[expect(clippy::cast_precision_loss, reason = "differences of instants, far below 2^52 ns")]
    let milliseconds = |ns: i64| ns as f64 / 1e6;
    vec![milliseconds(p99 - began[0]), milliseconds(late[count / 2]), started]
}

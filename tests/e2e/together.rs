//! Hosts that begin and end at one instant, whatever their clocks say.
use serde_json::Value;

use crate::support::{LONG, Scratch, hosts, run_on};

/// Wall clocks that are wrong: by so many seconds, and by so many millionths more since boot.
const CLOCKS: [(i64, i64); 4] = [(0, 0), (3600, 0), (-3600, 100), (0, -100)];

fn seconds(value: &Value) -> f64 {
    value.as_f64().expect("a number of seconds")
}

/// An instant in the record of a host, by the controller's clock, and how far off that may be.
fn by_controller(host: &Value, instant: &Value) -> (f64, f64) {
    let clock = &host["clock"];
    let unix_ns = instant["stamp"]["unix_ns"].as_i64().unwrap_or_else(|| panic!("an instant: {instant}"));
    (unix_ns as f64 / 1e9 - seconds(&clock["ahead_s"]), seconds(&clock["error_s"]))
}

fn seconds_since_boot() -> f64 {
    let text = std::fs::read_to_string("/proc/uptime").unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn wrong_clocks_are_known_within_their_error_and_hosts_begin_and_end_at_one_instant() {
    if lab::skip_unless(&["sshd"]) {
        return;
    }
    let builder = CLOCKS.iter().enumerate().fold(hosts(CLOCKS.len()), |builder, (nth, (seconds, ppm))| {
        builder.host(nth + 1, |host| host.env("AUTOPROF_TEST_CLOCK", &format!("{seconds},{ppm}")))
    });
    let lab = builder.start();
    let scratch = Scratch::new();
    let out = scratch.path("run");
    let before = seconds_since_boot();
    // Longer than a comparison of clocks is good for.
    let done = run_on(&lab, "h[1-4]", &out, &["-p", "proc:0.2", "-d", "3"]).expect_success();
    let after = seconds_since_boot();
    let manifest = lab::manifest(&out);
    for (nth, (ahead, ppm)) in CLOCKS.iter().enumerate() {
        let host = &manifest["hosts"][format!("h{}", nth + 1)];
        // On a busy machine a host may hear of the instant after it, and says so: what is planned stands all the same.
        assert!(host["late_s"].is_null() || seconds(&host["late_s"]) > 0.0, "{done}");
        for clock in ["clock", "clock_at_stop"] {
            let (said, error) = (seconds(&host[clock]["ahead_s"]), seconds(&host[clock]["error_s"]));
            // Its clock runs on between the two that this test reads.
            let at = |since_boot: f64| *ahead as f64 + since_boot * *ppm as f64 / 1e6;
            let (low, high) = (at(before).min(at(after)), at(before).max(at(after)));
            let off = (low - said).max(said - high);
            assert!(off <= error + 1e-6, "h{}: {clock}: {said} ± {error}, in truth {low} to {high}", nth + 1);
        }
    }
    // One instant for all, in each host's own terms; what is between them is what their clocks are off.
    for (planned, done) in [("planned", "began"), ("planned_end", "ended")] {
        let hosts = manifest["hosts"].as_object().unwrap();
        let instants: Vec<_> = hosts.values().map(|h| by_controller(h, &h["profilers"]["proc"][planned])).collect();
        let (first, error) = instants[0];
        for (at, other) in &instants {
            // A clock that drifts by 100 ppm is off by 0.3 ms more after these 3 s.
            assert!((at - first).abs() <= error + other + 0.001, "{planned}: {instants:?}");
        }
        for host in hosts.values() {
            let record = &host["profilers"]["proc"];
            let early = by_controller(host, &record[planned]).0 - by_controller(host, &record[done]).0;
            assert!(early <= 1e-6, "{done} {early} s before it was to");
        }
    }
    assert!(seconds(&manifest["skew_s"]) < LONG.as_secs_f64(), "the clocks are taken into account");
    lab.assert_clean();
}

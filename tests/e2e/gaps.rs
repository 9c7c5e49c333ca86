//! Silent gaps: samplers and tools that stood still for a part of the window.
use std::time::Duration;

use lab::{Lab, Signal};

use crate::{
    faults::Gate,
    support::{self, LONG, Scratch, hosts, state},
};

/// How long everything stands still: the fault itself.
const STILL: Duration = Duration::from_secs(4);

/// Where the client is.
const TMPDIR: &str = "/tmp/gaps";

/// Profilers with a row each second, and a table of each.
const PROFILERS: [(&str, &str); 4] =
    [("proc", "cpu.csv"), ("vmstat", "vmstat.csv"), ("mpstat", "mpstat.csv"), ("iostat", "iostat.csv")];

/// Waits until vmstat, which writes each row as it comes, has printed so many lines.
fn wait_for_lines(lab: &Lab, lines: u32) {
    let file = format!("{TMPDIR}/*/results/default/profiler_test/profiling/vmstat/vmstat.txt");
    let script = format!("until [ \"$(cat {file} 2>/dev/null | wc -l)\" -ge {lines} ]; do sleep 0.05; done");
    lab.host(1).exec(&["sh", "-c", &script]).expect_success();
}

#[test]
fn a_client_and_tools_that_stood_still_are_partial() {
    if lab::skip_unless(&["sshd", "vmstat", "mpstat", "iostat"]) {
        return;
    }
    let scratch = Scratch::new();
    let (out, gate, lab) = (scratch.path("run"), Gate::new(&scratch), hosts(1).start());
    let script = gate.script(0);
    let profilers: Vec<&str> = PROFILERS.iter().flat_map(|(name, _)| ["-p", *name]).collect();
    let args = [profilers.as_slice(), &["--tmpdir", TMPDIR, "--", "sh", "-c", &script]].concat();
    let mut running = support::begin(&lab.ssh_config(), "h1", &out, &args);
    running.wait_for("the-test-began", LONG);
    wait_for_lines(&lab, 4);
    let processes = lab[1].processes();
    let ours = ["autoprof-client run", "vmstat ", "mpstat ", "iostat "];
    let ours: Vec<_> = processes.iter().filter(|p| ours.iter().any(|name| p.command.starts_with(name))).collect();
    assert!(ours.len() >= 4, "{processes:#?}");
    ours.iter().for_each(|process| process.signal(Signal::STOP));
    std::thread::sleep(STILL);
    ours.iter().for_each(|process| process.signal(Signal::CONT));
    wait_for_lines(&lab, 7);
    gate.open();
    let done = running.finish(LONG);
    assert_eq!(done.code(), 125, "{done}");
    let manifest = lab::manifest(&out);
    for (profiler, table) in PROFILERS {
        let record = &manifest["hosts"]["h1"]["profilers"][profiler];
        assert_eq!(state(&manifest, "h1", profiler), "partial", "{record:#}");
        let reason = record["reason"].as_str().unwrap();
        // `no samples for 4.6 s: expected 10 samples, got 7`
        let gap: f64 = reason.strip_prefix("no samples for ").unwrap().split(' ').next().unwrap().parse().unwrap();
        assert!((2.9..7.0).contains(&gap), "{profiler}: {reason}");
        let tables = record["tables"].as_array().unwrap();
        let samples = &tables.iter().find(|made| made["path"] == table).unwrap()["samples"];
        let (expected, got) = (samples["expected"].as_u64().unwrap(), samples["got"].as_u64().unwrap());
        assert!(got + 2 <= expected && reason.ends_with(&format!("got {got}")), "{profiler}: {reason}, {samples}");
    }
    lab.assert_clean();
}

/// The same tools without a fault have no gap, and say how many samples they have.
#[test]
fn a_window_without_a_gap_has_all_samples() {
    if lab::skip_unless(&["sshd", "vmstat", "mpstat", "iostat"]) {
        return;
    }
    let scratch = Scratch::new();
    let (out, lab) = (scratch.path("run"), hosts(1).start());
    let profilers: Vec<&str> = PROFILERS.iter().flat_map(|(name, _)| ["-p", *name]).collect();
    let done = support::run_on(&lab, "h1", &out, &[profilers.as_slice(), &["--", "sleep", "5"]].concat());
    let manifest = lab::manifest(&out);
    for (profiler, table) in PROFILERS {
        let record = &manifest["hosts"]["h1"]["profilers"][profiler];
        assert_eq!(state(&manifest, "h1", profiler), "ok", "{done}\n{record:#}");
        let tables = record["tables"].as_array().unwrap();
        let samples = &tables.iter().find(|made| made["path"] == table).unwrap()["samples"];
        assert_eq!(samples["expected"], samples["got"], "{profiler}: {samples}");
        assert!(samples["got"].as_u64().unwrap() >= 3, "{profiler}: {samples}");
    }
    lab.assert_clean();
}

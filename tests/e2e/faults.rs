//! Faults during a run, each the real thing: hosts that lose power, clients that are killed, networks that are cut.
use camino::{Utf8Path, Utf8PathBuf};
use lab::{Lab, Running, Signal};
use serde_json::Value;

use crate::support::{self, LONG, Scratch, event_numbers, hosts, run, state, times};

/// A test that goes on until a file is there: what happens in between decides how long that is.
pub struct Gate(Utf8PathBuf);

impl Gate {
    pub fn new(scratch: &Scratch) -> Self {
        Self(scratch.path("the-test-may-end"))
    }

    /// The test's script; it ends with this status.
    pub fn script(&self, status: u8) -> String {
        format!("echo the-test-began; while ! [ -e {} ]; do sleep 0.05; done; exit {status}", self.0)
    }

    pub fn open(&self) {
        std::fs::write(&self.0, "").unwrap();
    }
}

/// How many hosts a test takes.
#[derive(Clone, Copy)]
enum Hosts {
    Any(usize),
    /// They have to be machines that can be turned off, or that have a disk of their own.
    InNamespaces(usize),
}

/// Hosts, a directory of the test's own, the run's directory in it and the gate; none where they, or programs that the
/// test needs, cannot be had.
#[track_caller]
fn scene(programs: &[&str], wanted: Hosts) -> Option<(Lab, Scratch, Utf8PathBuf, Gate)> {
    let (count, skipped) = match wanted {
        Hosts::Any(count) => (count, lab::skip_unless(programs)),
        Hosts::InNamespaces(count) => (count, lab::skip_unless(programs) || lab::skip_unless_namespaces()),
    };
    if skipped {
        return None;
    }
    let scratch = Scratch::new();
    let (out, gate) = (scratch.path("run"), Gate::new(&scratch));
    Some((hosts(count).start(), scratch, out, gate))
}

/// Begins a run of proc and vmstat on hosts of a lab, around a test that waits for the gate and ends with status 3.
fn begin(config: &Utf8Path, hosts: &str, out: &Utf8Path, gate: &Gate, more: &[&str]) -> Running {
    let script = gate.script(3);
    let args = [&["-p", "proc:0.2", "-p", "vmstat"], more, &["--", "sh", "-c", &script]].concat();
    let mut running = support::begin(config, hosts, out, &args);
    running.wait_for("the-test-began", LONG);
    running
}

fn record<'a>(manifest: &'a Value, host: &str, profiler: &str) -> &'a Value {
    &manifest["hosts"][host]["profilers"][profiler]
}

fn reason(manifest: &Value, host: &str, profiler: &str) -> String {
    record(manifest, host, profiler)["reason"].as_str().unwrap_or_default().to_owned()
}

/// Waits until a profiler of a host has so many bytes of results in a file.
fn wait_for_bytes(lab: &Lab, host: usize, file: &str, bytes: u64) {
    let script = format!("while [ $(cat {file} 2>/dev/null | wc -c) -lt {bytes} ]; do sleep 0.05; done");
    lab.host(host).exec(&["sh", "-c", &script]).expect_success();
}

fn client_process(lab: &Lab, host: usize) -> lab::Process {
    let processes = lab.host(host).processes();
    processes.into_iter().find(|p| p.command.starts_with("autoprof-client run")).expect("a client")
}

#[test]
fn a_host_that_reboots_goes_on_in_a_second_segment_with_what_it_had_before() {
    let Some((lab, _scratch, out, gate)) = scene(&["sshd", "vmstat"], Hosts::InNamespaces(2)) else { return };
    let mut running = begin(&lab.ssh_config(), "h[1-2]", &out, &gate, &["--tmpdir", "/var/tmp/profilers"]);
    let samples = "/var/tmp/profilers/*/results/default/profiler_test/profiling/proc/samples.txt";
    wait_for_bytes(&lab, 1, samples, 50_000);
    lab[1].power_off();
    lab[1].power_on();
    running.wait_for("h1: found again", LONG);
    let second = samples.replace("proc/", "proc/segment-2/");
    wait_for_bytes(&lab, 1, &second, 50_000);
    gate.open();
    let done = running.finish(LONG);
    assert_eq!(done.code(), 3, "the test keeps its status: {done}");
    let manifest = lab::manifest(&out);
    for profiler in ["proc", "vmstat"] {
        assert_eq!(state(&manifest, "h1", profiler), "partial", "{done}");
        let reason = reason(&manifest, "h1", profiler);
        assert!(reason.contains("the host rebooted; segment 2 began after"), "{reason}");
        let segments = record(&manifest, "h1", profiler)["segments"].as_array().unwrap();
        assert_eq!(segments.len(), 2, "{segments:#?}");
        assert!(segments[0]["ended"].is_null() && segments[0]["until"]["utc"].is_string(), "{segments:#?}");
        assert!(
            segments[1]["gap_ns"].as_i64().unwrap() > 0 && segments[1]["ended"]["utc"].is_string(),
            "{segments:#?}"
        );
        assert_eq!(state(&manifest, "h2", profiler), "ok", "{done}");
    }
    let outage = &manifest["hosts"]["h1"]["outages"][0];
    assert_eq!(outage["cause"], "reboot", "{outage:#}");
    assert!(outage["back"].is_string(), "{outage:#}");
    // One table over both segments, with a row of empty cells where there is no data.
    let proc = out.join("hosts/h1/proc");
    let (own, second) = (proc.join("cpu.csv"), proc.join("segment-2/cpu.csv"));
    let text = std::fs::read_to_string(&own).unwrap();
    let gaps = text.lines().filter(|line| line.split(',').skip(1).all(str::is_empty)).count();
    assert_eq!(gaps, 1, "{text}");
    let (all, later) = (times(&own), times(&second));
    assert!(all.windows(2).all(|w| w[0] <= w[1]) && all.len() > later.len() + 1, "{all:?} {later:?}");
    lab.assert_clean();
}

#[test]
fn a_host_that_reboots_and_loses_its_files_loses_no_more_than_came_after_the_checkpoint() {
    let Some((lab, _scratch, out, gate)) = scene(&["sshd", "vmstat"], Hosts::InNamespaces(1)) else { return };
    let mut running = begin(&lab.ssh_config(), "h1", &out, &gate, &["--checkpoint", "0.5", "-v"]);
    running.wait_for("h1: checkpoint:", LONG);
    let kept = out.join("hosts/h1/proc/samples.txt").metadata().unwrap().len();
    assert!(kept > 0);
    lab[1].power_off();
    lab[1].power_on();
    running.wait_for("h1: found again", LONG);
    let samples = "/tmp/profilers/*/results/default/profiler_test/profiling/proc/segment-2/samples.txt";
    wait_for_bytes(&lab, 1, samples, 20_000);
    gate.open();
    let done = running.finish(LONG);
    assert_eq!(done.code(), 3, "{done}");
    let manifest = lab::manifest(&out);
    let reason = reason(&manifest, "h1", "proc");
    assert!(reason.contains("its files were gone: what was collected from "), "{reason}");
    assert!(reason.contains("by the last checkpoint"), "{reason}");
    assert_eq!(state(&manifest, "h1", "proc"), "partial");
    assert!(out.join("hosts/h1/proc/samples.txt").metadata().unwrap().len() >= kept);
    let files = record(&manifest, "h1", "proc")["files"].as_array().unwrap();
    let cut = |path: &str| files.iter().find(|f| f["path"] == path).unwrap()["cut"].as_bool().unwrap_or(false);
    assert!(cut("samples.txt") && !cut("segment-2/samples.txt"), "{files:#?}");
    assert!(
        times(&out.join("hosts/h1/proc/cpu.csv")).len() > times(&out.join("hosts/h1/proc/segment-2/cpu.csv")).len()
    );
    lab.assert_clean();
}

#[test]
fn a_host_that_reboots_and_loses_its_files_without_checkpoints_says_what_is_lost() {
    let Some((lab, _scratch, out, gate)) = scene(&["sshd", "vmstat"], Hosts::InNamespaces(1)) else { return };
    let mut running = begin(&lab.ssh_config(), "h1", &out, &gate, &[]);
    lab[1].power_off();
    lab[1].power_on();
    running.wait_for("h1: found again", LONG);
    gate.open();
    running.finish(LONG);
    let manifest = lab::manifest(&out);
    for profiler in ["proc", "vmstat"] {
        let reason = reason(&manifest, "h1", profiler);
        assert!(reason.contains("its files were gone: what was collected from "), "{reason}");
        assert_eq!(state(&manifest, "h1", profiler), "partial");
    }
    lab.assert_clean();
}

#[test]
fn a_client_that_is_killed_is_started_again_once_and_its_tools_do_not_outlive_it() {
    let Some((lab, _scratch, out, gate)) = scene(&["sshd", "vmstat"], Hosts::Any(1)) else { return };
    // It hears neither the end of its client nor SIGTERM.
    let deaf = "command:command='trap \"\" TERM INT HUP; while :; do sleep 0.1; done',grace=1";
    let mut running = begin(&lab.ssh_config(), "h1", &out, &gate, &["-p", deaf]);
    let tools = |lab: &Lab| -> Vec<lab::Process> {
        lab[1].processes().into_iter().filter(|p| p.command.contains("trap")).collect()
    };
    let before = tools(&lab);
    assert_eq!(before.len(), 1);
    client_process(&lab, 1).signal(Signal::KILL);
    running.wait_for("h1: the client is gone (killed)", LONG);
    running.wait_for("h1: found again", LONG);
    assert!(!before[0].is_alive(), "the tool outlived its client");
    client_process(&lab, 1).signal(Signal::KILL);
    // The second time what there is is finished, and nothing is started any more.
    let waited = std::time::Instant::now();
    while std::fs::read_to_string(out.join("events.jsonl")).unwrap().matches("\"what\":\"broken\"").count() < 2 {
        assert!(waited.elapsed() < LONG);
        std::thread::yield_now();
    }
    gate.open();
    let done = running.finish(LONG);
    assert_eq!(done.code(), 3, "{done}");
    let manifest = lab::manifest(&out);
    let record = record(&manifest, "h1", "proc");
    assert_eq!(record["segments"].as_array().unwrap().len(), 2, "{record:#}");
    assert_eq!(record["state"], "partial");
    assert!(out.join("hosts/h1/proc/samples.txt").metadata().unwrap().len() > 0);
    assert!(out.join("hosts/h1/proc/segment-2/samples.txt").metadata().unwrap().len() > 0);
    lab.assert_clean();
}

#[test]
fn a_network_that_is_gone_for_longer_than_connections_live_is_no_end() {
    if lab::skip_unless(&["sshd", "vmstat"]) {
        return;
    }
    let lab = hosts(2).start();
    let (link, config) = lab.link(1);
    let scratch = Scratch::new();
    let (out, gate) = (scratch.path("run"), Gate::new(&scratch));
    let mut running = begin(&config, "h[1-2]", &out, &gate, &[]);
    link.cut();
    // Noticed by keepalives that get no answer, not by somebody's patience.
    running.wait_for("h1: lost", LONG);
    link.heal();
    running.wait_for("h1: found again", LONG);
    gate.open();
    let done = running.finish(LONG);
    assert_eq!(done.code(), 3, "{done}");
    let manifest = lab::manifest(&out);
    for host in ["h1", "h2"] {
        assert_eq!(state(&manifest, host, "proc"), "ok", "{done}");
        assert_eq!(state(&manifest, host, "vmstat"), "ok", "{done}");
    }
    assert!(manifest["hosts"]["h1"]["outages"][0]["cause"].is_null());
    let numbers = event_numbers(&out, "h1");
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "{done}");
    lab.assert_clean();
}

#[test]
fn a_network_that_is_gone_for_longer_than_the_lease_finds_a_client_that_ended_by_itself() {
    if lab::skip_unless(&["sshd", "vmstat"]) {
        return;
    }
    let lab = hosts(1).start();
    let (link, config) = lab.link(1);
    let scratch = Scratch::new();
    let (out, gate) = (scratch.path("run"), Gate::new(&scratch));
    let mut running = begin(&config, "h1", &out, &gate, &["--lease", "2"]);
    link.cut();
    // The client is alone now, with a connection that looks alive: its lease has to end all the same.
    let events = "/tmp/profilers/*/events.jsonl";
    let events =
        if Lab::namespaces_available() { events.to_owned() } else { format!("{}/*/events.jsonl", lab[1].tmpdir()) };
    lab[1].exec(&["sh", "-c", &format!("while ! grep -q reported {events}; do sleep 0.05; done")]).expect_success();
    running.wait_for("h1: lost", LONG);
    link.heal();
    running.wait_for("h1: found again", LONG);
    gate.open();
    let done = running.finish(LONG);
    assert_eq!(done.code(), 3, "{done}");
    let manifest = lab::manifest(&out);
    let reason = reason(&manifest, "h1", "proc");
    assert!(reason.contains("the client's lease was reached"), "{reason}");
    assert_eq!(state(&manifest, "h1", "proc"), "partial");
    let numbers = event_numbers(&out, "h1");
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    lab.assert_clean();
}

#[test]
fn a_connection_that_breaks_while_results_come_back_costs_nothing_but_time() {
    if lab::skip_unless(&["sshd"]) {
        return;
    }
    let lab = hosts(1).start();
    let (link, config) = lab.link(1);
    for after in [0, 2_000, 300_000, 3_000_000, 7_900_000] {
        let scratch = Scratch::new();
        let out = scratch.path("run");
        // Two files: one that is big enough for every break, and one behind it.
        let big = "command:command='head -c 8000000 /dev/urandom > a.bin; echo end > b.txt; exec sleep 600'";
        let gate = Gate::new(&scratch);
        let script = gate.script(0);
        let mut running = support::begin(&config, "h1", &out, &["-p", big, "--", "sh", "-c", &script]);
        running.wait_for("the-test-began", LONG);
        lab[1].exec(&[
            "sh",
            "-c",
            &format!("while ! cat {}/*/results/*/*/*/command/b.txt 2>/dev/null; do sleep 0.05; done", lab[1].tmpdir()),
        ]);
        link.break_after(after + 4_000);
        gate.open();
        let done = running.finish(LONG);
        assert_eq!(done.code(), 0, "broken after {after}: {done}");
        let manifest = lab::manifest(&out);
        let files = record(&manifest, "h1", "command")["files"].as_array().unwrap();
        let file = files.iter().find(|f| f["path"] == "a.bin").unwrap();
        let content = std::fs::read(out.join("hosts/h1/command/a.bin")).unwrap();
        assert_eq!(content.len(), 8_000_000);
        assert_eq!(file["blake3"].as_str().unwrap(), blake3::hash(&content).to_hex().as_str());
        assert!(files.iter().all(|f| f.get("cut").is_none()), "{files:#?}");
        lab.assert_clean();
    }
}

#[test]
fn a_profiler_that_prints_without_end_is_stopped_at_its_quota_and_the_others_go_on() {
    let Some((lab, _scratch, out, gate)) = scene(&["sshd", "vmstat"], Hosts::Any(1)) else { return };
    let endless = ["-p", "command:command='exec yes'", "--profiler-quota", "20M", "--host-quota", "60M", "-v"];
    let mut running = begin(&lab.ssh_config(), "h1", &out, &gate, &endless);
    running.wait_for("h1: command ended", LONG);
    gate.open();
    let done = running.finish(LONG);
    assert_eq!(done.code(), 3, "{done}");
    let manifest = lab::manifest(&out);
    assert_eq!(state(&manifest, "h1", "command"), "partial");
    let reason = reason(&manifest, "h1", "command");
    assert!(reason.contains("stopped early: "), "{reason}");
    let size = out.join("hosts/h1/command/command.txt").metadata().unwrap().len();
    assert!(size <= (20 << 20) + (20 << 20) / 8 + (1 << 20), "{size} bytes");
    assert_eq!(state(&manifest, "h1", "proc"), "ok", "{done}");
    assert_eq!(state(&manifest, "h1", "vmstat"), "ok", "{done}");
    lab.assert_clean();
}

#[test]
fn a_host_whose_disk_is_small_has_its_largest_profiler_stopped() {
    if lab::skip_unless(&["sshd", "vmstat"]) || lab::skip_unless_namespaces() {
        return;
    }
    let lab = hosts(2).host(1, |h| h.tmp_options("size=12m")).start();
    let scratch = Scratch::new();
    let (out, gate) = (scratch.path("run"), Gate::new(&scratch));
    let filler = ["-p", "command:command='while :; do yes | head -c 20000; sleep 0.01; done'", "-v"];
    let mut running = begin(&lab.ssh_config(), "h[1-2]", &out, &gate, &filler);
    running.wait_for("h1: command ended", LONG);
    gate.open();
    let done = running.finish(LONG);
    assert_eq!(done.code(), 3, "{done}");
    let manifest = lab::manifest(&out);
    assert_eq!(state(&manifest, "h1", "command"), "partial", "{done}");
    assert_eq!(state(&manifest, "h1", "proc"), "ok", "{done}");
    assert_eq!(state(&manifest, "h2", "command"), "ok", "{done}");
    lab.assert_clean();
}

#[test]
fn a_disk_that_others_fill_during_the_window_keeps_nobody_from_being_stopped() {
    if lab::skip_unless(&["sshd", "vmstat"]) || lab::skip_unless_namespaces() {
        return;
    }
    let lab = hosts(1).host(1, |h| h.tmp_options("size=8m").ignoring("/tmp/others")).start();
    let scratch = Scratch::new();
    let (out, gate) = (scratch.path("run"), Gate::new(&scratch));
    let job = scratch.write("job.yaml", "timeouts: {stop: 5s, report: 5s, reconnect: 5s}\n");
    let running = begin(&lab.ssh_config(), "h1", &out, &gate, &[job.as_str()]);
    lab[1].exec(&["sh", "-c", "cat /dev/zero > /tmp/others"]);
    gate.open();
    let done = running.finish(LONG);
    assert_eq!(done.code(), 3, "{done}");
    let manifest = lab::manifest(&out);
    assert_eq!(manifest["phase"], "finished");
    for profiler in ["proc", "vmstat"] {
        assert!(["ok", "partial"].contains(&state(&manifest, "h1", profiler).as_str()), "{done}");
        assert!(!record(&manifest, "h1", profiler)["files"].as_array().unwrap().is_empty(), "{done}");
    }
    assert!(std::fs::read_to_string(out.join("events.jsonl")).unwrap().lines().count() < 200, "{done}");
    lab.assert_clean();
}

#[test]
fn a_host_whose_tmp_is_full_or_cannot_be_written_says_so_and_the_others_go_on() {
    if lab::skip_unless(&["sshd", "vmstat"]) || lab::skip_unless_namespaces() {
        return;
    }
    let lab = hosts(3).host(1, |h| h.tmp_options("size=1m")).host(2, |h| h.tmp_options("ro")).start();
    let scratch = Scratch::new();
    let (out, gate) = (scratch.path("run"), Gate::new(&scratch));
    let running = begin(&lab.ssh_config(), "h[1-3]", &out, &gate, &["--require", "any"]);
    gate.open();
    let done = running.finish(LONG);
    assert_eq!(done.code(), 3, "{done}");
    let manifest = lab::manifest(&out);
    let error = |host: &str| manifest["hosts"][host]["errors"][0]["message"].as_str().unwrap().to_owned();
    assert!(error("h1").contains("No space left"), "{}", error("h1"));
    assert!(error("h2").contains("Read-only"), "{}", error("h2"));
    assert_eq!(state(&manifest, "h3", "proc"), "ok");
    lab.assert_clean();
}

#[test]
fn one_host_that_goes_down_for_good_is_given_up_and_the_others_are_whole() {
    let Some((lab, scratch, out, gate)) = scene(&["sshd", "vmstat"], Hosts::InNamespaces(3)) else { return };
    let job = scratch.write("job.yaml", "timeouts: {reconnect: 2s}\n");
    let mut running = begin(
        &lab.ssh_config(),
        "h[1-3]",
        &out,
        &gate,
        &[job.as_str(), "--require", "any", "--checkpoint", "0.3", "-v"],
    );
    running.wait_for("h2: checkpoint:", LONG);
    lab[2].power_off();
    running.wait_for("h2: reconnect: it was lost and not found again within 2s", LONG);
    gate.open();
    let done = running.finish(LONG);
    assert_eq!(done.code(), 3, "{done}");
    let manifest = lab::manifest(&out);
    for host in ["h1", "h3"] {
        assert_eq!(state(&manifest, host, "proc"), "ok", "{done}");
    }
    let record = record(&manifest, "h2", "proc");
    assert_eq!(record["state"], "partial", "what the checkpoint brought is here: {record:#}");
    assert!(done.stderr.contains("h2"), "{done}");
    lab[2].power_on();
    let reported = run(&["report", out.as_str()]);
    assert_eq!(reported.code(), 0, "any host is enough: {reported}");
    assert_eq!(state(&lab::manifest(&out), "h2", "proc"), "partial", "{reported}");
    lab.assert_clean();
}

#[test]
fn files_that_a_power_cut_tore_are_repaired_to_their_last_whole_sample() {
    let Some((lab, _scratch, out, gate)) = scene(&["sshd", "perf", "mpstat", "iostat"], Hosts::InNamespaces(1)) else {
        return;
    };
    let profilers = ["--tmpdir", "/var/tmp/profilers", "-p", "perf:997", "-p", "mpstat", "-p", "iostat"];
    let mut running = begin(&lab.ssh_config(), "h1", &out, &gate, &profilers);
    let results = "/var/tmp/profilers/*/results/default/profiler_test/profiling";
    for file in ["perf/perf.data", "mpstat/mpstat.json", "iostat/iostat.json"] {
        wait_for_bytes(&lab, 1, &format!("{results}/{file}"), 2_500);
    }
    lab[1].power_off();
    lab[1].power_on();
    running.wait_for("h1: found again", LONG);
    gate.open();
    let done = running.finish(LONG);
    assert_eq!(done.code(), 3, "{done}");
    let manifest = lab::manifest(&out);
    for profiler in ["perf", "mpstat", "iostat"] {
        let reason = reason(&manifest, "h1", profiler);
        assert!(reason.contains("the host rebooted") && reason.contains("repaired, "), "{profiler}: {reason}");
        assert_eq!(state(&manifest, "h1", profiler), "partial");
    }
    let at = |file: &str| out.join("hosts/h1").join(file);
    for json in ["mpstat/mpstat.repaired.json", "iostat/iostat.repaired.json"] {
        let text = std::fs::read_to_string(at(json)).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{json}: {e}"));
        assert!(!value["sysstat"]["hosts"][0]["statistics"].as_array().unwrap().is_empty(), "{json}");
    }
    let data = at("perf/perf.repaired.data");
    let mut report = std::process::Command::new("perf");
    report.args(["report", "--stdio", "-i", data.as_str()]);
    let read = lab::run(&mut report, LONG);
    assert_eq!(read.code(), 0, "{read}");
    lab.assert_clean();
}

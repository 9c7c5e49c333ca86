//! Clocks that are set, lines that are dead or hardly alive, signals to the controller: each step has its limit.
use std::time::{Duration, Instant};

use lab::{Running, Signal};

use crate::{
    faults::Gate,
    support::{self, LONG, Scratch, autoprof, hosts, run, state},
};

/// How long a run may take beyond its test where a fault must not hold it; far less than an hour.
const SOON: Duration = Duration::from_secs(60);

/// The library that lets one program see another time.
fn faketime() -> String {
    let mut show = std::process::Command::new("faketime");
    let shown = lab::run(show.args(["-f", "+0", "sh", "-c", "printf %s \"$LD_PRELOAD\""]), LONG);
    shown.expect_success().stdout
}

#[test]
fn setting_the_controllers_clock_ahead_does_not_delay_the_stop() {
    if lab::skip_unless(&["sshd", "faketime"]) {
        return;
    }
    let lab = hosts(1).start();
    let scratch = Scratch::new();
    let (out, clock) = (scratch.path("run"), scratch.write("clock", "+0"));
    let config = lab.ssh_config();
    let set = format!("sleep 1; echo +1h > {clock}; sleep 1");
    let args = ["run", "--ssh-config", config.as_str(), "-w", "h1", "-o", out.as_str(), "-p", "proc", "--", "sh", "-c"];
    let mut command = autoprof(&[&args[..], &[&set]].concat());
    command
        .env("LD_PRELOAD", faketime())
        .env("FAKETIME_TIMESTAMP_FILE", &clock)
        .envs([("FAKETIME_NO_CACHE", "1"), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")]);
    let begun = Instant::now();
    let done = lab::run(&mut command, LONG);
    assert!(begun.elapsed() < SOON, "{:?}: {done}", begun.elapsed());
    assert_eq!(done.code(), 0, "{done}");
    assert_eq!(state(&lab::manifest(&out), "h1", "proc"), "ok", "{done}");
    lab.assert_clean();
}

#[test]
fn a_line_that_is_dead_while_its_connection_lives_is_replaced() {
    if lab::skip_unless(&["sshd"]) {
        return;
    }
    let lab = hosts(1).start();
    let scratch = Scratch::new();
    let (out, gate) = (scratch.path("run"), Gate::new(&scratch));
    let script = gate.script(0);
    let args = ["-p", "proc:0.2", "--lease", "20", "--", "sh", "-c", &script];
    let mut running = support::begin(&lab.ssh_config(), "h1", &out, &args);
    running.wait_for("the-test-began", LONG);
    let attached = || lab[1].processes().into_iter().find(|p| p.command.contains("/autoprof-client attach "));
    attached().expect("a line").signal(Signal::STOP);
    running.wait_for("h1: lost (no answer for ", LONG);
    running.wait_for("h1: found again", LONG);
    gate.open();
    let done = running.finish(LONG);
    assert_eq!(done.code(), 0, "{done}");
    let manifest = lab::manifest(&out);
    assert_eq!(state(&manifest, "h1", "proc"), "ok", "{done}");
    assert_eq!(manifest["hosts"]["h1"]["outages"].as_array().map(Vec::len), Some(1), "{done}");
    lab.assert_clean();
}

/// A run on a host behind a link that has so many random bytes to bring back.
fn with_data(link_config: &camino::Utf8Path, scratch: &Scratch, bytes: u32, job: &str) -> (Running, Gate) {
    let gate = Gate::new(scratch);
    let job = scratch.write("job.yaml", job);
    let script = gate.script(0);
    let data = format!("command:command='head -c {bytes} /dev/urandom > a.bin; exec sleep 600'");
    let args = [job.as_str(), "-p", &data, "-p", "proc", "--", "sh", "-c", &script];
    let mut running = support::begin(link_config, "h1", &scratch.path("run"), &args);
    running.wait_for("the-test-began", LONG);
    (running, gate)
}

#[test]
fn results_come_back_over_a_line_that_breaks_within_every_block() {
    if lab::skip_unless(&["sshd"]) {
        return;
    }
    let lab = hosts(1).start();
    let (link, config) = lab.link(1);
    let scratch = Scratch::new();
    let (running, gate) = with_data(&config, &scratch, 60_000, "{}\n");
    link.break_each_after(20_000);
    link.break_now();
    gate.open();
    let done = running.finish(LONG);
    assert_eq!(done.code(), 0, "{done}");
    assert_eq!(std::fs::metadata(scratch.path("run/hosts/h1/command/a.bin")).unwrap().len(), 60_000, "{done}");
    link.break_each_after(u64::MAX);
    lab.assert_clean();
}

#[test]
fn a_host_that_sends_a_byte_now_and_then_is_not_waited_for() {
    if lab::skip_unless(&["sshd"]) {
        return;
    }
    let lab = hosts(2).start();
    let (link, config) = lab.link(1);
    let scratch = Scratch::new();
    let job = "timeouts: {connect: 5s, stop: 10s, report: 10s, collect: 3s, transfer: 20s, clean: 5s, reconnect: 5s}\n";
    let (running, gate) = with_data(&config, &scratch, 4_000_000, job);
    link.slow_down(400);
    let begun = Instant::now();
    gate.open();
    let done = running.finish(LONG);
    assert!(begun.elapsed() < Duration::from_secs(120), "{:?}: {done}", begun.elapsed());
    assert_eq!(done.code(), 125, "{done}");
    assert_ne!(state(&lab::manifest(scratch.path("run")), "h1", "command"), "ok", "{done}");
    link.slow_down(u64::MAX);
    // What was left on the host is fetched and removed once the line is as it should be.
    let report = run(&["report", scratch.path("run").as_str()]);
    assert_eq!(report.code(), 0, "{report}");
    let manifest = lab::manifest(scratch.path("run"));
    let record = &manifest["hosts"]["h1"]["profilers"]["command"];
    assert_eq!((record["state"].as_str(), record["reason"].as_str()), (Some("ok"), None), "{report}");
    lab.assert_clean();
}

#[test]
fn results_that_a_live_run_fetches_are_not_cleaned_away() {
    if lab::skip_unless(&["sshd"]) {
        return;
    }
    let lab = hosts(1).start();
    let (link, config) = lab.link(1);
    let scratch = Scratch::new();
    let (running, gate) = with_data(&config, &scratch, 4_000_000, "{}\n");
    let before = link.passed();
    link.slow_down(400_000);
    gate.open();
    assert!(lab::wait_until(LONG, || link.passed() > before + 200_000), "nothing comes");
    let direct = lab.ssh_config();
    let tmpdir = lab[1].tmpdir().as_str();
    let clean = ["clean", "--with-results", "--ssh-config", direct.as_str(), "-w", "h1", "--tmpdir", tmpdir];
    let cleaned = run(&clean).expect_success();
    assert!(cleaned.stdout.contains("may come back for them"), "{cleaned}");
    link.slow_down(u64::MAX);
    let done = running.finish(LONG);
    assert_eq!(done.code(), 0, "{done}");
    lab.assert_clean();
}

#[test]
fn an_interrupt_does_not_wait_for_a_backlog_of_windows() {
    if lab::skip_unless(&["sshd"]) {
        return;
    }
    let lab = hosts(1).start();
    let scratch = Scratch::new();
    let out = scratch.path("run");
    let job = scratch.write("job.yaml", "windows: {start: BEGIN, stop: END}\n");
    let lines = "i=0; while [ $i -lt 500 ]; do echo BEGIN; echo END; i=$((i+1)); done; echo all-said; exec sleep 600";
    let args = [job.as_str(), "-p", "proc:0.2", "--", "sh", "-c", lines];
    let mut running = support::begin(&lab.ssh_config(), "h1", &out, &args);
    running.wait_for("window 1 closes", LONG);
    running.signal(Signal::INT);
    let begun = Instant::now();
    let done = running.finish(LONG);
    assert!(begun.elapsed() < SOON, "{:?}: {done}", begun.elapsed());
    assert_eq!(done.code(), 130, "{done}");
    let windows = lab::manifest(&out)["windows"].as_array().map_or(0, Vec::len);
    assert!((1..50).contains(&windows), "{windows} windows: {done}");
    lab.assert_clean();
}

#[test]
fn signals_that_mean_nothing_here_do_not_end_a_run() {
    if lab::skip_unless(&["sshd"]) {
        return;
    }
    let lab = hosts(1).start();
    let scratch = Scratch::new();
    let (out, gate) = (scratch.path("run"), Gate::new(&scratch));
    let script = gate.script(0);
    let mut running = support::begin(&lab.ssh_config(), "h1", &out, &["-p", "proc", "--", "sh", "-c", &script]);
    running.wait_for("the-test-began", LONG);
    for signal in [Signal::USR1, Signal::USR2, Signal::XFSZ] {
        running.signal(signal);
    }
    gate.open();
    let done = running.finish(LONG);
    assert_eq!(done.code(), 0, "{done}");
    lab.assert_clean();
}

#[test]
fn sigquit_ends_a_run_in_order() {
    if lab::skip_unless(&["sshd"]) {
        return;
    }
    let lab = hosts(1).start();
    let scratch = Scratch::new();
    let out = scratch.path("run");
    let mut running =
        support::begin(&lab.ssh_config(), "h1", &out, &["-p", "proc", "--", "sh", "-c", "echo up; exec sleep 600"]);
    running.wait_for("up", LONG);
    running.signal(Signal::QUIT);
    let done = running.finish(LONG);
    assert_eq!(done.code(), 131, "{done}");
    assert_eq!(state(&lab::manifest(&out), "h1", "proc"), "ok", "{done}");
    lab.assert_clean();
}

#[test]
fn a_file_size_limit_on_the_controller_costs_files_and_not_the_hosts() {
    if lab::skip_unless(&["sshd"]) {
        return;
    }
    let lab = hosts(1).start();
    let scratch = Scratch::new();
    let (out, config) = (scratch.path("run"), lab.ssh_config());
    let data = "command:command='head -c 3000000 /dev/urandom > a.bin; exec sleep 600'";
    let mut command = std::process::Command::new("sh");
    let program = autoprof(&[]).get_program().to_owned();
    // Blocks of 512 bytes: files of 1 MB at most.
    command.args(["-c", "ulimit -f 2000; exec \"$@\"", "sh"]).arg(program);
    command.args(["run", "--no-report", "--ssh-config", config.as_str(), "-w", "h1", "-o", out.as_str()]);
    command.args(["-p", data, "-p", "proc", "--", "sleep", "2"]);
    let done = lab::run(&mut command, LONG);
    assert_eq!(done.code(), 125, "{done}");
    let manifest = lab::manifest(&out);
    assert_ne!(state(&manifest, "h1", "command"), "ok", "{done}");
    let said = format!("{}{}", manifest["hosts"]["h1"]["profilers"]["command"]["reason"], done.stderr);
    assert!(said.contains("File too large"), "{said}");
    // What could not be brought here stays for a later try.
    run(&["report", "--no-report", out.as_str()]).expect_success();
    lab.assert_clean();
}

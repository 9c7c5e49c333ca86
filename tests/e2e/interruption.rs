//! Ctrl-C, once and twice, and other signals.
use crate::support::{LONG, Scratch, autoprof, hosts, run, state};

/// Begins a run on both hosts of a lab, with a profiler and vmstat, around a script.
fn begin(lab: &lab::Lab, out: &camino::Utf8Path, profiler: &str, script: &str) -> lab::Running {
    let config = lab.ssh_config();
    let args =
        ["run", "--ssh-config", config.as_str(), "-w", "h[1-2]", "-o", out.as_str(), "-p", profiler, "-p", "vmstat"];
    lab::Running::start(autoprof(&args).args(["--", "sh", "-c", script]))
}

#[test]
fn once_stops_collects_reports_and_exits_130() {
    if lab::skip_unless(&["sshd", "vmstat"]) {
        return;
    }
    let lab = hosts(2).start();
    let scratch = Scratch::new();
    let out = scratch.path("run");
    let mut running = begin(&lab, &out, "proc", "echo begun; sleep 600");
    running.wait_for("begun", LONG);
    running.signal(lab::Signal::INT);
    let done = running.finish(LONG);
    assert_eq!(done.code(), 130, "{done}");
    let manifest = lab::manifest(&out);
    assert_eq!(manifest["interrupted"], "SIGINT");
    assert_eq!(manifest["phase"], "finished");
    for host in ["h1", "h2"] {
        assert_eq!(state(&manifest, host, "proc"), "ok", "{done}");
        assert_eq!(state(&manifest, host, "vmstat"), "ok", "{done}");
    }
    lab.assert_clean();
}

#[test]
fn twice_gives_up_at_once_says_what_is_left_and_report_brings_it_back() {
    let scratch = Scratch::new();
    let out = scratch.path("run");
    // A tool that takes its time to end holds the stop until the second signal comes.
    let slow = "command:command='trap \"sleep 60\" INT; echo up; while :; do sleep 0.05; done',grace=50";
    let mut running = lab::Running::start(&mut autoprof(&["run", "-o", out.as_str(), "-p", slow, "-d", "600"]));
    running.wait_for("profiling 1 host", LONG);
    running.signal(lab::Signal::INT);
    running.wait_for("once more to give up", LONG);
    running.signal(lab::Signal::INT);
    let done = running.finish(LONG);
    assert_eq!(done.code(), 130, "{done}");
    assert!(done.stderr.contains("left on local: /tmp/profilers/autoprof-"), "{done}");
    assert!(done.stderr.contains("autoprof report"), "{done}");
    let manifest = lab::manifest(&out);
    let directory = manifest["hosts"]["local"]["client"]["directory"].as_str().unwrap().to_owned();
    assert!(std::path::Path::new(&directory).is_dir());
    let reported = run(&["report", out.as_str()]);
    assert_eq!(state(&lab::manifest(&out), "local", "command"), "ok", "{reported}");
    assert!(!std::path::Path::new(&directory).exists());
}

#[test]
fn sigterm_is_as_orderly_and_has_its_own_status() {
    let scratch = Scratch::new();
    let out = scratch.path("run");
    let mut running = lab::Running::start(&mut autoprof(&["run", "-o", out.as_str(), "-d", "600"]));
    running.wait_for("profiling 1 host", LONG);
    running.signal(lab::Signal::TERM);
    let done = running.finish(LONG);
    assert_eq!(done.code(), 143, "{done}");
    assert_eq!(state(&lab::manifest(&out), "local", "proc"), "ok");
}

#[test]
fn a_client_that_is_killed_is_noticed_and_what_it_had_written_comes_back() {
    if lab::skip_unless(&["sshd", "vmstat"]) {
        return;
    }
    let lab = hosts(2).start();
    let scratch = Scratch::new();
    let out = scratch.path("run");
    let mut running = begin(&lab, &out, "proc:0.1", "echo begun; sleep 1; echo more; sleep 2; exit 5");
    running.wait_for("more", LONG);
    let processes = lab[1].processes();
    let client = processes.iter().find(|p| p.command.starts_with("autoprof-client run")).expect("the client of h1");
    client.signal(lab::Signal::KILL);
    let done = running.finish(LONG);
    assert_eq!(done.code(), 5, "the test keeps its status: {done}");
    let manifest = lab::manifest(&out);
    let record = &manifest["hosts"]["h1"]["profilers"]["proc"];
    assert_eq!(record["state"], "partial", "{record:#}");
    assert!(record["reason"].as_str().unwrap().contains("the client is gone"), "{record:#}");
    assert!(out.join("hosts/h1/proc/samples.txt").metadata().unwrap().len() > 0);
    assert_eq!(state(&manifest, "h2", "proc"), "ok");
    assert_eq!(manifest["require_met"], false);
    lab.assert_clean();
}

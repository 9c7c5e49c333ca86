//! Hosts on which nothing can begin: the test must not run with nobody profiled.
use lab::{Finished, Lab, LabBuilder};

use crate::support::{Scratch, hosts, run, run_on};

/// What `run` on the hosts said, and whether the test ran.
fn outcome(lab: &Lab, names: &str, more: &[&str]) -> (Finished, bool, serde_json::Value) {
    let scratch = Scratch::new();
    let (out, witness) = (scratch.path("run"), scratch.path("the-test-ran"));
    let args = [more, &["--", "touch", witness.as_str()]].concat();
    let done = run_on(lab, names, &out, &args);
    (done, witness.exists(), lab::manifest(&out))
}

/// A host of a kind on which installing fails after its directory was made.
fn broken(options: &str) -> LabBuilder {
    hosts(2).host(1, |host| host.tmp_options(options))
}

#[test]
fn a_test_does_not_run_when_installing_fails_on_a_host_it_needs() {
    if lab::skip_unless(&["sshd"]) || lab::skip_unless_namespaces() {
        return;
    }
    for options in ["noexec", "size=1m", "nr_inodes=3"] {
        let lab = broken(options).start();
        let (done, ran, manifest) = outcome(&lab, "h[1-2]", &["-p", "proc"]);
        assert_eq!((done.code(), ran), (125, false), "{options}: {done}");
        assert_eq!(manifest["hosts"]["h1"]["readiness"], "failed", "{options}: {done}");
        assert!(done.stderr.contains("the test was not run"), "{options}: {done}");

        let (done, ran, _) = outcome(&lab, "h1", &["-p", "proc", "--require", "any"]);
        assert_eq!((done.code(), ran), (125, false), "{options}: {done}");
        let (done, ran, _) = outcome(&lab, "h[1-2]", &["-p", "proc", "--require", "any"]);
        assert_eq!((done.code(), ran), (0, true), "{options}: {done}");

        let config = lab.ssh_config();
        let check = run(&["check", "--ssh-config", config.as_str(), "-w", "h1", "-p", "proc"]);
        assert_eq!(check.code(), 1, "{options}: {check}");
        let start = run(&["start", "--ssh-config", config.as_str(), "-w", "h1", "-p", "proc"]);
        assert_eq!(start.code(), 125, "{options}: {start}");
        assert!(!start.stderr.contains("profiling 1 host"), "{options}: {start}");
        lab.assert_clean();
    }
}

#[test]
fn a_preset_goes_on_without_a_profiler_that_fails_at_the_start() {
    if lab::skip_unless(&["sshd", "vmstat", "mpstat"]) {
        return;
    }
    // A tool that says which version it is, and fails when it is to collect.
    let scratch = Scratch::new();
    let script = "#!/bin/sh\ncase $1 in -V) exec /usr/bin/iostat -V;; esac\necho broken >&2\nexit 3\n";
    scratch.program("iostat", script);
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", scratch.path(""));
    let lab = Lab::builder(1).host(1, |host| host.env("PATH", &path)).start();

    let (done, ran, manifest) = outcome(&lab, "h1", &["-p", "default"]);
    let profilers = &manifest["hosts"]["h1"]["profilers"];
    assert_eq!((done.code(), ran), (0, true), "{done}");
    assert_eq!(profilers["iostat"]["state"], "skipped", "{done}");
    let reason = profilers["iostat"]["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("exit status: 3") || reason.contains("exit status 3"), "{reason}");
    assert_ne!(profilers["proc"]["state"], "failed", "{done}");

    let (done, ran, manifest) = outcome(&lab, "h1", &["-p", "proc", "-p", "iostat"]);
    assert_eq!((done.code(), ran), (125, false), "{done}");
    let profilers = &manifest["hosts"]["h1"]["profilers"];
    assert_eq!(profilers["iostat"]["state"], "failed", "{done}");
    assert_eq!(profilers["proc"]["state"], "ok", "what began is ended in order: {done}");
    lab.assert_clean();
}

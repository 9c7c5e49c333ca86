//! Runs that outlive the process that began them.
use crate::support::{LONG, Scratch, autoprof, hosts, run, state, times};

#[test]
fn start_status_stop_and_report_are_four_processes() {
    if lab::skip_unless(&["sshd", "vmstat"]) {
        return;
    }
    let lab = hosts(2).start();
    let scratch = Scratch::new();
    let (results, config) = (scratch.path("runs"), lab.ssh_config());
    let job = scratch.write(
        "job.yaml",
        &format!("hosts: ['h[1-2]']\nprofilers: [proc, vmstat]\nresults: {results}\nssh: {{config: {config}}}\n"),
    );
    let started = run(&["start", job.as_str()]).expect_success();
    let id = started.stdout.trim().to_owned();
    assert_eq!(started.stdout.lines().count(), 1, "the id alone: {started}");

    let status = |what: &str| run(&["status", what, "--results", results.as_str()]).expect_success().stdout;
    let now = status(&id[..17]);
    assert!(now.contains("running") && now.contains("h1") && now.contains("h2"), "{now}");
    assert!(run(&["status", "--results", results.as_str()]).expect_success().stdout.contains(&id));
    assert_eq!(lab[1].processes().iter().filter(|p| p.command.starts_with("vmstat")).count(), 1);

    // The profilers go on: wait until they have written something rather than for some time.
    let out = results.join(&id);
    let mut follow = lab::Running::start(
        lab.ssh_command(
            "h1",
            "tail -n +1 -F /tmp/profilers/*/results/default/profiler_test/profiling/vmstat/vmstat.txt",
        )
        .stdin(std::process::Stdio::null()),
    );
    follow.wait_for("timestamp", LONG);
    follow.signal(lab::Signal::TERM);
    follow.finish(LONG);

    run(&["stop", &id, "--results", results.as_str()]).expect_success();
    assert!(status(&id).contains("stopped"), "{}", status(&id));
    assert!(lab[1].processes().iter().all(|p| !p.command.starts_with("vmstat")));

    let reported = run(&["report", out.as_str()]);
    assert_eq!(reported.code(), 0, "{reported}");
    let manifest = lab::manifest(&out);
    for host in ["h1", "h2"] {
        assert_eq!(state(&manifest, host, "vmstat"), "ok", "{reported}");
        assert!(!times(&out.join(format!("hosts/{host}/proc/cpu.csv"))).is_empty());
    }
    lab.assert_clean();
    let again = run(&["report", "--no-report", out.as_str()]);
    assert_eq!(again.code(), 2);
    assert!(again.stderr.contains("is over"), "{again}");
}

#[test]
fn a_run_that_is_conducted_is_not_disturbed_from_beside() {
    let scratch = Scratch::new();
    let out = scratch.path("run");
    let mut conductor = lab::Running::start(&mut autoprof(&["run", "-o", out.as_str(), "-d", "120"]));
    conductor.wait_for("profiling 1 host", LONG);
    let beside = run(&["stop", out.as_str()]);
    assert_eq!(beside.code(), 2, "{beside}");
    assert!(beside.stderr.contains("is being conducted") && beside.stderr.contains("kill -INT"), "{beside}");
    assert!(run(&["status", out.as_str()]).expect_success().stdout.contains("running"));
    conductor.signal(lab::Signal::INT);
    let done = conductor.finish(LONG);
    assert_eq!(done.code(), 130, "{done}");
    assert_eq!(state(&lab::manifest(&out), "local", "proc"), "ok");
}

//! Controllers that are killed, and other processes and machines that go on with their runs.
use camino::Utf8Path;
use lab::{Running, Signal};

use crate::{
    faults::Gate,
    support::{LONG, Scratch, autoprof, hosts, run, state, times},
};

/// Copies a run's directory, as somebody does who takes it to another machine.
fn copied(from: &Utf8Path, to: &Utf8Path) {
    lab::run(std::process::Command::new("cp").args(["-a", from.as_str(), to.as_str()]), LONG).expect_success();
}

#[test]
fn a_run_whose_controller_is_killed_is_attached_to_and_ends_with_its_test() {
    if lab::skip_unless(&["sshd", "vmstat"]) {
        return;
    }
    let lab = hosts(2).start();
    let scratch = Scratch::new();
    let (out, gate, config) = (scratch.path("run"), Gate::new(&scratch), lab.ssh_config());
    let script = gate.script(0);
    let args =
        ["run", "--ssh-config", config.as_str(), "-w", "h[1-2]", "-o", out.as_str(), "-p", "proc:0.2", "-p", "vmstat"];
    let mut first = Running::start(autoprof(&args).args(["--", "sh", "-c", &script]));
    first.wait_for("the-test-began", LONG);
    first.signal(Signal::KILL);
    let second = Running::start(&mut autoprof(&["attach", out.as_str(), "-v"]));
    gate.open();
    let done = second.finish(LONG);
    assert_eq!(done.code(), 125, "the test's status is not known: {done}");
    let manifest = lab::manifest(&out);
    assert_eq!(manifest["phase"], "finished");
    assert!(manifest["test"]["status"].as_str().unwrap().starts_with("unknown"), "{:#}", manifest["test"]);
    for host in ["h1", "h2"] {
        assert_eq!(state(&manifest, host, "proc"), "ok", "{done}");
        assert!(!times(&out.join(format!("hosts/{host}/proc/cpu.csv"))).is_empty());
    }
    lab.assert_clean();
}

#[test]
fn a_run_is_stopped_and_reported_from_another_machine_by_its_directory_alone() {
    if lab::skip_unless(&["sshd", "vmstat"]) {
        return;
    }
    let lab = hosts(2).start();
    let scratch = Scratch::new();
    let (out, gate) = (scratch.path("run"), Gate::new(&scratch));
    // The first machine's configuration is nowhere on the second.
    let first_config =
        scratch.write("config-of-the-first-machine", &std::fs::read_to_string(lab.ssh_config()).unwrap());
    let script = gate.script(0);
    let args = ["run", "--ssh-config", first_config.as_str(), "-w", "h[1-2]", "-o", out.as_str(), "-p", "proc:0.2"];
    let mut first = Running::start(autoprof(&args).args(["--", "sh", "-c", &script]));
    first.wait_for("the-test-began", LONG);
    first.signal(Signal::KILL);
    gate.open();
    let there = scratch.path("run-on-the-second-machine");
    copied(&out, &there);
    std::fs::remove_file(&first_config).unwrap();
    let config = lab.ssh_config();
    let stopped = run(&["stop", there.as_str(), "--ssh-config", config.as_str()]);
    assert_eq!(stopped.code(), 0, "{stopped}");
    assert_eq!(state(&lab::manifest(&there), "h1", "proc"), "ended", "{stopped}");
    let reported = run(&["report", there.as_str(), "--ssh-config", config.as_str()]);
    assert_eq!(reported.code(), 0, "{reported}");
    for host in ["h1", "h2"] {
        assert_eq!(state(&lab::manifest(&there), host, "proc"), "ok", "{reported}");
    }
    lab.assert_clean();
}

#[test]
fn a_controller_that_is_killed_at_any_instant_leaves_what_report_finishes() {
    if lab::skip_unless(&["sshd"]) {
        return;
    }
    let lab = hosts(1).start();
    let config = lab.ssh_config();
    // Events of the run at which it is killed: from the first connection to the last file.
    for event in [
        "connecting",
        "\"installing\"",
        "\"facts\"",
        "\"ready\"",
        "\"began\"",
        "test_began",
        "\"stopped\"",
        "\"collected\"",
    ] {
        let scratch = Scratch::new();
        let out = scratch.path("run");
        let args =
            ["run", "--ssh-config", config.as_str(), "-w", "h1", "-o", out.as_str(), "-p", "proc:0.1", "-d", "0.5"];
        let mut killed = Running::start(&mut autoprof(&args));
        let waited = std::time::Instant::now();
        let events = out.join("events.jsonl");
        while !std::fs::read_to_string(&events).is_ok_and(|text| text.contains(event)) {
            assert!(waited.elapsed() < LONG, "no {event}");
            if event == "test_began" && waited.elapsed().as_millis() > 400 {
                break;
            }
        }
        killed.signal(Signal::KILL);
        killed.finish(LONG);
        let before = std::fs::read(&events).unwrap();
        let reported = run(&["report", out.as_str()]);
        let after = std::fs::read(&events).unwrap();
        let whole = &before[..before.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1)];
        assert!(after.starts_with(whole), "killed at {event}: something that was recorded is gone");
        let manifest = lab::manifest(&out);
        assert_eq!(manifest["phase"], "finished", "killed at {event}: {reported}");
        // Killed before the client's directory was known, nobody knows it: that is for `clean`.
        let swept = run(&["clean", "--ssh-config", config.as_str(), "-w", "h1", "--tmpdir", lab[1].tmpdir().as_str()]);
        assert_eq!(swept.code(), 0, "{swept}");
        if event == "connecting" {
            // It is too young for `clean`, which cannot know that nobody is about to use it. What was just being done on
            // the host when the controller was killed comes to its end first.
            while !lab[1].processes().is_empty() {
                assert!(waited.elapsed() < LONG);
                std::thread::yield_now();
            }
            lab[1].exec(&["sh", "-c", &format!("rm -rf {}/autoprof-*", lab[1].tmpdir())]);
        }
        if matches!(event, "\"installing\"" | "\"facts\"" | "\"ready\"" | "\"began\"" | "\"stopped\"" | "\"collected\"")
        {
            lab.assert_clean();
        }
    }
}

#[test]
fn a_run_that_nobody_comes_back_to_ends_by_its_lease_and_can_still_be_fetched() {
    if lab::skip_unless(&["sshd", "vmstat"]) || lab::skip_unless_namespaces() {
        return;
    }
    let lab = hosts(1).start();
    let scratch = Scratch::new();
    let (out, config) = (scratch.path("run"), lab.ssh_config());
    let args =
        ["run", "--ssh-config", config.as_str(), "-w", "h1", "-o", out.as_str(), "-p", "proc:0.2", "-p", "vmstat"];
    let mut killed = Running::start(autoprof(&args).args(["--lease", "1", "-d", "600"]));
    killed.wait_for("profiling 1 host", LONG);
    killed.signal(Signal::KILL);
    killed.finish(LONG);
    let ended = "while ! tail -n 1 /tmp/profilers/*/events.jsonl | grep -q reported; do sleep 0.05; done";
    lab[1].exec(&["sh", "-c", ended]).expect_success();
    let processes = lab[1].processes();
    assert!(
        processes.iter().all(|p| !p.command.contains("vmstat") && !p.command.contains("client run")),
        "{processes:?}"
    );
    // Whoever cleans does not take the results away from whoever fetches them.
    let swept = run(&["clean", "--ssh-config", config.as_str(), "-w", "h1"]);
    assert!(swept.stdout.contains("kept") && swept.stdout.contains("nobody has fetched"), "{swept}");
    let reported = run(&["report", out.as_str()]);
    assert_eq!(reported.code(), 125, "{reported}");
    assert!(reported.stderr.contains("the client's lease was reached"), "{reported}");
    assert_eq!(state(&lab::manifest(&out), "h1", "vmstat"), "partial");
    lab.assert_clean();
}

#[test]
fn a_terminal_that_is_closed_is_an_orderly_end() {
    let scratch = Scratch::new();
    let out = scratch.path("run");
    // `script` gives it a terminal, and takes that away when it is killed.
    let program = lab::stage().join("bin/autoprof");
    let line = format!("{program} run -o {out} -p proc:0.2 -d 600");
    let mut terminal = Running::start(std::process::Command::new("script").args(["-qec", &line, "/dev/null"]));
    let waited = std::time::Instant::now();
    let began = || std::fs::read_to_string(out.join("events.jsonl")).is_ok_and(|t| t.contains("\"phase\":\"running\""));
    while !began() {
        let said = (terminal.stdout(), terminal.stderr());
        assert!(terminal.is_running() && waited.elapsed() < LONG, "it did not begin: {said:?}");
        std::thread::yield_now();
    }
    terminal.signal(Signal::KILL);
    let finished = || std::fs::read_to_string(out.join("manifest.json")).is_ok_and(|t| t.contains("\"finished\""));
    while !finished() {
        assert!(waited.elapsed() < LONG, "it did not come to its end");
        std::thread::yield_now();
    }
    let manifest = lab::manifest(&out);
    assert_eq!(manifest["interrupted"], "SIGHUP");
    assert_eq!(state(&manifest, "local", "proc"), "ok");
    assert_eq!(manifest["hosts"]["local"]["client"]["present"], false);
}

#[test]
fn a_controller_whose_disk_is_full_stops_keeps_a_whole_manifest_and_leaves_the_data_for_later() {
    if lab::skip_unless(&["sshd"]) || lab::skip_unless_namespaces() {
        return;
    }
    let lab = hosts(1).start();
    let scratch = Scratch::new();
    let small = scratch.path("small");
    std::fs::create_dir(&small).unwrap();
    let mount = |args: &[&str]| lab::run(std::process::Command::new("mount").args(args), LONG).expect_success();
    mount(&["-t", "tmpfs", "-o", "size=1m", "tmpfs", small.as_str()]);
    let (out, config) = (small.join("run"), lab.ssh_config());
    let big = "command:command='while :; do seq 1 5000; sleep 0.02; done'";
    let args = ["run", "--ssh-config", config.as_str(), "-w", "h1", "-o", out.as_str(), "-p", big, "-d", "600"];
    let mut running = Running::start(&mut autoprof(&args));
    running.wait_for("profiling 1 host", LONG);
    let results = "/tmp/profilers/*/results/*/*/*/command/command.txt";
    lab[1].exec(&["sh", "-c", &format!("while [ $(cat {results} | wc -c) -lt 2000000 ]; do sleep 0.05; done")]);
    running.signal(Signal::INT);
    let done = running.finish(LONG);
    assert_eq!(done.code(), 130, "{done}");
    assert!(done.stderr.contains("No space left") && done.stderr.contains("h1: collect"), "{done}");
    // Whole, as it was when there was room last.
    let manifest = lab::manifest(&out);
    assert!(manifest["hosts"]["h1"]["client"]["directory"].is_string());
    assert!(lab[1].processes().iter().all(|p| !p.command.contains("seq")), "the profiler was not stopped");
    mount(&["-o", "remount,size=64m", small.as_str()]);
    let reported = run(&["report", out.as_str()]);
    assert_eq!(state(&lab::manifest(&out), "h1", "command"), "ok", "{reported}");
    let unmounted = std::process::Command::new("umount").arg(small.as_str()).status().unwrap();
    assert!(unmounted.success());
    lab.assert_clean();
}

#[test]
fn a_short_torture_finds_nothing() {
    if lab::skip_unless(&["sshd", "vmstat"]) || lab::skip_unless_namespaces() {
        return;
    }
    // Another seed each time: `just torture` with the one that it prints shows what it found.
    let mut torture = std::process::Command::new(env!("CARGO_BIN_EXE_torture"));
    let done = lab::run(torture.args(["--runs", "8"]), 4 * LONG);
    assert_eq!(done.code(), 0, "{done}");
    assert!(done.stdout.contains("8 passed, 0 failed"), "{done}");
}

#[test]
fn two_users_at_once_on_one_machine_do_not_meet() {
    if lab::skip_unless(&["setpriv", "vmstat"]) || lab::skip_unless_namespaces() {
        return;
    }
    let scratch = Scratch::for_everyone();
    let (tmpdir, program) = (scratch.path("profilers"), scratch.path("stage/bin/autoprof"));
    let begin = |user: &str, out: &Utf8Path| {
        // It becomes the program, so that a signal reaches that.
        let mut command = std::process::Command::new("setpriv");
        command.args([
            "--reuid",
            user,
            "--regid",
            "nogroup",
            "--clear-groups",
            program.as_str(),
            "run",
            "-o",
            out.as_str(),
            "--tmpdir",
            tmpdir.as_str(),
        ]);
        command.args(["-p", "proc:0.2", "-p", "vmstat", "-d", "600"]).env("HOME", scratch.path("").as_str());
        let mut running = Running::start(&mut command);
        running.wait_for("profiling 1 host", LONG);
        running
    };
    // The first to come owns the parent directory; the second, who cannot trust it, has one of its own.
    let (a, b) = (scratch.path("a"), scratch.path("b"));
    let (mut first, mut second) = (begin("nobody", &a), begin("daemon", &b));
    let directory = |out: &Utf8Path| {
        let text = std::fs::read_to_string(out.join("events.jsonl")).unwrap();
        text.split("\"directory\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
    };
    assert_ne!(Utf8Path::new(&directory(&a)).parent(), Utf8Path::new(&directory(&b)).parent());
    first.signal(Signal::INT);
    let done = first.finish(LONG);
    assert_eq!(state(&lab::manifest(&a), "local", "vmstat"), "ok", "{done}");
    assert!(Utf8Path::new(&directory(&b)).is_dir(), "the end of one run took the other's directory");
    second.signal(Signal::INT);
    let done = second.finish(LONG);
    assert_eq!(state(&lab::manifest(&b), "local", "vmstat"), "ok", "{done}");
    let left: Vec<_> =
        ["profilers", "profilers-2", "profilers-1"].iter().map(|n| scratch.path(n)).filter(|p| p.exists()).collect();
    assert!(left.is_empty(), "{left:?}");
}

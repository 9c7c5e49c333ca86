//! Marks, windows, and what is kept and removed.
use lab::Running;

use crate::{
    faults::Gate,
    support::{LONG, Scratch, autoprof, hosts, run, run_on, state, times},
};

#[test]
fn marks_are_on_every_hosts_timeline_whoever_conducts_the_run() {
    if lab::skip_unless(&["sshd"]) {
        return;
    }
    let lab = hosts(2).start();
    let scratch = Scratch::new();
    let (out, gate, config) = (scratch.path("run"), Gate::new(&scratch), lab.ssh_config());
    let script = gate.script(0);
    let args = ["run", "--ssh-config", config.as_str(), "-w", "h[1-2]", "-o", out.as_str(), "-p", "proc:0.2"];
    let mut running = Running::start(autoprof(&args).args(["--", "sh", "-c", &script]));
    running.wait_for("the-test-began", LONG);
    run(&["mark", out.as_str(), "phase 2"]).expect_success();
    let events = || std::fs::read_to_string(out.join("events.jsonl")).unwrap();
    let waited = std::time::Instant::now();
    while events().matches("\"event\":\"marked\",\"name\":\"phase 2\"").count() < 2 {
        assert!(waited.elapsed() < LONG, "{}", events());
        std::thread::yield_now();
    }
    assert_eq!(run(&["mark", out.as_str(), "two\nlines"]).code(), 2);
    gate.open();
    running.finish(LONG).expect_success();
    let manifest = lab::manifest(&out);
    assert_eq!(manifest["marks"][0]["name"], "phase 2");
    let (mut order, text) = ([Vec::new(), Vec::new()], events());
    for event in text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()) {
        let names = order.iter_mut().zip(["h1", "h2"]).find(|(_, host)| event["host"] == *host);
        let said = &event["event"]["event"];
        if let (Some((names, _)), Some("marked")) = (names, said["event"].as_str()) {
            names.push(said["name"].as_str().unwrap().to_owned());
        }
    }
    for names in order {
        assert_eq!(names, ["test began", "phase 2", "test ended"], "{text}");
    }
    assert_eq!(run(&["mark", out.as_str(), "late"]).code(), 2);

    let out = scratch.path("started");
    run(&["start", "--ssh-config", config.as_str(), "-w", "h[1-2]", "-o", out.as_str(), "-p", "proc:0.2"])
        .expect_success();
    run(&["mark", out.as_str(), "nobody conducts it"]).expect_success();
    run(&["report", out.as_str()]).expect_success();
    let text = std::fs::read_to_string(out.join("events.jsonl")).unwrap();
    assert_eq!(text.matches("\"event\":\"marked\",\"name\":\"nobody conducts it\"").count(), 2, "{text}");
    lab.assert_clean();
}

#[test]
fn what_the_test_prints_opens_and_closes_windows() {
    if lab::skip_unless(&["sshd"]) {
        return;
    }
    let lab = hosts(1).start();
    let scratch = Scratch::new();
    let (out, config) = (scratch.path("run"), lab.ssh_config());
    let job =
        scratch.write("job.yaml", "windows: {start: 'phase begins', stop: 'phase ends'}\nprofilers: ['proc:0.1']\n");
    // Each phase lasts until its profilers are known to collect.
    let script = format!(
        "n=0; for p in 1 2; do n=$((n+1)); echo phase begins $p; \
         while [ $(grep -c '\"event\":\"started\"' {out}/events.jsonl) -lt $n ]; do sleep 0.05; done; sleep 0.5; \
         echo phase ends $p; while [ $(grep -c '\"what\":\"cleaned\"' {out}/events.jsonl) -lt $n ]; do sleep 0.05; done; \
         done; exit 4"
    );
    let args = ["run", job.as_str(), "--ssh-config", config.as_str(), "-w", "h1", "-o", out.as_str()];
    let done = lab::run(autoprof(&args).args(["--", "sh", "-c", &script]), LONG);
    assert_eq!(done.code(), 4, "{done}");
    let manifest = lab::manifest(&out);
    let windows = manifest["windows"].as_array().unwrap();
    assert_eq!(windows.len(), 2, "{windows:#?}");
    assert_eq!(windows[0]["opened_by"], "phase begins 1");
    assert_eq!(windows[1]["closed_by"], "phase ends 2");
    assert_eq!(windows[0]["hosts"]["h1"]["proc"]["state"], "ok", "{windows:#?}");
    assert_eq!(state(&manifest, "h1", "proc"), "ok", "{done}");
    let rows = |n: u32| times(&out.join(format!("hosts/h1/window-{n}/proc/cpu.csv")));
    assert!(rows(1).last().unwrap() < rows(2).first().unwrap());
    assert!(!out.join("hosts/h1/window-3").exists());
    lab.assert_clean();
}

#[test]
fn runs_are_listed_and_removed_but_not_while_they_have_something_on_hosts() {
    let scratch = Scratch::new();
    let results = scratch.path("runs");
    let id = |name: &str| {
        let args = ["start", "--results", results.as_str(), "--name", name, "-p", "proc:0.2"];
        run(&args).expect_success().stdout.trim().to_owned()
    };
    let (a, b) = (id("a"), id("b"));
    run(&["report", &a, "--results", results.as_str()]).expect_success();
    let listed = run(&["ls", "--results", results.as_str()]).expect_success().stdout;
    assert!(listed.contains(&a) && listed.contains(&b), "{listed}");
    let refused = run(&["rm", &b, "--results", results.as_str()]);
    assert_eq!(refused.code(), 2, "{refused}");
    assert!(refused.stderr.contains("is not over (running)"), "{refused}");
    for short in ["", &b[..12]] {
        assert_eq!(run(&["rm", short, "--results", results.as_str()]).code(), 2);
    }
    run(&["rm", &a, "--results", results.as_str()]).expect_success();
    assert!(!results.join(&a).exists() && results.join(&b).exists());
    run(&["report", "latest", "--results", results.as_str()]).expect_success();
    run(&["rm", "latest", "--results", results.as_str()]).expect_success();
    assert!(!results.join(&b).exists() && !results.join("latest").exists());
}

#[test]
fn clean_removes_what_is_dead_and_nothing_else() {
    if lab::skip_unless(&["sshd"]) || lab::skip_unless_namespaces() {
        return;
    }
    let lab = hosts(1).start();
    let scratch = Scratch::new();
    let config = lab.ssh_config();
    let living = scratch.path("living");
    run(&["start", "--ssh-config", config.as_str(), "-w", "h1", "-o", living.as_str(), "-p", "proc:0.2"])
        .expect_success();
    let make = "cd /tmp/profilers && mkdir -m 700 autoprof-dead autoprof-young autoprof-others others-work && \
                touch -d '2 hours ago' autoprof-dead && chown nobody autoprof-others && ln -s /etc autoprof-link";
    lab[1].exec(&["sh", "-c", make]).expect_success();
    let clean = |more: &[&str]| {
        let mut args = vec!["clean", "--ssh-config", config.as_str(), "-w", "h1"];
        args.extend(more);
        run(&args).expect_success().stdout
    };
    let dry = clean(&["--dry-run"]);
    assert!(dry.contains("would remove /tmp/profilers/autoprof-dead"), "{dry}");
    assert!(dry.contains("kept /tmp/profilers/autoprof-young") && dry.contains("a client is at work in it"), "{dry}");
    assert!(!dry.contains("others") && !dry.contains("link"), "{dry}");
    let left = |lab: &lab::Lab| lab[1].exec(&["ls", "/tmp/profilers"]).stdout;
    assert!(left(&lab).contains("autoprof-dead"));
    assert!(clean(&[]).contains("removed /tmp/profilers/autoprof-dead"));
    for name in ["autoprof-young", "autoprof-others", "others-work", "autoprof-link"] {
        assert!(left(&lab).contains(name), "{name}: {}", left(&lab));
    }
    assert!(!left(&lab).contains("autoprof-dead"));
    run(&["report", living.as_str()]).expect_success();
    lab[1].exec(&["sh", "-c", "rm -rf /tmp/profilers"]).expect_success();
}

#[test]
fn of_the_tests_environment_only_what_the_job_names_is_recorded() {
    let scratch = Scratch::new();
    let out = scratch.path("run");
    let job = scratch.write(
        "job.yaml",
        "test: {command: 'true', env: {RATE: '500', TOKEN: hunter2-secret}, record_env: [RATE, ABSENT]}\n",
    );
    run(&["run", job.as_str(), "-o", out.as_str()]).expect_success();
    let manifest = lab::manifest(&out);
    assert_eq!(manifest["test"]["env"], serde_json::json!({ "RATE": "500" }));
    let found = lab::run(std::process::Command::new("grep").args(["-r", "hunter2", out.as_str()]), LONG);
    assert_eq!(found.code(), 1, "{found}");
}

#[test]
fn checkpoints_leave_the_end_as_it_is() {
    if lab::skip_unless(&["sshd"]) {
        return;
    }
    let lab = hosts(1).start();
    let scratch = Scratch::new();
    let out = scratch.path("run");
    run_on(&lab, "h1", &out, &["-p", "proc:0.05", "--checkpoint", "0.1", "-d", "1.5"]).expect_success();
    let manifest = lab::manifest(&out);
    assert_eq!(state(&manifest, "h1", "proc"), "ok", "checkpoints leave the end as it is");
    assert!(manifest["hosts"]["h1"]["checkpoint"]["bytes"].as_u64().unwrap() > 0);
    lab.assert_clean();
}

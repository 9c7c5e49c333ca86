//! What comes back: complete, within the window, readable, and nothing left behind.
use crate::{
    faults::Gate,
    support::{LONG, Scratch, begin, hosts, run, run_on, state, states, times, window},
};

#[test]
fn what_comes_over_a_slow_line_is_compressed_and_whole() {
    if lab::skip_unless(&["sshd"]) || lab::skip_unless_namespaces() {
        return;
    }
    const BYTES: u64 = 64 << 20;
    let lab = hosts(1).start();
    let (link, config) = lab.link(1);
    link.slow_down(12 << 20);
    let scratch = Scratch::new();
    let out = scratch.path("run");
    let command = format!("command:command='seq 100000000 | head -c {BYTES} > big; exec sleep 1000'");
    let gate = Gate::new(&scratch);
    let mut running = begin(&config, "h1", &out, &["-p", &command, "--", "sh", "-c", &gate.script(0)]);
    running.wait_for("the-test-began", LONG);
    let file = "/tmp/profilers/*/results/default/profiler_test/profiling/command/big";
    let whole = format!("until [ \"$(stat -c %s {file} 2>/dev/null)\" = {BYTES} ]; do sleep 0.05; done");
    lab[1].exec(&["sh", "-c", &whole]).expect_success();
    gate.open();
    running.finish(LONG).expect_success();
    let big = std::fs::File::open(out.join("hosts/h1/command/big")).unwrap();
    assert_eq!(big.metadata().unwrap().len(), BYTES);
    assert_eq!(state(&lab::manifest(&out), "h1", "command"), "ok");
    // What filled the room on the way before the line was known to be slow came as it is.
    assert!(link.passed() < BYTES / 2, "{} of {BYTES} bytes came over the line", link.passed());
    lab.assert_clean();
}

#[test]
fn this_machine_is_profiled_without_any_configuration() {
    let scratch = Scratch::new();
    let out = scratch.path("run");
    let done = run(&["run", "-o", out.as_str(), "--", "sh", "-c", "echo to-stdout; echo to-stderr >&2; sleep 2"]);
    assert_eq!(done.code(), 0, "{done}");
    assert_eq!(done.stdout, "to-stdout\n");
    assert!(done.stderr.contains("to-stderr\n"), "{done}");
    assert_eq!(std::fs::read_to_string(out.join("workload/stdout")).unwrap(), "to-stdout\n");
    assert_eq!(std::fs::read_to_string(out.join("workload/stderr")).unwrap(), "to-stderr\n");
    let manifest = lab::manifest(&out);
    assert_eq!(states(&manifest, "local"), [("proc".into(), "ok".into())]);
    for table in ["cpu", "memory", "disk", "net", "pressure", "load"] {
        assert!(times(&out.join(format!("hosts/local/proc/{table}.csv"))).len() >= 2, "{table}");
    }
}

#[test]
fn three_hosts_with_every_default_profiler_and_perf_give_everything_and_keep_nothing() {
    if lab::skip_unless(&["sshd", "vmstat", "mpstat", "iostat", "sar", "pidstat", "perf", "cc"]) {
        return;
    }
    // Not in namespaces: there perf has one number for all processes outside, and on a busy machine takes the code of
    // one for that of another.
    let lab = lab::Lab::builder(3).start();
    let scratch = Scratch::new();
    let out = scratch.path("run");
    let burner = lab::burner().as_str();
    let done = run_on(&lab, "h[1-3]", &out, &["-p", "default", "-p", "perf", "--", burner, "5"]);
    assert_eq!(done.code(), 0, "{done}");
    let manifest = lab::manifest(&out);
    let test = &manifest["test"];
    let instant =
        |v: &serde_json::Value| v.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_nanosecond() as f64 / 1e9;
    let (test_began, test_ended) = (instant(&test["began"]), instant(&test["ended"]));
    for host in ["h1", "h2", "h3"] {
        for (profiler, state) in states(&manifest, host) {
            assert_eq!(state, "ok", "{host} {profiler}: {:#}", manifest["hosts"][host]["profilers"][&profiler]);
            let (began, ended) = window(&manifest, host, &profiler);
            // The hosts have this machine's clock, so that the instants can be compared.
            assert!(began <= test_began && ended >= test_ended, "{host} {profiler} does not cover the test");
        }
        for (profiler, table, interval) in [
            ("vmstat", "vmstat.csv", 1.0),
            ("mpstat", "mpstat.csv", 1.0),
            ("iostat", "iostat.csv", 1.0),
            ("pidstat", "pidstat.csv", 5.0),
            ("sar", "sar-load.csv", 1.0),
            ("perf-stat", "perf-stat.csv", 1.0),
            ("proc", "cpu.csv", 1.0),
        ] {
            let (began, ended) = window(&manifest, host, profiler);
            let mut rows = times(&out.join(format!("hosts/{host}/{profiler}/{table}")));
            rows.dedup();
            let what = format!("{host} {table} {began}..{ended}: {rows:?}");
            assert!(rows.iter().all(|t| *t >= began - 0.1 && *t <= ended + 0.1), "outside the window: {what}");
            // No interval is missing: neither between rows, nor before the first, nor after the last but a part of one.
            let edges: Vec<f64> = [began].into_iter().chain(rows.iter().copied()).chain([ended]).collect();
            assert!(edges.windows(2).all(|w| w[1] - w[0] < 1.9 * interval), "a gap: {what}");
        }
        let folded = std::fs::read_to_string(out.join(format!("hosts/{host}/perf/stacks.folded"))).unwrap();
        assert!(folded.contains("burn_outer;burn_inner"), "{host}: {folded}");
        let data = out.join(format!("hosts/{host}/perf/perf.data"));
        let read = lab::run(
            std::process::Command::new("perf").args(["report", "--stdio", "--header-only", "-i", data.as_str()]),
            LONG,
        );
        assert_eq!(read.code(), 0, "{read}");
        assert!(read.stdout.contains("cpu-clock") || read.stdout.contains("cycles"), "{read}");
    }
    assert!(manifest["skew_s"].as_f64().is_some());
    let schema: serde_json::Value =
        serde_json::from_str(&run(&["manifest", "schema"]).expect_success().stdout).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> = validator.iter_errors(&manifest).map(|e| format!("{} {e}", e.instance_path)).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    for host in ["h1", "h2", "h3"] {
        let directory = manifest["hosts"][host]["client"]["directory"].as_str().unwrap();
        assert!(!std::path::Path::new(directory).exists(), "{directory} is left");
    }
    lab.assert_clean();
}

#[test]
fn files_are_the_ones_that_the_manifest_lists_with_their_digests() {
    let scratch = Scratch::new();
    let out = scratch.path("run");
    run(&["run", "-o", out.as_str(), "-p", "proc:0.1", "-p", "vmstat", "-d", "1.5"]).expect_success();
    let manifest = lab::manifest(&out);
    for (profiler, record) in manifest["hosts"]["local"]["profilers"].as_object().unwrap() {
        let files = record["files"].as_array().unwrap();
        assert!(!files.is_empty(), "{profiler}");
        for file in files {
            let path = out.join("hosts/local").join(profiler).join(file["path"].as_str().unwrap());
            let content = std::fs::read(&path).unwrap();
            assert_eq!(content.len() as u64, file["bytes"].as_u64().unwrap(), "{path}");
        }
    }
    assert!(out.join("hosts/local/client.log").is_file());
}

#[test]
fn a_profiler_that_dies_in_the_window_is_partial_with_its_last_words_and_the_test_keeps_its_status() {
    let scratch = Scratch::new();
    let out = scratch.path("run");
    let dies = "command:command='echo it broke >&2; sleep 0.3; exit 3'";
    let done = run(&["run", "-o", out.as_str(), "-p", dies, "-p", "proc", "--", "sh", "-c", "sleep 1; exit 7"]);
    assert_eq!(done.code(), 7, "{done}");
    let record = &lab::manifest(&out)["hosts"]["local"]["profilers"]["command"];
    assert_eq!(record["state"], "partial", "{record:#}");
    assert!(record["reason"].as_str().unwrap().contains("exit status 3"), "{record:#}");
    assert_eq!(record["last_words"], "it broke");
    assert_eq!(state(&lab::manifest(&out), "local", "proc"), "ok");
    let again = run(&["run", "-o", scratch.path("again").as_str(), "-p", dies, "--", "sleep", "1"]);
    assert_eq!(again.code(), 125, "profiling failed, the test did not: {again}");
}

#[test]
fn a_tool_that_ignores_its_signal_is_killed_and_nothing_of_it_stays() {
    let scratch = Scratch::new();
    let out = scratch.path("run");
    let deaf = "command:command='trap \"\" INT TERM; echo $$; while :; do sleep 0.1; done',grace=0.3";
    run(&["run", "-o", out.as_str(), "-p", deaf, "-d", "0.5"]);
    let manifest = lab::manifest(&out);
    let record = &manifest["hosts"]["local"]["profilers"]["command"];
    assert_eq!(record["state"], "partial", "{record:#}");
    assert!(record["reason"].as_str().unwrap().contains("was killed"), "{record:#}");
    let pid = std::fs::read_to_string(out.join("hosts/local/command/command.txt")).unwrap();
    assert!(!std::path::Path::new("/proc").join(pid.trim()).exists(), "process {pid} is still there");
}

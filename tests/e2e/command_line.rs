//! What the command line says and refuses, word for word.
use crate::support::{Scratch, hosts, run, run_on};

fn refused(args: &[&str]) -> String {
    let done = run(args);
    assert_eq!(done.code(), 2, "{done}");
    done.stderr
}

#[test]
fn wrong_profilers_and_parameters_are_refused_before_anything_is_touched() {
    let said = |profiler: &str| refused(&["run", "-w", "nowhere.invalid", "-p", profiler, "-d", "1"]);
    assert_eq!(
        said("vmsat"),
        "autoprof: unknown profiler \"vmsat\": did you mean \"vmstat\"?\n  hint: `autoprof profilers` lists what there is\n"
    );
    assert_eq!(
        said("perf:frequenzy=9"),
        "autoprof: perf: no parameter \"frequenzy\"\n  hint: did you mean \"frequency\"?\n"
    );
    assert!(said("perf:frequency=fast").starts_with("autoprof: perf: frequency must be an integer in 1.."));
    assert!(said("vmstat:0").starts_with("autoprof: vmstat: interval is 0, which is not an integer in 1.."));
    assert!(said("vmstat:1,interval=2").contains("interval is given twice, by position and by name"));
    let twice = refused(&["run", "-p", "vmstat", "-p", "vmstat", "-d", "1"]);
    assert_eq!(twice, "autoprof: vmstat: given twice\n  hint: a profiler runs once on a host: name it once\n");
}

#[test]
fn wrong_hosts_are_refused() {
    assert!(
        refused(&["run", "-w", "a b", "-d", "1"])
            .starts_with("autoprof: cannot read host \"a b\": a host's name cannot have ' '")
    );
    assert!(refused(&["run", "-w", "a,a", "-d", "1"]).contains("host a is given twice\n  hint: name it once"));
    assert!(refused(&["run", "-w", "a", "-x", "a", "-d", "1"]).contains("no host is left\n  hint: -x and -g"));
    assert!(refused(&["run", "-w", "n[3-1]", "-d", "1"]).contains("runs backwards"));
}

#[test]
fn a_wrong_job_file_is_refused_with_line_and_column() {
    let scratch = Scratch::new();
    let job = scratch.write("job.yaml", "hosts: [local]\nprofilers:\n  - vmstat\ntset: {command: [true]}\n");
    let said = refused(&["run", job.as_str()]);
    assert!(said.contains("unknown field `tset`") && said.contains("line 4 column 1"), "{said}");
    assert!(said.contains("hint: line 4: did you mean `test`?"), "{said}");
    let said = refused(&["run", scratch.path("absent.yaml").as_str()]);
    assert!(said.contains("cannot read") && said.contains("hint: a test comes after --"), "{said}");
}

#[test]
fn a_directory_that_exists_is_refused() {
    let scratch = Scratch::new();
    let there = scratch.path("there");
    std::fs::create_dir(&there).unwrap();
    let said = refused(&["run", "-o", there.as_str(), "-d", "1"]);
    assert!(said.contains("exists already") && said.contains("hint: name another directory with -o"), "{said}");
}

#[test]
fn a_test_that_cannot_be_run_has_a_shells_status_and_touches_no_host() {
    let scratch = Scratch::new();
    let out = scratch.path("run");
    let run_it = |program: &str| run(&["run", "-o", out.as_str(), "--", program]);
    let absent = run_it("autoprof-no-such-program");
    assert!(absent.code() == 127 && absent.stderr.contains("hint: after -- come a program"), "{absent}");
    assert_eq!(run_it("/etc/passwd").code(), 126);
    assert!(!out.exists());
}

#[test]
fn a_dry_run_prints_the_commands_and_runs_none() {
    if lab::skip_unless(&["sshd", "vmstat", "perf"]) {
        return;
    }
    let lab = hosts(1).start();
    let scratch = Scratch::new();
    let out = scratch.path("run");
    let done = run_on(&lab, "h1", &out, &["-p", "vmstat:5", "-p", "perf", "--dry-run", "--", "false"]);
    assert_eq!(done.code(), 0, "{done}");
    assert!(done.stdout.contains("vmstat -t -w -n -y 5 > vmstat.txt"), "{done}");
    assert!(done.stdout.contains("perf record"), "{done}");
    assert!(!out.exists());
    lab.assert_clean();
}

#[test]
fn check_says_what_would_work_where_and_why_not() {
    if lab::skip_unless(&["sshd", "perf"]) {
        return;
    }
    let lab = hosts(2).host(1, |h| h.without("perf")).start();
    let config = lab.ssh_config();
    let done = run(&["check", "--ssh-config", config.as_str(), "-w", "h[1-2]", "-p", "perf", "-p", "proc"]);
    assert_eq!(done.code(), 1, "{done}");
    assert!(done.stdout.contains("h1: perf failed: perf is not installed"), "{done}");
    let fine = run(&["check", "--ssh-config", config.as_str(), "-w", "h2", "-p", "perf"]);
    assert_eq!(fine.code(), 0, "{fine}");
    lab.assert_clean();
}

#[test]
fn profilers_and_plugins_are_listed_and_documented() {
    let list = run(&["profilers"]).expect_success().stdout;
    for name in
        ["vmstat", "iostat", "mpstat", "sar", "pidstat", "perf", "perf-stat", "proc", "command", "light", "heavy"]
    {
        assert!(list.lines().any(|line| line.split_whitespace().next() == Some(name)), "{name}: {list}");
    }
    let perf = run(&["profilers", "perf"]).expect_success().stdout;
    assert!(perf.contains("frequency") && perf.contains("Hz") && perf.contains("perf record"), "{perf}");
    let plugins = run(&["plugin", "list"]).expect_success().stdout;
    for provides in ["transport:ssh", "transport:local", "signaler:marker", "profiler:proc"] {
        assert!(plugins.contains(provides), "{provides}: {plugins}");
    }
    assert_eq!(
        refused(&["profilers", "prof"]),
        "autoprof: unknown profiler \"prof\"\n  hint: did you mean \"proc\"?\n"
    );
}

#[test]
fn json_is_all_that_standard_output_has() {
    let scratch = Scratch::new();
    let out = scratch.path("run");
    let done = run(&["run", "--json", "-o", out.as_str(), "--", "sh", "-c", "echo hello; exit 3"]);
    assert_eq!(done.code(), 3, "{done}");
    let result: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(result["exit_status"], 3);
    assert_eq!(result["manifest"]["test"]["exit_code"], 3);
    assert!(done.stderr.contains("hello\n"), "{done}");
}

#[test]
fn quiet_says_nothing_when_nothing_is_wrong() {
    let scratch = Scratch::new();
    let done = run(&["run", "-q", "-o", scratch.path("run").as_str(), "--", "true"]).expect_success();
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("", ""));
}

#[test]
fn runs_are_named_by_time_and_the_latest_is_linked() {
    let scratch = Scratch::new();
    let results = scratch.path("runs");
    run(&["run", "-q", "--results", results.as_str(), "--name", "nightly", "--", "true"]).expect_success();
    let latest = results.join("latest").canonicalize_utf8().unwrap();
    assert!(latest.file_name().unwrap().contains("-nightly-"), "{latest}");
    assert_eq!(lab::manifest(&latest)["phase"], "finished");
}

#[test]
fn a_job_files_test_hosts_and_profilers_are_used() {
    let scratch = Scratch::new();
    let (out, witness) = (scratch.path("run"), scratch.path("witness"));
    let job = scratch.write(
        "job.yaml",
        &format!(
            "hosts:\n  - {{name: here, transport: local, profilers: ['proc:0.2']}}\nprofilers: [nonesuch-is-not-used-by-here: {{}}]\n\
             test: {{command: 'touch {witness}; sleep 0.5', env: {{A: b}}}}\n"
        ),
    );
    let refused = run(&["run", job.as_str(), "-o", out.as_str()]);
    assert_eq!(refused.code(), 2, "an unknown profiler is refused even where no host would use it: {refused}");
    let text = std::fs::read_to_string(&job).unwrap().replace("[nonesuch-is-not-used-by-here: {}]", "[light]");
    std::fs::write(&job, text).unwrap();
    run(&["run", job.as_str(), "-o", out.as_str()]).expect_success();
    assert!(witness.exists());
    let manifest = lab::manifest(&out);
    assert_eq!(manifest["hosts"]["here"]["profilers"]["proc"]["args"]["interval"], 0.2);
}

#[test]
fn a_test_whose_reader_is_gone_ends_as_it_would_in_a_shell() {
    let scratch = Scratch::new();
    let out = scratch.path("run");
    let program = crate::support::autoprof(&[]).get_program().to_owned();
    let pipe = format!("'{}' run -o {out} -- yes | head -n 1", program.to_str().unwrap());
    let done = lab::run(std::process::Command::new("bash").args(["-o", "pipefail", "-c", &pipe]), crate::support::LONG);
    assert_eq!((done.code(), done.stdout.as_str()), (128 + 13, "y\n"), "{done}");
}

#[test]
fn a_shell_is_offered_the_profilers_of_plugins_and_the_presets() {
    let mut command = lab::autoprof();
    command.env("COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", "3").args(["--", "autoprof", "run", "-p", "pe"]);
    let offered = lab::run(&mut command, crate::support::LONG).expect_success().stdout;
    assert!(offered.split(['\n', '\u{b}']).any(|word| word == "perf"), "{offered:?}");
    assert!(!offered.contains("vmstat"), "{offered:?}");
}

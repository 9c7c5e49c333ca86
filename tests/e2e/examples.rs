//! The examples of the documentation, built outside the workspace as their readers would.
use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};
use lab::Running;

use crate::support::{LONG, Scratch, autoprof, event_numbers, hosts, state, times};

/// Cargo on one example, with a target directory that all examples share.
fn cargo(example: &str, verb: &str) -> Command {
    cargo_in(&Utf8PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/examples").join(example), verb)
}

/// The same on a crate somewhere.
fn cargo_in(crate_directory: &Utf8Path, verb: &str) -> Command {
    let root = Utf8PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What cargo told this test is not meant for another build.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CARGO_")) {
        if name != "CARGO_HOME" {
            cargo.env_remove(name);
        }
    }
    let manifest = crate_directory.join("Cargo.toml");
    cargo.args([verb, "--quiet", "--manifest-path", manifest.as_str()]);
    cargo.env("CARGO_TARGET_DIR", root.join("target/examples"));
    cargo
}

/// Builds the plugin of an example; gives a directory that has it alone.
fn plugin(example: &str, library: &str, scratch: &Scratch) -> Utf8PathBuf {
    lab::run(&mut cargo(example, "build"), BUILD).expect_success();
    let plugins = scratch.path("plugins");
    std::fs::create_dir(&plugins).unwrap();
    let built = Utf8PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/examples/debug").join(library);
    std::fs::copy(built, plugins.join(library)).unwrap();
    plugins
}

/// A build takes longer than anything else here.
const BUILD: std::time::Duration = std::time::Duration::from_secs(900);

#[test]
fn a_third_partys_plugin_is_listed_documented_and_runs_on_a_real_host() {
    if lab::skip_unless(&["sshd", "free"]) {
        return;
    }
    let scratch = Scratch::new();
    let plugins = plugin("profiler-plugin", "libautoprof_profiler_free.so", &scratch);
    let with_plugin = |args: &[&str]| {
        let mut command = autoprof(&["--plugin-dir", plugins.as_str()]);
        lab::run(command.args(args), LONG).expect_success()
    };

    let listed = with_plugin(&["plugin", "list"]).stdout;
    assert!(listed.lines().any(|l| l.contains("profiler:free") && l.ends_with("usable")), "{listed}");
    let documented = with_plugin(&["profilers", "free"]).stdout;
    assert!(documented.contains("interval") && documented.contains("time between rows"), "{documented}");
    assert!(documented.contains("free -w -k -s 1"), "{documented}");

    let lab = hosts(1).start();
    let (out, config) = (scratch.path("run"), lab.ssh_config());
    with_plugin(&["run", "--ssh-config", config.as_str(), "-w", "h1", "-o", out.as_str(), "-p", "free:0.2", "-d", "1"]);
    assert_eq!(state(&lab::manifest(&out), "h1", "free"), "ok");
    let text = std::fs::read_to_string(out.join("hosts/h1/free/free.txt")).unwrap();
    assert!(text.matches("Mem:").count() >= 3, "{text}");
    // What it declares is a figure, without the plugin: the run has the declaration.
    let shown = lab::run(&mut autoprof(&["show", "--json", out.as_str()]), LONG).expect_success().stdout;
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let figure = &shown["hosts"]["h1"][0];
    assert_eq!((&figure["figure"], &figure["profiler"]), (&"memory used".into(), &"free".into()), "{shown}");
    let used = figure["mean"].as_f64().unwrap();
    assert!(used > 0.0 && used < 100.0, "{figure}");
    lab.assert_clean();
}

/// A process with mounts, numbers and a name of its own, and its number here.
fn container() -> (Running, u32) {
    // What it is called outside is what the machine's own /proc says, before it has one of its own.
    let script = "read pid rest < /proc/self/stat; mount -t proc proc /proc; mount -t tmpfs tmpfs /tmp; hostname inside
                  echo up $pid; while :; do sleep 1000 & wait; done";
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--uts", "--pid", "--fork", "--kill-child", "--propagation", "private"]);
    let mut running = Running::start(unshare.args(["--", "/bin/sh", "-c", script]));
    running.wait_for("up ", LONG);
    let pid = running.stdout().trim().trim_start_matches("up ").parse().unwrap();
    (running, pid)
}

/// How many processes share a process's numbers.
fn inhabitants(pid: u32) -> usize {
    let namespace = |of: &str| std::fs::read_link(format!("/proc/{of}/ns/pid")).ok();
    let own = namespace(&pid.to_string());
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter(|entry| namespace(&entry.file_name().to_string_lossy()) == own).count()
}

#[test]
fn a_third_partys_transport_profiles_inside_of_a_container() {
    if lab::skip_unless(&["nsenter", "vmstat"]) || lab::skip_unless_namespaces() {
        return;
    }
    let scratch = Scratch::new();
    let plugins = plugin("transport-plugin", "libautoprof_transport_nsenter.so", &scratch);
    let conforms = lab::run(&mut cargo("transport-plugin", "test"), BUILD).expect_success().stdout;
    assert!(conforms.contains("2 passed"), "{conforms}");
    let with_plugin = |args: &[&str]| lab::run(autoprof(&["--plugin-dir", plugins.as_str()]).args(args), LONG);
    let listed = with_plugin(&["plugin", "list"]).expect_success().stdout;
    assert!(listed.lines().any(|l| l.contains("transport:nsenter") && l.ends_with("usable")), "{listed}");

    let (running, pid) = container();
    let host = format!("{{name: inner, transport: nsenter, address: \"{pid}\"}}");
    let job = scratch.write("job.yaml", &format!("hosts: [{host}]\nprofilers: [proc: 0.2, vmstat: 1]\n"));
    let out = scratch.path("run");
    with_plugin(&["run", job.as_str(), "-o", out.as_str(), "-d", "1"]).expect_success();
    let manifest = lab::manifest(&out);
    for profiler in ["proc", "vmstat"] {
        assert_eq!(state(&manifest, "inner", profiler), "ok", "{manifest:#}");
    }
    assert_eq!(manifest["hosts"]["inner"]["facts"]["hostname"], "inside", "{manifest:#}");
    assert!(times(&out.join("hosts/inner/proc/cpu.csv")).len() >= 3);
    let left = |root: &str| std::fs::read_dir(format!("{root}/tmp")).unwrap().flatten().collect::<Vec<_>>();
    assert!(left(&format!("/proc/{pid}/root")).is_empty(), "files are left inside");
    assert!(
        lab::wait_until(LONG, || inhabitants(pid) == 2),
        "more is left inside than the shell and what it waits for"
    );

    drop(running);
    let gone = with_plugin(&["run", job.as_str(), "-o", scratch.path("gone").as_str(), "-d", "1"]);
    assert_eq!(gone.code(), 125, "{gone}");
    assert!(gone.stderr.contains(&format!("inner: connect: there is no process {pid}")), "{gone}");
}

#[test]
fn a_third_partys_signaler_goes_by_way_of_a_real_broker() {
    if lab::skip_unless(&["sshd", "mosquitto", "mosquitto_sub"]) {
        return;
    }
    let scratch = Scratch::new();
    let plugins = plugin("signaler-plugin", "libautoprof_signal_mqtt.so", &scratch);
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).unwrap().port();
    let with_plugin = |args: &[&str]| {
        let mut command = autoprof(&["--plugin-dir", plugins.as_str()]);
        lab::run(command.args(args).env("AUTOPROF_MQTT", format!("localhost:{port}")), LONG)
    };
    let listed = with_plugin(&["plugin", "list"]).expect_success().stdout;
    assert!(listed.lines().any(|l| l.contains("signaler:mqtt") && l.ends_with("usable")), "{listed}");

    let lab = hosts(1).start();
    let (job, config) = (scratch.write("job.yaml", "signaler: mqtt\nprofilers: [proc: 0.2]\n"), lab.ssh_config());
    let run = |name: &str| {
        let out = scratch.path(name);
        (
            with_plugin(&[
                "run",
                job.as_str(),
                "--ssh-config",
                config.as_str(),
                "-w",
                "h1",
                "-o",
                out.as_str(),
                "-d",
                "1",
            ]),
            out,
        )
    };
    let (refused, _) = run("refused");
    assert_eq!(refused.code(), 125, "{refused}");
    assert!(refused.stderr.contains("h1: ready: the MQTT broker: "), "{refused}");

    let settings = scratch.write("mosquitto.conf", &format!("listener {port} 127.0.0.1\nallow_anonymous true\n"));
    let mut broker = Running::start(Command::new("mosquitto").args(["-c", settings.as_str()]));
    broker.wait_for(" running", LONG);
    let (done, out) = run("run");
    done.expect_success();
    assert_eq!(state(&lab::manifest(&out), "h1", "proc"), "ok");
    let numbers = event_numbers(&out, "h1");
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "each event once, in order");
    assert!(broker.stderr().contains("autoprof-autoprof-"), "the run went another way: {}", broker.stderr());
    lab.assert_clean();
}

#[test]
fn a_plugin_as_the_first_release_let_one_be_written_compiles_and_works() {
    let scratch = Scratch::new();
    let plugins = plugin("../../tests/golden/interface-1", "libautoprof_golden.so", &scratch);
    let job = "hosts: [{name: g, transport: golden, options: {answer: \"42\"}}]\nsignaler: golden\n\
               profilers: [golden: {interval: 0.2, words: [a, b]}]\n";
    let (job, out) = (scratch.write("job.yaml", job), scratch.path("run"));
    let args = ["--plugin-dir", plugins.as_str(), "run", job.as_str(), "-o", out.as_str(), "-d", "2"];
    lab::run(&mut autoprof(&args), LONG).expect_success();
    assert_eq!(state(&lab::manifest(&out), "g", "golden"), "ok");
    assert!(!times(&out.join("hosts/g/golden/golden.csv")).is_empty());
}

#[test]
fn a_new_plugin_builds_passes_its_tests_conforms_and_runs_as_it_is() {
    let scratch = Scratch::new();
    let crate_directory = scratch.path("mine");
    let sources = Utf8PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let new = ["plugin", "new", "run-queue", "--autoprof", sources.as_str(), "-o", crate_directory.as_str()];
    lab::run(&mut autoprof(&new), LONG).expect_success();
    assert_eq!(lab::run(&mut autoprof(&new), LONG).code(), 2, "nothing is written over");
    let tested = lab::run(&mut cargo_in(&crate_directory, "test"), BUILD).expect_success().stdout;
    assert!(tested.contains("2 passed"), "{tested}");
    lab::run(&mut cargo_in(&crate_directory, "build"), BUILD).expect_success();
    let name = "libautoprof_profiler_run_queue.so";
    let (built, plugins) = (sources.join("target/examples/debug").join(name), scratch.path("plugins"));
    std::fs::create_dir(&plugins).unwrap();
    let library = plugins.join(name);
    std::fs::copy(&built, &library).unwrap();
    let verdicts = lab::run(&mut autoprof(&["plugin", "test", library.as_str()]), LONG).expect_success().stdout;
    assert!(verdicts.contains("run-queue\n") && !verdicts.contains("FAILED"), "{verdicts}");
    let out = scratch.path("run");
    let args = ["--plugin-dir", plugins.as_str(), "run", "-o", out.as_str(), "-p", "run-queue:0.2", "-d", "1"];
    lab::run(&mut autoprof(&args), LONG).expect_success();
    assert!(times(&out.join("hosts/local/run-queue/run-queue.csv")).len() >= 3);
    let page = std::fs::read_to_string(out.join("report/index.html")).unwrap();
    assert!(page.contains("run-queue.csv"));
    let none = lab::run(&mut autoprof(&["plugin", "test", out.join("manifest.json").as_str()]), LONG);
    assert!(none.code() == 2 && none.stderr.contains("has to end in .so"), "{none}");
}

#[test]
fn a_program_with_plugins_linked_in_gives_the_same_files_as_the_command_line() {
    if lab::skip_unless(&["vmstat"]) {
        return;
    }
    let scratch = Scratch::new();
    let (by_program, by_command) = (scratch.path("program"), scratch.path("command"));
    let mut program = cargo("library", "run");
    program.args(["--", by_program.as_str()]).env("AUTOPROF_CLIENT_DIR", lab::stage().join("lib/autoprof/clients"));
    let said = lab::run(&mut program, BUILD).expect_success().stdout;
    assert!(said.contains("proc: ok") && said.contains("vmstat: ok"), "{said}");
    let args = ["run", "-o", by_command.as_str(), "-p", "proc:0.5", "-p", "vmstat", "--", "sh", "-c", "sleep 2"];
    lab::run(&mut autoprof(&args), LONG).expect_success();
    let files = |run: &Utf8PathBuf| {
        let manifest = lab::manifest(run);
        let profilers = manifest["hosts"]["local"]["profilers"].as_object().unwrap().clone();
        let mut files: Vec<String> = Vec::new();
        for (name, record) in profilers {
            for file in record["files"].as_array().unwrap().iter().chain(record["tables"].as_array().unwrap()) {
                files.push(format!("{name}/{}", file["path"].as_str().unwrap()));
            }
        }
        files.sort();
        files
    };
    assert_eq!(files(&by_program), files(&by_command));
    assert!(times(&by_program.join("hosts/local/proc/cpu.csv")).len() > 2);
}

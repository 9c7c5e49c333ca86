//! What the suites share: a run of the program, and what is read from its results.
use std::{process::Command, time::Duration};

use camino::{Utf8Path, Utf8PathBuf};
use lab::{Finished, Lab, Running};
use serde_json::Value;

/// Longer than anything takes on a busy machine; only a hang reaches it.
pub const LONG: Duration = Duration::from_secs(180);

/// A directory of the test's own, removed with the guard.
pub struct Scratch(tempfile::TempDir);

impl Scratch {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    /// One in which every user may read and write, with a copy of the program and what belongs to it below `stage`.
    pub fn for_everyone() -> Self {
        let scratch = Self::new();
        lab::run(Command::new("chmod").args(["1777", scratch.path("").as_str()]), LONG).expect_success();
        let stage = scratch.path("stage");
        lab::run(Command::new("cp").args(["-r", lab::stage().as_str(), stage.as_str()]), LONG).expect_success();
        scratch
    }

    pub fn path(&self, name: &str) -> Utf8PathBuf {
        Utf8Path::from_path(self.0.path()).expect("UTF-8").join(name)
    }

    pub fn write(&self, name: &str, content: &str) -> Utf8PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).expect("a file in the scratch directory");
        path
    }

    /// A script that can be run.
    pub fn program(&self, name: &str, script: &str) -> Utf8PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.write(name, script);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("a mode");
        path
    }
}

/// The program with its arguments.
pub fn autoprof(args: &[&str]) -> Command {
    let mut command = lab::autoprof();
    command.args(args);
    command
}

/// Runs the program to its end.
pub fn run(args: &[&str]) -> Finished {
    lab::run(&mut autoprof(args), LONG)
}

/// `run` on hosts of a lab, with the run's directory.
pub fn run_on(lab: &Lab, hosts: &str, output: &Utf8Path, more: &[&str]) -> Finished {
    let config = lab.ssh_config();
    let mut args = vec!["run", "--ssh-config", config.as_str(), "-w", hosts, "-o", output.as_str()];
    args.extend(more);
    run(&args)
}

/// Begins `run` on hosts that are reached by this configuration, with the run's directory.
pub fn begin(config: &Utf8Path, hosts: &str, output: &Utf8Path, more: &[&str]) -> Running {
    let mut args = vec!["run", "--ssh-config", config.as_str(), "-w", hosts, "-o", output.as_str()];
    args.extend(more);
    Running::start(&mut autoprof(&args))
}

/// Hosts with namespaces of their own where that is possible.
pub fn hosts(count: usize) -> lab::LabBuilder {
    let builder = Lab::builder(count);
    if Lab::namespaces_available() { builder.in_namespaces() } else { builder }
}

/// The state of every profiler of a host.
pub fn states(manifest: &Value, host: &str) -> Vec<(String, String)> {
    let profilers = manifest["hosts"][host]["profilers"].as_object().expect("profilers of the host");
    profilers.iter().map(|(name, record)| (name.clone(), record["state"].as_str().unwrap_or("").to_owned())).collect()
}

/// The state of one profiler of a host.
pub fn state(manifest: &Value, host: &str, profiler: &str) -> String {
    manifest["hosts"][host]["profilers"][profiler]["state"].as_str().unwrap_or("absent").to_owned()
}

/// The column `time_unix` of a table.
pub fn times(csv: &Utf8Path) -> Vec<f64> {
    let text = std::fs::read_to_string(csv).unwrap_or_else(|e| panic!("{csv}: {e}"));
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    assert!(header.starts_with("time_unix,"), "{csv}: {header}");
    lines
        .map(|line| line.split(',').next().and_then(|t| t.parse().ok()).unwrap_or_else(|| panic!("{csv}: {line}")))
        .collect()
}

/// When a profiler of a host began and ended, in seconds since 1970.
pub fn window(manifest: &Value, host: &str, profiler: &str) -> (f64, f64) {
    let record = &manifest["hosts"][host]["profilers"][profiler];
    let at = |which: &str| record[which]["stamp"]["unix_ns"].as_i64().expect("an instant") as f64 / 1e9;
    (at("began"), at("ended"))
}

/// The numbers of a client's events, as they were recorded.
pub fn event_numbers(out: &Utf8Path, host: &str) -> Vec<u64> {
    let text = std::fs::read_to_string(out.join("events.jsonl")).expect("the events of the run");
    let events = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("an event"));
    events.filter(|e| e["host"] == host).filter_map(|e| e["event"]["event"]["seq"].as_u64()).collect()
}

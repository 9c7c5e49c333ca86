//! One host: what check promises, and what runs show.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use lab::{Lab, Running};
use serde_json::Value;

use crate::agreement;
use crate::load::Load;
use crate::profilers::{COMPARED, Profiler, ROUNDS, Round, TRACED};
use crate::subjects::Subject;
use crate::table::Table;

/// Connecting and asking about all profilers.
const CHECK: Duration = Duration::from_secs(120);
/// A run, its reports included: `perf report` of several profilers takes long on a loaded machine.
const RUN: Duration = Duration::from_secs(400);
/// Until nothing of a run is left.
const CLEAN: Duration = Duration::from_secs(10);
/// What a column's name ends with when it has a unit.
const UNITS: &[&str] = &[
    "_percent",
    "_per_s",
    "_kib",
    "_bytes",
    "_ms",
    "_us",
    "_s",
    "_mhz",
    "_celsius",
    "_watts",
    "_ticks",
    "_cpus",
    "_per_cycle",
];
/// Columns without a unit: what a row is about, and counts of things.
const PLAIN: &[&str] = &[
    "time_unix",
    "cpu",
    "device",
    "interface",
    "resource",
    "map",
    "bucket",
    "file",
    "name",
    "value",
    "facility",
    "level",
    "message",
    "unit",
    "node",
    "uid",
    "pid",
    "command",
    "category",
    "consumer",
    "syscall",
    "caller",
    "type",
    "task",
    "packets",
    "count",
    "calls",
    "errors",
    "switches",
    "contended",
    "load_1min",
    "load_5min",
    "load_15min",
    "runnable",
    "tasks",
    "blocked",
    "in_flight",
    "queue_length",
    "tcp_sockets",
    "tcp_time_wait",
    "sockets",
    "interrupts",
];

/// What became of a host.
#[derive(Default)]
pub struct Outcome {
    /// A cell of the matrix for each profiler.
    pub cells: BTreeMap<&'static str, String>,
    /// Versions of the tools there.
    pub tools: BTreeMap<String, String>,
    /// Figures for people.
    pub lines: Vec<String>,
    /// What is wrong.
    pub problems: Vec<String>,
}

/// A host that is up.
struct Visit<'a> {
    lab: Lab,
    directory: &'a Utf8Path,
    runs: Utf8PathBuf,
    disk: String,
    /// Why check refuses a profiler; `None` where it does not.
    verdicts: BTreeMap<String, Option<String>>,
    outcome: Outcome,
}

/// Starts a host, tests it and ends it. The runs are left in `directory/<host>/runs`.
pub fn visit(directory: &Utf8Path, subject: &Subject) -> Outcome {
    let system = (subject.system)(&directory.join(subject.root).join("root"));
    let runs = directory.join("runs").join(subject.name);
    let _ = fs::remove_dir_all(&runs);
    fs::create_dir_all(&runs).unwrap_or_else(|error| panic!("cannot make {runs}: {error}"));
    let lab = Lab::builder(1).in_namespaces().host(1, |host| host.system(system)).start();
    let verdicts = BTreeMap::new();
    let mut visit = Visit { lab, directory, runs, disk: disk(), verdicts, outcome: Outcome::default() };
    visit.sh("mkdir -p /tmp/watched && touch /tmp/traced").expect_success();
    let script = "while [ -e /tmp/traced ]; do cat /proc/uptime >/dev/null; sleep 0.05; done";
    let traced = Running::start(&mut visit.lab.ssh_command("h1", &format!("sh -c '{script}' {TRACED}")));

    visit.check();
    ROUNDS.iter().for_each(|round| visit.play(round));
    visit.refused();

    visit.sh("rm -r /tmp/watched /tmp/traced").expect_success();
    traced.finish(CHECK);
    let mut left = Vec::new();
    let clean = lab::wait_until(CLEAN, || {
        left = visit.lab.leftovers();
        left.is_empty()
    });
    if !clean {
        visit.problem(format!("left over:\n{}", left.iter().map(lab::Leftovers::to_string).collect::<String>()));
    }
    visit.outcome
}

impl Visit<'_> {
    /// Asks check about all profilers.
    fn check(&mut self) {
        let mut check = self.autoprof("check");
        check.arg("--json");
        for profiler in ROUNDS.iter().flat_map(|round| round.profilers) {
            check.args(["-p", &profiler.argument(&self.disk)]);
        }
        let done = lab::run(&mut check, CHECK);
        let _ = fs::write(self.runs.join("check.json"), &done.stdout);
        let hosts: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done}"));
        let host = &hosts["h1"];
        assert!(host["errors"].as_array().is_some_and(Vec::is_empty), "check cannot use the host: {}", host["errors"]);
        for (name, entry) in host["profilers"].as_object().into_iter().flatten() {
            let is_refused = matches!(entry["state"].as_str(), Some("failed" | "skipped"));
            let reason = is_refused.then(|| entry["reason"].as_str().unwrap_or_default().to_owned());
            self.verdicts.insert(name.clone(), reason);
        }
        for (tool, entry) in host["facts"]["tools"].as_object().into_iter().flatten() {
            let version = entry["version"].as_str().unwrap_or_default();
            if ["iostat", "perf", "vmstat", "strace", "bpftrace"].contains(&tool.as_str()) {
                self.outcome.tools.insert(tool.clone(), version.to_owned());
            }
        }
        let any_refused = self.verdicts.values().any(Option::is_some);
        if done.code() != i32::from(any_refused) {
            self.problem(format!("check ended with {} and refused: {any_refused}", done.status));
        }
    }

    /// Runs the profilers of a round that check does not refuse.
    fn play(&mut self, round: &Round) {
        let promised: Vec<_> = round.profilers.iter().filter(|profiler| self.promised(profiler)).collect();
        if promised.is_empty() {
            return;
        }
        let out = self.runs.join(round.name);
        let mut run = self.run(&out);
        for profiler in &promised {
            run.args(["-p", &profiler.argument(&self.disk)]);
        }
        let load = Load::start(self.directory, self.lab[1].outside("/tmp/watched"));
        let done = lab::run(run.args(["--", "sleep", "8"]), RUN);
        drop(load);
        let _ = fs::write(self.runs.join(format!("{}.txt", round.name)), done.to_string());
        if !done.status.success() {
            self.problem(format!("the run {} failed: {}", round.name, done.stderr.trim()));
        }
        let manifest = lab::manifest(&out);
        let host = out.join("hosts/h1");
        for profiler in promised {
            let record = &manifest["hosts"]["h1"]["profilers"][profiler.name];
            let cell = self.judge(profiler, record, &host.join(profiler.name));
            self.outcome.cells.insert(profiler.name, cell);
        }
        if round.name == COMPARED {
            let disk = self.disk.rsplit('/').next().unwrap_or_default();
            let found = agreement::compare(&host, disk);
            self.outcome.lines.extend(found.lines);
            self.outcome.problems.extend(found.problems);
        }
    }

    /// What became of a profiler that check promised: its cell.
    fn judge(&mut self, profiler: &Profiler, record: &Value, directory: &Utf8Path) -> String {
        let name = profiler.name;
        let state = record["state"].as_str().unwrap_or("absent");
        let reason = record["reason"].as_str().unwrap_or_default();
        let tables = record["tables"].as_array().map(Vec::as_slice).unwrap_or_default();
        let rows: u64 = tables.iter().filter_map(|table| table["rows"].as_u64()).sum();
        if profiler.works.is_some_and(|command| !self.sh(&command.replace("DISK", &self.disk)).status.success()) {
            // The kernel does not let the tool work here. That was not known before, so it must be said now.
            if state == "ok" || reason.is_empty() {
                self.problem(format!("{name} does not work here, and its state is {state} ({reason})"));
            }
            return "late".to_owned();
        }
        if state != "ok" {
            self.problem(format!("check promised {name}, and its state is {state}: {reason}"));
            return state.to_owned();
        }
        if tables.is_empty() && name != "command" {
            self.problem(format!("{name} is ok without a table"));
        }
        for table in tables {
            let path = table["path"].as_str().unwrap_or_default();
            if table["rows"] == 0 && !profiler.may_be_empty.contains(&path) {
                self.problem(format!("{name} is ok, and {path} has no rows"));
            }
            if let Some(warnings) = table["warnings"].as_array().filter(|warnings| !warnings.is_empty()) {
                self.outcome.lines.push(format!("{name} warns about {path}: {}", Value::from(warnings.clone())));
            }
            if path.ends_with(".csv") {
                self.header(name, &directory.join(path));
            }
        }
        format!("ok {rows}")
    }

    /// Each column has a unit in its name, or none.
    fn header(&mut self, name: &str, path: &Utf8Path) {
        match Table::read(path) {
            Err(problem) => self.problem(format!("{name}: {problem}")),
            Ok(table) => {
                let known = |column: &&String| {
                    PLAIN.contains(&column.as_str()) || UNITS.iter().any(|unit| column.ends_with(unit))
                };
                for column in table.header.iter().filter(|column| !known(column)) {
                    self.problem(format!("{name}: {path} has the column {column}, whose name has no unit"));
                }
            }
        }
    }

    /// Runs all profilers that check refuses beside one that it does not: each must be refused for the same reason,
    /// and the run must go on.
    fn refused(&mut self) {
        let all = ROUNDS.iter().flat_map(|round| round.profilers);
        let refused: Vec<_> = all.filter(|profiler| !self.promised(profiler)).collect();
        let out = self.runs.join("refused");
        let mut run = self.run(&out);
        for profiler in &refused {
            run.args(["-p", &profiler.argument(&self.disk)]);
        }
        // Beside them runs what any host can.
        let done = lab::run(run.args(["-p", "proc", "--", "sleep", "2"]), RUN);
        let _ = fs::write(self.runs.join("refused.txt"), done.to_string());
        let manifest = lab::manifest(&out);
        let records = &manifest["hosts"]["h1"]["profilers"];
        if records["proc"]["state"] != "ok" {
            self.problem(format!("what is refused takes proc with it: {}", records["proc"]));
        }
        for profiler in refused {
            let name = profiler.name;
            let promise = self.verdicts.get(name).cloned().flatten().unwrap_or_default();
            let state = records[name]["state"].as_str().unwrap_or("absent");
            let reason = records[name]["reason"].as_str().unwrap_or_default();
            if !matches!(state, "failed" | "skipped") || reason != promise {
                self.problem(format!("check refuses {name} ({promise}), and the run says {state} ({reason})"));
            }
            self.outcome.cells.insert(name, "refused".to_owned());
        }
    }

    /// Whether check does not refuse a profiler.
    fn promised(&self, profiler: &Profiler) -> bool {
        self.verdicts.get(profiler.name).is_some_and(Option::is_none)
    }

    fn run(&self, out: &Utf8Path) -> Command {
        let mut run = self.autoprof("run");
        run.args(["--quiet", "--no-report", "--require", "0%", "-o", out.as_str()]);
        run
    }

    fn autoprof(&self, subcommand: &str) -> Command {
        let mut command = lab::autoprof();
        command.args([subcommand, "--ssh-config", self.lab.ssh_config().as_str(), "-w", "h1"]);
        command
    }

    fn sh(&self, command: &str) -> lab::Finished {
        self.lab.ssh("h1", command)
    }

    fn problem(&mut self, problem: String) {
        self.outcome.problems.push(problem);
    }
}

/// A disk of this machine, the first that is not made of memory or files.
fn disk() -> String {
    let mut disks: Vec<_> = fs::read_dir("/sys/block")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| {
            !["loop", "ram", "zram", "dm-", "md", "sr", "fd", "nbd"].iter().any(|kind| name.starts_with(kind))
        })
        .collect();
    disks.sort();
    format!("/dev/{}", disks.first().map_or("none", String::as_str))
}

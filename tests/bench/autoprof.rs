//! A run of autoprof, and the instants in its records.

use std::fs;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;
use lab::Lab;
use serde_json::Value;

use crate::contender;

/// What a finished run wrote down.
pub struct Run {
    /// When its process was started.
    pub launched: Timestamp,
    /// Its run directory, removed when this is dropped.
    pub directory: Utf8PathBuf,
    events: Vec<Value>,
}

impl Run {
    /// Runs autoprof on hosts of the lab, its run directory being a new one below the lab's.
    pub fn go(lab: &Lab, hosts: &str, more: &[&str]) -> Self {
        Self::go_by(&lab.ssh_config(), lab, hosts, more)
    }

    /// The same by another way to the hosts than the lab's own.
    pub fn go_by(config: &Utf8Path, lab: &Lab, hosts: &str, more: &[&str]) -> Self {
        let directory = lab.directory().join("run");
        let mut command = contender::autoprof();
        command
            .args(["run", "-q", "--no-report", "--ssh-config", config.as_str(), "-w", hosts, "-o", directory.as_str()])
            .args(more);
        let launched = Timestamp::now();
        lab::run(&mut command, Duration::from_secs(300)).expect_success();
        Self::of(launched, directory)
    }

    /// One that has ended, by its directory.
    pub fn of(launched: Timestamp, directory: Utf8PathBuf) -> Self {
        let text = fs::read_to_string(directory.join("events.jsonl")).expect("a run has events.jsonl");
        let event = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"));
        Self { launched, directory, events: text.lines().map(event).collect() }
    }

    /// When the last of the events was noted that have this value at a JSON pointer: `/phase` for the run's phases,
    /// `/event/what` for the controller's steps with a host, `/event/event/event` for what a client says.
    pub fn last(&self, pointer: &str, value: &str) -> Timestamp {
        last(&self.events, pointer, value)
    }

    /// The same among the events before the first one of this kind that a client said.
    pub fn last_before(&self, pointer: &str, value: &str, kind: &str) -> Timestamp {
        let end = self.events.iter().position(|event| event.pointer("/event/event/event").is_some_and(|k| k == kind));
        last(&self.events[..end.unwrap_or(self.events.len())], pointer, value)
    }
}

fn last(events: &[Value], pointer: &str, value: &str) -> Timestamp {
    let last = events.iter().rfind(|event| event.pointer(pointer).is_some_and(|found| found == value));
    let at = last.and_then(|event| event["at"].as_str()).and_then(|at| at.parse().ok());
    at.unwrap_or_else(|| panic!("the run noted no event with {pointer} = {value}"))
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Where on the first host what is fetched lies: in the file system that autoprof's client writes to.
pub fn place(lab: &Lab) -> &Utf8Path {
    if Lab::namespaces_available() { Utf8Path::new("/tmp") } else { lab[1].tmpdir() }
}

/// Milliseconds from one instant to another.
pub fn milliseconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64() * 1e3
}

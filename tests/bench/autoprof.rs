//! A run of autoprof, and the instants in its records.

use std::fs;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;
use lab::Lab;
use serde_json::Value;

/// Longer than any run here takes; only a hang reaches it.
const DEADLINE: Duration = Duration::from_secs(300);

/// What a finished run wrote down.
pub struct Run {
    /// When its process was started.
    pub launched: Timestamp,
    directory: Utf8PathBuf,
    events: Vec<Value>,
}

impl Run {
    /// Runs autoprof on hosts of the lab, its run directory being a new one below the lab's.
    ///
    /// # Panics
    /// When the run does not succeed.
    pub fn go(lab: &Lab, hosts: &str, more: &[&str]) -> Self {
        let directory = lab.directory().join("run");
        let config = lab.ssh_config();
        let mut command = lab::autoprof();
        command.args(["run", "-q", "--ssh-config", config.as_str(), "-w", hosts, "-o", directory.as_str()]).args(more);
        let launched = Timestamp::now();
        lab::run(&mut command, DEADLINE).expect_success();
        let file = directory.join("events.jsonl");
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("cannot read {file}: {error}"));
        let event = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{file}: {error}: {line}"));
        let events = text.lines().map(event).collect();
        Self { launched, directory, events }
    }

    pub fn directory(&self) -> &Utf8Path {
        &self.directory
    }

    pub fn manifest(&self) -> Value {
        lab::manifest(&self.directory)
    }

    /// When the last of the events that match was noted.
    ///
    /// # Panics
    /// When none matches.
    pub fn last(&self, what: &str, matches: impl Fn(&Value) -> bool) -> Timestamp {
        let last = self.events.iter().rfind(|event| matches(event));
        let last = last.unwrap_or_else(|| panic!("the run has no event {what}: {}", self.directory));
        let at = last["at"].as_str().expect("every event has its time");
        at.parse().unwrap_or_else(|error| panic!("{at}: {error}"))
    }

    /// When the last host came to a step of ours (`installing`, `collected`, ...).
    pub fn last_host(&self, what: &str) -> Timestamp {
        self.last(what, |event| event["event"]["what"] == what)
    }

    /// When the last client was heard to say something (`ready`, `reported`, ...).
    pub fn last_client(&self, word: &str) -> Timestamp {
        self.last(word, |event| event["event"]["event"]["event"] == word)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Milliseconds from one instant to another.
pub fn milliseconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64() * 1e3
}

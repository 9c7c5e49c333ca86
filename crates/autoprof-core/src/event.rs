//! The events of a run: the one stream of facts from which progress, log and manifest are read.
use autoprof_protocol::{Event, HostFacts, Invocation};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    args::Args,
    encoder::Table,
    host::Host,
    job::Require,
    manifest::{ClockOffset, FileRecord, HostError, RunPhase, RunSettings},
};

/// One line of a run's `events.jsonl`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct RunEvent {
    /// When the controller noted it (UTC, the controller's clock).
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub kind: RunEventKind,
}

/// What happened in a run.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum RunEventKind {
    /// The run was set up; the first event of every run.
    Created {
        /// The run's id.
        id: String,
        /// The version of autoprof.
        autoprof: String,
        /// The machine.
        controller: String,
        /// Which share of the hosts must be whole.
        require: Require,
        /// The test's program and arguments.
        test: Option<Vec<String>>,
        /// The hosts.
        hosts: Vec<Host>,
        /// How it was set up.
        settings: RunSettings,
    },
    /// The run as a whole came into its next phase.
    Phase {
        /// The phase.
        phase: RunPhase,
    },
    /// The test began.
    TestBegan,
    /// The test ended.
    TestEnded {
        /// How, in words.
        status: String,
        /// The exit status that stands for it.
        exit_code: u8,
    },
    /// Somebody interrupted the run.
    Interrupted {
        /// What did: a signal's name, or a limit.
        by: String,
    },
    /// Nothing is left to do.
    Finished {
        /// Whether the requirement was met.
        require_met: bool,
    },
    /// Something happened on or with a host.
    Host {
        /// The host's name.
        host: String,
        /// What happened.
        event: HostEvent,
    },
}

/// What happened on or with one host.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum HostEvent {
    /// A connection is being made.
    Connecting,
    /// The client goes into this directory.
    Installing {
        /// The client's directory on the host.
        directory: String,
    },
    /// The client said what the host is and can do.
    Facts {
        /// What it said.
        facts: Box<HostFacts>,
    },
    /// The host's clock was compared with the controller's.
    Clock {
        /// The result.
        offset: ClockOffset,
    },
    /// A profiler will run.
    Planned {
        /// The profiler.
        profiler: String,
        /// The preset that asked for it.
        preset: Option<String>,
        /// Its arguments, complete.
        args: Args,
        /// What the client will run.
        #[schemars(with = "serde_json::Value")]
        invocation: Box<Invocation>,
        /// The tool's version on this host.
        tool_version: Option<String>,
    },
    /// A profiler that a preset asked for cannot run here.
    Skipped {
        /// The profiler.
        profiler: String,
        /// The preset that asked for it.
        preset: Option<String>,
        /// Its arguments, complete.
        args: Args,
        /// Why.
        reason: String,
    },
    /// A profiler that the user named cannot run here.
    Refused {
        /// The profiler.
        profiler: String,
        /// Its arguments, complete.
        args: Args,
        /// Why.
        reason: String,
    },
    /// The client said something.
    Client {
        /// What it said.
        event: Event,
    },
    /// A step failed.
    Failed {
        /// Which, and why.
        error: HostError,
    },
    /// Results came back.
    Collected {
        /// Whole, verified files; paths begin with the profiler's name.
        files: Vec<FileRecord>,
        /// Why there may be more that did not come back.
        missing: Option<String>,
    },
    /// Tables were made of a profiler's files.
    Converted {
        /// The profiler.
        profiler: String,
        /// The tables.
        tables: Vec<Table>,
        /// What went wrong, when something did.
        problem: Option<String>,
    },
    /// Nothing of ours is left on the host.
    Cleaned,
}

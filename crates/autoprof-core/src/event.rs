//! The events of a run: the one stream of facts from which progress, log and manifest are read.
use std::collections::BTreeMap;

use autoprof_protocol::{Event, HostFacts, Invocation, Stamp};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    args::Args,
    encoder::Table,
    host::Host,
    job::Require,
    manifest::{ClockOffset, FileRecord, HostError, RunPhase, RunSettings},
    quantity::TableInfo,
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
        settings: Box<RunSettings>,
    },
    /// The run as a whole came into its next phase.
    Phase {
        /// The phase.
        phase: RunPhase,
    },
    /// The test began.
    TestBegan {
        /// Those environment variables whose names the job allows to be kept.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        env: BTreeMap<String, String>,
    },
    /// The test ended.
    TestEnded {
        /// How, in words.
        status: String,
        /// The exit status that stands for it.
        exit_code: u8,
    },
    /// Somebody named an instant.
    Marked {
        /// The name.
        name: String,
        /// The instant, by the clock of the machine where it was named.
        #[schemars(with = "String")]
        marked: Timestamp,
    },
    /// One of several windows opened.
    WindowOpened {
        /// Its number, from 1.
        window: u32,
        /// What in the test's output opened it.
        by: String,
    },
    /// One of several windows closed.
    WindowClosed {
        /// Its number.
        window: u32,
        /// What in the test's output closed it, or that the test ended.
        by: String,
    },
    /// The window that was made ready last was not needed.
    WindowUnused,
    /// Another process went on with the run.
    Resumed {
        /// The machine that it runs on.
        controller: String,
    },
    /// Somebody interrupted the run.
    Interrupted {
        /// What did: a signal's name, or a limit.
        by: String,
    },
    /// A profiler declared what its tables measure.
    Tables {
        /// The profiler.
        profiler: String,
        /// Its tables.
        tables: Vec<TableInfo>,
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

/// What ended a collection that nobody stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The host rebooted; what was on its disk is still there.
    Reboot,
    /// The host rebooted, and what had been collected went with it.
    RebootAndWipe,
    /// The client was killed.
    ClientKilled,
    /// The client's directory was removed under it.
    Removed,
}

impl Cause {
    /// The words for it.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Reboot => "the host rebooted",
            Self::RebootAndWipe => "the host rebooted and its files were gone",
            Self::ClientKilled => "the client is gone (killed)",
            Self::Removed => "the client's directory was removed",
        }
    }

    /// Whether what had been collected on the host is lost.
    #[must_use]
    pub const fn loses_data(self) -> bool {
        matches!(self, Self::RebootAndWipe | Self::Removed)
    }
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
    /// The line to the client was lost; it is being looked for.
    Lost {
        /// What was noticed.
        reason: String,
    },
    /// The client is heard again.
    Back,
    /// What was being collected ended without having been stopped.
    Broken {
        /// By what.
        cause: Cause,
        /// The kernel's id of the boot that it was found in.
        boot_id: String,
        /// The instant until which there may be data, by the host's clock, where that is known.
        until: Option<Stamp>,
    },
    /// A new client was installed, in a directory of its own.
    Reinstalled {
        /// The directory.
        directory: String,
    },
    /// Results as they were at an instant of the run are here.
    Checkpoint {
        /// Files in all.
        files: u64,
        /// Bytes in them.
        bytes: u64,
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
        /// Files that the host could not send: what it said of each.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        left_out: Vec<String>,
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

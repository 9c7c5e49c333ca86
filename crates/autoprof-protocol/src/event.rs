//! What a client says that it did.
//!
//! Events are appended to `events.jsonl` in the client's directory, one JSON object a line, numbered from 1
//! without gaps: a controller that comes back reads on from the last number it has.
use serde::{Deserialize, Serialize};

use crate::{HostText, Marker, Stamp};

/// One line of `events.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Event {
    /// Number within the client's directory, from 1; 0 for a beat, which is not kept.
    pub seq: u64,
    /// When it happened, by the host's clocks.
    pub at: Stamp,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventKind {
    /// The client is up, every tool that can be armed is, and it waits for the start marker.
    Ready {
        /// The client's process id.
        pid: u32,
        /// The host's boot id: a different one later means that the host rebooted.
        boot_id: String,
        /// Which part of the data it makes.
        #[serde(default = "first_segment")]
        segment: u32,
    },
    /// The client has been told to do something at an instant, and will.
    Scheduled {
        /// What.
        marker: Marker,
        /// When, by the host's clocks.
        planned: Stamp,
        /// How long ago that was when it heard of it, in nanoseconds; 0: in time.
        late_ns: u64,
    },
    /// One profiler is collecting.
    Began {
        /// The profiler.
        profiler: String,
        /// When its tool began: the acknowledgement of an armed tool, else the first instant at which the
        /// tool was seen waiting for its first interval.
        began: Stamp,
        /// The tool's process id; none for the client's own sampling.
        pid: Option<u32>,
    },
    /// Every profiler either is collecting or has failed; the controller may begin the test.
    Started {
        /// Profilers that are collecting.
        collecting: Vec<String>,
    },
    /// One profiler has ended, at the stop or before it.
    Ended(Ended),
    /// How the client and the tools that sample are scheduled from now on, while profilers collect.
    Scheduling {
        /// What they have.
        policy: Policy,
        /// Why they have no more than that.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<HostText>,
    },
    /// What the client itself has cost the host until now, without its tools.
    Cost {
        /// Its user and system time, in microseconds.
        cpu_us: u64,
    },
    /// Every tool is gone and every file is closed.
    Stopped,
    /// One profiler's report step failed; its raw data stands.
    ReportFailed {
        /// The profiler.
        profiler: String,
        /// What happened.
        reason: HostText,
    },
    /// The report step is over: the results may be packed.
    Reported,
    /// The client ended the window by itself.
    LimitReached {
        /// Which limit: `lease` or `max_duration`.
        limit: HostText,
    },
    /// A setting of the host was changed for a profiler, or restored.
    SettingChanged {
        /// Its file.
        path: HostText,
        /// The value before.
        from: HostText,
        /// The value since.
        to: HostText,
    },
    /// Somebody set the host's clock.
    ClockSet {
        /// How far wall time jumped, in nanoseconds; negative: backwards.
        step_ns: i64,
    },
    /// A named instant was put on the host's timeline.
    Marked {
        /// Its name.
        name: String,
        /// Whether it is in the kernel's trace too (`trace_marker`).
        traced: bool,
    },
    /// The client cannot go on at all.
    Failed {
        /// What happened.
        reason: HostText,
    },
    /// An answer to a question for a sign of life, stamped when the question came; not kept in the file.
    Beat {
        /// The question's number.
        question: u64,
        /// Bytes of results on the host's disk.
        bytes: u64,
        /// How long it took to find the answer, in nanoseconds.
        took_ns: u64,
    },
}

const fn first_segment() -> u32 {
    1
}

/// How one profiler ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Ended {
    /// The profiler.
    pub profiler: String,
    /// When its tool was gone.
    pub ended: Stamp,
    /// How it went.
    pub outcome: Outcome,
    /// The tool's exit status in words; empty for the client's own sampling.
    pub status: HostText,
    /// What went wrong, when something did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<HostText>,
    /// The end of the tool's standard error, when something went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_words: Option<HostText>,
    /// CPU time of the tool and its waited-for children, user and system, in microseconds.
    #[serde(default)]
    pub cpu_us: u64,
    /// How many samples the client took for it, of how many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<SamplerStats>,
}

/// How many samples were taken in a window, and how late.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SamplerStats {
    /// Samples that the interval asks for.
    pub expected: u64,
    /// Samples that were taken.
    pub taken: u64,
    /// The longest time by which one was late, in microseconds.
    pub worst_delay_us: u64,
}

/// How a process is scheduled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// The lowest real-time priority, `SCHED_RR` 1.
    RoundRobin,
    /// A niceness of -20.
    Nice,
    /// A larger share of the CPUs for its session (an autogroup with niceness -20).
    Group,
    /// As any other process.
    Default,
}

/// How a profiler's collection went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It collected until it was told to stop, and finished its files.
    Ok,
    /// It has data, but not all: it ended early, or had to be killed.
    Partial,
    /// It did not collect.
    Failed,
}

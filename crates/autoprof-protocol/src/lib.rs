//! What the controller and the client on a host both speak.
//!
//! Data only: nothing here opens a file, a socket or a process. The client depends on this crate and on
//! nothing else of autoprof, so whatever is added here is pushed to every host.
//!
//! | module | what |
//! |---|---|
//! | [`invocation`] | how a profiler runs on a host, as data |
//! | [`control`] | the control file: everything a client is told at launch |
//! | [`marker`] | the marker files that start, stop and report |
//! | [`event`] | what the client says that it did |
//! | [`facts`] | what a host is and can do |
//! | [`archive`] | the stream in which results come back |
//! | [`blocks`] | how that goes over the line |
//! | [`stamp`] | instants on a host |
//! | [`standing`] | what there is of a client that somebody lost sight of |
//! | [`text`] | text from a host, which cannot reach a terminal as it is |

pub mod archive;
pub mod blocks;
pub mod control;
pub mod event;
pub mod facts;
pub mod invocation;
pub mod marker;
pub mod stamp;
pub mod standing;
pub mod text;

pub use control::{ControlFile, DiskLimits, Limits, ProfilerEntry, Task};
pub use event::{Ended, Event, EventKind, Outcome, Policy, SamplerStats};
pub use facts::{HostFacts, ProbeEnd, Tool, ToolFault, ToolProbe, UnusableTool};
pub use invocation::{
    Arm, Environment, Flush, Invocation, Output, OutputFormat, Poll, Report, Samples, SentFile, Setting, Start, Stop,
    StopSignal, as_root,
};
pub use marker::{Marker, MarkerTime};
pub use stamp::Stamp;
pub use standing::{Kept, Standing, Swept};
pub use text::HostText;

/// Version of everything in this crate that crosses the wire; both sides must have the same.
///
/// The controller always brings its own client, so there is nothing to negotiate: a difference means that
/// somebody else's client answered, and the run must not go on.
pub const PROTOCOL_VERSION: u32 = 3;

/// Where a client's results are, below its directory; the path is Autotest's.
pub const RESULTS_DIR: &str = "results/default/profiler_test/profiling";
/// The control file's name in the client's directory.
pub const CONTROL_FILE: &str = "control.yaml";
/// The append-only file of events in the client's directory.
pub const EVENTS_FILE: &str = "events.jsonl";
/// The client's own log in its directory.
pub const LOG_FILE: &str = "client.log";
/// The FIFO that an attached controller holds open, so that the client knows it is still there.
pub const LEASE_FIFO: &str = "lease";
/// The file that holds the process id of the client in charge of a directory, and a lock while it lives.
pub const PID_FILE: &str = "client.pid";
/// The installed client program's name.
pub const CLIENT_PROGRAM: &str = "autoprof-client";
/// What profilers were sent, in a client's directory: a directory for each profiler.
pub const FILES_DIR: &str = "files";
/// Default parent of client directories on a host.
pub const DEFAULT_TMPDIR: &str = "/tmp/profilers";
/// Each client directory begins with this, then random characters.
pub const CLIENT_DIR_PREFIX: &str = "autoprof-";
/// The variable that everything a client starts inherits, with the client's directory: what outlives a client that was
/// killed is found by it.
pub const CLIENT_VARIABLE: &str = "AUTOPROF_CLIENT_DIR";

/// The name of the directory of a profiler's data in one segment, below the profiler's own; none: the profiler's own
/// directory is the first segment's.
#[must_use]
pub fn segment_dir(segment: u32) -> Option<String> {
    (segment > 1).then(|| format!("segment-{segment}"))
}

//! autoprof's domain: hosts, profilers, their lifecycle around a test, and the run on disk.

pub mod args;
pub mod atomic_file;
pub mod blocks;
pub mod clean;
mod client;
pub mod collect;
pub mod conduct;
pub mod duration;
pub mod encoder;
pub mod error;
pub mod event;
pub mod groups;
pub mod host;
pub mod install;
pub mod inventory;
pub mod job;
pub mod manifest;
pub mod marks;
mod preamble;
pub mod profiler;
pub mod profilers;
pub mod quantity;
pub mod registry;
pub mod run;
mod secret;
pub mod signal;
pub mod size;
pub mod store;
pub mod sudo;
mod tables;
pub mod test;
pub mod text;
pub mod transport;
mod trigger;
pub mod trust;
mod unpack;
pub mod yaml;

pub use args::{Args, Value};
pub use autoprof_protocol as protocol;
pub use encoder::{ArgEncoder, ClockStep, Param, ParamType, ProfilerInfo, RawResults, SampleCount, Table};
pub use host::Host;
pub use quantity::{Measure, Precision, TableInfo};
pub use registry::{Prompter, Registry};
pub use secret::Secret;
pub use signal::{Channel, ClientHandle, Signal, Signaler};
pub use tables::require_rows;
pub use transport::{Command, Process, ProcessInput, ProcessOutput, Session, Transport};

/// Now, as every time in a run is written.
#[must_use]
pub fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

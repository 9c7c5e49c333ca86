//! autoprof's domain: hosts, profilers, their lifecycle around a test, and the run on disk.

pub mod args;
mod client;
pub mod collect;
pub mod conduct;
pub mod duration;
pub mod encoder;
pub mod error;
pub mod event;
pub mod host;
pub mod install;
pub mod job;
pub mod manifest;
pub mod profiler;
pub mod profilers;
pub mod registry;
pub mod run;
pub mod signal;
pub mod store;
pub mod test;
pub mod text;
pub mod transport;

pub use args::{Args, Value};
pub use autoprof_protocol as protocol;
pub use encoder::{ArgEncoder, Param, ParamType, ProfilerInfo, RawResults, Table};
pub use host::Host;
pub use registry::{Prompter, Registry};
pub use signal::{Channel, ClientHandle, Signal, Signaler};
pub use transport::{Command, Process, ProcessInput, ProcessOutput, Session, Transport};

/// Now, as every time in a run is written.
#[must_use]
pub fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

//! The control file: everything a client is told at launch.
//!
//! It is written in the part of YAML that is JSON, so that every YAML reader reads it and the client needs no more
//! than a JSON reader.
use serde::{Deserialize, Serialize};

use crate::Invocation;

/// `control.yaml` in a client's directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ControlFile {
    /// [`crate::PROTOCOL_VERSION`] of the controller that wrote it.
    pub version: u32,
    /// The run's id.
    pub run: String,
    /// The host's name as the controller knows it.
    pub host: String,
    /// The profilers of this host, in the order in which they are started.
    pub profilers: Vec<ProfilerEntry>,
    /// When the client ends by itself.
    pub limits: Limits,
}

/// One profiler of a control file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfilerEntry {
    /// The profiler's name: its result directory's name as well.
    pub name: String,
    /// How it runs.
    pub invocation: Invocation,
}

/// When a client ends by itself: it stops its profilers, keeps their data and waits for nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// How long it goes on while no controller is attached, in milliseconds; none: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<u64>,
    /// How long it goes on at all, from its launch, in milliseconds.
    pub max_duration_ms: u64,
}

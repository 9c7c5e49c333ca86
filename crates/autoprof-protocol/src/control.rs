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
    /// Which part of the run's data this client makes: 1, and one more each time that profilers are started again.
    #[serde(default = "first_segment", skip_serializing_if = "is_first_segment")]
    pub segment: u32,
    /// The number of the last event that the controller has: a client that comes after another goes on from there,
    /// also where the earlier one's file of events is gone or torn.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub after: u64,
    /// What the client is there for.
    #[serde(default, skip_serializing_if = "is_default_task")]
    pub task: Task,
    /// When the client ends by itself.
    pub limits: Limits,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
const fn is_first_segment(segment: &u32) -> bool {
    *segment == 1
}

const fn first_segment() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_default_task(task: &Task) -> bool {
    *task == Task::default()
}

/// What a client is launched for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// To wait for the start, profile, stop and report.
    #[default]
    Profile,
    /// To end what an earlier client of the directory left behind, and to make its reports.
    Finish,
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
    /// How much of the disk the results may take.
    #[serde(default)]
    pub disk: DiskLimits,
}

/// How much of a host's disk the results may take; a profiler that reaches its share is stopped, the others go on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct DiskLimits {
    /// Bytes that all profilers of the host may take together; none: half of what is free at the start, at most
    /// [`Self::MOST`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_bytes: Option<u64>,
    /// Bytes that one profiler may take; none: half of the host's, or all of it where there is only one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profiler_bytes: Option<u64>,
    /// Share of the file system, in percent, that stays free whatever the quotas say; none:
    /// [`Self::KEEP_FREE_PERCENT`], at most [`Self::KEEP_FREE_MOST`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_free_percent: Option<u8>,
}

impl DiskLimits {
    /// Most that a host's results take where nothing else is asked for.
    pub const MOST: u64 = 2 << 30;
    /// Share of the file system that stays free where nothing else is asked for.
    pub const KEEP_FREE_PERCENT: u8 = 5;
    /// Most that stays free where nothing else is asked for: of a large disk, 5 % are more than all results may take,
    /// and a host that is as full as that every day can still be profiled.
    pub const KEEP_FREE_MOST: u64 = 1 << 30;

    /// Bytes that stay free on a file system of this size.
    pub fn keep_free(&self, size: u64) -> u64 {
        let share = |percent: u8| size / 100 * u64::from(percent.min(100));
        self.keep_free_percent.map_or_else(|| share(Self::KEEP_FREE_PERCENT).min(Self::KEEP_FREE_MOST), share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_disk_that_is_95_percent_full_can_still_be_written_to() {
        let default = DiskLimits::default();
        assert_eq!(default.keep_free(1_000_000_000), 50_000_000);
        assert_eq!(default.keep_free(250 << 30), 1 << 30);
    }

    #[test]
    fn a_share_that_was_asked_for_stays_free_however_large_the_disk() {
        let asked = DiskLimits { keep_free_percent: Some(10), ..DiskLimits::default() };
        assert_eq!(asked.keep_free(100 << 30), 10 << 30);
        assert_eq!(DiskLimits { keep_free_percent: Some(200), ..asked }.keep_free(1_000), 1_000);
    }
}

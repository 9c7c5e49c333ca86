//! Turns what is known of a run into something that a person reads.
//!
//! [`summary`] is the table hosts × profilers with the reasons below it; [`plan`] is what would run on each host; [`starter`] is a job file for hosts
//! that were looked at;
//! [`page`] is the report, of [`charts`] and [`findings`]. Both are made of quantities: [`measured`] computes them from the
//! tables ([`frame`]) as profilers declared them, [`metrics`] makes figures of hosts, [`agreement`] compares profilers.

pub mod agreement;
pub mod charts;
pub mod compare;
pub mod export;
pub mod findings;
pub mod flame;
pub mod frame;
pub mod measured;
pub mod metrics;
pub mod page;
pub mod place;
pub mod plan;
mod reduce;
pub mod show;
pub mod size;
pub mod starter;
pub mod sudoers;
pub mod summary;
mod timeline;

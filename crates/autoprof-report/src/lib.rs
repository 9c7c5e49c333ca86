//! Turns what is known of a run into something that a person reads.
//!
//! [`summary`] is the table hosts × profilers with the reasons below it; [`plan`] is what would run on each host.

pub mod plan;
pub mod size;
pub mod sudoers;
pub mod summary;

//! The subcommands, a file each.

pub mod check;
pub mod job;
pub mod profilers;
pub mod run;
pub mod status;

//! The subcommands, a file each.

pub mod author;
pub mod check;
pub mod init;
pub mod job;
pub mod lock;
pub mod profilers;
pub mod report;
pub mod retention;
pub mod run;
pub mod status;

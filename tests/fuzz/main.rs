//! What is done with bytes that nobody vouches for, once for each reader: laws that hold whatever the bytes are.
//!
//! `fuzz/` (outside the workspace) has libFuzzer find the bytes; as a test this replays its corpus, which needs no more
//! than stable Rust. Each module has one function `check`, which panics when a law is broken.
#![allow(clippy::unwrap_used, reason = "a panic is what a broken law is told by")]

pub mod archive;
pub mod control;
pub mod convert;
pub mod events;
pub mod hosts;
pub mod job;
pub mod note;
#[cfg(test)]
mod replay;

/// A new directory for files that must be files, in memory where there is such a place.
fn scratch() -> tempfile::TempDir {
    let memory = std::path::Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    tempfile::Builder::new().prefix("autoprof-fuzz-").tempdir_in(parent).unwrap()
}

//! Tests that need a program which is not everywhere.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::panic::Location;

use crate::{namespace, program, stage};

/// Whether the calling test must be skipped since one of `programs` is not installed. Says so on standard error and in
/// `target/skipped-tests.log`.
///
/// # Panics
/// When a program is missing and the variable `CI` is set: there a skipped test is a failed one.
#[must_use]
#[track_caller]
pub fn skip_unless(programs: &[&str]) -> bool {
    let missing = programs.iter().find(|name| program::find_program(name).is_none());
    missing.is_some_and(|name| skip(&format!("{name} is not installed (just setup)")))
}

/// Whether the calling test must be skipped since hosts cannot have namespaces here, told as [`skip_unless`] does.
///
/// # Panics
/// When they cannot and the variable `CI` is set.
#[must_use]
#[track_caller]
pub fn skip_unless_namespaces() -> bool {
    !namespace::available() && skip("namespaces need root (sudo)")
}

/// Whether the calling test must be skipped since every user may look at the whole machine with perf here, told as
/// [`skip_unless`] does.
///
/// # Panics
/// When they may and the variable `CI` is set.
#[must_use]
#[track_caller]
pub fn skip_unless_perf_is_restricted() -> bool {
    let paranoid = std::fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap_or_default();
    let is_restricted = paranoid.trim().parse::<i32>().is_ok_and(|value| value > 0);
    !is_restricted && skip("kernel.perf_event_paranoid restricts nobody (set it to 2)")
}

#[track_caller]
fn skip(why: &str) -> bool {
    let place = Location::caller();
    // Tests run in threads that bear their names, but for a single one at a time, which runs in `main`.
    let test = std::thread::current().name().filter(|name| *name != "main").map(str::to_owned);
    let line = format!("SKIPPED {}: {why}\n", test.unwrap_or_else(|| place.to_string()));
    eprint!("{line}");
    let target = stage::workspace().join("target");
    let _ = std::fs::create_dir_all(&target);
    let log = OpenOptions::new().create(true).append(true).open(target.join("skipped-tests.log"));
    let _ = log.and_then(|mut log| log.write_all(line.as_bytes()));
    assert!(std::env::var_os("CI").is_none(), "{}", line.trim_end());
    true
}

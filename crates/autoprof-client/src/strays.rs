//! What outlives a client that was killed: found by the variable that everything of its inherits, and ended.
use std::{
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use autoprof_protocol::CLIENT_VARIABLE;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::{clock, poll};

/// How long a tool may take to finish its files: the kernel asked it to end when the client was gone.
const GRACE_MS: u64 = 10_000;
/// How long it may take to die.
const KILL_MS: u64 = 2_000;

/// Ends everything that a client of this directory had started and that still runs; says how many there were.
///
/// # Errors
/// When waiting fails.
pub fn end(dir: &Path) -> io::Result<usize> {
    end_those(|| find(dir, has))
}

/// The same, and other processes of the client's own program: attached controllers whose line is gone but not closed.
///
/// # Errors
/// When waiting fails.
pub fn end_all(dir: &Path) -> io::Result<usize> {
    end_those(|| find(dir, |pid, entry| has(pid, entry) || runs_from(pid, dir)))
}

fn end_those(find: impl Fn() -> Vec<OwnedFd>) -> io::Result<usize> {
    let found = find();
    let count = found.len();
    for (signal, patience_ms) in [(Signal::TERM, GRACE_MS), (Signal::KILL, KILL_MS)] {
        // What it started meanwhile is found as well.
        let left = find();
        for process in &left {
            let _ = pidfd_send_signal(process, signal);
        }
        let deadline = clock::boot_ns() + clock::millis(patience_ms);
        for process in left {
            while clock::boot_ns() < deadline
                && poll::wait([process.as_fd()], Some(deadline))?.iter().all(|flags| flags.is_empty())
            {}
        }
    }
    Ok(count)
}

fn find(dir: &Path, is_ours: impl Fn(u32, &[u8]) -> bool) -> Vec<OwnedFd> {
    let entry = [CLIENT_VARIABLE.as_bytes(), b"=", dir.as_os_str().as_bytes()].concat();
    let me = std::process::id();
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok()).filter(|pid| *pid != me);
    pids.filter_map(|pid| {
        if !is_ours(pid, &entry) {
            return None;
        }
        let process = pidfd_open(Pid::from_raw(i32::try_from(pid).ok()?)?, PidfdFlags::empty()).ok()?;
        // The number may have been given to somebody else between the two.
        is_ours(pid, &entry).then_some(process)
    })
    .collect()
}

/// Whether a process's program lies in a directory.
fn runs_from(pid: u32, dir: &Path) -> bool {
    fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.starts_with(dir))
}

fn has(pid: u32, entry: &[u8]) -> bool {
    fs::read(format!("/proc/{pid}/environ")).is_ok_and(|all| all.split(|b| *b == 0).any(|one| one == entry))
}

//! Removing a client and its directory from a host.
use std::{
    fs, io,
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::Path,
};

use autoprof_protocol::CLIENT_DIR_PREFIX;
use rustix::process::{Signal, pidfd_send_signal};

use crate::{attach::client_process, clock, poll};

/// How long a client may take to end its tools.
const END_MS: u64 = 10_000;

/// Ends the client of a directory if it still runs, then removes the directory, and its parent if it is empty then.
///
/// # Errors
/// When the directory is not one of ours, or something in it cannot be removed.
pub fn clean(dir: &Path) -> io::Result<()> {
    let name = dir.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let meta = fs::symlink_metadata(dir)?;
    let me = rustix::process::geteuid().as_raw();
    if !name.starts_with(CLIENT_DIR_PREFIX) || !meta.is_dir() || meta.uid() != me {
        return Err(io::Error::other(format!("{} is not a client directory of uid {me}", dir.display())));
    }
    end_client(dir)?;
    fs::remove_dir_all(dir)?;
    if let Some(parent) = dir.parent() {
        // Other runs and other users may have directories in it: then it stays.
        let _ = fs::remove_dir(parent);
    }
    Ok(())
}

fn end_client(dir: &Path) -> io::Result<()> {
    for (signal, patience_ms) in [(Signal::TERM, END_MS), (Signal::KILL, 2_000)] {
        let Some(process) = client_process(dir)? else { return Ok(()) };
        let _ = pidfd_send_signal(&process, signal);
        let deadline = clock::boot_ns() + clock::millis(patience_ms);
        while clock::boot_ns() < deadline {
            if poll::wait([process.as_fd()], Some(deadline))?.iter().any(|f| !f.is_empty()) {
                break;
            }
        }
    }
    Ok(())
}

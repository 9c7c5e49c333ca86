//! Removing a client and its directory from a host.
use std::{
    fs, io,
    os::{
        fd::AsFd,
        unix::fs::{MetadataExt, PermissionsExt},
    },
    path::Path,
};

use autoprof_protocol::CLIENT_DIR_PREFIX;
use rustix::process::{Signal, pidfd_send_signal};

use crate::{attach::client_process, clock, poll, settings, strays};

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
    // What a client that was killed had started, and attached controllers whose line is gone but not closed.
    strays::end_all(dir)?;
    settings::restore(dir);
    remove(dir)?;
    remove_parent(dir);
    Ok(())
}

/// Removes the parent of client directories if it looks as autoprof makes it (open to all and sticky, or the user's own
/// beside one that was not to be trusted) and is empty: one that somebody made for it stays, and so does one in which
/// other runs or users have directories.
pub fn remove_parent(dir: &Path) {
    let Some(parent) = dir.parent() else { return };
    let own = format!("-{}", rustix::process::geteuid().as_raw());
    let is_own = parent.to_str().is_some_and(|name| name.ends_with(&own));
    if is_own || fs::symlink_metadata(parent).is_ok_and(|meta| meta.mode() & 0o7777 == 0o1777) {
        let _ = fs::remove_dir(parent);
    }
}

/// Lets this user into every directory below one; what cannot be changed shows when it is removed.
fn open_up(dir: &Path) {
    let _ = fs::set_permissions(dir, fs::Permissions::from_mode(0o700));
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}

/// Removes a directory that nothing works in any more.
///
/// # Errors
/// When something in it cannot be removed.
pub fn remove(dir: &Path) -> io::Result<()> {
    // A process that is just ending may still have put something in.
    let mut tries = 0;
    loop {
        match fs::remove_dir_all(dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty && tries < 10 => tries += 1,
            // A tool may make a directory that not even its own user can read.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied && tries < 10 => {
                tries += 1;
                open_up(dir);
            }
            other => return other,
        }
    }
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

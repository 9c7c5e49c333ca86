//! Launching the client in the background of a host.
use std::{
    fs::{self, OpenOptions},
    io::{self, Read, Write},
    os::unix::{fs::OpenOptionsExt, process::CommandExt},
    path::Path,
    process::{Command, Stdio},
};

use autoprof_protocol::{CLIENT_PROGRAM, CONTROL_FILE, LOG_FILE};

use crate::attach::client_process;

/// Largest control file that is taken.
const LARGEST: u64 = 16 << 20;

/// Writes the control file, which comes on standard input, and leaves a client running in the directory; after an
/// earlier client that is gone, one that goes on with its work.
///
/// # Errors
/// When a client is in charge of the directory, or something cannot be written or started.
pub fn launch(dir: &Path) -> io::Result<()> {
    let mut control = Vec::new();
    io::stdin().lock().take(LARGEST).read_to_end(&mut control)?;
    if client_process(dir)?.is_some() {
        return Err(io::Error::other("another client is in charge of this directory"));
    }
    // Whole or not at all, and under its name only then: a machine may lose power here.
    let fresh = dir.join(format!("{CONTROL_FILE}.{}", std::process::id()));
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?.write_all(&control);
    made.and_then(|()| fs::rename(&fresh, dir.join(CONTROL_FILE))).inspect_err(|_| drop(fs::remove_file(&fresh)))?;
    let log = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(dir.join(LOG_FILE))?;
    Command::new("/proc/self/exe")
        // What `ps` shows: the client's name, not `/proc/self/exe`.
        .arg0(CLIENT_PROGRAM)
        .arg("run")
        .arg(dir)
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    Ok(())
}

//! Launching the client in the background of a host.
use std::{
    fs::OpenOptions,
    io::{self, Read, Write},
    os::unix::{fs::OpenOptionsExt, process::CommandExt},
    path::Path,
    process::{Command, Stdio},
};

use autoprof_protocol::{CLIENT_PROGRAM, CONTROL_FILE, LOG_FILE};

/// Largest control file that is taken.
const LARGEST: u64 = 16 << 20;

/// Writes the control file, which comes on standard input, and leaves a client running in the directory.
///
/// # Errors
/// When the directory already has a control file, or something cannot be written or started.
pub fn launch(dir: &Path) -> io::Result<()> {
    let mut control = Vec::new();
    io::stdin().lock().take(LARGEST).read_to_end(&mut control)?;
    let create = |name: &str| OpenOptions::new().write(true).create_new(true).mode(0o600).open(dir.join(name));
    create(CONTROL_FILE)?.write_all(&control)?;
    let log = create(LOG_FILE)?;
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

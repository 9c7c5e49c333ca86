//! Leaving a relay in the background.
use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    path::Path,
    process::{Command, Stdio},
};

use autoprof_relay::READY;
use rustix::fs::{FlockOperation, flock};

/// Locked by the relay that serves.
const LOCK: &str = "relay.lock";
/// What it has to say that nobody hears.
const LOG: &str = "relay.log";

/// Starts a relay for the client of a directory, unless one is there.
///
/// # Errors
/// When it does not come up: what it said.
pub fn start(dir: &Path) -> io::Result<()> {
    let mut order = Vec::new();
    io::stdin().read_to_end(&mut order)?;
    if lock(dir)?.is_some() {
        let log = File::create(dir.join(LOG))?;
        let mut relay = Command::new(std::env::current_exe()?);
        relay.arg("serve").arg(dir).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut relay = relay.spawn()?;
        if let Some(mut stdin) = relay.stdin.take() {
            // One that ends early has its reasons, and says them.
            let _ = stdin.write_all(&order);
        }
        let mut line = String::new();
        if let Some(stdout) = relay.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        if line.trim() != READY {
            let status = relay.wait()?;
            let said = fs::read_to_string(dir.join(LOG)).unwrap_or_default();
            return Err(io::Error::other(format!("the relay did not come up ({status}): {}", said.trim())));
        }
    }
    println!("{READY}");
    Ok(())
}

/// Takes a directory's lock, which is held as long as the file is open; none: a relay has it.
pub fn lock(dir: &Path) -> io::Result<Option<File>> {
    let lock = File::options().create(true).truncate(false).write(true).open(dir.join(LOCK))?;
    Ok(flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok().then_some(lock))
}

//! What dead clients of this user left behind: found, and removed when nobody can want it any more.
use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, SystemTime},
};

use autoprof_protocol::{CLIENT_DIR_PREFIX, CONTROL_FILE, EVENTS_FILE, Kept, RESULTS_DIR, Swept};

use rustix::fs::{FlockOperation, flock};

use crate::{attach, clean, settings, strays};

/// How old a directory without a client must be: a younger one may be one that a run is just installing.
const INSTALLING: Duration = Duration::from_secs(600);

/// What to do with what is found.
#[derive(Debug, Clone, Copy, Default)]
pub struct How {
    remove: bool,
    results: bool,
}

impl How {
    /// From words of a command line.
    pub fn from_words(words: &[&str]) -> Self {
        Self { remove: words.contains(&"remove"), results: words.contains(&"results") }
    }
}

/// Prints a line of JSON for each client directory of this user in `tmpdir`.
///
/// # Errors
/// When the directory is there and cannot be read.
pub fn sweep(tmpdir: &Path, how: How) -> io::Result<()> {
    let entries = match fs::read_dir(tmpdir) {
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(()),
        other => other?,
    };
    let me = rustix::process::geteuid().as_raw();
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        // `metadata` of an entry does not follow links.
        let Ok(meta) = entry.metadata() else { continue };
        let ours = name.to_str().is_some_and(|n| n.starts_with(CLIENT_DIR_PREFIX)) && meta.is_dir() && meta.uid() == me;
        if ours {
            let swept = look(&path, &meta, how);
            println!("{}", serde_json::to_string(&swept)?);
        }
    }
    if how.remove {
        clean::remove_parent(&tmpdir.join(CLIENT_DIR_PREFIX));
    }
    Ok(())
}

/// Says that the results in a directory are wanted, for as long as the file is held.
///
/// # Errors
/// When the directory cannot be opened.
pub fn hold(dir: &Path) -> io::Result<fs::File> {
    let dir = fs::File::open(dir)?;
    // Several may fetch at once; a file system without locks is no reason not to.
    let _ = flock(&dir, FlockOperation::NonBlockingLockShared);
    Ok(dir)
}

/// Whether somebody fetches the results in a directory, or may come back for them: a controller that lost its host for a
/// while looks for it as long as the client's lease.
fn is_wanted(dir: &Path) -> bool {
    let held = fs::File::open(dir)
        .is_ok_and(|dir| flock(&dir, FlockOperation::NonBlockingLockExclusive) == Err(rustix::io::Errno::AGAIN));
    let spoke = fs::metadata(dir.join(EVENTS_FILE)).and_then(|meta| meta.modified());
    let ago = spoke.ok().and_then(|at| SystemTime::now().duration_since(at).ok());
    held || ago.zip(lease_of(dir)).is_some_and(|(ago, lease)| ago < lease)
}

fn look(dir: &Path, meta: &fs::Metadata, how: How) -> Swept {
    let age = meta.modified().ok().and_then(|at| SystemTime::now().duration_since(at).ok()).unwrap_or_default();
    let mut swept = Swept {
        directory: dir.display().to_string(),
        run: run_of(dir),
        age_s: age.as_secs(),
        bytes: attach::size(&dir.join(RESULTS_DIR)),
        kept: None,
        removed: false,
    };
    if how.remove && matches!(attach::client_process(dir), Ok(None)) {
        // What stays since it holds results has no claim on the host's settings.
        settings::restore(dir);
    }
    swept.kept = if !matches!(attach::client_process(dir), Ok(None)) {
        Some(Kept::InUse)
    } else if swept.run.is_none() && age < INSTALLING {
        Some(Kept::Young)
    } else if swept.bytes > 0 && !how.results {
        Some(Kept::Results)
    } else if swept.bytes > 0 && is_wanted(dir) {
        Some(Kept::Wanted)
    } else {
        None
    };
    if how.remove && swept.kept.is_none() {
        let ended = strays::end_all(dir);
        settings::restore(dir);
        let gone = ended.and_then(|_| clean::remove(dir));
        swept.removed = gone.is_ok();
        swept.kept = gone.err().map(|e| Kept::Failed(e.to_string()));
    }
    swept
}

/// The run that a directory is of, from its control file.
fn run_of(dir: &Path) -> Option<String> {
    Some(said_by_control(dir, "\"run\": \"")?.split_once('"')?.0.to_owned())
}

/// How long the client of a directory would have gone on without its controller; none: as long as it went on at all.
fn lease_of(dir: &Path) -> Option<Duration> {
    let after = said_by_control(dir, "\"lease_ms\": ")?;
    let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
    after[..digits].parse().ok().map(Duration::from_millis)
}

/// What follows a key in the control file, which may be of another version: no more of it is understood.
fn said_by_control(dir: &Path, key: &str) -> Option<String> {
    let control = fs::read(dir.join(CONTROL_FILE)).ok()?;
    let text = String::from_utf8_lossy(&control);
    Some(text.split_once(key)?.1.to_owned())
}

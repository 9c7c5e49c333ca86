//! What dead clients of this user left behind: found, and removed when nobody can want it any more.
use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, SystemTime},
};

use autoprof_protocol::{CLIENT_DIR_PREFIX, CONTROL_FILE, Kept, RESULTS_DIR, Swept};

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
    } else {
        None
    };
    if how.remove && swept.kept.is_none() {
        let ended = strays::end(dir);
        settings::restore(dir);
        let gone = ended.and_then(|_| clean::remove(dir));
        swept.removed = gone.is_ok();
        swept.kept = gone.err().map(|e| Kept::Failed(e.to_string()));
    }
    swept
}

/// The run that a directory is of, from its control file.
fn run_of(dir: &Path) -> Option<String> {
    let control = fs::read(dir.join(CONTROL_FILE)).ok()?;
    // No more of it is read: it may be of another version.
    let text = String::from_utf8_lossy(&control);
    let (_, after) = text.split_once("\"run\": \"")?;
    Some(after.split_once('"')?.0.to_owned())
}

//! Whether somebody else could have put a file there: a plugin runs with the user's rights.
use std::{fs, os::unix::fs::MetadataExt as _};

use camino::Utf8Path;
use rustix::process::{getegid, geteuid};

use crate::PluginFileError;

/// Which files may be loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Trust {
    /// Those that only root and the user could have put there.
    #[default]
    Owned,
    /// All.
    Any,
}

/// Checks a file and every directory above it; `path` is absolute and without links.
///
/// # Errors
/// When one of them belongs to, or can be written by, somebody other than root and the user.
pub(crate) fn check(path: &Utf8Path) -> Result<(), PluginFileError> {
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    for (nth, path) in path.ancestors().enumerate() {
        let metadata = fs::metadata(path)?;
        let (mode, owner, gid) = (metadata.mode(), metadata.uid(), metadata.gid());
        let refuse = |reason: String| Err(PluginFileError::Untrusted { path: path.to_owned(), reason });
        if owner != 0 && owner != user {
            return refuse(format!("belongs to uid {owner}, who is neither you nor root"));
        }
        // In a sticky directory nobody can replace what is not theirs, and what is below it was checked just now.
        let sticky = nth > 0 && mode & 0o1000 != 0;
        if mode & 0o002 != 0 && !sticky {
            return refuse(format!("can be written by everyone (mode {:o})", mode & 0o7777));
        }
        if mode & 0o020 != 0 && gid != group && gid != 0 && !sticky {
            return refuse(format!("can be written by group {gid} (mode {:o})", mode & 0o7777));
        }
    }
    Ok(())
}

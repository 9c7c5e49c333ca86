//! What a run left behind on a host.

use std::fmt;

use camino::{Utf8Path, Utf8PathBuf};

use crate::process::Process;

/// What is on a host that was not there when it started.
#[derive(Debug, Clone)]
pub struct Leftovers {
    /// The host's name.
    pub host: String,
    /// Processes of its sessions and all that came of them.
    pub processes: Vec<Process>,
    /// Files and directories, as the host sees them: below its temporary directory and its home, and with namespaces
    /// anywhere in its `/tmp` and `/var/tmp`. The temporary directory itself does not count, nor what shells write
    /// into a home.
    pub files: Vec<Utf8PathBuf>,
}

impl Leftovers {
    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.processes.is_empty() && self.files.is_empty()
    }
}

impl fmt::Display for Leftovers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for process in &self.processes {
            writeln!(f, "{}: {process}", self.host)?;
        }
        for file in &self.files {
            writeln!(f, "{}: file {file}", self.host)?;
        }
        Ok(())
    }
}

/// Adds everything below `directory`, named as if it lay below `shown`.
pub(crate) fn collect(directory: &Utf8Path, shown: &Utf8Path, into: &mut Vec<Utf8PathBuf>) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let shown = shown.join(&name);
        if is_of_a_shell(&shown) || Some(name.as_str()) == crate::keeper::keeper().scratch().file_name() {
            continue;
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&directory.join(&name), &shown, into);
        }
        into.push(shown);
    }
}

fn is_of_a_shell(path: &Utf8Path) -> bool {
    let own = |name: &str| matches!(name, ".config" | ".local" | ".cache" | ".bash_history");
    path.file_name().is_some_and(own) && path.parent().is_some_and(|parent| parent.file_name() == Some("home"))
}

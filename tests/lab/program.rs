//! Programs of this machine: where they are, and directories that lack some of them.

use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use camino::{Utf8Path, Utf8PathBuf};

/// Where a host's sessions look for programs.
pub(crate) const DIRECTORIES: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Finds a program in `PATH`, or in the directories for administrators that a user's `PATH` lacks.
pub fn find_program(name: &str) -> Option<Utf8PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(DIRECTORIES)
        .filter(|directory| directory.starts_with('/'))
        .map(|directory| Utf8Path::new(directory).join(name))
        .find(|file| is_executable(file.as_std_path()))
}

/// The `PATH` of a host that has all programs.
pub(crate) fn full_path() -> String {
    DIRECTORIES.join(":")
}

/// Fills `directory` with links to every program of this machine except `without`.
pub(crate) fn link_all_but(without: &BTreeSet<String>, directory: &Utf8Path) {
    std::fs::create_dir_all(directory).unwrap_or_else(|error| panic!("cannot make {directory}: {error}"));
    for from in DIRECTORIES {
        let Ok(entries) = std::fs::read_dir(from) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if !name.to_str().is_some_and(|name| without.contains(name)) {
                // The first directory of the list wins, as it does in PATH; the others fail here.
                let _ = symlink(entry.path(), directory.as_std_path().join(&name));
            }
        }
    }
}

fn is_executable(file: &Path) -> bool {
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

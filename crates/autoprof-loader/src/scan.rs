//! Looks at files without running anything of them.
use std::{
    collections::{BTreeMap, HashSet},
    fs, io,
    os::unix::fs::MetadataExt as _,
};

use autoprof_abi::note::{INTERFACE, PluginNote};
use camino::{Utf8Path, Utf8PathBuf};

use crate::{PluginFileError, Trust, elf::read_note, trust};

/// A file that can be loaded; nothing of it has run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The file, absolute and without links.
    pub path: Utf8PathBuf,
    /// What it says of itself.
    pub note: PluginNote,
    /// The file of the same plugin that is used instead, from an earlier directory.
    pub shadowed_by: Option<Utf8PathBuf>,
}

/// A file that cannot be loaded.
#[derive(Debug)]
pub struct Rejected {
    /// The file as it was found, or the directory.
    pub path: Utf8PathBuf,
    /// Why.
    pub error: PluginFileError,
}

/// What is in some directories.
#[derive(Debug, Default)]
pub struct Scan {
    /// Files that can be loaded, in the order of the directories, then of their names.
    pub found: Vec<Candidate>,
    /// Files that cannot.
    pub rejected: Vec<Rejected>,
}

/// Looks at every `.so` in these directories, not below them; a directory that is not there is none.
#[must_use]
pub fn scan(dirs: &[Utf8PathBuf], trust: Trust) -> Scan {
    let mut scanner = Scanner { scan: Scan::default(), trust, seen: HashSet::new(), by_name: BTreeMap::new() };
    for (nth, dir) in dirs.iter().enumerate() {
        match libraries(dir) {
            Ok(entries) => entries.into_iter().for_each(|entry| scanner.take(nth, entry)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => scanner.scan.rejected.push(Rejected { path: dir.clone(), error: e.into() }),
        }
    }
    scanner.scan
}

/// Paths of a directory's `.so` files by name; a path that is not UTF-8 comes as what can be shown of it.
fn libraries(dir: &Utf8Path) -> io::Result<Vec<Result<Utf8PathBuf, Utf8PathBuf>>> {
    let mut out = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == std::env::consts::DLL_EXTENSION) {
            let shown = |path: std::path::PathBuf| Utf8PathBuf::from(path.to_string_lossy().into_owned());
            out.push(Utf8PathBuf::from_path_buf(path).map_err(shown));
        }
    }
    out.sort();
    Ok(out)
}

struct Scanner {
    scan: Scan,
    trust: Trust,
    /// Device and inode of files that were looked at: links and directories given twice are no second plugin.
    seen: HashSet<(u64, u64)>,
    /// Plugin name → directory and file that came first.
    by_name: BTreeMap<String, (usize, Utf8PathBuf)>,
}

impl Scanner {
    fn take(&mut self, directory: usize, entry: Result<Utf8PathBuf, Utf8PathBuf>) {
        let (path, looked) = match entry {
            Ok(path) => {
                let looked = self.look(&path);
                (path, looked)
            }
            Err(shown) => (shown, Err(PluginFileError::NameNotUtf8)),
        };
        match looked.and_then(|found| found.map(|(real, note)| self.name(directory, real, note)).transpose()) {
            Ok(None) => {}
            Ok(Some(candidate)) => self.scan.found.push(candidate),
            Err(error) => self.scan.rejected.push(Rejected { path, error }),
        }
    }

    /// The real path and the note; none for a file that was looked at already.
    fn look(&mut self, path: &Utf8Path) -> Result<Option<(Utf8PathBuf, PluginNote)>, PluginFileError> {
        let real = path.canonicalize_utf8()?;
        let metadata = fs::metadata(&real)?;
        if !self.seen.insert((metadata.dev(), metadata.ino())) {
            tracing::debug!(%path, "the same file was found before");
            return Ok(None);
        }
        let note = inspect(&real, self.trust)?;
        Ok(Some((real, note)))
    }

    fn name(&mut self, directory: usize, path: Utf8PathBuf, note: PluginNote) -> Result<Candidate, PluginFileError> {
        let shadowed_by = match self.by_name.get(&note.name) {
            Some((first, other)) if *first == directory => {
                return Err(PluginFileError::SameName { name: note.name, other: other.clone() });
            }
            Some((_, other)) => Some(other.clone()),
            None => {
                self.by_name.insert(note.name.clone(), (directory, path.clone()));
                None
            }
        };
        Ok(Candidate { path, note, shadowed_by })
    }
}

/// Looks at one file, whose path is absolute and without links.
pub(crate) fn inspect(real: &Utf8Path, trust: Trust) -> Result<PluginNote, PluginFileError> {
    if trust == Trust::Owned {
        trust::check(real)?;
    }
    let note = read_note(real)?;
    if major(&note.interface).is_none() || major(&note.interface) != major(INTERFACE) {
        return Err(PluginFileError::OtherInterface { found: note.interface, wanted: INTERFACE });
    }
    if note.panic != "unwind" {
        return Err(PluginFileError::PanicAbort);
    }
    Ok(note)
}

/// Within one major version either side may be the newer.
fn major(version: &str) -> Option<u32> {
    version.split('.').next()?.parse().ok()
}

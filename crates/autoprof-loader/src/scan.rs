//! Looks at files without running anything of them.
use std::{
    collections::{BTreeMap, HashSet},
    fs, io,
};

use autoprof_abi::note::{INTERFACE, PluginNote};
use autoprof_core::trust::{self, Directory, Place};
use blake3::Hash;
use camino::{Utf8Path, Utf8PathBuf};

use crate::{
    PluginFileError, Policy, Trust,
    file::{Identity, PluginFile},
};

/// A file that can be loaded; nothing of it has run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The file, absolute and without links.
    pub path: Utf8PathBuf,
    /// What it says of itself.
    pub note: PluginNote,
    /// The file of the same plugin that is used instead, from an earlier directory.
    pub shadowed_by: Option<Utf8PathBuf>,
    /// How it was when it was looked at, so that nothing else is loaded in its place.
    pub(crate) looked_at: LookedAt,
}

impl Candidate {
    /// Whether its content is one that a file of `plugin lock` lists.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.looked_at.digest.is_some()
    }

    /// The file as it was looked at, opened and checked anew.
    ///
    /// # Errors
    /// When it is not trusted any more, or changed.
    pub(crate) fn open(&self) -> Result<PluginFile, PluginFileError> {
        let file = PluginFile::open(&self.path, self.looked_at.trust)?;
        if file.identity == self.looked_at.identity { Ok(file) } else { Err(PluginFileError::Changed) }
    }
}

/// What was seen of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LookedAt {
    /// What it had to pass.
    trust: Trust,
    /// Which file it was, in which state.
    identity: Identity,
    /// What its content must be, where that was asked for.
    pub(crate) digest: Option<Hash>,
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
pub fn scan(dirs: &[Utf8PathBuf], policy: impl Into<Policy>) -> Scan {
    let policy = policy.into();
    let mut scanner =
        Scanner { directory: None, scan: Scan::default(), policy, seen: HashSet::new(), by_name: BTreeMap::new() };
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
    // By their bytes: they have the directory in common, and to compare paths by their parts takes longer than the rest.
    out.sort_by(|a, b| shown(a).cmp(shown(b)));
    Ok(out)
}

/// What there is to see of a name.
fn shown(entry: &Result<Utf8PathBuf, Utf8PathBuf>) -> &str {
    entry.as_ref().map_or_else(|path| path.as_str(), |path| path.as_str())
}

struct Scanner {
    /// The directory that is looked at.
    directory: Option<(Utf8PathBuf, Directory)>,
    scan: Scan,
    policy: Policy,
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
        match looked.and_then(|found| found.map(|found| self.name(directory, found)).transpose()) {
            Ok(None) => {}
            Ok(Some(candidate)) => self.scan.found.push(candidate),
            Err(error) => self.scan.rejected.push(Rejected { path, error }),
        }
    }

    /// What is there; none for a file that was looked at already.
    fn look(&mut self, path: &Utf8Path) -> Result<Option<Candidate>, PluginFileError> {
        let file = PluginFile::at(self.place(path)?)?;
        if !self.seen.insert(file.identity.number()) {
            tracing::debug!(%path, "the same file was found before");
            return Ok(None);
        }
        inspect(file, &self.policy).map(Some)
    }

    /// Finds a file; the way to its directory is known from the one before.
    fn place(&mut self, path: &Utf8Path) -> Result<Place, PluginFileError> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(trust::find(path, self.policy.trust)?);
        };
        let (_, directory) = match self.directory.take_if(|(known, _)| known == parent) {
            Some(known) => self.directory.insert(known),
            None => {
                let found = Directory::find(parent, self.policy.trust)?;
                self.directory.insert((parent.to_owned(), found))
            }
        };
        Ok(directory.entry(name)?)
    }

    fn name(&mut self, directory: usize, found: Candidate) -> Result<Candidate, PluginFileError> {
        let shadowed_by = match self.by_name.get(&found.note.name) {
            Some((first, other)) if *first == directory => {
                return Err(PluginFileError::SameName { name: found.note.name, other: other.clone() });
            }
            Some((_, other)) => Some(other.clone()),
            None => {
                self.by_name.insert(found.note.name.clone(), (directory, found.path.clone()));
                None
            }
        };
        Ok(Candidate { shadowed_by, ..found })
    }
}

/// Looks at one file.
fn inspect(file: PluginFile, policy: &Policy) -> Result<Candidate, PluginFileError> {
    let note = file.note()?;
    if major(&note.interface).is_none() || major(&note.interface) != major(INTERFACE) {
        return Err(PluginFileError::OtherInterface { found: note.interface, wanted: INTERFACE });
    }
    if note.panic != "unwind" {
        return Err(PluginFileError::PanicAbort);
    }
    // Hashing takes longer than all the rest: only where somebody asked for it.
    let digest = match &policy.lock {
        Some(lock) => {
            let digest = file.digest()?;
            lock.check(&note.name, &file.path, &digest)?;
            Some(digest)
        }
        None => None,
    };
    let looked_at = LookedAt { trust: policy.trust, identity: file.identity, digest };
    Ok(Candidate { path: file.path, note, shadowed_by: None, looked_at })
}

/// Within one major version either side may be the newer.
fn major(version: &str) -> Option<u32> {
    version.split('.').next()?.parse().ok()
}

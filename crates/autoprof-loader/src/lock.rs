//! `plugins.lock`: which plugins may be loaded, by what is in them.
//!
//! Where files belong to the right user and yet something may have been put among them (a package, a build, a script of
//! one's own), this says what was there when somebody looked. It is JSON, sorted, one value a line, so that a change
//! can be read in a diff.
use std::{
    collections::BTreeMap,
    env, fs,
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
};

use autoprof_core::trust;
use blake3::Hash;
use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use crate::{LockError, PluginFileError, Plugins, Trust, file::PluginFile};

/// Environment variable with the file to use.
pub const PLUGINS_LOCK_VARIABLE: &str = "AUTOPROF_PLUGINS_LOCK";

const VERSION: u64 = 1;
/// Thousands of plugins.
const MAX_LENGTH: u64 = 1 << 20;

/// The plugins that may be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    path: Utf8PathBuf,
    plugins: Vec<LockedPlugin>,
}

/// One plugin that may be loaded. The digest decides; the names are for people.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedPlugin {
    /// The plugin's name.
    pub name: String,
    /// Its file's name, without the directory.
    pub file: String,
    /// The BLAKE3 digest of its content, in hexadecimal.
    pub blake3: String,
}

/// How one list differs from an earlier one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockChange {
    /// It was not listed.
    Added(LockedPlugin),
    /// It was listed with another content.
    Changed(LockedPlugin),
    /// It is listed no more.
    Removed(LockedPlugin),
}

/// What all versions have.
#[derive(Deserialize)]
struct Head {
    version: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    version: u64,
    plugins: Vec<LockedPlugin>,
}

impl Lock {
    /// The file that is used when none is named: `autoprof/plugins.lock` in the user's directory of settings.
    #[must_use]
    pub fn default_path() -> Option<Utf8PathBuf> {
        let absolute = |name: &str| env::var(name).ok().map(Utf8PathBuf::from).filter(|path| path.is_absolute());
        let settings = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")))?;
        Some(settings.join("autoprof/plugins.lock"))
    }

    /// The list that is named, else the default one if it is there.
    ///
    /// # Errors
    /// When it cannot be used; a file that is named has to be there.
    pub fn find(named: Option<&Utf8Path>) -> Result<Option<Self>, LockError> {
        if let Some(path) = named {
            return Self::read(path).map(Some);
        }
        let there = |path: &Utf8PathBuf| {
            // A link to nowhere was meant to be a list.
            !fs::symlink_metadata(path).is_err_and(|e| e.kind() == io::ErrorKind::NotFound)
        };
        Self::default_path().filter(there).map(|path| Self::read(&path)).transpose()
    }

    /// Reads a list.
    ///
    /// # Errors
    /// When it cannot be read, others could have written it, or it is not one.
    pub fn read(path: &Utf8Path) -> Result<Self, LockError> {
        let failed = |source: io::Error| LockError::Read { path: path.to_owned(), source };
        let damaged = |reason: String| LockError::Damaged { path: path.to_owned(), reason };
        let file = PluginFile::open(path, Trust::Owned).map_err(|e| not_ours(path, e))?;
        let mut text = Vec::new();
        file.into_file().take(MAX_LENGTH + 1).read_to_end(&mut text).map_err(failed)?;
        if text.len() as u64 > MAX_LENGTH {
            return Err(damaged("it is too long".to_owned()));
        }
        let head: Head = serde_json::from_slice(&text).map_err(|e| damaged(e.to_string()))?;
        if head.version != VERSION {
            return Err(LockError::OtherVersion { path: path.to_owned(), found: head.version, wanted: VERSION });
        }
        let text: Text = serde_json::from_slice(&text).map_err(|e| damaged(e.to_string()))?;
        for plugin in &text.plugins {
            Hash::from_hex(&plugin.blake3).map_err(|e| damaged(format!("the digest of {}: {e}", plugin.name)))?;
        }
        Ok(Self { path: path.to_owned(), plugins: text.plugins })
    }

    /// Lists the plugins that are used; runs no code of theirs.
    ///
    /// # Errors
    /// When one cannot be read, or changed since it was looked at.
    pub fn of(plugins: &Plugins, path: &Utf8Path) -> Result<Self, LockError> {
        let mut listed = Vec::new();
        for candidate in plugins.usable() {
            let in_plugin = |source: PluginFileError| LockError::Plugin { path: candidate.path.clone(), source };
            let file = candidate.open().map_err(in_plugin)?;
            listed.push(LockedPlugin {
                name: candidate.note.name.clone(),
                file: candidate.path.file_name().unwrap_or_default().to_owned(),
                blake3: file.digest().map_err(|e| in_plugin(e.into()))?.to_hex().to_string(),
            });
        }
        listed.sort();
        Ok(Self { path: path.to_owned(), plugins: listed })
    }

    /// Where it is, or is to be.
    #[must_use]
    pub fn path(&self) -> &Utf8Path {
        &self.path
    }

    /// What it lists.
    #[must_use]
    pub fn plugins(&self) -> &[LockedPlugin] {
        &self.plugins
    }

    /// Writes it, in place of what is there; a reader sees one or the other.
    ///
    /// # Errors
    /// When it cannot be written, or others could change it where it is.
    pub fn write(&self) -> Result<(), LockError> {
        let failed = |source: io::Error| LockError::Write { path: self.path.clone(), source };
        let text = Text { version: VERSION, plugins: self.plugins.clone() };
        let text = serde_json::to_string_pretty(&text).map_err(|e| failed(e.into()))?;
        let directory = match self.path.parent() {
            Some(parent) if !parent.as_str().is_empty() => parent,
            _ => Utf8Path::new("."),
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
        // Nobody could use it there, so it is not written there.
        trust::find(directory, Trust::Owned).map_err(|e| not_ours(&self.path, e.into()))?;
        let mut new = tempfile::NamedTempFile::new_in(directory).map_err(failed)?;
        new.write_all(format!("{text}\n").as_bytes()).map_err(failed)?;
        new.as_file().set_permissions(fs::Permissions::from_mode(0o644)).map_err(failed)?;
        new.as_file().sync_all().map_err(failed)?;
        new.persist(&self.path).map_err(|e| failed(e.error))?;
        Ok(())
    }

    /// How it differs from an earlier one, by name.
    #[must_use]
    pub fn changes_since(&self, earlier: &Self) -> Vec<LockChange> {
        let by_name = |lock: &Self| -> BTreeMap<String, LockedPlugin> {
            lock.plugins.iter().map(|plugin| (plugin.name.clone(), plugin.clone())).collect()
        };
        let (before, now) = (by_name(earlier), by_name(self));
        let mut out: Vec<LockChange> = now
            .values()
            .filter_map(|plugin| match before.get(&plugin.name) {
                None => Some(LockChange::Added(plugin.clone())),
                Some(old) if old.blake3 != plugin.blake3 => Some(LockChange::Changed(plugin.clone())),
                Some(_) => None,
            })
            .collect();
        out.extend(before.into_values().filter(|old| !now.contains_key(&old.name)).map(LockChange::Removed));
        out
    }

    /// Whether a content is listed.
    pub(crate) fn check(&self, name: &str, file: &Utf8Path, digest: &Hash) -> Result<(), PluginFileError> {
        let listed = digest.to_hex();
        if self.plugins.iter().any(|plugin| plugin.blake3 == listed.as_str()) {
            return Ok(());
        }
        let known = |plugin: &LockedPlugin| plugin.name == name || Some(plugin.file.as_str()) == file.file_name();
        let lock = self.path.clone();
        Err(if self.plugins.iter().any(known) {
            PluginFileError::ChangedSinceLock { lock }
        } else {
            PluginFileError::NotInLock { lock }
        })
    }
}

/// The rules are those for plugins, the words are not.
fn not_ours(path: &Utf8Path, error: PluginFileError) -> LockError {
    let path = path.to_owned();
    match error {
        PluginFileError::Untrusted { path: place, reason } => LockError::Untrusted { path, place, reason },
        PluginFileError::Io(source) => LockError::Read { path, source },
        PluginFileError::NotALibrary(reason) => LockError::Read { path, source: io::Error::other(reason) },
        other => LockError::Read { path, source: io::Error::other(other.to_string()) },
    }
}

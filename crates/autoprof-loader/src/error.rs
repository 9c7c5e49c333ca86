//! Why a file is not usable as a plugin: one line each, which says what to do where that is known.
use std::io;

use autoprof_core::{
    registry::{AlreadyRegistered, NotRegistered},
    trust::TrustError,
};
use camino::Utf8PathBuf;

/// Why a file is not usable as a plugin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PluginFileError {
    /// The file, or the directory, could not be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// Names of plugins are shown and written into records.
    #[error("its file name is not UTF-8: rename it")]
    NameNotUtf8,
    /// Not an ELF shared library, or not all of one.
    #[error("not a shared library: {0}")]
    NotALibrary(String),
    /// For another processor.
    #[error("built for another machine: {found}, this one is {wanted}")]
    OtherMachine {
        /// The file's.
        found: String,
        /// This program's.
        wanted: &'static str,
    },
    /// Without our note.
    #[error("a shared library, but not an autoprof plugin")]
    NotAPlugin,
    /// With a note that cannot be read.
    #[error("its description of itself is damaged: {0}")]
    BadNote(String),
    /// For an interface that is not compatible.
    #[error(
        "built for plugin interface {found}, this autoprof has {wanted}: rebuild it with this autoprof's autoprof-plugin"
    )]
    OtherInterface {
        /// The file's.
        found: String,
        /// This program's.
        wanted: &'static str,
    },
    /// Panics in it could not be contained.
    #[error(
        "built with panic = \"abort\", so that a panic in it would end autoprof: rebuild it with panic = \"unwind\""
    )]
    PanicAbort,
    /// Somebody else could have put it there.
    #[error("not trusted: {path} {reason}; change its owner or mode, or allow untrusted plugins")]
    Untrusted {
        /// The file, or a directory above it.
        path: Utf8PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Not what it was when the contents of plugins were written down.
    #[error("changed since `autoprof plugin lock` wrote {lock}; if that is as it should be, run it again")]
    ChangedSinceLock {
        /// The file that lists what may be loaded.
        lock: Utf8PathBuf,
    },
    /// Not among the plugins whose contents were written down.
    #[error("not in {lock}; if you trust it, run `autoprof plugin lock` again")]
    NotInLock {
        /// The file that lists what may be loaded.
        lock: Utf8PathBuf,
    },
    /// Which of the two is meant cannot be known.
    #[error("plugin {name} is in this directory twice: the other file is {other}")]
    SameName {
        /// The plugin's name.
        name: String,
        /// The file that came first.
        other: Utf8PathBuf,
    },
    /// Replaced between scan and load.
    #[error("it changed after it was looked at: try again")]
    Changed,
    /// `dlopen` or `dlsym` failed.
    #[error("the system cannot load it: {0}")]
    Dlopen(String),
    /// The layout of a type differs although the version is the same.
    #[error("its interface does not fit: {summary}")]
    Interface {
        /// The innermost difference.
        summary: String,
        /// The whole report, up to tens of kilobytes.
        full: String,
    },
    /// Its `register` failed or panicked.
    #[error("its start failed: {0}")]
    Start(String),
    /// The note would have misled everyone who did not load it.
    #[error("its description of itself is wrong: {0}")]
    Mismatch(String),
    /// Another plugin has the name.
    #[error("it cannot be used beside the others: {0}")]
    Taken(#[from] AlreadyRegistered),
}

impl From<TrustError> for PluginFileError {
    fn from(e: TrustError) -> Self {
        match e {
            TrustError::Io(e) => Self::Io(e),
            TrustError::NameNotUtf8 => Self::NameNotUtf8,
            TrustError::Untrusted { path, reason } => Self::Untrusted { path, reason },
            other => Self::Io(io::Error::other(other)),
        }
    }
}

/// Why a file that lists what may be loaded cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// It is not there, or not to be read.
    #[error("cannot read {path}, which says what plugins may be loaded: {source}")]
    Read {
        /// The file.
        path: Utf8PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else could have written it.
    #[error("{path} says what plugins may be loaded, but {place} {reason}; change its owner or mode")]
    Untrusted {
        /// The file.
        path: Utf8PathBuf,
        /// It, or what is on the way to it.
        place: Utf8PathBuf,
        /// What is wrong with that.
        reason: String,
    },
    /// It says something else than what it should.
    #[error("{path} does not list plugins: {reason}; `autoprof plugin lock` writes it anew")]
    Damaged {
        /// The file.
        path: Utf8PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Another autoprof wrote it.
    #[error("{path} has version {found}, this autoprof reads version {wanted}; `autoprof plugin lock` writes it anew")]
    OtherVersion {
        /// The file.
        path: Utf8PathBuf,
        /// The file's.
        found: u64,
        /// This program's.
        wanted: u64,
    },
    /// It cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: Utf8PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A plugin cannot be listed.
    #[error("plugin {path}: {source}")]
    Plugin {
        /// The plugin's file.
        path: Utf8PathBuf,
        /// Why.
        source: PluginFileError,
    },
}

/// Why what is wanted cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// No plugin has it.
    #[error("{wanted}{}", refused.as_ref().map(|r| format!("; {r}")).unwrap_or_default())]
    NotProvided {
        /// What there is instead.
        wanted: NotRegistered,
        /// A refused file that looks as if it had it, and why it was refused.
        refused: Option<String>,
    },
    /// The plugin that has it cannot be used.
    #[error("plugin {path}: {source}")]
    File {
        /// The plugin's file.
        path: Utf8PathBuf,
        /// Why.
        source: PluginFileError,
    },
}

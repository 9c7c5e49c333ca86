//! Why a file is not usable as a plugin: one line each, which says what to do where that is known.
use std::io;

use autoprof_core::registry::{AlreadyRegistered, NotRegistered};
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

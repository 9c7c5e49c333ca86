//! What is wrong with a configuration, and where.
use std::{fmt, path::Path, sync::Arc};

use autoprof_plugin::prelude::*;

/// A line of a configuration file, or the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    file: Arc<str>,
    line: usize,
}

impl Place {
    pub(crate) fn new(file: Arc<str>, line: usize) -> Self {
        Self { file, line }
    }

    /// What was given for the host itself, outside of files.
    pub(crate) fn options() -> Self {
        Self { file: "SSH options".into(), line: 0 }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}", self.file),
        }
    }
}

/// A configuration that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConfigError {
    /// A file that cannot be read.
    #[error("cannot read the SSH configuration {file}: {reason}")]
    File { file: String, reason: String },
    /// A line that OpenSSH refuses, too.
    #[error("{place}: {keyword}: {reason}")]
    Line { place: Place, keyword: String, reason: String },
    /// A line that means something that only OpenSSH itself can do.
    #[error("{place}: {keyword}: {reason}")]
    OnlyOpenSsh { place: Place, keyword: String, reason: String },
    /// A host or user that cannot be one.
    #[error("{0}")]
    Host(String),
}

impl ConfigError {
    pub(crate) fn file(file: &Path, reason: impl fmt::Display) -> Self {
        let text = reason.to_string();
        let reason = text.split(" (os error").next().unwrap_or_default().to_lowercase();
        Self::File { file: file.display().to_string(), reason }
    }

    pub(crate) fn line(place: &Place, keyword: &str, reason: impl Into<String>) -> Self {
        Self::Line { place: place.clone(), keyword: keyword.to_owned(), reason: reason.into() }
    }

    pub(crate) fn only_openssh(place: &Place, keyword: &str, reason: impl Into<String>) -> Self {
        Self::OnlyOpenSsh { place: place.clone(), keyword: keyword.to_owned(), reason: reason.into() }
    }
}

impl From<ConfigError> for TransportError {
    fn from(e: ConfigError) -> Self {
        let hint = match &e {
            ConfigError::File { .. } => "check the file, name another one with --ssh-config, or use --ssh-config none",
            ConfigError::Line { .. } => "correct the line; `ssh -G HOST` shows what OpenSSH says of it",
            ConfigError::OnlyOpenSsh { .. } => {
                "use the system's ssh for this host: set `transport: openssh` for it in the job file"
            }
            ConfigError::Host(_) => "a host is [user@]host[:port]",
        };
        Self::new(TransportErrorKind::Config, e.to_string()).with_hint(hint)
    }
}

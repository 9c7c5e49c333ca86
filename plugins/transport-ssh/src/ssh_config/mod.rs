//! OpenSSH's client configuration, read as OpenSSH reads it: what `ssh -G HOST` says is the truth.
//!
//! Files are parsed once for all hosts and resolved for each host. docs/adr/0006-ssh-configuration.md says why this is
//! no library's work and no `ssh -G` for each host.
mod algorithms;
#[cfg(test)]
mod differential;
mod error;
mod files;
mod glob;
mod jump;
mod keywords;
mod matching;
mod resolve;
mod tokens;
mod users;
mod words;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use autoprof_plugin::prelude::*;

pub(crate) use self::{
    algorithms::assemble,
    error::{ConfigError, Place},
    jump::{Hop, Jump},
    keywords::{Key, Value},
    resolve::{Query, Resolved, Said, in_family, resolve},
    tokens::{Set, Tokens},
    users::User,
    words::matches_host,
};
use self::{
    files::{Loader, SourceFile},
    matching::Asked,
};

/// Where the system's configuration is.
const SYSTEM: &str = "/etc/ssh/ssh_config";

/// The files that count for a host, parsed.
#[derive(Debug, Default)]
pub(crate) struct Config {
    files: Vec<Arc<SourceFile>>,
    loader: Arc<Loader>,
    asked: Arc<Asked>,
}

/// All configurations of this process.
#[derive(Debug, Default)]
pub(crate) struct Files {
    parsed: Mutex<HashMap<Option<PathBuf>, Arc<Config>>>,
    loader: Arc<Loader>,
    asked: Arc<Asked>,
}

impl Files {
    /// The configuration of a file, or of the user's and the system's when none is named. Blocks.
    ///
    /// # Errors
    /// When a file cannot be read, or has a line that OpenSSH would not take.
    pub(crate) fn load(&self, named: Option<&str>, user: &User) -> Result<Arc<Config>, ConfigError> {
        let path = match named {
            Some(named) if named.eq_ignore_ascii_case("none") => return Ok(Arc::default()),
            Some(named) => Some(user.path(named).map_err(|reason| ConfigError::file(Path::new(named), reason))?),
            None => None,
        };
        // Held while the files are read: hundreds of hosts connect at once, and one of them reads.
        let mut parsed = self.parsed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = parsed.get(&path) {
            return Ok(Arc::clone(config));
        }
        let files = match &path {
            Some(path) => vec![self.loader.named(path, user)?],
            None => {
                let own = self.loader.usual(&user.home.join(".ssh/config"), user, true)?;
                own.into_iter().chain(self.loader.usual(Path::new(SYSTEM), user, false)?).collect()
            }
        };
        let config = Arc::new(Config { files, loader: Arc::clone(&self.loader), asked: Arc::clone(&self.asked) });
        parsed.insert(path, Arc::clone(&config));
        Ok(config)
    }
}

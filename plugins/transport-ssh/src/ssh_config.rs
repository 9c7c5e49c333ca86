//! The user's `ssh_config` file: read once, and its tokens expanded.
use std::{
    collections::{HashMap, HashSet},
    fs,
    io::BufReader,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use autoprof_plugin::prelude::*;
use ssh2_config::{ParseRule, SshConfig};

/// The user who runs this process, and their surroundings.
#[derive(Debug, Clone)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) home: PathBuf,
    /// The socket of their ssh-agent.
    pub(crate) agent: Option<PathBuf>,
}

impl User {
    /// The user as the environment tells, or else as the system's files do.
    pub(crate) fn current() -> Self {
        let var = |name| std::env::var(name).ok().filter(|v| !v.is_empty());
        Self {
            name: var("USER").or_else(|| var("LOGNAME")).or_else(name_of_this_process).unwrap_or_else(|| "root".into()),
            home: std::env::home_dir().unwrap_or_else(|| "/".into()),
            agent: var("SSH_AUTH_SOCK").map(PathBuf::from),
        }
    }

    /// A path with `~` for the home directory.
    pub(crate) fn path(&self, text: &str) -> PathBuf {
        match text.strip_prefix('~') {
            Some("") => self.home.clone(),
            Some(rest) if rest.starts_with('/') => self.home.join(rest.trim_start_matches('/')),
            _ => PathBuf::from(text),
        }
    }
}

/// Services have no `USER`; the owner of the process has a line in passwd.
fn name_of_this_process() -> Option<String> {
    let uid = fs::metadata("/proc/self").ok()?.uid().to_string();
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|f| f.get(2) == Some(&uid.as_str()))
        .map(|f| f[0].to_owned())
}

/// What tokens in values stand for.
#[derive(Debug)]
pub(crate) struct Tokens<'a> {
    pub(crate) user: &'a User,
    /// `%n`: the name as it was asked for.
    pub(crate) alias: &'a str,
    /// `%h`.
    pub(crate) address: &'a str,
    /// `%p`.
    pub(crate) port: u16,
    /// `%r`: the user on the host.
    pub(crate) remote: &'a str,
}

impl Tokens<'_> {
    /// Expands `%` tokens and `${NAME}`; what is not known stays as it is.
    pub(crate) fn expand(&self, text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['%', '$']) {
            out.push_str(&rest[..at]);
            let tail = &rest[at..];
            let (value, used) = self.token(tail).unwrap_or_else(|| (tail[..1].to_owned(), 1));
            out.push_str(&value);
            rest = &tail[used..];
        }
        out + rest
    }

    /// The value of the token that `text` begins with, and the token's length.
    fn token(&self, text: &str) -> Option<(String, usize)> {
        if let Some(inner) = text.strip_prefix("${") {
            let (name, _) = inner.split_once('}')?;
            return Some((std::env::var(name).ok()?, name.len() + 3));
        }
        let value = match text.strip_prefix('%')?.chars().next()? {
            '%' => "%".to_owned(),
            'd' => self.user.home.to_string_lossy().into_owned(),
            'u' => self.user.name.clone(),
            'n' => self.alias.to_owned(),
            'h' => self.address.to_owned(),
            'p' => self.port.to_string(),
            'r' => self.remote.to_owned(),
            _ => return None,
        };
        Some((value, 2))
    }
}

/// Parsed files, kept: hundreds of hosts connect at once.
#[derive(Debug, Default)]
pub(crate) struct Files(Mutex<HashMap<PathBuf, Arc<SshConfig>>>);

impl Files {
    /// The configuration for a host: the file that it names, or the user's own where there is one.
    pub(crate) async fn load(&self, host: &Host, user: &User) -> Result<Arc<SshConfig>, TransportError> {
        let path = match host.option("ssh_config") {
            Some("none") => return Ok(Arc::default()),
            Some(named) => user.path(named),
            None => {
                let path = user.home.join(".ssh/config");
                if !path.exists() {
                    return Ok(Arc::default());
                }
                path
            }
        };
        if let Some(config) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&path) {
            return Ok(Arc::clone(config));
        }
        let (read, home) = (path.clone(), user.home.clone());
        let parsed = tokio::task::spawn_blocking(move || parse_file(&read, &home)).await;
        let parsed = parsed
            .map_err(|e| TransportError::caused(TransportErrorKind::Other, "cannot read the SSH configuration", &e))?;
        let config = Arc::new(parsed?);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(path, Arc::clone(&config));
        Ok(config)
    }
}

fn parse_file(path: &Path, home: &Path) -> Result<SshConfig, TransportError> {
    let bad = |e: &(dyn std::error::Error + 'static)| {
        let message = format!("cannot read the SSH configuration {}", path.display());
        TransportError::caused(TransportErrorKind::Config, message, e)
            .with_hint("correct it, name another file in the option ssh_config, or set ssh_config to none")
    };
    let text = fs::read_to_string(path).map_err(|e| bad(&e))?;
    parse(&text, home).map_err(|e| bad(&e))
}

/// Parses the text of a configuration; directives that ssh2-config does not know are kept, not refused.
pub(crate) fn parse(text: &str, home: &Path) -> Result<SshConfig, ssh2_config::SshParserError> {
    let text = first_values(text.lines().map(|line| host_for_match(line).unwrap_or_else(|| line.to_owned())));
    let rules = ParseRule::ALLOW_UNKNOWN_FIELDS | ParseRule::ALLOW_UNSUPPORTED_FIELDS;
    SshConfig::default().home_dir(home).parse(&mut BufReader::new(text.as_bytes()), rules)
}

/// Directives of which every one counts, and those that are no settings.
const REPEATABLE: [&str; 9] = [
    "certificatefile",
    "dynamicforward",
    "host",
    "identityfile",
    "include",
    "localforward",
    "remoteforward",
    "sendenv",
    "setenv",
];

/// Leaves out what a block says twice: in OpenSSH the first value counts, in ssh2-config 0.9 the last of a block.
fn first_values(lines: impl Iterator<Item = String>) -> String {
    let mut seen = HashSet::new();
    let mut text = String::new();
    for line in lines {
        let keyword = keyword(&line).to_ascii_lowercase();
        if keyword == "host" {
            seen.clear();
        }
        if keyword.is_empty() || REPEATABLE.contains(&keyword.as_str()) || seen.insert(keyword) {
            text.push_str(&line);
        }
        text.push('\n');
    }
    text
}

fn keyword(line: &str) -> &str {
    let line = line.trim();
    if line.starts_with('#') {
        ""
    } else {
        line.split(|c: char| c.is_whitespace() || c == '=').next().unwrap_or_default()
    }
}

/// The `Host` line that says the same as a `Match` line.
///
/// ssh2-config 0.9 does not know `Match` and would give what follows it to the `Host` before it. A condition that
/// cannot be said with `Host` matches nothing, so that its settings are lost and not misapplied.
fn host_for_match(line: &str) -> Option<String> {
    let mut words = line.split(|c: char| c.is_whitespace() || c == '=').filter(|w| !w.is_empty());
    if !words.next()?.eq_ignore_ascii_case("match") {
        return None;
    }
    let words: Vec<_> = words.collect();
    Some(match words.as_slice() {
        [all] if all.eq_ignore_ascii_case("all") => "Host *".to_owned(),
        [by, names] if by.eq_ignore_ascii_case("host") || by.eq_ignore_ascii_case("originalhost") => {
            format!("Host {}", names.replace(',', " "))
        }
        _ => {
            tracing::warn!("the SSH configuration's {:?} is not understood, its settings are left out", line.trim());
            "Host !*".to_owned()
        }
    })
}

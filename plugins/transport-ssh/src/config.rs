//! The settings of one connection: the host's description first, then OpenSSH's configuration, then defaults.
use std::{collections::HashSet, path::PathBuf, time::Duration};

use autoprof_plugin::prelude::*;

use crate::{
    algorithms::{Algorithms, accepted_keys},
    ssh_config::{
        Config, ConfigError, Hop, Jump, Key, Place, Query, Resolved, Said, Set, Tokens, User, Value, resolve,
    },
};

/// Longest chain of jump hosts; a configuration that jumps in circles ends here.
const MAX_HOPS: usize = 8;
/// Keys that are tried when the configuration names none.
const DEFAULT_KEYS: [&str; 3] = ["id_ed25519", "id_ecdsa", "id_rsa"];
/// A peer that is silent for this long is asked whether it is there, and given up after the third question.
const KEEPALIVE: (Duration, usize) = (Duration::from_secs(5), 3);
/// How to log in, in this order, when the configuration has none.
const METHODS: &str = "publickey,password,keyboard-interactive";

/// What to do about the host's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HostKeys {
    /// Only keys that are known.
    Strict,
    /// A first key is written down, a changed one is refused.
    AcceptNew,
    /// Any key.
    Insecure,
}

/// How to connect to one host or hop.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The name as it was given.
    pub(crate) alias: String,
    pub(crate) address: String,
    pub(crate) port: u16,
    pub(crate) user: String,
    /// A key file that was given for this host, tried before all others.
    pub(crate) identity: Option<PathBuf>,
    /// Key files, in the order in which they are tried.
    pub(crate) identity_files: Vec<PathBuf>,
    /// Certificates; none: those that lie next to their keys.
    pub(crate) certificate_files: Vec<PathBuf>,
    /// Only the agent's keys that are among the files.
    pub(crate) identities_only: bool,
    pub(crate) agent: Option<PathBuf>,
    /// Ways to log in, in the order in which they are tried.
    pub(crate) methods: Vec<String>,
    /// Algorithms of users' keys that may be used; none: all.
    pub(crate) accepted_keys: Option<Vec<String>>,
    /// Nobody is asked for anything.
    pub(crate) batch: bool,
    pub(crate) password_prompts: usize,
    /// Lines that ask for what only the system's ssh can do, in case the login fails.
    pub(crate) left_out: Vec<String>,
    /// Hops on the way, nearest first.
    jump: Vec<Host>,
    /// A command whose standard input and output are the connection.
    pub(crate) proxy_command: Option<String>,
    /// Files with host keys that belong to the user; the first one learns new keys.
    pub(crate) known_hosts: Vec<PathBuf>,
    /// Files with host keys that belong to the system.
    pub(crate) global_known_hosts: Vec<PathBuf>,
    /// A file with host keys that are refused.
    pub(crate) revoked: Option<PathBuf>,
    /// The name of the host in those files, when it is not its address.
    pub(crate) host_key_alias: Option<String>,
    pub(crate) host_keys: HostKeys,
    /// New names are written down hashed.
    pub(crate) hash_names: bool,
    pub(crate) algorithms: Algorithms,
    /// `inet`, `inet6` or `any`.
    pub(crate) family: String,
    pub(crate) bind_address: Option<String>,
    pub(crate) bind_interface: Option<String>,
    pub(crate) keep_tcp_alive: bool,
    /// After how much silence a peer is asked whether it is there, and how often.
    pub(crate) keepalive: (Duration, usize),
    pub(crate) attempts: u32,
    /// For each step of connecting.
    pub(crate) connect_timeout: Duration,
    /// How long a write may make no progress.
    pub(crate) write_timeout: Duration,
}

impl Settings {
    /// Address and port as messages show them.
    pub(crate) fn place(&self) -> String {
        if self.address.contains(':') {
            format!("[{}]:{}", self.address, self.port)
        } else {
            format!("{}:{}", self.address, self.port)
        }
    }

    /// The settings of a host, without regard to what lies on the way. Blocks.
    pub(crate) fn of(host: &Host, config: &Config, user: &User) -> Result<Self, TransportError> {
        let options: Vec<String> = host.option("ssh_options").unwrap_or_default().lines().map(str::to_owned).collect();
        let query = Query {
            host: host.address(),
            user: host.user.as_deref(),
            port: host.port,
            identity: host.identity_file.as_ref().map(|file| file.as_str()),
            jump: host.jump.as_deref(),
            options: &options,
        };
        let found = resolve(config, &query, user)?;
        let tokens = Tokens {
            user,
            alias: &found.alias,
            address: &found.host,
            port: found.port,
            remote: &found.user,
            key_alias: found.text(Key::HostKeyAlias).unwrap_or(&found.alias),
            jump: "",
        };
        let paths = Paths { found: &found, tokens: &tokens };
        let mut identity_files = paths.all(&found.identity_files, "IdentityFile")?;
        if found.identity_files.is_empty() {
            let defaults = DEFAULT_KEYS.map(|key| user.home.join(".ssh").join(key));
            identity_files = defaults.into_iter().filter(|p| p.exists()).collect();
        }
        let mut seen = HashSet::new();
        identity_files.retain(|p| seen.insert(p.clone()));
        let given = host.identity_file.as_ref().and_then(|_| identity_files.first().cloned());
        let seconds = |key| found.number(key).and_then(|s| u64::try_from(s).ok()).filter(|s| *s > 0);
        let interval = seconds(Key::ServerAliveInterval).map_or(KEEPALIVE.0, Duration::from_secs);
        let questions = seconds(Key::ServerAliveCountMax).map_or(KEEPALIVE.1, |n| usize::try_from(n).unwrap_or(3));

        Ok(Self {
            identity: given,
            identity_files,
            certificate_files: paths.all(&found.certificate_files, "CertificateFile")?,
            identities_only: found.flag(Key::IdentitiesOnly).unwrap_or(false),
            agent: agent(&found, user, &paths)?,
            methods: methods(&found),
            accepted_keys: accepted_keys(&found)?,
            batch: found.flag(Key::BatchMode).unwrap_or(false),
            password_prompts: found.number(Key::NumberOfPasswordPrompts).map_or(3, |n| usize::try_from(n).unwrap_or(3)),
            left_out: left_out(&found),
            jump: jump(host, &found, &tokens)?,
            proxy_command: proxy_command(&found, &tokens)?,
            known_hosts: paths.listed(
                Key::UserKnownHostsFile,
                "UserKnownHostsFile",
                &["~/.ssh/known_hosts", "~/.ssh/known_hosts2"],
            )?,
            global_known_hosts: paths.listed(
                Key::GlobalKnownHostsFile,
                "GlobalKnownHostsFile",
                &["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"],
            )?,
            revoked: paths.one(Key::RevokedHostKeys, "RevokedHostKeys")?,
            host_key_alias: found.text(Key::HostKeyAlias).map(str::to_owned),
            host_keys: host_keys(host, &found)?,
            hash_names: found.flag(Key::HashKnownHosts).unwrap_or(false),
            algorithms: Algorithms::of(&found)?,
            family: found.text(Key::AddressFamily).unwrap_or("any").to_owned(),
            bind_address: found.text(Key::BindAddress).map(str::to_owned),
            bind_interface: found.text(Key::BindInterface).map(str::to_owned),
            keep_tcp_alive: found.flag(Key::TcpKeepAlive).unwrap_or(true),
            // A host that went away is to be noticed soon, whatever a configuration made for people says.
            keepalive: if interval * u32::try_from(questions).unwrap_or(1) < KEEPALIVE.0 * 3 {
                (interval, questions)
            } else {
                KEEPALIVE
            },
            attempts: seconds(Key::ConnectionAttempts).map_or(1, |n| u32::try_from(n).unwrap_or(1)),
            connect_timeout: option_seconds(host, "connect_timeout")?
                .or(seconds(Key::ConnectTimeout).map(Duration::from_secs))
                .unwrap_or(Duration::from_secs(15)),
            write_timeout: option_seconds(host, "write_timeout")?.unwrap_or(Duration::from_secs(30)),
            alias: found.alias.clone(),
            user: found.user.clone(),
            address: found.host.clone(),
            port: found.port,
        })
    }

    /// The settings of every connection on the way to a host, nearest first, the host itself last. Blocks.
    pub(crate) fn chain(host: &Host, config: &Config, user: &User) -> Result<Vec<Self>, TransportError> {
        let mut backwards = vec![Self::of(host, config, user)?];
        loop {
            let jump = backwards.last().map(|s| s.jump.clone()).unwrap_or_default();
            let before = backwards.len();
            for (at, hop) in jump.iter().enumerate().rev() {
                // Only the nearest hop goes its own configured way; what lies beyond it is reached through it.
                let hop = Host { jump: (at > 0).then(|| "none".to_owned()), ..hop.clone() };
                let settings = Self::of(&hop, config, user)?;
                // `Host *` with a ProxyJump means the jump host as well; one is not reached through itself.
                if !backwards.iter().any(|s| (&s.address, s.port) == (&settings.address, settings.port)) {
                    backwards.push(settings);
                }
            }
            if backwards.len() == before {
                backwards.reverse();
                return Ok(backwards);
            }
            if backwards.len() > MAX_HOPS + 1 {
                return Err(bad(format!("more than {MAX_HOPS} jump hosts on the way to {}", host.address())));
            }
        }
    }
}

fn bad(message: String) -> TransportError {
    TransportError::new(TransportErrorKind::Config, message)
}

/// Paths of a configuration, expanded.
struct Paths<'a> {
    found: &'a Resolved,
    tokens: &'a Tokens<'a>,
}

impl Paths<'_> {
    fn path(&self, text: &str, place: &Place, keyword: &str) -> Result<PathBuf, ConfigError> {
        self.tokens.path(text).map_err(|reason| ConfigError::line(place, keyword, reason))
    }

    /// Files that are said one a line; `none` names none.
    fn all(&self, files: &[(String, Place)], keyword: &str) -> Result<Vec<PathBuf>, ConfigError> {
        let named = files.iter().filter(|(file, _)| !file.eq_ignore_ascii_case("none"));
        named.map(|(file, place)| self.path(file, place, keyword)).collect()
    }

    /// Files of one line, or else those that are usual.
    fn listed(&self, key: Key, keyword: &str, usual: &[&str]) -> Result<Vec<PathBuf>, ConfigError> {
        let place = self.found.said(key).map_or_else(Place::options, |said| said.place.clone());
        let usual = || usual.iter().map(|file| (*file).to_owned()).collect();
        let files: Vec<String> = self.found.words(key).map_or_else(usual, <[String]>::to_vec);
        let named = files.iter().filter(|file| !file.eq_ignore_ascii_case("none"));
        named.map(|file| self.path(file, &place, keyword)).collect()
    }

    fn one(&self, key: Key, keyword: &str) -> Result<Option<PathBuf>, ConfigError> {
        match self.found.said(key) {
            Some(Said { value: Value::Text(file), place }) if !file.eq_ignore_ascii_case("none") => {
                self.path(file, place, keyword).map(Some)
            }
            _ => Ok(None),
        }
    }
}

fn agent(found: &Resolved, user: &User, paths: &Paths<'_>) -> Result<Option<PathBuf>, ConfigError> {
    match found.text(Key::IdentityAgent) {
        None | Some("SSH_AUTH_SOCK") => Ok(user.agent.clone()),
        Some(text) => match text.strip_prefix('$').filter(|name| !name.starts_with('{')) {
            Some(name) => Ok(std::env::var(name).ok().filter(|value| !value.is_empty()).map(PathBuf::from)),
            None => paths.one(Key::IdentityAgent, "IdentityAgent"),
        },
    }
}

/// Ways to log in that are allowed, in their order.
fn methods(found: &Resolved) -> Vec<String> {
    let listed = found.text(Key::PreferredAuthentications).unwrap_or(METHODS).split(',');
    let allowed = |method: &&str| {
        let key = match *method {
            "publickey" => Key::PubkeyAuthentication,
            "password" => Key::PasswordAuthentication,
            "keyboard-interactive" => Key::KbdInteractiveAuthentication,
            _ => return false,
        };
        found.flag(key).unwrap_or(true)
    };
    listed.filter(allowed).map(str::to_owned).collect()
}

/// Settings that only the system's ssh can follow, and without which a login may fail.
fn left_out(found: &Resolved) -> Vec<String> {
    let keys = [(Key::Pkcs11Provider, "PKCS11Provider"), (Key::KnownHostsCommand, "KnownHostsCommand")];
    let said = keys.iter().filter_map(|(key, keyword)| {
        let place = &found.said(*key)?.place;
        let used = found.text(*key).is_some_and(|text| !text.eq_ignore_ascii_case("none"));
        used.then(|| format!("{keyword} ({place})"))
    });
    said.collect()
}

fn proxy_command(found: &Resolved, tokens: &Tokens<'_>) -> Result<Option<String>, ConfigError> {
    let Some(Said { value: Value::Text(command), place }) = found.proxy_command() else { return Ok(None) };
    // As the manual says of the two: what is said first prevents the other.
    if found.directly {
        return Ok(None);
    }
    if found.flag(Key::ProxyUseFdpass) == Some(true) {
        let place = found.said(Key::ProxyUseFdpass).map_or(place, |said| &said.place);
        let reason = "a socket that a ProxyCommand passes cannot be used";
        return Err(ConfigError::only_openssh(place, "ProxyUseFdpass", reason));
    }
    let expanded = tokens.expand(command, Set::Proxy, false);
    expanded.map(Some).map_err(|reason| ConfigError::line(place, "ProxyCommand", reason))
}

fn jump(host: &Host, found: &Resolved, tokens: &Tokens<'_>) -> Result<Vec<Host>, TransportError> {
    let Some(Jump::Via(hops)) = found.jump() else { return Ok(Vec::new()) };
    let place = found.said(Key::ProxyJump).map_or_else(Place::options, |said| said.place.clone());
    hops.iter().map(|hop| hop_of(host, hop, tokens, &place)).collect()
}

/// A hop as a host of its own; the key and the transport's options that were given for the host serve on the way as
/// well, OpenSSH's options do not.
fn hop_of(host: &Host, hop: &Hop, tokens: &Tokens<'_>, place: &Place) -> Result<Host, TransportError> {
    let expand = |text: &str| {
        tokens.expand(text, Set::Proxy, false).map_err(|reason| ConfigError::line(place, "ProxyJump", reason))
    };
    let mut options = host.options.clone();
    options.remove("ssh_options");
    Ok(Host {
        user: hop.user.as_deref().map(expand).transpose()?,
        port: hop.port,
        identity_file: host.identity_file.clone(),
        options,
        ..Host::named(&expand(&hop.host)?)
    })
}

fn host_keys(host: &Host, found: &Resolved) -> Result<HostKeys, TransportError> {
    match host.option("host_keys") {
        Some("strict") => return Ok(HostKeys::Strict),
        Some("accept-new") => return Ok(HostKeys::AcceptNew),
        Some("insecure") => return Ok(HostKeys::Insecure),
        Some(other) => {
            return Err(bad(format!("the option host_keys is strict, accept-new or insecure, not {other:?}")));
        }
        None => {}
    }
    Ok(match found.text(Key::StrictHostKeyChecking) {
        // A changed key is refused even where ssh would go on without a password; nobody is there to read a warning.
        Some("accept-new" | "no") => HostKeys::AcceptNew,
        _ => HostKeys::Strict,
    })
}

fn option_seconds(host: &Host, name: &str) -> Result<Option<Duration>, TransportError> {
    let Some(text) = host.option(name) else { return Ok(None) };
    let value = text.parse().ok().and_then(|s| Duration::try_from_secs_f64(s).ok()).filter(|d| !d.is_zero());
    value.map(Some).ok_or_else(|| bad(format!("the option {name} is a number of seconds above 0, not {text:?}")))
}

#[cfg(test)]
mod tests;

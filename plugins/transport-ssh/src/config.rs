//! The settings of one connection: the host's description first, then the user's `ssh_config`, then defaults.
use std::{collections::HashSet, path::PathBuf, time::Duration};

use autoprof_plugin::prelude::*;
use ssh2_config::{HostParams, SshConfig};

use crate::ssh_config::{Tokens, User};

/// Longest chain of jump hosts; a configuration that jumps in circles ends here.
const MOST_HOPS: usize = 8;
/// Keys that are tried when the configuration names none, as OpenSSH does.
const DEFAULT_KEYS: [&str; 3] = ["id_ed25519", "id_ecdsa", "id_rsa"];

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
    pub(crate) address: String,
    pub(crate) port: u16,
    pub(crate) user: String,
    /// Key files, in the order in which they are tried.
    pub(crate) identity_files: Vec<PathBuf>,
    /// Certificates beside those that lie next to their keys.
    pub(crate) certificate_file: Option<PathBuf>,
    /// Only the agent's keys that are among the files.
    pub(crate) identities_only: bool,
    pub(crate) agent: Option<PathBuf>,
    /// Whether keys may be used at all.
    pub(crate) publickey: bool,
    /// Hops on the way, nearest first.
    jump: Vec<Host>,
    /// Files with host keys that belong to the user; the first one learns new keys.
    pub(crate) known_hosts: Vec<PathBuf>,
    /// Files with host keys that belong to the system.
    pub(crate) global_known_hosts: Vec<PathBuf>,
    /// The name of the host in those files, when it is not its address.
    pub(crate) host_key_alias: Option<String>,
    pub(crate) host_keys: HostKeys,
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

    /// The settings of a host, without regard to what lies on the way.
    pub(crate) fn of(host: &Host, config: &SshConfig, user: &User) -> Result<Self, TransportError> {
        let alias = host.address();
        let params = config.query(alias);
        let port = host.port.or(params.port).unwrap_or(22);
        let remote = host.user.clone().or_else(|| params.user.clone()).unwrap_or_else(|| user.name.clone());
        // In HostName itself, %h is the name that was asked for.
        let in_name = Tokens { user, alias, address: alias, port, remote: &remote };
        let address = params.host_name.as_deref().map_or_else(|| alias.to_owned(), |name| in_name.expand(name));
        let tokens = Tokens { user, alias, address: &address, port, remote: &remote };
        let path = |text: &str| user.path(&tokens.expand(text));
        let files = |name: &str, default: &[&str]| match words(&params, name) {
            Some(paths) => paths.iter().filter(|p| *p != "none").map(|p| path(p)).collect(),
            None => default.iter().map(|p| path(p)).collect::<Vec<_>>(),
        };
        let expanded = |p: &PathBuf| path(&p.to_string_lossy());

        let named: Vec<PathBuf> = host.identity_file.iter().map(|p| user.path(p.as_str())).collect();
        let configured = params.identity_file.iter().flatten().filter(|p| p.as_os_str() != "none").map(expanded);
        let mut identity_files: Vec<PathBuf> = named.into_iter().chain(configured).collect();
        if host.identity_file.is_none() && params.identity_file.is_none() {
            identity_files =
                DEFAULT_KEYS.map(|key| user.home.join(".ssh").join(key)).into_iter().filter(|p| p.exists()).collect();
        }
        let mut seen = HashSet::new();
        identity_files.retain(|p| seen.insert(p.clone()));

        Ok(Self {
            port,
            identity_files,
            certificate_file: params.certificate_file.as_ref().map(expanded),
            identities_only: word(&params, "identitiesonly").is_some_and(|v| is_yes(&v)),
            agent: agent(word(&params, "identityagent").as_deref(), user, &tokens),
            publickey: params.pubkey_authentication.unwrap_or(true),
            jump: jump(host, &params)?,
            known_hosts: files("userknownhostsfile", &["~/.ssh/known_hosts", "~/.ssh/known_hosts2"]),
            global_known_hosts: files(
                "globalknownhostsfile",
                &["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"],
            ),
            host_key_alias: word(&params, "hostkeyalias"),
            host_keys: host_keys(host, &params)?,
            connect_timeout: seconds(host, "connect_timeout")?
                .or(params.connect_timeout.filter(|t| !t.is_zero()))
                .unwrap_or(Duration::from_secs(15)),
            write_timeout: seconds(host, "write_timeout")?.unwrap_or(Duration::from_secs(30)),
            user: remote,
            address,
        })
    }

    /// The settings of every connection on the way to a host, nearest first, the host itself last.
    pub(crate) fn chain(host: &Host, config: &SshConfig, user: &User) -> Result<Vec<Self>, TransportError> {
        let mut backwards = vec![Self::of(host, config, user)?];
        loop {
            let jump = backwards.last().map(|s| s.jump.clone()).unwrap_or_default();
            let before = backwards.len();
            for (at, hop) in jump.iter().enumerate().rev() {
                // Only the nearest hop goes its own configured way; what lies beyond it is reached through it.
                let hop = Host { jump: (at > 0).then(|| "none".to_owned()), ..hop.clone() };
                let settings = Self::of(&hop, config, user)?;
                // `Host *` with a ProxyJump means the jump host as well; OpenSSH leaves that out in the same way.
                if !backwards.iter().any(|s| (&s.address, s.port) == (&settings.address, settings.port)) {
                    backwards.push(settings);
                }
            }
            if backwards.len() == before {
                backwards.reverse();
                return Ok(backwards);
            }
            if backwards.len() > MOST_HOPS + 1 {
                return Err(bad(format!("more than {MOST_HOPS} jump hosts on the way to {}", host.address())));
            }
        }
    }
}

fn bad(message: String) -> TransportError {
    TransportError::new(TransportErrorKind::Config, message)
}

/// The arguments of a directive that ssh2-config keeps without understanding it.
fn words(params: &HostParams, name: &str) -> Option<Vec<String>> {
    let words = params.unsupported_fields.get(name)?;
    Some(words.iter().map(|w| w.trim_matches('"').to_owned()).collect())
}

fn word(params: &HostParams, name: &str) -> Option<String> {
    words(params, name)?.into_iter().next()
}

fn is_yes(value: &str) -> bool {
    ["yes", "true"].iter().any(|yes| value.eq_ignore_ascii_case(yes))
}

fn agent(setting: Option<&str>, user: &User, tokens: &Tokens<'_>) -> Option<PathBuf> {
    match setting {
        None | Some("SSH_AUTH_SOCK") => user.agent.clone(),
        Some("none") => None,
        Some(text) => match text.strip_prefix('$').filter(|name| !name.starts_with('{')) {
            Some(name) => std::env::var(name).ok().map(PathBuf::from),
            None => Some(user.path(&tokens.expand(text))),
        },
    }
}

fn jump(host: &Host, params: &HostParams) -> Result<Vec<Host>, TransportError> {
    // A host that is meant to be reached through a proxy alone must not be connected to directly.
    if host.jump.is_none() && params.proxy_jump.is_none() && word(params, "proxycommand").is_some_and(|c| c != "none") {
        let message = format!("the SSH configuration gives {} a ProxyCommand, which is not supported", host.address());
        return Err(bad(message)
            .with_hint("use ProxyJump, or give the host a jump of its own in the job (jump: none for a direct way)"));
    }
    let listed: Vec<String> = match (&host.jump, &params.proxy_jump) {
        (Some(jump), _) => jump.split(',').map(str::to_owned).collect(),
        (None, Some(jump)) => jump.clone(),
        (None, None) => return Ok(Vec::new()),
    };
    let listed = listed.iter().map(|hop| hop.trim()).filter(|hop| !hop.is_empty());
    if listed.clone().any(|hop| hop.eq_ignore_ascii_case("none")) {
        return Ok(Vec::new());
    }
    listed.map(|hop| hop_of(host, hop)).collect()
}

/// A hop as a host of its own; the options and the key that were given for the host serve on the way as well.
fn hop_of(host: &Host, hop: &str) -> Result<Host, TransportError> {
    let parsed: Host = hop.strip_prefix("ssh://").unwrap_or(hop).parse().map_err(|e| {
        TransportError::caused(TransportErrorKind::Config, format!("cannot read the jump host {hop:?}"), &e)
            .with_hint("jump hosts are written [user@]host[:port], separated by commas")
    })?;
    Ok(Host { identity_file: host.identity_file.clone(), options: host.options.clone(), ..parsed })
}

fn host_keys(host: &Host, params: &HostParams) -> Result<HostKeys, TransportError> {
    match host.option("host_keys") {
        Some("strict") => return Ok(HostKeys::Strict),
        Some("accept-new") => return Ok(HostKeys::AcceptNew),
        Some("insecure") => return Ok(HostKeys::Insecure),
        Some(other) => {
            return Err(bad(format!("the option host_keys is strict, accept-new or insecure, not {other:?}")));
        }
        None => {}
    }
    let setting = word(params, "stricthostkeychecking").unwrap_or_default().to_ascii_lowercase();
    Ok(match setting.as_str() {
        // A changed key is refused even where ssh would go on without a password; nobody is there to read a warning.
        "accept-new" | "no" | "off" | "false" => HostKeys::AcceptNew,
        _ => HostKeys::Strict,
    })
}

fn seconds(host: &Host, name: &str) -> Result<Option<Duration>, TransportError> {
    let Some(text) = host.option(name) else { return Ok(None) };
    let value = text.parse().ok().and_then(|s| Duration::try_from_secs_f64(s).ok()).filter(|d| !d.is_zero());
    value.map(Some).ok_or_else(|| bad(format!("the option {name} is a number of seconds above 0, not {text:?}")))
}

#[cfg(test)]
mod tests;

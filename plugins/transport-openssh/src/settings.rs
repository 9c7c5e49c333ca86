//! What `ssh` is told about one host: a configuration of ours around the user's, and arguments.
use std::{path::Path, time::Duration};

use autoprof_plugin::prelude::*;

use crate::{directory, version::Version};

/// Most bytes of a configuration that is read.
const MAX_CONFIG: u64 = 16 << 20;
/// A step of connecting takes at most so long, where neither the host's options nor the configuration say so.
const CONNECT_TIMEOUT: u32 = 15;
/// A peer that is silent for this many seconds is asked whether it is there, and given up after the third question.
const KEEPALIVE: (u32, u32) = (5, 3);

/// How to connect to one host.
pub(crate) struct Settings {
    /// Configuration file to read instead of the usual ones.
    config: Config,
    host_keys: Option<HostKeys>,
    /// For each step of connecting.
    pub(crate) connect_timeout: Option<Duration>,
    /// How long a write may make no progress.
    pub(crate) write_timeout: Duration,
    /// The `ssh` to run.
    pub(crate) program: String,
}

enum Config {
    /// `~/.ssh/config` and the system's.
    Usual,
    Nothing,
    File(String),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum HostKeys {
    Strict,
    AcceptNew,
    Insecure,
}

fn bad(message: String) -> TransportError {
    TransportError::new(TransportErrorKind::Config, message)
}

impl Settings {
    pub(crate) fn of(host: &Host) -> Result<Self, TransportError> {
        Ok(Self {
            config: match host.option("ssh_config") {
                None => Config::Usual,
                Some("none") => Config::Nothing,
                Some(path) => Config::File(path.to_owned()),
            },
            host_keys: match host.option("host_keys") {
                None => None,
                Some("strict") => Some(HostKeys::Strict),
                Some("accept-new") => Some(HostKeys::AcceptNew),
                Some("insecure") => Some(HostKeys::Insecure),
                Some(other) => {
                    return Err(bad(format!("the option host_keys is strict, accept-new or insecure, not {other:?}")));
                }
            },
            connect_timeout: seconds(host, "connect_timeout")?,
            write_timeout: seconds(host, "write_timeout")?.unwrap_or(Duration::from_secs(30)),
            program: host.option("program").unwrap_or("ssh").to_owned(),
        })
    }

    /// Whether any host key is taken.
    pub(crate) fn is_insecure(&self) -> bool {
        self.host_keys == Some(HostKeys::Insecure)
    }

    /// The user's configuration file that is copied, for messages.
    pub(crate) fn copied(&self) -> Option<&str> {
        match &self.config {
            Config::File(path) => Some(path),
            Config::Usual | Config::Nothing => None,
        }
    }

    /// What counts before the user's configuration, for the host and for jump hosts.
    pub(crate) fn forced(&self, host: &Host) -> Result<String, TransportError> {
        let mut lines =
            vec![format!("ServerAliveInterval {}", KEEPALIVE.0), format!("ServerAliveCountMax {}", KEEPALIVE.1)];
        match self.host_keys {
            None => {}
            Some(HostKeys::Strict) => lines.push("StrictHostKeyChecking yes".to_owned()),
            Some(HostKeys::AcceptNew) => lines.push("StrictHostKeyChecking accept-new".to_owned()),
            Some(HostKeys::Insecure) => lines.extend(
                ["StrictHostKeyChecking no", "UserKnownHostsFile /dev/null", "GlobalKnownHostsFile /dev/null"]
                    .map(str::to_owned),
            ),
        }
        if let Some(timeout) = self.connect_timeout {
            // Whole seconds; what is cut off here is watched by us.
            lines.push(format!("ConnectTimeout {}", timeout.as_secs_f64().ceil().max(1.0)));
        }
        if let Some(file) = &host.identity_file {
            lines.push(format!("IdentityFile {}", quoted(file.as_str())?.replace('%', "%%")));
        }
        lines.push(String::new());
        Ok(lines.join("\n"))
    }

    /// The configuration for `-F`, with [`forced`](Self::forced) in a file of its own.
    ///
    /// A file that the user names is copied and not included, as `ssh` takes any file by `-F` and only files of certain
    /// owners by `Include`. Ours is one line before it.
    pub(crate) fn config(&self, forced: &Path) -> Result<String, TransportError> {
        let (strict, timeout) = ("StrictHostKeyChecking yes", format!("ConnectTimeout {CONNECT_TIMEOUT}"));
        let own = match &self.config {
            Config::Nothing => String::new(),
            Config::Usual => "Include ~/.ssh/config\nInclude /etc/ssh/ssh_config\n".to_owned(),
            Config::File(path) => read(path)?,
        };
        Ok(format!("Include {}\n{own}\nHost *\n{strict}\n{timeout}\n", forced.display()))
    }

    /// Arguments of `ssh` for a master in a directory.
    pub(crate) fn arguments(&self, host: &Host, directory: &Path, version: Version, can_ask: bool) -> Vec<String> {
        let path = |name: &str| directory.join(name).display().to_string();
        // Standard output has no other use, and a file name is all that -E takes.
        let mut arguments: Vec<String> = ["-M", "-N", "-T", "-E", "/proc/self/fd/1"].map(str::to_owned).into();
        arguments.extend(["-F".to_owned(), path(directory::CONFIG), "-S".to_owned(), path(directory::SOCKET)]);
        let mut options = vec![
            "ControlPersist=no",
            "LogLevel=DEBUG1",
            "RemoteCommand=none",
            "ClearAllForwardings=yes",
            "ForwardAgent=no",
            "ForwardX11=no",
            "Tunnel=no",
            "EscapeChar=none",
        ];
        if version.forks_by_option() {
            options.extend(["ForkAfterAuthentication=no", "StdinNull=no"]);
        }
        if !can_ask {
            options.push("BatchMode=yes");
        }
        match host.jump.as_deref() {
            Some(jump) if jump.trim().eq_ignore_ascii_case("none") => {
                options.extend(["ProxyJump=none", "ProxyCommand=none"]);
            }
            Some(jump) => arguments.extend(["-J".to_owned(), jump.replace(' ', "")]),
            None => {}
        }
        // Of two values the first one counts, so that what a session depends on comes first.
        let own = host.option("ssh_options").into_iter().flat_map(str::lines);
        arguments.extend(options.into_iter().chain(own).flat_map(|option| ["-o".to_owned(), option.to_owned()]));
        if let Some(user) = &host.user {
            arguments.extend(["-l".to_owned(), user.clone()]);
        }
        if let Some(port) = host.port {
            arguments.extend(["-p".to_owned(), port.to_string()]);
        }
        arguments.extend(["--".to_owned(), host.address().to_owned()]);
        arguments
    }
}

/// The user's file, as it is.
fn read(path: &str) -> Result<String, TransportError> {
    use std::io::Read as _;
    let failed = |e: &std::io::Error| {
        TransportError::caused(TransportErrorKind::Config, format!("cannot read the SSH configuration {path}"), e)
    };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|e| failed(&e))?;
    file.take(MAX_CONFIG + 1).read_to_end(&mut bytes).map_err(|e| failed(&e))?;
    if bytes.len() as u64 > MAX_CONFIG {
        return Err(bad(format!("the SSH configuration {path} has more than {} MiB", MAX_CONFIG >> 20)));
    }
    String::from_utf8(bytes).map_err(|_| bad(format!("the SSH configuration {path} is not UTF-8")))
}

/// A value for `ssh_config`, which has no escapes in the versions that are still met.
fn quoted(value: &str) -> Result<String, TransportError> {
    if value.contains(['"', '\n', '\\']) {
        return Err(bad(format!("{value:?} cannot be written in an SSH configuration")));
    }
    Ok(format!("\"{value}\""))
}

fn seconds(host: &Host, name: &str) -> Result<Option<Duration>, TransportError> {
    let Some(text) = host.option(name) else { return Ok(None) };
    let value = text.parse().ok().and_then(|s| Duration::try_from_secs_f64(s).ok()).filter(|d| !d.is_zero());
    value.map(Some).ok_or_else(|| bad(format!("the option {name} is a number of seconds above 0, not {text:?}")))
}

//! What `ssh` writes into its log: how far it got, and what went wrong.
//!
//! The log has a pipe of its own (`-E`), so no host and no proxy can write a line of it: text from a host comes after a
//! prefix, and with control characters escaped.
use std::collections::VecDeque;

use autoprof_plugin::core::text::one_line;

/// How many lines are kept of what went wrong.
const KEPT: usize = 24;

/// How far a connection got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Stage {
    /// Nothing was connected to: configuration, names.
    #[default]
    Setup,
    /// The TCP connection, or the start of a proxy.
    Connect,
    /// Banner and key exchange.
    Exchange,
    /// The host has shown its key.
    HostKey,
    /// The login.
    Login,
    /// Logged in.
    Session,
}

/// What a log has said so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log {
    pub(crate) stage: Stage,
    /// The host's key: type and fingerprint.
    pub(crate) host_key: Option<String>,
    /// Address and port that was connected to.
    pub(crate) place: Option<String>,
    pub(crate) user: Option<String>,
    /// Methods of authentication that the host takes.
    pub(crate) methods: Option<String>,
    /// Keys that were shown.
    pub(crate) tried: Vec<String>,
    /// The last lines that are no debug messages.
    pub(crate) lines: VecDeque<String>,
}

impl Log {
    /// Takes in a line.
    pub(crate) fn read(&mut self, line: &str) {
        let line = one_line(line);
        let Some(debug) = line.strip_prefix("debug1: ") else {
            self.plain(line);
            return;
        };
        let reached = if let Some(rest) = debug.strip_prefix("Connecting to ") {
            self.place = place_of(rest).or(self.place.take());
            Stage::Connect
        } else if debug.starts_with("Executing proxy command: ") {
            Stage::Connect
        } else if debug.starts_with("Local version string ") {
            Stage::Exchange
        } else if let Some(rest) = debug.strip_prefix("Authenticating to ") {
            if let Some((place, user)) = rest.rsplit_once(" as '") {
                self.place = Some(place.to_owned());
                self.user = Some(user.trim_end_matches('\'').to_owned());
            }
            Stage::Exchange
        } else if let Some(key) =
            debug.strip_prefix("Server host key: ").or(debug.strip_prefix("Server host certificate: "))
        {
            self.host_key = Some(key.split(", serial").next().unwrap_or(key).to_owned());
            Stage::HostKey
        } else if debug.starts_with("SSH2_MSG_NEWKEYS received") {
            Stage::Login
        } else {
            if let Some(methods) = debug.strip_prefix("Authentications that can continue: ") {
                self.methods = Some(methods.replace(',', ", "));
            } else if let Some(key) = debug.strip_prefix("Offering public key: ") {
                self.tried.push(key_of(key));
            } else if let Some(method) = debug.strip_prefix("Next authentication method: ")
                && method != "publickey"
            {
                self.tried.push(method.to_owned());
            }
            return;
        };
        self.stage = self.stage.max(reached);
    }

    fn plain(&mut self, line: String) {
        if line.starts_with("Authenticated to ") {
            self.stage = Stage::Session;
            // From now on, what is kept says why the connection ended.
            self.lines.clear();
        }
        if line.is_empty() || line.starts_with("debug") {
            return;
        }
        if self.lines.len() == KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// The first kept line for which there is something.
    pub(crate) fn find<T>(&self, what: impl Fn(&str) -> Option<T>) -> Option<T> {
        self.lines.iter().find_map(|line| what(line))
    }
}

/// `NAME [ADDRESS] port PORT.` or `ADDRESS [ADDRESS] port PORT.` as address and port.
fn place_of(text: &str) -> Option<String> {
    let (name, rest) = text.split_once(' ')?;
    let port = rest.rsplit_once("port ")?.1.trim_end_matches('.');
    Some(if name.contains(':') { format!("[{name}]:{port}") } else { format!("{name}:{port}") })
}

/// `FILE TYPE FINGERPRINT [SOURCE]` without the type; keys of an agent have a comment for the file.
fn key_of(text: &str) -> String {
    match text.find(" SHA256:").map(|at| text.split_at(at)) {
        Some((file, rest)) => {
            let file = file.rsplit_once(' ').map_or(file, |(file, _)| file);
            let agent = if rest.contains(" agent") { "agent key " } else { "" };
            format!("{agent}{file}: refused")
        }
        None => format!("{text}: refused"),
    }
}

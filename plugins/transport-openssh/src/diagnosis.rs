//! Why `ssh` failed, as an error with a kind.
//!
//! `ssh` ends with status 255 for every failure of its own, so its log is all there is. This is the only place that reads
//! its messages; how far it got (a [`Stage`]) decides where no message is known. Each message has a test that provokes
//! it from a real `sshd` (`tests/login.rs`, `tests/faults.rs`).
use std::path::Path;

use autoprof_plugin::{core::text::one_line, prelude::*};

use crate::log::{Log, Stage};

type Kind = TransportErrorKind;

/// What is known when `ssh` ended before a session could be had.
pub(crate) struct Failure<'a> {
    pub(crate) log: &'a Log,
    /// What proxies and jump hosts wrote.
    pub(crate) stderr: &'a [String],
    /// Address of the host, for as long as the log has not named a better one.
    pub(crate) address: &'a str,
    /// The configuration that was written for this connection, and the user's that was copied into it.
    pub(crate) config: (&'a Path, Option<&'a str>),
}

impl Failure<'_> {
    fn place(&self) -> &str {
        self.log.place.as_deref().unwrap_or(self.address)
    }

    /// The error to report.
    pub(crate) fn error(&self) -> TransportError {
        if let Some(error) = self.known() {
            return error;
        }
        let place = self.place();
        let kind_and_message = match self.log.stage {
            Stage::Setup => (Kind::Config, format!("cannot use the SSH configuration for {}", self.address)),
            Stage::Connect => (Kind::Connect, format!("cannot connect to {place}")),
            Stage::Exchange | Stage::HostKey => {
                return self.hop().unwrap_or_else(|| {
                    let message = format!("banner and key exchange with {place} failed");
                    self.caused(Kind::Connect, message)
                });
            }
            Stage::Login => (Kind::Closed, format!("the connection to {place} ended during authentication")),
            Stage::Session => (Kind::Closed, format!("the connection to {place} ended")),
        };
        let error = self.caused(kind_and_message.0, kind_and_message.1);
        match self.log.stage {
            Stage::Login => error.with_hint("see the log of sshd on the host"),
            Stage::Setup => error.with_hint(format!("`ssh -G {}` shows the same error", self.address)),
            _ => error,
        }
    }

    /// The last things that were said, as causes.
    fn caused(&self, kind: Kind, message: String) -> TransportError {
        let mut error = TransportError::new(kind, message);
        let said = self.log.lines.iter().map(|line| self.own(line)).filter(|line| !is_decoration(line));
        let said: Vec<String> = said.collect();
        let said = if said.is_empty() { self.stderr.to_vec() } else { said };
        error.chain = said.into_iter().rev().take(3).rev().collect();
        error
    }

    /// A line with the user's own file in it instead of the copy, whose first line is ours.
    fn own(&self, line: &str) -> String {
        let (copy, original) = self.config;
        let (Some(original), Some(copy)) = (original, copy.to_str()) else { return line.to_owned() };
        let Some((before, after)) = line.split_once(copy) else { return line.to_owned() };
        let marker = [": line ", " line "].into_iter().find(|marker| after.starts_with(marker));
        let Some(marker) = marker else { return format!("{before}{original}{after}") };
        let digits: String = after[marker.len()..].chars().take_while(char::is_ascii_digit).collect();
        let rest = &after[marker.len() + digits.len()..];
        let number = digits.parse::<u64>().map_or(digits, |number| number.saturating_sub(1).to_string());
        format!("{before}{original}{marker}{number}{rest}")
    }

    /// What a jump host's own `ssh` said, which shares only standard error with us.
    fn hop(&self) -> Option<TransportError> {
        let mut log = Log { stage: Stage::Exchange, ..Log::default() };
        self.stderr.iter().for_each(|line| log.read(line));
        let known = Failure { log: &log, stderr: &[], address: "the jump host", config: self.config }.known();
        known.map(|mut error| {
            error.message = format!("jump host: {}", error.message);
            error
        })
    }

    /// The error of a message that is known.
    fn known(&self) -> Option<TransportError> {
        self.log.lines.iter().find_map(|line| {
            let line = line.as_str();
            if let Some((_, rest)) = line.split_once("Could not resolve hostname ") {
                let (name, cause) = rest.split_once(": ").unwrap_or((rest, "the name has no address"));
                let error = TransportError::new(Kind::Resolve, format!("cannot resolve {name}: {}", lower(cause)));
                Some(error.with_hint("check the name, or give the host's address"))
            } else if line.starts_with("Host key verification failed") {
                Some(self.host_key())
            } else if line.contains("Too many authentication failures") && self.log.stage >= Stage::Login {
                Some(self.login(true))
            } else if line.contains("Permission denied (") {
                Some(self.login(false))
            } else if line.starts_with("ssh: connect to host ") || line.starts_with("connect to host ") {
                let cause = line.rsplit_once(": ").map_or("", |(_, cause)| cause);
                Some(self.unreachable(cause))
            } else if line.contains("timed out during banner exchange")
                || (line.starts_with("Connection to ") && line.ends_with("timed out"))
            {
                let place = self.place();
                let error =
                    TransportError::new(Kind::Timeout, format!("banner and key exchange with {place} timed out"));
                Some(error.with_hint(SLOW))
            } else if let Some(rest) = line.strip_prefix("Unable to negotiate with ") {
                let message = format!("banner and key exchange with {} failed", self.place());
                let mut error = TransportError::new(Kind::Connect, message);
                error.chain = vec![rest.split_once(": ").map_or(rest, |(_, cause)| cause).to_owned()];
                Some(error.with_hint(
                    "the host offers only algorithms that ssh refuses: update the host, or allow one of them in \
                     ~/.ssh/config (such as `HostKeyAlgorithms +ssh-rsa`)",
                ))
            } else {
                None
            }
        })
    }

    fn unreachable(&self, cause: &str) -> TransportError {
        let message = format!("cannot connect to {}: {}", self.place(), lower(cause));
        match cause {
            "Connection timed out" | "Operation timed out" => {
                TransportError::new(Kind::Timeout, message).with_hint(SLOW)
            }
            "Connection refused" => TransportError::new(Kind::Connect, message)
                .with_hint("nothing listens there: check the port, and that sshd runs"),
            _ => TransportError::new(Kind::Connect, message),
        }
    }

    fn host_key(&self) -> TransportError {
        let place = self.place();
        let key = self.log.host_key.as_deref().unwrap_or("a key");
        let said = |text: &str| self.log.lines.iter().any(|line| line.contains(text));
        let place_of_old = self.log.find(|line| {
            let (_, rest) = line.split_once("Offending ")?;
            rest.split_once(" in ").map(|(_, place)| place.to_owned())
        });
        if said("REVOKED HOST KEY") || said("is marked as revoked") || said("has been revoked") {
            let message = format!("the host key of {place} is revoked: {key}");
            return TransportError::new(Kind::HostKey, message).with_hint("ask who runs the host");
        }
        if said("REMOTE HOST IDENTIFICATION HAS CHANGED") || said("has changed and you have requested strict checking")
        {
            let old = place_of_old.unwrap_or_else(|| "known_hosts".to_owned());
            let message = format!(
                "REMOTE HOST IDENTIFICATION HAS CHANGED: the host key of {place} is now {key}, and {old} has another; \
                 someone could be eavesdropping on you right now (man-in-the-middle attack), or the host has been \
                 installed anew"
            );
            return TransportError::new(Kind::HostKey, message)
                .with_hint("ask who runs the host; if the new key is right, remove the old one with `ssh-keygen -R`");
        }
        let message = format!("the host key of {place} is unknown: {key}");
        let mut error = TransportError::new(Kind::HostKey, message);
        // A certificate that does not do is told before the plain key is looked for.
        error.chain = self.log.lines.iter().filter(|line| line.contains("ertificate")).cloned().collect();
        error.with_hint(
            "compare the fingerprint, then connect once with ssh, or use --accept-new-host-keys to trust every first key",
        )
    }

    fn login(&self, too_many: bool) -> TransportError {
        let user = self.log.user.as_deref().map(|user| format!(" as {user}")).unwrap_or_default();
        let methods = self.log.methods.clone().or_else(|| {
            // The log of a jump host has only the last line.
            let list = self.log.find(|line| Some(line.split_once("Permission denied (")?.1.to_owned()))?;
            Some(list.trim_end_matches(['.', ')']).replace(',', ", "))
        });
        let methods = methods.unwrap_or_else(|| "nothing".to_owned());
        let tried = if self.log.tried.is_empty() { "no key".to_owned() } else { self.log.tried.join("; ") };
        let message = format!("cannot log in to {}{user}: the host takes {methods}; tried {tried}", self.place());
        let hint = if too_many {
            "the host lets only a few keys be tried (MaxAuthTries): name the right one with IdentityFile and \
             IdentitiesOnly yes, or with identity_file of the host in the job file"
        } else {
            "put a public key of these into ~/.ssh/authorized_keys on the host, or name another user or identity file, \
             or load the right key with ssh-add"
        };
        TransportError::new(Kind::Auth, message).with_hint(hint)
    }
}

const SLOW: &str = "if the host is only slow, raise connect_timeout (seconds) among the host's options in the job file";

/// Frames around warnings.
fn is_decoration(line: &str) -> bool {
    line.starts_with("@@@") || line.starts_with("Warning: Permanently added")
}

fn lower(text: &str) -> String {
    one_line(text).to_lowercase()
}

/// Why an established connection ended, if the log says so.
pub(crate) fn end(log: &Log) -> Option<String> {
    /// Told at every end.
    const ALWAYS: [&str; 4] = ["Transferred: ", "Bytes per second: ", "Disconnected from ", "Killed by signal"];
    let says_why = |line: &&String| !is_decoration(line) && !ALWAYS.iter().any(|always| line.starts_with(always));
    log.lines.iter().rev().find(says_why).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_in_the_users_file_has_its_own_line() {
        let log = Log::default();
        let config = (Path::new("/tmp/d/config"), Some("/home/me/config"));
        let failure = Failure { log: &log, stderr: &[], address: "web", config };
        assert_eq!(
            failure.own("/tmp/d/config: line 3: Bad configuration option: foo"),
            "/home/me/config: line 2: Bad configuration option: foo"
        );
        assert_eq!(
            failure.own("/tmp/d/config line 12: missing argument."),
            "/home/me/config line 11: missing argument."
        );
        assert_eq!(
            failure.own("/tmp/d/config: terminating, 1 bad configuration options"),
            "/home/me/config: terminating, 1 bad configuration options"
        );
    }
}

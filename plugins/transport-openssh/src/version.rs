//! Which OpenSSH the system has: some options and prompts depend on it.
use std::{collections::HashMap, io, process::Stdio, sync::Mutex, sync::PoisonError};

use autoprof_plugin::prelude::*;
use tokio::{process::Command as Program, sync::OnceCell};

/// Major and minor version of OpenSSH.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub(crate) u32, pub(crate) u32);

impl Version {
    /// `SSH_ASKPASS_REQUIRE`: prompts can be answered although there is a terminal.
    pub(crate) fn takes_forced_askpass(self) -> bool {
        self >= Self(8, 4)
    }

    /// Prompts of keyboard-interactive name the account, so that a host cannot imitate a prompt for a passphrase.
    pub(crate) fn marks_prompts_of_hosts(self) -> bool {
        self >= Self(8, 5)
    }

    /// `ForkAfterAuthentication` and `StdinNull` are options of the configuration.
    pub(crate) fn forks_by_option(self) -> bool {
        self >= Self(8, 7)
    }

    /// Reads `OpenSSH_9.2p1 Debian-2, OpenSSL 3.0`.
    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.trim_start().strip_prefix("OpenSSH_")?.split(|c: char| !c.is_ascii_digit());
        Some(Self(numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    }
}

/// The versions of the programs that were asked for theirs.
#[derive(Default)]
pub(crate) struct Versions(Mutex<HashMap<String, Arc<OnceCell<Version>>>>);

impl Versions {
    /// The version of a program, which must be OpenSSH's `ssh`.
    pub(crate) async fn of(&self, program: &str) -> Result<Version, TransportError> {
        let cell = {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(known.entry(program.to_owned()).or_default())
        };
        cell.get_or_try_init(|| ask(program)).await.copied()
    }
}

async fn ask(program: &str) -> Result<Version, TransportError> {
    let bad = |message: String| {
        TransportError::new(TransportErrorKind::Config, message).with_hint(
            "install the OpenSSH client (package openssh-client or openssh-clients), or use `transport: ssh`",
        )
    };
    let asked = Program::new(program).arg("-V").stdin(Stdio::null()).kill_on_drop(true).output().await;
    let output = asked.map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => bad(format!("cannot run {program}: no such program on this machine")),
        _ => bad(format!("cannot run {program}: {e}")),
    })?;
    let text = String::from_utf8_lossy(&output.stderr);
    Version::parse(&text).ok_or_else(|| {
        let line = autoprof_plugin::core::text::one_line(&text);
        bad(format!("cannot use {program}: it is not OpenSSH (`{program} -V` prints {line:?})"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_distributions_are_read() {
        for (text, version) in [
            ("OpenSSH_9.2p1 Debian-2+deb12u10, OpenSSL 3.0.19 27 Jan 2026\n", Version(9, 2)),
            ("OpenSSH_8.4p1 Debian-5+deb11u5, OpenSSL 1.1.1w  11 Sep 2023", Version(8, 4)),
            ("OpenSSH_10.0p2 Debian-7, OpenSSL 3.5.1", Version(10, 0)),
            ("OpenSSH_for_Windows_9.5p1, LibreSSL 3.8.2", Version(0, 0)),
        ] {
            assert_eq!(Version::parse(text).unwrap_or(Version(0, 0)), version, "{text}");
        }
        assert_eq!(Version::parse("Dropbear v2022.83"), None);
        assert!(Version(10, 0) > Version(9, 9) && Version(8, 4).takes_forced_askpass());
    }
}

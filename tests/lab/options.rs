//! What is special about one host.

use std::collections::BTreeSet;

use camino::Utf8PathBuf;

use crate::system::System;

/// Describes one host before it starts; every method returns the description with one thing changed.
#[derive(Debug, Clone, Default)]
pub struct HostOptions {
    pub(crate) trust: Trust,
    pub(crate) refuses_key: bool,
    pub(crate) no_sftp: bool,
    pub(crate) banner: Option<String>,
    pub(crate) shell: Option<String>,
    pub(crate) without: BTreeSet<String>,
    pub(crate) sshd_lines: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) tmp_options: Option<String>,
    pub(crate) ignored: Vec<Utf8PathBuf>,
    pub(crate) system: Option<System>,
}

/// What the controller's `known_hosts` says of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Trust {
    #[default]
    Known,
    Changed,
    Unknown,
}

impl HostOptions {
    /// Nobody's key is authorized.
    #[must_use]
    pub fn refuses_key(mut self) -> Self {
        self.refuses_key = true;
        self
    }

    /// `known_hosts` has another key for this host than it shows.
    #[must_use]
    pub fn changed_host_key(mut self) -> Self {
        self.trust = Trust::Changed;
        self
    }

    /// `known_hosts` does not have this host.
    #[must_use]
    pub fn unknown_host_key(mut self) -> Self {
        self.trust = Trust::Unknown;
        self
    }

    /// Shows `text` before authentication, and prints it on the standard output of every session before anything
    /// else, as hosts do whose shell start-up file prints. (SFTP cannot work on such a host, as in real life.)
    #[must_use]
    pub fn banner(mut self, text: &str) -> Self {
        self.banner = Some(text.to_owned());
        self
    }

    /// Has no SFTP subsystem.
    #[must_use]
    pub fn no_sftp(mut self) -> Self {
        self.no_sftp = true;
        self
    }

    /// Runs commands with this login shell (a path, with arguments if need be: `/bin/busybox sh`) instead of bash.
    #[must_use]
    pub fn shell(mut self, shell: &str) -> Self {
        self.shell = Some(shell.to_owned());
        self
    }

    /// Lacks a program. Its sessions' `PATH` lacks it; in namespaces the file is hidden as well, so that an absolute
    /// path does not find it either.
    #[must_use]
    pub fn without(mut self, program: &str) -> Self {
        self.without.insert(program.to_owned());
        self
    }

    /// Allows `count` sessions per connection (`MaxSessions`).
    #[must_use]
    pub fn max_sessions(self, count: u32) -> Self {
        self.sshd_option(&format!("MaxSessions {count}"))
    }

    /// Adds a line to `sshd_config`, before the lab's own, so that it wins. Not `SetEnv` (use [`env`](Self::env)) nor
    /// `ForceCommand` (it is what gives the host its home).
    #[must_use]
    pub fn sshd_option(mut self, line: &str) -> Self {
        self.sshd_lines.push(line.to_owned());
        self
    }

    /// Sets a variable in every session.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Mount options of the private `/tmp`: `noexec`, `size=1m`, `ro`, … Needs namespaces.
    #[must_use]
    pub fn tmp_options(mut self, options: &str) -> Self {
        self.tmp_options = Some(options.to_owned());
        self
    }

    /// Has a userland of its own instead of this machine's, with its own SSH server. Needs namespaces. What is said of
    /// its sessions otherwise (shell, banner, variables, missing programs, lines of `sshd_config`) does not apply.
    #[must_use]
    pub fn system(mut self, system: System) -> Self {
        self.system = Some(system);
        self
    }

    /// Does not count what lies at or below `path` (as the host sees it) as left over.
    #[must_use]
    pub fn ignoring(mut self, path: &str) -> Self {
        self.ignored.push(path.into());
        self
    }
}

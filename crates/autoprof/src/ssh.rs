//! What the command line says of SSH, handed to the transport as options of a host.
use autoprof_core::Host;

use crate::{cli, exit::Failure};

/// The host option that holds OpenSSH's options, one a line.
const OPTIONS: &str = "ssh_options";

/// Whether a transport takes OpenSSH's options.
pub fn reaches(transport: &str) -> bool {
    matches!(transport, "ssh" | "openssh")
}

/// The flags, with paths that hold in any directory.
#[derive(Debug, Clone, Default)]
pub struct SshOptions(cli::Ssh);

impl SshOptions {
    /// Takes the flags of a command.
    pub fn of(flags: &cli::Ssh) -> Result<Self, Failure> {
        let mut flags = flags.clone();
        if let Some(file) = flags.identity.as_mut().filter(|file| file.is_relative() && !file.as_str().starts_with('~'))
        {
            let here = std::env::current_dir().ok().and_then(|here| camino::Utf8PathBuf::try_from(here).ok());
            let here = here.ok_or_else(|| {
                Failure::with_hint("cannot name the current directory", "give an absolute path to --identity")
            })?;
            *file = here.join(&*file);
        }
        Ok(Self(flags))
    }

    /// Applies them to a host; a user that `keeps_user` was said more closely than by `--login`.
    pub fn apply(&self, host: &mut Host, keeps_user: bool) {
        if !reaches(&host.transport) {
            return;
        }
        let flags = &self.0;
        if let Some(config) = &flags.ssh_config {
            host.options.insert("ssh_config".to_owned(), config.to_string());
        }
        if let Some(user) = flags.login.as_ref().filter(|_| !(keeps_user && host.user.is_some())) {
            host.user = Some(user.clone());
        }
        if flags.identity.is_some() {
            host.identity_file.clone_from(&flags.identity);
        }
        if flags.jump.is_some() {
            host.jump.clone_from(&flags.jump);
        }
        add_lines(host, flags.ssh_option.iter().cloned(), true);
    }
}

/// Adds options of OpenSSH to those of a host, in front of them or behind.
pub fn add_lines(host: &mut Host, lines: impl Iterator<Item = String>, in_front: bool) {
    let more: Vec<String> = lines.collect();
    if more.is_empty() {
        return;
    }
    let own = host.options.remove(OPTIONS);
    let all: Vec<String> =
        if in_front { more.into_iter().chain(own).collect() } else { own.into_iter().chain(more).collect() };
    host.options.insert(OPTIONS.to_owned(), all.join("\n"));
}

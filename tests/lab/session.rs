//! What happens between `sshd` and the command that was asked for.
//!
//! `sshd` takes home and shell from the password file, which is not ours to change. So every session is forced through
//! a script that sets the host's own home, path and shell, and then does what `sshd` would have done: give the command
//! to the shell with `-c`. The original command reaches the shell as one argument and is never parsed by the script;
//! exit status, streams and signals are the shell's, since it takes the script's place.

use std::fmt::Write as _;

use camino::Utf8Path;

/// The surroundings of a host's commands.
pub(crate) struct Session<'a> {
    pub(crate) environment: &'a [(String, String)],
    pub(crate) shell: &'a str,
    pub(crate) banner: Option<&'a Utf8Path>,
}

impl Session<'_> {
    /// The script, for `/bin/sh`.
    pub(crate) fn script(&self) -> String {
        let mut text = String::from("# One session of a host of the lab; see session.rs.\n");
        for (name, value) in self.environment {
            let _ = writeln!(text, "export {name}={}", quote(value));
        }
        let shell = self.shell;
        let banner = self.banner.map(|file| format!("cat {}", quote(file.as_str()))).unwrap_or_default();
        let _ = write!(
            text,
            "cd \"$HOME\" || exit 125\n\
             {banner}\n\
             if [ \"${{SSH_ORIGINAL_COMMAND+set}}\" ]; then\n\
             \x20   original=$SSH_ORIGINAL_COMMAND\n\
             \x20   unset SSH_ORIGINAL_COMMAND\n\
             \x20   exec {shell} -c \"$original\"\n\
             fi\n\
             exec {shell} -l\n"
        );
        text
    }
}

/// One word of a POSIX shell.
pub(crate) fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

//! Commands that run as root: each through a script of its own on the host, which root has put there.
//!
//! A rule of sudo's cannot name a command with arguments exactly: sudo joins the arguments by blanks before it compares
//! them, so that a caller may pass several of them as one, which the program then reads as something else (`perf` takes a
//! first argument that it does not know for a program to run). A rule for a script that takes no arguments can.
use crate::transport::Command;

/// Where the scripts are on hosts.
pub const DIRECTORY: &str = "/usr/local/libexec/autoprof";

/// Directories that only root writes in: programs elsewhere are not run as root.
const SYSTEM: [&str; 6] = ["/usr/local/sbin/", "/usr/local/bin/", "/usr/sbin/", "/usr/bin/", "/sbin/", "/bin/"];

/// The script for one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Where it has to be, named by what is in it: another command is another file.
    pub path: String,
    /// What has to be in it.
    pub text: String,
}

/// Why a command is not run as root.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAsRoot {
    /// The program lies where others could have put it.
    #[error("sudo is not used for {0}, which is not in a directory of the system's")]
    Program(String),
    /// There is no telling what a shell would read.
    #[error("sudo is not used for a command with control characters in it: {0}")]
    Unreadable(String),
}

impl Script {
    /// The script that runs a command, with an environment that has nothing of the caller's.
    ///
    /// # Errors
    /// For a command that is not to be run as root.
    pub fn of(argv: &[String]) -> Result<Self, NotAsRoot> {
        let command = Command::new(argv.iter().cloned());
        let shown = || crate::text::one_line(&command.to_string());
        let program = argv.first().map(String::as_str).unwrap_or_default();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
        if !SYSTEM.iter().any(|dir| program.starts_with(dir))
            || program.contains("/../")
            || !program.chars().all(is_plain)
        {
            return Err(NotAsRoot::Program(shown()));
        }
        if argv.iter().any(|word| word.chars().any(char::is_control)) {
            return Err(NotAsRoot::Unreadable(shown()));
        }
        let text = format!(
            "#!/bin/sh\n# What autoprof runs as root, and nothing beside it.\ncd / && exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/nonexistent LC_ALL=C TZ=UTC TERM=dumb PERF_CONFIG=/dev/null \\\n  {command}\n"
        );
        let name = program.rsplit('/').next().unwrap_or_default();
        let digest = blake3::hash(text.as_bytes()).to_hex();
        Ok(Self { path: format!("{DIRECTORY}/{name}-{}", &digest[..16]), text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(argv: &[&str]) -> Result<Script, NotAsRoot> {
        Script::of(&argv.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_shell_reads_the_command_as_it_is() {
        let argv = ["/usr/bin/printf", "%s|", "a b", "$(id)", "it's", "*", "-x;y", ""];
        let Script { path, text } = script(&argv).unwrap();
        assert!(path.starts_with("/usr/local/libexec/autoprof/printf-") && path.len() == 51, "{path}");
        let done = std::process::Command::new("sh").args(["-c", &text]).output().unwrap();
        assert_eq!(String::from_utf8(done.stdout).unwrap(), "a b|$(id)|it's|*|-x;y||");
    }

    #[test]
    fn another_command_is_another_script() {
        let paths = [&["/bin/x"][..], &["/bin/x", ""], &["/bin/x", "a", "b"], &["/bin/x", "a b"]];
        let mut paths: Vec<String> = paths.iter().map(|argv| script(argv).unwrap().path).collect();
        paths.dedup();
        assert_eq!(paths.len(), 4);
    }

    #[test]
    fn what_others_could_have_put_there_is_not_run() {
        for argv in [&["perf"][..], &["/home/a/perf"], &["/usr/bin/../../tmp/perf"], &["/usr/bin/a b"], &[]] {
            assert!(matches!(script(argv), Err(NotAsRoot::Program(_))), "{argv:?}");
        }
        assert!(matches!(script(&["/bin/x", "a\nb"]), Err(NotAsRoot::Unreadable(_))));
    }
}

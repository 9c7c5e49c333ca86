//! Putting the client on a host: find a directory, send the program, learn the host's facts.
use autoprof_protocol::{CLIENT_DIR_PREFIX, CLIENT_PROGRAM, HostFacts, PROTOCOL_VERSION, ToolProbe};
use bytes::Bytes;

use crate::{
    error::TransportError,
    store::{ClientStore, NoClient},
    text,
    transport::{Captured, Command, Session, capture},
};

/// Most that a step of the installation may print.
const OUTPUT_LIMIT: usize = 1 << 20;
/// What our own lines begin with: a login may print anything else before them.
const MARK: &str = "@autoprof";
/// Finds the architecture and makes the client's directory. One line, and no character that a login shell other than
/// POSIX's could take amiss inside single quotes.
///
/// The parent is open to all users, like `/tmp` itself; each client's directory in it is its user's alone. A run that
/// ends may remove the empty parent just before the directory is made in it, so there are several tries.
const PROBE: &str = "umask 077; n=0; while [ $n -lt 5 ]; do n=$((n+1)); \
    mkdir -p -m 1777 \"$1\" 2>/dev/null; \
    d=$(mktemp -d \"$1/$2XXXXXXXX\" 2>/dev/null) && break; d=; done; \
    [ -n \"$d\" ] || { mkdir -p \"$1\"; mktemp -d \"$1/$2XXXXXXXX\"; exit 3; }; \
    echo \"$3 $(uname -m) $d\"";
/// Takes the client's program from standard input and becomes it.
const INSTALL: &str = "cd \"$1\" || exit 3; umask 077; cat > \"$2\" || exit 4; chmod 700 \"$2\" || exit 4; \
    c=$2; shift 2; exec \"./$c\" facts . \"$@\"";

/// Why the client could not be put on a host.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstallError {
    /// The connection failed.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// No client for the host's architecture.
    #[error(transparent)]
    NoClient(#[from] NoClient),
    /// No directory could be made.
    #[error("cannot make a directory in {tmpdir}: {reason}")]
    Directory {
        /// Its parent.
        tmpdir: String,
        /// What the host said.
        reason: String,
    },
    /// The program cannot be run where it is.
    #[error("cannot run the client in {directory}: {reason}")]
    NotExecutable {
        /// The client's directory.
        directory: String,
        /// What the host said.
        reason: String,
    },
    /// The host's shell did not do what was asked.
    #[error("the host did not answer as a Unix host does: {0}")]
    Unusable(String),
    /// What answered is not what was sent.
    #[error("the client that answered is not the one that was sent ({0})")]
    Impostor(String),
}

impl InstallError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Transport(e) => e.hint.clone(),
            Self::NoClient(e) => Some(e.hint()),
            Self::Directory { .. } => Some(
                "name another directory on the host with --tmpdir (tmpdir: in the job), such as /var/tmp/profilers"
                    .into(),
            ),
            Self::NotExecutable { .. } => Some(
                "it may be mounted noexec: name another directory on the host with --tmpdir (tmpdir: in the job), \
                 such as /var/tmp/profilers"
                    .into(),
            ),
            Self::Unusable(_) => Some("try `ssh HOST uname -m`: it must print one word".into()),
            Self::Impostor(_) => None,
        }
    }
}

/// A directory that was made on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// Machine architecture.
    pub arch: String,
    /// The client's directory.
    pub directory: String,
}

/// Finds the host's architecture and makes a client directory on it.
///
/// # Errors
/// See [`InstallError`].
pub async fn probe(session: &dyn Session, tmpdir: &str) -> Result<Probed, InstallError> {
    let command = Command::sh(PROBE, [tmpdir, CLIENT_DIR_PREFIX, MARK]);
    let done = capture(session, &command, Bytes::new(), OUTPUT_LIMIT).await?;
    let out = String::from_utf8_lossy(&done.stdout);
    let answer = out.lines().rev().find_map(|line| line.trim().strip_prefix(MARK));
    let words: Vec<&str> = answer.unwrap_or_default().split_whitespace().collect();
    match words.as_slice() {
        [arch, directory] if is_ours(directory, tmpdir) => {
            Ok(Probed { arch: (*arch).to_owned(), directory: (*directory).to_owned() })
        }
        _ if done.status == crate::transport::ExitStatus::Code(3) => {
            Err(InstallError::Directory { tmpdir: tmpdir.to_owned(), reason: said(&done) })
        }
        _ => Err(InstallError::Unusable(said(&done))),
    }
}

/// Whether a directory that a host names is one that we asked for: it will be removed at the end.
fn is_ours(directory: &str, tmpdir: &str) -> bool {
    let name = directory.strip_prefix(tmpdir.trim_end_matches('/')).and_then(|rest| rest.strip_prefix('/'));
    name.and_then(|name| name.strip_prefix(CLIENT_DIR_PREFIX))
        .is_some_and(|random| !random.is_empty() && random.chars().all(|c| c.is_ascii_alphanumeric()))
}

/// Sends the client for the host's architecture, runs it there, and takes its facts.
///
/// # Errors
/// See [`InstallError`].
pub async fn install(
    session: &dyn Session,
    probed: &Probed,
    store: &ClientStore,
    probes: &[ToolProbe],
) -> Result<HostFacts, InstallError> {
    let program = store.client(&probed.arch)?;
    let head = [probed.directory.clone(), CLIENT_PROGRAM.to_owned()];
    let command = Command::sh(INSTALL, head.into_iter().chain(probes.iter().map(ToString::to_string)));
    let done = capture(session, &command, program.content.clone(), OUTPUT_LIMIT).await?;
    if matches!(done.status, crate::transport::ExitStatus::Code(126 | 127)) {
        return Err(InstallError::NotExecutable { directory: probed.directory.clone(), reason: said(&done) });
    }
    if !done.status.success() {
        return Err(InstallError::Directory { tmpdir: probed.directory.clone(), reason: said(&done) });
    }
    let out = String::from_utf8_lossy(&done.stdout);
    let facts = out.lines().rev().find_map(|line| serde_json::from_str::<HostFacts>(line).ok());
    let facts = facts.ok_or_else(|| InstallError::Unusable(said(&done)))?;
    if facts.protocol != PROTOCOL_VERSION || facts.client_digest != program.digest {
        let got = format!("protocol {}, digest {}", facts.protocol, facts.client_digest);
        return Err(InstallError::Impostor(text::one_line(&got)));
    }
    Ok(facts)
}

/// The program of a client in its directory.
#[must_use]
pub fn program(directory: &str) -> String {
    format!("{directory}/{CLIENT_PROGRAM}")
}

/// What a host said, for a message.
fn said(done: &Captured) -> String {
    let stderr = done.stderr_text();
    let text = if stderr.is_empty() { text::one_line(&String::from_utf8_lossy(&done.stdout)) } else { stderr };
    if text.is_empty() { format!("it said nothing ({})", done.status) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_directory_that_was_asked_for_is_taken() {
        assert!(is_ours("/tmp/profilers/autoprof-aB3dEf90", "/tmp/profilers"));
        assert!(is_ours("/tmp/profilers/autoprof-aB3dEf90", "/tmp/profilers/"));
        for directory in [
            "/",
            "/etc",
            "/tmp/profilers/autoprof-",
            "/tmp/profilers/autoprof-a/../../etc",
            "/tmp/profilersX/autoprof-a",
        ] {
            assert!(!is_ours(directory, "/tmp/profilers"), "{directory}");
        }
    }

    #[test]
    fn the_scripts_mean_the_same_inside_single_quotes_of_every_shell() {
        for script in [PROBE, INSTALL] {
            assert!(!script.contains(['\'', '\\', '!', '\n']), "{script}");
        }
    }
}

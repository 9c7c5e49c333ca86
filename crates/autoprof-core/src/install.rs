//! Putting the client on a host: find a directory, send the program, learn the host's facts.
use autoprof_protocol::{CLIENT_DIR_PREFIX, CLIENT_PROGRAM, HostFacts, PROTOCOL_VERSION, Standing, ToolProbe};
use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::{
    error::TransportError,
    preamble::random_word,
    store::{ClientStore, NoClient},
    text,
    transport::{Captured, Command, ExitStatus, OutputChunk, Process, Session, capture},
};

/// Most that a step of the installation may print.
const OUTPUT_LIMIT: usize = 1 << 20;
/// What tells the host that the controller has the client's facts.
const CONFIRMATION: &str = "ok\n";
/// Finds the architecture and makes the client's directory. One line, and no character that a login shell other than
/// POSIX's could take amiss inside single quotes.
///
/// The parent is open to all users, like `/tmp` itself; each client's directory in it is its user's alone. Who owns the
/// parent can put another directory in the place of ours: so it has to be root's or this user's, no link, and sticky if
/// others write in it. One that is not is left alone for a parent that is this user's (`PARENT-UID`). A run that ends
/// may remove the empty parent just before the directory is made in it, so there are several tries.
///
/// From then on a script that ends, by itself or since its connection was cut, removes the directory: a controller that
/// heard nothing of it would never come back for it. Only one that is told so (`CONFIRM`) leaves it.
const PROBE: &str = "umask 077; LC_ALL=C; export LC_ALL; u=$(id -u); p=$1; m=1777; n=0; \
    ok() { set -- $(ls -ldn \"$1\" 2>/dev/null); [ \"$3\" = 0 ] || [ \"$3\" = $u ] || return 1; \
    case $1 in d????????[tT]*) return 0;; d????w*|d???????w*) return 1;; d*) return 0;; esac; return 1; }; \
    undo() { cd /; rm -rf \"$d\"; if [ $m = 700 ] || [ -k \"$p\" ]; then rmdir \"$p\" 2>/dev/null; fi; }; \
    while [ $n -lt 9 ]; do n=$((n+1)); mkdir -p -m $m \"$p\" 2>/dev/null; \
    if ok \"$p\"; then d=$(mktemp -d \"$p/$2XXXXXXXX\" 2>/dev/null) && break; d=; \
    elif [ -d \"$p\" ] || [ -L \"$p\" ]; then \
    [ $m = 1777 ] || { echo \"$3 untrusted $(ls -ldn \"$p\")\"; exit 5; }; p=$1-$u; m=700; fi; done; \
    [ -n \"$d\" ] || { mkdir -p \"$p\"; mktemp -d \"$p/$2XXXXXXXX\"; exit 3; }; \
    trap undo EXIT; trap \"exit 6\" HUP INT TERM PIPE; \
    a=$(uname -m); cd \"$d\" || exit 3";
/// Uses a client's program that an earlier run left here (`$5` are the digests of those that would do, by architecture).
/// It lies in a directory of this user's alone, so nobody else can have changed it; that it is whole is seen by the digest
/// that it says of itself.
const REUSE: &str = "q=$p/autoprof-client.$u; k=; for w in $5; do case $w in $a-*) k=$q/$w;; esac; done; \
    own() { t=$2; set -- $(ls -ldn \"$1\" 2>/dev/null); [ \"$3\" = $u ] || return 1; \
    case $1 in ${t}rwx------*) return 0;; esac; return 1; }; c=$4; s=; \
    if [ -n \"$k\" ] && own \"$q\" d && own \"$k\" - && { ln \"$k\" $c || cp \"$k\" $c; } 2>/dev/null; \
    then s=kept; fi; echo \"$3 $a $d $s\"";
/// Takes the client's program from standard input, its length in a line before it; none is needed of one that is here. It
/// gets its name when it is whole; of one that does not come nothing is run.
const RECEIVE_SIZED: &str = "read -r n || exit 6; if [ \"$n\" = 0 ]; then :; else rm -f $c; \
    take() { head -c \"$1\"; }; head -c 1 </dev/null >/dev/null 2>&1 || take() { dd bs=1 count=\"$1\" 2>/dev/null; }; \
    take \"$n\" > $c.new || exit 4; [ $(wc -c < $c.new) -eq \"$n\" ] || exit 6; \
    chmod 700 $c.new && mv -f $c.new $c || exit 4";
/// Leaves the program for the next run, in the place of an older one.
const KEEP: &str = "if [ \"$6\" = keep ] && [ -n \"$k\" ]; then mkdir -m 700 \"$q\" 2>/dev/null; \
    own \"$q\" d && rm -f \"$q\"/* && ln $c \"$k\" 2>/dev/null; fi; fi";
/// Has the program say its facts and wait until the controller has them; then the directory stays.
const CONFIRM: &str = "shift 6; ./$c install . \"$@\" || exit $?; trap - EXIT HUP INT TERM PIPE; exit 0";

/// Takes the client's program from standard input. It gets its name when it is whole; of one that does not come nothing
/// is run.
const RECEIVE: &str =
    "cat > \"$c.new\" && [ -s \"$c.new\" ] && chmod 700 \"$c.new\" && mv -f \"$c.new\" \"$c\" || exit 4";
/// Becomes the program.
const BECOME: &str = "exec \"./$c\" facts . \"$@\"";

/// Makes a directory, says where it is, and takes the program there, if none is there to be used.
fn enter() -> String {
    format!("{PROBE}; {REUSE}; {RECEIVE_SIZED}; {KEEP}; {CONFIRM}")
}

/// Takes the program into a directory that is there.
fn reenter() -> String {
    format!("cd \"$1\" || exit 3; umask 077; c=$2; shift 2; {RECEIVE}; {BECOME}")
}

/// Removes a client's directory without the client, and the parent if autoprof made it (it is sticky, or the user's own)
/// and it is empty.
/// An installation that was cut off may just be putting something in.
pub(crate) const REMOVE: &str = "rm -rf \"$1\" || { chmod -R u+rwX \"$1\"; sleep 1; rm -rf \"$1\"; } || exit 1; p=$(dirname \"$1\"); u=$(id -u); \
    case $p in *-$u) rmdir \"$p\" 2>/dev/null;; *) [ -k \"$p\" ] && rmdir \"$p\" 2>/dev/null;; esac; true";
/// Says what there is of a client. After a reboot somebody else may have made a directory of this name, with a program of
/// their own in it: what is not this user's alone is not ours.
const STATE: &str = "c=$1; m=$2; e=$3; cd \"$c\" 2>/dev/null && set -- $(ls -ldn .) && [ \"$3\" = \"$(id -u)\" ] && \
    case $1 in d????-??-?*) true;; *) false;; esac || \
    { echo \"$m gone $(cat /proc/sys/kernel/random/boot_id)\"; exit 0; }; exec \"./$e\" state \"$c\"";

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
    /// Somebody else could put another directory in the place of ours.
    #[error("{tmpdir} is not to be trusted: {reason}")]
    Untrusted {
        /// The parent that was asked for.
        tmpdir: String,
        /// What is wrong with it, and with the one that was tried instead.
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
            Self::Untrusted { .. } => Some(
                "have its owner remove it, or name another directory on the host with --tmpdir (tmpdir: in the job)"
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
    pub arch: text::HostText,
    /// The client's directory.
    pub directory: String,
}

/// An installation that has its directory on the host and waits there for the program.
#[derive(Debug)]
pub struct Begun {
    /// Where.
    pub probed: Probed,
    /// Whether the program of an earlier run is there, so that none is sent.
    pub kept: bool,
    process: Process,
    /// What has been printed.
    printed: Captured,
    /// The word that our own lines begin with.
    mark: String,
}

/// What is asked of an installation.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Parent of the client's directory.
    pub tmpdir: &'a str,
    /// Programs that the client will be asked for.
    pub probes: &'a [ToolProbe],
    /// Whether the client's program is to stay on the host, so that the next run need not send it.
    pub keep_client: bool,
}

/// Finds the host's architecture, makes a client directory on it, and waits there for the program. One command does it
/// all: the way to a host and back may be long.
///
/// # Errors
/// See [`InstallError`].
pub async fn begin(session: &dyn Session, store: &ClientStore, wanted: Wanted<'_>) -> Result<Begun, InstallError> {
    begin_with(session, store.known(), wanted).await
}

/// The same without a program that an earlier run left: it did not work.
///
/// # Errors
/// See [`InstallError`].
pub async fn begin_anew(session: &dyn Session, wanted: Wanted<'_>) -> Result<Begun, InstallError> {
    begin_with(session, "", wanted).await
}

/// The same with a list of the programs that may be used if an earlier run left them.
async fn begin_with(session: &dyn Session, known: &str, wanted: Wanted<'_>) -> Result<Begun, InstallError> {
    let Wanted { tmpdir, probes, keep_client } = wanted;
    let keep = if keep_client { "keep" } else { "leave" };
    let mark = random_word();
    let head = [tmpdir, CLIENT_DIR_PREFIX, &mark, CLIENT_PROGRAM, known, keep].map(str::to_owned);
    let command = Command::sh(&enter(), head.into_iter().chain(probes.iter().map(ToString::to_string)));
    let mut process = session.exec(&command).await?;
    let mut printed = Captured { stdout: Vec::new(), stderr: Vec::new(), status: ExitStatus::Code(0) };
    // An answer is there when its line is.
    let answered = |printed: &Captured| answer(&printed.stdout, &mark).is_some();
    let ended = !read_until(&mut process, &mut printed, answered).await?;
    let words = answer(&printed.stdout, &mark).unwrap_or_default();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [arch, directory, kept @ ..] if !ended && kept.len() < 2 && is_ours(directory, tmpdir) => {
            let probed = Probed { arch: (*arch).into(), directory: (*directory).to_owned() };
            Ok(Begun { probed, kept: *kept == ["kept"], process, printed, mark })
        }
        ["untrusted", mode, _, owner, ..] => Err(InstallError::Untrusted {
            tmpdir: tmpdir.to_owned(),
            reason: text::one_line(&format!(
                "it belongs to another user, or others can write in it without a sticky bit; and the place that is \
                 this user's own beside it is no better (mode {mode}, uid {owner})"
            )),
        }),
        _ if printed.status == ExitStatus::Code(3) => {
            Err(InstallError::Directory { tmpdir: tmpdir.to_owned(), reason: said(&printed) })
        }
        _ => Err(InstallError::Unusable(said(&printed))),
    }
}

/// Reads what a process prints until there is enough of it; false: it ended before.
async fn read_until(
    process: &mut Process,
    printed: &mut Captured,
    enough: impl Fn(&Captured) -> bool,
) -> Result<bool, InstallError> {
    loop {
        match process.output.next().await? {
            OutputChunk::Stdout(data) => printed.stdout.extend_from_slice(&data),
            OutputChunk::Stderr(data) => printed.stderr.extend_from_slice(&data),
            OutputChunk::Exit(status) => {
                printed.status = status;
                return Ok(false);
            }
        }
        if enough(printed) {
            return Ok(true);
        }
        if printed.stdout.len() + printed.stderr.len() > OUTPUT_LIMIT {
            return Err(InstallError::Unusable(said(printed)));
        }
    }
}

/// The words of the last whole line that is ours. Something else may stand before it in its line.
fn answer(stdout: &[u8], mark: &str) -> Option<Vec<String>> {
    let out = String::from_utf8_lossy(stdout);
    let (_, after) = out.rsplit_once(mark)?;
    let (line, _) = after.split_once('\n')?;
    Some(line.split_whitespace().map(str::to_owned).collect())
}

/// The JSON that begins somewhere in a text and is what is looked for, whatever stands before and behind it.
fn find_json<T: DeserializeOwned>(text: &str, is_it: impl Fn(&T) -> bool) -> Option<T> {
    let at = |at: usize| serde_json::Deserializer::from_str(&text[at..]).into_iter().next()?.ok();
    text.match_indices('{').filter_map(|(start, _)| at(start)).find(is_it)
}

impl Begun {
    /// Sends the client for the host's architecture, if it is not there; it runs there, and its facts are taken. The
    /// host keeps the directory from then on.
    ///
    /// # Errors
    /// See [`InstallError`]. The host removes the directory then, as soon as it hears of it.
    pub async fn finish(mut self, store: &ClientStore) -> Result<HostFacts, InstallError> {
        let program = store.client(&self.probed.arch)?;
        let content = if self.kept { Bytes::new() } else { program.content.clone() };
        let (printed, mark) = (&mut self.printed, &self.mark);
        let Process { input, .. } = &mut self.process;
        // A script that ends without reading makes this fail; what it printed says why.
        let sent = async {
            input.write(format!("{}\n", content.len()).into()).await?;
            if content.is_empty() { Ok(()) } else { input.write(content).await }
        };
        let sent = sent.await;
        let answered = |printed: &Captured| found(printed, mark).is_some();
        let ended = !read_until(&mut self.process, printed, answered).await?;
        if !ended {
            sent?;
        }
        let facts = facts(printed, mark, ended, &self.probed.directory, &program.digest)?;
        // Who reads one line and ends may be gone before the end of its input reaches it: its status says what it read.
        let confirmed = async {
            self.process.input.write(CONFIRMATION.into()).await?;
            self.process.input.close().await
        };
        let _: Result<(), TransportError> = confirmed.await;
        while read_until(&mut self.process, printed, |_| true).await? {}
        if printed.status.success() { Ok(facts) } else { Err(failed(printed, &self.probed.directory)) }
    }
}

/// The facts that a client has printed by now.
fn found(printed: &Captured, mark: &str) -> Option<HostFacts> {
    let out = String::from_utf8_lossy(&printed.stdout);
    // Every object is facts that lack everything.
    find_json(out.rsplit_once(mark)?.1, |facts: &HostFacts| facts.protocol != 0)
}

/// Whether a directory that a host names is one that we asked for: it will be removed at the end.
pub(crate) fn is_ours(directory: &str, tmpdir: &str) -> bool {
    let rest = directory.strip_prefix(tmpdir.trim_end_matches('/')).unwrap_or_default();
    // The parent that is the user's own has the user's number behind its name.
    let own = rest.strip_prefix('-').map(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()));
    let name = own.unwrap_or(rest).strip_prefix('/');
    name.and_then(|name| name.strip_prefix(CLIENT_DIR_PREFIX))
        .is_some_and(|random| !random.is_empty() && random.chars().all(|c| c.is_ascii_alphanumeric()))
}

/// Sends the client for the host's architecture into a directory that is there, runs it, and takes its facts.
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
    let command = Command::sh(&reenter(), head.into_iter().chain(probes.iter().map(ToString::to_string)));
    let done = capture(session, &command, program.content.clone(), OUTPUT_LIMIT).await?;
    facts(&done, "", true, &probed.directory, &program.digest)
}

/// The facts that a client printed, if it is the one that was sent.
fn facts(done: &Captured, mark: &str, ended: bool, directory: &str, digest: &str) -> Result<HostFacts, InstallError> {
    if ended && !done.status.success() {
        return Err(failed(done, directory));
    }
    let facts = found(done, mark).ok_or_else(|| InstallError::Unusable(said(done)))?;
    if facts.protocol != PROTOCOL_VERSION || facts.client_digest != digest {
        let got = format!("protocol {}, digest {}", facts.protocol, facts.client_digest);
        return Err(InstallError::Impostor(text::one_line(&got)));
    }
    Ok(facts)
}

/// Why an installation ended without a client.
fn failed(done: &Captured, directory: &str) -> InstallError {
    let (directory, reason) = (directory.to_owned(), said(done));
    match done.status {
        ExitStatus::Code(126 | 127) => InstallError::NotExecutable { directory, reason },
        _ => InstallError::Directory { tmpdir: directory, reason },
    }
}

/// What is found of a client that was lost sight of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Its directory, with a program that answers.
    Client(Box<Standing>),
    /// Its directory, with a program that is not whole any more.
    Broken {
        /// What the host said.
        said: String,
    },
    /// Not even the directory.
    Gone {
        /// The kernel's id of this boot.
        boot_id: String,
    },
}

/// Looks what there is of the client in a directory.
///
/// # Errors
/// When the connection fails.
pub async fn look(session: &dyn Session, directory: &str) -> Result<Found, TransportError> {
    let mark = random_word();
    let command = Command::sh(STATE, [directory, &mark, CLIENT_PROGRAM]);
    let done = capture(session, &command, Bytes::new(), OUTPUT_LIMIT).await?;
    let out = String::from_utf8_lossy(&done.stdout);
    let standing = find_json::<Standing>(&out, |standing| standing.protocol != 0);
    if let Some(standing) = standing.filter(|s| s.protocol == PROTOCOL_VERSION) {
        return Ok(Found::Client(Box::new(standing)));
    }
    match answer(&done.stdout, &mark).unwrap_or_default().as_slice() {
        [gone, boot_id] if gone == "gone" => Ok(Found::Gone { boot_id: boot_id.chars().take(64).collect() }),
        _ => Ok(Found::Broken { said: said(&done) }),
    }
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
        assert!(is_ours("/tmp/profilers-1001/autoprof-aB3dEf90", "/tmp/profilers"));
        for directory in [
            "/",
            "/etc",
            "/tmp/profilers/autoprof-",
            "/tmp/profilers/autoprof-a/../../etc",
            "/tmp/profilersX/autoprof-a",
            "/tmp/profilers-1/../etc/autoprof-a",
            "/tmp/profilers-x/autoprof-a",
        ] {
            assert!(!is_ours(directory, "/tmp/profilers"), "{directory}");
        }
    }

    #[test]
    fn the_scripts_mean_the_same_inside_single_quotes_of_every_shell() {
        for script in [&*enter(), &reenter(), STATE, REMOVE] {
            assert!(!script.contains(['\'', '\\', '!', '\n']), "{script}");
        }
    }

    /// What is left in a directory after the installing script was given this input, by each shell that is here.
    fn left_after(input: &[u8]) -> Vec<(String, usize, String)> {
        use std::{io::Write as _, process::Stdio};
        let shells = [&["dash"][..], &["bash"], &["busybox", "sh"], &["ksh"], &["zsh", "--emulate", "sh"]];
        let mut left = Vec::new();
        for shell in shells {
            let dir = tempfile::tempdir().unwrap();
            let parent = dir.path().join("p");
            let mut command = std::process::Command::new(shell[0]);
            command.args(&shell[1..]).args(["-c", &enter(), "sh"]).arg(&parent);
            command.args([CLIENT_DIR_PREFIX, "mark", CLIENT_PROGRAM, "", "leave"]);
            let streams = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
            let Ok(mut child) = streams.spawn() else { continue };
            // Its reader may end before it has read all.
            let _ = child.stdin.take().unwrap().write_all(input);
            let done = child.wait_with_output().unwrap();
            let entries = std::fs::read_dir(&parent).map_or(0, Iterator::count);
            left.push((shell[0].to_owned(), entries, String::from_utf8_lossy(&done.stdout).into_owned()));
        }
        assert!(left.len() > 1, "there are no shells to try it with");
        left
    }

    #[test]
    fn an_installation_that_is_cut_at_any_step_removes_its_directory() {
        let program = |text: &str| format!("{}\n{text}", text.len()).into_bytes();
        let said = "#!/bin/sh\n[ $1 = install ] && echo facts && read answer && [ $answer = ok ]\n";
        let whole = program(said);
        let cases: [(&str, Vec<u8>); 6] = [
            ("before the length", Vec::new()),
            ("in the length", b"12".to_vec()),
            ("in the program", whole[..whole.len() - 5].to_vec()),
            ("no confirmation", whole.clone()),
            ("a program that fails", program("#!/bin/sh\nexit 1\n")),
            ("a program that cannot be run", program("#!/nonexistent\n")),
        ];
        for (case, input) in cases {
            for (shell, entries, printed) in left_after(&input) {
                assert_eq!(entries, 0, "{case}, {shell}: {printed}");
                assert!(printed.starts_with("mark "), "{case}, {shell}: {printed}");
            }
        }
        let confirmed = [whole, CONFIRMATION.as_bytes().to_vec()].concat();
        for (shell, entries, printed) in left_after(&confirmed) {
            assert!(entries == 1 && printed.ends_with("facts\n"), "{shell}: {printed}");
        }
    }
}

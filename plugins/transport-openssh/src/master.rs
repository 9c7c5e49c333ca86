//! The control master of a host: one `ssh` process, from its start to its end.
use std::{
    collections::VecDeque,
    fs, io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use autoprof_plugin::{
    bytes::BytesMut,
    core::{Secret, text::one_line},
    prelude::*,
};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::unix::{OwnedWriteHalf, pipe},
    process::{Child, ChildStdin, Command as Program},
    sync::watch,
    time::{Instant, sleep, timeout},
};

use crate::{
    diagnosis::{self, Failure},
    directory::{self, ANSWER, ASKPASS, CONFIG, FORCED, QUESTION, SOCKET},
    log::{Log, Stage},
    mux::{self, Packets},
    secrets::{self, Given, Question, QuestionKind, Secrets},
    settings::Settings,
    version::{Version, Versions},
};

/// Becomes `ssh`, beside a watcher that ends it. `$1` is the private directory, the rest is the command.
///
/// Standard input is a pipe that only autoprof holds open. Its end, also when autoprof is killed, is what ends `ssh` and
/// whatever `ssh` started, and removes the directory. All are in one process group, which the watcher is in too: its
/// number cannot be another's while the watcher lives. Until the first line comes, `ssh` is not started, so that there
/// is no instant at which a killed autoprof leaves a directory behind.
const SCRIPT: &str = r#"d=$1; shift
mkdir -m 700 "$d" || exit 1
exec 3<&0 </dev/null
echo ready
read -r _ <&3 || { rm -rf "$d"; exit 1; }
{
    trap '' TERM INT HUP
    read -r _ <&3
    kill -TERM "-$$"
    n=0
    while [ "$n" -lt 20 ] && kill -0 "$$"; do sleep 0.1; n=$((n + 1)); done
    rm -rf "$d"
    kill -KILL "-$$"
} >/dev/null 2>&1 &
exec "$@" 3<&-
"#;

/// How often it is looked whether the control socket is there.
const POLL: Duration = Duration::from_millis(10);
/// How long `ssh` may be silent while it connects, where no time-out was given.
const SILENCE: Duration = Duration::from_secs(60);
/// How long a master that was told to end may take.
const FAREWELL: Duration = Duration::from_secs(4);
/// How long the rest of the log may take after the end.
const REST: Duration = Duration::from_millis(200);
/// Time for a command to be started, where no time-out was given.
const STEP: Duration = Duration::from_secs(15);
/// Longest line of a log, and longest question.
const MAX_LINE: usize = 16 << 10;
/// How many lines of standard error are kept.
const KEPT: usize = 12;

/// Starts masters; holds what they share.
pub(crate) struct Connector {
    versions: Versions,
    secrets: Arc<Secrets>,
}

impl Connector {
    pub(crate) fn new(prompter: Arc<dyn Prompter>) -> Self {
        Self { versions: Versions::default(), secrets: Arc::new(Secrets::new(prompter)) }
    }

    /// Starts a master for a host and waits until commands can be run.
    pub(crate) async fn connect(&self, host: &Host) -> Result<Arc<Master>, TransportError> {
        let settings = Settings::of(host)?;
        let version = self.versions.of(&settings.program).await?;
        if settings.is_insecure() {
            tracing::warn!("{}: any host key is taken", host.name);
        }
        let master = Master::start(host, &settings, version, &self.secrets).await?;
        master.ready(&settings).await?;
        Ok(Arc::new(master))
    }
}

/// What the task that watches an `ssh` has seen.
#[derive(Default)]
struct Seen {
    log: Log,
    /// The last lines of standard error: of proxies, of jump hosts, and banners.
    stderr: VecDeque<String>,
    /// When something was last heard.
    heard: Option<Instant>,
    /// A person is being asked.
    is_asking: bool,
    /// A question that nobody answered, without which there is no login.
    declined: Option<String>,
}

/// While this is open, `ssh` runs.
type Lifeline = Arc<Mutex<Option<ChildStdin>>>;

fn cut(lifeline: &Lifeline) {
    lifeline.lock().unwrap_or_else(PoisonError::into_inner).take();
}

/// How many channels of a master are in use, and how many the host allows, as far as it has said.
struct Channels {
    counts: Mutex<Counts>,
    /// Ways on which a channel was refused, which must stay open (see [`channel::open`](crate::channel::open)).
    refused: Mutex<Vec<(Packets, OwnedWriteHalf)>>,
}

struct Counts {
    open: usize,
    limit: usize,
}

/// The right to one channel, until it is dropped.
pub(crate) struct Lease(Arc<Channels>);

impl Lease {
    /// The host refused the channel: it allows no more than there are without it.
    pub(crate) fn refused(&self, way: (Packets, OwnedWriteHalf)) {
        let mut counts = self.0.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.limit = counts.limit.min(counts.open - 1);
        self.0.refused.lock().unwrap_or_else(PoisonError::into_inner).push(way);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.counts.lock().unwrap_or_else(PoisonError::into_inner).open -= 1;
    }
}

type Shared = Arc<Mutex<Seen>>;

fn lock(seen: &Shared) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running master. Dropping it ends it.
pub(crate) struct Master {
    address: String,
    directory: PathBuf,
    copied: Option<String>,
    lifeline: Lifeline,
    channels: Arc<Channels>,
    seen: Shared,
    exited: watch::Receiver<bool>,
    step_timeout: Duration,
    write_timeout: Duration,
}

impl Master {
    async fn start(
        host: &Host,
        settings: &Settings,
        version: Version,
        secrets: &Arc<Secrets>,
    ) -> Result<Self, TransportError> {
        let directory = directory::choose();
        let can_ask = version.takes_forced_askpass() && directory.parent().is_some_and(directory::runs_programs);
        let mut program = Program::new("/bin/sh");
        program
            .args(["-c", SCRIPT, "autoprof-openssh"])
            .arg(&directory)
            .arg(&settings.program)
            .args(settings.arguments(host, &directory, version, can_ask))
            .env("SSH_ASKPASS", directory.join(ASKPASS))
            .env("SSH_ASKPASS_REQUIRE", "force")
            // A Ctrl-C at the terminal is for autoprof, which ends the master when it has cleaned up.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let forced = settings.forced(host)?;
        let config = settings.config(&directory.join(FORCED))?;
        let failed = |e: &io::Error| {
            TransportError::caused(TransportErrorKind::Other, format!("cannot start {}", settings.program), e)
        };
        let mut child = program.spawn().map_err(|e| failed(&e))?;
        let gone = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let mut lifeline = child.stdin.take().ok_or_else(|| failed(&gone()))?;
        let mut log = Lines::new(child.stdout.take().ok_or_else(|| failed(&gone()))?);
        let mut stderr = Lines::new(child.stderr.take().ok_or_else(|| failed(&gone()))?);
        if log.next().await.as_deref() != Some("ready") {
            let said = stderr.next().await.unwrap_or_default();
            let message = format!("cannot make the directory {}: {}", directory.display(), one_line(&said));
            return Err(TransportError::new(TransportErrorKind::Other, message));
        }
        let questions = lay_out(&directory, &forced, &config).map_err(|e| {
            let message = format!("cannot write into {}", directory.display());
            TransportError::caused(TransportErrorKind::Other, message, &e)
        })?;
        lifeline.write_all(b"go\n").await.map_err(|e| failed(&e))?;
        let (exit, exited) = watch::channel(false);
        let seen = Shared::default();
        let asking = Asking {
            host: host.name.clone(),
            directory: directory.clone(),
            secrets: Arc::clone(secrets),
            shares_passphrases: version.marks_prompts_of_hosts(),
            questions,
            given: Given::new(),
            pipe: None,
        };
        let lifeline = Arc::new(Mutex::new(Some(lifeline)));
        let watcher = Watcher {
            child,
            log,
            stderr,
            asking,
            seen: Arc::clone(&seen),
            lifeline: Arc::clone(&lifeline),
            directory: directory.clone(),
        };
        tokio::spawn(watcher.watch(exit));
        Ok(Self {
            address: host.address().to_owned(),
            directory,
            copied: settings.copied().map(str::to_owned),
            lifeline,
            channels: Arc::new(Channels {
                counts: Mutex::new(Counts { open: 0, limit: usize::MAX }),
                refused: Mutex::default(),
            }),
            seen,
            exited,
            step_timeout: settings.connect_timeout.unwrap_or(STEP),
            write_timeout: settings.write_timeout,
        })
    }

    /// Waits until the control socket is there.
    async fn ready(&self, settings: &Settings) -> Result<(), TransportError> {
        // Its own limit, in whole seconds, and its own words come first.
        let limit = settings.connect_timeout.map_or(SILENCE, |limit| match limit.as_secs() {
            0 => limit,
            _ => limit + Duration::from_secs(1),
        });
        let started = Instant::now();
        let mut exited = self.exited.clone();
        loop {
            tokio::select! {
                _ = exited.wait_for(|exited| *exited) => return Err(self.failure()),
                () = sleep(POLL) => {}
            }
            if self.directory.join(SOCKET).exists() && self.channel().await.is_some() {
                return Ok(());
            }
            let (is_asking, heard, stage) = {
                let mut seen = lock(&self.seen);
                if seen.declined.is_some() {
                    drop(seen);
                    self.end();
                    return Err(self.failure());
                }
                if seen.is_asking {
                    seen.heard = Some(Instant::now());
                }
                (seen.is_asking, seen.heard.unwrap_or(started), seen.log.stage)
            };
            if !is_asking && heard.elapsed() > limit {
                self.end();
                return Err(self.too_slow(stage_name(stage), limit));
            }
        }
    }

    fn failure(&self) -> TransportError {
        let seen = lock(&self.seen);
        if let Some(question) = &seen.declined {
            let place = seen.log.place.as_deref().unwrap_or(&self.address);
            let message = format!("cannot log in to {place}: ssh asks {question:?}, and nobody answered");
            return TransportError::new(TransportErrorKind::Auth, message)
                .with_hint("run autoprof at a terminal, or load a key with ssh-add");
        }
        let stderr: Vec<String> = seen.stderr.iter().cloned().collect();
        let config = self.directory.join(CONFIG);
        let config = (config.as_path(), self.copied.as_deref());
        Failure { log: &seen.log, stderr: &stderr, address: &self.address, config }.error()
    }

    /// The right to one more channel, unless the host is known to refuse it.
    pub(crate) fn lease(&self) -> Option<Lease> {
        let mut counts = self.channels.counts.lock().unwrap_or_else(PoisonError::into_inner);
        (counts.open < counts.limit).then(|| {
            counts.open += 1;
            Lease(Arc::clone(&self.channels))
        })
    }

    /// A way to a new channel; none when there is no master any more.
    pub(crate) async fn channel(&self) -> Option<(Packets, OwnedWriteHalf)> {
        timeout(self.step_timeout, mux::connect(&self.directory.join(SOCKET))).await.ok()?.ok()
    }

    /// Address and port as messages show them.
    pub(crate) fn place(&self) -> String {
        lock(&self.seen).log.place.clone().unwrap_or_else(|| self.address.clone())
    }

    /// How long a command may take to be started.
    pub(crate) fn step_timeout(&self) -> Duration {
        self.step_timeout
    }

    /// How long a write may make no progress.
    pub(crate) fn write_timeout(&self) -> Duration {
        self.write_timeout
    }

    /// The error of something that a dead connection cannot do any more; waits a little for the reason.
    pub(crate) async fn closed(&self, what: &str, wait: Duration) -> TransportError {
        let _ = timeout(wait, self.exited.clone().wait_for(|exited| *exited)).await;
        let message = format!("the connection to {} ended {what}", self.place());
        let mut error = TransportError::new(TransportErrorKind::Closed, message);
        error.chain.extend(diagnosis::end(&lock(&self.seen).log));
        error
    }

    /// A step that took too long.
    pub(crate) fn too_slow(&self, step: &str, limit: Duration) -> TransportError {
        let message = format!("{step} with {} timed out after {} s", self.place(), limit.as_secs_f64());
        TransportError::new(TransportErrorKind::Timeout, message).with_hint(
            "if the host is only slow, raise connect_timeout (seconds) among the host's options in the job file",
        )
    }

    /// Ends the master, without waiting for it.
    pub(crate) fn end(&self) {
        cut(&self.lifeline);
    }

    /// Ends the master and waits until it has ended.
    pub(crate) async fn close(&self) -> Result<(), TransportError> {
        self.end();
        match timeout(FAREWELL, self.exited.clone().wait_for(|exited| *exited)).await {
            Ok(_) => Ok(()),
            Err(_) => {
                let mut error = self.too_slow("closing the connection", FAREWELL);
                error.hint = None;
                Err(error)
            }
        }
    }
}

fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Setup => "resolving the name",
        Stage::Connect => "TCP connect",
        Stage::Exchange | Stage::HostKey => "banner and key exchange",
        Stage::Login => "authentication",
        Stage::Session => "opening the control socket",
    }
}

/// Fills the private directory; gives the way by which questions come.
fn lay_out(directory: &Path, forced: &str, config: &str) -> io::Result<pipe::Receiver> {
    let write = |name: &str, mode: u32, text: &str| {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(directory.join(name))?;
        io::Write::write_all(&mut file, text.as_bytes())
    };
    write(FORCED, 0o600, forced)?;
    write(CONFIG, 0o600, config)?;
    write(ASKPASS, 0o700, secrets::SCRIPT)?;
    for name in [QUESTION, ANSWER] {
        mknodat(CWD, directory.join(name), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
    }
    // Held open for both, so that it is not at its end between two questions.
    pipe::OpenOptions::new().read_write(true).open_receiver(directory.join(QUESTION))
}

/// Answers what an `ssh` asks.
struct Asking {
    host: String,
    directory: PathBuf,
    secrets: Arc<Secrets>,
    shares_passphrases: bool,
    questions: pipe::Receiver,
    given: Given,
    /// Open until the next question, so that the answer waits for who asked.
    pipe: Option<pipe::Sender>,
}

impl Asking {
    async fn answer(&mut self, question: &Question) -> io::Result<bool> {
        let answer = self.secrets.answer(&self.host, question, self.shares_passphrases, &mut self.given).await;
        let is_given = answer.is_some();
        // Cleared when it is dropped, as the answer is.
        let text = match answer {
            Some(secret) => Secret::from(format!("yes\n{}\n", secret.reveal())),
            None => Secret::from("no\n\n".to_owned()),
        };
        self.pipe = None;
        let mut pipe = pipe::OpenOptions::new().read_write(true).open_sender(self.directory.join(ANSWER))?;
        pipe.write_all(text.reveal().as_bytes()).await?;
        self.pipe = Some(pipe);
        Ok(is_given)
    }
}

/// Watches an `ssh` until it has ended.
struct Watcher {
    child: Child,
    log: Lines<tokio::process::ChildStdout>,
    stderr: Lines<tokio::process::ChildStderr>,
    asking: Asking,
    seen: Shared,
    lifeline: Lifeline,
    directory: PathBuf,
}

impl Watcher {
    async fn watch(self, exit: watch::Sender<bool>) {
        let Self { mut child, mut log, mut stderr, asking, seen, lifeline, directory } = self;
        let asked = tokio::spawn(answer_all(asking, Arc::clone(&seen)));
        let (mut has_log, mut has_stderr) = (true, true);
        loop {
            tokio::select! {
                line = log.next(), if has_log => match line {
                    Some(line) => hear(&seen, &line),
                    None => has_log = false,
                },
                line = stderr.next(), if has_stderr => match line {
                    Some(line) => hear_aside(&seen, &line),
                    None => has_stderr = false,
                },
                _ = child.wait() => break,
            }
        }
        asked.abort();
        // Also ends what `ssh` started and left behind.
        cut(&lifeline);
        let rest = async {
            while let Some(line) = log.next().await {
                hear(&seen, &line);
            }
            while let Some(line) = stderr.next().await {
                hear_aside(&seen, &line);
            }
        };
        // What `ssh` started may hold standard error open.
        let _ = timeout(REST, rest).await;
        let _ = fs::remove_dir_all(directory);
        exit.send_replace(true);
    }
}

fn hear(seen: &Shared, line: &str) {
    tracing::debug!("{}", one_line(line));
    let mut seen = lock(seen);
    seen.heard = Some(Instant::now());
    seen.log.read(line);
}

fn hear_aside(seen: &Shared, line: &str) {
    let line = one_line(line);
    tracing::debug!("{line}");
    let mut seen = lock(seen);
    seen.heard = Some(Instant::now());
    if seen.stderr.len() == KEPT {
        seen.stderr.pop_front();
    }
    seen.stderr.push_back(line);
}

async fn answer_all(mut asking: Asking, seen: Shared) {
    let mut buffer = BytesMut::new();
    loop {
        match asking.questions.read_buf(&mut buffer).await {
            Ok(1..) if buffer.len() <= MAX_LINE => {}
            _ => return,
        }
        let Some(end) = buffer.iter().position(|byte| *byte == 0) else { continue };
        let question = Question::read(&buffer.split_to(end + 1)[..end]);
        if question.kind == QuestionKind::Notice {
            tracing::warn!("{}: {}", asking.host, question.text);
            continue;
        }
        lock(&seen).is_asking = true;
        let answered = asking.answer(&question).await;
        let mut seen = lock(&seen);
        seen.is_asking = false;
        // Without a passphrase other keys may do; without a password there is nothing more to try.
        if !answered.unwrap_or(false) && !question.is_passphrase() && seen.log.stage >= Stage::Login {
            seen.declined = Some(question.text);
        }
    }
}

/// Lines of a stream, of bounded length.
struct Lines<R> {
    from: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    fn new(from: R) -> Self {
        Self { from, buffer: BytesMut::new() }
    }

    /// The next line without its end; none at the end of the stream. Cancel safe.
    async fn next(&mut self) -> Option<String> {
        loop {
            let end = self.buffer.iter().position(|byte| *byte == b'\n');
            if let Some(end) = end.or((self.buffer.len() >= MAX_LINE).then_some(MAX_LINE - 1)) {
                let line = self.buffer.split_to(end + 1);
                return Some(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']).to_owned());
            }
            match self.from.read_buf(&mut self.buffer).await {
                Ok(1..) => {}
                _ if self.buffer.is_empty() => return None,
                _ => {
                    let line = self.buffer.split();
                    return Some(String::from_utf8_lossy(&line).into_owned());
                }
            }
        }
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        self.end();
    }
}

//! How hosts are reached.
//!
//! The only primitive is a process with streams. Installing, signalling and collecting are all built on it, so
//! a transport is easy to write and works where file transfer is switched off.
use std::{any::Any, fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{
    Host,
    error::{TransportError, TransportErrorKind},
};

/// Reaches hosts. One object per kind of transport.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Connects to a host and authenticates.
    ///
    /// Cancel safe: dropping the future leaves no connection behind. The transport has time-outs of its own for
    /// each step and names the step in the error.
    ///
    /// # Errors
    /// See [`TransportErrorKind`].
    async fn connect(&self, host: &Host) -> Result<Arc<dyn Session>, TransportError>;
}

/// One live connection to one host.
#[async_trait]
pub trait Session: Send + Sync {
    /// Starts a command on the host.
    ///
    /// The process does not end with the future or the streams: what must not outlive the session is ended by
    /// whoever started it.
    ///
    /// # Errors
    /// When the connection is gone or the host refuses. A program that is not there is not an error of `exec`:
    /// the process ends with status 127, as in a shell.
    async fn exec(&self, command: &Command) -> Result<Process, TransportError>;

    /// Ends the connection in an orderly way.
    ///
    /// # Errors
    /// When the other side did not agree in time; the connection is gone all the same.
    async fn close(&self) -> Result<(), TransportError>;

    /// For adapters, which unwrap an object that is already of their kind instead of wrapping it twice.
    fn as_any(&self) -> &dyn Any;
}

/// A program and its arguments, as a list; no shell of the user's sees anything in it as syntax.
///
/// A transport whose far side insists on a command line quotes each argument. The user's login shell may be
/// anything (fish and tcsh are met in the wild), so arguments of autoprof's own commands keep to characters that
/// are the same in all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Program and arguments, never empty.
    pub argv: Vec<String>,
}

impl Command {
    /// A program with its arguments.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self { argv: argv.into_iter().map(Into::into).collect() }
    }

    /// A one-line script for `/bin/sh`, with arguments `$1`, `$2` ….
    pub fn sh<S: Into<String>>(script: &str, args: impl IntoIterator<Item = S>) -> Self {
        let head = ["/bin/sh", "-c", script, "sh"].into_iter().map(str::to_owned);
        Self { argv: head.chain(args.into_iter().map(Into::into)).collect() }
    }
}

impl fmt::Display for Command {
    /// The command as it could be pasted into a POSIX shell.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shell_words::join(&self.argv))
    }
}

/// A process on a host: what goes in and what comes out, which may be held by different tasks.
pub struct Process {
    /// Its standard input.
    pub input: Box<dyn ProcessInput>,
    /// Its standard output, standard error and end.
    pub output: Box<dyn ProcessOutput>,
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").finish_non_exhaustive()
    }
}

/// The way into a process.
#[async_trait]
pub trait ProcessInput: Send {
    /// Writes all of `data` to the process's standard input.
    ///
    /// Not cancel safe: after a dropped future it is unknown how much was written.
    ///
    /// # Errors
    /// When the process no longer reads or the connection is gone.
    async fn write(&mut self, data: Bytes) -> Result<(), TransportError>;

    /// Ends the process's standard input.
    ///
    /// # Errors
    /// When the connection is gone.
    async fn close(&mut self) -> Result<(), TransportError>;
}

/// The way out of a process.
#[async_trait]
pub trait ProcessOutput: Send {
    /// The next thing that the process wrote, or its end. Cancel safe.
    ///
    /// # Errors
    /// When the connection ended before the process did, so that nothing is known of its end.
    async fn next(&mut self) -> Result<OutputChunk, TransportError>;
}

/// One thing out of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputChunk {
    /// Bytes from standard output.
    Stdout(Bytes),
    /// Bytes from standard error.
    Stderr(Bytes),
    /// The process ended and everything that it wrote has been handed out.
    Exit(ExitStatus),
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExitStatus {
    /// By itself, with this code.
    Code(i32),
    /// By this signal, named without `SIG`.
    Signal(String),
}

impl ExitStatus {
    /// Whether it ended by itself with code 0.
    #[must_use]
    pub fn success(&self) -> bool {
        *self == Self::Code(0)
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit status {code}"),
            Self::Signal(name) => write!(f, "signal {name}"),
        }
    }
}

/// What a process printed, and how it ended.
#[derive(Debug, Clone)]
pub struct Captured {
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
    /// Its end.
    pub status: ExitStatus,
}

impl Captured {
    /// Standard error for a message: one line, trimmed, control characters replaced.
    #[must_use]
    pub fn stderr_text(&self) -> String {
        crate::text::one_line(&String::from_utf8_lossy(&self.stderr))
    }
}

/// Runs a command to its end with `input` on its standard input and keeps what it prints.
///
/// # Errors
/// Those of the transport, and [`TransportErrorKind::Exec`] when it prints more than `limit` bytes.
pub async fn capture(
    session: &dyn Session,
    command: &Command,
    input: Bytes,
    limit: usize,
) -> Result<Captured, TransportError> {
    converse(session.exec(command).await?, &command.argv[0], input, limit).await
}

/// Gives a process all of its input, and keeps what it prints until it ends.
pub(crate) async fn converse(
    process: Process,
    program: &str,
    input: Bytes,
    limit: usize,
) -> Result<Captured, TransportError> {
    let Process { input: mut stdin, mut output } = process;
    let feed = async {
        if !input.is_empty() {
            stdin.write(input).await?;
        }
        stdin.close().await
    };
    let drain = async {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        loop {
            match output.next().await? {
                OutputChunk::Stdout(data) => stdout.extend_from_slice(&data),
                OutputChunk::Stderr(data) => stderr.extend_from_slice(&data),
                OutputChunk::Exit(status) => return Ok(Captured { stdout, stderr, status }),
            }
            if stdout.len() + stderr.len() > limit {
                let message = format!("{program} printed more than {limit} bytes");
                return Err(TransportError::new(TransportErrorKind::Exec, message));
            }
        }
    };
    // A process that ends without reading its input makes the write fail; what it printed says why.
    let (fed, drained) = tokio::join!(feed, drain);
    let captured = drained?;
    if captured.status.success() {
        fed?;
    }
    Ok(captured)
}

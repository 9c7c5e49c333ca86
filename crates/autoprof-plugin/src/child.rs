//! One child process and its streams, for transports that reach hosts through a program of this machine.
use std::{
    io,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    process::{Command, Stdio},
    time::Duration,
};

use async_trait::async_trait;
use autoprof_core::{
    Process, ProcessInput, ProcessOutput,
    error::{TransportError, TransportErrorKind},
    transport::{ExitStatus, OutputChunk},
};
use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, ChildStderr, ChildStdin, ChildStdout},
    time::{Instant, sleep_until},
};

/// Most bytes that are read at once.
const CHUNK: usize = 256 << 10;
/// A buffer with less room than this is replaced.
const LEAST_ROOM: usize = 64 << 10;
/// How long a stream has to be quiet, after the process ended, to count as ended too: a grandchild in the background may
/// hold it open for ever.
const QUIET: Duration = Duration::from_millis(200);

/// Starts a program of this machine, as the process that [`Session::exec`](autoprof_core::Session::exec) gives: all that
/// is left to do for a transport is to say which (`nsenter …`, `kubectl exec …`).
///
/// It keeps what a session promises. A program that is not there ends with status 127, one that cannot be run with 126,
/// as in a shell. It has a process group of its own, so that a Ctrl-C at the terminal does not reach it, and goes on when
/// nobody listens any more; then its standard input is at its end. What the command says of its streams is replaced.
///
/// Reading is cancel safe. Writing waits for as long as the program does not read.
///
/// # Errors
/// When the system cannot start any program, out of memory or processes.
///
/// # Panics
/// Without a tokio runtime; a plugin's functions have one.
///
/// ```
/// # use autoprof_plugin::{child_process, prelude::*};
/// # async fn exec(command: &Command) -> Result<Process, TransportError> {
/// let mut nsenter = std::process::Command::new("nsenter");
/// nsenter.args(["--target", "4711", "--mount", "--"]).args(&command.argv);
/// child_process(nsenter)
/// # }
/// ```
pub fn child_process(mut command: Command) -> Result<Process, TransportError> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let spawned = tokio::process::Command::from(command).spawn();
    match spawned {
        Ok(mut child) => {
            let input = Input(child.stdin.take());
            let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
            let output = Output {
                stdout: Stream { pipe: stdout, buffer: BytesMut::new() },
                stderr: Stream { pipe: stderr, buffer: BytesMut::new() },
                child,
                ended: None,
            };
            Ok(Process { input: Box::new(input), output: Box::new(output) })
        }
        Err(e) => match shell_status(&e) {
            Some((code, why)) => {
                let message = Some(Bytes::from(format!("{program}: {why}\n")));
                Ok(Process { input: Box::new(Input(None)), output: Box::new(Refused { message, code }) })
            }
            None => {
                let message = format!("{program} cannot be started");
                Err(TransportError::caused(TransportErrorKind::Exec, message, &e))
            }
        },
    }
}

/// What a shell makes of a program that does not start.
fn shell_status(e: &io::Error) -> Option<(i32, String)> {
    /// `ENOEXEC`
    const NOT_A_PROGRAM: i32 = 8;
    match e.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Some((127, "not found".to_owned())),
        io::ErrorKind::PermissionDenied | io::ErrorKind::IsADirectory => Some((126, "cannot be executed".to_owned())),
        _ if e.raw_os_error() == Some(NOT_A_PROGRAM) => Some((126, "is not a program".to_owned())),
        _ => None,
    }
}

/// The child's standard input; none once it is closed.
struct Input(Option<ChildStdin>);

fn no_longer_reads(e: &io::Error) -> TransportError {
    TransportError::caused(TransportErrorKind::Closed, "the process no longer reads its input", e)
}

#[async_trait]
impl ProcessInput for Input {
    async fn write(&mut self, data: Bytes) -> Result<(), TransportError> {
        let pipe = self.0.as_mut().ok_or_else(|| no_longer_reads(&io::ErrorKind::BrokenPipe.into()))?;
        pipe.write_all(&data).await.map_err(|e| no_longer_reads(&e))
    }

    async fn close(&mut self) -> Result<(), TransportError> {
        self.0 = None;
        Ok(())
    }
}

/// One of the child's output pipes; none once it has ended.
struct Stream<R> {
    pipe: Option<R>,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> Stream<R> {
    /// The next bytes, or none at the end. Cancel safe: what was read stays in the buffer.
    async fn next(&mut self) -> Result<Option<Bytes>, TransportError> {
        let Some(pipe) = self.pipe.as_mut() else { return Ok(None) };
        if self.buffer.capacity() - self.buffer.len() < LEAST_ROOM {
            self.buffer.reserve(CHUNK);
        }
        let failed = |e| TransportError::caused(TransportErrorKind::Closed, "a process's output cannot be read", &e);
        if pipe.read_buf(&mut self.buffer).await.map_err(failed)? == 0 {
            self.pipe = None;
            return Ok(None);
        }
        Ok(Some(self.buffer.split().freeze()))
    }
}

struct Output {
    stdout: Stream<ChildStdout>,
    stderr: Stream<ChildStderr>,
    child: Child,
    /// How the child ended, and until when its pipes may still hold something.
    ended: Option<(ExitStatus, Instant)>,
}

#[async_trait]
impl ProcessOutput for Output {
    async fn next(&mut self) -> Result<OutputChunk, TransportError> {
        loop {
            let open = self.stdout.pipe.is_some() || self.stderr.pipe.is_some();
            let until = match &self.ended {
                Some((status, _)) if !open => return Ok(OutputChunk::Exit(status.clone())),
                Some((_, until)) => Some(*until),
                None => None,
            };
            // Each of these is cancel safe, and so is the whole.
            tokio::select! {
                data = self.stdout.next(), if self.stdout.pipe.is_some() => {
                    if let Some(data) = data? {
                        self.heard();
                        return Ok(OutputChunk::Stdout(data));
                    }
                }
                data = self.stderr.next(), if self.stderr.pipe.is_some() => {
                    if let Some(data) = data? {
                        self.heard();
                        return Ok(OutputChunk::Stderr(data));
                    }
                }
                status = self.child.wait(), if until.is_none() => {
                    let failed = |e| TransportError::caused(TransportErrorKind::Other, "a process's end is unknown", &e);
                    self.ended = Some((exit_status(status.map_err(failed)?), Instant::now() + QUIET));
                }
                () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => {
                    (self.stdout.pipe, self.stderr.pipe) = (None, None);
                }
            }
        }
    }
}

impl Output {
    /// A pipe was not quiet.
    fn heard(&mut self) {
        if let Some((_, until)) = &mut self.ended {
            *until = Instant::now() + QUIET;
        }
    }
}

fn exit_status(status: std::process::ExitStatus) -> ExitStatus {
    match (status.code(), status.signal()) {
        (Some(code), _) => ExitStatus::Code(code),
        (None, Some(signal)) => ExitStatus::Signal(signal_name(signal)),
        (None, None) => ExitStatus::Signal("unknown".to_owned()),
    }
}

/// The name without `SIG`, or the number.
fn signal_name(signal: i32) -> String {
    const NAMES: [&str; 15] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM",
        "TERM",
    ];
    let index = usize::try_from(signal).ok().and_then(|n| n.checked_sub(1));
    index.and_then(|n| NAMES.get(n)).map_or_else(|| signal.to_string(), |name| (*name).to_owned())
}

/// A program that did not start.
struct Refused {
    message: Option<Bytes>,
    code: i32,
}

#[async_trait]
impl ProcessOutput for Refused {
    async fn next(&mut self) -> Result<OutputChunk, TransportError> {
        Ok(match self.message.take() {
            Some(message) => OutputChunk::Stderr(message),
            None => OutputChunk::Exit(ExitStatus::Code(self.code)),
        })
    }
}

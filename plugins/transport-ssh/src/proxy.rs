//! `ProxyCommand`: a command whose standard input and output are the connection.
use std::{
    io,
    os::unix::process::CommandExt,
    pin::Pin,
    process::Stdio,
    sync::{Mutex, PoisonError},
    task::{Context, Poll},
};

use autoprof_plugin::{core::text::one_line, prelude::*};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    process::{Child, ChildStdin, ChildStdout},
};

/// How much of what the command says is kept for a message.
const MAX_SAID: usize = 1024;

/// What a command said on its standard error.
#[derive(Debug, Clone, Default)]
pub(crate) struct Said(Arc<Mutex<Vec<u8>>>);

impl Said {
    /// The text as one line; none: nothing was said.
    pub(crate) fn text(&self) -> Option<String> {
        let text = one_line(&String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)));
        (!text.is_empty()).then_some(text)
    }
}

/// A command that runs.
#[derive(Debug)]
pub(crate) struct Proxy {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
}

impl Proxy {
    /// Starts a command in the user's shell, as OpenSSH does.
    ///
    /// # Errors
    /// When the shell does not start.
    pub(crate) fn start(command: &str) -> io::Result<(Self, Said)> {
        let shell = std::env::var_os("SHELL").filter(|shell| !shell.is_empty()).unwrap_or_else(|| "/bin/sh".into());
        let mut shell = std::process::Command::new(shell);
        shell.args(["-c", &format!("exec {command}")]);
        // A Ctrl-C at the terminal is for autoprof, which needs its connections then.
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = tokio::process::Command::from(shell).kill_on_drop(true).spawn()?;
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let (input, output) = (child.stdin.take().ok_or_else(gone)?, child.stdout.take().ok_or_else(gone)?);
        let (said, mut errors) = (Said::default(), child.stderr.take().ok_or_else(gone)?);
        let kept = said.clone();
        // It ends with the command, which ends with the connection.
        tokio::spawn(async move {
            let mut piece = [0; 512];
            while let Ok(length @ 1..) = errors.read(&mut piece).await {
                let mut kept = kept.0.lock().unwrap_or_else(PoisonError::into_inner);
                let room = MAX_SAID.saturating_sub(kept.len());
                kept.extend_from_slice(&piece[..length.min(room)]);
            }
        });
        Ok((Self { child, input, output }, said))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The whole group: the command may be a pipeline.
        let group = self.child.id().and_then(|id| rustix::process::Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(group) = group {
            // An error means that it has ended already.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::TERM);
        }
    }
}

impl AsyncRead for Proxy {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.output).poll_read(cx, buf)
    }
}

impl AsyncWrite for Proxy {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.input).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.input).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.input).poll_shutdown(cx)
    }
}

//! Commands on a connected host, and their streams.
use std::{any::Any, sync::Mutex, sync::PoisonError};

use autoprof_plugin::prelude::*;
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig, client::Msg};
use tokio::{sync::mpsc, time::timeout};

use crate::{
    connect::{Connection, Connector, words},
    window,
};

/// Most connections to one host; each gives room for `MaxSessions` commands more.
const MOST_CONNECTIONS: usize = 32;

/// How many messages, of 32 KiB at most, may wait for who reads a command's output: enough that the two sides are not
/// woken for each of them.
const MESSAGES_AHEAD: usize = 32;

/// How much of a command's input russh is handed at a time: one packet.
///
/// It encrypts all that it is handed before it writes, into a buffer that keeps its size for as long as the
/// connection lasts: a megabyte for each host that a client was sent to.
const PIECE: usize = 32 * 1024;

/// A host that commands can be run on.
pub(crate) struct SshSession {
    connector: Arc<Connector>,
    host: Host,
    /// The connection, and further ones for when the host refuses more channels on it (sshd's `MaxSessions`).
    connections: Mutex<Vec<Arc<Connection>>>,
}

/// Why no channel could be had on a connection.
enum NoChannel {
    /// The host wants no more of them there.
    Refused(String),
    Failed(TransportError),
}

impl SshSession {
    pub(crate) fn new(connector: Arc<Connector>, host: Host, connection: Arc<Connection>) -> Self {
        Self { connector, host, connections: Mutex::new(vec![connection]) }
    }

    fn connections(&self) -> Vec<Arc<Connection>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A channel on the first connection that grants one, or on a new connection.
    async fn channel(&self) -> Result<(Arc<Connection>, Channel<Msg>), TransportError> {
        let connections = self.connections();
        let mut refusal = String::new();
        for (at, connection) in connections.iter().enumerate() {
            match open(connection).await {
                Ok(channel) => return Ok((Arc::clone(connection), channel)),
                Err(NoChannel::Refused(reason)) => refusal = reason,
                // The first connection is the session; a further one that died is only left out.
                Err(NoChannel::Failed(e)) if at == 0 => return Err(e),
                Err(NoChannel::Failed(_)) => {}
            }
        }
        if connections.len() >= MOST_CONNECTIONS {
            return Err(self.refused(&refusal, connections.len()));
        }
        let connection = self.connector.connect(&self.host).await?;
        // Opened before others see the connection, so that nobody takes the channel that it was made for.
        match open(&connection).await {
            Ok(channel) => {
                let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
                connections.push(Arc::clone(&connection));
                Ok((connection, channel))
            }
            Err(NoChannel::Refused(reason)) => Err(self.refused(&reason, connections.len() + 1)),
            Err(NoChannel::Failed(e)) => Err(e),
        }
    }

    fn refused(&self, reason: &str, connections: usize) -> TransportError {
        let message = format!(
            "{} opens no channel for a command on any of {connections} connections: {reason}",
            self.host.address()
        );
        TransportError::new(TransportErrorKind::Exec, message).with_hint("see MaxSessions in the host's sshd_config")
    }
}

async fn open(connection: &Connection) -> Result<Channel<Msg>, NoChannel> {
    let opened = timeout(connection.step_timeout, connection.handle.channel_open_session()).await;
    match opened.map_err(|_| NoChannel::Failed(connection.too_slow("opening a channel")))? {
        Ok(channel) => Ok(channel),
        Err(russh::Error::ChannelOpenFailure(reason)) => Err(NoChannel::Refused(words(&reason))),
        Err(_) => Err(NoChannel::Failed(connection.closed("before the command was started"))),
    }
}

/// The command line for the user's login shell: `exec` leaves no shell behind between us and the program.
///
/// Single quotes mean the same in sh, bash, zsh, dash and ksh. In fish a backslash before `'` or another backslash
/// is special inside them, in tcsh `!` and a line break are: such arguments may not arrive as they are there.
fn command_line(command: &Command) -> Result<String, TransportError> {
    let bad = |reason: &str| TransportError::new(TransportErrorKind::Exec, format!("cannot run {command}: {reason}"));
    if command.argv.is_empty() {
        return Err(TransportError::new(TransportErrorKind::Exec, "cannot run a command without a program"));
    }
    if command.argv.iter().any(|arg| arg.contains('\0')) {
        return Err(bad("an argument has a zero byte"));
    }
    Ok(format!("exec {}", shell_words::join(&command.argv)))
}

#[async_trait]
impl Session for SshSession {
    async fn exec(&self, command: &Command) -> Result<Process, TransportError> {
        let line = command_line(command)?;
        let (connection, channel) = self.channel().await?;
        let window = connection.state.window(channel.id());
        let (mut reader, writer) = channel.split();
        let mut early = Vec::new();
        let start = async {
            let gone = || connection.closed("before the command was started");
            writer.exec(true, line).await.map_err(|_| gone())?;
            loop {
                match reader.wait().await {
                    Some(ChannelMsg::Success) => return Ok(()),
                    Some(ChannelMsg::Failure) => {
                        let message = format!("{} refuses to run commands", connection.place);
                        return Err(TransportError::new(TransportErrorKind::Exec, message));
                    }
                    None | Some(ChannelMsg::Close) => return Err(gone()),
                    Some(other) => early.push(other),
                }
            }
        };
        timeout(connection.step_timeout, start).await.map_err(|_| connection.too_slow("starting a command"))??;
        let program = command.argv[0].clone();
        let input = Input { writer: Arc::new(writer), window, connection: Arc::clone(&connection), open: true };
        let messages = forwarded(early, reader);
        let output = Output { messages, status: None, drained: false, connection, program };
        Ok(Process { input: Box::new(input), output: Box::new(output) })
    }

    async fn close(&self) -> Result<(), TransportError> {
        let mut result = Ok(());
        for connection in self.connections().iter().rev() {
            result = result.and(connection.close().await);
        }
        result
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// What a command's reader is to have, without word of the window.
///
/// russh queues [`ChannelMsg::WindowAdjusted`] beside output, and while a queue is full it does nothing else on the
/// whole connection. sshd widens the window by each page that a command reads, so that a caller who writes first and
/// reads afterwards would end the connection without having left any output unread.
fn forwarded(early: Vec<ChannelMsg>, mut reader: ChannelReadHalf) -> mpsc::Receiver<ChannelMsg> {
    let (to, messages) = mpsc::channel(MESSAGES_AHEAD);
    tokio::spawn(async move {
        let mut early = early.into_iter();
        loop {
            let message = match early.next() {
                Some(message) => Some(message),
                None => tokio::select! {
                    message = reader.wait() => message,
                    () = to.closed() => return,
                },
            };
            let Some(message) = message else { return };
            if !matches!(message, ChannelMsg::WindowAdjusted { .. }) && to.send(message).await.is_err() {
                return;
            }
        }
    });
    messages
}

/// A command's standard input.
struct Input {
    writer: Arc<ChannelWriteHalf<Msg>>,
    window: window::Shared,
    connection: Arc<Connection>,
    open: bool,
}

impl Input {
    /// Waits for something that the host must do, unless the command or the connection ends first; no progress ends
    /// the connection.
    async fn progress<T>(&self, work: impl Future<Output = Result<T, russh::Error>>) -> Result<T, TransportError> {
        let limit = self.connection.write_timeout;
        let mut window = self.window.subscribe();
        let done = tokio::select! {
            biased;
            _ = window.wait_for(|window| window.closed) => None,
            done = timeout(limit, work) => Some(done),
        };
        match done {
            Some(Ok(Ok(done))) => Ok(done),
            None if self.connection.state.end().is_none() => {
                let place = &self.connection.place;
                let message = format!("the command on {place} ended before it had read all of its input");
                Err(TransportError::new(TransportErrorKind::Closed, message))
            }
            None | Some(Ok(Err(_))) => Err(self.connection.closed("before all input was written")),
            Some(Err(_)) => {
                self.connection.link.cut();
                let message = format!(
                    "writing to a command on {} made no progress for {} s, so the connection was dropped",
                    self.connection.place,
                    limit.as_secs_f64()
                );
                Err(TransportError::new(TransportErrorKind::Timeout, message)
                    .with_hint("raise the option write_timeout if the command may read this slowly"))
            }
        }
    }

    /// How much the host takes now.
    async fn room(&self) -> Result<usize, TransportError> {
        let mut window = self.window.subscribe();
        self.progress(async {
            let window = window.wait_for(|window| window.room().is_some()).await;
            window.ok().and_then(|window| window.room()).ok_or(russh::Error::SendError)
        })
        .await
    }
}

#[async_trait]
impl ProcessInput for Input {
    async fn write(&mut self, mut data: Bytes) -> Result<(), TransportError> {
        while !data.is_empty() {
            let piece = data.split_to(self.room().await?.min(PIECE).min(data.len()));
            self.window.send_modify(|window| window.take(piece.len()));
            let link = &self.connection.link;
            let written = link.written() + piece.len() as u64;
            self.progress(async {
                self.writer.data_bytes(piece).await?;
                link.reached(written).await;
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    async fn close(&mut self) -> Result<(), TransportError> {
        if !std::mem::take(&mut self.open) || self.window.borrow().closed {
            return Ok(());
        }
        let closed = self.progress(self.writer.eof()).await;
        // There is no more to be read: a command may end before word of this has come back.
        if closed.is_err() && self.window.borrow().closed && self.connection.state.end().is_none() {
            return Ok(());
        }
        closed
    }
}

impl Drop for Input {
    /// A dropped pipe ends its reader's input; so does this. Nobody waits for it, as nobody waits in `drop`.
    fn drop(&mut self) {
        if !self.open || self.window.borrow().closed {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (writer, limit) = (Arc::clone(&self.writer), self.connection.write_timeout);
            runtime.spawn(async move { timeout(limit, writer.eof()).await });
        }
    }
}

/// A command's output and end.
struct Output {
    messages: mpsc::Receiver<ChannelMsg>,
    /// sshd sends the status while output may still be on its way, so it is kept until that has ended.
    status: Option<ExitStatus>,
    drained: bool,
    connection: Arc<Connection>,
    program: String,
}

impl Output {
    /// The end of a channel: success only if the host told how the command ended, after all its output.
    fn end(&self, closed_by_host: bool) -> Result<OutputChunk, TransportError> {
        match &self.status {
            Some(status) if closed_by_host || self.drained => Ok(OutputChunk::Exit(status.clone())),
            None if closed_by_host => {
                let message = format!("{} ended on {} without an exit status", self.program, self.connection.place);
                Err(TransportError::new(TransportErrorKind::Closed, message))
            }
            _ => Err(self.connection.closed(&format!("before {} did", self.program))),
        }
    }
}

#[async_trait]
impl ProcessOutput for Output {
    async fn next(&mut self) -> Result<OutputChunk, TransportError> {
        loop {
            if self.drained && self.status.is_some() {
                return self.end(true);
            }
            // The only await, and one that loses nothing when it is dropped.
            match self.messages.recv().await {
                Some(ChannelMsg::Data { data }) => return Ok(OutputChunk::Stdout(data)),
                Some(ChannelMsg::ExtendedData { data, .. }) => return Ok(OutputChunk::Stderr(data)),
                Some(ChannelMsg::ExitStatus { exit_status }) => {
                    self.status = Some(ExitStatus::Code(i32::try_from(exit_status).unwrap_or(i32::MAX)));
                }
                Some(ChannelMsg::ExitSignal { signal_name, .. }) => {
                    self.status = Some(ExitStatus::Signal(signal(signal_name)))
                }
                Some(ChannelMsg::Eof) => self.drained = true,
                Some(ChannelMsg::Close) => {
                    self.drained = true;
                    return self.end(true);
                }
                Some(_) => {}
                None => return self.end(false),
            }
        }
    }
}

fn signal(signal: Sig) -> String {
    match signal {
        Sig::Custom(name) => name,
        // The other variants are named as the protocol names them.
        known => format!("{known:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_reach_the_program_whatever_is_in_them() {
        let line = |argv: &[&str]| command_line(&Command::new(argv.iter().copied())).unwrap();
        assert_eq!(line(&["true"]), "exec true");
        assert_eq!(line(&["/bin/sh", "-c", "echo \"$1\"; it's"]), r#"exec /bin/sh -c 'echo "$1"; it'\''s'"#);
        assert_eq!(line(&["printf", "", "a b", "$HOME", "`x`"]), "exec printf '' 'a b' '$HOME' '`x`'");
    }

    #[test]
    fn a_command_that_no_shell_can_carry_is_refused() {
        assert_eq!(command_line(&Command::new(["a\0b"])).unwrap_err().kind, TransportErrorKind::Exec);
        assert_eq!(command_line(&Command::new([""; 0])).unwrap_err().kind, TransportErrorKind::Exec);
    }

    #[test]
    fn signals_are_named_without_sig() {
        assert_eq!(signal(Sig::TERM), "TERM");
        assert_eq!(signal(Sig::Custom("USR2".into())), "USR2");
    }
}

//! The two streams of an attached client.
use autoprof_plugin::{
    bytes::{Buf as _, BytesMut},
    core::{protocol::Event, text::one_line},
    prelude::*,
};

/// Longest line that a client may write.
const MAX_LINE: usize = 1 << 20;
/// How much of the end of a client's standard error is kept.
const MAX_STDERR: usize = 4096;

/// One `autoprof-client attach`.
pub(crate) struct Attached {
    /// Kept: the process runs over it.
    _session: Arc<dyn Session>,
    input: Box<dyn ProcessInput>,
    output: Box<dyn ProcessOutput>,
    /// Standard output that is not handed out yet.
    pending: BytesMut,
    /// How much of `pending` is known to have no line end.
    scanned: usize,
    /// Whether an event has come: before it, what a login prints may stand.
    heard: bool,
    stderr: Vec<u8>,
    /// Why nothing more comes.
    closed: Option<SignalError>,
}

impl Attached {
    pub(crate) fn new(session: Arc<dyn Session>, process: Process) -> Self {
        let Process { input, output } = process;
        let (pending, stderr) = (BytesMut::new(), Vec::new());
        Self { _session: session, input, output, pending, scanned: 0, heard: false, stderr, closed: None }
    }

    /// The next line that is there already, without its end.
    fn line(&mut self) -> Result<Option<BytesMut>, SignalError> {
        let end = self.pending[self.scanned..].iter().position(|b| *b == b'\n').map(|at| self.scanned + at);
        let length = end.unwrap_or(self.pending.len());
        if length > MAX_LINE {
            let message = format!("the client wrote a line of more than {MAX_LINE} bytes");
            let error = SignalError::new(SignalErrorKind::Protocol, message);
            self.closed = Some(error.clone());
            return Err(error);
        }
        let Some(end) = end else {
            self.scanned = length;
            return Ok(None);
        };
        let line = self.pending.split_to(end);
        self.pending.advance(1);
        self.scanned = 0;
        Ok(Some(line))
    }

    /// The event on a line; none for what a login printed before the client began.
    fn read(&mut self, line: &[u8]) -> Result<Option<Event>, SignalError> {
        let text = line.trim_ascii();
        if text.is_empty() || (!self.heard && !text.starts_with(b"{")) {
            return Ok(None);
        }
        match serde_json::from_slice(text) {
            Ok(event) => {
                self.heard = true;
                Ok(Some(event))
            }
            Err(e) => {
                let shown = one_line(&String::from_utf8_lossy(&text[..text.len().min(200)]));
                let message = format!("the client said something that is no event: {shown}");
                let mut error = SignalError::new(SignalErrorKind::Protocol, message);
                // It quotes what the client said, as it is and at any length.
                error.chain.push(one_line(&e.to_string()));
                Err(error)
            }
        }
    }

    fn take(&mut self, chunk: OutputChunk) {
        match chunk {
            OutputChunk::Stdout(data) => self.pending.extend_from_slice(&data),
            OutputChunk::Stderr(data) => {
                self.stderr.extend_from_slice(&data);
                let excess = self.stderr.len().saturating_sub(MAX_STDERR);
                self.stderr.drain(..excess);
            }
            OutputChunk::Exit(status) => {
                let said = one_line(&String::from_utf8_lossy(&self.stderr));
                let said = if said.is_empty() { said } else { format!(": {said}") };
                let message = format!("the client is no longer attached ({status}){said}");
                self.closed = Some(SignalError::new(SignalErrorKind::Closed, message));
            }
        }
    }
}

#[async_trait]
impl Channel for Attached {
    async fn signal(&mut self, signal: Signal) -> Result<(), SignalError> {
        Ok(self.input.write(format!("{signal}\n").into()).await?)
    }

    async fn event(&mut self) -> Result<Event, SignalError> {
        loop {
            // Lines that came before the end are handed out first.
            while let Some(line) = self.line()? {
                if let Some(event) = self.read(&line)? {
                    return Ok(event);
                }
            }
            if let Some(closed) = &self.closed {
                return Err(closed.clone());
            }
            // The one thing that is waited for is cancel safe, and what it gave is kept at once.
            let chunk = self.output.next().await?;
            self.take(chunk);
        }
    }
}

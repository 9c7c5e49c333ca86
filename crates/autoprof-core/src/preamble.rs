//! Keeps apart what a login prints and what a command prints.
//!
//! A login shell runs start-up files, and those may print anything on standard output, with or without a line end at
//! their end, before the command begins. Each command is therefore started by a shell that prints a mark first, on
//! standard output and on standard error; what comes before the mark is dropped. The mark is random and different for
//! each command, and the command line has it in two halves only, so that neither a start-up file nor a shell that prints
//! the commands that it runs can print it.
use std::{
    any::Any,
    collections::VecDeque,
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

use crate::{
    Host,
    error::TransportError,
    transport::{Command, ExitStatus, OutputChunk, Process, ProcessOutput, Session, Transport},
};

/// Prints the mark and becomes the command, also where nobody listens any more.
const SCRIPT: &str = "trap \"\" PIPE; echo \"$0$1\"; echo \"$0$1\" >&2; trap - PIPE; shift; exec \"$@\"";
/// How much is kept of what a login prints: where the mark never comes, it is the reason.
const MAX_KEPT: usize = 64 * 1024;

/// How much a login may print before the mark. What prints more is no login; whoever reads it finds that out.
const MAX_NOISE: usize = 4 << 20;

/// An unguessable word.
pub(crate) fn random_word() -> String {
    // Each state has keys of its own, which the first one of a thread has from the kernel.
    let random = || RandomState::new().hash_one(std::time::Instant::now());
    format!("{:016x}{:016x}", random(), random())
}

/// A transport whose sessions drop what logins print.
pub(crate) struct MarkingTransport(pub(crate) Arc<dyn Transport>);

#[async_trait]
impl Transport for MarkingTransport {
    async fn connect(&self, host: &Host) -> Result<Arc<dyn Session>, TransportError> {
        Ok(Arc::new(MarkingSession(self.0.connect(host).await?)))
    }
}

struct MarkingSession(Arc<dyn Session>);

#[async_trait]
impl Session for MarkingSession {
    async fn exec(&self, command: &Command) -> Result<Process, TransportError> {
        let mark = random_word();
        let (first, second) = mark.split_at(mark.len() / 2);
        let head = ["/bin/sh", "-c", SCRIPT, first, second].map(str::to_owned);
        let marked = Command { argv: head.into_iter().chain(command.argv.iter().cloned()).collect() };
        let Process { input, output } = self.0.exec(&marked).await?;
        let mark = Bytes::from(format!("{mark}\n"));
        let output = MarkedOutput {
            output,
            stdout: Filter::new(mark.clone()),
            stderr: Filter::new(mark),
            ready: VecDeque::new(),
        };
        Ok(Process { input, output: Box::new(output) })
    }

    async fn close(&self) -> Result<(), TransportError> {
        self.0.close().await
    }

    /// This session, never the one below: its commands would not be marked.
    fn as_any(&self) -> &dyn Any {
        self
    }
}

struct MarkedOutput {
    output: Box<dyn ProcessOutput>,
    stdout: Filter,
    stderr: Filter,
    /// What is to be handed out at the end.
    ready: VecDeque<OutputChunk>,
}

#[async_trait]
impl ProcessOutput for MarkedOutput {
    async fn next(&mut self) -> Result<OutputChunk, TransportError> {
        loop {
            if let Some(chunk) = self.ready.pop_front() {
                return Ok(chunk);
            }
            // The one thing that is waited for is cancel safe, and what it gave is kept at once.
            let chunk = match self.output.next().await? {
                OutputChunk::Stdout(data) => self.stdout.pass(data).map(OutputChunk::Stdout),
                OutputChunk::Stderr(data) => self.stderr.pass(data).map(OutputChunk::Stderr),
                OutputChunk::Exit(status) => {
                    self.end(status);
                    None
                }
            };
            if let Some(chunk) = chunk {
                return Ok(chunk);
            }
        }
    }
}

impl MarkedOutput {
    /// Where no command began (`This account is currently not available.`), what was printed says why.
    fn end(&mut self, status: ExitStatus) {
        if self.stdout.is_waiting() && self.stderr.is_waiting() {
            self.ready.extend(self.stdout.rest().map(OutputChunk::Stdout));
            self.ready.extend(self.stderr.rest().map(OutputChunk::Stderr));
        }
        self.ready.push_back(OutputChunk::Exit(status));
    }
}

/// Drops what comes before a mark.
struct Filter {
    /// None once it has come.
    mark: Option<Bytes>,
    /// What came, of which the end may be the mark's beginning.
    seen: BytesMut,
    /// How much has come before the mark.
    noise: usize,
}

impl Filter {
    fn new(mark: Bytes) -> Self {
        Self { mark: Some(mark), seen: BytesMut::new(), noise: 0 }
    }

    fn is_waiting(&self) -> bool {
        self.mark.is_some()
    }

    fn pass(&mut self, data: Bytes) -> Option<Bytes> {
        let Some(mark) = &self.mark else { return Some(data) };
        // Only what is new, and as much before it as the mark may have begun in, has not been looked at.
        let from = self.seen.len().saturating_sub(mark.len());
        self.seen.extend_from_slice(&data);
        if let Some(at) = find(&self.seen[from..], mark) {
            let rest = std::mem::take(&mut self.seen).freeze().slice(from + at + mark.len()..);
            self.mark = None;
            return (!rest.is_empty()).then_some(rest);
        }
        self.noise += data.len();
        if self.noise > MAX_NOISE {
            self.mark = None;
            return Some(std::mem::take(&mut self.seen).freeze());
        }
        if self.seen.len() > MAX_KEPT {
            let _ = self.seen.split_to(self.seen.len() - MAX_KEPT / 2);
        }
        None
    }

    fn rest(&mut self) -> Option<Bytes> {
        (!self.seen.is_empty()).then(|| std::mem::take(&mut self.seen).freeze())
    }
}

fn find(text: &[u8], word: &[u8]) -> Option<usize> {
    text.windows(word.len()).position(|window| window == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filtered(chunks: &[&[u8]]) -> Vec<u8> {
        let mut filter = Filter::new(Bytes::from_static(b"mark\n"));
        chunks.iter().filter_map(|chunk| filter.pass(Bytes::copy_from_slice(chunk))).flatten().collect()
    }

    #[test]
    fn what_comes_before_the_mark_is_dropped_wherever_it_is_cut() {
        let text = b"quota: 42%\x1b]0;t\x07{\"a\":1} mark marmark\nreal\n\0mark\n";
        for first in 0..text.len() {
            for second in first..text.len() {
                let parts = [&text[..first], &text[first..second], &text[second..]];
                assert_eq!(filtered(&parts), b"real\n\0mark\n", "{first} {second}");
            }
        }
    }

    #[test]
    fn what_prints_without_end_is_handed_on() {
        let mut filter = Filter::new(Bytes::from_static(b"mark\n"));
        let came = std::iter::repeat_with(|| filter.pass(Bytes::from(vec![b'x'; 100_000])));
        assert_eq!(came.take(100).position(|passed| passed.is_some()), Some(MAX_NOISE / 100_000));
    }

    #[test]
    fn megabytes_before_the_mark_are_not_kept() {
        let mut filter = Filter::new(Bytes::from_static(b"mark\n"));
        for _ in 0..400 {
            assert_eq!(filter.pass(Bytes::from(vec![b'x'; 10_000])), None);
            assert!(filter.seen.len() <= MAX_KEPT);
        }
        assert_eq!(filter.pass(Bytes::from_static(b"mark\nyes")).unwrap(), "yes");
    }
}

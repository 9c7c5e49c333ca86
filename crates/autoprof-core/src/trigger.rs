//! Windows that the test's own output opens and closes.
use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::mpsc;

use crate::{job::WindowSettings, test::TestOutput};

/// Longest line that is searched; what is behind that in one is passed over.
const LONGEST_LINE: usize = 64 * 1024;

/// What a line of the test's output asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trigger {
    /// To open a window.
    Open(String),
    /// To close it.
    Close(String),
}

/// Passes a test's output on, and looks for the patterns in it.
pub(crate) struct Triggers {
    to: Arc<dyn TestOutput>,
    settings: WindowSettings,
    found: mpsc::UnboundedSender<Trigger>,
    /// The unfinished lines of standard output and standard error.
    lines: [Mutex<Vec<u8>>; 2],
}

impl Triggers {
    pub(crate) fn new(to: Arc<dyn TestOutput>, settings: WindowSettings) -> (Self, mpsc::UnboundedReceiver<Trigger>) {
        let (found, finds) = mpsc::unbounded_channel();
        (Self { to, settings, found, lines: Default::default() }, finds)
    }

    fn search(&self, stream: usize, bytes: &[u8]) {
        let mut line = self.lines[stream].lock().unwrap_or_else(PoisonError::into_inner);
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            let room = LONGEST_LINE.saturating_sub(line.len()).min(piece.len());
            line.extend_from_slice(&piece[..room]);
            if piece.last() == Some(&b'\n') {
                self.look(&String::from_utf8_lossy(&line));
                line.clear();
            }
        }
    }

    fn look(&self, line: &str) {
        let words = || crate::text::one_line(line);
        // A line with both is a window that ends; it can begin again with the next.
        let trigger = if line.contains(&self.settings.stop) {
            Trigger::Close(words())
        } else if line.contains(&self.settings.start) {
            Trigger::Open(words())
        } else {
            return;
        };
        // Nobody waits any more once the test's time is over.
        let _ = self.found.send(trigger);
    }
}

impl TestOutput for Triggers {
    fn stdout(&self, bytes: &[u8]) -> io::Result<()> {
        self.search(0, bytes);
        self.to.stdout(bytes)
    }

    fn stderr(&self, bytes: &[u8]) -> io::Result<()> {
        self.search(1, bytes);
        self.to.stderr(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::Passthrough;

    #[test]
    fn patterns_are_found_in_whole_lines_however_they_come() {
        let settings = WindowSettings { start: "BEGIN".into(), stop: "END".into() };
        let (triggers, mut finds) = Triggers::new(Arc::new(Passthrough), settings);
        for piece in ["x\nphase 1 BE", "GIN here\nEN", "D\nBEGIN no newline"] {
            triggers.search(0, piece.as_bytes());
        }
        triggers.search(1, b"END on the other stream\n");
        let mut found = Vec::new();
        while let Ok(trigger) = finds.try_recv() {
            found.push(trigger);
        }
        let expected = [
            Trigger::Open("phase 1 BEGIN here".into()),
            Trigger::Close("END".into()),
            Trigger::Close("END on the other stream".into()),
        ];
        assert_eq!(found, expected);
    }
}

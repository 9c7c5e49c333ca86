//! The append-only file of events.
use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use autoprof_protocol::{EVENTS_FILE, Event, EventKind};

use crate::clock;

/// Appends events to the file, each with the next number.
#[derive(Debug)]
pub struct EventLog {
    file: File,
    last: u64,
}

impl EventLog {
    /// Opens the file of a client directory; numbers go on where an earlier client left off, or behind `after` where
    /// the controller has heard of more than the file still has.
    ///
    /// # Errors
    /// When the file cannot be read or made.
    pub fn open(dir: &Path, after: u64) -> io::Result<Self> {
        let path = dir.join(EVENTS_FILE);
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)?;
        let (mut last, mut torn) = (after, false);
        let mut lines = BufReader::new(&file);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line)? > 0 {
            torn = line.last() != Some(&b'\n');
            last = last.max(sequence(&line).filter(|_| !torn).unwrap_or(0));
            line.clear();
        }
        if torn {
            // What a client that was killed had begun to write must not become one line with the next event.
            file.write_all(b"\n")?;
        }
        Ok(Self { file, last })
    }

    /// Records an event, happening now.
    ///
    /// A full disk must not end the profilers: what cannot be written is said in the log.
    pub fn record(&mut self, kind: EventKind) {
        self.last += 1;
        let event = Event { seq: self.last, at: clock::now(), kind };
        if let Err(e) = self.write(&event) {
            crate::log(&format!("cannot record {event:?}: {e}"));
        }
    }

    /// Writes a whole line or nothing of it: half of one, on a disk that is full, would spoil the next.
    fn write(&mut self, event: &Event) -> io::Result<()> {
        let line = format!("{}\n", serde_json::to_string(event)?);
        let before = self.file.metadata()?.len();
        self.file.write_all(line.as_bytes()).inspect_err(|_| drop(self.file.set_len(before)))
    }
}

/// The number of the event in a line of the file; none when it is no event.
///
/// The line is one that this program wrote, with the number first: reading no more than that spares every host the
/// code for reading the rest.
pub fn sequence(line: &[u8]) -> Option<u64> {
    let digits = line.strip_prefix(b"{\"seq\":")?;
    let end = digits.iter().position(|b| !b.is_ascii_digit())?;
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_on_where_an_earlier_client_left_off() {
        let dir = tempfile::tempdir().unwrap();
        EventLog::open(dir.path(), 0).unwrap().record(EventKind::Stopped);
        EventLog::open(dir.path(), 0).unwrap().record(EventKind::Reported);
        let text = std::fs::read_to_string(dir.path().join(EVENTS_FILE)).unwrap();
        let events: Vec<Event> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(events.iter().map(|e| e.seq).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(text.lines().map(|l| sequence(l.as_bytes())).collect::<Vec<_>>(), [Some(1), Some(2)]);
    }

    #[test]
    fn a_torn_line_spoils_no_other_and_numbers_go_on_behind_what_was_heard() {
        let dir = tempfile::tempdir().unwrap();
        EventLog::open(dir.path(), 0).unwrap().record(EventKind::Stopped);
        let mut file = OpenOptions::new().append(true).open(dir.path().join(EVENTS_FILE)).unwrap();
        file.write_all(b"{\"seq\":2,\"at\":{\"un\0\0\0").unwrap();
        EventLog::open(dir.path(), 4).unwrap().record(EventKind::Reported);
        let text = std::fs::read(dir.path().join(EVENTS_FILE)).unwrap();
        let whole: Vec<Event> = text.split(|b| *b == b'\n').filter_map(|l| serde_json::from_slice(l).ok()).collect();
        assert_eq!(whole.iter().map(|e| e.seq).collect::<Vec<_>>(), [1, 5]);
    }

    #[test]
    fn a_torn_line_has_no_number() {
        for line in ["", "{\"seq\":12", "{\"seq\":x}", "junk"] {
            assert_eq!(sequence(line.as_bytes()), None, "{line}");
        }
    }
}

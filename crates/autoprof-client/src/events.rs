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
    /// Opens the file of a client directory; numbers go on where an earlier client left off.
    ///
    /// # Errors
    /// When the file cannot be read or made.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let path = dir.join(EVENTS_FILE);
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        let last = BufReader::new(&file)
            .lines()
            .map_while(Result::ok)
            .filter_map(|line| sequence(line.as_bytes()))
            .last()
            .unwrap_or(0);
        Ok(Self { file, last })
    }

    /// Records an event, happening now.
    ///
    /// A full disk must not end the profilers: what cannot be written is said in the log.
    pub fn record(&mut self, kind: EventKind) {
        self.last += 1;
        let event = Event { seq: self.last, at: clock::now(), kind };
        let written = serde_json::to_string(&event)
            .map_err(io::Error::other)
            .and_then(|line| self.file.write_all(format!("{line}\n").as_bytes()));
        if let Err(e) = written {
            crate::log(&format!("cannot record {event:?}: {e}"));
        }
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
        EventLog::open(dir.path()).unwrap().record(EventKind::Stopped);
        EventLog::open(dir.path()).unwrap().record(EventKind::Reported);
        let text = std::fs::read_to_string(dir.path().join(EVENTS_FILE)).unwrap();
        let events: Vec<Event> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(events.iter().map(|e| e.seq).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(text.lines().map(|l| sequence(l.as_bytes())).collect::<Vec<_>>(), [Some(1), Some(2)]);
    }

    #[test]
    fn a_torn_line_has_no_number() {
        for line in ["", "{\"seq\":12", "{\"seq\":x}", "junk"] {
            assert_eq!(sequence(line.as_bytes()), None, "{line}");
        }
    }
}

//! A controller's line to a running client: markers in on standard input, events out on standard output.
//!
//! Lines in: `start A`, `stop A 1700000000.5`, `report A`, `beat`. Lines out: events, as they are in the file.
//! The process ends with its standard input, and when the client is gone.
use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, Write},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use autoprof_protocol::{EVENTS_FILE, Event, EventKind, Marker, MarkerTime, PID_FILE, RESULTS_DIR};
use rustix::{
    fs::{FlockOperation, flock, inotify},
    io::Errno,
    process::{Pid, PidfdFlags, pidfd_open},
};

use crate::{clock, events, lease, marker, poll};

/// How long a client may take from its launch to its first sign of life; the controller usually has less patience.
const UP: Duration = Duration::from_secs(300);
/// Longest line that is taken from the controller.
const LONGEST_LINE: usize = 256;

/// Attaches to the client in a directory; events up to number `after` are not repeated.
///
/// # Errors
/// When the directory is not there, no client comes up in it, or the controller is gone.
pub fn attach(dir: &Path, after: u64) -> io::Result<()> {
    let mut line = Line { dir: dir.to_owned(), after, events: None, partial: Vec::new() };
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    let interesting = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE;
    inotify::add_watch(&watch, dir, interesting)?;
    let client = line.wait_for_client()?;
    let mut commands = Vec::new();
    loop {
        line.relay()?;
        let stdin = io::stdin();
        let fds = [stdin.as_fd(), watch.as_fd(), client.process.as_fd()];
        let flags = poll::wait(fds, None)?;
        if !flags[1].is_empty() {
            drain(&watch);
        }
        if !flags[0].is_empty() && !line.obey(&mut commands)? {
            return Ok(());
        }
        if !flags[2].is_empty() {
            return line.client_is_gone();
        }
    }
}

struct Client {
    process: OwnedFd,
    /// Held open: the client's lease runs while nobody holds it.
    _lease: Option<File>,
}

struct Line {
    dir: PathBuf,
    after: u64,
    events: Option<BufReader<File>>,
    partial: Vec<u8>,
}

impl Line {
    /// Waits for the client of the directory; one that is gone after all is what its events say.
    fn wait_for_client(&mut self) -> io::Result<Client> {
        let begun = Instant::now();
        loop {
            // Looked at first: a client takes charge before it records anything.
            let has_been_up = self.dir.join(EVENTS_FILE).exists();
            if let Some(process) = client_process(&self.dir)? {
                // Between taking charge and keeping a lease the client is up for a moment without one.
                let held = lease::hold(&self.dir)?;
                if held.is_some() || begun.elapsed() > UP {
                    return Ok(Client { process, _lease: held });
                }
            } else if has_been_up {
                self.client_is_gone()?;
                return Err(io::Error::other("no client is in charge of this directory any more"));
            } else if begun.elapsed() > UP {
                return Err(io::Error::other("no client came up in this directory"));
            }
            std::thread::sleep(lease::RETRY);
        }
    }

    /// Hands out the events that are new; returns how many.
    fn relay(&mut self) -> io::Result<usize> {
        let events = match &mut self.events {
            Some(events) => events,
            None => match File::open(self.dir.join(EVENTS_FILE)) {
                Ok(file) => self.events.insert(BufReader::new(file)),
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
                Err(e) => return Err(e),
            },
        };
        let mut relayed = 0;
        while events.read_until(b'\n', &mut self.partial)? > 0 {
            if self.partial.last() != Some(&b'\n') {
                // The client is in the middle of writing it.
                break;
            }
            if let Some(seq) = events::sequence(&self.partial)
                && seq > self.after
            {
                self.after = seq;
                io::stdout().write_all(&self.partial)?;
                relayed += 1;
            }
            self.partial.clear();
        }
        io::stdout().flush()?;
        Ok(relayed)
    }

    /// Reads what the controller wrote and does it; false when the controller is gone.
    fn obey(&self, pending: &mut Vec<u8>) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        let n = io::stdin().read(&mut buffer)?;
        pending.extend_from_slice(&buffer[..n]);
        while let Some(end) = pending.iter().position(|b| *b == b'\n') {
            let command: Vec<u8> = pending.drain(..=end).collect();
            self.command(String::from_utf8_lossy(&command).trim())?;
        }
        if pending.len() > LONGEST_LINE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a line that does not end"));
        }
        Ok(n > 0)
    }

    fn command(&self, line: &str) -> io::Result<()> {
        if line == "beat" {
            return say(EventKind::Beat { bytes: size(&self.dir.join(RESULTS_DIR)) });
        }
        let (word, time) = line.split_once(' ').unwrap_or((line, "A"));
        let invalid = |e: String| io::Error::new(io::ErrorKind::InvalidData, e);
        let which: Marker = word.parse().map_err(|e| invalid(format!("{e}")))?;
        let time: MarkerTime = time.parse().map_err(|e| invalid(format!("{e}")))?;
        marker::raise(&self.dir, which, time)
    }

    /// Relays the client's last events; when they don't say that it is done, says that it is gone.
    fn client_is_gone(&mut self) -> io::Result<()> {
        self.relay()?;
        if last_says(&self.dir, &["reported", "failed"]) {
            Ok(())
        } else {
            say(EventKind::Failed { reason: "the client is gone".to_owned() })
        }
    }
}

/// Says something that is not in the file, so it has no number.
fn say(kind: EventKind) -> io::Result<()> {
    let event = Event { seq: 0, at: clock::now(), kind };
    let mut out = io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(&event)?)?;
    out.flush()
}

/// Whether the last event in a directory is of one of these kinds.
fn last_says(dir: &Path, kinds: &[&str]) -> bool {
    let Ok(text) = std::fs::read_to_string(dir.join(EVENTS_FILE)) else { return false };
    let last = text.lines().next_back().unwrap_or_default();
    kinds.iter().any(|kind| last.contains(&format!("\"event\":\"{kind}\"")))
}

/// A descriptor of the client in charge of a directory; none while there is none.
///
/// # Errors
/// When the directory's file cannot be used.
pub fn client_process(dir: &Path) -> io::Result<Option<OwnedFd>> {
    let mut file = match File::options().read(true).write(true).open(dir.join(PID_FILE)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    // The lock says that the process is alive and that the number is not somebody else's by now.
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => return Ok(None),
        Err(Errno::AGAIN) => {}
        Err(e) => return Err(e.into()),
    }
    file.rewind()?;
    let mut text = String::new();
    file.take(32).read_to_string(&mut text)?;
    let Some(pid) = text.trim().parse().ok().and_then(Pid::from_raw) else { return Ok(None) };
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::SRCH) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

fn drain(watch: &OwnedFd) {
    while let Ok(1..) = rustix::io::read(watch, &mut [0; 4096]) {}
}

/// Bytes of the regular files below a directory.
fn size(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => size(&entry.path()),
            Ok(meta) if meta.is_file() => meta.len(),
            _ => 0,
        })
        .sum()
}

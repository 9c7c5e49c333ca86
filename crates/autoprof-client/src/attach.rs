//! A controller's line to a running client: markers in on standard input, events out on standard output.
//!
//! Lines in: `start A`, `stop A 1700000000.5`, `report A`, `beat 1`, `mark NAME`. Each is a sign of life, which keeps the
//! client's lease. Lines out: events, as they are in the file. The process ends with its standard input, and when the
//! client is gone.
use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, Write},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use autoprof_protocol::{EVENTS_FILE, Event, EventKind, Marker, MarkerTime, PID_FILE, RESULTS_DIR, Stamp};
use rustix::{
    fs::{FlockOperation, flock, inotify},
    io::Errno,
    process::{Pid, PidfdFlags, pidfd_open},
};

use crate::{clock, events, lease, marker, poll, strays};

/// How long a client may take from its launch to its first sign of life; the controller usually has less patience.
const UP: Duration = Duration::from_secs(300);
/// How often it is looked whether the client has recorded something, where the kernel does not say so.
const LOOK_NS: i64 = 20_000_000;
/// Longest line that is taken from the controller.
const LONGEST_LINE: usize = 1024;
/// Most that is kept of what the controller sends while the client is not up.
const MAX_PENDING: usize = 64 * 1024;

/// Attaches to the client in a directory; events up to number `after` are not repeated.
///
/// # Errors
/// When the directory is not there, no client comes up in it, or the controller is gone.
pub fn attach(dir: &Path, after: u64) -> io::Result<()> {
    let mut line = Line { dir: dir.to_owned(), after, events: None, partial: Vec::new() };
    // A user has only so many of them (`fs.inotify.max_user_instances`, 128 by default), and other programs take theirs.
    let watch = watch(dir).ok();
    let mut commands = Vec::new();
    let Some(mut client) = line.wait_for_client(&mut commands)? else { return Ok(()) };
    line.obey(&mut commands, &mut client)?;
    loop {
        line.relay()?;
        let stdin = io::stdin();
        let fds = [stdin.as_fd(), client.process.as_fd()].into_iter().chain(watch.as_ref().map(AsFd::as_fd));
        let look = watch.is_none().then(|| clock::boot_ns() + LOOK_NS);
        let flags = poll::wait(fds, look)?;
        if let Some(watch) = watch.as_ref().filter(|_| !flags[2].is_empty()) {
            drain(watch);
        }
        if !flags[0].is_empty() {
            let is_open = read_some(&mut commands)?;
            line.obey(&mut commands, &mut client)?;
            if !is_open {
                return Ok(());
            }
        }
        if !flags[1].is_empty() {
            return line.client_is_gone();
        }
    }
}

/// What says that the client has recorded something.
fn watch(dir: &Path) -> rustix::io::Result<OwnedFd> {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    inotify::add_watch(&watch, dir, inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE)?;
    Ok(watch)
}

struct Client {
    process: OwnedFd,
    /// The way to the client.
    lease: Option<File>,
}

impl Client {
    /// Passes a line on. A client that does not read (it makes its reports) has room for thousands of them.
    fn tell(&mut self, line: &[u8]) {
        if let Some(lease) = &mut self.lease {
            let _ = lease.write_all(line);
        }
    }
}

struct Line {
    dir: PathBuf,
    after: u64,
    events: Option<BufReader<File>>,
    partial: Vec<u8>,
}

impl Line {
    /// Waits for the client of the directory; one that is gone after all is what its events say. None: the controller is
    /// gone. What it sends meanwhile is kept.
    fn wait_for_client(&mut self, pending: &mut Vec<u8>) -> io::Result<Option<Client>> {
        let begun = Instant::now();
        loop {
            // Looked at first: a client takes charge before it records anything.
            let has_been_up = self.dir.join(EVENTS_FILE).exists();
            if let Some(process) = client_process(&self.dir)? {
                // Between taking charge and keeping a lease the client is up for a moment without one.
                let held = lease::hold(&self.dir)?;
                if held.is_some() || begun.elapsed() > UP {
                    return Ok(Some(Client { process, lease: held }));
                }
            } else if has_been_up {
                self.client_is_gone()?;
                return Err(io::Error::other("no client is in charge of this directory any more"));
            } else if begun.elapsed() > UP {
                return Err(io::Error::other("no client came up in this directory"));
            }
            let next = clock::boot_ns() + i64::try_from(lease::RETRY.as_nanos()).unwrap_or(0);
            let flags = poll::wait([io::stdin().as_fd()], Some(next))?;
            if flags.iter().any(|flags| !flags.is_empty()) && !read_some(pending)? {
                return Ok(None);
            }
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

    /// Does what the controller wrote.
    fn obey(&self, pending: &mut Vec<u8>, client: &mut Client) -> io::Result<()> {
        while let Some(end) = pending.iter().position(|b| *b == b'\n') {
            let command: Vec<u8> = pending.drain(..=end).collect();
            client.tell(lease::ALIVE);
            self.command(String::from_utf8_lossy(&command).trim(), client)?;
        }
        Ok(())
    }

    fn command(&self, line: &str, client: &mut Client) -> io::Result<()> {
        if let Some(name) = line.strip_prefix("mark ") {
            client.tell(format!("m {name}\n").as_bytes());
            return Ok(());
        }
        let invalid = |e: String| io::Error::new(io::ErrorKind::InvalidData, e);
        if let Some(question) = line.strip_prefix("beat ") {
            let came = clock::now();
            let question = question.parse().map_err(|e| invalid(format!("{e}")))?;
            let bytes = size(&self.dir.join(RESULTS_DIR));
            let took_ns = u64::try_from(clock::boot_ns() - came.boot_ns).unwrap_or(0);
            return say(came, EventKind::Beat { question, bytes, took_ns });
        }
        let (word, time) = line.split_once(' ').unwrap_or((line, "A"));
        let which: Marker = word.parse().map_err(|e| invalid(format!("{e}")))?;
        let time: MarkerTime = time.parse().map_err(|e| invalid(format!("{e}")))?;
        marker::raise(&self.dir, which, time)
    }

    /// Relays the client's last events; when they don't say that it is done, says that it is gone.
    fn client_is_gone(&mut self) -> io::Result<()> {
        self.relay()?;
        if last_says(&self.dir, &["reported", "failed"]) {
            return Ok(());
        }
        say(clock::now(), EventKind::Failed { reason: "the client is gone".to_owned().into() })?;
        // The kernel asked its tools to end when it died; not all of them listen.
        strays::end(&self.dir).map(drop)
    }
}

/// Reads what the controller wrote; false when the controller is gone.
fn read_some(pending: &mut Vec<u8>) -> io::Result<bool> {
    let mut buffer = [0; 4096];
    let n = io::stdin().read(&mut buffer)?;
    pending.extend_from_slice(&buffer[..n]);
    let unfinished = pending.rsplit(|b| *b == b'\n').next().map_or(0, <[u8]>::len);
    if unfinished > LONGEST_LINE || pending.len() > MAX_PENDING {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a line that does not end"));
    }
    Ok(n > 0)
}

/// Says something that is not in the file, so it has no number.
fn say(at: Stamp, kind: EventKind) -> io::Result<()> {
    let event = Event { seq: 0, at, kind };
    let mut out = io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(&event)?)?;
    out.flush()
}

/// Whether the last event in a directory is of one of these kinds.
pub fn last_says(dir: &Path, kinds: &[&str]) -> bool {
    let Ok(text) = std::fs::read(dir.join(EVENTS_FILE)) else { return false };
    let text = String::from_utf8_lossy(&text);
    let last = text.lines().rfind(|line| events::sequence(line.as_bytes()).is_some()).unwrap_or_default();
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
pub fn size(dir: &Path) -> u64 {
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

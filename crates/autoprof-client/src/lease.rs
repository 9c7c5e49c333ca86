//! What an attached controller passes on: that it is still there, which keeps the lease, and marks.
//!
//! The FIFO takes lines: `a` for a sign of life, `m NAME` for a mark. Being connected is no sign of life: a connection
//! whose other end is gone can look alive for hours.
use std::{
    fs::File,
    io::{self, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    time::Duration,
};

use autoprof_protocol::{LEASE_FIFO, Limits};
use rustix::{
    event::PollFlags,
    fs::{Mode, OFlags},
    io::Errno,
};

use crate::{clock, marker};

/// Longest line that is taken, and most that one reading gives.
const LONGEST: usize = 4096;

/// The client's side: a FIFO that attached controllers write to.
#[derive(Debug)]
pub struct Lease {
    path: PathBuf,
    fifo: OwnedFd,
    lease_ns: Option<i64>,
    expires: Option<i64>,
    ends: i64,
    pending: Vec<u8>,
}

/// Why a client ends the window by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// No controller was attached for as long as the lease.
    Lease,
    /// It has run for as long as it may at all.
    MaxDuration,
}

impl Limit {
    /// The word for it in an event.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Lease => "lease",
            Self::MaxDuration => "max_duration",
        }
    }
}

impl Lease {
    /// Begins to keep the limits; the lease runs until somebody attaches.
    ///
    /// # Errors
    /// When the FIFO cannot be made.
    pub fn new(dir: &Path, limits: &Limits) -> io::Result<Self> {
        let path = dir.join(LEASE_FIFO);
        marker::make_fifo(&path)?;
        let now = clock::boot_ns();
        let lease_ns = limits.lease_ms.map(clock::millis);
        Ok(Self {
            fifo: open(&path)?,
            path,
            lease_ns,
            expires: lease_ns.map(|ns| now.saturating_add(ns)),
            ends: now.saturating_add(clock::millis(limits.max_duration_ms)),
            pending: Vec::new(),
        })
    }

    /// When a limit will be reached.
    pub fn due(&self) -> i64 {
        self.expires.map_or(self.ends, |expires| expires.min(self.ends))
    }

    /// The limit that has been reached, if one has.
    pub fn reached(&self) -> Option<Limit> {
        let now = clock::boot_ns();
        if self.ends <= now {
            return Some(Limit::MaxDuration);
        }
        self.expires.filter(|expires| *expires <= now).map(|_| Limit::Lease)
    }

    /// Takes note of what happened at the FIFO: the lease begins anew with every line. Gives the names of marks.
    ///
    /// # Errors
    /// When the FIFO cannot be opened again.
    pub fn heard(&mut self, flags: PollFlags) -> io::Result<Vec<String>> {
        let mut marks = Vec::new();
        if flags.contains(PollFlags::IN) {
            let mut buffer = [0; LONGEST];
            while let Ok(n @ 1..) = rustix::io::read(&self.fifo, &mut buffer) {
                self.pending.extend_from_slice(&buffer[..n]);
                while let Some(end) = self.pending.iter().position(|b| *b == b'\n') {
                    let line: Vec<u8> = self.pending.drain(..=end).collect();
                    let line = String::from_utf8_lossy(&line);
                    marks.extend(line.trim_end().strip_prefix("m ").map(str::to_owned));
                }
                if self.pending.len() > LONGEST {
                    self.pending.clear();
                }
            }
            self.expires = self.lease_ns.map(|ns| clock::boot_ns().saturating_add(ns));
        }
        if flags.contains(PollFlags::HUP) {
            // A FIFO that had a writer stays hung up: only a new opening is quiet again.
            self.fifo = open(&self.path)?;
        }
        Ok(marks)
    }
}

impl AsFd for Lease {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fifo.as_fd()
    }
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// The controller's side: the way to a client that keeps a lease; none while none does.
///
/// # Errors
/// When the FIFO is there but cannot be used.
pub fn hold(dir: &Path) -> io::Result<Option<File>> {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    match rustix::fs::open(dir.join(LEASE_FIFO), flags, Mode::empty()) {
        Ok(fd) => {
            let mut fifo = File::from(fd);
            fifo.write_all(ALIVE)?;
            Ok(Some(fifo))
        }
        Err(Errno::NXIO | Errno::NOENT) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// The line that is a sign of life.
pub const ALIVE: &[u8] = b"a\n";

/// How long an attaching controller waits between two looks for the lease of a client that is just starting.
pub const RETRY: Duration = Duration::from_millis(5);

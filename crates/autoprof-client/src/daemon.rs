//! The client in charge of a directory: waits for markers, runs the profilers, says what it did.
use std::{
    fs::{self, File},
    io::{self, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    time::Duration,
};

use autoprof_protocol::{
    CONTROL_FILE, ControlFile, EventKind, Marker, MarkerTime, PID_FILE, PROTOCOL_VERSION, RESULTS_DIR,
};
use rustix::fs::{FlockOperation, flock};

use crate::{
    clock,
    events::EventLog,
    lease::{Lease, Limit},
    marker::{self, Wait},
    poll,
    profiler::Profiler,
    sys,
};

/// How often the directory's lock is tried for, 2 ms apart: who looks may be put to sleep by the kernel while it has it.
const TAKE_CHARGE_TRIES: u32 = 1000;
/// How often a group whose leader is gone is looked at: nothing else says that its last member went.
const STRAY_LOOK_NS: i64 = 20_000_000;

/// Why the client leaves off what it waits for.
#[derive(Debug)]
enum Interrupt {
    Limit(Limit),
    Signal,
    Io(io::Error),
}

impl From<io::Error> for Interrupt {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

/// Runs the client in a directory until its work is done.
///
/// # Errors
/// When it cannot take charge of the directory. Later failures are events.
pub fn run(dir: &Path) -> io::Result<()> {
    let _in_charge = take_charge(dir)?;
    let mut events = EventLog::open(dir)?;
    let daemon = read_control(dir).and_then(|control| Daemon::new(dir, &control));
    let result = match daemon {
        Ok(mut daemon) => daemon.run(&mut events),
        Err(e) => Err(Interrupt::Io(e)),
    };
    kill_children();
    let reason = match result {
        Ok(()) => return Ok(()),
        Err(Interrupt::Signal) => "it was told to end".to_owned(),
        Err(Interrupt::Io(e)) => e.to_string(),
        Err(Interrupt::Limit(limit)) => format!("limit {} reached", limit.word()),
    };
    events.record(EventKind::Failed { reason: reason.clone() });
    Err(io::Error::other(reason))
}

/// Makes this process the only client of the directory, for as long as the file is held.
fn take_charge(dir: &Path) -> io::Result<File> {
    let mut file =
        fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(dir.join(PID_FILE))?;
    let mut tries = 0;
    while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        tries += 1;
        // Whoever looks whether a client is up holds the lock for a moment.
        if tries > TAKE_CHARGE_TRIES {
            return Err(io::Error::other("another client is in charge of this directory"));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())?;
    Ok(file)
}

fn read_control(dir: &Path) -> io::Result<ControlFile> {
    let text = fs::read_to_string(dir.join(CONTROL_FILE))?;
    // The file is YAML of the kind that is JSON as well: reading all of YAML is 130 KiB of code for every host.
    let control: ControlFile =
        serde_json::from_str(&text).map_err(|e| io::Error::other(format!("{CONTROL_FILE}: {e}")))?;
    if control.version != PROTOCOL_VERSION {
        let message = format!("{CONTROL_FILE} has version {}, this client speaks {PROTOCOL_VERSION}", control.version);
        return Err(io::Error::other(message));
    }
    Ok(control)
}

struct Daemon {
    dir: PathBuf,
    profilers: Vec<Profiler>,
    signals: OwnedFd,
    lease: Lease,
}

impl Daemon {
    fn new(dir: &Path, control: &ControlFile) -> io::Result<Self> {
        // What tools leave behind when they end becomes a child of this process, and is ended with the rest.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        let results = dir.join(RESULTS_DIR);
        let profilers = control
            .profilers
            .iter()
            .map(|entry| Profiler::new(&entry.name, entry.invocation.clone(), results.join(&entry.name)))
            .collect::<io::Result<_>>()?;
        fs::create_dir_all(&results)?;
        let lease = Lease::new(dir, &control.limits)?;
        Ok(Self { dir: dir.to_owned(), profilers, signals: sys::end_signals()?, lease })
    }

    fn run(&mut self, events: &mut EventLog) -> Result<(), Interrupt> {
        for profiler in &mut self.profilers {
            profiler.prepare().into_iter().for_each(|e| events.record(e));
        }
        events.record(EventKind::Ready { pid: std::process::id(), boot_id: crate::facts::boot_id() });
        match self.window(events) {
            // The window is over, by marker or by limit: what is there is finished either way.
            Ok(()) => {}
            Err(Interrupt::Limit(limit)) => events.record(EventKind::LimitReached { limit: limit.word().to_owned() }),
            Err(other) => {
                self.profilers.iter_mut().for_each(Profiler::abort);
                let _ = self.wait_gone(events);
                return Err(other);
            }
        }
        self.profilers.iter_mut().for_each(Profiler::stop);
        self.wait_gone(events)?;
        events.record(EventKind::Stopped);
        match self.await_marker(events, Marker::Report) {
            Ok(()) => {}
            // Nobody asked in time: the report is made all the same, for whoever comes to fetch it.
            Err(Interrupt::Limit(limit)) => crate::log(&format!("reporting unasked: {} reached", limit.word())),
            Err(other) => return Err(other),
        }
        for profiler in &self.profilers {
            profiler.report().into_iter().for_each(|e| events.record(e));
        }
        events.record(EventKind::Reported);
        Ok(())
    }

    /// From the start marker to the stop marker.
    fn window(&mut self, events: &mut EventLog) -> Result<(), Interrupt> {
        self.await_marker(events, Marker::Start)?;
        for profiler in &mut self.profilers {
            profiler.start().into_iter().for_each(|e| events.record(e));
        }
        loop {
            for profiler in &mut self.profilers {
                profiler.settle().into_iter().for_each(|e| events.record(e));
            }
            if !self.profilers.iter().any(Profiler::is_starting) {
                break;
            }
            self.turn(events, None, None)?;
        }
        let collecting = self.profilers.iter().filter(|p| p.is_collecting()).map(|p| p.name().to_owned()).collect();
        events.record(EventKind::Started { collecting });
        self.await_marker(events, Marker::Stop)
    }

    fn await_marker(&mut self, events: &mut EventLog, marker: Marker) -> Result<(), Interrupt> {
        let time = match marker::wait(&self.dir, marker)? {
            Wait::Here(time) => time,
            Wait::Fifo(waiting) => loop {
                // A limit that was reached while tools were being ended is not waited for again.
                self.lease.reached().map_or(Ok(()), |limit| Err(Interrupt::Limit(limit)))?;
                self.turn(events, Some(waiting.as_fd()), None)?;
                if let Some(time) = waiting.take()? {
                    break time;
                }
            },
        };
        if let MarkerTime::At(unix_ns) = time {
            let now = clock::now();
            let due = now.boot_ns.saturating_add(unix_ns.saturating_sub(now.unix_ns));
            while clock::boot_ns() < due {
                self.turn(events, None, Some(due))?;
            }
        }
        Ok(())
    }

    /// Waits until nothing of any profiler runs any more. Limits do not count: each tool's own grace is one.
    fn wait_gone(&mut self, events: &mut EventLog) -> Result<(), Interrupt> {
        while !self.profilers.iter().all(Profiler::is_gone) {
            let stray = clock::boot_ns() + STRAY_LOOK_NS;
            match self.turn(events, None, Some(stray)) {
                Ok(()) | Err(Interrupt::Limit(_)) => {}
                Err(Interrupt::Signal) => self.profilers.iter_mut().for_each(Profiler::abort),
                Err(other) => return Err(other),
            }
        }
        for profiler in &mut self.profilers {
            profiler.finish().into_iter().for_each(|e| events.record(e));
        }
        Ok(())
    }

    /// Waits for the next thing to happen and does what is due.
    fn turn(
        &mut self,
        events: &mut EventLog,
        marker: Option<BorrowedFd<'_>>,
        deadline: Option<i64>,
    ) -> Result<(), Interrupt> {
        let due = self.profilers.iter().filter_map(Profiler::due).chain(deadline).min();
        // A limit that has been reached already (while tools are being ended) would make the wait spin.
        let limit = Some(self.lease.due()).filter(|at| *at > clock::boot_ns());
        let next = due.into_iter().chain(limit).min();
        let fixed = [self.signals.as_fd(), self.lease.as_fd()].into_iter().chain(marker);
        let flags = poll::wait(fixed.chain(self.profilers.iter().flat_map(Profiler::watches)), next)?;
        sys::reap_strangers(&self.profilers.iter().flat_map(Profiler::pids).collect::<Vec<_>>());
        for profiler in &mut self.profilers {
            profiler.tend().into_iter().for_each(|e| events.record(e));
        }
        self.lease.heard(flags[1])?;
        if !flags[0].is_empty() && took_signal(&self.signals) {
            return Err(Interrupt::Signal);
        }
        self.lease.reached().map_or(Ok(()), |limit| Err(Interrupt::Limit(limit)))
    }
}

fn took_signal(signals: &OwnedFd) -> bool {
    /// `struct signalfd_siginfo`.
    const SIZE: usize = 128;
    rustix::io::read(signals, &mut [0; SIZE]).is_ok_and(|n| n > 0)
}

/// Ends whatever is still a child of this process: nothing of ours outlives the client.
fn kill_children() {
    let me = std::process::id();
    for _ in 0..100 {
        let Ok(children) = fs::read_to_string(format!("/proc/{me}/task/{me}/children")) else { return };
        let children: Vec<u32> = children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
        if children.is_empty() {
            return;
        }
        for child in children {
            if let Some(pid) = i32::try_from(child).ok().and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
            let _ = sys::try_wait(child);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

//! The client in charge of a directory: waits for markers, runs the profilers, says what it did.
use std::{
    fs::{self, File},
    io::{self, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    time::Duration,
};

use autoprof_protocol::{
    CONTROL_FILE, ControlFile, EventKind, Marker, MarkerTime, PID_FILE, PROTOCOL_VERSION, ProfilerEntry, RESULTS_DIR,
    Stamp, Task, segment_dir,
};
use rustix::fs::{FlockOperation, flock};

use crate::{
    clock,
    clockset::ClockWatch,
    disk::Disk,
    environment,
    events::EventLog,
    lease::{Lease, Limit},
    marker::{self, Wait},
    poll,
    profiler::Profiler,
    scheduling::Scheduling,
    settings, strays, sys,
};

/// Where the kernel takes marks for its own trace; the second is where it was before Linux 4.1.
const TRACE_MARKERS: [&str; 2] = ["/sys/kernel/tracing/trace_marker", "/sys/kernel/debug/tracing/trace_marker"];

/// How often the directory's lock is tried for, 2 ms apart: who looks may be put to sleep by the kernel while it has it.
const TAKE_CHARGE_TRIES: u32 = 1000;
/// How often a group whose leader is gone is looked at: nothing else says that its last member went.
const STRAY_LOOK_NS: i64 = 20_000_000;
/// How far ahead a stop may be planned: several times what a controller ever chooses.
const MOST_AHEAD_NS: i64 = 10_000_000_000;

/// Why profilers ended when the client was signalled: who did it cannot be known, but who does it most.
const TOLD_TO_END: &str = "stopped early: the client was told to end (by a signal, as a host that shuts down sends it, \
                           and systemd at logout with KillUserProcesses=yes)";

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
    environment::set_client_dir(dir);
    let control = read_control(dir);
    let mut events = EventLog::open(dir, control.as_ref().map_or(0, |c| c.after))?;
    // An earlier client of this directory may have been killed and its tools not have listened.
    match strays::end(dir) {
        Ok(0) => {}
        Ok(n) => crate::log(&format!("ended {n} processes that an earlier client left behind")),
        Err(e) => crate::log(&format!("cannot end what an earlier client left behind: {e}")),
    }
    marker::remove_stale(dir);
    settings::restore_for_the_dead(dir);
    let daemon = control.and_then(|control| Daemon::new(dir, &control));
    let result = match daemon {
        Ok(mut daemon) => daemon.run(&mut events),
        Err(e) => Err(Interrupt::Io(e)),
    };
    kill_children();
    settings::restore(dir).into_iter().for_each(|e| events.record(e));
    let reason = match result {
        Ok(()) => return Ok(()),
        Err(Interrupt::Signal) => "it was told to end".to_owned(),
        Err(Interrupt::Io(e)) => e.to_string(),
        Err(Interrupt::Limit(limit)) => format!("limit {} reached", limit.word()),
    };
    events.record(EventKind::Failed { reason: reason.clone().into() });
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
    task: Task,
    segment: u32,
    profilers: Vec<Profiler>,
    disk: Disk,
    /// Whether the disk is looked at: while something may grow.
    growing: bool,
    signals: OwnedFd,
    lease: Lease,
    clock: ClockWatch,
    /// While profilers collect.
    scheduling: Option<Scheduling>,
}

impl Daemon {
    fn new(dir: &Path, control: &ControlFile) -> io::Result<Self> {
        // What tools leave behind when they end becomes a child of this process, and is ended with the rest.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        let results = dir.join(RESULTS_DIR);
        fs::create_dir_all(&results)?;
        let disk = Disk::new(&results, &control.limits.disk, control.profilers.len());
        let new = |entry: &ProfilerEntry| {
            let own = results.join(&entry.name);
            let own = segment_dir(control.segment).map_or_else(|| own.clone(), |segment| own.join(segment));
            Profiler::new(&entry.name, entry.invocation.clone(), own, disk.file_limit())
        };
        // Those that are not started again are there for their reports alone.
        let mut profilers: Vec<Profiler> = control.profilers.iter().map(new).collect();
        for (profiler, entry) in profilers.iter_mut().zip(&control.profilers) {
            if control.task == Task::Finish || (control.segment > 1 && !entry.invocation.restart_after_reboot) {
                profiler.stand_by();
            }
        }
        let lease = Lease::new(dir, &control.limits)?;
        let (signals, clock) = (sys::end_signals()?, ClockWatch::new()?);
        sys::wake_on_time();
        let (dir, task, segment) = (dir.to_owned(), control.task, control.segment);
        Ok(Self { dir, task, segment, profilers, disk, growing: false, signals, lease, clock, scheduling: None })
    }

    fn run(&mut self, events: &mut EventLog) -> Result<(), Interrupt> {
        let full = self.disk.is_full().filter(|_| self.task == Task::Profile);
        for profiler in &mut self.profilers {
            let mut refused = full.clone();
            if refused.is_none() && !profiler.is_over() {
                match settings::apply(&self.dir, profiler.settings()) {
                    Ok(changed) => changed.into_iter().for_each(|e| events.record(e)),
                    Err(e) => refused = Some(format!("cannot change a setting of the host: {e}")),
                }
            }
            let refused = refused.map(|reason| profiler.refuse(&reason));
            refused.unwrap_or_else(|| profiler.prepare()).into_iter().for_each(|e| events.record(e));
        }
        while self.profilers.iter().any(Profiler::is_arming) {
            self.turn(events, &[], None)?;
            for profiler in &mut self.profilers {
                profiler.settle_arming().into_iter().for_each(|e| events.record(e));
            }
        }
        if self.task == Task::Profile {
            let (scheduling, event) = Scheduling::acquire();
            self.scheduling = Some(scheduling);
            events.record(event);
        }
        let (pid, boot_id) = (std::process::id(), crate::facts::boot_id());
        events.record(EventKind::Ready { pid, boot_id, segment: self.segment });
        let window = if self.task == Task::Profile { self.window(events) } else { Ok(()) };
        self.growing = false;
        match window {
            // The window is over, by marker or by limit: what is there is finished either way.
            Ok(()) => {}
            Err(Interrupt::Limit(limit)) => {
                events.record(EventKind::LimitReached { limit: limit.word().to_owned().into() })
            }
            Err(other) => {
                let why = match &other {
                    Interrupt::Signal => TOLD_TO_END.to_owned(),
                    Interrupt::Io(e) => format!("stopped early: the client failed: {e}"),
                    Interrupt::Limit(limit) => format!("stopped early: {} reached", limit.word()),
                };
                self.profilers.iter_mut().for_each(|profiler| profiler.end_early(&why));
                let _ = self.wait_gone(events);
                return Err(other);
            }
        }
        self.profilers.iter_mut().for_each(Profiler::stop);
        self.wait_gone(events)?;
        if let Some(mut scheduling) = self.scheduling.take() {
            scheduling.release();
        }
        settings::restore(&self.dir).into_iter().for_each(|e| events.record(e));
        events.record(EventKind::Cost { cpu_us: sys::own_cpu_us() });
        events.record(EventKind::Stopped);
        match self.await_marker(events, Marker::Report) {
            Ok(()) => {}
            // Nobody asked in time: the report is made all the same, for whoever comes to fetch it.
            Err(Interrupt::Limit(limit)) => crate::log(&format!("reporting unasked: {} reached", limit.word())),
            Err(other) => return Err(other),
        }
        for profiler in &self.profilers {
            profiler.report(&self.segments_of(profiler.name())).into_iter().for_each(|e| events.record(e));
        }
        events.record(EventKind::Reported);
        Ok(())
    }

    /// The directories of a profiler in all segments that there are of it.
    fn segments_of(&self, profiler: &str) -> Vec<PathBuf> {
        let own = self.dir.join(RESULTS_DIR).join(profiler);
        let dirs = (1..=self.segment).map(|n| segment_dir(n).map_or_else(|| own.clone(), |segment| own.join(segment)));
        let begun = |dir: &PathBuf| fs::read_dir(dir).is_ok_and(|files| files.flatten().any(|f| f.path().is_file()));
        dirs.filter(begun).collect()
    }

    /// From the start marker to the stop marker; a stop that comes first is one to a window that never opens.
    fn window(&mut self, events: &mut EventLog) -> Result<(), Interrupt> {
        if self.await_one_of(events, &[Marker::Start, Marker::Stop])? == Marker::Stop {
            return Ok(());
        }
        self.growing = true;
        // What only has to be told first: a spawn takes longer than all of that. What was told is heard in between, so
        // that its answer has the time at which it came.
        self.profilers.sort_by_key(|profiler| !profiler.is_armed());
        let mut began = Vec::new();
        for nth in 0..self.profilers.len() {
            began.extend(self.profilers[nth].start());
            began.extend(self.profilers[..=nth].iter_mut().filter(|p| p.is_armed()).filter_map(Profiler::settle));
        }
        began.into_iter().for_each(|e| events.record(e));
        loop {
            for profiler in &mut self.profilers {
                profiler.settle().into_iter().for_each(|e| events.record(e));
            }
            if !self.profilers.iter().any(Profiler::is_starting) {
                break;
            }
            self.turn(events, &[], None)?;
        }
        let collecting = self.profilers.iter().filter(|p| p.is_collecting()).map(|p| p.name().to_owned()).collect();
        events.record(EventKind::Started { collecting });
        self.await_marker(events, Marker::Stop)
    }

    fn await_marker(&mut self, events: &mut EventLog, marker: Marker) -> Result<(), Interrupt> {
        self.await_one_of(events, &[marker]).map(drop)
    }

    fn await_one_of(&mut self, events: &mut EventLog, markers: &[Marker]) -> Result<Marker, Interrupt> {
        let mut fifos = Vec::new();
        let mut here = None;
        for marker in markers {
            match marker::wait(&self.dir, *marker)? {
                Wait::Here(time) => here = Some((*marker, time)),
                Wait::Fifo(waiting) => fifos.push((*marker, waiting)),
            }
            if here.is_some() {
                break;
            }
        }
        let (marker, time) = loop {
            if let Some(here) = here {
                break here;
            }
            // A limit that was reached while tools were being ended is not waited for again.
            self.lease.reached().map_or(Ok(()), |limit| Err(Interrupt::Limit(limit)))?;
            let watched: Vec<_> = fifos.iter().map(|(_, fifo)| fifo.as_fd()).collect();
            self.turn(events, &watched, None)?;
            for (marker, fifo) in &fifos {
                here = here.or(fifo.take()?.map(|time| (*marker, time)));
            }
        };
        if let MarkerTime::At(unix_ns) = time {
            let now = clock::now();
            // A stop that is far ahead was told by a clock that has been set since; profiling on would help nobody.
            let ahead = match unix_ns.saturating_sub(now.unix_ns) {
                ahead if marker != Marker::Start && ahead > MOST_AHEAD_NS => 0,
                ahead => ahead,
            };
            let planned = Stamp { unix_ns, boot_ns: now.boot_ns.saturating_add(ahead) };
            let late_ns = u64::try_from(ahead.saturating_neg()).unwrap_or(0);
            events.record(EventKind::Scheduled { marker, planned, late_ns });
            while clock::boot_ns() < planned.boot_ns {
                self.turn(events, &[], Some(planned.boot_ns))?;
            }
        }
        Ok(marker)
    }

    /// Waits until nothing of any profiler runs any more. Limits do not count: each tool's own grace is one.
    fn wait_gone(&mut self, events: &mut EventLog) -> Result<(), Interrupt> {
        while !self.profilers.iter().all(Profiler::is_gone) {
            let stray = clock::boot_ns() + STRAY_LOOK_NS;
            match self.turn(events, &[], Some(stray)) {
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
        markers: &[BorrowedFd<'_>],
        deadline: Option<i64>,
    ) -> Result<(), Interrupt> {
        let disk = self.growing.then(|| self.disk.due());
        let scheduling = self.scheduling.as_ref().filter(|_| self.growing).and_then(Scheduling::due);
        let due = self.profilers.iter().filter_map(Profiler::due).chain(deadline).chain(disk).chain(scheduling).min();
        // A limit that has been reached already (while tools are being ended) would make the wait spin.
        let limit = Some(self.lease.due()).filter(|at| *at > clock::boot_ns());
        let next = due.into_iter().chain(limit).min();
        let fixed =
            [self.signals.as_fd(), self.lease.as_fd(), self.clock.as_fd()].into_iter().chain(markers.iter().copied());
        let flags = poll::wait(fixed.chain(self.profilers.iter().flat_map(Profiler::watches)), next)?;
        sys::reap_strangers(&self.profilers.iter().flat_map(Profiler::pids).collect::<Vec<_>>());
        for profiler in &mut self.profilers {
            profiler.tend().into_iter().for_each(|e| events.record(e));
        }
        if self.growing {
            self.disk.look(&mut self.profilers).into_iter().for_each(|e| events.record(e));
            let changed = self.scheduling.as_mut().and_then(|scheduling| scheduling.look(&mut self.profilers));
            changed.into_iter().for_each(|e| events.record(e));
        }
        for name in self.lease.heard(flags[1])? {
            let traced = trace_mark(&name);
            events.record(EventKind::Marked { name, traced });
        }
        if !flags[2].is_empty()
            && let Some(step_ns) = self.clock.jumped()?
        {
            events.record(EventKind::ClockSet { step_ns });
        }
        if !flags[0].is_empty() && took_signal(&self.signals) {
            return Err(Interrupt::Signal);
        }
        self.lease.reached().map_or(Ok(()), |limit| Err(Interrupt::Limit(limit)))
    }
}

/// Puts a mark into the kernel's trace, where this user may.
fn trace_mark(name: &str) -> bool {
    let open = |path: &&str| File::options().write(true).open(path).ok();
    TRACE_MARKERS.iter().find_map(open).is_some_and(|mut file| file.write_all(name.as_bytes()).is_ok())
}

fn took_signal(signals: &OwnedFd) -> bool {
    /// `struct signalfd_siginfo`.
    const SIZE: usize = 128;
    rustix::io::read(signals, &mut [0; SIZE]).is_ok_and(|n| n > 0)
}

/// Ends whatever is still a child of this process: nothing of ours outlives the client.
pub fn kill_children() {
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

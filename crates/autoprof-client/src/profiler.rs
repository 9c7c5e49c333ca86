//! One profiler of this host: its tool, its sampling, its polled command.
use std::{
    fs::{self, File},
    io::{self, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use autoprof_protocol::{
    Arm, Ended, Environment, EventKind, Flush, Invocation, Outcome, Poll, Report, SamplerStats, Setting, Stamp, Start,
    Stop, StopSignal,
};
use rustix::fs::{Mode, OFlags};

use crate::{
    clock, marker,
    sampler::Sampler,
    sys::{ChildEnd, Hangup, Priority},
    tool::{self, STDERR_FILE, Task, Tool},
};

/// How long a tool may take to settle or to acknowledge; then one that lives is taken as collecting (a tool that
/// never sleeps), and one that owes an acknowledgement has failed.
const SETTLE_MS: u64 = 2_000;
/// The same for a tool that acknowledges: perf opens a counter per event and CPU before it listens.
const ACK_MS: u64 = 20_000;
/// How long a tool may take to end when the client itself was told to: whoever shuts a host down does not wait long.
const HURRIED_MS: u64 = 3_000;
/// How long one command of the prepare step may take.
const PREPARE_MS: u64 = 30_000;

/// One profiler of this host.
#[derive(Debug)]
pub struct Profiler {
    name: String,
    dir: PathBuf,
    invocation: Invocation,
    tool: Option<Tool>,
    sampler: Option<Sampler>,
    poller: Option<Poller>,
    fifos: Option<Fifos>,
    arming_since: Option<i64>,
    starting_since: Option<i64>,
    began: Option<Stamp>,
    ended: bool,
    /// When the client's own sampling began, and when it ended.
    sampled_since: Option<Stamp>,
    sampled_until: Option<Stamp>,
    /// Why it was stopped before the window was over.
    early: Option<String>,
    file_limit: u64,
}

#[derive(Debug)]
struct Fifos {
    control: File,
    ack: OwnedFd,
    answer: String,
    heard: String,
    flush: Option<Flush>,
    next_flush: Option<i64>,
}

impl Profiler {
    /// A profiler whose results go into `dir`.
    pub fn new(name: &str, invocation: Invocation, dir: PathBuf, file_limit: u64) -> Self {
        Self {
            name: name.to_owned(),
            dir,
            invocation,
            tool: None,
            sampler: None,
            poller: None,
            fifos: None,
            arming_since: None,
            starting_since: None,
            began: None,
            ended: false,
            sampled_since: None,
            sampled_until: None,
            early: None,
            file_limit,
        }
    }

    /// Runs the prepare commands and arms the tool if it can be.
    pub fn prepare(&mut self) -> Option<EventKind> {
        if self.ended {
            return None;
        }
        let prepared = self.try_prepare();
        prepared.err().map(|e| self.failed(e.to_string()))
    }

    /// Whether nothing has to be spawned for it at the start.
    pub fn is_armed(&self) -> bool {
        self.fifos.is_some() || self.invocation.start.is_none()
    }

    /// Whether it has been spawned and is not known to wait for its start yet.
    pub fn is_arming(&self) -> bool {
        self.arming_since.is_some() && !self.ended
    }

    /// Looks whether a profiler that is being armed waits for its start.
    pub fn settle_arming(&mut self) -> Option<EventKind> {
        let (Some(since), Some(fifos)) = (self.arming_since, &mut self.fifos) else { return None };
        if fifos.answered() {
            fifos.heard.clear();
            self.arming_since = None;
            return None;
        }
        let late = clock::boot_ns() - since > clock::millis(ACK_MS);
        late.then(|| self.failed(format!("was not ready to record within {} s", ACK_MS / 1000)))
    }

    fn try_prepare(&mut self) -> io::Result<()> {
        fs::create_dir_all(&self.dir)
            .map_err(|e| io::Error::new(e.kind(), format!("cannot make the directory of its results: {e}")))?;
        for argv in &self.invocation.prepare {
            let environment = self.invocation.environment;
            let stdout = Some(STDERR_FILE);
            let task = Task { environment, stdout, merge_stderr: true, ..Task::new(argv, self.file_limit) };
            run_to_end(task, &self.dir, PREPARE_MS)?;
        }
        if let Some(start) = &self.invocation.start
            && let Some(arm) = &start.arm
        {
            let mut fifos = Fifos::make(&self.dir, arm)?;
            self.tool = Some(spawn(&self.invocation, start, &self.dir, self.file_limit)?);
            if let Some(probe) = &arm.probe {
                writeln!(fifos.control, "{probe}")?;
                self.arming_since = Some(clock::boot_ns());
            }
            self.fifos = Some(fifos);
        }
        self.sampler = self.invocation.samples.as_ref().map(|s| Sampler::open(s, &self.dir)).transpose()?;
        Ok(())
    }

    /// Begins to collect; that it does is known once [`Self::settle`] says so.
    pub fn start(&mut self) -> Option<EventKind> {
        if self.ended {
            return None;
        }
        self.starting_since = Some(clock::boot_ns());
        let started = self.try_start();
        started.err().map(|e| self.failed(e.to_string()))
    }

    fn try_start(&mut self) -> io::Result<()> {
        if let Some(start) = &self.invocation.start {
            match (&mut self.fifos, &start.arm) {
                (Some(fifos), Some(arm)) => writeln!(fifos.control, "{}", arm.enable)?,
                _ => self.tool = Some(spawn(&self.invocation, start, &self.dir, self.file_limit)?),
            }
        }
        if let Some(sampler) = &mut self.sampler {
            self.sampled_since = Some(clock::now());
            sampler.begin()?;
        }
        if let Some(poll) = &self.invocation.poll {
            let next = Some(clock::boot_ns());
            let (environment, file_limit) = (self.invocation.environment, self.file_limit);
            self.poller = Some(Poller { poll: poll.clone(), running: None, next, environment, file_limit });
        }
        Ok(())
    }

    /// Whether it has been started and is not yet known to collect.
    pub fn is_starting(&self) -> bool {
        self.starting_since.is_some() && self.began.is_none() && !self.ended
    }

    /// Whether it is known to collect.
    pub fn is_collecting(&self) -> bool {
        self.began.is_some() && !self.ended
    }

    /// Where its results go.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Stops it before the window is over; its data stands.
    pub fn stop_early(&mut self, reason: String) -> Option<EventKind> {
        if self.ended || self.early.is_some() {
            return None;
        }
        self.early = Some(reason);
        self.stop();
        // One without a tool has nothing to wait for.
        self.tool.is_none().then(|| self.finish()).flatten()
    }

    /// Ends it since the client has to end: its data stands, but it has little time.
    pub fn end_early(&mut self, reason: &str) {
        if !self.ended && self.early.is_none() && self.began.is_some() {
            self.early = Some(reason.to_owned());
        }
        let Stop { signal, grace_ms } = self.invocation.stop;
        self.stop_with(Stop { signal, grace_ms: grace_ms.min(HURRIED_MS) });
    }

    /// Has it collect nothing: it is there for the reports of what it collected before.
    pub fn stand_by(&mut self) {
        self.ended = true;
    }

    /// Takes it that it cannot collect at all.
    pub fn refuse(&mut self, reason: &str) -> Option<EventKind> {
        (!self.ended).then(|| self.failed(reason.to_owned()))
    }

    fn was_asked(&self) -> bool {
        self.tool.as_ref().is_some_and(Tool::was_asked)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Looks whether a profiler that is starting has begun.
    pub fn settle(&mut self) -> Option<EventKind> {
        let since = self.starting_since?;
        if !self.is_starting() {
            return None;
        }
        let waited = clock::boot_ns() - since;
        let (begun, patience_ms) = match (&mut self.tool, &mut self.fifos) {
            (Some(_), Some(fifos)) => (fifos.answered(), ACK_MS),
            (Some(tool), None) if tool.has_workload() => (tool.has_settled(), ACK_MS),
            (Some(tool), None) => (tool.has_settled() || waited > clock::millis(SETTLE_MS), SETTLE_MS),
            (None, _) => (true, 0),
        };
        if !begun && waited > clock::millis(patience_ms) {
            return Some(self.failed(format!("did not say within {} s that it records", patience_ms / 1000)));
        }
        begun.then(|| self.begin_now())
    }

    /// The settings of the host that it needs.
    pub fn settings(&self) -> &[Setting] {
        &self.invocation.settings
    }

    /// Whether it has ended, or is not to begin.
    pub fn is_over(&self) -> bool {
        self.ended
    }

    /// Asks everything to end.
    pub fn stop(&mut self) {
        self.stop_with(self.invocation.stop);
    }

    /// Asks everything to end at once; its data is not wanted.
    pub fn abort(&mut self) {
        self.stop_with(Stop { signal: StopSignal::Terminate, grace_ms: 500 });
    }

    fn stop_with(&mut self, stop: Stop) {
        if let Some(tool) = &mut self.tool {
            tool.stop(stop);
        }
        if let Some(poller) = &mut self.poller {
            poller.next = None;
            if let Some(running) = &mut poller.running {
                running.stop(Stop { signal: StopSignal::Terminate, grace_ms: 1_000 });
            }
        }
        if let Some(sampler) = &mut self.sampler {
            if let Err(e) = sampler.end() {
                crate::log(&format!("{}: the last sample: {e}", self.name));
            }
            self.sampled_until.get_or_insert_with(clock::now);
        }
    }

    /// Whether nothing of it runs any more.
    pub fn is_gone(&self) -> bool {
        self.tool.as_ref().is_none_or(Tool::is_gone)
            && self.poller.as_ref().is_none_or(|p| p.next.is_none() && p.running.is_none())
            && self.sampler.as_ref().is_none_or(|s| s.due().is_none())
    }

    /// The descriptors that say that something of it happened.
    pub fn watches(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let running = self.poller.as_ref().and_then(|p| p.running.as_ref());
        let ack = self.fifos.as_ref().filter(|_| self.is_starting() || self.is_arming()).map(|f| f.ack.as_fd());
        self.tool.iter().chain(running).filter_map(Tool::watch).chain(ack)
    }

    /// Takes a real-time priority from a tool that uses too much of a CPU.
    pub fn bound_realtime(&mut self, is_too_much: impl Fn(u64, i64) -> bool) {
        if self.tool.as_mut().is_some_and(|tool| tool.bound_realtime(is_too_much)) {
            crate::log(&format!("{} uses too much of a CPU for a real-time priority", self.name));
        }
    }

    fn sample_count(&self) -> Option<SamplerStats> {
        self.sampler.as_ref().filter(|_| self.began.is_some()).map(Sampler::count)
    }

    /// The children that it looks after itself.
    pub fn pids(&self) -> impl Iterator<Item = u32> {
        let running = self.poller.as_ref().and_then(|p| p.running.as_ref());
        self.tool.iter().chain(running).filter(|tool| tool.end().is_none()).map(Tool::pid)
    }

    /// When it next wants to be tended, without anything having happened.
    pub fn due(&self) -> Option<i64> {
        // A tool that has no way to say that it collects is looked at, for the moment that this takes.
        let look = (self.is_starting() && self.fifos.is_none()).then(|| clock::boot_ns() + 1_000_000);
        let waiting =
            self.starting_since.filter(|_| self.is_starting()).or(self.arming_since.filter(|_| self.is_arming()));
        let late = waiting.map(|since| since + clock::millis(ACK_MS) + 1);
        let poller = self.poller.as_ref();
        let times = [
            self.sampler.as_ref().and_then(Sampler::due),
            self.fifos.as_ref().filter(|_| self.is_collecting() && !self.was_asked()).and_then(|f| f.next_flush),
            self.tool.as_ref().and_then(Tool::due),
            poller.and_then(|p| p.next),
            poller.and_then(|p| p.running.as_ref()).and_then(Tool::due),
            look,
            late,
        ];
        times.into_iter().flatten().min()
    }

    /// Does what is due, and says how it ended when it has.
    pub fn tend(&mut self) -> Vec<EventKind> {
        if let Some(sampler) = &mut self.sampler
            && sampler.due().is_some_and(|due| due <= clock::boot_ns())
            && let Err(e) = sampler.tick()
        {
            self.sampler = None;
            return vec![self.failed(format!("cannot write a sample: {e}"))];
        }
        let collecting = self.is_collecting() && !self.was_asked();
        if let Some(fifos) = self.fifos.as_mut().filter(|_| collecting) {
            fifos.tend();
        }
        if let Some(poller) = &mut self.poller {
            poller.tend(&self.dir);
        }
        if let Some(tool) = &mut self.tool {
            tool.tend();
        }
        let over = self.tool.as_ref().is_some_and(Tool::is_over);
        if !over || self.ended {
            return Vec::new();
        }
        // One that printed all that it may before it was seen to settle has collected that; so has one that is allowed to
        // be done so soon.
        let may_end = self.invocation.start.as_ref().is_some_and(|start| start.may_end);
        let is_done = |end: ChildEnd| is_too_long(end) || (may_end && end.code == Some(0));
        let collected = self.is_starting() && self.tool.as_ref().and_then(Tool::end).is_some_and(is_done);
        let began = collected.then(|| self.begin_now());
        began.into_iter().chain([self.ended_tool()]).collect()
    }

    fn begin_now(&mut self) -> EventKind {
        // Without a tool the first sample is the beginning, whenever the client comes to say so.
        let began = self.sampled_since.filter(|_| self.tool.is_none()).unwrap_or_else(clock::now);
        self.began = Some(began);
        if let Some(fifos) = &mut self.fifos {
            fifos.plan_flush();
        }
        EventKind::Began { profiler: self.name.clone(), began, pid: self.tool.as_ref().map(Tool::pid) }
    }

    /// How it ended, for one that has no tool, once it is gone.
    pub fn finish(&mut self) -> Option<EventKind> {
        if self.ended {
            return None;
        }
        self.ended = true;
        let outcome = match (self.began, &self.early) {
            (None, _) => Outcome::Failed,
            (Some(_), Some(_)) => Outcome::Partial,
            (Some(_), None) => Outcome::Ok,
        };
        let reason = self.began.is_none().then(|| "it was never started".to_owned()).or_else(|| self.early.clone());
        Some(EventKind::Ended(Ended {
            profiler: self.name.clone(),
            ended: self.sampled_until.unwrap_or_else(clock::now),
            outcome,
            status: String::new().into(),
            reason: reason.map(Into::into),
            last_words: None,
            cpu_us: 0,
            samples: self.sample_count(),
        }))
    }

    fn failed(&mut self, reason: String) -> EventKind {
        self.ended = true;
        let outcome = if self.began.is_some() { Outcome::Partial } else { Outcome::Failed };
        self.abort();
        EventKind::Ended(Ended {
            profiler: self.name.clone(),
            ended: clock::now(),
            outcome,
            status: String::new().into(),
            reason: Some(reason.into()),
            last_words: tool::last_words(&self.dir).map(Into::into),
            cpu_us: 0,
            samples: self.sample_count(),
        })
    }

    fn ended_tool(&mut self) -> EventKind {
        self.ended = true;
        let end = self.tool.as_ref().and_then(Tool::end);
        let asked = self.tool.as_ref().is_some_and(Tool::was_asked);
        let killed = self.tool.as_ref().is_some_and(Tool::was_killed);
        let status = end.map(tool::describe).unwrap_or_default();
        let may_end = self.invocation.start.as_ref().is_some_and(|s| s.may_end);
        let too_long = end.is_some_and(is_too_long);
        let beyond_us = self.tool.as_ref().filter(|tool| tool.is_beyond_us()).map(Tool::pid);
        let (outcome, reason) = match (self.began, asked) {
            (began, _) if let Some(group) = beyond_us => {
                let reason =
                    format!("does not end when it is asked to, and only root can kill it: process group {group}");
                (if began.is_some() { Outcome::Partial } else { Outcome::Failed }, Some(reason))
            }
            (Some(_), _) if self.early.is_some() => (Outcome::Partial, self.early.clone()),
            (Some(_), _) if too_long => {
                (Outcome::Partial, Some(format!("stopped early: a file of its reached {} bytes", self.file_limit)))
            }
            (None, _) => (Outcome::Failed, Some(format!("ended before it collected anything ({status})"))),
            (Some(_), true) if killed => {
                (Outcome::Partial, Some("did not end when it was asked to, and was killed".to_owned()))
            }
            // Whatever status a tool gives when it is asked to end is its way of saying that it did: 130, 143,
            // "signal INT" and 1 (sadc) are all met with whole data.
            (Some(_), true) => (Outcome::Ok, None),
            (Some(_), false) if may_end && end.is_some_and(|e| e.code == Some(0)) => (Outcome::Ok, None),
            (Some(_), false) => (Outcome::Partial, Some(format!("ended by itself during the window ({status})"))),
        };
        EventKind::Ended(Ended {
            profiler: self.name.clone(),
            ended: clock::now(),
            outcome,
            status: status.into(),
            last_words: reason.as_ref().and_then(|_| tool::last_words(&self.dir)).map(Into::into),
            reason: reason.map(Into::into),
            cpu_us: end.map_or(0, |e| e.cpu_us),
            samples: self.sample_count(),
        })
    }

    /// Runs the report commands in the directory of each segment, one after the other; raw data stands whatever they do.
    pub fn report(&self, segments: &[PathBuf]) -> Option<EventKind> {
        let all = segments.iter().flat_map(|dir| self.invocation.report.iter().map(move |report| (dir, report)));
        let failures: Vec<String> = all.filter_map(|(dir, report)| self.run_report(dir, report).err()).collect();
        segments.iter().for_each(|dir| self.tidy(dir));
        (!failures.is_empty())
            .then(|| EventKind::ReportFailed { profiler: self.name.clone(), reason: failures.join("; ").into() })
    }

    fn run_report(&self, dir: &Path, report: &Report) -> Result<(), String> {
        let stdout = report.stdout.as_deref();
        let environment = self.invocation.environment;
        let task = Task { environment, stdout, priority: Priority::Low, ..Task::new(&report.argv, self.file_limit) };
        run_to_end(task, dir, report.timeout_ms).map_err(|e| e.to_string())
    }

    /// Removes what means nothing to anybody: FIFOs, and an empty standard error.
    fn tidy(&self, dir: &Path) {
        if let Some(arm) = self.invocation.start.as_ref().and_then(|s| s.arm.as_ref()) {
            for fifo in [&arm.control, &arm.ack] {
                let _ = fs::remove_file(dir.join(fifo));
            }
        }
        let stderr = dir.join(STDERR_FILE);
        if fs::metadata(&stderr).is_ok_and(|m| m.len() == 0) {
            let _ = fs::remove_file(stderr);
        }
    }
}

fn spawn(invocation: &Invocation, start: &Start, dir: &Path, file_limit: u64) -> io::Result<Tool> {
    let hangup = if invocation.stop.signal == StopSignal::Hangup { Hangup::Heeded } else { Hangup::Ignored };
    let (env, stdout, workload) = (&start.env, start.stdout.as_deref(), start.workload.as_deref());
    let environment = invocation.environment;
    let priority = if start.samples { Priority::Sampling } else { Priority::Normal };
    let task = Task::new(&start.argv, file_limit);
    Tool::spawn(Task { environment, env, stdout, hangup, workload, priority, ..task }, dir)
}

/// Whether a tool was ended by the kernel since a file of its reached the limit.
fn is_too_long(end: ChildEnd) -> bool {
    end.signal == Some(libc::SIGXFSZ)
}

/// Runs a command to its end, and kills it when that takes too long.
fn run_to_end(task: Task<'_>, dir: &Path, timeout_ms: u64) -> io::Result<()> {
    let mut tool = Tool::spawn(task, dir)?;
    let deadline = clock::boot_ns() + clock::millis(timeout_ms);
    let program = task.argv.join(" ");
    while !tool.is_gone() {
        let now = clock::boot_ns();
        if now >= deadline {
            tool.stop(Stop { signal: StopSignal::Terminate, grace_ms: 500 });
        }
        // A stray group has no descriptor to wait on; 20 ms is how long nobody minds.
        let next = tool.due().unwrap_or(if now < deadline { deadline } else { i64::MAX });
        let next = if tool.watch().is_some() { next } else { now + 20_000_000 };
        crate::poll::wait(tool.watch(), Some(next))?;
        tool.tend();
    }
    match tool.end() {
        _ if tool.was_asked() => Err(io::Error::other(format!("{program} took longer than {} s", timeout_ms / 1000))),
        Some(end) if end.code == Some(0) => Ok(()),
        end => {
            let words = tool::last_words(dir).map(|w| format!(": {w}")).unwrap_or_default();
            Err(io::Error::other(format!("{program}: {}{words}", end.map(tool::describe).unwrap_or_default())))
        }
    }
}

impl Fifos {
    fn make(dir: &Path, arm: &Arm) -> io::Result<Self> {
        let open = |name: &str| -> io::Result<OwnedFd> {
            let path = dir.join(name);
            marker::make_fifo(&path)?;
            // Both ends: neither open nor write then waits for the tool, and what is written waits for it.
            let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            Ok(rustix::fs::open(&path, flags, Mode::empty())?)
        };
        let control = File::from(open(&arm.control)?);
        let (answer, flush) = (arm.answer.clone(), arm.flush.clone());
        Ok(Self { control, ack: open(&arm.ack)?, answer, heard: String::new(), flush, next_flush: None })
    }

    /// Plans the next time that the tool writes out what it holds.
    fn plan_flush(&mut self) {
        self.next_flush = self.flush.as_ref().map(|flush| clock::boot_ns() + clock::millis(flush.every_ms));
    }

    /// Has the tool write out what it holds when that is due.
    fn tend(&mut self) {
        let Some(flush) = self.flush.as_ref().filter(|_| self.next_flush.is_some_and(|due| due <= clock::boot_ns()))
        else {
            return;
        };
        // Its answers are of no use, but a full FIFO would stop it. A tool that does not read is not waited for.
        while let Ok(1..) = rustix::io::read(&self.ack, &mut [0; 256]) {}
        let _ = writeln!(self.control, "{}", flush.command);
        self.plan_flush();
    }

    /// Whether the tool has answered by now.
    fn answered(&mut self) -> bool {
        let mut buffer = [0; 256];
        while let Ok(n @ 1..) = rustix::io::read(&self.ack, &mut buffer) {
            if self.heard.len() < 4096 {
                self.heard.push_str(&String::from_utf8_lossy(&buffer[..n]));
            }
        }
        self.heard.contains(&self.answer)
    }
}

/// A command that is run again and again.
#[derive(Debug)]
struct Poller {
    poll: Poll,
    running: Option<Tool>,
    next: Option<i64>,
    environment: Environment,
    file_limit: u64,
}

impl Poller {
    fn tend(&mut self, dir: &Path) {
        if let Some(running) = &mut self.running {
            running.tend();
            if running.is_gone() {
                self.running = None;
            }
        }
        let now = clock::boot_ns();
        if self.next.is_some_and(|next| next <= now) {
            self.next = Some(now + clock::millis(self.poll.every_ms));
            if self.running.is_none() {
                self.running = self.run(dir).inspect_err(|e| crate::log(&format!("polling: {e}"))).ok();
            }
        }
    }

    fn run(&self, dir: &Path) -> io::Result<Tool> {
        let now = clock::now();
        let mut output = fs::OpenOptions::new().append(true).create(true).open(dir.join(&self.poll.output))?;
        writeln!(output, "# {} {}", now.unix_ns, now.boot_ns)?;
        let (environment, stdout) = (self.environment, Some(self.poll.output.as_str()));
        let task = Task::new(&self.poll.argv, self.file_limit);
        Tool::spawn(Task { environment, stdout, merge_stderr: true, ..task }, dir)
    }
}

//! One profiler of this host: its tool, its sampling, its polled command.
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use autoprof_protocol::{Arm, Ended, EventKind, Invocation, Outcome, Poll, Report, Stamp, Start, Stop, StopSignal};
use rustix::fs::{Mode, OFlags};

use crate::{
    clock, marker,
    sampler::Sampler,
    sys::Priority,
    tool::{self, STDERR_FILE, Task, Tool},
};

/// How long a tool may take to settle or to acknowledge; then one that lives is taken as collecting (a tool that
/// never sleeps), and one that owes an acknowledgement has failed.
const SETTLE_MS: u64 = 2_000;
/// The same for a tool that acknowledges: perf opens a counter per event and CPU before it listens.
const ACK_MS: u64 = 20_000;
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
    starting_since: Option<i64>,
    began: Option<Stamp>,
    ended: bool,
}

#[derive(Debug)]
struct Fifos {
    control: File,
    ack: OwnedFd,
    answer: String,
    heard: String,
}

impl Profiler {
    /// A profiler whose results go into `dir`, which is made.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn new(name: &str, invocation: Invocation, dir: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        Ok(Self {
            name: name.to_owned(),
            dir,
            invocation,
            tool: None,
            sampler: None,
            poller: None,
            fifos: None,
            starting_since: None,
            began: None,
            ended: false,
        })
    }

    /// Runs the prepare commands and arms the tool if it can be.
    pub fn prepare(&mut self) -> Option<EventKind> {
        let prepared = self.try_prepare();
        prepared.err().map(|e| self.failed(e.to_string()))
    }

    fn try_prepare(&mut self) -> io::Result<()> {
        for argv in &self.invocation.prepare {
            let task = Task {
                argv,
                env: &BTreeMap::new(),
                stdout: Some(STDERR_FILE),
                merge_stderr: true,
                priority: Priority::Normal,
            };
            run_to_end(task, &self.dir, PREPARE_MS)?;
        }
        if let Some(start) = &self.invocation.start
            && let Some(arm) = &start.arm
        {
            self.fifos = Some(Fifos::make(&self.dir, arm)?);
            self.tool = Some(spawn(start, &self.dir)?);
        }
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
                _ => self.tool = Some(spawn(start, &self.dir)?),
            }
        }
        if let Some(samples) = &self.invocation.samples {
            self.sampler.insert(Sampler::open(samples, &self.dir)?).begin()?;
        }
        if let Some(poll) = &self.invocation.poll {
            self.poller = Some(Poller { poll: poll.clone(), running: None, next: Some(clock::boot_ns()) });
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
        let begun = match (&mut self.tool, &mut self.fifos) {
            (Some(_), Some(fifos)) => {
                if !fifos.answered() && waited > clock::millis(ACK_MS) {
                    let reason = format!("did not say within {} s that it records", ACK_MS / 1000);
                    return Some(self.failed(reason));
                }
                fifos.answered()
            }
            (Some(tool), None) => tool.has_settled() || waited > clock::millis(SETTLE_MS),
            (None, _) => true,
        };
        begun.then(|| {
            let began = clock::now();
            self.began = Some(began);
            EventKind::Began { profiler: self.name.clone(), began, pid: self.tool.as_ref().map(Tool::pid) }
        })
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
        if let Some(sampler) = &mut self.sampler
            && let Err(e) = sampler.end()
        {
            crate::log(&format!("{}: the last sample: {e}", self.name));
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
        let ack = self.fifos.as_ref().filter(|_| self.is_starting()).map(|f| f.ack.as_fd());
        self.tool.iter().chain(running).filter_map(Tool::watch).chain(ack)
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
        let late = self.starting_since.filter(|_| self.is_starting()).map(|since| since + clock::millis(ACK_MS) + 1);
        let poller = self.poller.as_ref();
        let times = [
            self.sampler.as_ref().and_then(Sampler::due),
            self.tool.as_ref().and_then(Tool::due),
            poller.and_then(|p| p.next),
            poller.and_then(|p| p.running.as_ref()).and_then(Tool::due),
            look,
            late,
        ];
        times.into_iter().flatten().min()
    }

    /// Does what is due, and says how it ended when it has.
    pub fn tend(&mut self) -> Option<EventKind> {
        if let Some(sampler) = &mut self.sampler
            && sampler.due().is_some_and(|due| due <= clock::boot_ns())
            && let Err(e) = sampler.tick()
        {
            self.sampler = None;
            return Some(self.failed(format!("cannot write a sample: {e}")));
        }
        if let Some(poller) = &mut self.poller {
            poller.tend(&self.dir);
        }
        if let Some(tool) = &mut self.tool {
            tool.tend();
        }
        let over = self.tool.as_ref().is_some_and(|t| t.end().is_some());
        (over && !self.ended).then(|| self.ended_tool())
    }

    /// How it ended, for one that has no tool, once it is gone.
    pub fn finish(&mut self) -> Option<EventKind> {
        if self.ended {
            return None;
        }
        self.ended = true;
        let outcome = if self.began.is_some() { Outcome::Ok } else { Outcome::Failed };
        let reason = self.began.is_none().then(|| "it was never started".to_owned());
        Some(EventKind::Ended(Ended {
            profiler: self.name.clone(),
            ended: clock::now(),
            outcome,
            status: String::new(),
            reason,
            last_words: None,
            cpu_us: 0,
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
            status: String::new(),
            reason: Some(reason),
            last_words: tool::last_words(&self.dir),
            cpu_us: 0,
        })
    }

    fn ended_tool(&mut self) -> EventKind {
        self.ended = true;
        let end = self.tool.as_ref().and_then(Tool::end);
        let asked = self.tool.as_ref().is_some_and(Tool::was_asked);
        let killed = self.tool.as_ref().is_some_and(Tool::was_killed);
        let status = end.map(tool::describe).unwrap_or_default();
        let may_end = self.invocation.start.as_ref().is_some_and(|s| s.may_end);
        let (outcome, reason) = match (self.began, asked) {
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
            status,
            last_words: reason.as_ref().and_then(|_| tool::last_words(&self.dir)),
            reason,
            cpu_us: end.map_or(0, |e| e.cpu_us),
        })
    }

    /// Runs the report commands, one after the other; raw data stands whatever they do.
    pub fn report(&self) -> Option<EventKind> {
        let failures: Vec<String> = self.invocation.report.iter().filter_map(|r| self.run_report(r).err()).collect();
        self.tidy();
        (!failures.is_empty())
            .then(|| EventKind::ReportFailed { profiler: self.name.clone(), reason: failures.join("; ") })
    }

    fn run_report(&self, report: &Report) -> Result<(), String> {
        let task = Task {
            argv: &report.argv,
            env: &BTreeMap::new(),
            stdout: report.stdout.as_deref(),
            merge_stderr: false,
            priority: Priority::Low,
        };
        run_to_end(task, &self.dir, report.timeout_ms).map_err(|e| e.to_string())
    }

    /// Removes what means nothing to anybody: FIFOs, and an empty standard error.
    fn tidy(&self) {
        if let Some(arm) = self.invocation.start.as_ref().and_then(|s| s.arm.as_ref()) {
            for fifo in [&arm.control, &arm.ack] {
                let _ = fs::remove_file(self.dir.join(fifo));
            }
        }
        let stderr = self.dir.join(STDERR_FILE);
        if fs::metadata(&stderr).is_ok_and(|m| m.len() == 0) {
            let _ = fs::remove_file(stderr);
        }
    }
}

fn spawn(start: &Start, dir: &Path) -> io::Result<Tool> {
    let task = Task {
        argv: &start.argv,
        env: &start.env,
        stdout: start.stdout.as_deref(),
        merge_stderr: false,
        priority: Priority::Normal,
    };
    Tool::spawn(task, dir)
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
        Ok(Self { control, ack: open(&arm.ack)?, answer: arm.answer.clone(), heard: String::new() })
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
        let task = Task {
            argv: &self.poll.argv,
            env: &BTreeMap::new(),
            stdout: Some(&self.poll.output),
            merge_stderr: true,
            priority: Priority::Normal,
        };
        Tool::spawn(task, dir)
    }
}

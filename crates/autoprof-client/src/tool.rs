//! One child process in a process group of its own: spawned, watched, ended.
use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
    path::Path,
    process::{ChildStdin, Command, Stdio},
};

use autoprof_protocol::{Environment, Stop};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::{
    clock, environment,
    sys::{self, ChildEnd, Hangup, Priority, Signalled},
};

/// Where a child's standard error goes, in its profiler's directory.
pub const STDERR_FILE: &str = "stderr.txt";
/// How long a tool may take from `SIGTERM` to its end before it is killed.
const TERM_GRACE_MS: u64 = 2_000;
/// How long stray members of a tool's process group may outlive it.
const STRAY_GRACE_MS: u64 = 1_000;
/// Longest end of standard error that is kept for an event.
const LAST_WORDS: u64 = 2_000;

/// What to run, and where its output goes.
#[derive(Debug, Clone, Copy)]
pub struct Task<'a> {
    /// Program and arguments.
    pub argv: &'a [String],
    /// What it begins with of variables.
    pub environment: Environment,
    /// Variables on top of that.
    pub env: &'a BTreeMap<String, String>,
    /// File for standard output; none: thrown away.
    pub stdout: Option<&'a str>,
    /// Whether the output file also takes standard error.
    pub merge_stderr: bool,
    /// Before or behind other work on the host.
    pub priority: Priority,
    /// Largest size of a file that it writes.
    pub file_limit: u64,
    /// Whether `SIGHUP` reaches it.
    pub hangup: Hangup,
    /// The program that it runs for as long as it records, and that ends with its input.
    pub workload: Option<&'a str>,
}

impl<'a> Task<'a> {
    /// A command of the client's own accord, which throws away what it prints.
    pub fn new(argv: &'a [String], file_limit: u64) -> Self {
        static NOTHING: BTreeMap<String, String> = BTreeMap::new();
        Self {
            argv,
            environment: Environment::Clean,
            env: &NOTHING,
            stdout: None,
            merge_stderr: false,
            priority: Priority::Normal,
            file_limit,
            hangup: Hangup::Ignored,
            workload: None,
        }
    }
}

/// A running or ended child.
#[derive(Debug)]
pub struct Tool {
    pid: u32,
    pidfd: OwnedFd,
    end: Option<ChildEnd>,
    /// Whether nothing of its group was left when that was looked at last: its number may be somebody else's since.
    group_gone: bool,
    asked: bool,
    killed: bool,
    /// Whether it goes on and nothing can be done about that.
    beyond_us: bool,
    /// The input of its workload, which is open for as long as it is to record.
    input: Option<ChildStdin>,
    workload: Option<String>,
    /// The next, firmer signal to its group, and when.
    next: Option<(i64, i32)>,
    /// CPU time at the last look, while it is not known to have settled.
    last_look: Option<u64>,
    /// When its use of the CPU was looked at last, and what it was, for one with a real-time priority.
    realtime: Option<(i64, u64)>,
}

impl Tool {
    /// Starts a child in a directory.
    ///
    /// # Errors
    /// When the program cannot be run or a file not be made; the message names it.
    pub fn spawn(task: Task<'_>, dir: &Path) -> io::Result<Self> {
        let [program, args @ ..] = task.argv else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "an empty command"));
        };
        let mut command = Command::new(program);
        command.args(args).current_dir(dir);
        command.stdin(if task.workload.is_some() { Stdio::piped() } else { Stdio::null() });
        environment::set(&mut command, task.environment);
        command.envs(task.env);
        let append = |name: &str| OpenOptions::new().append(true).create(true).mode(0o600).open(dir.join(name));
        let stdout = task.stdout.map(append).transpose()?;
        match (&stdout, task.merge_stderr) {
            (Some(file), true) => command.stderr(file.try_clone()?),
            _ => command.stderr(append(STDERR_FILE)?),
        };
        command.stdout(stdout.map_or_else(Stdio::null, Stdio::from));
        sys::prepare_child(&mut command, task.priority, task.file_limit, task.hangup);
        let mut child = command.spawn().map_err(|e| io::Error::new(e.kind(), format!("cannot run {program}: {e}")))?;
        let pid = child.id();
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| io::Error::other("no process id"))?;
        let pidfd = pidfd_open(raw, PidfdFlags::empty())?;
        Ok(Self {
            pid,
            pidfd,
            end: None,
            group_gone: false,
            asked: false,
            killed: false,
            beyond_us: false,
            input: child.stdin.take(),
            workload: task.workload.map(str::to_owned),
            next: None,
            last_look: None,
            realtime: (task.priority == Priority::Sampling).then(|| (clock::boot_ns(), 0)),
        })
    }

    /// Its process id, and that of its group.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it has ended and nothing of its group is left, or nothing can be done about what is.
    pub fn is_gone(&self) -> bool {
        self.beyond_us || self.group_gone
    }

    /// Whether it, or something of its group, goes on, and only root can end it.
    pub fn is_beyond_us(&self) -> bool {
        self.beyond_us
    }

    /// Whether there is no more to be learnt about its end: where sudo was killed, what that ran goes on.
    pub fn is_over(&self) -> bool {
        if self.has_workload() { self.is_gone() } else { self.end.is_some() }
    }

    /// How it ended, once it has.
    pub fn end(&self) -> Option<ChildEnd> {
        self.end
    }

    /// Whether it had to be killed.
    pub fn was_killed(&self) -> bool {
        self.killed && !self.beyond_us && self.end.is_some_and(|e| e.signal == Some(libc::SIGKILL))
    }

    /// Whether it was asked to end before it did.
    pub fn was_asked(&self) -> bool {
        self.asked
    }

    /// The descriptor that is readable when it has ended; none once that has been taken.
    pub fn watch(&self) -> Option<BorrowedFd<'_>> {
        self.end.is_none().then(|| self.pidfd.as_fd())
    }

    /// Asks it to end.
    pub fn stop(&mut self, stop: Stop) {
        self.reap();
        if self.end.is_none() && !self.asked {
            self.asked = true;
            // Its workload ends, and it with that: a signal beside it could meet it while it closes its files.
            if self.input.take().is_none() {
                sys::signal_group(self.pid, sys::number(stop.signal));
            }
            self.next = Some((clock::boot_ns() + clock::millis(stop.grace_ms), libc::SIGTERM));
        }
    }

    /// When it, or what it left behind, will be asked again, more firmly.
    pub fn due(&self) -> Option<i64> {
        self.next.map(|(at, _)| at)
    }

    /// Looks after it: takes its end, asks again what did not listen, ends what it left behind.
    pub fn tend(&mut self) {
        self.reap();
        self.group_gone = self.group_gone || (self.end.is_some() && !sys::group_exists(self.pid));
        let now = clock::boot_ns();
        if let Some((at, signal)) = self.next
            && at <= now
        {
            let signalled = if self.group_gone { Signalled::Gone } else { sys::signal_group(self.pid, signal) };
            self.killed |= signal == libc::SIGKILL && self.end.is_none();
            self.beyond_us = signal == libc::SIGKILL && signalled == Signalled::Refused;
            let more = !self.group_gone && !self.beyond_us;
            self.next = more.then(|| (now + clock::millis(TERM_GRACE_MS), libc::SIGKILL));
        }
    }

    /// Takes its end if it has ended; members of its group that are left are ended too.
    fn reap(&mut self) {
        if self.end.is_none()
            && let Ok(Some(end)) = sys::try_wait(self.pid)
        {
            self.end = Some(end);
            // What it ran may go on without it.
            self.input = None;
            self.group_gone = !sys::group_exists(self.pid);
            if !self.group_gone {
                sys::signal_group(self.pid, libc::SIGTERM);
            }
            let next = || (clock::boot_ns() + clock::millis(STRAY_GRACE_MS), libc::SIGKILL);
            self.next = (!self.group_gone).then(next);
        }
    }

    /// Takes a real-time priority from it, and from what it started, once they use too much of a CPU: microseconds of that
    /// many nanoseconds.
    pub fn bound_realtime(&mut self, is_too_much: impl Fn(u64, i64) -> bool) -> bool {
        let Some((at, used)) = self.realtime.filter(|_| self.end.is_none()) else { return false };
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.pid)).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|child| child.parse().ok());
        let all: Vec<u32> = children.chain([self.pid]).collect();
        // Clock ticks are hundredths of a second on every architecture that there is.
        let ticks: u64 = all.iter().filter_map(|pid| Some(state(*pid)?.1)).sum();
        let (now, now_used) = (clock::boot_ns(), ticks * 10_000);
        self.realtime = Some((now, now_used));
        if !is_too_much(now_used.saturating_sub(used), now - at) {
            return false;
        }
        all.into_iter().for_each(sys::make_ordinary);
        self.realtime = None;
        true
    }

    /// Whether it says by a program that it runs when it has begun.
    pub fn has_workload(&self) -> bool {
        self.workload.is_some()
    }

    /// Whether it has settled: gone to sleep twice in a row without having used the CPU in between.
    ///
    /// A tool that works at intervals has then read its baseline and waits for its first interval. There is no
    /// better sign that holds for every tool: most say nothing until the first interval is over.
    ///
    /// One with a workload has settled when that runs.
    pub fn has_settled(&mut self) -> bool {
        if let Some(workload) = &self.workload {
            return runs_below(self.pid, workload, 8);
        }
        let Some((sleeping, cpu)) = state(self.pid) else { return true };
        let settled = sleeping && self.last_look == Some(cpu);
        self.last_look = sleeping.then_some(cpu);
        settled
    }
}

/// Whether a process or one of its descendants, so many generations down, has become a program of this name.
///
/// In between are sudo, its monitor where it has one, and a script of a distribution's that picks the right perf.
fn runs_below(pid: u32, name: &str, generations: u32) -> bool {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    read("comm").trim_end() == name
        || generations > 0
            && read(&format!("task/{pid}/children"))
                .split_whitespace()
                .filter_map(|child| child.parse().ok())
                .any(|child| runs_below(child, name, generations - 1))
}

/// Whether a process sleeps, and its CPU time in ticks: from `/proc/PID/stat` (proc(5)), after the command's `)`.
fn state(pid: u32) -> Option<(bool, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |nth: usize| fields.get(nth)?.parse::<u64>().ok();
    // A child that has not yet become its program still has the client's own name and text.
    Some((fields.first() == Some(&"S"), ticks(11)? + ticks(12)?))
}

/// The end in words.
pub fn describe(end: ChildEnd) -> String {
    match (end.code, end.signal) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {}", sys::signal_name(signal)),
        (None, None) => "unknown end".to_owned(),
    }
}

/// The end of a profiler's standard error, if there is any.
pub fn last_words(dir: &Path) -> Option<String> {
    let mut file = File::open(dir.join(STDERR_FILE)).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LAST_WORDS))).ok()?;
    let mut tail = Vec::new();
    file.take(LAST_WORDS).read_to_end(&mut tail).ok()?;
    let text = String::from_utf8_lossy(&tail).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

//! Commands with a deadline.

use std::fmt;
use std::io::{Read, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::keeper::keeper;

/// How a command ended.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Its exit status.
    pub status: ExitStatus,
    /// Its standard output; what is not UTF-8 is replaced.
    pub stdout: String,
    /// Its standard error; what is not UTF-8 is replaced.
    pub stderr: String,
}

impl Finished {
    /// The exit code; 128 and the signal's number when a signal ended it, as shells say it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or_default())
    }

    /// Gives itself back when the command succeeded.
    ///
    /// # Panics
    /// With all that the command printed, when it did not.
    #[track_caller]
    pub fn expect_success(self) -> Finished {
        assert!(self.status.success(), "{self}");
        self
    }
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n--- stdout\n{}--- stderr\n{}---", self.status, self.stdout, self.stderr)
    }
}

/// Runs a command without input and waits for it.
///
/// # Panics
/// When it (or what it started and left with its output) is not done after `deadline`: it is then killed, and what it
/// printed is shown.
#[track_caller]
pub fn run(command: &mut Command, deadline: Duration) -> Finished {
    Running::start(command).finish(deadline)
}

/// Runs a command that reads `input`, as [`run`] does.
#[track_caller]
pub fn run_with_input(command: &mut Command, input: &str, deadline: Duration) -> Finished {
    let mut running = Running::spawn(command, Stdio::piped());
    if let Some(mut stdin) = running.child.stdin.take() {
        let input = input.to_owned();
        // In a thread, since the command may print much before it reads.
        std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    }
    running.finish(deadline)
}

/// A command that runs in a process group of its own; killed with its group when dropped.
pub struct Running {
    child: Child,
    shown: String,
    stdout: Stream,
    stderr: Stream,
}

impl Running {
    /// Starts a command without input.
    #[track_caller]
    pub fn start(command: &mut Command) -> Running {
        Running::spawn(command, Stdio::null())
    }

    #[track_caller]
    fn spawn(command: &mut Command, stdin: Stdio) -> Running {
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let shown = format!("{command:?}");
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {shown}: {error}"));
        keeper().watch(child.id());
        let stdout = Stream::new(child.stdout.take());
        let stderr = Stream::new(child.stderr.take());
        Running { child, shown, stdout, stderr }
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Its standard output up to now.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// Its standard error up to now.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Sends a signal to the process alone (not to its group).
    pub fn signal(&mut self, signal: Signal) {
        if let (Ok(None), Some(pid)) = (self.child.try_wait(), self.group()) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits until the standard output or error contains `text`.
    ///
    /// # Panics
    /// With all that was printed, when it ends before or `deadline` passes.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str, deadline: Duration) {
        let mut ended = false;
        let found = wait_until(deadline, || {
            let found = self.stdout().contains(text) || self.stderr().contains(text);
            // The streams are looked at once more after the end, for what was printed last.
            let stop = found || ended;
            ended = !matches!(self.child.try_wait(), Ok(None)) && self.stdout.is_over() && self.stderr.is_over();
            stop
        });
        let found = found && (self.stdout().contains(text) || self.stderr().contains(text));
        assert!(found, "{} did not print `{text}` within {deadline:?}:\n{}", self.shown, self.so_far());
    }

    /// Waits until it has ended and its output is closed.
    ///
    /// # Panics
    /// With all that was printed, when that is not so after `deadline`; it is killed first.
    #[track_caller]
    pub fn finish(mut self, deadline: Duration) -> Finished {
        let mut status = None;
        let done = wait_until(deadline, || {
            status = status.or_else(|| self.child.try_wait().ok().flatten());
            status.is_some() && self.stdout.is_over() && self.stderr.is_over()
        });
        match (done, status) {
            (true, Some(status)) => Finished { status, stdout: self.stdout(), stderr: self.stderr() },
            (_, status) => {
                let what = if status.is_some() { "left its output open" } else { "still ran" };
                panic!("{} {what} after {deadline:?}:\n{}", self.shown, self.so_far())
            }
        }
    }

    fn so_far(&self) -> String {
        format!("--- stdout\n{}--- stderr\n{}---", self.stdout(), self.stderr())
    }

    fn group(&self) -> Option<Pid> {
        Pid::from_raw(self.child.id().cast_signed())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Before it is waited for: until then its number, and so its group's, cannot be another's. After a normal
        // end the group is left alone.
        if let (Ok(None), Some(group)) = (self.child.try_wait(), self.group()) {
            let _ = kill_process_group(group, Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

/// What comes out of a pipe, read by a thread.
struct Stream {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Stream {
    fn new(pipe: Option<impl Read + Send + 'static>) -> Stream {
        let mut pipe = pipe.expect("the output of a running command is piped");
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&bytes);
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 16 * 1024];
            while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                sink.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..count]);
            }
        });
        Stream { bytes, reader }
    }

    fn is_over(&self) -> bool {
        self.reader.is_finished()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

/// Asks again and again until `condition` holds or `deadline` has passed; says whether it held.
pub fn wait_until(deadline: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + deadline;
    let mut pause = Duration::from_millis(1);
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

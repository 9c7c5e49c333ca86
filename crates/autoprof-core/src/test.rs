//! The test: the command that the profilers watch.
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, IsTerminal, Write},
    os::unix::process::ExitStatusExt,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use camino::{Utf8Path, Utf8PathBuf};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, Command},
    task::JoinHandle,
};

use crate::{conduct::TestProcess, duration::Span, job::TestSpec};

/// Exit status for a test that took longer than it may; timeout(1) has the same.
pub const TIMED_OUT: u8 = 124;
/// How long output may trickle in after the test itself has ended: a child of its own may hold the pipe for ever.
const TRAILING_OUTPUT: Duration = Duration::from_secs(1);
/// How long a test may take to end after it was asked to.
const ENDING: Duration = Duration::from_secs(10);

/// A command to run while the profilers collect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Test {
    /// Program and arguments, never empty.
    pub argv: Vec<String>,
    /// Directory to run it in; none: the controller's.
    pub directory: Option<Utf8PathBuf>,
    /// Environment on top of the controller's.
    pub env: BTreeMap<String, String>,
    /// How long it may take.
    pub timeout: Option<Span>,
    /// Names of environment variables whose values may be kept in the manifest.
    pub record_env: Vec<String>,
}

/// Takes what a test prints, as it comes.
pub trait TestOutput: Send + Sync {
    /// Bytes of its standard output.
    ///
    /// # Errors
    /// When nobody takes any more: the test's own next write then fails, as it would without autoprof between.
    fn stdout(&self, bytes: &[u8]) -> io::Result<()>;
    /// Bytes of its standard error.
    ///
    /// # Errors
    /// As [`Self::stdout`].
    fn stderr(&self, bytes: &[u8]) -> io::Result<()>;
}

/// Passes a test's output through to this process's own streams, untouched.
#[derive(Debug, Clone, Copy, Default)]
pub struct Passthrough;

impl TestOutput for Passthrough {
    fn stdout(&self, bytes: &[u8]) -> io::Result<()> {
        io::stdout().write_all(bytes).and_then(|()| io::stdout().flush())
    }

    fn stderr(&self, bytes: &[u8]) -> io::Result<()> {
        io::stderr().write_all(bytes)
    }
}

impl From<TestSpec> for Test {
    fn from(spec: TestSpec) -> Self {
        Self {
            argv: spec.command.argv,
            directory: spec.directory,
            env: spec.env,
            timeout: spec.timeout,
            record_env: spec.record_env,
        }
    }
}

/// How a test ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestEnd {
    /// The exit status that stands for it: its own, 128 + N after signal N, 126 or 127 when it could not be run.
    pub exit_code: u8,
    /// In words.
    pub status: String,
}

impl TestEnd {
    fn of(status: ExitStatus) -> Self {
        let exit_code = match (status.code(), status.signal()) {
            (Some(code), _) => u8::try_from(code).unwrap_or(u8::MAX),
            (None, Some(signal)) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
            (None, None) => u8::MAX,
        };
        Self { exit_code, status: status.to_string() }
    }

    fn not_run(program: &str, error: &io::Error) -> Self {
        let (exit_code, reason) = match error.kind() {
            io::ErrorKind::NotFound => (127, "no such command".to_owned()),
            io::ErrorKind::PermissionDenied => (126, "it may not be executed".to_owned()),
            _ => (126, error.to_string()),
        };
        Self { exit_code, status: format!("cannot run {program}: {reason}") }
    }
}

/// A test that runs.
#[derive(Debug)]
pub struct RunningTest {
    child: Child,
    copies: Vec<JoinHandle<()>>,
    timeout: Option<Span>,
    own_group: bool,
}

impl Test {
    /// A command in the controller's directory and environment, that takes as long as it takes.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        let argv = argv.into_iter().map(Into::into).collect();
        Self { argv, directory: None, env: BTreeMap::new(), timeout: None, record_env: Vec::new() }
    }

    /// Those environment variables of the test that may be kept.
    pub(crate) fn recorded_env(&self) -> BTreeMap<String, String> {
        let value = |name: &String| self.env.get(name).cloned().or_else(|| std::env::var(name).ok());
        self.record_env.iter().filter_map(|name| Some((name.clone(), value(name)?))).collect()
    }

    /// Whether the command could be run at all, as a shell would find it: asked before hosts are disturbed.
    ///
    /// # Errors
    /// How the test "ended" when it cannot.
    pub fn check(&self) -> Result<(), TestEnd> {
        let program = &self.argv[0];
        let start = self.directory.as_deref().unwrap_or(Utf8Path::new("."));
        let executable = |path: &std::path::Path| {
            use std::os::unix::fs::PermissionsExt;
            std::fs::metadata(path).map(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
        };
        let result = if program.contains('/') {
            executable(start.join(program).as_std_path())
        } else {
            let path = self.env.get("PATH").map(Into::into).or_else(|| std::env::var_os("PATH")).unwrap_or_default();
            let found = std::env::split_paths(&path).any(|dir| executable(&dir.join(program)).unwrap_or(false));
            if found { Ok(true) } else { Err(io::Error::from(io::ErrorKind::NotFound)) }
        };
        match result {
            Ok(true) => Ok(()),
            Ok(false) => Err(TestEnd::not_run(program, &io::Error::from(io::ErrorKind::PermissionDenied))),
            Err(e) => Err(TestEnd::not_run(program, &e)),
        }
    }

    /// Starts the test; its output goes to `output` and is kept in `directory`.
    ///
    /// # Errors
    /// How the test "ended" when it cannot be run.
    pub fn start(&self, directory: &Utf8Path, output: &Arc<dyn TestOutput>) -> Result<RunningTest, TestEnd> {
        self.try_start(directory, output).map_err(|e| TestEnd::not_run(&self.argv[0], &e))
    }

    fn try_start(&self, directory: &Utf8Path, output: &Arc<dyn TestOutput>) -> io::Result<RunningTest> {
        std::fs::create_dir_all(directory)?;
        let kept = |name: &str| File::create(directory.join(name));
        let (out, err) = (kept("stdout")?, kept("stderr")?);
        let mut command = Command::new(&self.argv[0]);
        command.args(&self.argv[1..]).envs(&self.env).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        // At a terminal the test stays in the foreground group, so that it can read what is typed.
        let own_group = !io::stdin().is_terminal();
        if own_group {
            command.process_group(0);
        }
        let mut child = command.kill_on_drop(true).spawn()?;
        if let Some(process) = child.id().and_then(TestProcess::of) {
            process.keep(directory);
        }
        let mut copies = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            let output = Arc::clone(output);
            copies.push(tokio::spawn(copy(stdout, move |bytes| output.stdout(bytes), out)));
        }
        if let Some(stderr) = child.stderr.take() {
            let output = Arc::clone(output);
            copies.push(tokio::spawn(copy(stderr, move |bytes| output.stderr(bytes), err)));
        }
        Ok(RunningTest { child, copies, timeout: self.timeout, own_group })
    }
}

/// Copies a stream to where it goes and to a file. When nobody takes it any more (`| head`) it is closed, so that a test
/// that prints without end ends as it would have.
async fn copy(mut from: impl AsyncRead + Unpin, to: impl Fn(&[u8]) -> io::Result<()>, kept: File) {
    let mut buffer = vec![0; 64 * 1024];
    let mut kept = Some(kept);
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        let passed = to(&buffer[..n]);
        if let Some(Err(e)) = kept.as_mut().map(|file| file.write_all(&buffer[..n])) {
            tracing::warn!("the test's output is not kept from here on: {e}");
            kept = None;
        }
        if passed.is_err() {
            return;
        }
    }
}

impl RunningTest {
    /// Waits for the test to end, or for its time to be over. Cancel safe.
    pub async fn wait(&mut self) -> TestEnd {
        let Some(timeout) = self.timeout else { return self.ended().await };
        match tokio::time::timeout(timeout.0, self.ended()).await {
            Ok(end) => end,
            Err(_) => {
                self.end("TERM").await;
                TestEnd { exit_code: TIMED_OUT, status: format!("timed out after {timeout}") }
            }
        }
    }

    async fn ended(&mut self) -> TestEnd {
        match self.child.wait().await {
            Ok(status) => TestEnd::of(status),
            Err(e) => TestEnd { exit_code: u8::MAX, status: format!("cannot wait for it: {e}") },
        }
    }

    /// Ends the test: asks by a signal, waits, then kills.
    pub async fn end(&mut self, signal: &str) -> TestEnd {
        self.kill(signal).await;
        if let Ok(end) = tokio::time::timeout(ENDING, self.ended()).await {
            return end;
        }
        self.kill("KILL").await;
        self.ended().await
    }

    /// Waits a moment for the rest of the output of a test that has ended.
    pub async fn drain(self) {
        for mut copy in self.copies {
            if tokio::time::timeout(TRAILING_OUTPUT, &mut copy).await.is_err() {
                copy.abort();
            }
        }
    }

    /// Signals the test, and everything that it started where it has a process group of its own.
    async fn kill(&self, signal: &str) {
        let Some(pid) = self.child.id() else { return };
        let target = if self.own_group { format!("-{pid}") } else { pid.to_string() };
        // kill(1) rather than kill(2): this crate has no unsafe code, and it is not the timed path.
        let _ = Command::new("kill").args(["-s", signal, "--", &target]).stderr(Stdio::null()).status().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(script: &str) -> Test {
        Test {
            argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
            directory: None,
            env: BTreeMap::new(),
            timeout: None,
            record_env: Vec::new(),
        }
    }

    async fn run(test: Test) -> (TestEnd, String) {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        let mut running = test.start(dir, &(Arc::new(Passthrough) as Arc<dyn TestOutput>)).unwrap();
        let end = running.wait().await;
        running.drain().await;
        (end, std::fs::read_to_string(dir.join("stdout")).unwrap())
    }

    #[tokio::test]
    async fn status_and_output_are_the_tests_own() {
        let (end, out) = run(test("echo hello; exit 3")).await;
        assert_eq!((end.exit_code, out.as_str()), (3, "hello\n"));
        assert_eq!(run(test("kill -TERM $$")).await.0.exit_code, 128 + 15);
    }

    #[tokio::test]
    async fn a_grandchild_that_keeps_the_pipe_open_does_not_hold_the_run() {
        let (end, out) = run(test("sleep 30 & echo $!")).await;
        assert_eq!(end.exit_code, 0);
        let _ = std::process::Command::new("kill").arg(out.trim()).status();
    }

    #[tokio::test]
    async fn a_test_that_takes_too_long_is_ended() {
        let slow = Test { timeout: Some(Span(Duration::from_millis(100))), ..test("sleep 600") };
        assert_eq!(run(slow).await.0.exit_code, TIMED_OUT);
    }

    #[tokio::test]
    async fn a_test_that_prints_without_end_ends_when_nobody_reads() {
        struct Gone;
        impl TestOutput for Gone {
            fn stdout(&self, _: &[u8]) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }

            fn stderr(&self, _: &[u8]) -> io::Result<()> {
                Ok(())
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        let endless = Test { argv: vec!["yes".into()], ..test("") };
        let mut running = endless.start(dir, &(Arc::new(Gone) as Arc<dyn TestOutput>)).unwrap();
        assert_eq!(running.wait().await.exit_code, 128 + 13);
    }

    #[test]
    fn what_cannot_be_run_has_a_shells_status() {
        let absent = Test { argv: vec!["autoprof-no-such-program".into()], ..test("") };
        assert_eq!(absent.check().unwrap_err().exit_code, 127);
        let not_executable = Test { argv: vec!["/etc/passwd".into()], ..test("") };
        assert_eq!(not_executable.check().unwrap_err().exit_code, 126);
        assert_eq!(test("true").check(), Ok(()));
    }
}

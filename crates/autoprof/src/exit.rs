//! Exit statuses, and errors as users see them: one place for both.
use autoprof_core::{
    conduct::{ConductError, End, Outcome},
    groups::Disagreement,
    host::BadHost,
    inventory::BadInventory,
    job::BadJob,
    profilers::AddError,
    run::RunError,
    trust::TrustError,
};
use autoprof_loader::{LoadError, LockError};
use autoprof_report::{export::ExportError, page::ReportError};
use camino::Utf8PathBuf;

/// Profiling failed by what was required.
pub const PROFILING_FAILED: u8 = 125;
/// The test's program is not there: a shell's status for that.
const NOT_FOUND: u8 = 127;
/// The command line or the job file cannot be used.
pub const USAGE: u8 = 2;

/// Something that ends the program with a message.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A job file that cannot be read.
    #[error("cannot read {path}: {source}")]
    JobFile {
        /// The file.
        path: Utf8PathBuf,
        /// What happened.
        source: std::io::Error,
    },
    /// A job file with something wrong in it.
    #[error("{path}: {source}")]
    Job {
        /// The file.
        path: Utf8PathBuf,
        /// What is wrong.
        source: BadJob,
    },
    /// A host that cannot be read.
    #[error(transparent)]
    Host(#[from] BadHost),
    /// A profiler that cannot be had.
    #[error(transparent)]
    Profiler(#[from] AddError),
    /// Groups that ask for different things.
    #[error(transparent)]
    Groups(#[from] Disagreement),
    /// A test that cannot be run: a shell's status for that.
    #[error("{status}")]
    TestNotRun {
        /// What happened.
        status: String,
        /// 126 or 127.
        code: u8,
        /// What was to be run.
        program: String,
    },
    /// An inventory, or a host of one, that cannot be used.
    #[error(transparent)]
    Inventory(#[from] BadInventory),
    /// Anything else that is wrong with what was asked for.
    #[error("{message}")]
    Usage {
        /// What.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// A run that cannot be conducted.
    #[error(transparent)]
    Conduct(#[from] ConductError),
    /// A run that cannot be found or read.
    #[error(transparent)]
    Run(#[from] RunError),
    /// Plugins that are not there, or cannot be loaded.
    #[error(transparent)]
    Plugins(#[from] LoadError),
    /// A list of plugins that cannot be used or written.
    #[error(transparent)]
    PluginsLock(#[from] LockError),
    /// A report that cannot be made.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// A run that has not what was asked for.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// Something of this machine's.
    #[error("{0}")]
    Local(#[from] std::io::Error),
}

impl Failure {
    /// A usage error that says itself what to do.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::Usage { message: message.into(), hint: None }
    }

    /// A usage error, and what to do about it.
    pub fn with_hint(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Usage { message: message.into(), hint: Some(hint.into()) }
    }

    /// The exit status that stands for it.
    pub const fn code(&self) -> u8 {
        match self {
            Self::JobFile { .. } | Self::Job { .. } | Self::Host(_) | Self::Profiler(_) | Self::Usage { .. } => USAGE,
            Self::Groups(_) | Self::Inventory(_) | Self::PluginsLock(_) => USAGE,
            Self::Report(ReportError::NotOver(_)) | Self::Export(ExportError::Nothing { .. }) => USAGE,
            Self::Report(_) | Self::Export(_) => PROFILING_FAILED,
            Self::TestNotRun { code, .. } => *code,
            Self::Plugins(LoadError::NotProvided { .. }) => USAGE,
            Self::Run(
                RunError::NotFound { .. }
                | RunError::Ambiguous { .. }
                | RunError::Exists(_)
                | RunError::Left { .. }
                | RunError::NotOver { .. }
                | RunError::Untrusted { .. },
            )
            | Self::Conduct(
                ConductError::Run(RunError::Exists(_))
                | ConductError::Over(_)
                | ConductError::NotRunning(..)
                | ConductError::Mark(_),
            ) => USAGE,
            Self::Conduct(_) | Self::Run(_) | Self::Plugins(_) | Self::Local(_) => PROFILING_FAILED,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Profiler(e) => e.hint().map(str::to_owned),
            Self::Groups(e) => Some(format!("give the host `profilers` of its own, or take {} out of one", e.profiler)),
            Self::Usage { hint, .. } => hint.clone(),
            Self::Inventory(e) => Some(e.hint().to_owned()),
            Self::Job { source, .. } if source.hint().is_some() => source.hint().map(str::to_owned),
            Self::Job { .. } => Some("`autoprof job schema` prints what a job file may say".into()),
            Self::JobFile { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                Some("a test comes after --, as in `autoprof run -- COMMAND`; `autoprof init` writes a job file".into())
            }
            Self::JobFile { .. } => Some("a job file is YAML; `autoprof init` writes one".into()),
            Self::Host(e) => Some(host_hint(&e.text).into()),
            Self::TestNotRun { program, code, .. } if *code != NOT_FOUND => Some(format!(
                "make it executable (chmod +x), or name its interpreter, as in `-- sh {}`",
                if program.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c)) { program } else { "FILE" }
            )),
            Self::TestNotRun { code: NOT_FOUND, .. } => {
                Some("after -- come a program and its arguments; what a shell is to read is sh -c 'TEXT'".into())
            }
            Self::Run(RunError::Ambiguous { .. }) => Some("write more of the id".into()),
            Self::Run(RunError::Left { .. } | RunError::NotOver { .. }) => {
                Some("`autoprof report RUN` fetches and cleans; --force removes the directory all the same".into())
            }
            Self::Report(ReportError::NotOver(run)) => {
                Some(format!("`autoprof report {run}` ends it and brings its results back"))
            }
            Self::Run(RunError::Untrusted { source: TrustError::Untrusted { .. }, .. }) => Some(
                "whoever can write it decides what is done on the hosts and here; if you trust them, use --trust"
                    .into(),
            ),
            Self::Run(RunError::Untrusted { .. }) => {
                Some("autoprof makes no such thing in a run's directory: look who put it there, and remove it".into())
            }
            Self::Run(RunError::NotFound { .. } | RunError::NotARun { .. }) => {
                Some("`autoprof status` lists the runs that are here".into())
            }
            Self::Run(RunError::Exists(_)) | Self::Conduct(ConductError::Run(RunError::Exists(_))) => {
                Some("name another directory with -o, or leave -o away".into())
            }
            Self::Plugins(LoadError::NotProvided { wanted, refused: None }) if wanted.kind == "profiler" => {
                Some("`autoprof profilers` lists what there is".into())
            }
            Self::PluginsLock(LockError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                Some("`autoprof plugin lock` writes it; or name another with --plugins-lock".into())
            }
            Self::Plugins(_) => {
                Some("`autoprof plugin list` shows where plugins were looked for, and what was wrong".into())
            }
            _ => None,
        }
    }

    /// Prints the message and the hint, and gives the exit status.
    pub fn report(&self) -> u8 {
        crate::screen::line(&with_sources(self));
        if let Some(hint) = self.hint() {
            crate::screen::plain(&format!("  hint: {hint}\n"));
        }
        self.code()
    }
}

/// What to write for a host that cannot be read.
fn host_hint(text: &str) -> &'static str {
    if text.contains(['{', '}']) || text.contains("..") {
        return "ranges are in brackets: n[1-3]";
    }
    if text.contains('[') && text.contains(':') && !text.contains("::") {
        return "after -w a range is web[01-16]; web[01:16] is for Ansible inventories (-H)";
    }
    if text.contains(['&', '*', '?']) {
        return "patterns are not matched; name the hosts, a range such as web[01-16], or a group: -H FILE -w @GROUP";
    }
    "a host is [user@]host[:port], IPv6 in brackets; a range is web[01-16]"
}

/// A message with the causes that it does not name itself.
pub fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

/// The exit status of a run: the test's own wherever there is one that says anything.
pub fn of_run(outcome: &Outcome) -> u8 {
    match &outcome.end {
        End::GivenUp(by) | End::Interrupted(by) => of_signal(by),
        End::NotStarted => PROFILING_FAILED,
        End::Complete => match &outcome.test {
            Some(test) if test.exit_code != 0 => test.exit_code,
            _ if outcome.manifest.require_met == Some(false) || outcome.unrecorded.is_some() => PROFILING_FAILED,
            _ => 0,
        },
    }
}

/// The status by which shells name a signal.
fn of_signal(name: &str) -> u8 {
    match name {
        "SIGHUP" => 129,
        "SIGQUIT" => 131,
        "SIGTERM" => 143,
        _ => 130,
    }
}

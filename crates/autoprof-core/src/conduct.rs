//! Conducting a run: everything from the first connection to the last file, around one test.
use std::{io::Write, sync::Arc, time::Duration};

use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;
use tokio::sync::watch;

use crate::{
    duration::Span,
    event::RunEventKind,
    host::Host,
    job::Require,
    manifest::{HostStep, Manifest, ProfilerState, RunPhase, RunSettings},
    profiler::LifecycleError,
    profilers::{AddError, ProfilerSet, Profilers},
    registry::Registry,
    run::{self, Observer, Place, Recorder, RunError},
    store::ClientStore,
    test::{RunningTest, Test, TestEnd, TestOutput},
};

/// How long a step that is interrupted may go on, so that what it was making on a host is known and can be removed.
const INTERRUPTED_STEP: Duration = Duration::from_secs(5);
/// How often clients are asked for a sign of life when somebody is watching.
const BEAT: Duration = Duration::from_secs(2);

/// What a run is to do.
#[derive(Debug)]
pub struct Plan {
    /// A name for the run.
    pub name: Option<String>,
    /// Where its directory is to be.
    pub place: Place,
    /// The hosts.
    pub hosts: Vec<Host>,
    /// The profilers.
    pub profilers: ProfilerSet,
    /// What happens while they collect.
    pub work: Work,
    /// Which share of the hosts must be whole.
    pub require: Require,
    /// How it is done.
    pub settings: RunSettings,
}

/// What happens while the profilers collect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// A command runs.
    Test(Test),
    /// Time passes.
    Wait(Span),
    /// Until somebody interrupts.
    UntilInterrupted,
}

/// What a run works with.
#[derive(Clone)]
pub struct Environment {
    /// Transports, signalers and profilers.
    pub registry: Arc<Registry>,
    /// Client programs for hosts.
    pub store: Arc<ClientStore>,
    /// Who hears of what happens.
    pub observers: Vec<Arc<dyn Observer>>,
    /// Who may interrupt.
    pub interrupts: Interrupts,
    /// Where the test's output goes.
    pub output: Arc<dyn TestOutput>,
    /// Whether clients are asked for signs of life, for somebody who watches.
    pub live: bool,
}

/// Hears interruptions: the first ends the window in order, the second ends everything at once.
#[derive(Debug, Clone)]
pub struct Interrupts(watch::Receiver<Vec<String>>);

/// Interrupts a run.
#[derive(Debug)]
pub struct Interrupter(watch::Sender<Vec<String>>);

/// A connected pair.
#[must_use]
pub fn interrupts() -> (Interrupter, Interrupts) {
    let (sender, receiver) = watch::channel(Vec::new());
    (Interrupter(sender), Interrupts(receiver))
}

impl Interrupter {
    /// Interrupts, once more; `by` says what did (`SIGINT`).
    pub fn interrupt(&self, by: &str) {
        self.0.send_modify(|all| all.push(by.to_owned()));
    }
}

impl Interrupts {
    /// For programs that never interrupt.
    #[must_use]
    pub fn never() -> Self {
        interrupts().1
    }

    /// Waits for the nth interruption, from 1; says what did it. Cancel safe.
    async fn nth(&mut self, nth: usize) -> String {
        match self.0.wait_for(|all| all.len() >= nth).await {
            Ok(all) => all[nth - 1].clone(),
            // The interrupter is gone: nobody will ever interrupt.
            Err(_) => std::future::pending().await,
        }
    }
}

/// Why a run could not be conducted at all; what failed on hosts is in the manifest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConductError {
    /// The run's directory.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A step out of order: the run is in another phase.
    #[error(transparent)]
    Lifecycle(#[from] LifecycleError),
    /// A profiler of an earlier run is not there any more.
    #[error(transparent)]
    Add(#[from] AddError),
    /// The run has no host, or no profiler.
    #[error("a run needs at least one {0}")]
    Nothing(&'static str),
    /// The run is over.
    #[error("{0} is over: its results are there")]
    Over(String),
}

/// How a run went.
#[derive(Debug)]
pub struct Outcome {
    /// Its directory.
    pub directory: Utf8PathBuf,
    /// What is known of it.
    pub manifest: Manifest,
    /// How the test ended; none: it did not run.
    pub test: Option<TestEnd>,
    /// What is left on which host: host and directory.
    pub left: Vec<(String, String)>,
    /// How it came to its end.
    pub end: End,
}

/// How a run came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// In order, whatever its results.
    Complete,
    /// Too few hosts could begin: the test was not run.
    NotStarted,
    /// Interrupted, then brought to its end in order.
    Interrupted(String),
    /// Interrupted twice: given up where it was.
    GivenUp(String),
}

/// Conducts a whole run.
///
/// # Errors
/// When its directory cannot be made or written. What fails on hosts or with the test is in the outcome.
pub async fn conduct(plan: Plan, env: Environment) -> Result<Outcome, ConductError> {
    let (recorder, mut profilers) = begin(&plan, &env)?;
    let mut interrupts = env.interrupts.clone();
    let mut test = None;
    let end = tokio::select! {
        biased;
        by = async { interrupts.nth(2).await } => {
            recorder.record(RunEventKind::Interrupted { by: by.clone() });
            End::GivenUp(by)
        }
        end = whole_run(&plan, &env, &recorder, &mut profilers, &mut test) => end?,
    };
    finish(&recorder, profilers, test, end)
}

/// Begins a run and leaves it to itself: the profilers go on after this returns.
///
/// # Errors
/// As [`conduct`].
pub async fn start(plan: Plan, env: Environment) -> Result<Outcome, ConductError> {
    let (recorder, mut profilers) = begin(&plan, &env)?;
    let mut interrupts = env.interrupts.clone();
    let started = tokio::select! {
        biased;
        by = async { interrupts.nth(2).await } => Err(End::GivenUp(by)),
        started = open_window(&plan, &env, &recorder, &mut profilers) => started?,
    };
    match started {
        Ok(()) => {
            profilers.detach().await;
            recorder.checkpoint()?;
            let (directory, manifest) = (recorder.directory().to_owned(), recorder.manifest());
            Ok(Outcome { directory, manifest, test: None, left: profilers.left(), end: End::Complete })
        }
        Err(end) => finish(&recorder, profilers, None, end),
    }
}

/// Stops the profilers of a run that was started by another process; their results stay on the hosts.
///
/// # Errors
/// When the run is over, or another process conducts it.
pub async fn stop(directory: &Utf8Path, env: Environment) -> Result<Outcome, ConductError> {
    let (recorder, mut profilers) = resume(directory, &env).await?;
    profilers.stop().await?;
    recorder.phase(RunPhase::Stopped)?;
    profilers.detach().await;
    let manifest = recorder.manifest();
    let left = profilers.left();
    Ok(Outcome { directory: directory.to_owned(), manifest, test: None, left, end: End::Complete })
}

/// Stops the profilers of a run if that is still to be done, brings the results back and cleans the hosts.
///
/// # Errors
/// As [`stop`].
pub async fn report(directory: &Utf8Path, env: Environment) -> Result<Outcome, ConductError> {
    let (recorder, mut profilers) = resume(directory, &env).await?;
    let mut interrupts = env.interrupts.clone();
    let end = tokio::select! {
        biased;
        by = async { interrupts.nth(1).await } => End::GivenUp(by),
        closed = close_window(&recorder, &mut profilers) => { closed?; End::Complete }
    };
    finish(&recorder, profilers, None, end)
}

fn begin(plan: &Plan, env: &Environment) -> Result<(Arc<Recorder>, Profilers), ConductError> {
    if plan.hosts.is_empty() {
        return Err(ConductError::Nothing("host"));
    }
    if !plan.profilers.present() {
        return Err(ConductError::Nothing("profiler"));
    }
    let id = run::new_id(plan.name.as_deref(), Timestamp::now());
    let directory = run::create_directory(&plan.place, &id)?;
    let created = RunEventKind::Created {
        id,
        autoprof: env!("CARGO_PKG_VERSION").to_owned(),
        controller: controller_name(),
        require: plan.require,
        test: match &plan.work {
            Work::Test(test) => Some(test.argv.clone()),
            Work::Wait(_) | Work::UntilInterrupted => None,
        },
        hosts: plan.hosts.clone(),
        settings: plan.settings.clone(),
    };
    let recorder = Arc::new(Recorder::create(directory, created, env.observers.clone())?);
    Ok((Arc::clone(&recorder), Profilers::new_for(plan, env, recorder)))
}

impl Profilers {
    fn new_for(plan: &Plan, env: &Environment, recorder: Arc<Recorder>) -> Self {
        let (registry, store) = (Arc::clone(&env.registry), Arc::clone(&env.store));
        Self::new(plan.profilers.clone(), registry, recorder, store, plan.settings.clone())
    }
}

async fn resume(directory: &Utf8Path, env: &Environment) -> Result<(Arc<Recorder>, Profilers), ConductError> {
    let recorder = Arc::new(Recorder::resume(directory.to_owned(), env.observers.clone())?);
    // A run that is over may still have results on a host that could not be reached then.
    let waiting =
        |m: &Manifest| !m.settings.keep && m.hosts.values().any(|h| h.client.as_ref().is_some_and(|c| c.present));
    if recorder.with_manifest(|m| m.phase == RunPhase::Finished && !waiting(m)) {
        return Err(ConductError::Over(recorder.with_manifest(|m| m.id.clone())));
    }
    let (registry, store) = (Arc::clone(&env.registry), Arc::clone(&env.store));
    let mut profilers = Profilers::resume(registry, Arc::clone(&recorder), store)?;
    profilers.attach().await;
    Ok((recorder, profilers))
}

async fn whole_run(
    plan: &Plan,
    env: &Environment,
    recorder: &Recorder,
    profilers: &mut Profilers,
    test: &mut Option<TestEnd>,
) -> Result<End, ConductError> {
    if let Err(end) = open_window(plan, env, recorder, profilers).await? {
        return Ok(end);
    }
    let (end, running) = work(plan, env, recorder, profilers, test).await;
    close_window(recorder, profilers).await?;
    if let Some(running) = running {
        running.drain().await;
    }
    Ok(end)
}

/// Prepares the hosts and starts the profilers; the inner error is an end before the test.
async fn open_window(
    plan: &Plan,
    env: &Environment,
    recorder: &Recorder,
    profilers: &mut Profilers,
) -> Result<Result<(), End>, ConductError> {
    let prepared = prepare(plan, env, recorder, profilers).await?;
    match prepared {
        Ok(()) => {
            recorder.phase(RunPhase::Running)?;
            Ok(Ok(()))
        }
        Err(end) => {
            profilers.abort().await;
            Ok(Err(end))
        }
    }
}

async fn prepare(
    plan: &Plan,
    env: &Environment,
    recorder: &Recorder,
    profilers: &mut Profilers,
) -> Result<Result<(), End>, ConductError> {
    let mut interrupts = env.interrupts.clone();
    let preparing = async {
        profilers.before_start(&plan.hosts).await?;
        if !can_begin(&recorder.manifest()) {
            return Ok::<bool, ConductError>(false);
        }
        profilers.start(&plan.hosts).await?;
        Ok(can_begin(&recorder.manifest()))
    };
    tokio::pin!(preparing);
    tokio::select! {
        biased;
        by = interrupts.nth(1) => {
            recorder.record(RunEventKind::Interrupted { by: by.clone() });
            let _ = tokio::time::timeout(INTERRUPTED_STEP, &mut preparing).await;
            Ok(Err(End::Interrupted(by)))
        }
        able = &mut preparing => Ok(if able? { Ok(()) } else { Err(End::NotStarted) }),
    }
}

/// Whether enough hosts could begin: none of their profilers was refused or has failed.
fn can_begin(manifest: &Manifest) -> bool {
    let able = manifest.hosts.values().filter(|host| {
        host.step != HostStep::Failed && host.profilers.values().all(|p| p.state != ProfilerState::Failed)
    });
    manifest.require.is_met(able.count(), manifest.hosts.len())
}

/// Lets the work happen while the clients are heard.
async fn work(
    plan: &Plan,
    env: &Environment,
    recorder: &Recorder,
    profilers: &mut Profilers,
    end: &mut Option<TestEnd>,
) -> (End, Option<RunningTest>) {
    let mut interrupts = env.interrupts.clone();
    let mut running = None;
    let workload = recorder.directory().join("workload");
    if let Work::Test(test) = &plan.work {
        write_command(&workload, test);
        match test.start(&workload, &env.output) {
            Ok(started) => {
                recorder.record(RunEventKind::TestBegan);
                running = Some(started);
            }
            Err(not_run) => {
                test_ended(recorder, &workload, &not_run);
                *end = Some(not_run);
                return (End::Complete, None);
            }
        }
    }
    let mut beat = tokio::time::interval(BEAT);
    let over = tokio::time::sleep(match &plan.work {
        Work::Wait(span) => span.0,
        // Tokio's clock ends somewhere; nobody waits for thirty years.
        Work::Test(_) | Work::UntilInterrupted => Duration::from_secs(30 * 365 * 86_400),
    });
    tokio::pin!(over);
    let how = loop {
        let tested = async {
            match &mut running {
                Some(running) => running.wait().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = tested => {
                *end = Some(ended);
                break End::Complete;
            }
            () = &mut over => break End::Complete,
            by = interrupts.nth(1) => break End::Interrupted(by),
            () = profilers.watch() => {}
            _ = beat.tick(), if env.live => profilers.beat().await,
        }
    };
    if let (End::Interrupted(by), Some(running)) = (&how, &mut running) {
        // What interrupted this process has usually reached the test as well; if not, it is told now.
        *end = Some(running.end(by.strip_prefix("SIG").unwrap_or("INT")).await);
    }
    if let Some(end) = end {
        test_ended(recorder, &workload, end);
    }
    if let End::Interrupted(by) = &how {
        recorder.record(RunEventKind::Interrupted { by: by.clone() });
    }
    (how, running)
}

fn write_command(workload: &Utf8Path, test: &Test) {
    let line = shell_words::join(&test.argv);
    let written = std::fs::create_dir_all(workload)
        .and_then(|()| std::fs::File::create(workload.join("command")))
        .and_then(|mut file| writeln!(file, "{line}"));
    if let Err(e) = written {
        tracing::warn!("cannot keep the test's command: {e}");
    }
}

fn test_ended(recorder: &Recorder, workload: &Utf8Path, end: &TestEnd) {
    if let Err(e) = std::fs::write(workload.join("status"), format!("{}\n{}\n", end.exit_code, end.status)) {
        tracing::warn!("cannot keep the test's status: {e}");
    }
    recorder.record(RunEventKind::TestEnded { status: end.status.clone(), exit_code: end.exit_code });
}

async fn close_window(recorder: &Recorder, profilers: &mut Profilers) -> Result<(), ConductError> {
    profilers.stop().await?;
    recorder.phase(RunPhase::Stopped)?;
    recorder.phase(RunPhase::Collecting)?;
    profilers.report().await?;
    Ok(())
}

fn finish(recorder: &Recorder, profilers: Profilers, test: Option<TestEnd>, end: End) -> Result<Outcome, ConductError> {
    let left = profilers.left();
    // A run that was given up while clients go on can still be stopped and reported by another process.
    if left.is_empty() || !matches!(end, End::GivenUp(_)) {
        let require_met = recorder.with_manifest(Manifest::meets_requirement);
        recorder.record(RunEventKind::Finished { require_met });
    }
    recorder.checkpoint()?;
    Ok(Outcome { directory: recorder.directory().to_owned(), manifest: recorder.manifest(), test, left, end })
}

fn controller_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

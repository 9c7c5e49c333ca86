//! Conducting a run: everything from the first connection to the last file, around one test.
mod orphan;
mod work;

use std::{sync::Arc, time::Duration};

use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;
use tokio::sync::watch;

use crate::{
    duration::Span,
    event::RunEventKind,
    host::Host,
    job::{Require, WindowSettings},
    manifest::{HostRecord, Manifest, RunPhase, RunSettings},
    marks,
    profiler::LifecycleError,
    profilers::{AddError, ProfilerSet, Profilers, Rejoin},
    registry::Registry,
    run::{self, Observer, Place, Recorder, RunError},
    store::ClientStore,
    test::{Passthrough, Test, TestEnd, TestOutput},
};

pub(crate) use orphan::TestProcess;
use work::Working;

/// How long a step that is interrupted may go on, so that what it was making on a host is known and can be removed.
const INTERRUPTED_STEP: Duration = Duration::from_secs(5);

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
    /// What in the test's output opens and closes windows; none: there is one, around all of it.
    pub windows: Option<WindowSettings>,
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
    /// What another machine has to change in how a run's hosts are reached (its own SSH configuration).
    pub update_host: Option<HostUpdate>,
}

impl Environment {
    /// What a program works with that watches nothing and interrupts never; the test's output is this program's.
    #[must_use]
    pub fn new(registry: Arc<Registry>, store: Arc<ClientStore>) -> Self {
        Self {
            registry,
            store,
            observers: Vec::new(),
            interrupts: Interrupts::never(),
            output: Arc::new(Passthrough),
            live: false,
            update_host: None,
        }
    }
}

/// Changes how a host is reached.
pub type HostUpdate = Arc<dyn Fn(&mut Host) + Send + Sync>;

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
    /// Nothing is collected at the moment.
    #[error("{0} is {1}: marks are for runs whose profilers collect")]
    NotRunning(String, &'static str),
    /// A mark could not be put.
    #[error("cannot put the mark: {0}")]
    Mark(#[source] std::io::Error),
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
    /// Why not all of it is on record, if so.
    pub unrecorded: Option<RunError>,
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
            Ok(Outcome {
                directory,
                manifest,
                test: None,
                left: profilers.left(),
                end: End::Complete,
                unrecorded: None,
            })
        }
        Err(end) => finish(&recorder, profilers, None, end),
    }
}

/// Stops the profilers of a run that was started by another process; their results stay on the hosts.
///
/// # Errors
/// When the run is over, or another process conducts it.
pub async fn stop(directory: &Utf8Path, env: Environment) -> Result<Outcome, ConductError> {
    let (recorder, mut profilers) = resume(directory, &env, Rejoin::Results).await?;
    profilers.stop().await?;
    recorder.phase(RunPhase::Stopped);
    profilers.detach().await;
    recorder.checkpoint()?;
    let manifest = recorder.manifest();
    let left = profilers.left();
    Ok(Outcome { directory: directory.to_owned(), manifest, test: None, left, end: End::Complete, unrecorded: None })
}

/// Stops the profilers of a run if that is still to be done, brings the results back and cleans the hosts.
///
/// # Errors
/// As [`stop`].
pub async fn report(directory: &Utf8Path, env: Environment) -> Result<Outcome, ConductError> {
    let (recorder, mut profilers) = resume(directory, &env, Rejoin::Results).await?;
    let mut interrupts = env.interrupts.clone();
    let end = tokio::select! {
        biased;
        by = async { interrupts.nth(1).await } => End::GivenUp(by),
        closed = close_window(&recorder, &mut profilers) => { closed?; End::Complete }
    };
    orphan::note_test_that_runs(&recorder);
    finish(&recorder, profilers, None, end)
}

/// Goes on with a run whose process is gone, as that would have: hears the clients, looks for those that are lost,
/// brings results back at checkpoints; then stops, reports and cleans. It ends with the test, where that still runs on
/// this machine, or after `duration`, or when it is interrupted.
///
/// # Errors
/// As [`stop`].
pub async fn attach(directory: &Utf8Path, env: Environment, duration: Option<Span>) -> Result<Outcome, ConductError> {
    let (recorder, mut profilers) = resume(directory, &env, Rejoin::Window).await?;
    let mut interrupts = env.interrupts.clone();
    let end = tokio::select! {
        biased;
        by = async { interrupts.nth(2).await } => {
            recorder.record(RunEventKind::Interrupted { by: by.clone() });
            End::GivenUp(by)
        }
        end = go_on(&env, &recorder, &mut profilers, duration) => end?,
    };
    orphan::note_test_that_runs(&recorder);
    finish(&recorder, profilers, None, end)
}

async fn go_on(
    env: &Environment,
    recorder: &Recorder,
    profilers: &mut Profilers,
    duration: Option<Span>,
) -> Result<End, ConductError> {
    let end = if recorder.with_manifest(|m| m.phase == RunPhase::Running) {
        let over = orphan::over(recorder, duration);
        Working::new(env, recorder, profilers).go_on(over).await
    } else {
        End::Complete
    };
    close_window(recorder, profilers).await?;
    Ok(end)
}

/// Puts a named instant, now, on the timeline of every host of a run. Where another process conducts the run, that one
/// takes it to the hosts; else this one does.
///
/// # Errors
/// When the run's directory cannot be written, or the run is over.
pub async fn mark(directory: &Utf8Path, name: &str, env: Environment) -> Result<(), ConductError> {
    let manifest = run::read(directory)?;
    if manifest.phase != RunPhase::Running {
        return Err(ConductError::NotRunning(manifest.id, manifest.phase.word()));
    }
    marks::put(directory, name).map_err(ConductError::Mark)?;
    match resume(directory, &env, Rejoin::Look).await {
        Ok((recorder, mut profilers)) => {
            Working::new(&env, &recorder, &mut profilers).take_marks_and_leave().await;
            profilers.detach().await;
            Ok(recorder.checkpoint()?)
        }
        Err(ConductError::Run(RunError::Busy(_))) => Ok(()),
        Err(e) => Err(e),
    }
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
        settings: Box::new(plan.settings.clone()),
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

/// Whether nothing of a run is left to be done: it has ended, and no host has results of it that are still to be fetched.
#[must_use]
pub fn is_over(manifest: &Manifest) -> bool {
    let waiting = |host: &HostRecord| host.client.as_ref().is_some_and(|client| client.present);
    manifest.phase == RunPhase::Finished && (manifest.settings.keep || !manifest.hosts.values().any(waiting))
}

async fn resume(
    directory: &Utf8Path,
    env: &Environment,
    how: Rejoin,
) -> Result<(Arc<Recorder>, Profilers), ConductError> {
    let recorder = Arc::new(Recorder::resume(directory.to_owned(), env.observers.clone())?);
    if recorder.with_manifest(is_over) {
        return Err(ConductError::Over(recorder.with_manifest(|m| m.id.clone())));
    }
    let (registry, store) = (Arc::clone(&env.registry), Arc::clone(&env.store));
    if let Some(update) = &env.update_host {
        recorder.with_manifest_mut(|m| m.hosts.values_mut().for_each(|host| update(&mut host.host)));
    }
    let mut profilers = Profilers::resume(registry, Arc::clone(&recorder), store)?;
    recorder.record(RunEventKind::Resumed { controller: controller_name() });
    profilers.attach(how).await;
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
    let (end, running) = Working::new(env, recorder, profilers).work(plan, test).await;
    if plan.windows.is_none() {
        close_window(recorder, profilers).await?;
    }
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
            recorder.phase(RunPhase::Running);
            Ok(Ok(()))
        }
        Err(end) => {
            if matches!(end, End::NotStarted) && profilers.is_started() {
                // What did start is stopped in order, so that what it says and left is on record.
                close_window(recorder, profilers).await?;
            } else if matches!(end, End::NotStarted) {
                profilers.abort_failed().await;
            } else {
                profilers.abort().await;
            }
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
        if !recorder.with_manifest(Manifest::can_begin) {
            return Ok::<bool, ConductError>(false);
        }
        // With windows, what the test prints starts the profilers.
        if plan.windows.is_none() {
            profilers.start(&plan.hosts).await?;
        }
        Ok(recorder.with_manifest(Manifest::can_begin))
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

async fn close_window(recorder: &Recorder, profilers: &mut Profilers) -> Result<(), ConductError> {
    profilers.stop().await?;
    recorder.phase(RunPhase::Stopped);
    recorder.phase(RunPhase::Collecting);
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
    // What was done is done: that it could not be written down is part of the outcome.
    let unrecorded = recorder.checkpoint().err();
    let (directory, manifest) = (recorder.directory().to_owned(), recorder.manifest());
    Ok(Outcome { directory, manifest, test, left, end, unrecorded })
}

fn controller_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

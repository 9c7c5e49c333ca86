//! What happens between the start and the stop of a run: the test, time, marks, windows.
use std::{io::Write, sync::Arc, time::Duration};

use camino::Utf8Path;
use tokio::sync::mpsc;

use super::{End, Environment, Interrupts, Plan, Work};
use crate::{
    duration::Span,
    event::RunEventKind,
    job::WindowSettings,
    marks::Marks,
    profilers::Profilers,
    run::Recorder,
    test::{RunningTest, Test, TestEnd, TestOutput},
    trigger::{Trigger, Triggers},
};

/// How often clients are asked for a sign of life when somebody is watching.
const LIVE_BEAT: Duration = Duration::from_secs(2);
/// Bounds of how often they are asked when nobody is: a few times within their lease.
const QUIET_BEAT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How often the file of marks is looked at.
const MARKS_EVERY: Duration = Duration::from_millis(200);
/// Marks on the hosts' own timelines, and in their kernels' traces, of what happens on the controller.
const TEST_BEGAN: &str = "test began";
const TEST_ENDED: &str = "test ended";
/// Longer than anything lasts; tokio's clock ends somewhere.
const NEVER: Duration = Duration::from_secs(30 * 365 * 86_400);

/// The window's work, while it goes on.
pub(super) struct Working<'a> {
    pub(super) env: &'a Environment,
    pub(super) recorder: &'a Recorder,
    pub(super) profilers: &'a mut Profilers,
    marks: Marks,
    /// Windows that the test's output opens and closes: what it said, and whether one is open.
    triggers: Option<mpsc::UnboundedReceiver<Trigger>>,
    window: Option<u32>,
    opened: u32,
}

/// What ended a wait.
enum Happened {
    Test(TestEnd),
    TimeIsUp,
    Interrupted(String),
    Marks,
    Trigger(Trigger),
}

impl<'a> Working<'a> {
    pub(super) fn new(env: &'a Environment, recorder: &'a Recorder, profilers: &'a mut Profilers) -> Self {
        let taken = recorder.with_manifest(|m| m.marks.len());
        let marks = Marks::new(recorder.directory(), taken);
        Self { env, recorder, profilers, marks, triggers: None, window: None, opened: 0 }
    }

    /// Lets the planned work happen while the clients are heard. The test that ran is given back to be drained.
    pub(super) async fn work(&mut self, plan: &Plan, end: &mut Option<TestEnd>) -> (End, Option<RunningTest>) {
        let workload = self.recorder.directory().join("workload");
        let mut running = None;
        if let Work::Test(test) = &plan.work {
            write_command(&workload, test);
            match test.start(&workload, &self.output(plan.windows.as_ref())) {
                Ok(started) => {
                    self.recorder.record(RunEventKind::TestBegan { env: test.recorded_env() });
                    self.profilers.mark(TEST_BEGAN).await;
                    running = Some(started);
                }
                Err(not_run) => {
                    self.test_ended(&workload, &not_run);
                    *end = Some(not_run);
                    return (End::Complete, None);
                }
            }
        }
        let span = match &plan.work {
            Work::Wait(span) => span.0,
            Work::Test(_) | Work::UntilInterrupted => NEVER,
        };
        let over = tokio::time::sleep(span);
        tokio::pin!(over);
        let mut interrupts = self.env.interrupts.clone();
        let how = loop {
            let happened = {
                let test = async {
                    match &mut running {
                        Some(running) => running.wait().await,
                        None => std::future::pending().await,
                    }
                };
                self.wait(test, &mut over, &mut interrupts).await
            };
            match happened {
                Happened::Test(ended) => {
                    *end = Some(ended);
                    break End::Complete;
                }
                Happened::TimeIsUp => break End::Complete,
                Happened::Interrupted(by) => break End::Interrupted(by),
                Happened::Marks => self.take_marks().await,
                Happened::Trigger(trigger) => self.obey(plan, trigger).await,
            }
        };
        if let (End::Interrupted(by), Some(running)) = (&how, &mut running) {
            // What interrupted this process has usually reached the test as well; if not, it is told now.
            *end = Some(running.end(by.strip_prefix("SIG").unwrap_or("INT")).await);
        }
        if let Some(end) = end {
            self.test_ended(&workload, end);
            self.profilers.mark(TEST_ENDED).await;
        }
        if let End::Interrupted(by) = &how {
            self.recorder.record(RunEventKind::Interrupted { by: by.clone() });
        }
        self.take_marks().await;
        self.last_triggers(plan, &how).await;
        (how, running)
    }

    /// Goes on with a window that another process opened, until `over` or an interruption.
    pub(super) async fn go_on(&mut self, over: impl Future<Output = ()>) -> End {
        tokio::pin!(over);
        let mut interrupts = self.env.interrupts.clone();
        loop {
            let waited = tokio::time::sleep(NEVER);
            tokio::pin!(waited);
            let ended = async {
                over.as_mut().await;
                TestEnd { exit_code: 0, status: String::new() }
            };
            match self.wait(ended, &mut waited, &mut interrupts).await {
                Happened::Test(_) | Happened::TimeIsUp => return End::Complete,
                Happened::Interrupted(by) => {
                    self.recorder.record(RunEventKind::Interrupted { by: by.clone() });
                    return End::Interrupted(by);
                }
                Happened::Marks => self.take_marks().await,
                Happened::Trigger(_) => {}
            }
        }
    }

    /// Waits for the next thing that has to be acted on; meanwhile the clients are heard and looked after.
    async fn wait(
        &mut self,
        test: impl Future<Output = TestEnd>,
        over: &mut std::pin::Pin<&mut tokio::time::Sleep>,
        interrupts: &mut Interrupts,
    ) -> Happened {
        let lease = self.recorder.with_manifest(|m| m.settings.lease_ms);
        let beat = if self.env.live { LIVE_BEAT } else { quiet_beat(lease) };
        let mut look = tokio::time::interval(MARKS_EVERY);
        let Self { profilers, marks, triggers, .. } = self;
        let watching = profilers.watch(beat);
        tokio::pin!(watching, test);
        loop {
            let trigger = async {
                match triggers {
                    Some(triggers) => triggers.recv().await,
                    None => None,
                }
            };
            tokio::select! {
                biased;
                by = interrupts.nth(1) => return Happened::Interrupted(by),
                // Before the end of the test, which may have come with its last line.
                Some(trigger) = trigger => return Happened::Trigger(trigger),
                ended = &mut test => return Happened::Test(ended),
                () = over.as_mut() => return Happened::TimeIsUp,
                _ = look.tick() => if marks.has_new() { return Happened::Marks },
                () = &mut watching => {}
            }
        }
    }

    pub(super) async fn take_marks(&mut self) {
        for mark in self.marks.take() {
            self.profilers.mark(&mark.name).await;
            self.recorder.record(RunEventKind::Marked { name: mark.name, marked: mark.at });
        }
    }

    /// The same for a process that leaves right after.
    pub(super) async fn take_marks_and_leave(&mut self) {
        for mark in self.marks.take() {
            self.profilers.mark_and_hear(&mark.name).await;
            self.recorder.record(RunEventKind::Marked { name: mark.name, marked: mark.at });
        }
    }

    /// Where the test's output goes; with windows, past somebody who looks for the patterns.
    fn output(&mut self, windows: Option<&WindowSettings>) -> Arc<dyn TestOutput> {
        let Some(windows) = windows else { return Arc::clone(&self.env.output) };
        let (triggers, finds) = Triggers::new(Arc::clone(&self.env.output), windows.clone());
        self.triggers = Some(finds);
        Arc::new(triggers)
    }

    /// Opens or closes a window; one that is open is not opened again.
    async fn obey(&mut self, plan: &Plan, trigger: Trigger) {
        match trigger {
            Trigger::Open(by) if self.window.is_none() => {
                self.opened += 1;
                self.window = Some(self.opened);
                self.recorder.record(RunEventKind::WindowOpened { window: self.opened, by });
                if let Err(e) = self.profilers.start(&plan.hosts).await {
                    tracing::error!("window {} could not be opened: {e}", self.opened);
                }
            }
            Trigger::Close(by) => self.close(plan, by).await,
            Trigger::Open(_) => {}
        }
    }

    async fn close(&mut self, plan: &Plan, by: String) {
        let Some(window) = self.window.take() else { return };
        self.recorder.record(RunEventKind::WindowClosed { window, by });
        let closed = async {
            self.profilers.stop().await?;
            self.profilers.report().await?;
            // For the next one, so that it opens at once.
            self.profilers.before_start(&plan.hosts).await
        };
        if let Err(e) = closed.await {
            tracing::error!("window {window} could not be closed: {e}");
        }
    }

    /// The test is over: what its last lines asked for, and the end of a window that is still open.
    async fn last_triggers(&mut self, plan: &Plan, how: &End) {
        let Some(mut triggers) = self.triggers.take() else { return };
        // Who interrupts a run does not want to wait for windows that were asked for faster than they could be opened.
        while *how == End::Complete
            && let Ok(trigger) = triggers.try_recv()
        {
            self.obey(plan, trigger).await;
        }
        let by = if *how == End::Complete { "the test ended" } else { "the run was interrupted" };
        self.close(plan, by.to_owned()).await;
        // The one that was made ready after the last.
        self.profilers.abort().await;
        self.recorder.record(RunEventKind::WindowUnused);
    }

    fn test_ended(&self, workload: &Utf8Path, end: &TestEnd) {
        if let Err(e) = std::fs::write(workload.join("status"), format!("{}\n{}\n", end.exit_code, end.status)) {
            tracing::warn!("cannot keep the test's status: {e}");
        }
        self.recorder.record(RunEventKind::TestEnded { status: end.status.clone(), exit_code: end.exit_code });
    }
}

fn quiet_beat(lease_ms: Option<u64>) -> Duration {
    let (least, most) = QUIET_BEAT;
    lease_ms.map_or(most, |ms| Span(Duration::from_millis(ms / 4)).0.clamp(least, most))
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

//! The controller's side of one client on one host, step by step.
mod clocks;
mod files;
mod find;
mod results;
mod survey;

use std::{
    fmt::{self, Display},
    future::Future,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use autoprof_protocol::{
    ControlFile, Event, EventKind, HostFacts, Invocation, Limits, Marker, MarkerTime, PROTOCOL_VERSION, ProfilerEntry,
    Task,
};
use bytes::Bytes;

use crate::{
    duration::Span,
    error::{SignalError, TransportError},
    event::{HostEvent, RunEventKind},
    host::Host,
    install::{self, InstallError},
    manifest::{HostError, HostStep, RunSettings},
    registry::{NotRegistered, Registry},
    run::Recorder,
    signal::{Channel, ClientHandle, Signal, Signaler},
    store::{ClientStore, arch_word},
    sudo::Script,
    text,
    transport::{Command, ExitStatus, Session, capture},
};

pub(crate) use files::Parcels;
use find::{Need, Standing};

/// Most events that are taken of one client: an honest one says a few for each profiler and segment.
const MOST_EVENTS: u64 = 20_000;
/// A line over which so many signs of life were asked for in vain is dead, whatever its connection looks like...
const UNANSWERED_BEATS: u32 = 2;
/// ... but not before this: a host that is starved by what it runs answers late.
const SHORTEST_SILENCE: Duration = Duration::from_secs(15);
/// How often a client that was found again is told the same.
const MOST_TRIES: u32 = 4;
/// Longest text that is kept of what a client says of one thing, in characters.
const LONGEST_WORDS: usize = 4_000;

/// What every client of a run needs from the run.
pub(crate) struct Context {
    pub(crate) registry: Arc<Registry>,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) store: Arc<ClientStore>,
    pub(crate) settings: RunSettings,
    pub(crate) parcels: Parcels,
}

/// One client on one host.
pub(crate) struct HostClient {
    host: Host,
    context: Arc<Context>,
    session: Option<Arc<dyn Session>>,
    /// The connection while nothing but the channel needs it.
    lent: Option<Weak<dyn Session>>,
    channel: Option<Box<dyn Channel>>,
    facts: Option<HostFacts>,
    /// How many questions it was asked for a sign of life: their numbers.
    questions: u64,
    /// The last one, until it is answered.
    question: Option<clocks::Question>,
    /// Since when it has said nothing although it was asked.
    unanswered: Option<Instant>,
    /// When it last answered.
    answered: Option<Instant>,
    /// What is known of its clock.
    compared: Option<clocks::Compared>,
    directory: Option<String>,
    /// The number of the last event that was taken.
    after: u64,
    taken: u64,
    /// The kernel's id of the boot that the client runs in.
    boot_id: Option<String>,
    /// How often the client was started again without the host having rebooted.
    revived: u32,
    /// Since when it is looked for.
    lost: Option<Instant>,
    /// Whether it was looked for in vain for as long as it may be.
    given_up: bool,
    /// Which of several windows this is; none: there is one.
    window: Option<u32>,
    /// Held by whoever writes results, also behind the back of a step that was given up.
    writing: Arc<tokio::sync::Mutex<()>>,
    failed: bool,
}

/// Why a step could not be taken.
#[derive(Debug)]
pub(crate) struct Trouble {
    message: String,
    hint: Option<String>,
    /// Whether it is the line to the host, or the client at its end, that is gone: then it is worth looking for it.
    lost: bool,
}

impl Trouble {
    pub(crate) fn new(message: impl Display) -> Self {
        Self { message: message.to_string(), hint: None, lost: false }
    }

    fn lost(message: impl Display) -> Self {
        Self { lost: true, ..Self::new(message) }
    }
}

impl Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.hint.iter().try_for_each(|hint| write!(f, " ({hint})"))
    }
}

impl From<TransportError> for Trouble {
    fn from(e: TransportError) -> Self {
        Self { message: e.to_string(), hint: e.hint, lost: true }
    }
}

impl From<SignalError> for Trouble {
    fn from(e: SignalError) -> Self {
        Self { message: e.to_string(), hint: e.hint, lost: true }
    }
}

impl From<NotRegistered> for Trouble {
    fn from(e: NotRegistered) -> Self {
        Self::new(e)
    }
}

impl From<InstallError> for Trouble {
    fn from(e: InstallError) -> Self {
        let lost = matches!(e, InstallError::Transport(_));
        Self { message: e.to_string(), hint: e.hint(), lost }
    }
}

/// Awaits work with a time-out that has a name in the job.
pub(crate) async fn within<T, E: Into<Trouble>>(
    name: &'static str,
    timeout: Span,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, Trouble> {
    match tokio::time::timeout(timeout.0, work).await {
        Ok(done) => done.map_err(Into::into),
        Err(_) => Err(Trouble {
            hint: Some(format!("give it longer with timeouts.{name} in the job")),
            ..Trouble::lost(format!("took longer than {timeout}"))
        }),
    }
}

impl HostClient {
    pub(crate) fn new(host: Host, context: Arc<Context>) -> Self {
        Self {
            host,
            context,
            session: None,
            lent: None,
            channel: None,
            facts: None,
            questions: 0,
            question: None,
            unanswered: None,
            answered: None,
            compared: None,
            directory: None,
            after: 0,
            taken: 0,
            boot_id: None,
            revived: 0,
            lost: None,
            given_up: false,
            window: None,
            writing: Arc::default(),
            failed: false,
        }
    }

    /// The client of a host as an earlier process left it.
    pub(crate) fn resume(host: Host, context: Arc<Context>) -> Self {
        let mut client = Self::new(host, context);
        let record = client.context.recorder.with_manifest(|m| m.hosts.get(&client.host.name).cloned());
        if let Some(record) = record {
            client.boot_id = record.facts.as_ref().map(|facts| facts.boot_id.clone());
            client.facts = record.facts;
            if let Some(known) = record.client.filter(|c| c.present) {
                client.directory = Some(known.directory);
                client.after = known.last_event;
            }
            // One that could not be reached then may be reached now, as long as there is something of ours on it.
            client.failed = client.directory.is_none();
        }
        client
    }

    /// The same, for one of several windows: its results go into a directory of the window's.
    pub(crate) fn in_window(mut self, window: Option<u32>) -> Self {
        self.window = window;
        self
    }

    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    /// Whether this client still takes part in the run.
    pub(crate) fn is_up(&self) -> bool {
        !self.failed && self.directory.is_some()
    }

    /// What is left on the host, if anything is.
    pub(crate) fn directory(&self) -> Option<&str> {
        self.directory.as_deref()
    }

    /// What a client of this host is told, from what was planned for it.
    fn control(&self, segment: u32, task: Task) -> ControlFile {
        let settings = &self.context.settings;
        self.context.recorder.with_manifest(|m| {
            let planned = m.hosts.get(&self.host.name).into_iter().flat_map(|host| &host.profilers);
            let entry = |(name, invocation): (String, Invocation)| {
                let as_root = |argv: &[String]| Script::of(argv).map(|script| vec![script.path]).unwrap_or_default();
                ProfilerEntry { name, invocation: invocation.with_root_commands(as_root) }
            };
            let planned = planned.filter_map(|(name, record)| Some((name.clone(), record.invocation.clone()?)));
            // A client that comes later has no longer than the run has left.
            let age = crate::now().duration_since(m.created).as_millis();
            let left = settings.max_duration_ms.saturating_sub(u64::try_from(age).unwrap_or(0)).max(60_000);
            ControlFile {
                version: PROTOCOL_VERSION,
                run: m.id.clone(),
                host: self.host.name.clone(),
                profilers: planned.map(entry).collect(),
                segment,
                after: self.after,
                task,
                limits: Limits {
                    lease_ms: settings.lease_ms,
                    max_duration_ms: if segment > 1 { left } else { settings.max_duration_ms },
                    disk: settings.disk,
                },
            }
        })
    }

    /// Launches the client and waits until it is ready.
    pub(crate) async fn launch(&mut self) -> Option<()> {
        let launched = self.try_launch(1, Task::Profile).await;
        self.or_fail("ready", launched)
    }

    async fn try_launch(&mut self, segment: u32, task: Task) -> Result<(), Trouble> {
        let ready = self.context.settings.timeouts.ready;
        let session = self.connect().await?;
        let directory = self.directory.clone().ok_or_else(|| Trouble::new("it has no directory"))?;
        let control = self.control(segment, task);
        // One that only finishes runs no more than reports.
        if task == Task::Profile {
            self.send_files(&control.profilers, &directory).await?;
        }
        let control = serde_json::to_vec_pretty(&control).map_err(Trouble::new)?;
        let command = Command::new([install::program(&directory), "launch".into(), directory.clone()]);
        let done = capture(session.as_ref(), &command, Bytes::from(control), 64 * 1024);
        // The launch and the line to the client do not wait for each other: one round trip less.
        let launched = async {
            let done = done.await?;
            let refused = || format!("the client was not launched ({}): {}", done.status, done.stderr_text());
            if done.status.success() { Ok(()) } else { Err(Trouble::new(refused())) }
        };
        if segment == 1 && task == Task::Profile {
            let (launched, attached) = tokio::join!(within("ready", ready, launched), self.open_channel());
            launched.and(attached)?;
        } else {
            // The directory has the events of an earlier client: the line must not take that one for this.
            within("ready", ready, launched).await?;
            self.open_channel().await?;
        }
        // One that only finishes has nothing to wait for in between.
        self.expect("ready", ready, |kind| match task {
            Task::Profile => matches!(kind, EventKind::Ready { segment: n, .. } if *n == segment),
            Task::Finish => matches!(kind, EventKind::Stopped),
        })
        .await
    }

    /// Raises a marker for an instant, or for now, and waits until the client says that its step is done; looks for a
    /// client that is lost meanwhile.
    pub(crate) async fn signal(
        &mut self,
        marker: Marker,
        at: Option<Instant>,
        timeout: Span,
        done: impl Fn(&EventKind) -> bool,
    ) -> Option<()> {
        let mut tries = 0;
        loop {
            tries += 1;
            let signalled = self.try_signal(marker, at, timeout, &done).await;
            let trouble = match signalled {
                Ok(()) => return Some(()),
                Err(trouble) => trouble,
            };
            // Before anything is collected there is nothing to be saved.
            // What is found again and again and cannot be told is not lost.
            if !trouble.lost || marker == Marker::Start || tries > MOST_TRIES {
                return self.or_fail(marker.word(), Err(trouble));
            }
            self.lose(&trouble.message);
            let passed = if marker == Marker::Stop { HostStep::Stopped } else { HostStep::Reported };
            match self.find(Need::Results).await? {
                // What it said meanwhile, or a client that only finishes, may be past that step.
                Standing::Running if self.has_passed(passed) => return Some(()),
                Standing::Running => {}
                // It did by itself what it would be told to do.
                Standing::Ended => return Some(()),
            }
        }
    }

    async fn try_signal(
        &mut self,
        marker: Marker,
        at: Option<Instant>,
        timeout: Span,
        done: impl Fn(&EventKind) -> bool,
    ) -> Result<(), Trouble> {
        self.open_channel().await?;
        let time = at.map_or(MarkerTime::Now, |at| self.by_its_clock(at));
        let channel = self.channel.as_mut().ok_or_else(|| Trouble::lost("there is no line to it"))?;
        within(marker.word(), timeout, channel.signal(Signal::Marker(marker, time))).await?;
        self.expect(marker.word(), timeout, done).await
    }

    /// Whether the host has passed a step already, by what the client said.
    pub(crate) fn has_passed(&self, step: HostStep) -> bool {
        self.context.recorder.with_manifest(|m| {
            m.hosts.get(&self.host.name).is_some_and(|h| h.step >= step && h.step != HostStep::Failed)
        })
    }

    /// Takes in what the client says, asks for signs of life, brings results back at checkpoints, and looks for the
    /// client when it is lost. Ends never.
    ///
    /// Dropped anywhere, it leaves a client that the next step can go on with.
    pub(crate) async fn watch(&mut self, beat: Duration) {
        let mut beats = tokio::time::interval_at(tokio::time::Instant::now() + beat, beat);
        beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // No time at all is never: there would be nothing but checkpoints.
        let checkpoint = self.context.settings.checkpoint_ms.filter(|ms| *ms > 0).map(Duration::from_millis);
        let mut checkpoints = checkpoint.map(|every| {
            let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            ticks
        });
        // It has to be noticed before the client's lease ends.
        let lease = self.context.settings.lease_ms.map_or(Duration::MAX, Duration::from_millis);
        let silence = (beat * UNANSWERED_BEATS).max(SHORTEST_SILENCE).min(lease / 5 * 2);
        loop {
            if !self.is_up() {
                return std::future::pending().await;
            }
            let Some(channel) = self.channel.as_mut() else {
                match self.find(Need::Window).await {
                    Some(Standing::Running) => continue,
                    // It has done by itself all that there was to do, or is given up.
                    Some(Standing::Ended) | None => return std::future::pending().await,
                }
            };
            let due = async {
                match &mut checkpoints {
                    Some(checkpoints) => drop(checkpoints.tick().await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = channel.event() => match event {
                    Ok(event) => self.heard(event),
                    Err(e) => self.lose(&e.to_string()),
                },
                _ = beats.tick() => match self.unanswered.map(|since| since.elapsed()).filter(|silent| *silent > silence) {
                    Some(silent) => self.lose(&format!("no answer for {} s", silent.as_secs())),
                    None => if let Err(e) = self.ask().await {
                        self.lose(&e.to_string());
                    }
                },
                () = due => self.checkpoint().await,
            }
        }
    }

    /// Takes an event; one that says that the client is no more means that it has to be looked for.
    fn heard(&mut self, event: Event) {
        let gone = match &event.kind {
            EventKind::Failed { reason } => Some(reason.to_string()),
            _ => None,
        };
        self.answer_of(&event);
        self.take(event);
        if let Some(reason) = gone {
            self.lose(&reason);
        }
    }

    /// Puts a name on the host's timeline.
    pub(crate) async fn mark(&mut self, name: &str) {
        if let Some(channel) = &mut self.channel
            && let Err(e) = channel.signal(Signal::Mark(name.to_owned())).await
        {
            tracing::warn!(host = %self.host, "the mark {name:?} did not reach it: {e}");
        }
    }

    /// The same, and waits until the host's client has it: for a process that leaves right after.
    pub(crate) async fn mark_and_hear(&mut self, name: &str) {
        self.mark(name).await;
        let timeout = self.context.settings.timeouts.ready;
        let heard =
            self.expect("ready", timeout, |kind| matches!(kind, EventKind::Marked { name: n, .. } if n == name));
        if let Err(trouble) = heard.await {
            tracing::warn!(host = %self.host, "the mark {name:?} is not known to have reached it: {}", trouble.message);
        }
    }

    /// Removes everything of ours from the host, and closes the connection.
    pub(crate) async fn clean(&mut self) {
        self.close_channel();
        if let Some(directory) = self.directory.clone()
            && !self.context.settings.keep
        {
            match self.try_clean(&directory).await {
                Ok(()) => {
                    if self.directory.take().is_some() {
                        self.note(HostEvent::Cleaned);
                    }
                }
                Err(trouble) => {
                    let message = format!("{directory} could not be removed: {}", trouble.message);
                    let error = HostError { step: "clean".into(), message, hint: Some(self.left_hint()) };
                    self.context.recorder.failed(&self.host.name, error);
                }
            }
        }
        self.disconnect().await;
    }

    async fn try_clean(&mut self, directory: &str) -> Result<(), Trouble> {
        let timeout = self.context.settings.timeouts.clean;
        let session = self.connect().await?;
        let command = Command::new([install::program(directory), "clean".into(), directory.to_owned()]);
        let done = within("clean", timeout, capture(session.as_ref(), &command, Bytes::new(), 64 * 1024)).await;
        match done {
            Ok(done) if done.status.success() => Ok(()),
            // Its program never came, came in part, or was removed: nothing of it can run, and a shell will do.
            Ok(done) if matches!(done.status, ExitStatus::Code(126..) | ExitStatus::Signal(_)) => {
                self.remove_without_client().await;
                if self.directory.is_none() { Ok(()) } else { Err(Trouble::new(done.stderr_text())) }
            }
            Ok(done) => Err(Trouble::new(format!("{} ({})", done.stderr_text(), done.status))),
            Err(trouble) => {
                // A connection that was cut unnoticed is not worth a host that is not clean.
                self.drop_connection();
                let session = self.connect().await?;
                let done =
                    within("clean", timeout, capture(session.as_ref(), &command, Bytes::new(), 64 * 1024)).await?;
                // The first try may have come through.
                if done.status.success() || done.status == ExitStatus::Code(127) { Ok(()) } else { Err(trouble) }
            }
        }
    }

    /// Lets the client go on without this process.
    pub(crate) async fn detach(&mut self) {
        self.close_channel();
        self.disconnect().await;
    }

    async fn disconnect(&mut self) {
        if let Some(session) = self.session.take() {
            let _ = tokio::time::timeout(Duration::from_secs(5), session.close()).await;
        }
    }

    /// Removes the directory of a client that never ran.
    async fn remove_without_client(&mut self) {
        let Some(directory) = self.directory.clone() else { return };
        let script = install::REMOVE;
        let command = Command::sh(script, [directory]);
        let timeout = self.context.settings.timeouts.clean;
        // What failed may have been the connection: then another one is worth a try.
        for _ in 0..2 {
            let Ok(session) = self.connect().await else { return };
            let done = within("clean", timeout, capture(session.as_ref(), &command, Bytes::new(), 64 * 1024)).await;
            if done.is_ok_and(|done| done.status.success()) {
                self.directory = None;
                self.note(HostEvent::Cleaned);
                return;
            }
            self.drop_connection();
        }
    }

    /// Leaves the connection to the channel: one that does not run over it closes it.
    fn lend(&mut self) {
        if let Some(session) = self.session.take() {
            self.lent = Some(Arc::downgrade(&session));
        }
    }

    /// Has the connection again, if it is still open.
    fn take_back(&mut self) {
        if let Some(session) = self.lent.take().and_then(|lent| lent.upgrade()) {
            self.session.get_or_insert(session);
        }
    }

    /// Gives the channel up, but not the connection that it runs over.
    fn close_channel(&mut self) {
        self.take_back();
        self.channel = None;
    }

    /// Has no connection any more: it is broken.
    fn drop_connection(&mut self) {
        self.session = None;
        self.lent = None;
    }

    /// A session, new if need be.
    async fn connect(&mut self) -> Result<Arc<dyn Session>, Trouble> {
        self.take_back();
        if let Some(session) = &self.session {
            return Ok(Arc::clone(session));
        }
        let transport = self.context.registry.transport(&self.host.transport)?;
        let timeout = self.context.settings.timeouts.connect;
        let session = within("connect", timeout, transport.connect(&self.host)).await?;
        self.session = Some(Arc::clone(&session));
        Ok(session)
    }

    async fn open_channel(&mut self) -> Result<(), Trouble> {
        if self.channel.is_some() {
            return Ok(());
        }
        let session = self.connect().await?;
        let signaler: Arc<dyn Signaler> = self.context.registry.signaler(&self.context.settings.signaler)?;
        let directory = self.directory.clone().ok_or_else(|| Trouble::new("it has no directory"))?;
        let handle = ClientHandle {
            directory,
            after: self.after,
            run: self.context.recorder.with_manifest(|m| m.id.clone()),
            // A plugin makes a path of it.
            arch: self.facts.as_ref().and_then(|facts| arch_word(&facts.arch)).unwrap_or_default().to_owned(),
            programs: self.context.store.directories().to_vec(),
        };
        let timeout = self.context.settings.timeouts.connect;
        self.channel = Some(within("connect", timeout, signaler.attach(session, &handle)).await?);
        self.lend();
        Ok(())
    }

    /// Takes in events until one of them is what is waited for.
    async fn expect(
        &mut self,
        step: &'static str,
        timeout: Span,
        done: impl Fn(&EventKind) -> bool,
    ) -> Result<(), Trouble> {
        let deadline = Instant::now() + timeout.0;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let channel = self.channel.as_mut().ok_or_else(|| Trouble::lost("there is no line to it"))?;
            let Ok(event) = tokio::time::timeout(left, channel.event()).await else {
                return Err(Trouble {
                    hint: Some(format!("give it longer with timeouts.{step} in the job")),
                    ..Trouble::new(format!("the client did not answer within {timeout}"))
                });
            };
            let event = event?;
            let over = done(&event.kind);
            let gone = match &event.kind {
                EventKind::Failed { reason } => Some(reason.to_string()),
                _ => None,
            };
            self.take(event);
            if over {
                return Ok(());
            }
            if let Some(reason) = gone {
                return Err(Trouble::lost(format!("the client gave up: {reason}")));
            }
        }
    }

    /// Takes an event in: each once, and of a client that says without end only so many.
    fn take(&mut self, event: Event) {
        self.unanswered = None;
        if matches!(event.kind, EventKind::ClockSet { .. }) {
            self.compared = None;
        }
        if event.seq == 0 {
            // A sign of life is not worth a line.
            let event = HostEvent::Client { event: bounded(event) };
            self.context.recorder.notice(RunEventKind::Host { host: self.host.name.clone(), event });
            return;
        }
        if event.seq <= self.after {
            return;
        }
        self.after = event.seq;
        self.taken += 1;
        if self.taken > MOST_EVENTS {
            self.channel = None;
            self.fail::<()>("watch", &format!("the client said more than {MOST_EVENTS} things"), None);
            return;
        }
        if let EventKind::Ready { boot_id, .. } = &event.kind {
            self.boot_id = Some(boot_id.clone());
        }
        self.note(HostEvent::Client { event: bounded(event) });
    }

    fn note(&self, event: HostEvent) {
        self.context.recorder.host(&self.host.name, event);
    }

    /// The value of a step, or its failure on record.
    fn or_fail<T>(&mut self, step: &str, done: Result<T, Trouble>) -> Option<T> {
        match done {
            Ok(value) => Some(value),
            Err(trouble) => self.fail(step, &trouble.message, trouble.hint),
        }
    }

    fn fail<T>(&mut self, step: &str, message: &dyn Display, hint: Option<String>) -> Option<T> {
        self.failed = true;
        let error = HostError { step: step.to_owned(), message: message.to_string(), hint };
        self.context.recorder.failed(&self.host.name, error);
        None
    }

    fn left_hint(&self) -> String {
        let directory = self.directory.as_deref().unwrap_or_default();
        format!("what is there stays in {directory} on {}; `autoprof report` tries again", self.host)
    }
}

/// What a client says, with bounds on its texts: hosts are not trusted with the controller's memory or disk.
fn bounded(mut event: Event) -> Event {
    let shorten = |text: &mut String| {
        if let Some((at, _)) = text.char_indices().nth(LONGEST_WORDS) {
            text.truncate(at);
        }
    };
    let cut = |text: &mut text::HostText| text.truncate_chars(LONGEST_WORDS);
    match &mut event.kind {
        EventKind::Ready { boot_id, .. } => shorten(boot_id),
        EventKind::Began { profiler, .. } => shorten(profiler),
        EventKind::Started { collecting } => {
            collecting.truncate(1_000);
            collecting.iter_mut().for_each(shorten);
        }
        EventKind::Ended(ended) => {
            shorten(&mut ended.profiler);
            [Some(&mut ended.status), ended.reason.as_mut(), ended.last_words.as_mut()]
                .into_iter()
                .flatten()
                .for_each(cut);
        }
        EventKind::ReportFailed { profiler, reason } => {
            shorten(profiler);
            cut(reason);
        }
        EventKind::SettingChanged { path, from, to } => [path, from, to].into_iter().for_each(cut),
        EventKind::Scheduling { reason, .. } => reason.as_mut().into_iter().for_each(cut),
        EventKind::LimitReached { limit } => cut(limit),
        EventKind::Marked { name, .. } => shorten(name),
        EventKind::Failed { reason } => cut(reason),
        _ => {}
    }
    event
}

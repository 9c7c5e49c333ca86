//! The controller's side of one client on one host, step by step.
use std::{
    fmt::Display,
    future::Future,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use autoprof_protocol::{
    ControlFile, Event, EventKind, HostFacts, Limits, Marker, MarkerTime, PROTOCOL_VERSION, ToolProbe,
};
use bytes::Bytes;

use crate::{
    collect::collect,
    duration::Span,
    encoder::{RawResults, Table},
    error::{ErrorKind, PluginError},
    event::HostEvent,
    host::Host,
    install::{self, InstallError},
    manifest::{ClockOffset, HostError, HostStep, ProfilerState, RunSettings},
    profiler::{Origin, ProfilerProxy},
    registry::Registry,
    run::Recorder,
    signal::{Channel, ClientHandle, Signal, Signaler},
    store::ClientStore,
    transport::{Command, Session, Transport, capture},
};

/// Exchanges with a client to compare its clock; the shortest round trip counts.
const CLOCK_EXCHANGES: usize = 3;

/// What every client of a run needs from the run.
pub(crate) struct Context {
    pub(crate) registry: Arc<Registry>,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) store: Arc<ClientStore>,
    pub(crate) settings: RunSettings,
}

/// One client on one host.
pub(crate) struct HostClient {
    host: Host,
    context: Arc<Context>,
    session: Option<Arc<dyn Session>>,
    channel: Option<Box<dyn Channel>>,
    facts: Option<HostFacts>,
    directory: Option<String>,
    after: u64,
    failed: bool,
}

impl HostClient {
    pub(crate) fn new(host: Host, context: Arc<Context>) -> Self {
        Self { host, context, session: None, channel: None, facts: None, directory: None, after: 0, failed: false }
    }

    /// The client of a host as an earlier process left it.
    pub(crate) fn resume(host: Host, context: Arc<Context>) -> Self {
        let mut client = Self::new(host, context);
        let record = client.context.recorder.with_manifest(|m| m.hosts.get(&client.host.name).cloned());
        if let Some(record) = record {
            client.facts = record.facts;
            client.failed = record.step == HostStep::Failed;
            if let Some(known) = record.client.filter(|c| c.present) {
                client.directory = Some(known.directory);
                client.after = known.last_event;
            }
        }
        client
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

    /// Connects, installs, plans: everything that touches the host before a client runs.
    pub(crate) async fn survey(&mut self, proxies: &[ProfilerProxy]) -> Option<ControlFile> {
        self.note(HostEvent::Connecting);
        self.connect().await?;
        let timeouts = self.context.settings.timeouts.clone();
        let session = self.session.clone()?;
        let probes: Vec<ToolProbe> =
            proxies.iter().flat_map(|proxy| proxy.encoder().profiler().tool_probes()).collect();
        let tmpdir = self.context.settings.tmpdir.clone();
        let probed = self
            .step("install", timeouts.install, install::probe(session.as_ref(), &tmpdir), InstallError::hint)
            .await?;
        self.directory = Some(probed.directory.clone());
        self.note(HostEvent::Installing { directory: probed.directory.clone() });
        let store = Arc::clone(&self.context.store);
        let installing = install::install(session.as_ref(), &probed, &store, &probes);
        let facts = match self.step("install", timeouts.install, installing, InstallError::hint).await {
            Some(facts) => facts,
            None => {
                self.remove_without_client().await;
                return None;
            }
        };
        self.note(HostEvent::Facts { facts: Box::new(facts.clone()) });
        self.facts = Some(facts.clone());
        Some(self.plan(proxies, &facts))
    }

    /// Encodes every profiler for this host.
    fn plan(&self, proxies: &[ProfilerProxy], facts: &HostFacts) -> ControlFile {
        let mut profilers = Vec::new();
        for proxy in proxies {
            let (profiler, args) = (proxy.name().to_owned(), proxy.args().clone());
            let preset = proxy.origin().preset().map(str::to_owned);
            match proxy.encode(facts) {
                Ok(invocation) => {
                    let tool_version = tool_version(proxy, facts);
                    let entry =
                        autoprof_protocol::ProfilerEntry { name: profiler.clone(), invocation: invocation.clone() };
                    profilers.push(entry);
                    self.note(HostEvent::Planned {
                        profiler,
                        preset,
                        args,
                        invocation: invocation.into(),
                        tool_version,
                    });
                }
                Err(e) => {
                    let reason = with_hint(&e);
                    self.note(match proxy.origin() {
                        Origin::Named => HostEvent::Refused { profiler, args, reason },
                        Origin::Preset(_) => HostEvent::Skipped { profiler, preset, args, reason },
                    });
                }
            }
        }
        let settings = &self.context.settings;
        ControlFile {
            version: PROTOCOL_VERSION,
            run: self.context.recorder.with_manifest(|m| m.id.clone()),
            host: self.host.name.clone(),
            profilers,
            limits: Limits { lease_ms: settings.lease_ms, max_duration_ms: settings.max_duration_ms },
        }
    }

    /// Launches the client with its control file and waits until it is ready.
    pub(crate) async fn launch(&mut self, control: &ControlFile) -> Option<()> {
        let ready = self.context.settings.timeouts.ready;
        let session = self.session.clone()?;
        let directory = self.directory.clone()?;
        let control = match serde_json::to_vec_pretty(control) {
            Ok(control) => Bytes::from(control),
            Err(e) => return self.fail("ready", &e, None),
        };
        let command = Command::new([install::program(&directory), "launch".into(), directory.clone()]);
        let done = capture(session.as_ref(), &command, control, 64 * 1024);
        // The launch and the line to the client do not wait for each other: one round trip less.
        let launched = async {
            let done = done.await.map_err(|e| e.to_string())?;
            let refused = || format!("the client was not launched ({}): {}", done.status, done.stderr_text());
            if done.status.success() { Ok(()) } else { Err(refused()) }
        };
        let (launched, attached) = tokio::join!(tokio::time::timeout(ready.0, launched), self.open_channel());
        match launched {
            Ok(Ok(())) => {}
            Ok(Err(message)) => return self.fail("ready", &message, None),
            Err(_) => return self.fail("ready", &format!("the client was not launched within {ready}"), None),
        }
        attached?;
        self.expect("ready", ready, |kind| matches!(kind, EventKind::Ready { .. })).await?;
        self.compare_clocks().await;
        Some(())
    }

    /// Raises a marker and waits until the client says that its step is done.
    pub(crate) async fn signal(
        &mut self,
        marker: Marker,
        timeout: Span,
        done: impl Fn(&EventKind) -> bool,
    ) -> Option<()> {
        let step = marker.word();
        self.open_channel().await?;
        let channel = self.channel.as_mut()?;
        if let Err(e) = channel.signal(Signal::Marker(marker, MarkerTime::Now)).await {
            let hint = e.hint.clone();
            return self.fail(step, &e, hint);
        }
        self.expect(step, timeout, done).await
    }

    /// Whether the host has passed a step already, by what the client said.
    pub(crate) fn has_passed(&self, step: HostStep) -> bool {
        self.context.recorder.with_manifest(|m| {
            m.hosts.get(&self.host.name).is_some_and(|h| h.step >= step && h.step != HostStep::Failed)
        })
    }

    /// Takes in what the client has said since the controller was last attached, until it says nothing new.
    pub(crate) async fn catch_up(&mut self) -> Option<()> {
        self.open_channel().await?;
        // The answer to a beat comes after everything that was in the file before it.
        let channel = self.channel.as_mut()?;
        if let Err(e) = channel.signal(Signal::Beat).await {
            // A client that has finished its work has gone: what it said last is still to be read.
            tracing::debug!(host = %self.host, "no beat: {e}");
        }
        let ready = self.context.settings.timeouts.ready;
        loop {
            let channel = self.channel.as_mut()?;
            match tokio::time::timeout(ready.0, channel.event()).await {
                Ok(Ok(event)) => {
                    let over = event.seq == 0 || matches!(event.kind, EventKind::Reported);
                    self.take(event);
                    if over {
                        return Some(());
                    }
                }
                Ok(Err(_)) | Err(_) if self.has_passed(HostStep::Stopped) => return Some(()),
                Ok(Err(e)) => return self.fail("attach", &e, e.hint.clone()),
                Err(_) => return self.fail("attach", &format!("the client said nothing for {ready}"), None),
            }
        }
    }

    /// The next thing that the client says; pending for ever when there is nobody to say anything. Cancel safe.
    pub(crate) async fn watch(&mut self) {
        let Some(channel) = self.channel.as_mut().filter(|_| !self.failed) else {
            return std::future::pending().await;
        };
        match channel.event().await {
            Ok(event) => self.take(event),
            Err(e) => {
                // The client goes on by itself; the next step attaches to it again.
                tracing::warn!(host = %self.host, "lost the line to the client: {e}");
                self.channel = None;
                self.session = None;
            }
        }
    }

    /// Asks for a sign of life; the answer comes as an event.
    pub(crate) async fn beat(&mut self) {
        if let Some(channel) = &mut self.channel {
            let _ = channel.signal(Signal::Beat).await;
        }
    }

    /// Brings the results back and makes tables of them.
    pub(crate) async fn collect(&mut self, encoders: &[&ProfilerProxy], window: u32) {
        self.channel = None;
        let mut target = self.context.recorder.host_directory(&self.host.name);
        if window > 1 {
            target = target.join(format!("window-{window}"));
        }
        // An earlier process may have been given up after the results were here and before the host was clean.
        if !self.has_passed(HostStep::Collected) && self.fetch(&target).await.is_none() {
            return;
        }
        for proxy in encoders {
            self.convert(proxy, &target).await;
        }
    }

    /// Whether profilers of this host had begun and their data has not come back.
    pub(crate) fn has_collected_data(&self) -> bool {
        let begun = |m: &crate::manifest::Manifest| {
            m.hosts.get(&self.host.name).is_some_and(|h| h.profilers.values().any(|p| p.began.is_some()))
        };
        self.directory.is_some() && self.context.recorder.with_manifest(begun) && !self.has_passed(HostStep::Collected)
    }

    /// Brings back what a client that died, or does not answer, has left; then the host may be cleaned.
    pub(crate) async fn salvage(&mut self, encoders: &[&ProfilerProxy], window: u32) {
        self.session = None;
        self.failed = false;
        self.collect(encoders, window).await;
    }

    async fn fetch(&mut self, target: &camino::Utf8Path) -> Option<()> {
        let session = match self.reconnect().await {
            Ok(session) => session,
            Err(message) => return self.uncollected(message),
        };
        let directory = self.directory.clone()?;
        // What an earlier process had begun to bring back was not verified: it is fetched anew.
        if target.exists()
            && let Err(e) = std::fs::remove_dir_all(target)
        {
            return self.uncollected(format!("{target} cannot be made anew: {e}"));
        }
        let stall = self.context.settings.timeouts.collect;
        let done = collect(session.as_ref(), &directory, target, stall).await;
        let missing = done.error.as_ref().map(|e| format!("the results could not all be brought back: {e}"));
        if missing.is_some() && done.files.is_empty() {
            return self.uncollected(missing.unwrap_or_default());
        }
        self.note(HostEvent::Collected { files: done.files, missing: missing.clone() });
        match missing {
            Some(message) => self.uncollected(message),
            None => Some(()),
        }
    }

    fn uncollected<T>(&mut self, message: String) -> Option<T> {
        let hint = Some(self.left_hint());
        self.fail("collect", &message, hint)
    }

    async fn convert(&self, proxy: &ProfilerProxy, target: &camino::Utf8Path) {
        let record = self.context.recorder.with_manifest(|m| {
            let record = m.hosts.get(&self.host.name)?.profilers.get(proxy.name())?;
            Some((record.state, record.began?.stamp, record.ended?.stamp))
        });
        let Some((ProfilerState::Ok | ProfilerState::Partial, began, ended)) = record else { return };
        let raw = RawResults {
            directory: target.join(proxy.name()),
            args: proxy.args().clone(),
            began_unix_ns: began.unix_ns,
            ended_unix_ns: ended.unix_ns,
            facts: self.facts.clone().unwrap_or_default(),
        };
        let encoder = Arc::clone(proxy.encoder());
        let converted = tokio::task::spawn_blocking(move || encoder.convert(&raw)).await;
        let (tables, problem) = match converted {
            Ok(Ok(tables)) => (tables.into_iter().map(noting_emptiness).collect(), None),
            Ok(Err(e)) => (Vec::new(), Some(format!("no tables could be made: {e}"))),
            Err(e) => (Vec::new(), Some(format!("no tables could be made: {e}"))),
        };
        if !tables.is_empty() || problem.is_some() {
            self.note(HostEvent::Converted { profiler: proxy.name().to_owned(), tables, problem });
        }
    }

    /// Removes everything of ours from the host, and closes the connection.
    pub(crate) async fn clean(&mut self) {
        self.channel = None;
        let timeout = self.context.settings.timeouts.clean;
        if let Some(directory) = self.directory.clone()
            && !self.context.settings.keep
        {
            let cleaned = match self.reconnect().await {
                Ok(session) => {
                    let command = Command::new([install::program(&directory), "clean".into(), directory.clone()]);
                    let done = capture(session.as_ref(), &command, Bytes::new(), 64 * 1024);
                    match tokio::time::timeout(timeout.0, done).await {
                        Ok(Ok(done)) if done.status.success() => Ok(()),
                        Ok(Ok(done)) => Err(format!("{} ({})", done.stderr_text(), done.status)),
                        Ok(Err(e)) => Err(e.to_string()),
                        Err(_) => Err(format!("it took longer than {timeout}")),
                    }
                }
                Err(e) => Err(e),
            };
            match cleaned {
                Ok(()) => {
                    self.directory = None;
                    self.note(HostEvent::Cleaned);
                }
                Err(reason) => {
                    let message = format!("{directory} could not be removed: {reason}");
                    let error = HostError { step: "clean".into(), message, hint: Some(self.left_hint()) };
                    self.context.recorder.failed(&self.host.name, error);
                }
            }
        }
        self.disconnect().await;
    }

    /// Lets the client go on without this process.
    pub(crate) async fn detach(&mut self) {
        self.channel = None;
        self.disconnect().await;
    }

    async fn disconnect(&mut self) {
        if let Some(session) = self.session.take() {
            let _ = tokio::time::timeout(Duration::from_secs(5), session.close()).await;
        }
    }

    /// Removes the directory of a client that never ran.
    async fn remove_without_client(&mut self) {
        let (Some(session), Some(directory)) = (self.session.clone(), self.directory.clone()) else { return };
        let script = "rm -rf \"$1\" && { rmdir \"$(dirname \"$1\")\" 2>/dev/null || true; }";
        let command = Command::sh(script, [directory]);
        let done = capture(session.as_ref(), &command, Bytes::new(), 64 * 1024);
        let timeout = self.context.settings.timeouts.clean;
        if let Ok(Ok(done)) = tokio::time::timeout(timeout.0, done).await
            && done.status.success()
        {
            self.directory = None;
            self.note(HostEvent::Cleaned);
        }
    }

    async fn connect(&mut self) -> Option<()> {
        if self.session.is_some() {
            return Some(());
        }
        let timeout = self.context.settings.timeouts.connect;
        let transport = match self.context.registry.transport(&self.host.transport) {
            Ok(transport) => transport,
            Err(e) => return self.fail("connect", &e, None),
        };
        let host = self.host.clone();
        let session = self.step("connect", timeout, transport.connect(&host), |e| e.hint.clone()).await?;
        self.session = Some(session);
        Some(())
    }

    /// A session, new if need be; unlike [`Self::connect`] a failure is the caller's to record.
    async fn reconnect(&mut self) -> Result<Arc<dyn Session>, String> {
        if let Some(session) = &self.session {
            return Ok(Arc::clone(session));
        }
        let transport: Arc<dyn Transport> =
            self.context.registry.transport(&self.host.transport).map_err(|e| e.to_string())?;
        let timeout = self.context.settings.timeouts.connect;
        let connected = tokio::time::timeout(timeout.0, transport.connect(&self.host)).await;
        let session = connected.map_err(|_| format!("no connection within {timeout}"))?.map_err(|e| e.to_string())?;
        self.session = Some(Arc::clone(&session));
        Ok(session)
    }

    async fn open_channel(&mut self) -> Option<()> {
        if self.channel.is_some() {
            return Some(());
        }
        self.connect().await?;
        let signaler: Arc<dyn Signaler> = match self.context.registry.signaler(&self.context.settings.signaler) {
            Ok(signaler) => signaler,
            Err(e) => return self.fail("attach", &e, None),
        };
        let handle = ClientHandle { directory: self.directory.clone()?, after: self.after };
        let session = self.session.clone()?;
        let timeout = self.context.settings.timeouts.connect;
        let attaching = signaler.attach(session, &handle);
        self.channel = Some(self.step("attach", timeout, attaching, |e| e.hint.clone()).await?);
        Some(())
    }

    /// Takes in events until one of them is what is waited for.
    async fn expect(&mut self, step: &str, timeout: Span, done: impl Fn(&EventKind) -> bool) -> Option<()> {
        let deadline = Instant::now() + timeout.0;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let channel = self.channel.as_mut()?;
            match tokio::time::timeout(left, channel.event()).await {
                Ok(Ok(event)) => {
                    let over = done(&event.kind);
                    let reason = match &event.kind {
                        EventKind::Failed { reason } => Some(reason.clone()),
                        _ => None,
                    };
                    self.take(event);
                    if over {
                        return Some(());
                    }
                    if let Some(reason) = reason {
                        return self.fail(
                            step,
                            &format!("the client gave up: {}", crate::text::one_line(&reason)),
                            None,
                        );
                    }
                }
                Ok(Err(e)) => {
                    let hint = e.hint.clone();
                    return self.fail(step, &e, hint);
                }
                Err(_) => {
                    let message = format!("the client did not answer within {timeout}");
                    let hint = format!("give it longer with timeouts.{step} in the job");
                    return self.fail(step, &message, Some(hint));
                }
            }
        }
    }

    /// Compares the host's clock with the controller's.
    async fn compare_clocks(&mut self) {
        let mut best: Option<ClockOffset> = None;
        for _ in 0..CLOCK_EXCHANGES {
            let Some(channel) = self.channel.as_mut() else { return };
            let (asked, sent) = (SystemTime::now(), Instant::now());
            if channel.signal(Signal::Beat).await.is_err() {
                return;
            }
            let event = loop {
                let Some(channel) = self.channel.as_mut() else { return };
                let Ok(Ok(event)) = tokio::time::timeout(Duration::from_secs(5), channel.event()).await else { return };
                let stamp = event.at;
                let beat = matches!(event.kind, EventKind::Beat { .. });
                self.take(event);
                if beat {
                    break stamp;
                }
            };
            let round_trip = sent.elapsed().as_secs_f64();
            let asked = asked.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
            let offset =
                ClockOffset { ahead_s: event.unix_seconds() - (asked + round_trip / 2.0), error_s: round_trip / 2.0 };
            if best.is_none_or(|b| offset.error_s < b.error_s) {
                best = Some(offset);
            }
        }
        if let Some(offset) = best {
            self.note(HostEvent::Clock { offset });
        }
    }

    fn take(&mut self, event: Event) {
        self.after = self.after.max(event.seq);
        self.note(HostEvent::Client { event });
    }

    fn note(&self, event: HostEvent) {
        self.context.recorder.host(&self.host.name, event);
    }

    /// Awaits a step with its time-out and records its failure.
    async fn step<T, E: Display>(
        &mut self,
        step: &'static str,
        timeout: Span,
        work: impl Future<Output = Result<T, E>>,
        hint: impl Fn(&E) -> Option<String>,
    ) -> Option<T> {
        match tokio::time::timeout(timeout.0, work).await {
            Ok(Ok(value)) => Some(value),
            Ok(Err(e)) => {
                let hint = hint(&e);
                self.fail(step, &e, hint)
            }
            Err(_) => {
                let hint = format!("give it longer with timeouts.{step} in the job");
                self.fail(step, &format!("took longer than {timeout}"), Some(hint))
            }
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
        format!("what is there stays in {directory} on {}; fetch or remove it by hand", self.host)
    }
}

/// A table without rows says why, so that nobody looks for what was never there.
fn noting_emptiness(mut table: Table) -> Table {
    if table.rows == 0 && table.warnings.is_empty() {
        table.warnings.push("no rows: the window was shorter than one interval".to_owned());
    }
    table
}

fn with_hint<K: ErrorKind>(error: &PluginError<K>) -> String {
    match &error.hint {
        Some(hint) => format!("{error} ({hint})"),
        None => error.to_string(),
    }
}

/// The version of the first program that a profiler needs, as this host has it.
fn tool_version(proxy: &ProfilerProxy, facts: &HostFacts) -> Option<String> {
    let mut probes = proxy.encoder().profiler().tool_probes();
    let version = probes.find_map(|probe| facts.tools.get(&probe.name).map(|tool| tool.version.clone()));
    version.filter(|v| !v.is_empty())
}

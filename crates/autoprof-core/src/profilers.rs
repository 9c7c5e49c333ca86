//! The manager of a job's profilers: what Autotest's `job.profilers` was, for all hosts at once.
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use autoprof_protocol::{EventKind, Marker};
use futures_util::{StreamExt, future::join_all, stream::FuturesUnordered};

use crate::{
    args::{Args, ProfilerSpec},
    client::{Context, HostClient, Parcels},
    error::ArgError,
    host::Host,
    job,
    manifest::{HostStep, RunSettings},
    profiler::{LifecycleError, Origin, ProfilerProxy},
    registry::{NotRegistered, Registry},
    run::Recorder,
    store::ClientStore,
};

/// Why a profiler cannot be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddError {
    /// No such profiler.
    #[error(transparent)]
    Unknown(#[from] NotRegistered),
    /// Wrong arguments, or a second one of the name.
    #[error(transparent)]
    Lifecycle(#[from] LifecycleError),
}

impl AddError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Unknown(_) => Some("`autoprof profilers` lists what there is"),
            Self::Lifecycle(LifecycleError::Args(ArgError { hint, .. })) => hint.as_deref(),
            Self::Lifecycle(LifecycleError::Duplicate(_)) => Some("a profiler runs once on a host: name it once"),
            Self::Lifecycle(_) => None,
        }
    }
}

/// Profilers for every host, and for hosts that have their own: checked before anything touches a host.
#[derive(Debug, Default, Clone)]
pub struct ProfilerSet {
    proxies: Vec<ProfilerProxy>,
    own: BTreeMap<String, Vec<ProfilerProxy>>,
}

impl ProfilerSet {
    /// No profilers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a profiler for every host, initialized and set up.
    ///
    /// # Errors
    /// For an unknown profiler, wrong arguments, or a second one of the same name.
    pub fn add(&mut self, registry: &Registry, name: &str, args: &Args, origin: Origin) -> Result<(), AddError> {
        add(&mut self.proxies, registry, name, args, origin)
    }

    /// Adds what a user asked for: a profiler, or all of a preset. What a preset brings is left out where the user
    /// names it too.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn request(&mut self, registry: &Registry, specs: &[ProfilerSpec]) -> Result<(), AddError> {
        request(&mut self.proxies, registry, specs)
    }

    /// Gives one host profilers of its own, instead of those for every host.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn request_for(&mut self, registry: &Registry, host: &str, specs: &[ProfilerSpec]) -> Result<(), AddError> {
        request(self.own.entry(host.to_owned()).or_default(), registry, specs)
    }

    /// Drops every profiler of a name.
    pub fn delete(&mut self, name: &str) {
        self.proxies.retain(|p| p.name() != name);
        self.own.values_mut().for_each(|own| own.retain(|p| p.name() != name));
    }

    /// Whether there is any.
    #[must_use]
    pub fn present(&self) -> bool {
        !self.proxies.is_empty() || self.own.values().any(|own| !own.is_empty())
    }

    /// The names, in the order in which they were added.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for proxy in self.proxies.iter().chain(self.own.values().flatten()) {
            if !names.contains(&proxy.name()) {
                names.push(proxy.name());
            }
        }
        names
    }

    /// The profilers of a host.
    #[must_use]
    pub fn of(&self, host: &str) -> &[ProfilerProxy] {
        self.own.get(host).unwrap_or(&self.proxies)
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut ProfilerProxy> {
        self.proxies.iter_mut().chain(self.own.values_mut().flatten())
    }
}

fn add(
    to: &mut Vec<ProfilerProxy>,
    registry: &Registry,
    name: &str,
    args: &Args,
    origin: Origin,
) -> Result<(), AddError> {
    if to.iter().any(|p| p.name() == name) {
        return Err(LifecycleError::Duplicate(name.to_owned()).into());
    }
    let mut proxy = ProfilerProxy::initialize(registry.encoder(name)?, args, origin)?;
    proxy.setup(args)?;
    to.push(proxy);
    Ok(())
}

fn request(to: &mut Vec<ProfilerProxy>, registry: &Registry, specs: &[ProfilerSpec]) -> Result<(), AddError> {
    for spec in specs {
        let Some(members) = job::preset(&spec.name) else {
            add(to, registry, &spec.name, &spec.args, Origin::Named)?;
            continue;
        };
        if !spec.args.is_empty() {
            let message = format!("{} is a preset and takes no parameters", spec.name);
            return Err(LifecycleError::Args(ArgError::new(crate::error::ArgErrorKind::Unknown, message)).into());
        }
        for name in members {
            let named = specs.iter().any(|s| s.name == *name) || to.iter().any(|p| p.name() == *name);
            if !named {
                add(to, registry, name, &Args::new(), Origin::Preset(spec.name.clone()))?;
            }
        }
    }
    Ok(())
}

/// A set of profilers at work on hosts: one client per host runs all of a host's profilers.
///
/// Every method takes all hosts at once and returns when each is through; what fails on one host is recorded as that
/// host's and does not hold the others. The order is before_start (optional), start, stop, report; then start again.
pub struct Profilers {
    set: ProfilerSet,
    context: Arc<Context>,
    clients: BTreeMap<String, HostClient>,
    /// What stayed on hosts that are done with: host and directory.
    left: Vec<(String, String)>,
    /// How many windows there have been.
    window: u32,
    phase: ManagerPhase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ManagerPhase {
    Idle,
    Ready,
    Started,
    Stopped,
}

impl ManagerPhase {
    const fn word(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Ready => "ready",
            Self::Started => "started",
            Self::Stopped => "stopped",
        }
    }
}

impl std::fmt::Debug for Profilers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Profilers")
            .field("names", &self.set.names())
            .field("hosts", &self.clients.keys())
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}

impl Profilers {
    /// Profilers that have not touched any host yet.
    #[must_use]
    pub fn new(
        set: ProfilerSet,
        registry: Arc<Registry>,
        recorder: Arc<Recorder>,
        store: Arc<ClientStore>,
        settings: RunSettings,
    ) -> Self {
        let context = Arc::new(Context { registry, recorder, store, settings, parcels: Parcels::default() });
        Self { set, context, clients: BTreeMap::new(), left: Vec::new(), window: 1, phase: ManagerPhase::Idle }
    }

    /// Profilers that an earlier process started, as it recorded them.
    ///
    /// # Errors
    /// When a profiler of the run is not there any more.
    pub fn resume(registry: Arc<Registry>, recorder: Arc<Recorder>, store: Arc<ClientStore>) -> Result<Self, AddError> {
        let manifest = recorder.manifest();
        let mut set = ProfilerSet::new();
        for (name, host) in &manifest.hosts {
            let own = set.own.entry(name.clone()).or_default();
            for (profiler, record) in host.profilers.iter().filter(|(_, r)| r.invocation.is_some()) {
                let origin = record.preset.clone().map_or(Origin::Named, Origin::Preset);
                add(own, &registry, profiler, &record.args, origin)?;
            }
        }
        for proxy in set.all_mut() {
            proxy.start()?;
        }
        let context = Arc::new(Context {
            registry,
            recorder,
            store,
            settings: manifest.settings.clone(),
            parcels: Parcels::default(),
        });
        // One that is ready and was never opened counts as well: its clients are there.
        let ready = manifest.windows.is_empty() || manifest.hosts.values().any(|host| !host.earlier.is_empty());
        let window = u32::try_from(manifest.windows.len()).unwrap_or(u32::MAX).saturating_add(u32::from(ready));
        let hosts = manifest.hosts.into_values().map(|record| record.host);
        let clients = hosts.map(|host| (host.name.clone(), HostClient::resume(host, Arc::clone(&context)))).collect();
        // Where nothing was started yet there is nothing to stop, which is no error.
        let phase = ManagerPhase::Started;
        let mut profilers = Self { set, context, clients, left: Vec::new(), window, phase };
        let of_clients = profilers.window_directory();
        let clients = std::mem::take(&mut profilers.clients);
        profilers.clients = clients.into_iter().map(|(name, client)| (name, client.in_window(of_clients))).collect();
        Ok(profilers)
    }

    /// Which window's directory results go into: with several windows each has its own, else only a later one has.
    fn window_directory(&self) -> Option<u32> {
        (self.context.settings.several_windows || self.window > 1).then_some(self.window)
    }

    /// Whether they were started and not stopped.
    pub(crate) fn is_started(&self) -> bool {
        self.phase == ManagerPhase::Started
    }

    /// The profilers.
    #[must_use]
    pub fn set(&self) -> &ProfilerSet {
        &self.set
    }

    /// Connects to the hosts, finds out what each can do and encodes the profilers for it; no client is launched.
    /// Hosts that have left are cleaned.
    pub async fn survey(&mut self, hosts: &[Host]) {
        self.enter(hosts, Depth::Survey).await;
    }

    /// Puts a waiting client on every host that has none yet; hosts that have left are cleaned. What costs time is
    /// done here, outside of what is measured.
    ///
    /// # Errors
    /// When profilers are started already.
    pub async fn before_start(&mut self, hosts: &[Host]) -> Result<(), LifecycleError> {
        self.order("prepare", &[ManagerPhase::Idle, ManagerPhase::Ready])?;
        self.enter(hosts, Depth::Launch).await;
        self.compare_clocks(|client| !client.has_fresh_clock()).await;
        self.phase = ManagerPhase::Ready;
        Ok(())
    }

    /// Starts the profilers on every host; returns when each host's are known to collect, or to have failed.
    ///
    /// # Errors
    /// When they are started already.
    pub async fn start(&mut self, hosts: &[Host]) -> Result<(), LifecycleError> {
        self.before_start(hosts).await?;
        self.set.all_mut().try_for_each(ProfilerProxy::start)?;
        let timeout = self.context.settings.timeouts.start;
        let started = |kind: &EventKind| matches!(kind, EventKind::Started { .. });
        let at = Some(self.instant());
        join_all(self.up().map(|client| client.signal(Marker::Start, at, timeout, started))).await;
        self.phase = ManagerPhase::Started;
        Ok(())
    }

    /// Hears what the clients say while the profilers collect, and looks for those that are lost: a host that rebooted
    /// goes on in another segment. Every client is asked for a sign of life this often, which also keeps its lease.
    /// Ends never.
    ///
    /// May be dropped anywhere and begun anew.
    pub async fn watch(&mut self, beat: Duration) {
        let mut watching: FuturesUnordered<_> = self.clients.values_mut().map(|client| client.watch(beat)).collect();
        while watching.next().await.is_some() {}
        std::future::pending().await
    }

    /// Puts a name on every host's timeline, and into its kernel's trace where the user there may.
    pub async fn mark(&mut self, name: &str) {
        join_all(self.up().map(|client| client.mark(name))).await;
    }

    /// The same, and returns when every host's client has it.
    pub async fn mark_and_hear(&mut self, name: &str) {
        join_all(self.up().map(|client| client.mark_and_hear(name))).await;
    }

    /// Stops the profilers on every host; returns when every tool is gone.
    ///
    /// # Errors
    /// When they are not started.
    pub async fn stop(&mut self) -> Result<(), LifecycleError> {
        self.order("stop", &[ManagerPhase::Started])?;
        self.set.all_mut().try_for_each(ProfilerProxy::stop)?;
        let timeout = self.context.settings.timeouts.stop;
        // The instant is told by the hosts' own clocks, which somebody may have set since they were compared.
        join_all(self.up().map(HostClient::refresh_clock)).await;
        let stopped = |kind: &EventKind| matches!(kind, EventKind::Stopped);
        let at = Some(self.instant());
        join_all(self.up().map(|client| async move {
            if !client.has_passed(HostStep::Stopped) {
                client.signal(Marker::Stop, at, timeout, stopped).await;
            }
        }))
        .await;
        self.compare_clocks(|_| true).await;
        self.phase = ManagerPhase::Stopped;
        Ok(())
    }

    /// Compares the clocks of hosts with this one's: few at a time, since what else the machine does in between is taken
    /// for a longer way.
    async fn compare_clocks(&mut self, which: impl Fn(&HostClient) -> bool) {
        let clients = self.up().filter(|client| which(client));
        bounded(CLOCKS_AT_ONCE, clients, HostClient::compare_clocks).await;
    }

    /// The next instant that every host will know of before it comes: as far ahead as the farthest host's order and its
    /// acknowledgement take, and the work for all of them here.
    ///
    /// It is an instant of the clock that nobody sets: setting this machine's clock moves no start or stop.
    fn instant(&mut self) -> Instant {
        let round_trips = self.up().filter_map(|client| client.compared()).map(|compared| compared.round_trip());
        let farthest = round_trips.max().unwrap_or_default().min(LONGEST_LEAD);
        let hosts = u32::try_from(self.clients.len()).unwrap_or(u32::MAX);
        Instant::now() + farthest + (LEAD_OF_A_HOST * hosts).min(LONGEST_LEAD) + SHORTEST_LEAD
    }

    /// Makes the reports on the hosts, brings the results of every host back, and cleans the hosts.
    ///
    /// # Errors
    /// When the profilers are not stopped.
    pub async fn report(&mut self) -> Result<(), LifecycleError> {
        self.order("report", &[ManagerPhase::Stopped])?;
        self.set.all_mut().try_for_each(ProfilerProxy::report)?;
        let timeout = self.context.settings.timeouts.report;
        let is_reported = |kind: &EventKind| matches!(kind, EventKind::Reported);
        let set = &self.set;
        bounded(self.context.settings.forks, self.clients.values_mut(), |client| async move {
            let proxies: Vec<&ProfilerProxy> = set.of(&client.host().name).iter().collect();
            let mut reported = client.is_up() && client.has_passed(HostStep::Reported);
            if client.is_up() && !reported {
                reported = client.signal(Marker::Report, None, timeout, is_reported).await.is_some();
            }
            if reported {
                client.collect(&proxies).await;
            } else if client.has_collected_data() {
                // The client died or does not answer: what it had written is still worth having.
                client.salvage(&proxies).await;
            }
            // A client whose results could not be fetched stays, so that somebody else can.
            if !client.holds_results() {
                client.clean().await;
            }
        })
        .await;
        self.dismiss();
        self.window += 1;
        self.phase = ManagerPhase::Idle;
        Ok(())
    }

    /// Attaches to the clients of a run that an earlier process started, and hears what they did meanwhile. With
    /// [`Rejoin::Window`] those that are dead go on in another segment; with [`Rejoin::Results`] what they left is made
    /// ready to be fetched.
    pub async fn attach(&mut self, how: Rejoin) {
        let forks = self.context.settings.forks;
        bounded(forks, self.up(), |client| async move {
            client.rejoin(how).await;
        })
        .await;
    }

    /// Ends everything on every host at once; of the results nothing is wanted but what profilers left that failed.
    pub async fn abort_failed(&mut self) {
        bounded(self.context.settings.forks, self.clients.values_mut(), |client| client.fetch_failed()).await;
        self.abort().await;
    }

    /// Ends everything on every host at once; results are not wanted.
    pub async fn abort(&mut self) {
        bounded(self.context.settings.forks, self.clients.values_mut(), |client| client.clean()).await;
        self.dismiss();
        self.phase = ManagerPhase::Idle;
    }

    /// Lets the clients go on without this process.
    pub async fn detach(&mut self) {
        join_all(self.clients.values_mut().map(HostClient::detach)).await;
    }

    /// What is left on which host.
    #[must_use]
    pub fn left(&self) -> Vec<(String, String)> {
        self.left.iter().cloned().chain(self.clients.values().filter_map(HostClient::left)).collect()
    }

    /// Is done with the hosts, and remembers what stayed on them.
    fn dismiss(&mut self) {
        self.left.extend(std::mem::take(&mut self.clients).into_values().filter_map(|c| c.left()));
    }

    async fn enter(&mut self, hosts: &[Host], depth: Depth) {
        let stay = |name: &String| hosts.iter().any(|h| h.name == *name);
        let gone: Vec<String> = self.clients.keys().filter(|name| !stay(name)).cloned().collect();
        let mut leaving: Vec<HostClient> = gone.iter().filter_map(|name| self.clients.remove(name)).collect();
        let new: Vec<&Host> = hosts.iter().filter(|h| !self.clients.contains_key(&h.name)).collect();
        for host in &new {
            let client = HostClient::new((*host).clone(), Arc::clone(&self.context));
            let client = client.in_window(self.window_directory());
            self.clients.insert(host.name.clone(), client);
        }
        let forks = self.context.settings.forks;
        bounded(forks, leaving.iter_mut(), HostClient::clean).await;
        let set = &self.set;
        let entering = self.clients.values_mut().filter(|c| new.iter().any(|h| h.name == c.host().name));
        bounded(forks, entering, |client| async move {
            let proxies = set.of(&client.host().name);
            if let (Some(()), Depth::Launch) = (client.survey(proxies).await, depth) {
                client.launch().await;
            }
        })
        .await;
    }

    fn up(&mut self) -> impl Iterator<Item = &mut HostClient> {
        self.clients.values_mut().filter(|client| client.is_up())
    }

    fn order(&self, step: &'static str, from: &[ManagerPhase]) -> Result<(), LifecycleError> {
        if from.contains(&self.phase) {
            return Ok(());
        }
        Err(LifecycleError::Order { profiler: "profilers".into(), step, phase: self.phase.word().into() })
    }
}

/// How far ahead an instant is chosen at least: a line through two programs of the host.
const SHORTEST_LEAD: Duration = Duration::from_millis(2);
/// How many hosts' clocks are compared at the same time.
const CLOCKS_AT_ONCE: u32 = 16;
/// How much farther for each host.
const LEAD_OF_A_HOST: Duration = Duration::from_micros(300);
/// How much farther at most for the distance, and for all hosts together: who needs longer begins late, and says so.
const LONGEST_LEAD: Duration = Duration::from_secs(1);

/// How far hosts are taken.
#[derive(Debug, Clone, Copy)]
enum Depth {
    Survey,
    Launch,
}

/// What an earlier process's run is taken up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejoin {
    /// To go on collecting; a host that does not answer is looked for.
    Window,
    /// To be told something; a host that does not answer is left out.
    Look,
    /// To be ended and fetched.
    Results,
}

/// Works on many clients, so many at a time.
async fn bounded<'a, F: Future<Output = ()>>(
    forks: u32,
    clients: impl Iterator<Item = &'a mut HostClient>,
    work: impl Fn(&'a mut HostClient) -> F,
) {
    let limit = usize::try_from(forks.max(1)).unwrap_or(1);
    futures_util::stream::iter(clients).for_each_concurrent(limit, work).await;
}

impl HostClient {
    /// The host and the directory that is still on it.
    fn left(&self) -> Option<(String, String)> {
        Some((self.host().name.clone(), self.directory()?.to_owned()))
    }

    /// Whether there are results on the host that are not here.
    fn holds_results(&self) -> bool {
        self.directory().is_some() && !self.is_up() && self.has_collected_data()
    }
}

//! Puts together what a run works with: plugins, client programs, settings from flags and job file.
use std::{collections::BTreeSet, sync::Arc};

use autoprof_core::{
    Host, Registry,
    args::ProfilerSpec,
    conduct::{Environment, Interrupts, Plan, Work},
    duration::Span,
    error::ArgErrorKind,
    job::{JobFile, JobHost, PRESETS},
    manifest::{RunSettings, Sudo},
    profiler::LifecycleError,
    profilers::{AddError, ProfilerSet},
    protocol::DiskLimits,
    run::{DEFAULT_RESULTS, Place},
    size::Size,
    store::ClientStore,
    test::Test,
    trust::check_programs,
};
use autoprof_loader::{LoadError, Lock, Plugins, Policy, Trust};
use camino::{Utf8Path, Utf8PathBuf};

use crate::{
    cli::{Global, Reach, RunOptions, Targets},
    exit::Failure,
    files, hosts,
    screen::{self, Say, Screen, Terminal, TestStdout, TestStreams},
};

/// How long clients of `start` go on.
const START_MAX: Span = Span::seconds(3600);
/// `DIR/ARCH/autoprof-client`.
const CLIENT_DEPTH: usize = 2;

/// The job file that was named, or an empty job.
pub fn read_job(path: Option<&Utf8Path>) -> Result<JobFile, Failure> {
    let Some(path) = path else { return Ok(JobFile::default()) };
    let text = read_bounded(path).map_err(|source| Failure::JobFile { path: path.to_owned(), source })?;
    JobFile::parse(&text).map_err(|source| Failure::Job { path: path.to_owned(), source })
}

/// A file's text, as far as a text that is read may be long.
fn read_bounded(path: &Utf8Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path)?.take(autoprof_core::yaml::MAX_BYTES as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}

/// The plugins that are there; none of their code has run.
pub fn plugins(global: &Global) -> Result<Plugins, Failure> {
    let given = global.plugin_dir.iter().map(|dir| ("--plugin-dir", dir));
    for (flag, dir) in given.chain(global.client_dir.iter().map(|dir| ("--client-dir", dir))) {
        if !dir.is_dir() {
            let what = if dir.exists() { "not a directory" } else { "no such directory" };
            return Err(Failure::with_hint(
                format!("{flag} {dir:?}: {what}"),
                "correct the path, or leave the flag out",
            ));
        }
    }
    Ok(Plugins::scan(&global.plugin_dir, policy(global)?))
}

/// Which plugins are taken: by whose they are, and by what they contain.
pub fn policy(global: &Global) -> Result<Policy, Failure> {
    let lock = Lock::find(global.plugins_lock.as_deref())?;
    Ok(Policy::new(trust(global), lock))
}

/// Whose plugins are taken.
pub fn trust(global: &Global) -> Trust {
    if global.allow_untrusted_plugins { Trust::Any } else { Trust::Owned }
}

/// Loads the plugins that a run on these hosts needs.
pub fn registry<'a>(
    global: &Global,
    profilers: impl IntoIterator<Item = &'a str>,
    transports: impl IntoIterator<Item = &'a str>,
    signaler: &str,
) -> Result<Registry, Failure> {
    let plugins = plugins(global)?;
    let mut registry = Registry::new(Arc::new(Terminal));
    let wanted: Vec<String> = profilers
        .into_iter()
        .map(|name| format!("profiler:{name}"))
        .chain(transports.into_iter().map(|name| format!("transport:{name}")))
        .chain([format!("signaler:{signaler}")])
        .collect();
    plugins.load(wanted.iter().map(String::as_str), &mut registry)?;
    Ok(registry)
}

/// Whose run directories are used.
pub fn run_trust(everybody: bool) -> Trust {
    if everybody { Trust::Any } else { Trust::Owned }
}

/// Client programs, in the order in which they are looked for. They run with the rights of the users that the hosts are
/// reached as, so that others must not be able to replace them.
pub fn store(global: &Global) -> Result<ClientStore, Failure> {
    let mut directories = global.client_dir.clone();
    if let Ok(dirs) = std::env::var("AUTOPROF_CLIENT_DIR") {
        directories.extend(dirs.split(':').filter(|d| !d.is_empty()).map(Utf8PathBuf::from));
    }
    if trust(global) == Trust::Owned {
        for directory in directories.iter().filter(|directory| directory.exists()) {
            check_programs(directory, CLIENT_DEPTH).map_err(|e| {
                Failure::with_hint(
                    format!("client programs in {directory} are not trusted: {e}"),
                    "change its owner or mode, or allow them with --allow-untrusted-plugins",
                )
            })?;
        }
    }
    let exe = std::env::current_exe().ok();
    let bin = exe.as_deref().and_then(Utf8Path::from_path).and_then(Utf8Path::parent);
    let own = bin.map(|bin| bin.join("../lib/autoprof/clients")).into_iter();
    let own = own.chain(["/usr/local/lib/autoprof/clients", "/usr/lib/autoprof/clients"].map(Utf8PathBuf::from));
    directories.extend(own.filter(|directory| {
        let checked = match trust(global) {
            Trust::Owned if directory.exists() => check_programs(directory, CLIENT_DEPTH),
            _ => Ok(()),
        };
        checked.inspect_err(|e| screen::line(&format!("client programs in {directory} are not used: {e}"))).is_ok()
    }));
    Ok(ClientStore::new(directories))
}

/// Hosts and profilers that were asked for, checked.
pub struct Asked {
    /// The hosts.
    pub hosts: Vec<Host>,
    /// The profilers.
    pub set: ProfilerSet,
    /// What they are made of.
    pub registry: Arc<Registry>,
}

/// Reads hosts and profilers from flags and job, loads what they need and checks every argument; touches no host.
pub fn asked(global: &Global, targets: &Targets, job: &JobFile) -> Result<Asked, Failure> {
    let hosts = hosts(&targets.reach, job)?;
    let specs: Vec<ProfilerSpec> = if !targets.profilers.is_empty() {
        targets.profilers.iter().flat_map(|list| list.0.clone()).collect()
    } else if !job.profilers.is_empty() {
        job.profilers.iter().map(|p| p.0.clone()).collect()
    } else {
        vec![ProfilerSpec { name: "light".into(), args: autoprof_core::Args::new() }]
    };
    let own = hosts.iter().filter_map(|h| h.own_profilers.as_ref()).flatten();
    let of_groups = job.groups.values().flat_map(|group| group.profilers.iter().chain(&group.also)).map(|p| &p.0);
    let mut names: Vec<&str> = Vec::new();
    for spec in specs.iter().chain(own).chain(of_groups) {
        match autoprof_core::job::preset(&spec.name) {
            Some(members) => names.extend(members),
            None => names.push(&spec.name),
        }
    }
    names.sort_unstable();
    names.dedup();
    let registry = registry(global, names, transports(&hosts), signaler(job)).map_err(with_presets)?;
    let registry = Arc::new(registry);
    let mut set = ProfilerSet::new();
    set.request(&registry, &specs)?;
    for host in &hosts {
        if let Some(own) = job.profilers_of(host, &specs)? {
            set.request_for(&registry, &host.host.name, &own)?;
        }
    }
    let all = specs
        .iter()
        .chain(hosts.iter().filter_map(|h| h.own_profilers.as_ref()).flatten())
        .chain(job.groups.values().flat_map(|group| group.profilers.iter().chain(&group.also)).map(|p| &p.0));
    all.filter(|spec| autoprof_core::job::preset(&spec.name).is_none())
        .try_for_each(|spec| could_run(&registry, spec))?;
    files::allow(hosts.len());
    Ok(Asked { hosts: hosts.into_iter().map(|h| h.host).collect(), set, registry })
}

/// Finds what is wrong with a profiler's arguments on any host, such as one that is required and missing: asked on a host
/// that has everything, so that nobody connects to a fleet to learn of it.
fn could_run(registry: &Registry, spec: &ProfilerSpec) -> Result<(), Failure> {
    let encoder = registry.encoder(&spec.name).map_err(AddError::from)?;
    let args = spec.args.complete(encoder.profiler()).map_err(LifecycleError::Args).map_err(AddError::from)?;
    let mut facts = autoprof_plugin::conformance::rich_host(encoder.profiler());
    facts.cpus = 1 << 16;
    match encoder.encode(&args, &facts) {
        Err(e)
            if [ArgErrorKind::Unknown, ArgErrorKind::Type, ArgErrorKind::Range, ArgErrorKind::Conflict]
                .contains(&e.kind) =>
        {
            Err(AddError::from(LifecycleError::Args(e)).into())
        }
        _ => Ok(()),
    }
}

/// The hosts that were asked for, and whether the directory that is wanted on them can be had.
pub fn hosts(reach: &Reach, job: &JobFile) -> Result<Vec<JobHost>, Failure> {
    let hosts = hosts::hosts(reach, job)?;
    if let Some(tmpdir) = reach.tmpdir.as_ref().or(job.tmpdir.as_ref()) {
        if !tmpdir.starts_with('/') || tmpdir.trim_end_matches('/').is_empty() {
            let message = format!("tmpdir {tmpdir:?} is not an absolute path below /");
            return Err(Failure::with_hint(message, "such as /var/tmp/profilers"));
        }
        if let Some(odd) = tmpdir.chars().find(|c| !c.is_ascii_alphanumeric() && !"/._-+@,:".contains(*c)) {
            let message = format!("tmpdir {tmpdir:?} has {odd:?} in it, which some hosts' shells could take amiss");
            return Err(Failure::with_hint(message, "letters, digits and /._-+@,: are taken"));
        }
    }
    Ok(hosts)
}

/// The transports that reach some hosts.
pub fn transports(hosts: &[JobHost]) -> BTreeSet<&str> {
    hosts.iter().map(|known| known.host.transport.as_str()).collect()
}

/// Where no profiler's name is near, a preset's may have been meant.
fn with_presets(failure: Failure) -> Failure {
    let Failure::Plugins(LoadError::NotProvided { wanted, .. }) = &failure else { return failure };
    let preset = autoprof_core::text::nearest(&wanted.name, PRESETS.iter().map(|(name, _)| *name));
    match (&wanted.nearest, preset) {
        (None, Some(preset)) if wanted.kind == "profiler" => {
            Failure::usage(format!("unknown profiler {:?}: did you mean the preset {preset:?}?", wanted.name))
        }
        _ => failure,
    }
}

/// How clients are signalled.
pub fn signaler(job: &JobFile) -> &str {
    job.signaler.as_deref().unwrap_or("marker")
}

/// Whether a run ends with this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// The run ends with this process.
    Attached {
        /// How long clients go on without it.
        lease: Option<Span>,
    },
    /// The run goes on when this process ends.
    Detached,
}

/// The settings of a run.
pub fn settings(reach: &Reach, job: &JobFile, options: Option<&RunOptions>, life: Life) -> RunSettings {
    let max = options.and_then(|o| o.max_duration);
    let quota = |given: Option<Size>, in_job: Option<Size>| given.or(in_job).map(|size| size.0);
    let default = RunSettings::default();
    let (lease_ms, default_max_ms) = match life {
        Life::Attached { lease } => {
            (lease.or(job.limits.lease).map(Span::as_millis).or(default.lease_ms), default.max_duration_ms)
        }
        Life::Detached => (job.limits.lease.map(Span::as_millis), START_MAX.as_millis()),
    };
    RunSettings {
        signaler: signaler(job).to_owned(),
        tmpdir: reach.tmpdir.clone().or_else(|| job.tmpdir.clone()).unwrap_or(default.tmpdir),
        keep: options.is_some_and(|o| o.keep) || job.keep,
        keep_client: options.is_some_and(|o| o.keep_client) || job.keep_client,
        forks: reach.forks.or(job.forks).unwrap_or(default.forks),
        lease_ms,
        max_duration_ms: max.or(job.limits.max_duration).map_or(default_max_ms, Span::as_millis),
        timeouts: job.timeouts.clone(),
        disk: DiskLimits {
            host_bytes: quota(options.and_then(|o| o.host_quota), job.limits.host_quota),
            profiler_bytes: quota(options.and_then(|o| o.profiler_quota), job.limits.profiler_quota),
            keep_free_percent: job.limits.keep_free,
        },
        checkpoint_ms: options.and_then(|o| o.checkpoint).or(job.checkpoint).map(Span::as_millis),
        several_windows: job.windows.is_some(),
        sudo: if reach.sudo || job.sudo { Sudo::Allowed } else { Sudo::Never },
    }
}

/// What is to be done, from flags and job.
pub fn plan(asked: Asked, options: &RunOptions, job: &JobFile, work: Work, life: Life) -> Plan {
    let place = match (&options.output, &options.results, &job.results) {
        (Some(exact), ..) => Place::At(exact.clone()),
        (None, Some(below), _) | (None, None, Some(below)) => Place::Below(below.clone()),
        (None, None, None) => Place::Below(DEFAULT_RESULTS.into()),
    };
    Plan {
        name: options.name.clone().or_else(|| job.name.clone()),
        place,
        hosts: asked.hosts,
        profilers: asked.set,
        windows: job.windows.clone().filter(|_| matches!(work, Work::Test(_))),
        work,
        require: options.require.unwrap_or(job.require),
        settings: settings(&options.targets.reach, job, Some(options), life),
    }
}

/// The test that was asked for, if one was.
pub fn test(command: &[String], timeout: Option<Span>, job: &JobFile) -> Option<Test> {
    let mut test = match (command, &job.test) {
        ([], None) => return None,
        ([], Some(spec)) => Test::from(spec.clone()),
        (argv, _) => Test {
            argv: argv.to_vec(),
            directory: None,
            env: Default::default(),
            timeout: None,
            record_env: Vec::new(),
        },
    };
    test.timeout = timeout.or(test.timeout);
    Some(test)
}

/// What a run works with.
pub fn environment(
    global: &Global,
    registry: Arc<Registry>,
    interrupts: Interrupts,
    screen: &Arc<Screen>,
    stdout: TestStdout,
) -> Result<Environment, Failure> {
    Ok(Environment {
        registry,
        store: Arc::new(store(global)?),
        observers: vec![Arc::clone(screen) as _],
        interrupts,
        output: Arc::new(TestStreams::new(stdout)),
        live: screen.is_live(),
        update_host: None,
    })
}

/// How much is said.
pub fn say(global: &Global) -> Say {
    match (global.quiet, global.verbose) {
        (true, _) => Say::Errors,
        (false, 0) => Say::Phases,
        (false, _) => Say::Steps,
    }
}

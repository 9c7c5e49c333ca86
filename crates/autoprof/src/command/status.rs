//! `autoprof status`, `stop` and `report`: runs that another process began.
use std::{collections::BTreeSet, sync::Arc};

use autoprof_core::{
    conduct,
    manifest::{Manifest, RunPhase},
    run::{self, RunError},
    text::one_line,
    trust::{self, Trust},
};
use autoprof_report::{size::bytes, summary::summary};
use camino::Utf8Path;

use crate::{
    cli::{Attach, Global, List, Mark, OneRun, Status, Which},
    command::{
        report::render,
        run::{conclude, runtime},
    },
    exit::{self, Failure},
    interrupt, paint, print, print_json,
    screen::{Screen, TestStdout},
    ssh::SshOptions,
    wire,
};

/// Shows one run, or a line for each.
pub fn status(global: &Global, status: &Status) -> Result<u8, Failure> {
    let paint = paint(global, std::io::IsTerminal::is_terminal(&std::io::stdout()));
    if let Some(wanted) = &status.run {
        let directory = run::find(wanted, &status.results)?;
        let manifest = run::read(&directory)?;
        if status.json {
            print_json(&manifest);
        } else {
            print(&format!("{}\n{}", headline(&manifest), summary(&manifest, paint)));
        }
        return Ok(0);
    }
    let manifests = run::list(&status.results).into_iter().filter_map(|id| run::read(&status.results.join(id)).ok());
    if status.json {
        let all: Vec<Manifest> = manifests.collect();
        print_json(&all);
    } else {
        let lines: Vec<String> = manifests.map(|m| format!("{}\n", headline(&m))).collect();
        match lines.as_slice() {
            [] => print(&format!("no runs in {}\n", status.results)),
            lines => print(&lines.concat()),
        }
    }
    Ok(0)
}

/// A run in one line: id, phase, how long, hosts, profilers, bytes.
fn headline(manifest: &Manifest) -> String {
    let mut profilers: Vec<&str> =
        manifest.hosts.values().flat_map(|h| h.profilers.keys().map(String::as_str)).collect();
    profilers.sort_unstable();
    profilers.dedup();
    let total: u64 = manifest.hosts.values().map(autoprof_core::manifest::HostRecord::bytes).sum();
    let whole = manifest.whole_hosts();
    let age = autoprof_core::duration::Span(elapsed(manifest));
    let hosts = manifest.hosts.len();
    format!(
        "{}  {}  {age}  {whole} of {hosts} hosts ok  {}  {}",
        manifest.id,
        manifest.phase.word(),
        profilers.join(","),
        bytes(total)
    )
}

/// How long the run has gone on, or how long its profilers collected when it is over.
fn elapsed(manifest: &Manifest) -> std::time::Duration {
    let ended = manifest.hosts.values().flat_map(|h| h.profilers.values()).filter_map(|p| p.ended).map(|i| i.utc).max();
    let until = match manifest.phase {
        RunPhase::Preparing | RunPhase::Running => autoprof_core::now(),
        // A run that never began has taken no time to speak of.
        RunPhase::Stopped | RunPhase::Collecting | RunPhase::Finished => ended.unwrap_or(manifest.created),
    };
    let span = until.duration_since(manifest.created);
    std::time::Duration::from_secs(u64::try_from(span.as_secs()).unwrap_or(0))
}

/// Stops the profilers of a run.
pub fn stop(global: &Global, one: &OneRun) -> Result<u8, Failure> {
    let outcome = with_run(global, &one.which, conduct::stop)?;
    conclude(global, &outcome, one.json);
    Ok(exit::of_run(&outcome))
}

/// Brings the results of a run back.
pub fn report(global: &Global, one: &OneRun, no_report: bool) -> Result<u8, Failure> {
    let outcome = with_run(global, &one.which, conduct::report)?;
    conclude(global, &outcome, one.json);
    let code = exit::of_run(&outcome);
    Ok(if no_report { code } else { render(global, &outcome, code) })
}

/// Lists runs.
pub fn list(global: &Global, list: &List) -> Result<u8, Failure> {
    status(global, &Status { run: None, results: list.results.clone(), json: list.json })
}

/// Goes on with a run whose process is gone.
pub fn attach(global: &Global, attach: &Attach) -> Result<u8, Failure> {
    let duration = attach.duration;
    let outcome = with_run(global, &attach.which, async |run, env| conduct::attach(run, env, duration).await)?;
    conclude(global, &outcome, attach.json);
    let code = render(global, &outcome, exit::of_run(&outcome));
    // A status that nobody knows is not one that a script should take for success.
    let unknown = outcome.manifest.test.as_ref().is_some_and(|test| test.exit_code == Some(u8::MAX));
    Ok(match code {
        0 if unknown => exit::PROFILING_FAILED,
        code => code,
    })
}

/// Puts a named instant on every host's timeline.
pub fn mark(global: &Global, mark: &Mark) -> Result<u8, Failure> {
    with_run(global, &mark.which, async |run, env| conduct::mark(run, &mark.name, env).await)?;
    Ok(0)
}

/// Does something with a run that another process began, with the plugins that it was begun with.
fn with_run<T>(
    global: &Global,
    which: &Which,
    work: impl AsyncFnOnce(&Utf8Path, conduct::Environment) -> Result<T, conduct::ConductError>,
) -> Result<T, Failure> {
    let directory = run::find(&which.run, &which.results)?;
    run::check(&directory, wire::run_trust(which.trust))?;
    let manifest = run::read(&directory)?;
    check_reach(&manifest, &directory, which)?;
    let registry = Arc::new(registry_of(global, &manifest)?);
    let runtime = runtime()?;
    let _inside = runtime.enter();
    let interrupts = interrupt::listen()?;
    let screen = Arc::new(Screen::new(wire::say(global)));
    let mut env = wire::environment(global, registry, interrupts, &screen, TestStdout::Stdout)?;
    let ssh = SshOptions::of(&which.ssh)?;
    env.update_host = Some(Arc::new(move |host| ssh.apply(host, false)));
    let done = runtime.block_on(work(&directory, env));
    screen.close();
    // Plugins have threads of their own; what an interruption left running must not hold the exit.
    runtime.shutdown_background();
    done.map_err(|e| with_owner(e, &directory))
}

/// Checks the files by which a run's record says that its hosts are reached: a configuration of SSH names programs that are
/// run here.
fn check_reach(manifest: &Manifest, directory: &Utf8Path, which: &Which) -> Result<(), Failure> {
    let hosts = || manifest.hosts.values();
    let configs = hosts().filter(|_| which.ssh_config.is_none()).filter_map(|host| host.host.option("ssh_config"));
    let keys = hosts().filter_map(|host| host.host.identity_file.as_deref()).map(Utf8Path::as_str);
    let clients = hosts().filter(|host| host.host.transport == autoprof_core::host::LOCAL);
    let clients = clients.filter_map(|host| host.client.as_ref()).map(|client| client.directory.as_str());
    let files: BTreeSet<&str> = configs.filter(|config| *config != "none").chain(keys).chain(clients).collect();
    let inside = directory.canonicalize_utf8()?;
    for file in files {
        let path = Utf8Path::new(file);
        // One that is not there does nothing, or is said to be missing by whoever needs it.
        let Ok(real) = path.canonicalize_utf8() else { continue };
        if real.starts_with(&inside) {
            let message = format!("{directory} names a file of its own by which hosts are reached: {}", one_line(file));
            return Err(Failure::with_hint(message, "if it is yours, move it elsewhere and name it with --ssh-config"));
        }
        if let (false, Err(e)) = (which.trust, trust::find(path, Trust::Owned)) {
            let message = format!("{} is not trusted: {e}", one_line(file));
            return Err(Failure::with_hint(message, "change its owner or mode; if you trust them, use --trust"));
        }
    }
    Ok(())
}

/// Names what to do about a run that another process conducts.
fn with_owner(error: conduct::ConductError, directory: &Utf8Path) -> Failure {
    match error {
        conduct::ConductError::Run(RunError::Busy(_)) => Failure::Usage {
            message: format!("{directory} is being conducted by another autoprof process that goes on"),
            hint: Some("interrupt that process (Ctrl-C, or kill -INT): it stops, collects and reports".into()),
        },
        other => other.into(),
    }
}

/// The plugins that a run was begun with.
fn registry_of(global: &Global, manifest: &Manifest) -> Result<autoprof_core::Registry, Failure> {
    let mut profilers: Vec<&str> = manifest
        .hosts
        .values()
        .flat_map(|h| h.profilers.iter())
        .filter(|(_, record)| record.invocation.is_some())
        .map(|(name, _)| name.as_str())
        .collect();
    profilers.sort_unstable();
    profilers.dedup();
    let mut transports: Vec<&str> = manifest.hosts.values().map(|h| h.host.transport.as_str()).collect();
    transports.sort_unstable();
    transports.dedup();
    wire::registry(global, profilers, transports, &manifest.settings.signaler)
}

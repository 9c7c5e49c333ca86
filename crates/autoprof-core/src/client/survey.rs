//! What is done on a host before a client runs there: its program is installed, and what would run is planned.
use std::sync::Arc;

use autoprof_protocol::{HostFacts, Invocation, ToolProbe};
use bytes::Bytes;

use super::{HostClient, Trouble, files, within};
use crate::{
    error::{ArgError, ArgErrorKind, ErrorKind, PluginError},
    event::HostEvent,
    install::{self, Begun, Wanted},
    manifest::Sudo,
    profiler::{Origin, ProfilerProxy},
    sudo::Script,
    text,
    transport::{Command, capture},
};

/// Most that a command may print on standard error when it is tried.
const MOST_SUDO: usize = 64 * 1024;

impl HostClient {
    /// Connects, installs, plans: everything that touches the host before a client runs.
    pub(crate) async fn survey(&mut self, proxies: &[ProfilerProxy]) -> Option<()> {
        self.note(HostEvent::Connecting);
        let connected = self.connect().await;
        self.or_fail("connect", connected)?;
        let probes: Vec<ToolProbe> =
            proxies.iter().flat_map(|proxy| proxy.encoder().profiler().tool_probes()).collect();
        let installed = self.install(&probes).await;
        let Some(mut facts) = self.or_fail("install", installed) else {
            self.remove_without_client().await;
            return None;
        };
        facts.sudo = self.context.settings.sudo != Sudo::Never && facts.uid != 0;
        self.note(HostEvent::Facts { facts: Box::new(facts.clone()) });
        let planned = self.plan(proxies, &facts).await;
        self.or_fail("sudo", planned)?;
        self.boot_id = Some(facts.boot_id.clone());
        self.facts = Some(facts);
        Some(())
    }

    /// Makes a directory on the host and puts the client's program into it.
    pub(super) async fn install(&mut self, probes: &[ToolProbe]) -> Result<HostFacts, Trouble> {
        let session = self.connect().await?;
        let timeout = self.context.settings.timeouts.install;
        let tmpdir = self.context.settings.tmpdir.clone();
        let store = Arc::clone(&self.context.store);
        let wanted = Wanted { tmpdir: &tmpdir, probes, keep_client: self.context.settings.keep_client };
        let begun = within("install", timeout, install::begin(session.as_ref(), &store, wanted)).await?;
        let kept = begun.kept;
        match self.finish(begun).await {
            Err(trouble) if kept && !trouble.lost => {
                // A crash of the host may have torn the program that an earlier run left there.
                tracing::info!(host = %self.host, "the kept client is not used: {}", trouble.message);
                // A program that is not ours may have made the script believe that all went well.
                self.remove_without_client().await;
                let begun = within("install", timeout, install::begin_anew(session.as_ref(), wanted)).await?;
                self.finish(begun).await
            }
            other => other,
        }
    }

    /// Notes where the client is going to be, and puts it there.
    async fn finish(&mut self, begun: Begun) -> Result<HostFacts, Trouble> {
        let (tmpdir, timeout) = (&self.context.settings.tmpdir, self.context.settings.timeouts.install);
        let probed = &begun.probed;
        if !probed.directory.starts_with(&format!("{}/", tmpdir.trim_end_matches('/'))) {
            let own = &probed.directory;
            tracing::warn!(host = %self.host, "{tmpdir} on it can be changed by others, so that {own} is used");
        }
        self.directory = Some(probed.directory.clone());
        self.note(if self.after == 0 {
            HostEvent::Installing { directory: probed.directory.clone() }
        } else {
            HostEvent::Reinstalled { directory: probed.directory.clone() }
        });
        let store = Arc::clone(&self.context.store);
        within("install", timeout, begun.finish(&store)).await
    }

    /// Encodes every profiler for this host.
    async fn plan(&mut self, proxies: &[ProfilerProxy], facts: &HostFacts) -> Result<(), Trouble> {
        for proxy in proxies {
            let (profiler, args) = (proxy.name().to_owned(), proxy.args().clone());
            let preset = proxy.origin().preset().map(str::to_owned);
            let facts = &usable_by(proxy, facts);
            let encoded = match proxy.encode(facts) {
                Ok(invocation) => match files::unreadable(&invocation.files) {
                    Some(reason) => Err(reason),
                    None => self.refused_by_sudo(&invocation).await?.map_or(Ok(invocation), Err),
                },
                Err(e) => Err(unusable(proxy, facts, &e).unwrap_or_else(|| with_hint(&e))),
            };
            self.note(match encoded {
                Ok(invocation) => {
                    let tool_version = tool_version(proxy, facts);
                    HostEvent::Planned { profiler, preset, args, invocation: invocation.into(), tool_version }
                }
                Err(reason) => match proxy.origin() {
                    Origin::Named => HostEvent::Refused { profiler, args, reason },
                    Origin::Preset(_) => HostEvent::Skipped { profiler, preset, args, reason },
                },
            });
        }
        Ok(())
    }

    /// Why what a profiler runs as root cannot be run by sudo there, if it cannot: it is run, for nothing. What sudo says
    /// of its rules is whether they allow a command, not whether without a password.
    async fn refused_by_sudo(&mut self, invocation: &Invocation) -> Result<Option<String>, Trouble> {
        let timeout = self.context.settings.timeouts.install;
        for argv in invocation.root_commands() {
            let script = match Script::of(argv) {
                Ok(script) => script,
                Err(e) => return Ok(Some(e.to_string())),
            };
            if self.context.settings.sudo != Sudo::Allowed {
                continue;
            }
            let session = self.connect().await?;
            let trial = Command::sh("exec sudo -n -- \"$1\" > /dev/null", [script.path.clone()]);
            let trial = capture(session.as_ref(), &trial, Bytes::new(), MOST_SUDO);
            let trial = within("install", timeout, trial).await?;
            if !trial.status.success() {
                let said = text::one_line(&trial.stderr_text());
                let command = Command::new(argv.iter().cloned());
                return Ok(Some(format!(
                    "cannot be run by sudo ({}: {said}): {command}, as {} (`autoprof check --sudoers` prints what root \
                     has to put there)",
                    trial.status, script.path
                )));
            }
        }
        Ok(None)
    }
}

/// The facts without the tools that are older than the profiler requires.
fn usable_by(proxy: &ProfilerProxy, facts: &HostFacts) -> HostFacts {
    let mut facts = facts.clone();
    for probe in proxy.encoder().profiler().tool_probes() {
        if let Some(old) = facts.tools.get(&probe.name).and_then(|tool| probe.too_old(tool)) {
            facts.tools.remove(&probe.name);
            facts.unusable.push(old);
        } else if probe.version_flag.is_some() && facts.unusable.iter().any(|one| one.name == probe.name) {
            // Another profiler takes it without a check.
            facts.tools.remove(&probe.name);
        }
    }
    facts
}

/// Why a profiler cannot run that takes a tool for missing: it is installed, but does not work.
fn unusable(proxy: &ProfilerProxy, facts: &HostFacts, error: &ArgError) -> Option<String> {
    if error.kind != ArgErrorKind::Missing {
        return None;
    }
    let tools = proxy.encoder().profiler().tool_probes();
    let why = |probe: ToolProbe| {
        let unusable = facts.unusable.iter().find(|one| one.name == probe.name)?;
        Some(format!("cannot use {}: {unusable}", probe.name))
    };
    let why: Vec<String> = tools.filter_map(why).collect();
    (!why.is_empty()).then(|| text::one_line(&why.join("; ")))
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
    version.filter(|v| !v.is_empty()).map(|v| v.to_string())
}

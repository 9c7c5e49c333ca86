//! Finding and removing what dead runs left on hosts.
use std::{collections::BTreeMap, sync::Arc};

use autoprof_protocol::Swept;
use bytes::Bytes;
use futures_util::StreamExt as _;

use crate::{
    client::{Trouble, within},
    host::Host,
    install::{self, Wanted},
    manifest::RunSettings,
    registry::Registry,
    store::ClientStore,
    transport::{Command, Session, capture},
};

/// Most that a host may say of what it found.
const MOST_SAID: usize = 16 << 20;

/// What to do with what is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sweep {
    /// Only say what is there.
    List,
    /// Remove what nobody uses and what holds no results.
    Remove,
    /// Remove results that nobody has fetched as well.
    RemoveWithResults,
}

/// Looks on every host for client directories of the user who logs in, and removes those that are dead. Gives for each
/// host what was found, or why nothing could be.
pub async fn sweep(
    hosts: &[Host],
    registry: &Registry,
    store: &Arc<ClientStore>,
    settings: &RunSettings,
    how: Sweep,
) -> BTreeMap<String, Result<Vec<Swept>, String>> {
    let forks = usize::try_from(settings.forks.max(1)).unwrap_or(1);
    futures_util::stream::iter(hosts)
        .map(|host| async move {
            let swept = sweep_host(host, registry, store, settings, how).await;
            (host.name.clone(), swept.map_err(|e| e.to_string()))
        })
        .buffer_unordered(forks)
        .collect()
        .await
}

async fn sweep_host(
    host: &Host,
    registry: &Registry,
    store: &ClientStore,
    settings: &RunSettings,
    how: Sweep,
) -> Result<Vec<Swept>, Trouble> {
    let timeouts = &settings.timeouts;
    let transport = registry.transport(&host.transport)?;
    let session = within("connect", timeouts.connect, transport.connect(host)).await?;
    let wanted = Wanted { tmpdir: &settings.tmpdir, probes: &[], keep_client: false };
    let beginning = install::begin(session.as_ref(), store, wanted);
    let begun = within("install", timeouts.install, beginning).await?;
    let probed = begun.probed.clone();
    let work = async {
        begun.finish(store).await?;
        run(session.as_ref(), &probed.directory, &settings.tmpdir, how).await
    };
    let swept = within("install", timeouts.install, work).await;
    // Whatever came of it: this one's own directory is not to be the next thing that is left.
    let script = install::REMOVE;
    let remove = Command::sh(script, [probed.directory.clone()]);
    let removing = capture(session.as_ref(), &remove, Bytes::new(), 64 * 1024);
    let _ = within("clean", timeouts.clean, removing).await;
    let _ = within("clean", timeouts.clean, session.close()).await;
    let mut swept = swept?;
    swept.retain(|one| one.directory != probed.directory);
    Ok(swept)
}

async fn run(session: &dyn Session, own: &str, tmpdir: &str, how: Sweep) -> Result<Vec<Swept>, Trouble> {
    let words: &[&str] = match how {
        Sweep::List => &[],
        Sweep::Remove => &["remove"],
        Sweep::RemoveWithResults => &["remove", "results"],
    };
    // The parent that was asked for, and the user's own beside it where that was not to be trusted.
    let parent = own.rsplit_once('/').map_or(tmpdir, |(parent, _)| parent);
    let mut parents = vec![tmpdir.trim_end_matches('/')];
    if parent != parents[0] {
        parents.push(parent);
    }
    let mut swept = Vec::new();
    for parent in parents {
        let head = [install::program(own), "sweep".to_owned(), parent.to_owned()];
        let command = Command::new(head.into_iter().chain(words.iter().map(|w| (*w).to_owned())));
        let done = capture(session, &command, Bytes::new(), MOST_SAID).await?;
        if !done.status.success() {
            return Err(Trouble::new(format!("the client there failed ({}): {}", done.status, done.stderr_text())));
        }
        let text = String::from_utf8_lossy(&done.stdout).into_owned();
        swept.extend(text.lines().filter_map(|line| serde_json::from_str::<Swept>(line).ok()));
    }
    Ok(swept)
}

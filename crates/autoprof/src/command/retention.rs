//! `autoprof rm` and `autoprof clean`: what is kept, here and on hosts.
use std::sync::Arc;

use autoprof_core::{
    clean::{self, Sweep},
    protocol::{Kept, Swept},
    run::{self, RunError},
    trust::TrustError,
};
use autoprof_report::size::bytes;

use crate::{
    cli::{Clean, Global, Remove},
    command::run::runtime,
    exit::Failure,
    print, print_json,
    wire::{self, Life},
};

/// Removes runs' directories.
pub fn remove(_: &Global, remove: &Remove) -> Result<u8, Failure> {
    for wanted in &remove.runs {
        let directory = run::find(wanted, &remove.results)?;
        // What cannot be undone is named in full.
        let named = directory.as_str() == wanted || directory.file_name() == Some(wanted);
        if !named {
            let message = format!("{wanted:?} is only the beginning of {}", directory.file_name().unwrap_or_default());
            return Err(Failure::Usage { message, hint: Some("rm takes whole ids, or directories".into()) });
        }
        match run::check(&directory, wire::run_trust(remove.trust)) {
            // Removing follows no link.
            Err(RunError::Untrusted { source: TrustError::Odd { .. }, .. }) if remove.force => {}
            other => other?,
        }
        let how = if remove.force { run::Removal::Forced } else { run::Removal::WhenOver };
        let removed = run::remove(&directory, how)?;
        print(&format!("removed {removed}\n"));
    }
    Ok(0)
}

/// Finds and removes what dead runs left on hosts.
pub fn clean(global: &Global, clean: &Clean) -> Result<u8, Failure> {
    let job = wire::read_job(clean.targets.job.as_deref())?;
    let asked = wire::asked(global, &clean.targets, &job)?;
    let settings = wire::settings(&clean.targets.reach, &job, None, Life::Attached { lease: None });
    let store = Arc::new(wire::store(global)?);
    let how = match (clean.dry_run, clean.with_results) {
        (true, _) => Sweep::List,
        (false, false) => Sweep::Remove,
        (false, true) => Sweep::RemoveWithResults,
    };
    let found = runtime()?.block_on(clean::sweep(&asked.hosts, &asked.registry, &store, &settings, how));
    if clean.json {
        let hosts = found.iter().map(|(host, swept)| match swept {
            Ok(swept) => (host.clone(), serde_json::json!(swept)),
            Err(e) => (host.clone(), serde_json::json!({ "error": e })),
        });
        let all: serde_json::Map<String, serde_json::Value> = hosts.collect();
        print_json(&all);
    } else {
        for (host, swept) in &found {
            match swept {
                Ok(swept) if swept.is_empty() => print(&format!("{host}: nothing\n")),
                Ok(swept) => swept.iter().for_each(|one| print(&format!("{host}: {}\n", line(one, clean)))),
                Err(e) => print(&format!("{host}: {e}\n")),
            }
        }
    }
    Ok(u8::from(found.values().any(Result::is_err)))
}

fn line(one: &Swept, clean: &Clean) -> String {
    // A dry run leaves the results out of account: with them it would go.
    let would_go = one.kept.is_none() || (clean.with_results && clean.dry_run && one.kept == Some(Kept::Results));
    let verb = match (one.removed, would_go) {
        (true, _) => "removed",
        (false, true) => "would remove",
        (false, false) => "kept",
    };
    let run = one.run.as_ref().map_or_else(|| "no run".to_owned(), |run| format!("run {run}"));
    let why = one.kept.as_ref().filter(|_| verb == "kept").map(|why| format!(": {why}")).unwrap_or_default();
    let text = format!("{verb} {} ({run}, {} s old, results: {}){why}", one.directory, one.age_s, bytes(one.bytes));
    autoprof_core::text::one_line(&text)
}

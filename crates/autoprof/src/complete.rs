//! What a shell offers at TAB: `source <(COMPLETE=bash autoprof)`.
use std::ffi::OsStr;

use autoprof_core::job::PRESETS;
use autoprof_loader::{Lock, Plugins, Policy, Trust};
use clap::CommandFactory as _;
use clap_complete::{
    CompleteEnv,
    engine::{ArgValueCompleter, CompletionCandidate},
};

use crate::cli::Cli;

/// Answers a shell that asks, by the variable `COMPLETE`; false where none does.
///
/// # Errors
/// When the shell is not known, or the answer cannot be written.
pub fn answer() -> Result<bool, clap::Error> {
    let here = std::env::current_dir().ok();
    CompleteEnv::with_factory(Cli::command).try_complete(std::env::args_os(), here.as_deref())
}

/// Profilers, from the notes of the plugins where they are looked for by default, and presets.
pub fn profilers() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| {
        let typed = typed.to_string_lossy();
        let candidate = |name: &str, help: String| CompletionCandidate::new(name).help(Some(help.into()));
        let presets = PRESETS.iter().map(|(name, members)| candidate(name, members.join(", ")));
        let plugins = Lock::find(None).map(|lock| Plugins::scan(&[], Policy::new(Trust::Owned, lock))).ok();
        let infos = plugins.iter().flat_map(Plugins::profilers);
        let profilers = infos.map(|(info, _)| candidate(&info.name, info.summary.to_string()));
        let fits = |candidate: &CompletionCandidate| candidate.get_value().to_string_lossy().starts_with(&*typed);
        profilers.chain(presets).filter(fits).collect()
    })
}

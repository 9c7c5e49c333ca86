//! All plugins at hand, loaded when something of theirs is needed.
use autoprof_core::{ProfilerInfo, Registry, registry::NotRegistered, text::nearest};
use camino::Utf8PathBuf;

use crate::{Candidate, LoadError, PluginFileError, Policy, Rejected, Scan, load_into, scan, search_path};

/// What there is, known from the plugins' notes.
#[derive(Debug, Default)]
pub struct Plugins {
    scan: Scan,
}

impl Plugins {
    /// Looks in `given` and in the usual directories ([`search_path`]); runs no plugin's code.
    #[must_use]
    pub fn scan(given: &[Utf8PathBuf], policy: impl Into<Policy>) -> Self {
        Self { scan: scan(&search_path(given), policy) }
    }

    /// Looks in these directories alone.
    #[must_use]
    pub fn scan_only(dirs: &[Utf8PathBuf], policy: impl Into<Policy>) -> Self {
        Self { scan: scan(dirs, policy) }
    }

    /// Every file that can be loaded, shadowed ones too.
    #[must_use]
    pub fn candidates(&self) -> &[Candidate] {
        &self.scan.found
    }

    /// Every file that cannot.
    #[must_use]
    pub fn rejected(&self) -> &[Rejected] {
        &self.scan.rejected
    }

    /// The profilers that can be had, each with its plugin; of several of one name the first.
    pub fn profilers(&self) -> impl Iterator<Item = (&ProfilerInfo, &Candidate)> {
        let all =
            self.usable().flat_map(|candidate| candidate.note.profilers.iter().map(move |info| (info, candidate)));
        all.filter(|(info, candidate)| {
            let first = self.provider(&format!("profiler:{}", info.name));
            first.is_some_and(|first| std::ptr::eq(first, *candidate))
        })
    }

    /// The plugin that has something: `transport:ssh`, `signaler:marker`, `profiler:vmstat`.
    #[must_use]
    pub fn provider(&self, wanted: &str) -> Option<&Candidate> {
        self.usable().find(|candidate| candidate.note.provides.iter().any(|name| name == wanted))
    }

    /// Loads the plugins that have what is wanted (`transport:ssh`, `profiler:vmstat` …) and not already in `registry`.
    ///
    /// # Errors
    /// The first thing that no plugin has, or whose plugin cannot be used.
    pub fn load<'a>(
        &self,
        wanted: impl IntoIterator<Item = &'a str>,
        registry: &mut Registry,
    ) -> Result<(), LoadError> {
        for wanted in wanted {
            let (kind, name) = wanted.split_once(':').unwrap_or(("profiler", wanted));
            if is_there(registry, kind, name) {
                continue;
            }
            let provider = self.provider(&format!("{kind}:{name}")).ok_or_else(|| self.not_provided(kind, name))?;
            let in_file = |source: PluginFileError| LoadError::File { path: provider.path.clone(), source };
            load_into(provider, registry).map_err(in_file)?;
        }
        Ok(())
    }

    /// The files that are used: what can be loaded, without what is shadowed.
    pub fn usable(&self) -> impl Iterator<Item = &Candidate> {
        self.scan.found.iter().filter(|candidate| candidate.shadowed_by.is_none())
    }

    fn not_provided(&self, kind: &str, name: &str) -> LoadError {
        let of_kind = |provides: &String| {
            provides.split_once(':').filter(|(other, _)| *other == kind).map(|(_, name)| name.to_owned())
        };
        let mut known: Vec<String> = self.usable().flat_map(|c| c.note.provides.iter().filter_map(of_kind)).collect();
        known.sort();
        known.dedup();
        let kind = ["transport", "signaler", "profiler"].into_iter().find(|k| *k == kind).unwrap_or("thing");
        let nearest = nearest(name, known.iter().map(String::as_str)).map(str::to_owned);
        let file = name.replace('-', "_");
        let suspect = self.scan.rejected.iter().find(|r| r.path.file_stem().is_some_and(|stem| stem.contains(&file)));
        LoadError::NotProvided {
            wanted: NotRegistered { kind, name: name.to_owned(), nearest, known },
            refused: suspect.map(|r| format!("{} was refused: {}", r.path, r.error)),
        }
    }
}

fn is_there(registry: &Registry, kind: &str, name: &str) -> bool {
    match kind {
        "transport" => registry.transport(name).is_ok(),
        "signaler" => registry.signaler(name).is_ok(),
        "profiler" => registry.encoder(name).is_ok(),
        _ => false,
    }
}

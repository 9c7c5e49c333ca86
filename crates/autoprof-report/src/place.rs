//! Where in a run's directory the data of a host's profilers is.
use autoprof_core::manifest::{Manifest, ProfilerRecord};
use camino::{Utf8Path, Utf8PathBuf};

/// One profiler's data in one window.
#[derive(Debug, Clone)]
pub struct Place<'a> {
    /// Its directory, below the run's.
    pub directory: Utf8PathBuf,
    /// The profiler's name.
    pub profiler: &'a str,
    /// What the manifest says of it.
    pub record: &'a ProfilerRecord,
}

/// The profilers of a host, window by window where the run had several.
#[must_use]
pub fn of_host<'a>(manifest: &'a Manifest, host: &str) -> Vec<Place<'a>> {
    let below = Utf8PathBuf::from("hosts").join(host);
    let current = manifest.hosts.get(host).map(|host| &host.profilers);
    let places = |directory: Utf8PathBuf, records: Option<&'a std::collections::BTreeMap<String, ProfilerRecord>>| {
        let records = records.into_iter().flatten();
        records.map(move |(profiler, record)| Place { directory: directory.join(profiler), profiler, record })
    };
    if manifest.windows.is_empty() {
        return places(below, current).collect();
    }
    let last = manifest.windows.len() - 1;
    let of_window = |(at, window): (usize, &'a autoprof_core::manifest::WindowRecord)| {
        // The last window's records are where those of a run with one window are.
        let records = window.hosts.get(host).or(if at == last { current } else { None });
        places(below.join(format!("window-{}", window.window)), records).collect::<Vec<_>>()
    };
    manifest.windows.iter().enumerate().flat_map(of_window).collect()
}

/// The tables of this name that a host's profilers made, one for each segment and window.
#[must_use]
pub fn tables(run: &Utf8Path, manifest: &Manifest, host: &str, name: &str) -> Vec<Utf8PathBuf> {
    let named = of_host(manifest, host).into_iter().flat_map(|place| {
        let tables = place.record.tables.iter().map(move |table| run.join(&place.directory).join(&table.path));
        tables.filter(|path| path.file_name() == Some(name) && path.exists()).collect::<Vec<_>>()
    });
    named.collect()
}

//! Whether a manifest that somebody else may have written names only what a run names: its texts become paths here and
//! commands on hosts.
use std::borrow::Cow;

use autoprof_protocol::archive::check_path;

use super::{HostRecord, Manifest, ProfilerRecord};
use crate::{host::check_name, install, text};

/// Most hosts of a run.
const MAX_HOSTS: usize = crate::host::MAX_EXPANSION;
/// Highest number of a segment or window.
const MAX_NUMBER: u32 = 1_000_000;

impl Manifest {
    /// Checks all names that become paths or commands.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn check(&self) -> Result<(), String> {
        plain("the run's id", &self.id, 200)?;
        plain("the signaler's name", &self.settings.signaler, 64)?;
        if self.hosts.len() > MAX_HOSTS {
            return Err(format!("it has more than {MAX_HOSTS} hosts"));
        }
        let over = crate::conduct::is_over(self);
        for (name, host) in &self.hosts {
            // Of a run that is over no host is ever reached again: its names are directories and are shown.
            let checked = if over { one_part(name) } else { check_name(name) };
            checked.map_err(|reason| format!("host {name:?}: {reason}"))?;
            self.check_host(host).map_err(|reason| format!("host {name}: {reason}"))?;
        }
        for window in &self.windows {
            number("window", window.window)?;
            let mut records = window.hosts.values().flatten();
            records.try_for_each(|(name, record)| check_profiler(name, record))?;
        }
        Ok(())
    }

    /// The manifest with texts in which nothing acts on a terminal or hides on a page: to be shown, and for nothing else.
    #[must_use]
    pub fn printable(&self) -> Cow<'_, Self> {
        let Ok(mut value) = serde_json::to_value(self) else { return Cow::Borrowed(self) };
        text::sanitize_all(&mut value);
        serde_json::from_value(value).map_or(Cow::Borrowed(self), Cow::Owned)
    }

    fn check_host(&self, host: &HostRecord) -> Result<(), String> {
        plain("the transport's name", &host.host.transport, 64)?;
        number("segment", host.segment)?;
        if let Some(client) = &host.client
            && !install::is_ours(&client.directory, &self.settings.tmpdir)
        {
            return Err(format!("{:?} is not a client's directory below {:?}", client.directory, self.settings.tmpdir));
        }
        host.profilers.iter().chain(&host.earlier).try_for_each(|(name, record)| check_profiler(name, record))
    }
}

fn check_profiler(name: &str, record: &ProfilerRecord) -> Result<(), String> {
    plain("a profiler's name", name, 100)?;
    number("segment", record.segment)?;
    record.segments.iter().try_for_each(|segment| number("segment", segment.segment))?;
    let mut files = record.files.iter().map(|file| &file.path).chain(record.tables.iter().map(|table| &table.path));
    files.try_for_each(|path| check_path(path).map_err(|e| format!("{name}: {e}")))
}

fn number(what: &str, n: u32) -> Result<(), String> {
    if n <= MAX_NUMBER { Ok(()) } else { Err(format!("{what} {n} is too high a number")) }
}

/// A name that is one part of a path, whatever else it has in it that can be seen.
fn one_part(name: &str) -> Result<(), String> {
    let fits = (1..=200).contains(&name.len())
        && !name.starts_with(['.', '-'])
        && !name.chars().any(|c| c == '/' || text::is_unprintable(c));
    if fits { Ok(()) } else { Err("that is no name of a host".to_owned()) }
}

/// A name that is one plain part of a path.
fn plain(what: &str, name: &str, longest: usize) -> Result<(), String> {
    let fits = (1..=longest).contains(&name.len())
        && !name.starts_with(['.', '-'])
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte));
    if fits { Ok(()) } else { Err(format!("{what} is {:?}", name.chars().take(80).collect::<String>())) }
}

//! What the tests of a profiler need: a host to encode for, and files to convert.
use std::{
    fs, io,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use autoprof_core::{
    ArgEncoder, Args, RawResults, Table,
    error::ConvertError,
    protocol::{HostFacts, Tool},
    require_rows,
};
use camino::{Utf8Path, Utf8PathBuf};

use crate::convert::nanoseconds;

/// A host with these programs, all of one version, on which we are root; nothing else is known of it.
#[must_use]
pub fn host_with<S: AsRef<str>>(tools: &[S], version: &str) -> HostFacts {
    let tool =
        |name: &str| Tool { path: format!("/usr/bin/{name}"), version: version.to_owned().into(), ..Tool::default() };
    let tools = tools.iter().map(|name| (name.as_ref().to_owned(), tool(name.as_ref()))).collect();
    HostFacts { tools, ..HostFacts::default() }
}

/// What a converter makes of files, for a window that began `began` seconds after 1970 and lasted `seconds`: its tables,
/// and what is in the one of this name.
///
/// # Panics
/// When the arguments are not the profiler's, or the files cannot be written.
pub fn converted(
    encoder: &dyn ArgEncoder,
    args: &Args,
    files: &[(&str, &[u8])],
    window: (i64, i64),
    table: &str,
) -> (Result<Vec<Table>, ConvertError>, String) {
    converted_on(&HostFacts::default(), encoder, args, files, window, table)
}

/// The same of a host with these facts, as a run would have it: tables without rows have the reason that core gives them
/// ([`require_rows`]).
///
/// # Panics
/// When the arguments are not the profiler's, or the files cannot be written.
#[expect(clippy::expect_used, reason = "for tests, which have nobody to tell")]
pub fn converted_on(
    facts: &HostFacts,
    encoder: &dyn ArgEncoder,
    args: &Args,
    files: &[(&str, &[u8])],
    (began, seconds): (i64, i64),
    table: &str,
) -> (Result<Vec<Table>, ConvertError>, String) {
    let scratch = Scratch::new().expect("a directory");
    let args = args.complete(encoder.profiler()).expect("arguments of this profiler");
    let raw = scratch.results(&args, files.iter().copied(), facts, (began, seconds)).expect("files of a test");
    let mut tables = encoder.convert(&raw);
    if let Ok(tables) = &mut tables {
        let filled = files.iter().filter(|(_, content)| !content.is_empty());
        let filled: Vec<String> = filled.map(|(name, _)| (*name).to_owned()).collect();
        require_rows(tables, &raw, &filled, nanoseconds(args.number("interval").unwrap_or_default()));
    }
    (tables, fs::read_to_string(raw.file(table)).unwrap_or_default())
}

/// A directory that is removed with its guard.
pub(crate) struct Scratch(Utf8PathBuf);

impl Scratch {
    pub(crate) fn new() -> io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let below = Utf8PathBuf::from_path_buf(std::env::temp_dir())
            .map_err(|_| io::Error::other("the directory for temporary files has a name that is not UTF-8"))?;
        let path = below.join(format!("autoprof-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed)));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Utf8Path {
        &self.0
    }

    /// Files that a profiler left, in a directory of their own in it.
    pub(crate) fn results<'a>(
        &self,
        args: &Args,
        files: impl IntoIterator<Item = (&'a str, &'a [u8])>,
        facts: &HostFacts,
        (began, seconds): (i64, i64),
    ) -> io::Result<RawResults> {
        let directory = self.0.join("results");
        fs::create_dir(&directory)?;
        files.into_iter().try_for_each(|(name, content)| fs::write(directory.join(name), content))?;
        Ok(RawResults {
            directory,
            args: args.clone(),
            began_unix_ns: began * 1_000_000_000,
            ended_unix_ns: (began + seconds) * 1_000_000_000,
            facts: facts.clone(),
            clock_steps: Vec::new(),
            end_unknown: false,
        })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays is a few files among temporary ones.
        let _ = fs::remove_dir_all(&self.0);
    }
}

//! Configuration files: read and parsed once, also those that they include.
use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use crate::bounded;

use super::{
    error::{ConfigError, Place},
    glob,
    keywords::{self, Key, Known, Value},
    matching::{self, Criterion},
    users::{self, Services, User},
    words::{self, Delimited, WHITESPACE},
};

/// Files may include each other this deeply.
const MAX_DEPTH: usize = 16;
/// No configuration is longer than this.
const MAX_SIZE: u64 = 16 << 20;

/// A parsed file.
#[derive(Debug)]
pub(crate) struct SourceFile {
    pub(crate) name: Arc<str>,
    pub(crate) lines: Vec<Line>,
    /// Whether it is the user's own: that decides what relative paths in it are relative to.
    pub(crate) of_user: bool,
    /// How many levels of files it includes.
    height: usize,
}

/// A line that says something.
#[derive(Debug)]
pub(crate) struct Line {
    number: usize,
    pub(crate) entry: Entry,
}

/// What a line says.
#[derive(Debug)]
pub(crate) enum Entry {
    Host(Vec<HostPattern>),
    Match(Vec<Criterion>),
    Include(Vec<Include>),
    Setting(Setting),
    /// A keyword that is not known; `IgnoreUnknown` may allow it.
    Unknown(String),
}

/// A pattern of a `Host` line.
#[derive(Debug)]
pub(crate) struct HostPattern {
    pub(crate) negated: bool,
    pub(crate) pattern: String,
}

/// Files that a line includes.
#[derive(Debug)]
pub(crate) enum Include {
    Files(Vec<Arc<SourceFile>>),
    /// A path with tokens or variables, known when the host is.
    Later(String),
}

/// A keyword with its value.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    pub(crate) key: Key,
    /// As it was written.
    pub(crate) keyword: String,
    pub(crate) value: Value,
}

impl SourceFile {
    pub(crate) fn place(&self, line: &Line) -> Place {
        Place::new(Arc::clone(&self.name), line.number)
    }
}

/// Reads files, each once.
#[derive(Debug, Default)]
pub(crate) struct Loader {
    files: Mutex<HashMap<(PathBuf, bool), Arc<SourceFile>>>,
    pub(crate) services: Services,
}

impl Loader {
    /// A file that is named: it has to be there, and its permissions are the user's affair.
    pub(crate) fn named(&self, path: &Path, user: &User) -> Result<Arc<SourceFile>, ConfigError> {
        self.file(path, user, true, 0, false)?.ok_or_else(|| ConfigError::file(path, "no such file or directory"))
    }

    /// A file in its usual place, where there may be none.
    pub(crate) fn usual(
        &self,
        path: &Path,
        user: &User,
        of_user: bool,
    ) -> Result<Option<Arc<SourceFile>>, ConfigError> {
        match self.file(path, user, of_user, 0, of_user) {
            // OpenSSH passes over one that it may not open, too.
            Err(ConfigError::File { .. }) if File::open(path).is_err() => Ok(None),
            other => other,
        }
    }

    fn file(
        &self,
        path: &Path,
        user: &User,
        of_user: bool,
        depth: usize,
        checked: bool,
    ) -> Result<Option<Arc<SourceFile>>, ConfigError> {
        let too_deep =
            || ConfigError::file(path, format!("files include each other more than {MAX_DEPTH} levels deep"));
        if depth > MAX_DEPTH {
            return Err(too_deep());
        }
        let key = (path.to_owned(), of_user);
        let known = self.files.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(known) = known {
            return if depth + known.height > MAX_DEPTH { Err(too_deep()) } else { Ok(Some(known)) };
        }
        let Some(text) = read(path, user.uid, checked)? else { return Ok(None) };
        let name: Arc<str> = path.display().to_string().into();
        let mut file = SourceFile { name, lines: Vec::new(), of_user, height: 0 };
        for (at, text) in text.split('\n').enumerate() {
            let place = Place::new(Arc::clone(&file.name), at + 1);
            let Some((keyword, rest)) = parts(text, &place)? else { continue };
            let entry = self.entry(&keyword, rest, &place, user, &mut file, depth)?;
            file.lines.extend(entry.map(|entry| Line { number: at + 1, entry }));
        }
        let file = Arc::new(file);
        self.files.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::clone(&file));
        Ok(Some(file))
    }

    fn entry(
        &self,
        keyword: &str,
        rest: &str,
        place: &Place,
        user: &User,
        file: &mut SourceFile,
        depth: usize,
    ) -> Result<Option<Entry>, ConfigError> {
        let bad = |reason: String| ConfigError::line(place, keyword, reason);
        let words = words::split(rest).ok_or_else(|| bad("a quote is not closed".into()))?;
        if matches!(keywords::known(&keyword.to_ascii_lowercase()), Some(Known::Host | Known::Include))
            && words.iter().any(String::is_empty)
        {
            return Err(bad("a value is empty".into()));
        }
        Ok(match keywords::known(&keyword.to_ascii_lowercase()) {
            None => Some(Entry::Unknown(keyword.to_owned())),
            Some(Known::Unused) => None,
            Some(Known::Host) => Some(Entry::Host(words.iter().map(|word| HostPattern::of(word)).collect())),
            Some(Known::Match) => Some(Entry::Match(matching::read(rest, &words).map_err(bad)?)),
            Some(Known::Include) => {
                let mut included = Vec::new();
                for word in &words {
                    if word.starts_with('~') && !file.of_user {
                        return Err(bad(format!("{word:?}: a file of the system cannot include one of a user")));
                    }
                    if word.contains('%') || word.contains("${") {
                        included.push(Include::Later(word.clone()));
                        continue;
                    }
                    let files = self.included(word, file.of_user, place, user, depth + 1)?;
                    let higher = files.iter().map(|file| file.height + 1).max().unwrap_or(0);
                    file.height = file.height.max(higher);
                    included.push(Include::Files(files));
                }
                Some(Entry::Include(included))
            }
            Some(Known::Used(key, kind)) => {
                let value = keywords::read(kind, &words, rest, &self.services).map_err(bad)?;
                Some(Entry::Setting(Setting { key, keyword: keyword.to_owned(), value }))
            }
        })
    }

    /// The files that a word of an `Include` line names. Those that are not there and directories say nothing.
    pub(crate) fn included(
        &self,
        word: &str,
        of_user: bool,
        place: &Place,
        user: &User,
        depth: usize,
    ) -> Result<Vec<Arc<SourceFile>>, ConfigError> {
        let bad = |reason: String| ConfigError::line(place, "Include", reason);
        let path = match (word.starts_with(['/', '~']), of_user) {
            (true, _) => word.to_owned(),
            (false, true) => format!("~/.ssh/{word}"),
            (false, false) => format!("/etc/ssh/{word}"),
        };
        // A user that does not exist has no files.
        let Ok(pattern) = user.path(&path) else { return Ok(Vec::new()) };
        let mut files = Vec::new();
        for path in glob::expand(&pattern.to_string_lossy()).map_err(bad)? {
            files.extend(self.file(&path, user, of_user, depth, true)?);
        }
        Ok(files)
    }

    /// A setting that was given for a host, `KEY=VALUE` or `KEY VALUE`.
    ///
    /// # Errors
    /// When it is none, or its value is bad.
    pub(crate) fn option(&self, text: &str, user: &User) -> Result<Option<Setting>, ConfigError> {
        let place = Place::options();
        let Some((keyword, rest)) = parts(text, &place)? else { return Ok(None) };
        let mut nowhere = SourceFile { name: "".into(), lines: Vec::new(), of_user: true, height: 0 };
        let known = keywords::known(&keyword.to_ascii_lowercase());
        if matches!(known, Some(Known::Host | Known::Match | Known::Include)) {
            return Err(ConfigError::line(&place, &keyword, "it stands only in files"));
        }
        match self.entry(&keyword, rest, &place, user, &mut nowhere, 0)? {
            Some(Entry::Setting(setting)) => Ok(Some(setting)),
            Some(_) => Err(ConfigError::line(&place, &keyword, "OpenSSH knows no such keyword")),
            None => Ok(None),
        }
    }
}

impl HostPattern {
    fn of(word: &str) -> Self {
        let (negated, pattern) = word.strip_prefix('!').map_or((false, word), |rest| (true, rest));
        Self { negated, pattern: pattern.to_owned() }
    }
}

/// The keyword of a line, as it was written, and what follows it; none: the line says nothing.
fn parts<'a>(text: &'a str, place: &Place) -> Result<Option<(String, &'a str)>, ConfigError> {
    let mut line = Delimited::new(words::strip_end(text));
    let mut keyword = line.next();
    if keyword.as_deref() == Some("") {
        // That were the blanks before it.
        keyword = line.next();
    }
    let Some(keyword) = keyword.filter(|word| !word.is_empty() && !word.starts_with('#')) else { return Ok(None) };
    let rest = line.rest().unwrap_or_default().trim_start_matches(WHITESPACE);
    if rest.is_empty() {
        return Err(ConfigError::line(place, &keyword, "the value is missing"));
    }
    Ok(Some((keyword, rest)))
}

/// The text of a file; none: there is none of this name.
fn read(path: &Path, uid: u32, checked: bool) -> Result<Option<String>, ConfigError> {
    let bad = |e: &io::Error| ConfigError::file(path, e);
    let file = match bounded::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(bad(&e)),
    };
    let metadata = file.metadata().map_err(|e| bad(&e))?;
    if checked && !trusted(&metadata, uid) {
        let reason = format!(
            "another user owns it or can write to it; OpenSSH refuses such a file, `chmod go-w {}` if it is yours",
            shell_words::quote(&path.to_string_lossy())
        );
        return Err(ConfigError::File { file: path.display().to_string(), reason });
    }
    let data = bounded::read(file, MAX_SIZE).map_err(|e| bad(&e))?;
    Ok(Some(String::from_utf8_lossy(&data).into_owned()))
}

/// Whether nobody but the user and root can change a file.
fn trusted(metadata: &fs::Metadata, uid: u32) -> bool {
    let owned = metadata.uid() == 0 || metadata.uid() == uid;
    let others = metadata.mode() & 0o002 != 0;
    let group = metadata.mode() & 0o020 != 0 && !users::group_is_private(metadata.gid(), uid);
    owned && !others && !group
}

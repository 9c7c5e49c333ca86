//! Marks: named instants, put by any process and taken up by the one that conducts the run.
//!
//! They come through a file in the run's directory, a line each: who puts one needs no line to the conductor, which may
//! be on another machine that sees the same directory, or may not be there at the moment.
use std::{
    fs::OpenOptions,
    io::{self, BufRead, BufReader, Read as _, Write},
};

use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{run::open_file, text::is_unprintable};

const MARKS: &str = "marks.jsonl";
/// Longest name, in characters.
pub const LONGEST: usize = 200;
/// Most that is read of the file.
const MAX_FILE: u64 = 64 << 20;

/// A line of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NewMark {
    pub(crate) name: String,
    pub(crate) at: Timestamp,
}

/// A name that a mark cannot have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot be a mark's name: it needs 1 to {LONGEST} characters on one line")]
pub struct BadName(String);

/// Puts a mark, now.
///
/// # Errors
/// When the run's directory cannot be written, or the name is none.
pub(crate) fn put(run: &Utf8Path, name: &str) -> io::Result<()> {
    if !is_name(name) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, BadName(name.chars().take(LONGEST).collect())));
    }
    let mark = NewMark { name: name.to_owned(), at: Timestamp::now() };
    let line = format!("{}\n", serde_json::to_string(&mark)?);
    // One write at the end of the file: marks of several processes do not mix.
    open_file(&run.join(MARKS), OpenOptions::new().append(true).create(true))?.write_all(line.as_bytes())
}

fn is_name(name: &str) -> bool {
    !name.trim().is_empty() && name.chars().count() <= LONGEST && !name.contains(is_unprintable)
}

/// Reads the marks that are new.
#[derive(Debug)]
pub(crate) struct Marks {
    path: Utf8PathBuf,
    /// How many have been taken up: the manifest knows them.
    taken: usize,
    size: u64,
}

impl Marks {
    pub(crate) fn new(run: &Utf8Path, taken: usize) -> Self {
        Self { path: run.join(MARKS), taken, size: 0 }
    }

    /// Whether the file has changed since it was read last.
    pub(crate) fn has_new(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|m| m.len() != self.size)
    }

    /// The marks since the last call.
    pub(crate) fn take(&mut self) -> Vec<NewMark> {
        let Ok(file) = open_file(&self.path, OpenOptions::new().read(true)) else { return Vec::new() };
        let size = file.metadata().map_or(0, |m| m.len());
        if size == self.size {
            return Vec::new();
        }
        self.size = size;
        // A mark is short: what has no end of line for long is none.
        let lines = BufReader::new(file.take(MAX_FILE)).lines().map_while(Result::ok);
        let marks = lines.filter_map(|l| serde_json::from_str::<NewMark>(&l).ok());
        let new: Vec<NewMark> = marks.filter(|mark| is_name(&mark.name)).skip(self.taken).collect();
        self.taken += new.len();
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mark_is_taken_once_and_bad_names_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let run = Utf8Path::from_path(dir.path()).unwrap();
        let mut marks = Marks::new(run, 0);
        assert!(marks.take().is_empty());
        put(run, "phase 1").unwrap();
        put(run, "phase 2").unwrap();
        assert_eq!(marks.take().into_iter().map(|m| m.name).collect::<Vec<_>>(), ["phase 1", "phase 2"]);
        assert!(marks.take().is_empty());
        assert_eq!(Marks::new(run, 1).take()[0].name, "phase 2");
        for name in ["", " ", "a\nb", "\u{1b}[2J", &"x".repeat(201)] {
            assert!(put(run, name).is_err(), "{name:?}");
        }
    }
}

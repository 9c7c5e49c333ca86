//! Loads a plugin. From here on its code runs; nothing is ever unloaded, since threads, wakers and logs may point into it.
#![allow(unsafe_code)]

use std::{
    collections::BTreeSet,
    error::Error as _,
    fs::File,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use autoprof_abi::{
    FfiRegistry, LogRecord, Logger, PluginRoot_Ref, Provided,
    header::{self, HeaderRef, SYMBOL_PREFIX},
    host_to_ffi,
    note::PluginNote,
};
use autoprof_core::{Registry, error::TransportError};
use blake3::Hash;
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use tracing::{Level, level_filters::LevelFilter};

use crate::{
    Candidate, PluginFileError, elf,
    file::{Identity, descriptor_path, digest},
};

/// `RTLD_NODELETE` of glibc and musl; libloading has no name for it.
const RTLD_NODELETE: i32 = 0x1000;

/// A library of this process. It stays, and so does the descriptor: the system knows the library by the descriptor's
/// name, and would give it out again for whatever else is opened under that name.
struct Opened {
    content: Content,
    library: Library,
    file: File,
}

/// What a library was loaded from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    /// A file, which the system maps.
    File(Identity),
    /// A copy of what had this digest.
    Copy(Hash),
}

/// Libraries of this process: each content is loaded once.
static OPENED: Mutex<Vec<Opened>> = Mutex::new(Vec::new());

/// Plugins that were loaded, to be shut down.
static LOADED: Mutex<Vec<PluginRoot_Ref>> = Mutex::new(Vec::new());

/// Loads a plugin and adds everything that is in it, or nothing.
///
/// What asks for secrets asks `registry`'s prompter; what the plugin logs becomes events of target
/// `autoprof::plugin`.
///
/// # Errors
/// When it cannot be loaded, its start fails, or a name in it is taken.
pub fn load_into(candidate: &Candidate, registry: &mut Registry) -> Result<(), PluginFileError> {
    let root = open(candidate)?;
    let host = host_to_ffi(Box::new(Log { plugin: candidate.note.name.clone() }), registry.prompter());
    let started: Result<FfiRegistry, _> = root.init()(host).into_result();
    let start = |e: String| PluginFileError::Start(e);
    let provided = started.map_err(|e| start(TransportError::from(e).to_string()))?;
    let provided = Provided::from_ffi(provided).map_err(|e| start(e.to_string()))?;
    check_note(&candidate.note, &provided)?;
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if !loaded.iter().any(|other| other.init() as usize == root.init() as usize) {
        loaded.push(root);
    }
    drop(loaded);
    Ok(provided.add_to(registry)?)
}

fn open(candidate: &Candidate) -> Result<PluginRoot_Ref, PluginFileError> {
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    let at = library(candidate, &mut opened)?;
    let symbol = format!("{SYMBOL_PREFIX}{}", candidate.note.name);
    // SAFETY: `export_plugin!` exports a header under this name, which begins with what `header::open` checks.
    let header = unsafe { opened[at].library.get::<HeaderRef>(symbol.as_bytes()) }.map(|symbol| *symbol);
    let header = header.map_err(|e| dlopen_error(&e, &opened[at].file, candidate))?;
    drop(opened);
    header::open(header).map_err(|e| {
        tracing::debug!(path = %candidate.path, "{}", e.full);
        PluginFileError::Interface { summary: e.summary, full: e.full }
    })
}

/// The candidate's library: where it is among those that are open.
fn library(candidate: &Candidate, opened: &mut Vec<Opened>) -> Result<usize, PluginFileError> {
    let file = candidate.open()?;
    let content = match candidate.looked_at.digest {
        Some(digest) => Content::Copy(digest),
        None => Content::File(file.identity),
    };
    if let Some(at) = opened.iter().position(|other| other.content == content) {
        return Ok(at);
    }
    let file = match content {
        Content::File(identity) => {
            // The system would give back what it has mapped of this file, which was written to since.
            if opened.iter().any(|o| matches!(o.content, Content::File(other) if other.is_same_file(&identity))) {
                return Err(PluginFileError::Changed);
            }
            file.into_file()
        }
        Content::Copy(wanted) => {
            let copy = file.sealed_copy(&candidate.note.name)?;
            if digest(&copy)? != wanted {
                return Err(PluginFileError::Changed);
            }
            copy
        }
    };
    // Written to in the very instant in which it was looked at, it may seem the same.
    if elf::note_of(&file)? != candidate.note {
        return Err(PluginFileError::Changed);
    }
    // RTLD_NOW: a symbol that is not there is an error here, not a crash at its first use.
    // SAFETY: the file is whole, for this machine and interface, and trusted by whoever scanned for it; its constructors
    // run now, as the caller wants.
    let library = unsafe { Library::open(Some(descriptor_path(&file)), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE) };
    let library = library.map_err(|e| dlopen_error(&e, &file, candidate))?;
    opened.push(Opened { content, library, file });
    Ok(opened.len() - 1)
}

/// What `dlerror` said, with the plugin's name for the descriptor's.
fn dlopen_error(e: &libloading::Error, file: &File, candidate: &Candidate) -> PluginFileError {
    PluginFileError::Dlopen(text(e).replace(&descriptor_path(file), candidate.path.as_str()))
}

/// What `dlerror` said, on one line.
fn text(e: &libloading::Error) -> String {
    let text = e.source().map_or_else(|| e.to_string(), ToString::to_string);
    autoprof_core::text::one_line(&text)
}

/// The note has to be true: it is what everybody reads who does not load the plugin.
fn check_note(note: &PluginNote, provided: &Provided) -> Result<(), PluginFileError> {
    let said: BTreeSet<String> = note.provides.iter().cloned().collect();
    let got: BTreeSet<String> = provided.names().collect();
    if let Some(absent) = said.difference(&got).next() {
        return Err(PluginFileError::Mismatch(format!("it names {absent}, which it did not register")));
    }
    if let Some(extra) = got.difference(&said).next() {
        return Err(PluginFileError::Mismatch(format!("it registered {extra}, which it does not name")));
    }
    Ok(())
}

/// Ends the runtimes of all plugins that were loaded, waiting at most this long for each. Nothing of theirs works
/// afterwards; for the end of the program.
pub fn shutdown(timeout: Duration) {
    let loaded = std::mem::take(&mut *LOADED.lock().unwrap_or_else(PoisonError::into_inner));
    for root in loaded {
        root.shutdown()(u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX));
    }
}

/// Passes on what one plugin logs.
struct Log {
    plugin: String,
}

impl Logger for Log {
    fn max_level(&self) -> u8 {
        match LevelFilter::current().into_level() {
            None => 0,
            Some(Level::ERROR) => 1,
            Some(Level::WARN) => 2,
            Some(Level::INFO) => 3,
            Some(Level::DEBUG) => 4,
            Some(Level::TRACE) => 5,
        }
    }

    fn log(&self, record: LogRecord<'_>) {
        let LogRecord { level, message, .. } = record;
        let plugin = self.plugin.as_str();
        // A level is part of an event's code and cannot be a variable.
        macro_rules! event {
            ($level:ident) => {
                tracing::event!(target: "autoprof::plugin", Level::$level, "{message} ({plugin})")
            };
        }
        match level {
            1 => event!(ERROR),
            2 => event!(WARN),
            3 => event!(INFO),
            4 => event!(DEBUG),
            _ => event!(TRACE),
        }
    }
}

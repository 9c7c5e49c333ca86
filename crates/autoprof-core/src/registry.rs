//! What is there to work with: transports, signalers and encoders by name, from plugins or linked in.
use std::{collections::BTreeMap, fmt, sync::Arc};

use crate::{
    Secret, encoder::ArgEncoder, preamble::MarkingTransport, signal::Signaler, text::nearest, transport::Transport,
};

/// Asks the person at the terminal for a secret, where there is one.
pub trait Prompter: Send + Sync {
    /// Shows `text` and reads a line without echo; none: there is nobody to ask, or they declined.
    ///
    /// Blocks until answered: call it where blocking is allowed.
    fn secret(&self, text: &str) -> Option<Secret>;
}

/// A prompter for programs without a terminal: nobody is ever asked.
#[derive(Debug, Clone, Copy, Default)]
pub struct NobodyToAsk;

impl Prompter for NobodyToAsk {
    fn secret(&self, _: &str) -> Option<Secret> {
        None
    }
}

/// Transports, signalers and encoders by name. A plugin's `register` function fills it; the same function serves
/// plugins that are loaded and plugins that are linked in.
pub struct Registry {
    transports: BTreeMap<String, Arc<dyn Transport>>,
    signalers: BTreeMap<String, Arc<dyn Signaler>>,
    encoders: BTreeMap<String, Arc<dyn ArgEncoder>>,
    prompter: Arc<dyn Prompter>,
}

/// Two things of one kind and name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is a {kind} named {name:?} already")]
pub struct AlreadyRegistered {
    /// Transport, signaler or profiler.
    pub kind: &'static str,
    /// The name.
    pub name: String,
}

/// A name that nothing is registered under.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {kind} {name:?}{}", suggestion(.nearest.as_deref(), .known))]
pub struct NotRegistered {
    /// Transport, signaler or profiler.
    pub kind: &'static str,
    /// The name that was asked for.
    pub name: String,
    /// The name that was probably meant.
    pub nearest: Option<String>,
    /// All names that there are.
    pub known: Vec<String>,
}

fn suggestion(nearest: Option<&str>, known: &[String]) -> String {
    match nearest {
        Some(name) => format!(": did you mean {name:?}?"),
        None if known.is_empty() => ": there is none at all".to_owned(),
        None => format!(": there are {}", known.join(", ")),
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self::new(Arc::new(NobodyToAsk))
    }
}

impl Registry {
    /// An empty registry, whose plugins ask for secrets through `prompter`.
    #[must_use]
    pub fn new(prompter: Arc<dyn Prompter>) -> Self {
        Self { transports: BTreeMap::new(), signalers: BTreeMap::new(), encoders: BTreeMap::new(), prompter }
    }

    /// Whom to ask for passwords and passphrases.
    #[must_use]
    pub fn prompter(&self) -> Arc<dyn Prompter> {
        Arc::clone(&self.prompter)
    }

    /// Adds a transport.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn add_transport(&mut self, name: &str, transport: Arc<dyn Transport>) -> Result<(), AlreadyRegistered> {
        insert(&mut self.transports, "transport", name, transport)
    }

    /// Adds a signaler.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn add_signaler(&mut self, name: &str, signaler: Arc<dyn Signaler>) -> Result<(), AlreadyRegistered> {
        insert(&mut self.signalers, "signaler", name, signaler)
    }

    /// Adds a profiler's encoder, under the name that it gives itself.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn add_encoder(&mut self, encoder: Arc<dyn ArgEncoder>) -> Result<(), AlreadyRegistered> {
        let name = encoder.profiler().name.to_string();
        insert(&mut self.encoders, "profiler", &name, encoder)
    }

    /// The transport of this name. Its sessions hand out what a command prints, without what the login prints before it.
    ///
    /// # Errors
    /// When there is none.
    pub fn transport(&self, name: &str) -> Result<Arc<dyn Transport>, NotRegistered> {
        let transport = find(&self.transports, "transport", name)?;
        Ok(Arc::new(MarkingTransport(transport)))
    }

    /// The signaler of this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn signaler(&self, name: &str) -> Result<Arc<dyn Signaler>, NotRegistered> {
        find(&self.signalers, "signaler", name)
    }

    /// The encoder of the profiler of this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn encoder(&self, name: &str) -> Result<Arc<dyn ArgEncoder>, NotRegistered> {
        find(&self.encoders, "profiler", name)
    }

    /// All transports, by name.
    pub fn transports(&self) -> impl Iterator<Item = (&str, &Arc<dyn Transport>)> {
        self.transports.iter().map(|(name, t)| (name.as_str(), t))
    }

    /// All signalers, by name.
    pub fn signalers(&self) -> impl Iterator<Item = (&str, &Arc<dyn Signaler>)> {
        self.signalers.iter().map(|(name, s)| (name.as_str(), s))
    }

    /// All encoders, by their profilers' names.
    pub fn encoders(&self) -> impl Iterator<Item = (&str, &Arc<dyn ArgEncoder>)> {
        self.encoders.iter().map(|(name, e)| (name.as_str(), e))
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("transports", &self.transports.keys())
            .field("signalers", &self.signalers.keys())
            .field("encoders", &self.encoders.keys())
            .finish_non_exhaustive()
    }
}

fn insert<T>(map: &mut BTreeMap<String, T>, kind: &'static str, name: &str, value: T) -> Result<(), AlreadyRegistered> {
    if map.contains_key(name) {
        return Err(AlreadyRegistered { kind, name: name.to_owned() });
    }
    map.insert(name.to_owned(), value);
    Ok(())
}

fn find<T: Clone>(map: &BTreeMap<String, T>, kind: &'static str, name: &str) -> Result<T, NotRegistered> {
    map.get(name).cloned().ok_or_else(|| NotRegistered {
        kind,
        name: name.to_owned(),
        nearest: nearest(name, map.keys().map(String::as_str)).map(str::to_owned),
        known: map.keys().cloned().collect(),
    })
}

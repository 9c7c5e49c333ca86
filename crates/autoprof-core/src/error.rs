//! Errors that may come from a plugin: a kind, a message and a chain of causes.
//!
//! They cross the plugin boundary as they are, so that what a plugin says reaches the user unchanged; the
//! kinds are open sets, since an older host may meet a newer plugin.
use std::{error::Error, fmt};

/// What kind of error, with a number that stays the same for ever.
pub trait ErrorKind: Copy + fmt::Debug + Send + Sync + 'static {
    /// The number by which the kind crosses the plugin boundary.
    fn code(self) -> u32;
    /// The kind of a number; an unknown one is the kind that says least.
    fn from_code(code: u32) -> Self;
    /// The kind for a panic inside a plugin.
    const PANIC: Self;
    /// The kind that says least.
    const OTHER: Self;
}

/// An error of kind `K`, possibly from a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginError<K> {
    /// What kind of error.
    pub kind: K,
    /// One lower-case sentence fragment.
    pub message: String,
    /// What the user can do about it, if that is known.
    pub hint: Option<String>,
    /// What caused it, outermost first.
    pub chain: Vec<String>,
}

impl<K: ErrorKind> PluginError<K> {
    /// An error with a message alone.
    pub fn new(kind: K, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, chain: Vec::new() }
    }

    /// An error with the causes of another.
    pub fn caused(kind: K, message: impl Into<String>, cause: &(dyn Error + 'static)) -> Self {
        let mut error = Self::new(kind, message);
        let mut next = Some(cause);
        while let Some(cause) = next {
            let text = cause.to_string();
            // Many errors repeat their source in their own text.
            if !error.chain.last().is_some_and(|last: &String| last.contains(&text)) {
                error.chain.push(text);
            }
            next = cause.source();
        }
        error
    }

    /// Adds what the user can do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl<K: ErrorKind> fmt::Display for PluginError<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.chain.iter().try_for_each(|cause| write!(f, ": {cause}"))
    }
}

impl<K: ErrorKind> Error for PluginError<K> {}

macro_rules! error_kind {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $code:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
            /// A panic inside a plugin.
            Panic,
            /// Anything else.
            Other,
        }

        impl ErrorKind for $name {
            const PANIC: Self = Self::Panic;
            const OTHER: Self = Self::Other;

            fn code(self) -> u32 {
                match self {
                    $(Self::$variant => $code,)*
                    Self::Panic => 1,
                    Self::Other => 0,
                }
            }

            fn from_code(code: u32) -> Self {
                match code {
                    $($code => Self::$variant,)*
                    1 => Self::Panic,
                    _ => Self::Other,
                }
            }
        }
    };
}

error_kind! {
    /// What went wrong while a host was reached.
    TransportErrorKind {
        /// The host's name has no address.
        Resolve = 10,
        /// No connection could be made.
        Connect = 11,
        /// A step took longer than it may.
        Timeout = 12,
        /// The host's key is unknown, changed or revoked.
        HostKey = 13,
        /// The host does not let the user in.
        Auth = 14,
        /// The host refused to run a command.
        Exec = 15,
        /// The connection ended before what was asked for was done.
        Closed = 16,
        /// The host's description or the user's configuration cannot be used.
        Config = 17,
    }
}

error_kind! {
    /// What went wrong while a client was told or heard.
    SignalErrorKind {
        /// The transport failed.
        Transport = 20,
        /// The client's directory is not there, or nobody is in charge of it.
        NoClient = 21,
        /// What the client said cannot be understood.
        Protocol = 22,
        /// The client went away.
        Closed = 23,
        /// A step took longer than it may.
        Timeout = 24,
    }
}

error_kind! {
    /// Why arguments cannot become a command.
    ArgErrorKind {
        /// A parameter that the profiler does not have, or one given twice.
        Unknown = 30,
        /// A value of the wrong type.
        Type = 31,
        /// A value out of its range.
        Range = 32,
        /// Parameters that exclude each other, or one that is absent.
        Conflict = 33,
        /// A program is not on the host.
        Missing = 34,
        /// The user on the host may not do it.
        Permission = 35,
        /// The host cannot do it at all.
        Unsupported = 36,
    }
}

error_kind! {
    /// Why raw results could not be converted.
    ConvertErrorKind {
        /// A file could not be read or written.
        Io = 40,
        /// A file is not in the format that its profiler writes.
        Format = 41,
    }
}

/// A host could not be reached, or a command not be run on it.
pub type TransportError = PluginError<TransportErrorKind>;
/// A client could not be told something, or not be heard.
pub type SignalError = PluginError<SignalErrorKind>;
/// Arguments cannot become a command on a host.
pub type ArgError = PluginError<ArgErrorKind>;
/// Raw results could not be converted.
pub type ConvertError = PluginError<ConvertErrorKind>;

impl From<TransportError> for SignalError {
    fn from(e: TransportError) -> Self {
        Self { kind: SignalErrorKind::Transport, message: e.message, hint: e.hint, chain: e.chain }
    }
}

impl From<std::io::Error> for ConvertError {
    fn from(e: std::io::Error) -> Self {
        Self::new(ConvertErrorKind::Io, e.to_string())
    }
}

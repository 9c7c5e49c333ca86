//! What there is of a client that a controller lost sight of.
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Stamp;

/// What `autoprof-client state DIR` says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Standing {
    /// [`crate::PROTOCOL_VERSION`] of the client program in the directory.
    pub protocol: u32,
    /// BLAKE3 digest of that program, in hexadecimal: a machine that lost power may have left half of it.
    pub digest: String,
    /// The kernel's id of this boot.
    pub boot_id: String,
    /// The host's clocks now.
    pub now: Option<Stamp>,
    /// Whether a client is in charge of the directory.
    pub running: bool,
    /// Whether a client ever was.
    pub launched: bool,
    /// Whether one ever said anything.
    pub spoke: bool,
    /// Whether the last one did all that it was there for.
    pub done: bool,
    /// Bytes of results.
    pub bytes: u64,
}

/// A client's directory that `autoprof-client sweep` found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Swept {
    /// The directory.
    pub directory: String,
    /// The run that it is of; none: nothing was ever launched in it.
    pub run: Option<String>,
    /// Seconds since it was changed last.
    pub age_s: u64,
    /// Bytes of results in it.
    pub bytes: u64,
    /// Why it stays, or would.
    pub kept: Option<Kept>,
    /// Whether it was removed.
    pub removed: bool,
}

/// Why a client's directory stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    /// A client is at work in it.
    InUse,
    /// It is young, and a run may be about to use it.
    Young,
    /// It holds results that nobody has fetched.
    Results,
    /// It holds results that a run is fetching, or may come back for until its lease ends.
    Wanted,
    /// It could not be removed.
    Failed(String),
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse => f.write_str("a client is at work in it"),
            Self::Young => f.write_str("it is young, and a run may be about to use it"),
            Self::Results => f.write_str("it holds results that nobody has fetched"),
            Self::Wanted => f.write_str("its run is fetching the results, or may come back for them"),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

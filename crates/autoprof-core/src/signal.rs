//! How clients are told what to do and heard.
use std::{fmt, sync::Arc};

use async_trait::async_trait;
use autoprof_protocol::{Event, Marker, MarkerTime};
use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use crate::{error::SignalError, text::one_line, transport::Session};

/// Tells a client what to do and hears what it did. One object per mechanism.
#[async_trait]
pub trait Signaler: Send + Sync {
    /// Attaches to the client in a directory on a host; it may not be up yet.
    ///
    /// The connection stays open for as long as somebody holds `session`. A channel whose processes run over it keeps
    /// it; one that needs it no more lets go, and what is left to do on the host has another connection made. So the
    /// number of hosts of a run is not that of its open connections.
    ///
    /// # Errors
    /// When there is no such directory, or it belongs to another user.
    async fn attach(&self, session: Arc<dyn Session>, client: &ClientHandle) -> Result<Box<dyn Channel>, SignalError>;
}

/// A line to one client.
#[async_trait]
pub trait Channel: Send {
    /// Raises a signal.
    ///
    /// Returns when the signal is on its way; that it arrived is said by an event.
    ///
    /// # Errors
    /// When the connection is gone.
    async fn signal(&mut self, signal: Signal) -> Result<(), SignalError>;

    /// The next event, in the order of their numbers, none twice and none left out. Cancel safe.
    ///
    /// # Errors
    /// When the connection or the client is gone.
    async fn event(&mut self) -> Result<Event, SignalError>;
}

/// Where a client is on its host, and from where its events are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientHandle {
    /// The client's directory on the host.
    pub directory: String,
    /// The last event that is known already; 0: none.
    pub after: u64,
    /// The id of the run that the client belongs to.
    pub run: String,
    /// The host's architecture, as `uname -m` has it; empty where that is not known.
    pub arch: String,
    /// Directories of the controller that have programs for hosts, as `<arch>/<program>`.
    pub programs: Vec<Utf8PathBuf>,
}

/// What a client can be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// A marker with its instant.
    Marker(Marker, MarkerTime),
    /// A question for a sign of life, answered by a beat with the same number. It also keeps the client's lease.
    Beat(u64),
    /// A name for this instant on the host's timeline.
    Mark(String),
}

impl fmt::Display for Signal {
    /// The line by which `autoprof-client attach` takes it, without its end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Marker(marker, time) => write!(f, "{marker} {time}"),
            Self::Beat(question) => write!(f, "beat {question}"),
            // One line, whatever is in the name.
            Self::Mark(name) => write!(f, "mark {}", one_line(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_one_line_whatever_its_name() {
        assert_eq!(Signal::Marker(Marker::Stop, MarkerTime::Now).to_string(), "stop A");
        assert_eq!(Signal::Beat(7).to_string(), "beat 7");
        assert_eq!(Signal::Mark("phase 2\nstop A".into()).to_string(), "mark phase 2; stop A");
    }
}

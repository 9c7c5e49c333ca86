//! Reaches hosts through the system's `ssh`, for what only OpenSSH can do: GSSAPI, FIDO keys, host certificates,
//! PKCS#11, `Match exec`, and everything else that `ssh_config` allows.
//!
//! One `ssh` process per host is the control master. Commands are channels through its control socket, in the proxy mode
//! that OpenSSH's `PROTOCOL.mux` documents, so no process is started for a command, and each channel has the exit
//! status or signal that the host sent: status 255 of a command is never confused with a failure of `ssh`.
//!
//! The master ends with its session. When autoprof is killed, a shell that waits for the end of a pipe ends the master
//! and removes its private directory (see the script in `master.rs`).
//!
//! # Options of a host
//! | name | meaning | default |
//! |---|---|---|
//! | `ssh_config` | configuration file, or `none` | `~/.ssh/config`, then `/etc/ssh/ssh_config` |
//! | `host_keys` | `strict`, `accept-new` or `insecure` | `StrictHostKeyChecking` of the configuration, else `strict` |
//! | `connect_timeout` | seconds for each step of connecting | `ConnectTimeout` of the configuration, else 15 |
//! | `write_timeout` | seconds that a write may make no progress | 30 |
//! | `program` | the `ssh` to run | `ssh` |
#![forbid(unsafe_code)]

mod channel;
mod diagnosis;
mod directory;
mod log;
mod master;
mod mux;
mod secrets;
mod session;
mod settings;
mod version;

use autoprof_plugin::prelude::*;

use crate::{master::Connector, session::MuxSession};

/// The name under which the transport is registered.
pub const NAME: &str = "openssh";

/// Adds the transport.
///
/// # Errors
/// When there is a transport named `openssh` already.
pub fn register(registry: &mut Registry) -> Result<(), AlreadyRegistered> {
    let transport = OpenSsh { connector: Arc::new(Connector::new(registry.prompter())) };
    registry.add_transport(NAME, Arc::new(transport))
}

export_plugin!(register, provides = ["transport:openssh"]);

/// The transport: what all its connections share (the program's version, answers to prompts).
struct OpenSsh {
    connector: Arc<Connector>,
}

#[async_trait]
impl Transport for OpenSsh {
    async fn connect(&self, host: &Host) -> Result<Arc<dyn Session>, TransportError> {
        let master = self.connector.connect(host).await?;
        Ok(Arc::new(MuxSession::new(Arc::clone(&self.connector), host.clone(), master)))
    }
}

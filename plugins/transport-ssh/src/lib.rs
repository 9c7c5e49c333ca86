//! Reaches hosts over SSH.
//!
//! One connection per host, a channel per command, host keys checked as OpenSSH checks them, settings from the
//! host's description and from OpenSSH's configuration. The connection is russh's; its socket is opened here, because the
//! handshake is twice as fast with `TCP_NODELAY` and quick acknowledgements, and because every step needs a
//! time-out and a name of its own.
//!
//! Not here: copying files and signalling processes. Both are commands that are run on the host.
//!
//! # Options of a host
//! | name | meaning | default |
//! |---|---|---|
//! | `ssh_config` | configuration file, or `none` | `~/.ssh/config` and `/etc/ssh/ssh_config` |
//! | `ssh_options` | OpenSSH options, `KEY=VALUE`, one a line | |
//! | `host_keys` | `strict`, `accept-new` or `insecure` | `StrictHostKeyChecking` of the configuration, else `strict` |
//! | `connect_timeout` | seconds for each step of connecting | `ConnectTimeout` of the configuration, else 15 |
//! | `write_timeout` | seconds that a write may make no progress | 30 |
#![forbid(unsafe_code)]

mod agent;
mod algorithms;
mod auth;
mod bounded;
mod config;
mod connect;
mod known_hosts;
mod proxy;
mod secrets;
mod session;
mod socket;
mod ssh_config;
mod window;

use autoprof_plugin::prelude::*;

use crate::{connect::Connector, session::SshSession};

/// The name under which the transport is registered.
pub const NAME: &str = "ssh";

/// Adds the transport.
///
/// # Errors
/// When there is a transport named `ssh` already.
pub fn register(registry: &mut Registry) -> Result<(), AlreadyRegistered> {
    let transport = Ssh { connector: Arc::new(Connector::new(registry.prompter())) };
    registry.add_transport(NAME, Arc::new(transport))
}

export_plugin!(register, provides = ["transport:ssh"]);

/// The SSH transport: what all its connections share (parsed configuration, opened keys, one prompt at a time).
struct Ssh {
    connector: Arc<Connector>,
}

#[async_trait]
impl Transport for Ssh {
    async fn connect(&self, host: &Host) -> Result<Arc<dyn Session>, TransportError> {
        let connection = self.connector.connect(host).await?;
        Ok(Arc::new(SshSession::new(Arc::clone(&self.connector), host.clone(), connection)))
    }
}

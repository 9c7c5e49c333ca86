//! Signals clients through a NATS server: a controller and ten thousand hosts have a connection each to the server, not
//! ten thousand to each other.
//!
//! The contract of the client stays what it is, marker files and a file of events. A second program on the host, the
//! relay, joins `autoprof-client attach` to the server; it is put there and started over the transport, whose connection
//! is let go then.
#![forbid(unsafe_code)]

mod channel;
mod config;
mod relay;

use std::collections::BTreeMap;

use async_nats::Client;
use autoprof_plugin::prelude::*;
use autoprof_relay::Order;
use tokio::sync::Mutex;

use crate::{channel::Relayed, config::Config};

/// The name under which the signaler is registered.
pub const NAME: &str = "nats";

/// Adds the signaler.
///
/// # Errors
/// When there is a signaler named `nats` already.
pub fn register(registry: &mut Registry) -> Result<(), AlreadyRegistered> {
    registry.add_signaler(NAME, Arc::new(NatsSignaler::default()))
}

export_plugin!(register, provides = ["signaler:nats"]);

/// The signaler, with one connection to the server for all clients.
#[derive(Debug, Default)]
pub struct NatsSignaler {
    broker: Mutex<Option<(Client, Arc<Config>)>>,
    /// Relays that were read, by architecture.
    programs: Mutex<BTreeMap<String, Bytes>>,
}

impl NatsSignaler {
    /// The connection to the server, made when it is first needed.
    async fn broker(&self) -> Result<(Client, Arc<Config>), SignalError> {
        let mut broker = self.broker.lock().await;
        if let Some(known) = &*broker {
            return Ok(known.clone());
        }
        let config = Config::read()?;
        let client = autoprof_relay::connect("autoprof", &config.servers, config.ca.as_deref(), config.login()?).await;
        let client = client.map_err(|e| {
            let mut error = SignalError::new(
                SignalErrorKind::Transport,
                format!("cannot connect to the NATS server at {}: {e}", config.servers.join(", ")),
            );
            error.hint = Some(format!("see servers, ca and login in {}", config.file.display()));
            error
        })?;
        Ok(broker.insert((client, Arc::new(config))).clone())
    }

    /// The relay for hosts of an architecture.
    async fn program(&self, client: &ClientHandle) -> Result<Bytes, SignalError> {
        let mut programs = self.programs.lock().await;
        if let Some(program) = programs.get(&client.arch) {
            return Ok(program.clone());
        }
        let program = relay::find(client)?;
        programs.insert(client.arch.clone(), program.clone());
        Ok(program)
    }
}

#[async_trait]
impl Signaler for NatsSignaler {
    async fn attach(&self, session: Arc<dyn Session>, client: &ClientHandle) -> Result<Box<dyn Channel>, SignalError> {
        let (broker, config) = self.broker().await?;
        let order = Order {
            servers: config.host_servers().to_vec(),
            ca: config.ca_text()?,
            login: config.host_login()?,
            subject: subject(&config.prefix, client),
        };
        // Of a client that has said something, the relay is likely to be there.
        let is_new = client.after == 0;
        if is_new || !relay::start(session.as_ref(), client, &order).await? {
            relay::put(session.as_ref(), client, self.program(client).await?).await?;
            if !relay::start(session.as_ref(), client, &order).await? {
                return Err(SignalError::new(
                    SignalErrorKind::NoClient,
                    format!("{}/{} is not there any more", client.directory, autoprof_relay::RELAY_PROGRAM),
                ));
            }
        }
        drop(session);
        Ok(Box::new(Relayed::attach(broker, &order, client.after).await?))
    }
}

/// The first part of a client's subjects: whose run it is of, and its directory, whose name is random.
fn subject(prefix: &str, client: &ClientHandle) -> String {
    let token = |text: &str| -> String {
        text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect()
    };
    let directory = client.directory.rsplit('/').next().unwrap_or_default();
    let run = if client.run.is_empty() { "run" } else { &client.run };
    format!("{prefix}.{}.{}", token(run), token(directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_has_no_token_that_means_more_than_itself() {
        let client = ClientHandle {
            directory: "/tmp/profilers/autoprof-aB3dEf90".to_owned(),
            run: "20261124T213000Z-a.b*>c d-1c2d".to_owned(),
            ..ClientHandle::default()
        };
        assert_eq!(subject("autoprof", &client), "autoprof.20261124T213000Z-a_b__c_d-1c2d.autoprof-aB3dEf90");
    }
}

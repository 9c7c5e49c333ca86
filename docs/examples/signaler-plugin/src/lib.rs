//! mqtt: signals clients through an MQTT broker, so that no connection to a host stays open while it collects.
//!
//! On the host the two programs of mosquitto-clients join the client's own `attach` to the broker (`host.sh`); on the
//! controller each host has a connection to it (`channel.rs`). `AUTOPROF_MQTT` is the broker's `host:port`.
#![forbid(unsafe_code)]

mod channel;

use std::{
    env,
    time::{SystemTime, UNIX_EPOCH},
};

use autoprof_plugin::{core::transport::capture, prelude::*};

/// What is run on each host.
const HOST: &str = include_str!("host.sh");
/// Most that it prints.
const LIMIT: usize = 64 << 10;

/// Adds the signaler.
///
/// # Errors
/// When there is a signaler named `mqtt` already.
pub fn register(registry: &mut Registry) -> Result<(), AlreadyRegistered> {
    registry.add_signaler("mqtt", Arc::new(Mqtt))
}

export_plugin!(register, provides = ["signaler:mqtt"]);

struct Mqtt;

#[async_trait]
impl Signaler for Mqtt {
    async fn attach(&self, session: Arc<dyn Session>, client: &ClientHandle) -> Result<Box<dyn Channel>, SignalError> {
        let (host, port) = broker()?;
        let topic = topic(client);
        // It listens before the host speaks, and the host does before this function ends: nothing is lost either way.
        let line = channel::Line::open(&host, port, &topic, client.after).await?;
        let (after, port) = (client.after.to_string(), port.to_string());
        let command = Command::new(["/bin/sh", "-s", "--", &client.directory, &after, &topic, &host, &port]);
        let begun = capture(session.as_ref(), &command, HOST.into(), LIMIT).await?;
        if !begun.status.success() {
            let message = format!("the host cannot be joined to the MQTT broker: {}", begun.stderr_text());
            return Err(SignalError::new(SignalErrorKind::Transport, message));
        }
        // The session is let go of: autoprof closes a connection that nobody holds.
        Ok(Box::new(line))
    }
}

fn broker() -> Result<(String, u16), SignalError> {
    let wrong = |message: &str| {
        SignalError::new(SignalErrorKind::Transport, message).with_hint("for example AUTOPROF_MQTT=broker.example:1883")
    };
    let address = env::var("AUTOPROF_MQTT").map_err(|_| wrong("AUTOPROF_MQTT does not say where the broker is"))?;
    let (host, port) = address.rsplit_once(':').ok_or_else(|| wrong("AUTOPROF_MQTT has no port"))?;
    Ok((host.to_owned(), port.parse().map_err(|_| wrong("the port in AUTOPROF_MQTT is no number"))?))
}

/// What nobody else talks about: the client, whose directory has a random name, and this one time of attaching to it, so
/// that what an earlier one left behind on the host speaks to nobody.
fn topic(client: &ClientHandle) -> String {
    let directory = client.directory.rsplit('/').next().unwrap_or_default();
    // + and # are wildcards, and the name is what the host said.
    let directory: String = directory.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!("autoprof/{directory}/{now:x}")
}

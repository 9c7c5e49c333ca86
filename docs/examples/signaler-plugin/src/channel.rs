//! The line to one client, by way of the broker.
use std::time::Duration;

use autoprof_plugin::{
    core::{protocol::Event, text::one_line},
    prelude::*,
};
use rumqttc::v5::{
    AsyncClient, Event as Mqtt, EventLoop, MqttOptions,
    mqttbytes::{
        QoS,
        v5::{Packet, SubscribeReasonCode},
    },
};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

/// How long the broker may take to let us in, and how long it may be away later.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between two tries to reach it.
const PAUSE: Duration = Duration::from_millis(500);
/// How long the broker keeps what the host said while we are away.
const KEEP: Duration = Duration::from_secs(3600);
/// Longest event.
const LONGEST: u32 = 1 << 20;
/// Events that wait to be handed out; when there are more, they wait at the broker.
const WAITING: usize = 64;

/// A client that is attached to by `host.sh`.
pub(crate) struct Line {
    broker: AsyncClient,
    orders: String,
    said: mpsc::Receiver<Result<Bytes, SignalError>>,
    /// The last event that was handed out.
    after: u64,
    /// The last line that was no event: an error message, if the end follows.
    remark: String,
    /// Keeps the connection alive when nobody waits for an event. Dropping it ends the task.
    _connection: JoinSet<()>,
}

impl Line {
    /// Connects, and listens on a client's topic.
    pub(crate) async fn open(host: &str, port: u16, topic: &str, after: u64) -> Result<Self, SignalError> {
        let mut options = MqttOptions::new(topic.replace('/', "-"), host, port);
        options.set_keep_alive(Duration::from_secs(10));
        // A session that outlives the connection: with QoS 1 what is said meanwhile comes later.
        options.set_clean_start(false).set_session_expiry_interval(Some(KEEP.as_secs() as u32));
        options.set_max_packet_size(Some(LONGEST));
        let (broker, mut connection) = AsyncClient::new(options, WAITING);
        let listen = broker.subscribe(format!("{topic}/events"), QoS::AtLeastOnce);
        listen.await.map_err(|e| gone(&e.to_string()))?;
        match timeout(PATIENCE, listening(&mut connection)).await {
            Ok(Ok(())) => {}
            Ok(Err(e)) => return Err(gone(&e)),
            Err(_) => return Err(SignalError::new(SignalErrorKind::Timeout, "the MQTT broker does not answer")),
        }
        let (sender, said) = mpsc::channel(WAITING);
        let mut task = JoinSet::new();
        task.spawn(keep(connection, sender));
        let orders = format!("{topic}/orders");
        Ok(Self { broker, orders, said, after, remark: String::new(), _connection: task })
    }
}

#[async_trait]
impl Channel for Line {
    async fn signal(&mut self, signal: Signal) -> Result<(), SignalError> {
        let sent = self.broker.publish(&self.orders, QoS::AtLeastOnce, false, signal.to_string());
        sent.await.map_err(|e| gone(&e.to_string()))
    }

    async fn event(&mut self) -> Result<Event, SignalError> {
        loop {
            // Cancel safe, and the only thing that is waited for.
            let line = self.said.recv().await.unwrap_or_else(|| Err(gone("the connection has ended")))?;
            let text = String::from_utf8_lossy(&line);
            match serde_json::from_str::<Event>(&text) {
                // Without a number it is of now. With QoS 1 a message may come twice.
                Ok(event) if event.seq == 0 => return Ok(event),
                Ok(event) if event.seq > self.after => {
                    self.after = event.seq;
                    return Ok(event);
                }
                Ok(_) => {}
                Err(_) if text.starts_with("end: ") => {
                    self.said.close();
                    let message =
                        format!("the client is no longer attached ({}) {}", one_line(&text[5..]), self.remark);
                    return Err(SignalError::new(SignalErrorKind::Closed, message.trim_end()));
                }
                Err(_) => self.remark = one_line(&text),
            }
        }
    }
}

/// Until the broker has our subscription.
async fn listening(connection: &mut EventLoop) -> Result<(), String> {
    loop {
        match connection.poll().await {
            Ok(Mqtt::Incoming(Packet::SubAck(answer))) => {
                let is_taken = matches!(answer.return_codes[..], [SubscribeReasonCode::Success(_)]);
                return if is_taken { Ok(()) } else { Err("it does not let us listen".to_owned()) };
            }
            Ok(_) => {}
            Err(e) => return Err(e.to_string()),
        }
    }
}

/// Hands on what comes, and connects again where the connection breaks.
async fn keep(mut connection: EventLoop, said: mpsc::Sender<Result<Bytes, SignalError>>) {
    let mut broken: Option<Instant> = None;
    let end = loop {
        match connection.poll().await {
            Ok(Mqtt::Incoming(Packet::Publish(message))) => {
                if said.send(Ok(message.payload)).await.is_err() {
                    return;
                }
            }
            // A broker that was started again may have lost what was said: autoprof attaches anew, and is told it.
            Ok(Mqtt::Incoming(Packet::ConnAck(answer))) if !answer.session_present => {
                break "it has forgotten us".to_owned();
            }
            Ok(Mqtt::Incoming(Packet::ConnAck(_))) => broken = None,
            Ok(_) => {}
            Err(e) if broken.get_or_insert_with(Instant::now).elapsed() < PATIENCE => {
                tracing::debug!("the MQTT broker is away: {e}");
                sleep(PAUSE).await;
            }
            Err(e) => break e.to_string(),
        }
    };
    // If nobody listens any more, nobody has to know.
    let _ = said.send(Err(gone(&end))).await;
}

fn gone(why: &str) -> SignalError {
    SignalError::new(SignalErrorKind::Closed, format!("the MQTT broker: {why}"))
}

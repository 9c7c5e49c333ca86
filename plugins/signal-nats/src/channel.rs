//! The line to one client, by way of the server.
use std::time::Duration;

use async_nats::{Client, Message, Subscriber};
use autoprof_plugin::{
    core::{protocol::Event, text::one_line},
    prelude::*,
};
use autoprof_relay::{Order, Said, What};
use futures_util::StreamExt as _;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// How long a relay may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
/// How long it may be silent after it was asked for a sign of life: as long as a connection of SSH may, which is found
/// broken by its keepalives then.
const SILENCE: Duration = Duration::from_secs(20);
/// How long an order may be without an answer before it is given again: its relay may be away from the server.
const AGAIN: Duration = Duration::from_secs(1);
/// How long to wait where the server says that nobody listens.
const PAUSE: Duration = Duration::from_millis(100);
/// How long what was missed may take before it is asked for again.
const REPLAY: Duration = Duration::from_secs(2);

/// A client that is attached to by its relay.
pub(crate) struct Relayed {
    broker: Client,
    command: String,
    said: Subscriber,
    /// The last event that was handed out.
    after: u64,
    /// How many orders were given since it was attached to.
    orders: u64,
    /// Since when an answer is waited for.
    asked: Option<Instant>,
    /// Whether there is something that has not come.
    missed: bool,
    /// When that was asked for.
    replayed: Option<Instant>,
    /// Why nothing more comes.
    closed: Option<SignalError>,
}

impl Relayed {
    /// Has the relay attach to its client, behind an event.
    pub(crate) async fn attach(broker: Client, order: &Order, after: u64) -> Result<Self, SignalError> {
        let command = order.command();
        let said = broker.subscribe(order.event()).await.map_err(|e| gone(&e.to_string()))?;
        let answer = ask(&broker, &command, &format!("attach {after}"), ANSWER_WITHIN).await?;
        let answer = String::from_utf8_lossy(&answer.payload);
        if answer != "attached" {
            return Err(gone(&format!("the relay could not attach to the client: {}", one_line(&answer))));
        }
        Ok(Self { broker, command, said, after, orders: 0, asked: None, missed: false, replayed: None, closed: None })
    }

    async fn tell(&self, line: String) -> Result<(), SignalError> {
        self.broker.publish(self.command.clone(), line.into()).await.map_err(|e| gone(&e.to_string()))
    }

    /// Gives an order, again until the relay says that it has it: the server keeps nothing for one that is away.
    async fn order(&mut self, line: &str) -> Result<(), SignalError> {
        self.orders += 1;
        let order = format!("{} {line}", self.orders);
        ask(&self.broker, &self.command, &order, AGAIN).await.map(drop)
    }

    /// The event in a message, if it is the next one.
    fn take(&mut self, payload: &[u8]) -> Result<Option<Event>, SignalError> {
        let text = String::from_utf8_lossy(payload);
        let unclear = |e: &str| {
            let shown = one_line(&text.chars().take(200).collect::<String>());
            SignalError::new(SignalErrorKind::Protocol, format!("the relay said {shown}: {}", one_line(e)))
        };
        let Said { last, what } = text.parse().map_err(|e: String| unclear(&e))?;
        let line = match what {
            What::Line(line) => line,
            What::End(why) => {
                let message = format!("the client is no longer attached ({})", one_line(&why));
                self.closed = Some(SignalError::new(SignalErrorKind::Closed, message));
                return Ok(None);
            }
        };
        let event: Event = serde_json::from_str(&line).map_err(|e| unclear(&e.to_string()))?;
        let is_next = event.seq == self.after + 1;
        if is_next {
            self.after = event.seq;
        }
        self.missed |= last > self.after;
        // One without a number is of now; one that was handed out, or before which some are missing, is not.
        Ok((event.seq == 0 || is_next).then_some(event))
    }

    /// Asks for what was missed: the server keeps nothing for those who were away for a moment. Cancel safe.
    async fn replay(&mut self) -> Result<(), SignalError> {
        if self.missed && self.replayed.is_none_or(|when| when.elapsed() > REPLAY) {
            tracing::info!(after = self.after, subject = self.command, "asking for events that were missed");
            self.tell(format!("attach {}", self.after)).await?;
            self.replayed = Some(Instant::now());
            self.missed = false;
        }
        Ok(())
    }
}

#[async_trait]
impl Channel for Relayed {
    async fn signal(&mut self, signal: Signal) -> Result<(), SignalError> {
        if matches!(signal, Signal::Beat(_)) {
            self.asked.get_or_insert_with(Instant::now);
            return self.tell(signal.to_string()).await;
        }
        self.order(&signal.to_string()).await
    }

    async fn event(&mut self) -> Result<Event, SignalError> {
        loop {
            if let Some(closed) = &self.closed {
                return Err(closed.clone());
            }
            self.replay().await?;
            let silent = self.asked.map(|asked| asked + SILENCE);
            let silence = async {
                match silent {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            // Both are cancel safe.
            let message = tokio::select! {
                message = self.said.next() => message.ok_or_else(|| gone("the connection to it has ended"))?,
                () = silence => {
                    let message = format!("nothing was heard of the host for {} s", SILENCE.as_secs());
                    return Err(SignalError::new(SignalErrorKind::Timeout, message));
                }
            };
            self.asked = None;
            if let Some(event) = self.take(&message.payload)? {
                return Ok(event);
            }
        }
    }
}

/// Asks a relay, again after `each` time without an answer. That nobody listens is no answer: a relay may be away from the
/// server for a moment, or have subscribed to its orders a moment ago, which the server has not seen yet.
async fn ask(broker: &Client, command: &str, text: &str, each: Duration) -> Result<Message, SignalError> {
    let end = Instant::now() + ANSWER_WITHIN;
    loop {
        let request = broker.request(command.to_owned(), text.to_owned().into());
        let problem = match timeout(each, request).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(e)) => {
                sleep(PAUSE).await;
                format!(": {e}")
            }
            Err(_) => String::new(),
        };
        if Instant::now() >= end {
            let message = format!("the relay did not answer within {} s{problem}", ANSWER_WITHIN.as_secs());
            return Err(SignalError::new(SignalErrorKind::Timeout, message));
        }
    }
}

/// The way through the server is not there any more.
fn gone(why: &str) -> SignalError {
    SignalError::new(SignalErrorKind::Closed, format!("the NATS server: {why}"))
}

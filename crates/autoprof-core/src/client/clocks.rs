//! Comparing a host's clock with the controller's, and saying an instant in the host's terms.
use std::time::{Duration, Instant, SystemTime};

use autoprof_protocol::{Event, EventKind, MarkerTime};

use super::HostClient;
use crate::{error::SignalError, event::HostEvent, manifest::ClockOffset, signal::Signal};

/// Most questions to a host in one comparison; the one with the shortest way there and back counts.
const MOST_EXCHANGES: usize = 8;
/// Fewest, unless a host is so near that more would tell nothing.
const FEWEST_EXCHANGES: usize = 3;
/// An error below which nobody sees a difference.
const GOOD_ERROR_S: f64 = 100e-6;
/// How long an answer may take, whatever else the client says before it: all other hosts wait meanwhile. A client that
/// never gave one is told to begin at once.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a comparison is good for.
const FRESH: Duration = Duration::from_secs(10);
/// By how much two clocks drift apart at most, by the second: a clock that nothing corrects is off by some tens of
/// millionths, one that is being corrected by up to 500 (adjtime(3)), for a while.
const DRIFT: f64 = 100e-6;

/// What is known of a host's clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Compared {
    offset: ClockOffset,
    when: Instant,
}

/// A question for a sign of life that has not been answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question {
    number: u64,
    asked: SystemTime,
    sent: Instant,
}

impl Compared {
    /// How long a message to the host and the answer take.
    pub(crate) fn round_trip(&self) -> Duration {
        Duration::from_secs_f64(self.offset.error_s * 2.0)
    }

    /// How far off the comparison may be by now.
    fn error_s(&self) -> f64 {
        self.offset.error_s + self.when.elapsed().as_secs_f64() * DRIFT
    }
}

impl HostClient {
    /// Whether its clock was compared a moment ago.
    pub(crate) fn has_fresh_clock(&self) -> bool {
        self.compared.is_some_and(|compared| compared.when.elapsed() <= FRESH)
    }

    /// Compares the host's clock with the controller's, and has it on record.
    pub(crate) async fn compare_clocks(&mut self) {
        let mut best: Option<ClockOffset> = None;
        for nth in 1..=MOST_EXCHANGES {
            let Some(offset) = self.exchange().await else { break };
            let is_no_surprise = best.is_some_and(|b| offset.error_s < b.error_s * 1.25);
            best = best.filter(|b| b.error_s <= offset.error_s).or(Some(offset));
            if offset.error_s < GOOD_ERROR_S || (nth >= FEWEST_EXCHANGES && is_no_surprise) {
                break;
            }
        }
        if let Some(offset) = best {
            self.note(HostEvent::Clock { offset });
        }
    }

    /// Asks for the host's time once.
    async fn exchange(&mut self) -> Option<ClockOffset> {
        self.ask().await.ok()?;
        tokio::time::timeout(PATIENCE, self.answer()).await.ok()?
    }

    /// The answer to the last question; what comes before it is taken in. Cancel safe.
    async fn answer(&mut self) -> Option<ClockOffset> {
        loop {
            let event = self.channel.as_mut()?.event().await.ok()?;
            let offset = self.answer_of(&event);
            self.take(event);
            if offset.is_some() {
                return offset;
            }
        }
    }

    /// Asks for a sign of life; the answer has the host's time in it.
    pub(super) async fn ask(&mut self) -> Result<(), SignalError> {
        let Some(channel) = self.channel.as_mut() else { return Ok(()) };
        self.questions += 1;
        self.question = Some(Question { number: self.questions, asked: SystemTime::now(), sent: Instant::now() });
        channel.signal(Signal::Beat(self.questions)).await
    }

    /// What an answer says of the host's clock, as NTP finds it (RFC 5905, section 8): what the message was on its way,
    /// there and back, is what lies between question and answer without what the host took to find it. Its clock was read
    /// somewhere in between, so that it is off by half of that at most. A comparison that is better than the one before
    /// has become by now takes its place.
    pub(super) fn answer_of(&mut self, event: &Event) -> Option<ClockOffset> {
        let EventKind::Beat { question: number, took_ns, .. } = event.kind else { return None };
        // An answer to an earlier question may still have been on its way.
        let question = self.question.take_if(|question| question.number == number)?;
        let error_s = question.sent.elapsed().saturating_sub(Duration::from_nanos(took_ns)).as_secs_f64() / 2.0;
        let asked = question.asked.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let offset = ClockOffset { ahead_s: event.at.unix_seconds() - (asked + error_s), error_s };
        if self.compared.is_none_or(|before| error_s < before.error_s()) {
            self.compared = Some(Compared { offset, when: Instant::now() });
        }
        Some(offset)
    }

    /// What is known of its clock.
    pub(crate) fn compared(&self) -> Option<Compared> {
        self.compared
    }

    /// An instant of this machine's clock by the host's; at once where that is not known.
    #[expect(clippy::cast_possible_truncation, reason = "nanoseconds of an offset that is a time of day's at most")]
    pub(super) fn by_its_clock(&self, instant: SystemTime) -> MarkerTime {
        let since = instant.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        match (self.compared, i64::try_from(since)) {
            (Some(compared), Ok(ns)) => MarkerTime::At(ns.saturating_add((compared.offset.ahead_s * 1e9) as i64)),
            _ => MarkerTime::Now,
        }
    }
}

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

/// How far ahead an instant may be that hosts are told: more than [`crate::profilers`] ever chooses.
const MOST_AHEAD: Duration = Duration::from_secs(10);
/// How old an answer may be before an instant is told by it.
const RECENT: Duration = Duration::from_secs(2);

/// What is known of a host's clock: what it showed at an instant of this machine's monotonic clock, so that setting
/// this machine's clock changes nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Compared {
    host_unix_ns: i64,
    error_s: f64,
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
        Duration::from_secs_f64(self.error_s * 2.0)
    }

    /// How far off the comparison may be by now.
    fn error_s(&self) -> f64 {
        self.error_s + self.when.elapsed().as_secs_f64() * DRIFT
    }

    /// What the host's clock shows at an instant.
    fn at(&self, instant: Instant) -> i64 {
        let ns = |span: Duration| i64::try_from(span.as_nanos()).unwrap_or(i64::MAX);
        match instant.checked_duration_since(self.when) {
            Some(after) => self.host_unix_ns.saturating_add(ns(after)),
            None => self.host_unix_ns.saturating_sub(ns(self.when - instant)),
        }
    }

    /// Whether a newer comparison says that the host's clock was set since this one.
    #[expect(clippy::cast_precision_loss, reason = "a comparison of durations")]
    fn contradicts(&self, newer: &Self) -> bool {
        let jump_s = (i128::from(newer.host_unix_ns) - i128::from(self.at(newer.when))) as f64 / 1e9;
        jump_s.abs() > self.error_s() + newer.error_s
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

    /// Compares the clocks once more where the last answer is not recent.
    pub(crate) async fn refresh_clock(&mut self) {
        if self.answered.is_none_or(|answered| answered.elapsed() > RECENT) && self.exchange().await.is_none() {
            // It does not answer, so nothing is known of its clock: it is told to act at once.
            self.compared = None;
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
        self.unanswered.get_or_insert_with(Instant::now);
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
        let when = question.sent + Duration::from_secs_f64(error_s);
        let compared = Compared { host_unix_ns: event.at.unix_ns, error_s, when };
        let better = |before: Compared| error_s < before.error_s() || before.contradicts(&compared);
        if self.compared.is_none_or(better) {
            self.compared = Some(compared);
        }
        self.answered = Some(Instant::now());
        Some(offset)
    }

    /// What is known of its clock.
    pub(crate) fn compared(&self) -> Option<Compared> {
        self.compared
    }

    /// An instant by the host's clock; at once where that clock is not known, or the instant would not be soon.
    pub(super) fn by_its_clock(&self, instant: Instant) -> MarkerTime {
        let soon = instant.saturating_duration_since(Instant::now()) <= MOST_AHEAD;
        self.compared.filter(|_| soon).map_or(MarkerTime::Now, |compared| MarkerTime::At(compared.at(instant)))
    }
}

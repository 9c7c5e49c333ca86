//! Where samples are missing in a table with a fixed interval.
use autoprof_core::{RawResults, SampleCount};

use super::SECOND;

/// A gap is said when this many samples are missing in a row: one that came late is not a gap.
const MIN_MISSING: i64 = 2;

/// The share of samples that may be missing before a table is incomplete, as a divisor: 5 %.
const MAX_MISSING: i64 = 20;

/// How long a tool may take to end when it is asked to; meanwhile it takes no samples.
const ENDING: i64 = 2 * SECOND;

/// The samples of one table, as they come.
#[derive(Debug)]
pub(super) struct Series {
    interval: i64,
    /// Whether all instants so far were whole seconds: then no more samples than one a second can be told apart.
    whole_seconds: bool,
    began: i64,
    /// None: nobody saw the tool end.
    ended: Option<i64>,
    last: Option<i64>,
    got: i64,
    missing: i64,
    /// The longest time without a sample of which some are missing, and how many.
    longest: (i64, i64),
}

/// What is to be said of a table's samples.
pub(super) struct Verdict {
    pub(super) samples: SampleCount,
    /// `no samples for 6.2 s: expected 31 samples, got 25`.
    pub(super) gap: Option<String>,
    /// Whether that is too much for the table to be whole.
    pub(super) incomplete: bool,
}

impl Series {
    pub(super) fn new(raw: &RawResults, interval: i64) -> Option<Self> {
        let ended = (!raw.end_unknown).then_some(raw.ended_unix_ns);
        let began = raw.began_unix_ns;
        (interval > 0).then_some(Self {
            interval,
            whole_seconds: true,
            began,
            ended,
            last: None,
            got: 0,
            missing: 0,
            longest: (0, 0),
        })
    }

    /// Notes a sample; rows of one instant are one sample.
    pub(super) fn sample(&mut self, at: i64) {
        self.whole_seconds &= at % SECOND == 0;
        match self.last {
            Some(last) if at <= last => return,
            Some(last) => self.gap(at.saturating_sub(last), 1),
            // The first sample ends its interval, and may be one later: what is printed are changes, or it starts slowly.
            None => self.gap(at.saturating_sub(self.began), 2),
        }
        self.last = Some(at);
        self.got += 1;
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.got == 0
    }

    /// The time from one sample to the next, as far as the instants show it.
    fn step(&self) -> i64 {
        if self.whole_seconds { self.interval.max(SECOND) } else { self.interval }
    }

    /// A time without a sample, in which so many intervals are as they should be. A quarter of an interval is jitter.
    fn gap(&mut self, length: i64, regular: i64) {
        self.lacks(length, length.saturating_add(self.step() / 4) / self.step(), regular);
    }

    fn lacks(&mut self, length: i64, intervals: i64, regular: i64) {
        let missing = intervals.saturating_sub(regular).max(0);
        self.missing = self.missing.saturating_add(missing);
        if missing > 0 && length > self.longest.0 {
            self.longest = (length, missing);
        }
    }

    /// None without a sample: that is not for this to judge.
    pub(super) fn finish(mut self) -> Option<Verdict> {
        let last = self.last?;
        if let Some(ended) = self.ended {
            // The interval in which it was stopped has no sample, and the one before may have been late.
            let length = ended.saturating_sub(last);
            self.lacks(length, length.saturating_sub(ENDING) / self.step(), 1);
        }
        let Self { got, missing, longest: (length, in_a_row), .. } = self;
        let expected = got.saturating_add(missing);
        let count = |n: i64| u64::try_from(n).unwrap_or(0);
        let samples = SampleCount { expected: count(expected), got: count(got) };
        let is_gap = in_a_row >= MIN_MISSING || missing > expected / MAX_MISSING;
        let gap = (missing >= MIN_MISSING && is_gap)
            .then(|| format!("no samples for {:.1} s: expected {expected} samples, got {got}", seconds(length)));
        let incomplete = gap.is_some() && missing.saturating_mul(MAX_MISSING) > expected;
        Some(Verdict { samples, gap, incomplete })
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
fn seconds(ns: i64) -> f64 {
    ns as f64 / 1e9
}

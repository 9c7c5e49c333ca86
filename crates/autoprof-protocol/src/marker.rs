//! Marker files: how a client is told to start, stop and report.
//!
//! The rule is Autotest's. For each step the client makes a FIFO at the marker's path and blocks reading it;
//! if something is there already, the signal came first: the client reads it, removes it and goes on. So
//! either side may come first, and `echo A > AUTODIR/profiler.start`, typed by a person, works.
use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The three signals, in the order in which a client waits for them.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Marker {
    /// Begin to profile.
    Start,
    /// End the profilers and finish their files.
    Stop,
    /// Turn raw data into reports where that must happen on the host.
    Report,
}

impl Marker {
    /// All markers, in order.
    pub const ALL: [Self; 3] = [Self::Start, Self::Stop, Self::Report];

    /// The name of the marker's file in the client's directory.
    #[must_use]
    pub const fn file_name(self) -> &'static str {
        match self {
            Self::Start => "profiler.start",
            Self::Stop => "profiler.stop",
            Self::Report => "profiler.report",
        }
    }

    /// The word for this marker on an attach stream.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Report => "report",
        }
    }
}

impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Marker {
    type Err = UnknownMarker;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|m| m.word() == word).ok_or_else(|| UnknownMarker(word.to_owned()))
    }
}

/// A word that names no marker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown marker {0:?}: expected start, stop or report")]
pub struct UnknownMarker(String);

/// When the step that a marker asks for is to happen: the marker's content.
///
/// `A\n` is "now"; `A <unix seconds>.<nanoseconds>\n` is that instant of the host's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MarkerTime {
    /// As soon as the marker is seen.
    Now,
    /// At this instant of the host's wall clock, in nanoseconds since 1970-01-01 UTC.
    At(i64),
}

/// Content of a marker that is neither `A` nor `A <seconds>.<nanoseconds>`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bad marker content {0:?}: expected `A` or `A <unix seconds>.<nanoseconds>`")]
pub struct BadMarkerTime(String);

impl fmt::Display for MarkerTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now => f.write_str("A"),
            Self::At(ns) => write!(f, "A {}.{:09}", ns.div_euclid(1_000_000_000), ns.rem_euclid(1_000_000_000)),
        }
    }
}

impl FromStr for MarkerTime {
    type Err = BadMarkerTime;

    fn from_str(content: &str) -> Result<Self, Self::Err> {
        let bad = || BadMarkerTime(content.chars().take(80).collect());
        let content = content.trim();
        // An empty file is what a person's `touch` leaves, or `echo` between its open and its write.
        if content.is_empty() || content == "A" {
            return Ok(Self::Now);
        }
        let instant = content.strip_prefix("A ").ok_or_else(bad)?.trim();
        let (seconds, fraction) = instant.split_once('.').unwrap_or((instant, ""));
        if fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad());
        }
        let seconds: i64 = seconds.parse().map_err(|_| bad())?;
        let nanos: i64 = format!("{fraction:0<9}").parse().map_err(|_| bad())?;
        seconds.checked_mul(1_000_000_000).and_then(|s| s.checked_add(nanos)).map(Self::At).ok_or_else(bad)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_person_types_means_now() {
        for content in ["A\n", "A", "", "\n"] {
            assert_eq!(content.parse(), Ok(MarkerTime::Now), "{content:?}");
        }
    }

    #[test]
    fn a_fraction_may_be_shorter_than_nanoseconds() {
        assert_eq!("A 12.5\n".parse(), Ok(MarkerTime::At(12_500_000_000)));
        assert_eq!("A 12\n".parse(), Ok(MarkerTime::At(12_000_000_000)));
    }

    #[test]
    fn anything_else_is_refused() {
        for content in ["B", "A x", "A 1.0000000001", "A 1.-5", "A 99999999999999999999", "AA"] {
            assert!(content.parse::<MarkerTime>().is_err(), "{content:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(ns in 0..i64::MAX) {
            prop_assert_eq!(MarkerTime::At(ns).to_string().parse(), Ok(MarkerTime::At(ns)));
        }

        #[test]
        fn no_content_panics(content in ".*") {
            let _ = content.parse::<MarkerTime>();
        }
    }
}

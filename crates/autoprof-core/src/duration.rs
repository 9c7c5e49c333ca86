//! Durations as people write them: a number of seconds, or `1h`, `90s`, `1m30s`, `500ms`.
use std::{fmt, str::FromStr, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Visitor};

/// Longest span that is read: 100 years. What adds it to now still gets an instant, and a float of seconds holds it.
const LONGEST: Duration = Duration::from_secs(36_525 * 86_400);

/// A span of time in a job file or on a command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// Text that is no span of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a span of time of at most 100 years: write seconds (90, 0.5) or units (90s, 1m30s, 1h, 500ms)")]
pub struct BadSpan(String);

impl Span {
    /// A number of whole seconds.
    #[must_use]
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// A span that is not too long.
    fn of(duration: Duration) -> Option<Self> {
        (duration <= LONGEST).then_some(Self(duration))
    }

    /// The span in milliseconds.
    #[must_use]
    pub fn as_millis(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }
}

impl FromStr for Span {
    type Err = BadSpan;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || BadSpan(text.to_owned());
        let trimmed = text.trim();
        let span = match trimmed.parse::<f64>() {
            Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
            Err(_) => trimmed.parse::<jiff::SignedDuration>().ok().and_then(|span| Duration::try_from(span).ok()),
        };
        span.and_then(Self::of).ok_or_else(bad)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::SignedDuration::try_from(self.0) {
            Ok(span) => write!(f, "{span:#}"),
            Err(_) => write!(f, "{}s", self.0.as_secs()),
        }
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_f64(self.0.as_secs_f64())
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct SpanVisitor;
        impl Visitor<'_> for SpanVisitor {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a span of time: seconds, or text like 90s, 1m30s or 1h")
            }

            fn visit_u64<E: serde::de::Error>(self, seconds: u64) -> Result<Span, E> {
                Span::of(Duration::from_secs(seconds)).ok_or_else(|| E::custom(BadSpan(seconds.to_string())))
            }

            fn visit_i64<E: serde::de::Error>(self, seconds: i64) -> Result<Span, E> {
                u64::try_from(seconds)
                    .map_or_else(|_| Err(E::custom(BadSpan(seconds.to_string()))), |s| self.visit_u64(s))
            }

            fn visit_f64<E: serde::de::Error>(self, seconds: f64) -> Result<Span, E> {
                let span = Duration::try_from_secs_f64(seconds).ok().and_then(Span::of);
                span.ok_or_else(|| E::custom(BadSpan(seconds.to_string())))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Span, E> {
                text.parse().map_err(E::custom)
            }
        }
        d.deserialize_any(SpanVisitor)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Span".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "a span of time: seconds, or text like 90s, 1m30s or 1h",
            "type": ["number", "string"]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_units_are_read() {
        for (text, ms) in [("90", 90_000), ("0.5", 500), ("1m30s", 90_000), ("1h", 3_600_000), ("500ms", 500)] {
            assert_eq!(text.parse::<Span>().map(Span::as_millis), Ok(ms), "{text}");
        }
        for text in ["", "-1", "soon", "1 parsec", "inf", "nan", "3155760001", "1e19", "876601h"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
            assert!(serde_yaml::from_str::<Span>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_longest_span_is_noted_and_read_again_and_is_an_instant_from_now() {
        let longest: Span = serde_json::from_str("3155760000").unwrap();
        assert_eq!(serde_json::from_str::<Span>(&serde_json::to_string(&longest).unwrap()).unwrap(), longest);
        assert!(std::time::Instant::now().checked_add(longest.0).is_some());
    }
}

//! What a column can hold, by the unit at the end of its name: no tool's word is taken for a number that cannot be.
use std::ops::RangeInclusive;

use autoprof_core::protocol::HostFacts;

/// Above every quantity of a real machine: a petabyte per second, a thousand CPUs' cycles, 35 years in microseconds. What
/// tools print when a counter wrapped or was never set (2^63, 2^64, and both divided by 1000 or 1024) is beyond it.
const MAX_QUANTITY: f64 = (1_u64 << 50) as f64;

/// Where a share of one CPU or device may end up: tools divide by an interval that they measure a little earlier or later.
const MAX_PERCENT: f64 = 110.0;

/// The same for a number of CPUs.
const TOLERANCE: f64 = 1.1;

/// More CPUs than any host has, for a host of which that is not known.
const MAX_CPUS: u32 = 100_000;

/// How much of a cell a warning shows, in characters.
const MAX_EXAMPLE: usize = 40;

/// Units of quantities that are never negative, as they end a column's name.
const QUANTITIES: &[&str] = &[
    "_per_s",
    "_per_cycle",
    "_kib",
    "_mib",
    "_bytes",
    "_pages",
    "_ns",
    "_us",
    "_ms",
    "_s",
    "_ticks",
    "_mhz",
    "_hz",
    "_watts",
    "_joules",
    "_length",
];

/// One column and what was left empty in it.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) name: String,
    /// What its numbers can be; none: it has text, or nothing is known of its numbers.
    range: Option<RangeInclusive<f64>>,
    /// Whether something may be in it that the range allows, and is not at all a number.
    unreadable: Spoiled,
    impossible: Spoiled,
    /// Cells with a number in them, or what should have been one.
    filled: u64,
}

/// Cells that were left empty.
#[derive(Debug, Default)]
struct Spoiled {
    count: u64,
    example: String,
}

impl Spoiled {
    fn add(&mut self, cell: &[u8]) {
        if self.count == 0 {
            let text = String::from_utf8_lossy(cell);
            self.example = text.chars().take(MAX_EXAMPLE).map(|c| if c.is_control() { '?' } else { c }).collect();
        }
        self.count += 1;
    }
}

impl Column {
    /// A column whose unit is told by the end of its name: `_percent`, `_cpus`, `_celsius`, `_per_s`, `_kib`, `_ms` and the
    /// like.
    pub(super) fn new(name: String, facts: &HostFacts) -> Self {
        let range = if name.ends_with("_percent") {
            Some(0.0..=MAX_PERCENT)
        } else if name.ends_with("_cpus") {
            Some(0.0..=cpus(facts) * TOLERANCE)
        } else if name.ends_with("_celsius") {
            Some(-273.15..=10_000.0)
        } else {
            QUANTITIES.iter().any(|unit| name.ends_with(unit)).then_some(0.0..=MAX_QUANTITY)
        };
        Self { name, range, unreadable: Spoiled::default(), impossible: Spoiled::default(), filled: 0 }
    }

    pub(super) fn limit(&mut self, range: RangeInclusive<f64>) {
        self.range = Some(range);
    }

    /// Whether a cell may stand as it is; if not it is counted.
    pub(super) fn admits(&mut self, cell: &[u8]) -> bool {
        let Some(range) = &self.range else { return true };
        if cell.is_empty() {
            return true;
        }
        self.filled += 1;
        let number = std::str::from_utf8(cell).ok().and_then(|text| text.trim().parse::<f64>().ok());
        match number.filter(|number| number.is_finite()) {
            None => self.unreadable.add(cell),
            Some(number) if !range.contains(&number) => self.impossible.add(cell),
            Some(_) => return true,
        }
        false
    }

    pub(super) const fn is_number(&self) -> bool {
        self.range.is_some()
    }

    /// Notes a value that its tool did not print as a number, and of which nothing reached the cell.
    pub(super) fn unreadable(&mut self, text: &str) {
        self.filled += 1;
        self.unreadable.add(text.as_bytes());
    }

    /// Cells that were left empty, and all that had something in them.
    pub(super) const fn spoiled(&self) -> (u64, u64) {
        (self.unreadable.count + self.impossible.count, self.filled)
    }

    pub(super) fn warnings(&self) -> impl Iterator<Item = String> {
        let Self { name, unreadable, impossible, .. } = self;
        let warning = |spoiled: &Spoiled, what: &str| {
            let Spoiled { count, example } = spoiled;
            let values = if *count == 1 { "value" } else { "values" };
            (*count > 0).then(|| format!("{name}: {count} {values} left empty: {what}, such as {example}"))
        };
        let unreadable = warning(unreadable, "not a number");
        unreadable.into_iter().chain(warning(impossible, "outside the possible range"))
    }
}

/// The percentage that all CPUs of a host make together, with the tolerance for one: what a process with many threads,
/// or a sum over CPUs, can reach.
pub fn percent_of_all_cpus(facts: &HostFacts) -> RangeInclusive<f64> {
    0.0..=cpus(facts) * MAX_PERCENT
}

/// What has no known upper limit, but cannot be negative.
#[must_use]
pub const fn any_quantity() -> RangeInclusive<f64> {
    0.0..=MAX_QUANTITY
}

fn cpus(facts: &HostFacts) -> f64 {
    f64::from(if facts.cpus == 0 { MAX_CPUS } else { facts.cpus })
}

//! What the columns of a table measure: quantities with fixed names and units, so that figures of two profilers can be
//! compared and a report needs to know no profiler by name.
//!
//! A profiler declares its tables in [`ProfilerInfo::tables`](crate::ProfilerInfo): for each [`TableInfo`] the key
//! columns, and a [`Measure`] for each quantity that can be computed from a row. [`VOCABULARY`] lists the quantities that
//! autoprof knows; any other name is allowed as long as it says its unit.
mod formula;
mod vocabulary;

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::args::Args;

pub use formula::{Formula, FormulaError};
pub use vocabulary::{Fold, HOST_NAMES, Kind, Quantity, VOCABULARY, known};

/// A table of a profiler, and what its columns measure.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TableInfo {
    /// File name, without directories.
    pub file: Cow<'static, str>,
    /// Names of the columns that identify what a row is about, separated by blanks; empty: the host as a whole.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub keys: Cow<'static, str>,
    /// How precise its numbers are: of several profilers that measure a quantity, the most precise one is shown.
    #[serde(skip_serializing_if = "Precision::is_default")]
    pub precision: Precision,
    /// Whether the report draws no charts of the columns by themselves, because its charts of quantities show enough.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub summarized: bool,
    /// Parameters, separated by blanks, any of which makes its columns mean something else (only some CPUs, one device):
    /// where one is given, nothing is known of the columns.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub unless: Cow<'static, str>,
    /// The quantities that it has.
    #[serde(skip_serializing_if = "<[Measure]>::is_empty")]
    pub measures: Cow<'static, [Measure]>,
}

/// How precise the numbers of a table are, the most precise first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", from = "String")]
#[non_exhaustive]
pub enum Precision {
    /// Differences of the kernel's own counters, over the time that was measured between two readings.
    Exact,
    /// Numbers that a tool printed with decimals.
    #[default]
    Decimal,
    /// Numbers that a tool rounded to integers.
    Integer,
    /// Numbers that were sampled or estimated.
    Estimate,
}

impl From<String> for Precision {
    fn from(word: String) -> Self {
        Self::from_word(&word)
    }
}

impl Precision {
    /// The word for it in a plugin's note.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Decimal => "decimal",
            Self::Integer => "integer",
            Self::Estimate => "estimate",
        }
    }

    /// The precision of a word; the default for an unknown one.
    #[must_use]
    pub fn from_word(word: &str) -> Self {
        let known = [Self::Exact, Self::Decimal, Self::Integer, Self::Estimate];
        known.into_iter().find(|precision| precision.word() == word).unwrap_or_default()
    }

    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl TableInfo {
    /// The table in this file, which is about the host as a whole.
    #[must_use]
    pub const fn new(file: &'static str) -> Self {
        Self {
            file: Cow::Borrowed(file),
            keys: Cow::Borrowed(""),
            precision: Precision::Decimal,
            summarized: false,
            unless: Cow::Borrowed(""),
            measures: Cow::Borrowed(&[]),
        }
    }

    /// Sets the columns that identify what a row is about, separated by blanks.
    #[must_use]
    pub const fn keys(mut self, keys: &'static str) -> Self {
        let old = std::mem::replace(&mut self.keys, Cow::Borrowed(keys));
        // A `Cow` cannot be dropped in a constant; the old one is borrowed.
        std::mem::forget(old);
        self
    }

    /// Sets how precise the numbers are.
    #[must_use]
    pub const fn precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// Leaves charts of the columns by themselves out of the report.
    #[must_use]
    pub const fn summarized(mut self) -> Self {
        self.summarized = true;
        self
    }

    /// Sets the parameters, separated by blanks, that make the columns mean something else.
    #[must_use]
    pub const fn unless(mut self, params: &'static str) -> Self {
        let old = std::mem::replace(&mut self.unless, Cow::Borrowed(params));
        std::mem::forget(old);
        self
    }

    /// Whether the columns mean what is declared where a profiler ran with these arguments.
    #[must_use]
    pub fn holds_for(&self, args: &Args) -> bool {
        !self.unless.split_whitespace().any(|param| args.named.contains_key(param))
    }

    /// Sets the quantities that the table has.
    #[must_use]
    pub const fn measures(mut self, measures: &'static [Measure]) -> Self {
        let old = std::mem::replace(&mut self.measures, Cow::Borrowed(measures));
        std::mem::forget(old);
        self
    }
}

/// A quantity that can be computed from a row of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Measure {
    /// Name of the quantity; a `*` in it stands for what the `*` in the formula's column name matched.
    pub quantity: Cow<'static, str>,
    /// How it is computed from the columns, in the quantity's unit: see [`Formula`].
    pub formula: Cow<'static, str>,
    /// Which rows have it: empty: all, each about its own key; `KEY`: the rows of this key, which are about the host as
    /// a whole; `!KEY`: all but those.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub rows: Cow<'static, str>,
    /// The unit, for a quantity that is not in [`VOCABULARY`].
    #[serde(skip_serializing_if = "str::is_empty")]
    pub unit: Cow<'static, str>,
}

impl Measure {
    /// The quantity that this formula gives for every row.
    #[must_use]
    pub const fn new(quantity: &'static str, formula: &'static str) -> Self {
        Self {
            quantity: Cow::Borrowed(quantity),
            formula: Cow::Borrowed(formula),
            rows: Cow::Borrowed(""),
            unit: Cow::Borrowed(""),
        }
    }

    /// Takes the rows of this key only, as those of the host as a whole; `!KEY` takes all but those.
    #[must_use]
    pub const fn rows(mut self, rows: &'static str) -> Self {
        let old = std::mem::replace(&mut self.rows, Cow::Borrowed(rows));
        std::mem::forget(old);
        self
    }

    /// Sets the unit of a quantity that is not in [`VOCABULARY`].
    #[must_use]
    pub const fn unit(mut self, unit: &'static str) -> Self {
        let old = std::mem::replace(&mut self.unit, Cow::Borrowed(unit));
        std::mem::forget(old);
        self
    }

    /// The unit of its values: the vocabulary's, or for another quantity the declared one.
    #[must_use]
    pub fn unit_of(&self) -> &str {
        known(&self.quantity).map_or(&self.unit, |quantity| quantity.unit)
    }

    /// The key under which the rows of a group are counted; none: they do not have this quantity.
    #[must_use]
    pub fn key_of<'k>(&self, key: &'k str) -> Option<&'k str> {
        match self.rows.strip_prefix('!') {
            Some(other) => (key != other).then_some(key),
            None if self.rows.is_empty() => Some(key),
            None => (key == self.rows).then_some(""),
        }
    }
}

/// What the `*` of a pattern matches in a name; the pattern has exactly one.
#[must_use]
pub fn matched<'n>(pattern: &str, name: &'n str) -> Option<&'n str> {
    let (before, after) = pattern.split_once('*')?;
    let inner = name.strip_prefix(before)?.strip_suffix(after)?;
    (!inner.is_empty()).then_some(inner)
}

/// What is wrong with the description of a table, a line each.
#[must_use]
pub fn problems(table: &TableInfo) -> Vec<String> {
    let mut problems = Vec::new();
    if table.file.is_empty() || table.file.contains('/') {
        problems.push(format!("{:?} is not a file name", table.file));
    }
    for measure in table.measures.iter() {
        let Measure { quantity, formula, .. } = measure;
        let words = quantity.split('.').collect::<Vec<_>>();
        let is_word = |word: &&str| {
            !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_*".contains(c))
        };
        if words.len() < 2 || !words.iter().all(is_word) {
            problems.push(format!("{quantity:?} is not the name of a quantity, such as nginx.requests"));
        }
        match known(quantity) {
            Some(known) if !measure.unit.is_empty() && measure.unit != known.unit => {
                problems.push(format!("{quantity} is in {}, not in {}", known.unit, measure.unit));
            }
            None if measure.unit.is_empty() => {
                problems.push(format!("{quantity} is not in the vocabulary and has no unit"));
            }
            _ => {}
        }
        match Formula::parse(formula) {
            Err(problem) => problems.push(format!("{quantity}: {problem}")),
            Ok(parsed) => {
                let patterns = parsed.names().iter().filter(|name| name.contains('*'));
                if quantity.contains('*') && patterns.clone().count() == 0 {
                    problems.push(format!("{quantity} has a * but its formula names no columns by one"));
                }
                for pattern in patterns.filter(|pattern| pattern.matches('*').count() > 1) {
                    problems.push(format!("{quantity}: {pattern:?} has more than one *"));
                }
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_survives_json_and_leaves_out_defaults() {
        const MEASURES: &[Measure] = &[Measure::new("cpu.busy", "100 - idle_percent").rows("all")];
        let table = TableInfo::new("cpu.csv").keys("cpu").precision(Precision::Exact).measures(MEASURES);
        let text = serde_json::to_string(&table).unwrap();
        assert_eq!(
            text,
            r#"{"file":"cpu.csv","keys":"cpu","precision":"exact","measures":[{"quantity":"cpu.busy","formula":"100 - idle_percent","rows":"all"}]}"#
        );
        assert_eq!(serde_json::from_str::<TableInfo>(&text).unwrap(), table);
        let newer = r#"{"file":"x.csv","precision":"clairvoyant","more":1}"#;
        assert_eq!(serde_json::from_str::<TableInfo>(newer).unwrap(), TableInfo::new("x.csv"));
    }

    #[test]
    fn an_argument_may_take_the_meaning_from_a_table() {
        let table = TableInfo::new("t.csv").unless("cpus device");
        assert!(table.holds_for(&Args::new().with("interval", 1i64)));
        assert!(!table.holds_for(&Args::new().with("cpus", "0-3")));
    }

    #[test]
    fn rows_are_selected_by_key() {
        let of = |rows: &'static str, key| Measure::new("cpu.busy", "x").rows(rows).key_of(key);
        assert_eq!((of("", "vda"), of("all", "all"), of("all", "0")), (Some("vda"), Some(""), None));
        assert_eq!((of("!all", "all"), of("!all", "0")), (None, Some("0")));
    }

    #[test]
    fn each_mistake_in_a_description_is_named() {
        let of = |measure: Measure| {
            let table = TableInfo { measures: vec![measure].into(), ..TableInfo::new("t.csv") };
            problems(&table).join("; ")
        };
        assert_eq!(of(Measure::new("nginx.requests", "r").unit("1/s")), "");
        assert_eq!(of(Measure::new("perf.*", "'*_per_s'").unit("1/s")), "");
        assert!(of(Measure::new("nginx.requests", "r")).contains("has no unit"));
        assert!(of(Measure::new("disk.read_bytes", "r").unit("KiB/s")).contains("is in bytes/s, not in KiB/s"));
        assert!(of(Measure::new("Busy", "r").unit("%")).contains("not the name of a quantity"));
        assert!(of(Measure::new("cpu.busy", "100 -")).contains("cpu.busy: "));
        assert!(of(Measure::new("perf.*", "cycles").unit("1/s")).contains("names no columns"));
    }
}

//! One profiler's knowledge: its parameters, how they become commands, and how its files become tables.
use std::borrow::Cow;

use autoprof_protocol::{HostFacts, Invocation, ToolProbe};
use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use crate::{
    args::Args,
    error::{ArgError, ConvertError},
    quantity::TableInfo,
};

/// Turns a profiler's arguments into what the client runs.
///
/// Encoding is pure: the same arguments and facts give the same invocation, nothing is read or written.
pub trait ArgEncoder: Send + Sync {
    /// What the profiler is called and takes: a `static` of the plugin's (a constant has a destructor, and no reference
    /// to it can be returned).
    fn profiler(&self) -> &ProfilerInfo;

    /// The commands for one host.
    ///
    /// `args` have been checked against [`Self::profiler`] and completed: every parameter with a default is there
    /// under its name, none is positional.
    ///
    /// # Errors
    /// When the arguments contradict each other, or the profiler cannot run on a host with these facts.
    fn encode(&self, args: &Args, facts: &HostFacts) -> Result<Invocation, ArgError>;

    /// Makes tables of the raw files that came back from one host, beside them; by default there is nothing to make.
    ///
    /// Called on the controller, once per host and profiler, on a thread where blocking is allowed. The files come
    /// from a host and are not to be trusted: read them as streams, bound what is kept.
    ///
    /// # Errors
    /// When a file cannot be read, written or understood. Raw files stay whatever happens.
    fn convert(&self, raw: &RawResults) -> Result<Vec<Table>, ConvertError> {
        let _ = raw;
        Ok(Vec::new())
    }
}

/// What one profiler left on one host, as it came back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RawResults {
    /// Where the files are; tables are written here too.
    pub directory: Utf8PathBuf,
    /// The arguments that the profiler ran with, complete.
    pub args: Args,
    /// When its tool began to collect, in nanoseconds since 1970-01-01 UTC by the host's clock.
    pub began_unix_ns: i64,
    /// When its tool was gone, likewise; where [`Self::end_unknown`], the latest that it can have been.
    pub ended_unix_ns: i64,
    /// Whether nobody saw the tool end: the host was lost.
    #[serde(default)]
    pub end_unknown: bool,
    /// What is known of the host.
    pub facts: HostFacts,
    /// When somebody set the host's clock meanwhile, in the order of time.
    #[serde(default)]
    pub clock_steps: Vec<ClockStep>,
}

/// A jump of the clock by which tools print their times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockStep {
    /// When, in nanoseconds since 1970, by the clock as it stood when the profiler began: the time axis of its tables.
    pub at_unix_ns: i64,
    /// How far it jumped; negative: backwards.
    pub step_ns: i64,
}

impl RawResults {
    /// The path of one file.
    #[must_use]
    pub fn file(&self, name: impl AsRef<Utf8Path>) -> Utf8PathBuf {
        self.directory.join(name)
    }
}

/// A table that a conversion made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Table {
    /// File name below the profiler's directory.
    pub file: String,
    /// Rows below the header.
    pub rows: u64,
    /// What had to be left out, and why; empty when everything was understood.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Whole samples that were saved from a torn file; none: the file was whole.
    ///
    /// Plugins from before this field do not give it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repaired: Option<u64>,
    /// Why the table holds less than it should; its profiler is `partial` then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incomplete: Option<String>,
    /// How many samples a table with a fixed interval has; none: it has no fixed interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<SampleCount>,
    /// Whether a table without rows is a valid result: the files were understood, and nothing had happened.
    ///
    /// Without this, a table that has no row although the profiler left data makes the profiler `partial`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub may_be_empty: bool,
}

/// How many samples a table has, and how many its window has room for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SampleCount {
    /// Samples that the window has room for.
    pub expected: u64,
    /// Samples that are there.
    pub got: u64,
}

/// What a profiler is called and takes. Plugins give it as a constant: it is part of the plugin's note and can be
/// read without running the plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfilerInfo {
    /// The name that users write.
    pub name: Cow<'static, str>,
    /// What it does, in one line.
    pub summary: Cow<'static, str>,
    /// Parameters, in the order in which positional values fill them.
    pub params: Cow<'static, [Param]>,
    /// Programs that it may need on a host, each `NAME` or `NAME:VERSION-FLAG`, separated by blanks; those are looked
    /// for there.
    pub tools: Cow<'static, str>,
    /// What it typically runs, for people.
    pub example: Cow<'static, str>,
    /// The tables that it makes, and which quantities they measure; a table that is not here is drawn by the units in
    /// its column names. Plugins from before this field do not give it.
    #[serde(default, skip_serializing_if = "<[TableInfo]>::is_empty")]
    pub tables: Cow<'static, [TableInfo]>,
}

impl ProfilerInfo {
    /// A profiler without parameters.
    #[must_use]
    pub const fn new(name: &'static str, summary: &'static str) -> Self {
        Self {
            name: Cow::Borrowed(name),
            summary: Cow::Borrowed(summary),
            params: Cow::Borrowed(&[]),
            tools: Cow::Borrowed(""),
            example: Cow::Borrowed(""),
            tables: Cow::Borrowed(&[]),
        }
    }

    /// With these parameters.
    #[must_use]
    pub const fn params(mut self, params: &'static [Param]) -> Self {
        // A `Cow` of a slice cannot be dropped in a constant; what is there before is borrowed.
        let old = std::mem::replace(&mut self.params, Cow::Borrowed(params));
        std::mem::forget(old);
        self
    }

    /// With these programs, each `NAME` or `NAME:VERSION-FLAG`, separated by blanks.
    #[must_use]
    pub const fn tools(mut self, tools: &'static str) -> Self {
        let old = std::mem::replace(&mut self.tools, Cow::Borrowed(tools));
        std::mem::forget(old);
        self
    }

    /// With this as the typical command.
    #[must_use]
    pub const fn example(mut self, example: &'static str) -> Self {
        let old = std::mem::replace(&mut self.example, Cow::Borrowed(example));
        std::mem::forget(old);
        self
    }

    /// With these tables, which say what their columns measure.
    #[must_use]
    pub const fn tables(mut self, tables: &'static [TableInfo]) -> Self {
        let old = std::mem::replace(&mut self.tables, Cow::Borrowed(tables));
        std::mem::forget(old);
        self
    }

    /// The programs to look for on a host.
    pub fn tool_probes(&self) -> impl Iterator<Item = ToolProbe> {
        self.tools.split_whitespace().map(|text| match text.parse() {
            Ok(probe) => probe,
            Err(never) => match never {},
        })
    }

    /// The parameter of this name.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&Param> {
        self.params.iter().find(|p| p.name == name)
    }
}

/// One parameter of a profiler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Param {
    /// The name that users write.
    pub name: Cow<'static, str>,
    /// What values it takes.
    pub kind: ParamType,
    /// Its value when none is given, as YAML; empty: no default, the value is absent then.
    pub default: Cow<'static, str>,
    /// The unit of its values (`s`, `Hz`, `MiB`); empty for a plain value.
    pub unit: Cow<'static, str>,
    /// For numbers `MIN..MAX`, both inclusive, either side may be absent; for strings `one|of|these`; empty: any.
    pub range: Cow<'static, str>,
    /// What it is for, in one line.
    pub help: Cow<'static, str>,
}

impl Param {
    /// A parameter of this type that is absent when it is not given.
    #[must_use]
    pub const fn new(name: &'static str, kind: ParamType, help: &'static str) -> Self {
        Self {
            name: Cow::Borrowed(name),
            kind,
            default: Cow::Borrowed(""),
            unit: Cow::Borrowed(""),
            range: Cow::Borrowed(""),
            help: Cow::Borrowed(help),
        }
    }

    /// With this default, as YAML.
    #[must_use]
    pub const fn default(mut self, default: &'static str) -> Self {
        let old = std::mem::replace(&mut self.default, Cow::Borrowed(default));
        std::mem::forget(old);
        self
    }

    /// In this unit.
    #[must_use]
    pub const fn unit(mut self, unit: &'static str) -> Self {
        let old = std::mem::replace(&mut self.unit, Cow::Borrowed(unit));
        std::mem::forget(old);
        self
    }

    /// Within `MIN..MAX`, or one of `a|b|c`.
    #[must_use]
    pub const fn range(mut self, range: &'static str) -> Self {
        let old = std::mem::replace(&mut self.range, Cow::Borrowed(range));
        std::mem::forget(old);
        self
    }
}

/// The values that a parameter takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ParamType {
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// Text.
    String,
    /// A list of texts; a single text is a list of one.
    Strings,
    /// Any value.
    Any,
}

impl ParamType {
    /// The word for it in messages and in a plugin's note.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Bool => "boolean",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::String => "string",
            Self::Strings => "list of strings",
            Self::Any => "any value",
        }
    }

    /// The type of a word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Bool, Self::Integer, Self::Number, Self::String, Self::Strings, Self::Any]
            .into_iter()
            .find(|t| t.word() == word)
    }
}

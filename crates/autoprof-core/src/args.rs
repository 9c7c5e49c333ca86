//! Arguments of profilers: values, how people write them, and how they are checked.
use std::{collections::BTreeMap, fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
    ser::{SerializeMap, SerializeSeq},
};

use crate::{
    encoder::{Param, ParamType, ProfilerInfo},
    error::{ArgError, ArgErrorKind},
    text::nearest,
    yaml::{self, Content, Node, YamlError},
};

/// How deep lists and maps may be nested.
pub const MAX_DEPTH: usize = 32;
/// Longest text that is looked at for a number, in bytes.
const MAX_SCALAR: usize = 64;

/// One value of an argument: what YAML and JSON have in common, and nothing else.
///
/// YAML tags, non-finite numbers and keys that are not strings are refused where a value is read.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A finite number.
    Float(f64),
    /// Text.
    Str(String),
    /// A list.
    List(Vec<Value>),
    /// A map.
    Map(BTreeMap<String, Value>),
}

impl Value {
    /// The word for its type in messages.
    #[must_use]
    pub const fn type_word(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Int(_) => "an integer",
            Self::Float(_) => "a number",
            Self::Str(_) => "a string",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

impl fmt::Display for Value {
    /// YAML in flow style, on one line, which reads back as the same value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(b) => write!(f, "{b}"),
            Self::Int(i) => write!(f, "{i}"),
            // `{:?}` keeps the fraction or the exponent, so that a float stays a float.
            Self::Float(x) => write!(f, "{x:?}"),
            Self::Str(s) if is_plain(s) => f.write_str(s),
            Self::Str(s) => quoted(f, s),
            Self::List(values) => {
                f.write_str("[")?;
                for (i, value) in values.iter().enumerate() {
                    write!(f, "{}{value}", if i > 0 { ", " } else { "" })?;
                }
                f.write_str("]")
            }
            Self::Map(map) => {
                f.write_str("{")?;
                for (i, (key, value)) in map.iter().enumerate() {
                    f.write_str(if i > 0 { ", " } else { "" })?;
                    quoted(f, key)?;
                    write!(f, ": {value}")?;
                }
                f.write_str("}")
            }
        }
    }
}

/// Whether a text can stand in flow style without quotes and stays a text: a careful subset.
fn is_plain(s: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    let reserved = ["null", "true", "false", "yes", "no", "on", "off", "y", "n", "inf", "nan"];
    s.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && s.chars().all(word)
        && !reserved.contains(&s.to_ascii_lowercase().as_str())
}

/// A double-quoted YAML scalar in ASCII.
fn quoted(f: &mut fmt::Formatter<'_>, s: &str) -> fmt::Result {
    f.write_str("\"")?;
    for c in s.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\t' => f.write_str("\\t")?,
            ' '..='~' => write!(f, "{c}")?,
            c => write!(f, "\\U{:08X}", u32::from(c))?,
        }
    }
    f.write_str("\"")
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => s.serialize_unit(),
            Self::Bool(b) => s.serialize_bool(*b),
            Self::Int(i) => s.serialize_i64(*i),
            Self::Float(x) => s.serialize_f64(*x),
            Self::Str(t) => s.serialize_str(t),
            Self::List(values) => {
                let mut seq = s.serialize_seq(Some(values.len()))?;
                values.iter().try_for_each(|v| seq.serialize_element(v))?;
                seq.end()
            }
            Self::Map(map) => {
                let mut out = s.serialize_map(Some(map.len()))?;
                map.iter().try_for_each(|(k, v)| out.serialize_entry(k, v))?;
                out.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        ValueSeed { depth: 0 }.deserialize(d)
    }
}

struct ValueSeed {
    depth: usize,
}

impl ValueSeed {
    fn deeper<E: serde::de::Error>(&self) -> Result<Self, E> {
        if self.depth >= MAX_DEPTH {
            return Err(E::custom(format!("nested deeper than {MAX_DEPTH} levels")));
        }
        Ok(Self { depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for ValueSeed {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Value, D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("null, a boolean, a finite number, a string, or a list or map of those")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, b: bool) -> Result<Value, E> {
        Ok(Value::Bool(b))
    }

    fn visit_i64<E>(self, i: i64) -> Result<Value, E> {
        Ok(Value::Int(i))
    }

    fn visit_u64<E: serde::de::Error>(self, u: u64) -> Result<Value, E> {
        i64::try_from(u).map(Value::Int).map_err(|_| E::custom(format!("{u} is larger than any integer here may be")))
    }

    fn visit_f64<E: serde::de::Error>(self, x: f64) -> Result<Value, E> {
        if x.is_finite() { Ok(Value::Float(x)) } else { Err(E::custom(format!("{x} is not a finite number"))) }
    }

    fn visit_str<E>(self, s: &str) -> Result<Value, E> {
        Ok(Value::Str(s.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut out = Vec::new();
        while let Some(value) = seq.next_element_seed(self.deeper()?)? {
            out.push(value);
        }
        Ok(Value::List(out))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut out = BTreeMap::new();
        // Asked for a string, YAML would hand out `1` as "1".
        while let Some(key) = map.next_key_seed(self.deeper()?)? {
            let Value::Str(key) = key else {
                return Err(A::Error::custom(format!("a key must be a string, not {} ({key})", key.type_word())));
            };
            let value = map.next_value_seed(self.deeper()?)?;
            if out.insert(key.clone(), value).is_some() {
                return Err(A::Error::custom(format!("{key:?} is given twice")));
            }
        }
        Ok(Value::Map(out))
    }
}

/// Arguments as a user gave them, or complete: positional values first, then named ones.
///
/// In a file they are a list (positional), a map (named), or nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Args {
    /// Values without a name; they fill the profiler's parameters in their order.
    pub positional: Vec<Value>,
    /// Values with a name.
    pub named: BTreeMap<String, Value>,
}

impl Args {
    /// No arguments.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more named value.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.named.insert(name.to_owned(), value.into());
        self
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.positional.is_empty() && self.named.is_empty()
    }

    /// A boolean; false when it is absent.
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        matches!(self.named.get(name), Some(Value::Bool(true)))
    }

    /// A whole number.
    #[must_use]
    pub fn integer(&self, name: &str) -> Option<i64> {
        match self.named.get(name) {
            Some(Value::Int(i)) => Some(*i),
            _ => None,
        }
    }

    /// A number.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "parameters are small numbers")]
    pub fn number(&self, name: &str) -> Option<f64> {
        match self.named.get(name) {
            Some(Value::Int(i)) => Some(*i as f64),
            Some(Value::Float(x)) => Some(*x),
            _ => None,
        }
    }

    /// A text.
    #[must_use]
    pub fn string(&self, name: &str) -> Option<&str> {
        match self.named.get(name) {
            Some(Value::Str(s)) => Some(s),
            _ => None,
        }
    }

    /// A list of texts; empty when it is absent.
    #[must_use]
    pub fn strings(&self, name: &str) -> Vec<&str> {
        match self.named.get(name) {
            Some(Value::Str(s)) => vec![s],
            Some(Value::List(values)) => {
                values.iter().filter_map(|v| if let Value::Str(s) = v { Some(s.as_str()) } else { None }).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Checks the arguments against a profiler's parameters and completes them: the result has every parameter that
    /// was given or has a default, by name.
    ///
    /// # Errors
    /// For an unknown parameter, one given twice, too many positional values, a wrong type or a value out of range;
    /// the message names profiler and parameter.
    pub fn complete(&self, info: &ProfilerInfo) -> Result<Self, ArgError> {
        let mut named = self.named.clone();
        if let Some(name) = named.keys().find(|name| info.param(name).is_none()) {
            return Err(unknown(info, name));
        }
        if self.positional.len() > info.params.len() {
            let message = format!(
                "{}: {} values without a name, but it has only {} parameters",
                info.name,
                self.positional.len(),
                info.params.len()
            );
            return Err(ArgError::new(ArgErrorKind::Unknown, message));
        }
        for (param, value) in info.params.iter().zip(&self.positional) {
            if named.insert(param.name.to_string(), value.clone()).is_some() {
                let message = format!("{}: {} is given twice, by position and by name", info.name, param.name);
                return Err(ArgError::new(ArgErrorKind::Unknown, message));
            }
        }
        for param in info.params.iter() {
            match named.get_mut(param.name.as_ref()) {
                // A null is what a person writes for "as if I had not said anything".
                None | Some(Value::Null) if param.kind != ParamType::Any => {
                    named.remove(param.name.as_ref());
                    if !param.default.is_empty() {
                        named.insert(param.name.to_string(), default_of(info, param)?);
                    }
                }
                None => {}
                Some(value) => check(info, param, value)?,
            }
        }
        Ok(Self { positional: Vec::new(), named })
    }
}

fn unknown(info: &ProfilerInfo, name: &str) -> ArgError {
    let known: Vec<&str> = info.params.iter().map(|p| p.name.as_ref()).collect();
    let message = format!("{}: no parameter {name:?}", info.name);
    let hint = match nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean {near:?}?"),
        None if known.is_empty() => "it takes no parameters".to_owned(),
        None => format!(
            "its parameters are {}; put a value with commas in quotes: -p \"{}:KEY='A,B'\"",
            known.join(", "),
            info.name
        ),
    };
    ArgError::new(ArgErrorKind::Unknown, message).with_hint(hint)
}

fn default_of(info: &ProfilerInfo, param: &Param) -> Result<Value, ArgError> {
    let mut value: Value = yaml::from_str(&param.default).map_err(|e| {
        let message = format!("{}: the plugin's default for {} is not YAML", info.name, param.name);
        ArgError::caused(ArgErrorKind::Type, message, &e)
    })?;
    check(info, param, &mut value)?;
    Ok(value)
}

/// Checks one value. A single text given for a list becomes a list; a number or boolean given for a text is the text
/// that was written, and a text that is a number or boolean of YAML's is one where the parameter is.
fn check(info: &ProfilerInfo, param: &Param, value: &mut Value) -> Result<(), ArgError> {
    let as_text = |value: &mut Value| {
        if matches!(value, Value::Int(_) | Value::Float(_) | Value::Bool(_)) {
            *value = Value::Str(value.to_string());
        }
    };
    match (param.kind, &mut *value) {
        (ParamType::Strings, Value::List(values)) => values.iter_mut().for_each(as_text),
        (ParamType::Strings | ParamType::String, one) => as_text(one),
        (ParamType::Bool | ParamType::Integer | ParamType::Number, Value::Str(text)) => {
            let scalar = Some(&*text).filter(|text| text.len() <= MAX_SCALAR);
            let scalar = scalar.and_then(|text| yaml::from_str::<Value>(text).ok());
            if let Some(scalar @ (Value::Int(_) | Value::Float(_) | Value::Bool(_))) = scalar {
                *value = scalar;
            }
        }
        _ => {}
    }
    let typed = match (param.kind, &*value) {
        (ParamType::Any, _)
        | (ParamType::Bool, Value::Bool(_))
        | (ParamType::Integer | ParamType::Number, Value::Int(_))
        | (ParamType::Number, Value::Float(_))
        | (ParamType::String, Value::Str(_)) => true,
        (ParamType::Strings, Value::List(values)) => values.iter().all(|v| matches!(v, Value::Str(_))),
        (ParamType::Strings, Value::Str(text)) => {
            *value = Value::List(vec![Value::Str(text.clone())]);
            true
        }
        _ => false,
    };
    if !typed {
        let message =
            format!("{}: {} must be {}, not {} ({value})", info.name, param.name, expected(param), value.type_word());
        let error = ArgError::new(ArgErrorKind::Type, message);
        return Err(match (param.kind, &*value) {
            (ParamType::String, Value::List(_)) => {
                error.with_hint(format!("put a text with commas in quotes: -p \"{}:{}='A,B'\"", info.name, param.name))
            }
            _ => error,
        });
    }
    if !in_range(&param.range, value) {
        let message = format!("{}: {} is {value}, which is not {}", info.name, param.name, expected(param));
        return Err(ArgError::new(ArgErrorKind::Range, message));
    }
    Ok(())
}

/// What a parameter takes, in words: `an integer, 1..3600 s`.
fn expected(param: &Param) -> String {
    if param.range.contains('|') {
        return format!("one of {}", param.range.replace('|', ", "));
    }
    let article = match param.kind {
        ParamType::Integer => "an ",
        ParamType::Any => "",
        _ => "a ",
    };
    let mut out = format!("{article}{}", param.kind.word());
    if !param.range.is_empty() {
        out = format!("{out} in {}", param.range);
    }
    if !param.unit.is_empty() {
        out = format!("{out} {}", param.unit);
    }
    out
}

#[expect(clippy::cast_precision_loss, reason = "ranges of parameters are small numbers")]
fn in_range(range: &str, value: &Value) -> bool {
    let within = |x: f64| {
        let Some((low, high)) = range.split_once("..") else { return false };
        let below = low.parse().is_ok_and(|low: f64| x < low);
        let above = high.parse().is_ok_and(|high: f64| x > high);
        !below && !above
    };
    match value {
        _ if range.is_empty() => true,
        Value::Int(i) => within(*i as f64),
        Value::Float(x) => within(*x),
        Value::Str(s) => range.split('|').any(|choice| choice == s),
        Value::List(values) => values.iter().all(|v| in_range(range, v)),
        Value::Null | Value::Bool(_) | Value::Map(_) => true,
    }
}

macro_rules! value_from {
    ($($from:ty => |$x:ident| $to:expr),* $(,)?) => {
        $(impl From<$from> for Value {
            fn from($x: $from) -> Self {
                $to
            }
        })*
    };
}
value_from! {
    bool => |b| Self::Bool(b),
    i64 => |i| Self::Int(i),
    f64 => |x| Self::Float(x),
    &str => |s| Self::Str(s.to_owned()),
    String => |s| Self::Str(s),
    Vec<Value> => |v| Self::List(v),
}

impl Serialize for Args {
    /// A list when all values are positional, else a map.
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match (self.positional.is_empty(), self.named.is_empty()) {
            (false, true) => self.positional.serialize(s),
            (true, _) => self.named.serialize(s),
            (false, false) => Err(serde::ser::Error::custom("positional and named values have no common form")),
        }
    }
}

impl<'de> Deserialize<'de> for Args {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        match Value::deserialize(d)? {
            Value::Null => Ok(Self::default()),
            Value::List(positional) => Ok(Self { positional, ..Self::default() }),
            Value::Map(named) => Ok(Self { named, ..Self::default() }),
            one => Ok(Self { positional: vec![one], ..Self::default() }),
        }
    }
}

/// A profiler with its arguments, as users write it: `perf:frequency=99,events=[cpu-clock]`.
#[derive(Debug, Clone, PartialEq)]
pub struct ProfilerSpec {
    /// The profiler's name.
    pub name: String,
    /// Its arguments.
    pub args: Args,
}

/// A profiler that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot read profiler {spec:?}: {reason}")]
pub struct BadProfilerSpec {
    spec: String,
    reason: String,
}

impl FromStr for ProfilerSpec {
    type Err = BadProfilerSpec;

    /// Reads `NAME` or `NAME:VALUE,…,KEY=VALUE,…`; values are YAML scalars, or lists and maps in flow style.
    fn from_str(spec: &str) -> Result<Self, Self::Err> {
        let bad = |reason: String| BadProfilerSpec { spec: spec.to_owned(), reason };
        let (name, rest) = spec.split_once(':').unwrap_or((spec, ""));
        if !is_name(name) {
            return Err(bad("a name has letters, digits, - and _ and begins with a letter".into()));
        }
        let mut args = Args::default();
        for part in split_top_level(rest).map_err(|reason| bad(reason.into()))? {
            let (key, text) = match part.split_once('=') {
                Some((key, text)) if is_name(key.trim()) => (Some(key.trim()), text),
                _ => (None, part),
            };
            let value = read_value(text).map_err(|e| bad(format!("{text:?} is not a value: {e}")))?;
            match key {
                Some(key) => {
                    if args.named.insert(key.to_owned(), value).is_some() {
                        return Err(bad(format!("{key} is given twice")));
                    }
                }
                None if args.named.is_empty() => args.positional.push(value),
                None => {
                    let reason = format!(
                        "{text:?} follows a named value and has no name; put a value with commas in quotes: -p \"{name}:KEY='A,B'\""
                    );
                    return Err(bad(reason));
                }
            }
        }
        Ok(Self { name: name.to_owned(), args })
    }
}

impl ProfilerSpec {
    /// Reads profilers separated by commas, `light,perf`; after the first one with arguments a comma belongs to these.
    ///
    /// # Errors
    /// For a text that is no profiler.
    pub fn list(text: &str) -> Result<Vec<Self>, BadProfilerSpec> {
        let plain = text.split(':').next().unwrap_or_default();
        let Some((names, last)) = plain.rsplit_once(',') else { return Ok(vec![text.parse()?]) };
        // With its arguments.
        let last = &text[plain.len() - last.len()..];
        names.split(',').chain([last]).map(|name| name.trim().parse()).collect()
    }
}

/// Reads a value of a command line; a number or boolean in a form of its own (`0x10`, `1.50`) stays the text that it is.
fn read_value(text: &str) -> Result<Value, YamlError> {
    let mut value: Value = yaml::from_str(text)?;
    if let Ok(Some(node)) = yaml::nodes(text) {
        keep_written(&mut value, &node);
    }
    Ok(value)
}

/// Puts the text that was written where a number or boolean would be written in another way; what it is for a parameter
/// is decided when the parameter's type is known.
pub(crate) fn keep_written(value: &mut Value, node: &Node) {
    let is_scalar = matches!(value, Value::Int(_) | Value::Float(_) | Value::Bool(_));
    if let Content::Plain(text) = &node.content
        && is_scalar
        && value.to_string() != *text
    {
        *value = Value::Str(text.clone());
        return;
    }
    match (&mut *value, &node.content) {
        (Value::List(values), Content::List(nodes)) => {
            values.iter_mut().zip(nodes).for_each(|(value, node)| keep_written(value, node));
        }
        (Value::Map(values), Content::Map(nodes)) => {
            for (key, node) in nodes {
                if let Content::Plain(key) | Content::Text(key) = &key.content
                    && let Some(value) = values.get_mut(key)
                {
                    keep_written(value, node);
                }
            }
        }
        _ => {}
    }
}

/// As [`keep_written`], for all arguments of a profiler in a file.
pub(crate) fn keep_args(args: &mut Args, node: &Node) {
    match &node.content {
        Content::Map(nodes) => {
            for (key, node) in nodes {
                if let Content::Plain(key) | Content::Text(key) = &key.content
                    && let Some(value) = args.named.get_mut(key)
                {
                    keep_written(value, node);
                }
            }
        }
        Content::List(nodes) => {
            args.positional.iter_mut().zip(nodes).for_each(|(value, node)| keep_written(value, node));
        }
        Content::Plain(_) | Content::Text(_) => {
            args.positional.iter_mut().take(1).for_each(|value| keep_written(value, node));
        }
    }
}

impl fmt::Display for ProfilerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        let mut separator = ':';
        for value in &self.args.positional {
            write!(f, "{separator}{value}")?;
            separator = ',';
        }
        for (key, value) in &self.args.named {
            write!(f, "{separator}{key}={value}")?;
            separator = ',';
        }
        Ok(())
    }
}

/// Whether this can name a profiler or a parameter.
#[must_use]
pub fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.len() <= 64
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

/// Splits at commas that are in no bracket, brace or quote.
fn split_top_level(text: &str) -> Result<Vec<&str>, &'static str> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let (mut parts, mut depth, mut from) = (Vec::new(), 0usize, 0);
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (Some('"'), '\\') => escaped = true,
            (Some(q), c) if c == q => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '[' | '{') => depth += 1,
            (None, ']' | '}') => depth = depth.checked_sub(1).ok_or("a bracket is closed that was not opened")?,
            (None, ',') if depth == 0 => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            (None, _) => {}
        }
    }
    if quote.is_some() || depth > 0 {
        return Err("a bracket or a quote is not closed");
    }
    parts.push(&text[from..]);
    Ok(parts)
}

impl JsonSchema for Value {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Value".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "description": "null, a boolean, a number, a string, or a list or map of those" })
    }
}

impl JsonSchema for Args {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Args".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "a map of named values, a list of positional values, one value, or nothing"
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PARAMS: &[Param] = &[
        Param::new("frequency", ParamType::Integer, "").default("99").unit("Hz").range("1..10000"),
        Param::new("events", ParamType::Strings, ""),
        Param::new("call_graph", ParamType::String, "").default("fp").range("fp|dwarf|none"),
        Param::new("interval", ParamType::Number, "").unit("s").range("0.1.."),
        Param::new("text", ParamType::String, ""),
    ];
    const INFO: ProfilerInfo = ProfilerInfo::new("perf", "").params(PARAMS);

    fn complete(spec: &str) -> Result<Args, ArgError> {
        spec.parse::<ProfilerSpec>().unwrap().args.complete(&INFO)
    }

    #[test]
    fn whole_numbers_in_a_list_of_texts_are_texts() {
        assert_eq!(complete("perf:events=[17, a]").unwrap().strings("events"), ["17", "a"]);
        assert_eq!(complete("perf:events=17").unwrap().strings("events"), ["17"]);
        assert_eq!(
            complete("perf:events=[1.50, true, 010, 1e3, 0x10]").unwrap().strings("events"),
            ["1.50", "true", "010", "1e3", "0x10"]
        );
    }

    #[test]
    fn numbers_for_text_are_what_was_written() {
        let text = |written: &str| complete(&format!("perf:text={written}")).unwrap().string("text").map(str::to_owned);
        for written in ["0", "80", "010", "1e3", "0x10", "1.50", "+5", "yes", "true", "True", "0o17", "-1", ".5"] {
            assert_eq!(text(written).as_deref(), Some(written));
        }
        assert_eq!(text("'0-3,8'").as_deref(), Some("0-3,8"));
        assert_eq!(text("null"), None);
        assert_eq!(complete("perf:frequency=0x10").unwrap().integer("frequency"), Some(16));
        assert_eq!(complete("perf:interval=.5").unwrap().number("interval"), Some(0.5));
        let said = "perf:text=0-3,8".parse::<ProfilerSpec>().unwrap_err().to_string();
        assert!(said.contains("put a value with commas in quotes: -p \"perf:KEY='A,B'\""), "{said}");
        assert!(message("perf:text=[0, 1]").contains("-p \"perf:text='A,B'\""));
        assert!(message("perf:text=a,umask=0").contains("put a value with commas in quotes"));
    }

    #[test]
    fn several_profilers_may_be_named_at_once() {
        let list = |text: &str| {
            let list = ProfilerSpec::list(text).map_err(|e| e.to_string())?;
            Ok::<_, String>(list.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(list("light,perf").unwrap(), "light perf");
        assert_eq!(list("light, perf:49,events=[a, b]").unwrap(), "light perf:49,events=[a, b]");
        assert_eq!(list("vmstat:5,6").unwrap(), "vmstat:5,6");
        assert!(list("light,,perf").is_err() && list(",").is_err() && list("").is_err());
    }

    fn message(spec: &str) -> String {
        let e = complete(spec).unwrap_err();
        format!("{e}{}", e.hint.as_ref().map(|h| format!(" ({h})")).unwrap_or_default())
    }

    #[test]
    fn defaults_positions_and_names_come_together() {
        let args = complete("perf:49,events=[cpu-clock, 'a,b'],interval=0.5").unwrap();
        assert_eq!(args.integer("frequency"), Some(49));
        assert_eq!(args.strings("events"), ["cpu-clock", "a,b"]);
        assert_eq!(args.string("call_graph"), Some("fp"));
        assert_eq!(args.number("interval"), Some(0.5));
        assert_eq!(complete("perf:events=cycles").unwrap().strings("events"), ["cycles"]);
        assert_eq!(complete("perf:frequency=null").unwrap().integer("frequency"), Some(99));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(message("perf:frequenzy=5"), "perf: no parameter \"frequenzy\" (did you mean \"frequency\"?)");
        assert_eq!(
            message("perf:zzz=5"),
            "perf: no parameter \"zzz\" (its parameters are frequency, events, call_graph, interval, text; put a value with commas in quotes: -p \"perf:KEY='A,B'\")"
        );
        assert_eq!(
            message("perf:frequency=fast"),
            "perf: frequency must be an integer in 1..10000 Hz, not a string (fast)"
        );
        assert_eq!(message("perf:frequency=0"), "perf: frequency is 0, which is not an integer in 1..10000 Hz");
        assert_eq!(message("perf:call_graph=lbr"), "perf: call_graph is lbr, which is not one of fp, dwarf, none");
        assert_eq!(message("perf:5,frequency=6"), "perf: frequency is given twice, by position and by name");
        assert_eq!(message("perf:1,a,fp,1,2,3"), "perf: 6 values without a name, but it has only 5 parameters");
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for spec in
            ["", "9x", "a b", "p:x=[1", "p:x='", "p:x=1,x=2", "p:x=1,2", "p:x=]", "p:x=.nan", "p:x=!t 1", "p:x={1: 2}"]
        {
            assert!(spec.parse::<ProfilerSpec>().is_err(), "{spec}");
        }
        let deep = format!("p:{}{}", "[".repeat(MAX_DEPTH + 1), "]".repeat(MAX_DEPTH + 1));
        let error = deep.parse::<ProfilerSpec>().unwrap_err().to_string();
        assert!(error.contains("nested deeper than 32 levels"), "{error}");
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            any::<f64>().prop_filter("finite", |x| x.is_finite()).prop_map(Value::Float),
            any::<String>().prop_map(Value::Str),
            "[a-z ,:'\"$\\[\\]{}#&*!|>%@`\n\t\\\\é=-]{0,12}".prop_map(Value::Str),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
                prop::collection::btree_map(any::<String>(), inner, 0..4).prop_map(Value::Map),
            ]
        })
    }

    fn any_args() -> impl Strategy<Value = Args> {
        let named = prop::collection::btree_map("[a-z][a-z0-9_-]{0,8}", any_value(), 0..4);
        (prop::collection::vec(any_value(), 0..3), named).prop_map(|(positional, named)| Args { positional, named })
    }

    proptest! {
        #[test]
        fn decoding_what_was_encoded_gives_the_same_arguments(args in any_args()) {
            let spec = ProfilerSpec { name: "p".into(), args };
            let text = spec.to_string();
            prop_assert_eq!(text.parse::<ProfilerSpec>().map_err(|e| TestCaseError::fail(e.to_string()))?, spec);
        }

        #[test]
        fn values_survive_json(value in any_value()) {
            let json = serde_json::to_string(&value).unwrap();
            let back: Value = serde_json::from_str(&json).unwrap();
            // JSON writes 1e300 and 1.0 so that they read back as the same float.
            prop_assert_eq!(back, value);
        }

        #[test]
        fn no_text_panics_the_reader(spec in any::<String>()) {
            let _ = spec.parse::<ProfilerSpec>();
        }
    }
}

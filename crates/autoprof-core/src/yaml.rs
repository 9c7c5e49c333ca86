//! The one place where YAML (and JSON, which is YAML) from outside is read: bounded in size, depth and aliases.
//!
//! `serde_yaml` has no limits of its own: 200,000 opening brackets keep it busy for a minute, and nested aliases take
//! all memory. So the events of a text are counted first, by a parser that stops at the limits, and only then read.
//! The same events, with their lines and with scalars as they were written, are what inventories are read from.
use std::{borrow::Cow, collections::HashMap};

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};
use serde::de::DeserializeOwned;

/// Maximum size of a text, in bytes.
pub const MAX_BYTES: usize = 32 << 20;
/// Maximum depth of lists and maps in each other.
pub const MAX_NESTING: usize = 64;
/// Maximum number of scalars, lists and maps, with what aliases stand for counted each time.
pub const MAX_NODES: usize = 2_000_000;
/// Up to how many brackets, aliases and bytes a text with a syntax error is given to `serde_yaml`, for its message.
const HARMLESS: (usize, usize, usize) = (64, 8, 256 << 10);

/// Text that is no YAML that can be read here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum YamlError {
    /// The text is too long.
    #[error("the file has {bytes} bytes, and at most {MAX_BYTES} are read")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Lists and maps are nested too deeply.
    #[error("nested deeper than {MAX_NESTING} levels at line {line} column {column}")]
    TooDeep {
        /// Where the first level too many begins.
        line: usize,
        /// In which column.
        column: usize,
    },
    /// Aliases stand for too much, or the file is too long.
    #[error("more than {MAX_NODES} values, with what aliases stand for, at line {line} column {column}")]
    TooMany {
        /// Where the limit is reached.
        line: usize,
        /// In which column.
        column: usize,
    },
    /// A syntax error.
    #[error("{reason} at line {line} column {column}")]
    Syntax {
        /// What is wrong.
        reason: String,
        /// Where.
        line: usize,
        /// In which column.
        column: usize,
    },
    /// YAML that is not what was wanted.
    #[error("{0}")]
    Content(String),
}

/// Where something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct At {
    line: usize,
    column: usize,
}

/// How many nodes a list or map has so far that is not closed yet, and its anchor.
struct Open {
    anchor: usize,
    nodes: usize,
}

/// Counts what a text has, within the limits.
#[derive(Default)]
struct Budget {
    open: Vec<Open>,
    /// How many nodes an anchor stands for.
    anchors: HashMap<usize, usize>,
    total: usize,
}

impl Budget {
    /// Counts one event.
    fn take(&mut self, event: &Event<'_>, at: At) -> Result<(), YamlError> {
        match event {
            Event::SequenceStart(anchor, _) | Event::MappingStart(anchor, _) => {
                if self.open.len() >= MAX_NESTING {
                    return Err(YamlError::TooDeep { line: at.line, column: at.column });
                }
                self.open.push(Open { anchor: *anchor, nodes: 0 });
                self.total += 1;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let closed = self.open.pop().unwrap_or(Open { anchor: 0, nodes: 0 });
                let nodes = closed.nodes + 1;
                if closed.anchor > 0 {
                    self.anchors.insert(closed.anchor, nodes);
                    // It is kept a second time.
                    self.total += nodes;
                }
                if let Some(around) = self.open.last_mut() {
                    around.nodes += nodes;
                }
            }
            Event::Scalar(_, _, anchor, _) => {
                if *anchor > 0 {
                    self.anchors.insert(*anchor, 1);
                }
                self.add(1);
            }
            Event::Alias(anchor) => {
                let Some(nodes) = self.anchors.get(anchor).copied() else {
                    let reason = "an alias stands for what it is in".to_owned();
                    return Err(YamlError::Syntax { reason, line: at.line, column: at.column });
                };
                self.add(nodes);
            }
            _ => {}
        }
        if self.total > MAX_NODES {
            return Err(YamlError::TooMany { line: at.line, column: at.column });
        }
        Ok(())
    }

    fn add(&mut self, nodes: usize) {
        self.total += nodes;
        if let Some(around) = self.open.last_mut() {
            around.nodes += nodes;
        }
    }
}

/// Reads every event of a text within the limits.
fn events<'t>(text: &'t str, mut seen: impl FnMut(Event<'t>, At) -> Result<(), YamlError>) -> Result<(), YamlError> {
    if text.len() > MAX_BYTES {
        return Err(YamlError::TooLarge { bytes: text.len() });
    }
    let mut budget = Budget::default();
    for next in Parser::new_from_str(text) {
        let (event, span) = next.map_err(|e| {
            let at = e.marker();
            YamlError::Syntax { reason: e.info().to_owned(), line: at.line(), column: at.col() + 1 }
        })?;
        let at = At { line: span.start.line(), column: span.start.col() + 1 };
        budget.take(&event, at)?;
        seen(event, at)?;
    }
    Ok(())
}

/// Checks that a text keeps the limits.
///
/// # Errors
/// [`YamlError::Content`] never; a syntax error is one here too.
pub fn check(text: &str) -> Result<(), YamlError> {
    events(text, |_, _| Ok(()))
}

/// Reads a text that keeps the limits.
///
/// # Errors
/// For a text that does not, and for one that is something else than what is wanted; the message names line and column.
pub fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, YamlError> {
    match check(text) {
        Err(e @ YamlError::Syntax { .. }) if !is_harmless(text) => return Err(e),
        // The words of the reader that is used for everything else.
        Ok(()) | Err(YamlError::Syntax { .. }) => {}
        Err(e) => return Err(e),
    }
    serde_yaml::from_str(text).map_err(|e| YamlError::Content(e.to_string()))
}

/// Whether a text has so few brackets and aliases that no reader takes long over it.
fn is_harmless(text: &str) -> bool {
    let count = |wanted: &[char]| text.matches(wanted).count();
    let indented = text.lines().all(|line| line.matches("- ").count() + line.matches("? ").count() <= HARMLESS.0);
    let levels = text.lines().map(|l| l.len() - l.trim_start().len()).max().unwrap_or(0);
    count(&['[', '{']) <= HARMLESS.0
        && count(&['*']) <= HARMLESS.1
        && text.len() <= HARMLESS.2
        && indented
        && levels <= 4 * HARMLESS.0
}

/// A value with its line, and scalars as they were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The line that it begins in, from 1.
    pub line: usize,
    /// Its tag, where it has one: `!vault`.
    pub tag: Option<String>,
    /// What it is.
    pub content: Content,
}

impl Node {
    /// The value of a key, where it is a map that has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        let Content::Map(entries) = &self.content else { return None };
        let is = |node: &Self| matches!(&node.content, Content::Plain(text) | Content::Text(text) if text == key);
        entries.iter().find(|(node, _)| is(node)).map(|(_, value)| value)
    }
}

/// What a value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A scalar without quotes, as it was written.
    Plain(String),
    /// Text: in quotes, or a block.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A map, with its merge keys (`<<`) put in.
    Map(Vec<(Node, Node)>),
}

/// Reads the first document of a text; none where it is empty.
///
/// # Errors
/// For a text that does not keep the limits, a syntax error, a second document, or a key that is there twice.
pub fn nodes(text: &str) -> Result<Option<Node>, YamlError> {
    let mut builder = Builder::default();
    events(text, |event, at| builder.take(event, at))?;
    Ok(builder.root)
}

#[derive(Default)]
struct Builder {
    root: Option<Node>,
    open: Vec<(usize, Node, Option<Node>)>,
    anchors: HashMap<usize, Node>,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, at: At) -> Result<(), YamlError> {
        let node = |tag: Option<Cow<'_, Tag>>, content| Node { line: at.line, tag: tag.map(|t| shown(&t)), content };
        match event {
            Event::SequenceStart(anchor, tag) => self.open.push((anchor, node(tag, Content::List(Vec::new())), None)),
            Event::MappingStart(anchor, tag) => self.open.push((anchor, node(tag, Content::Map(Vec::new())), None)),
            Event::SequenceEnd | Event::MappingEnd => {
                let Some((anchor, mut done, _)) = self.open.pop() else { return Ok(()) };
                if let Content::Map(entries) = &mut done.content {
                    *entries = merged(std::mem::take(entries))?;
                }
                self.put(anchor, done)?;
            }
            Event::Scalar(text, style, anchor, tag) => {
                let text = text.into_owned();
                let content = if style == ScalarStyle::Plain { Content::Plain(text) } else { Content::Text(text) };
                self.put(anchor, node(tag, content))?;
            }
            Event::Alias(anchor) => {
                let known = self.anchors.get(&anchor).cloned();
                let known = known.ok_or_else(|| syntax("an alias stands for what it is in", at.line))?;
                self.put(0, Node { line: at.line, ..known })?;
            }
            _ => {}
        }
        Ok(())
    }

    fn put(&mut self, anchor: usize, node: Node) -> Result<(), YamlError> {
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut() {
            None if self.root.is_some() => return Err(syntax("a second document begins", node.line)),
            None => self.root = Some(node),
            Some((_, Node { content: Content::List(items), .. }, _)) => items.push(node),
            Some((_, Node { content: Content::Map(entries), .. }, key)) => match key.take() {
                None => *key = Some(node),
                Some(key) => entries.push((key, node)),
            },
            Some(_) => {}
        }
        Ok(())
    }
}

fn syntax(reason: &str, line: usize) -> YamlError {
    YamlError::Syntax { reason: reason.to_owned(), line, column: 1 }
}

fn shown(tag: &Tag) -> String {
    format!("{}{}", tag.handle, tag.suffix)
}

/// Puts in what `<<` stands for, where the map does not say it itself, and refuses a key that is there twice.
fn merged(entries: Vec<(Node, Node)>) -> Result<Vec<(Node, Node)>, YamlError> {
    let is_merge = |key: &Node| key.tag.is_none() && key.content == Content::Plain("<<".to_owned());
    let name = |key: &Node| match &key.content {
        Content::Plain(text) | Content::Text(text) => Some(text.clone()),
        _ => None,
    };
    let (merges, own): (Vec<_>, Vec<_>) = entries.into_iter().partition(|(key, _)| is_merge(key));
    let mut names = std::collections::HashSet::new();
    for (key, _) in &own {
        if let Some(name) = name(key)
            && !names.insert(name.clone())
        {
            return Err(syntax(&format!("the key {name:?} is there twice"), key.line));
        }
    }
    let mut out = own;
    for (key, value) in merges {
        let sources = match value.content {
            Content::List(items) => items,
            _ => vec![value],
        };
        for source in sources {
            let Content::Map(entries) = source.content else {
                return Err(syntax("<< merges maps only", key.line));
            };
            out.extend(entries.into_iter().filter(|(key, _)| name(key).is_none_or(|name| names.insert(name))));
        }
    }
    Ok(out)
}

/// Scalars without quotes that a text has, as they were written.
///
/// # Errors
/// As for [`check`].
pub fn plain_scalars(text: &str) -> Result<Vec<String>, YamlError> {
    let mut found = Vec::new();
    events(text, |event, _| {
        if let Event::Scalar(text, ScalarStyle::Plain, _, None) = event {
            found.push(text.into_owned());
        }
        Ok(())
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use serde_yaml::Value;

    use super::*;

    /// Far more than reading takes on a busy machine, and far less than it took without limits.
    const SOON: Duration = Duration::from_secs(10);

    fn refused(text: &str) -> YamlError {
        let began = Instant::now();
        let error = from_str::<Value>(text).expect_err("a text over the limits");
        assert!(nodes(text).is_err());
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
        error
    }

    #[test]
    fn nesting_is_bounded_in_every_style() {
        for text in [
            "[".repeat(200_000),
            "{a: ".repeat(200_000),
            "- ".repeat(200_000),
            "? ".repeat(200_000),
            format!("x: {}", "[".repeat(200_000)),
            format!("\"quoted\"\n{}", "[".repeat(200_000)),
            format!("}}\n{}", "[".repeat(200_000)),
        ] {
            let error = refused(&text);
            assert!(matches!(error, YamlError::TooDeep { .. } | YamlError::Syntax { .. }), "{error}");
        }
        let fine = format!("{}1{}", "[".repeat(MAX_NESTING), "]".repeat(MAX_NESTING));
        from_str::<Value>(&fine).unwrap();
        let deep = (0..200).map(|n| format!("{}a:\n", " ".repeat(n))).collect::<String>();
        assert!(matches!(refused(&deep), YamlError::TooDeep { line: 65, .. }));
    }

    #[test]
    fn aliases_are_counted_as_what_they_stand_for() {
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for n in 1..9 {
            let aliases = vec![format!("*a{}", n - 1); 10].join(",");
            bomb.push_str(&format!("a{n}: &a{n} [{aliases}]\n"));
        }
        assert!(matches!(refused(&bomb), YamlError::TooMany { .. }));
        refused("a: &a [*a]");
        let fine: Value = from_str("a: &a [1, 2]\nb: *a\n").unwrap();
        assert_eq!(fine["b"][1], 2);
    }

    #[test]
    fn size_is_bounded() {
        assert!(matches!(refused(&"# \n".repeat(MAX_BYTES / 2)), YamlError::TooLarge { .. }));
    }

    #[test]
    fn syntax_errors_keep_their_place() {
        let error = from_str::<Value>("hosts: [").unwrap_err().to_string();
        assert!(error.contains("at line 2 column 1"), "{error}");
    }

    #[test]
    fn nodes_have_lines_and_what_was_written() {
        let root = nodes("a: &x {k: 010}\nb: {<<: *x, l: !vault |\n  7\n}\n").unwrap().unwrap();
        let Content::Map(entries) = root.content else { panic!("no map") };
        let Content::Map(b) = &entries[1].1.content else { panic!("no map") };
        assert_eq!(b[0].1.tag.as_deref(), Some("!vault"));
        assert_eq!(b[1].1.content, Content::Plain("010".into()));
        assert_eq!(entries[1].0.line, 2);
        assert!(nodes("a: 1\na: 2\n").unwrap_err().to_string().contains("\"a\" is there twice at line 2"));
        assert_eq!(nodes("# nothing\n").unwrap(), None);
    }
}

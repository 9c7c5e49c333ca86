//! JSON as tools write it, which is not always JSON: `nan` and `inf`, a decimal comma, a quote or a backslash that was not
//! escaped, a comma too few or too many.
//!
//! What is well-formed is read by `serde_json`. Only what is not is read again here, so that one value that nobody can
//! read costs that value and not its sample.
use serde_json::{Map, Number, Value};

/// How deep lists and objects may be nested.
const MAX_DEPTH: u32 = 64;

/// What was read, and what of it could not be.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Read {
    /// The value; what could not be read is null in it.
    pub value: Value,
    /// Members whose values could not be read: name and text, in order.
    pub unreadable: Vec<(String, String)>,
}

/// Reads one value; none: there is no object or list in the text, or it is not closed.
///
/// A string ends at a quote that a comma, a colon or a closing bracket follows; `\x20` and other escapes that JSON does not
/// have are taken as they are. A bare word that is no number is null.
#[must_use]
pub fn read(text: &[u8]) -> Option<Read> {
    if let Ok(value) = serde_json::from_slice(text) {
        return Some(Read { value, unreadable: Vec::new() });
    }
    let text = String::from_utf8_lossy(text);
    let mut parser = Parser { rest: &text, unreadable: Vec::new() };
    parser.skip_blanks();
    if !parser.rest.starts_with(['{', '[']) {
        return None;
    }
    let value = parser.value("", 0)?;
    parser.skip_blanks();
    parser.rest.is_empty().then_some(Read { value, unreadable: parser.unreadable })
}

struct Parser<'a> {
    rest: &'a str,
    unreadable: Vec<(String, String)>,
}

impl Parser<'_> {
    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn skip(&mut self, byte: char) -> bool {
        self.skip_blanks();
        let found = self.rest.starts_with(byte);
        if found {
            self.rest = &self.rest[byte.len_utf8()..];
        }
        found
    }

    fn value(&mut self, name: &str, depth: u32) -> Option<Value> {
        if depth > MAX_DEPTH {
            return None;
        }
        self.skip_blanks();
        match self.rest.chars().next()? {
            '{' => self.object(depth),
            '[' => self.list(name, depth),
            '"' => self.string().map(Value::String),
            _ => Some(self.word(name)),
        }
    }

    fn object(&mut self, depth: u32) -> Option<Value> {
        let mut members = Map::new();
        self.skip('{');
        loop {
            // A comma may be missing, doubled, or before the end.
            while self.skip(',') {}
            if self.skip('}') {
                return Some(Value::Object(members));
            }
            if !self.rest.starts_with('"') {
                return None;
            }
            let name = self.string()?;
            if !self.skip(':') {
                return None;
            }
            let value = self.value(&name, depth + 1)?;
            members.insert(name, value);
        }
    }

    fn list(&mut self, name: &str, depth: u32) -> Option<Value> {
        let mut values = Vec::new();
        self.skip('[');
        loop {
            while self.skip(',') {}
            if self.skip(']') {
                return Some(Value::Array(values));
            }
            let before = self.rest.len();
            values.push(self.value(name, depth + 1)?);
            if self.rest.len() == before {
                // A brace that closes nothing.
                return None;
            }
        }
    }

    fn string(&mut self) -> Option<String> {
        let text = self.rest.strip_prefix('"')?;
        let mut out = String::new();
        let mut chars = text.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' if ends_string(&text[at + 1..]) => {
                    self.rest = &text[at + 1..];
                    return Some(out);
                }
                '\\' => match chars.next()?.1 {
                    'n' => out.push('\n'),
                    't' => out.push('\t'),
                    'r' => out.push('\r'),
                    'b' => out.push('\u{8}'),
                    'f' => out.push('\u{c}'),
                    c @ ('"' | '\\' | '/') => out.push(c),
                    'u' => match unicode(&text[at..]) {
                        Some(c) => {
                            out.push(c);
                            chars.nth(3);
                        }
                        None => out.push_str("\\u"),
                    },
                    other => {
                        out.push('\\');
                        out.push(other);
                    }
                },
                // No string of a tool has an end of line in it: the quote at its end is missing.
                '\n' => return None,
                c => out.push(c),
            }
        }
        None
    }

    /// A number, `true`, `false` or `null`; anything else up to where the next member begins is null and noted.
    fn word(&mut self, name: &str) -> Value {
        let end = word_end(self.rest);
        let (word, rest) = self.rest.split_at(end);
        let word = word.trim();
        self.rest = rest;
        // `.5`, `+1` and `1.` are numbers too, if not JSON's.
        let number = || word.parse::<f64>().ok().and_then(Number::from_f64).map(Value::Number);
        serde_json::from_str(word).ok().or_else(number).unwrap_or_else(|| {
            self.unreadable.push((name.to_owned(), word.to_owned()));
            Value::Null
        })
    }
}

/// Whether what follows a quote can follow the end of a string.
fn ends_string(rest: &str) -> bool {
    match rest.trim_start().chars().next() {
        None | Some('}' | ']' | ':') => true,
        // A comma may be part of the string, but the next member or string is not.
        Some(',') => {
            matches!(rest.trim_start()[1..].trim_start().chars().next(), None | Some('"' | '{' | '[' | '}' | ']'))
        }
        // A comma is missing.
        Some('"') => rest.trim_start().len() < rest.len(),
        Some(_) => false,
    }
}

/// Where a bare word ends: at a bracket, an end of line, a member without a comma before it, or at a comma behind which
/// something new begins; `1,5` is one word.
fn word_end(text: &str) -> usize {
    let bytes = text.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'}' | b']' | b'\n' | b'"' => return at,
            b',' if !bytes.get(at + 1).is_some_and(u8::is_ascii_digit) => return at,
            _ => {}
        }
    }
    text.len()
}

/// The character of `\uXXXX`; half of a pair is none.
fn unicode(text: &str) -> Option<char> {
    char::from_u32(u32::from_str_radix(text.get(2..6)?, 16).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lenient(text: &str) -> (Value, Vec<(String, String)>) {
        let Read { value, unreadable } = read(text.as_bytes()).unwrap_or_else(|| panic!("{text}"));
        (value, unreadable)
    }

    fn noted(name: &str, text: &str) -> Vec<(String, String)> {
        vec![(name.to_owned(), text.to_owned())]
    }

    #[test]
    fn one_value_that_is_no_number_costs_only_itself() {
        for word in ["nan", "-nan", "inf", "-inf", "1,50", "NaN", "N/A", "0x1f", "1e999"] {
            let (value, unreadable) = lenient(&format!(r#"{{"a": {word}, "b": [{{"c": 1}}], "d": "x"}}"#));
            assert_eq!(value, serde_json::json!({"a": null, "b": [{"c": 1}], "d": "x"}), "{word}");
            assert_eq!(unreadable, noted("a", word));
        }
        assert_eq!(lenient("{\"a\": , \"b\": 2.0}"), (serde_json::json!({"a": null, "b": 2.0}), noted("a", "")));
    }

    #[test]
    fn strings_end_where_something_else_begins() {
        for (text, name) in [
            (r#"{"n": "my\x20volume", "b": 1.0}"#, r"my\x20volume"),
            (r#"{"n": "my"volume", "b": 1.0}"#, "my\"volume"),
            (r#"{"n": "a", b", "b": 1.0}"#, "a\", b"),
            (r#"{"n": ""quoted"", "b": 1.0}"#, "\"quoted\""),
            (r#"{"n": "a\", "b": nan, "b": 1.0}"#, "a\", \"b"),
            ("{\"n\": \"tab\there\", \"b\": 1.0}", "tab\there"),
            (r#"{"n": "ü\u00e9\ud800", "b": 1.0}"#, "üé\\ud800"),
        ] {
            let read = read(text.as_bytes());
            if text.contains("nan") {
                // Which quote is meant nobody knows; it must not panic.
                continue;
            }
            let value = read.unwrap_or_else(|| panic!("{text}")).value;
            assert_eq!((&value["n"], &value["b"]), (&Value::from(name), &Value::from(1.0)), "{text}");
        }
    }

    #[test]
    fn commas_may_be_missing_or_too_many() {
        let expected = serde_json::json!({"a": 1, "b": [1, 2], "c": "x"});
        for text in [
            r#"{"a": 1 "b": [1, 2] "c": "x"}"#,
            r#"{"a": 1, "b": [1, 2,], "c": "x",}"#,
            r#"{, "a": 1,, "b": [, 1, 2] "c": "x"}"#,
            "{\"a\": 1\n\"b\": [1\n2]\n\"c\": \"x\"}",
        ] {
            assert_eq!(lenient(text), (expected.clone(), Vec::new()), "{text}");
        }
    }

    #[test]
    fn what_is_not_closed_or_no_object_is_nothing() {
        for text in
            ["", "x", "{", "{\"a\": 1", "{\"a\" 1}", "{a: 1}", "[1, 2", "{\"a\": 1}}", "\"x", "{\"a\": \"x\n\"}"]
        {
            assert_eq!(read(text.as_bytes()), None, "{text}");
        }
        for text in ["[".repeat(50) + &"}".repeat(50), "{\"a\": [".repeat(20), ",]}[{:\"\\".repeat(99)] {
            assert_eq!(read(text.as_bytes()), None, "{text}");
        }
        assert_eq!(read("[".repeat(100_000).as_bytes()), None);
    }
}

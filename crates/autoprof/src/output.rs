//! Standard output: what is printed is printable, and what could not be printed shows in the exit status.
use std::{
    fmt::Write as _,
    io::{self, Write},
    sync::{Mutex, PoisonError},
};

use autoprof_core::text::is_unprintable;
use serde::Serialize;

use crate::exit::PROFILING_FAILED;

/// The first thing that went wrong with standard output.
static FAILED: Mutex<Option<io::Error>> = Mutex::new(None);
/// Longest style that is taken for one of our own.
const MAX_STYLE: usize = 16;

/// Prints to standard output, without what acts on a terminal. What goes wrong is said at the end, by [`finish`].
pub fn print(text: &str) {
    write(&plain(text));
}

/// Prints as JSON, with escapes for all that acts on a terminal.
pub fn print_json(value: &impl Serialize) {
    match serde_json::to_string_pretty(value) {
        Ok(json) => write(&(ascii_safe(&json) + "\n")),
        Err(e) => fail(e.into()),
    }
}

fn write(text: &str) {
    if let Err(e) = io::stdout().write_all(text.as_bytes()) {
        fail(e);
    }
}

/// Notes that standard output took not all.
pub fn fail(e: io::Error) {
    FAILED.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(e);
}

/// Writes out what is still held back, and gives the exit status: another one in place of 0 where the output was cut short.
/// A reader that is gone (`| head`) is no error.
pub fn finish(code: u8) -> u8 {
    if let Err(e) = io::stdout().flush() {
        fail(e);
    }
    match FAILED.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            crate::screen::line(&format!("cannot write to standard output: {e}"));
            if code == 0 { PROFILING_FAILED } else { code }
        }
        _ => code,
    }
}

/// Text in which nothing acts on a terminal but our own styles.
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = style(rest).unwrap_or(0);
        if length > 0 {
            out.push_str(&rest[..length]);
            rest = &rest[length..];
            continue;
        }
        out.push(if is_unprintable(c) && c != '\n' && c != '\t' { char::REPLACEMENT_CHARACTER } else { c });
        rest = &rest[c.len_utf8()..];
    }
    out
}

/// The length of the style (`ESC [ numbers m`) that a text begins with; one that hides text is none of ours.
fn style(text: &str) -> Option<usize> {
    let numbers = text.strip_prefix("\u{1b}[")?;
    let end = numbers.bytes().take(MAX_STYLE).position(|byte| !byte.is_ascii_digit() && byte != b';')?;
    let is_style = numbers.as_bytes().get(end) == Some(&b'm') && &numbers[..end] != "8";
    is_style.then_some(end + 3)
}

/// JSON whose strings have escapes for what acts on a terminal; `serde_json` has them for C0 alone.
fn ascii_safe(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if is_unprintable(c) && c != '\n' {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a string does not fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_styles_reach_the_terminal() {
        assert_eq!(plain("\u{1b}[1m\u{1b}[38;5;9mfailed\u{1b}[0m"), "\u{1b}[1m\u{1b}[38;5;9mfailed\u{1b}[0m");
        let evil = "a\u{1b}[2J\u{1b}]0;t\u{7}\u{1b}[8m\u{9b}2J\u{202e}b\r\n\tc\u{1b}[";
        assert_eq!(plain(evil), "a\u{fffd}[2J\u{fffd}]0;t\u{fffd}\u{fffd}[8m\u{fffd}2J\u{fffd}b\u{fffd}\n\tc\u{fffd}[");
    }

    #[test]
    fn json_is_escaped_and_means_the_same() {
        let value = serde_json::json!({"a": "x\u{1b}\u{202e}\u{2028}\u{7f}\u{e0041}é\n"});
        let json = ascii_safe(&serde_json::to_string_pretty(&value).unwrap());
        assert!(!json.contains(|c| is_unprintable(c) && c != '\n'), "{json:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap(), value);
    }
}

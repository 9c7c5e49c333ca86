//! Text from a host, made safe to show.

use std::borrow::Cow;

pub use autoprof_protocol::text::{HostText, is_unprintable, one_line, printable};

/// A cell of a table in which a spreadsheet finds no formula and a terminal nothing to act on.
///
/// Text that begins with `=`, `+`, `-` or `@` gets a `'` before it, as spreadsheets write text that is no formula; numbers
/// and a `-` alone stay as they are. Characters that cannot be seen (tabs and line ends too) are replaced.
#[must_use]
pub fn cell(cell: &[u8]) -> Cow<'_, [u8]> {
    let plain = cell.iter().all(|byte| (b' '..=b'~').contains(byte));
    let begins = cell.first().is_some_and(|first| b"=+-@\t\r\n".contains(first));
    if plain && !begins {
        return Cow::Borrowed(cell);
    }
    let text = String::from_utf8_lossy(cell);
    if begins && (&*text == "-" || text.parse::<f64>().is_ok()) {
        return Cow::Borrowed(cell);
    }
    let seen = text.chars().map(|c| if is_unprintable(c) { char::REPLACEMENT_CHARACTER } else { c });
    let quote = begins.then_some('\'');
    Cow::Owned(quote.into_iter().chain(seen).collect::<String>().into_bytes())
}

/// Takes out of the texts of a JSON value what acts on a terminal. What a run was told to do (its test, arguments and
/// commands) stays as it is: it is run, and escaped where it is shown.
pub(crate) fn sanitize(value: &mut serde_json::Value) {
    sanitize_but(value, &["invocation", "args", "test", "options", "env"]);
}

/// Takes out of all texts of a JSON value what acts on a terminal.
pub(crate) fn sanitize_all(value: &mut serde_json::Value) {
    sanitize_but(value, &[]);
}

fn sanitize_but(value: &mut serde_json::Value, kept: &[&str]) {
    match value {
        serde_json::Value::String(text) => {
            if let Cow::Owned(safe) = printable(text) {
                *text = safe;
            }
        }
        serde_json::Value::Array(values) => values.iter_mut().for_each(|value| sanitize_but(value, kept)),
        serde_json::Value::Object(members) => {
            let others = members.iter_mut().filter(|(key, _)| !kept.contains(&key.as_str()));
            others.for_each(|(_, value)| sanitize_but(value, kept));
        }
        _ => {}
    }
}

/// Of `known`, the name that `given` was probably meant to be.
#[must_use]
pub fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(given, name), name))
        .filter(|(distance, name)| *distance <= 1 + name.len().min(given.len()) / 3)
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_escapes_cannot_act() {
        assert_eq!(one_line("a\u{1b}[2Jb\r\n\n  c "), "a\u{fffd}[2Jb; c");
    }

    #[test]
    fn cells_are_no_formulas() {
        let of = |text: &str| String::from_utf8(cell(text.as_bytes()).into_owned()).unwrap();
        for text in ["", "a", "-", "-1", "+1.5", "-1e9", "-inf", "nan", "kworker/0:1-ev", "a=b", "é"] {
            assert_eq!(of(text), text);
        }
        for (text, safe) in [
            ("=1+1", "'=1+1"),
            ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
            ("-1+1", "'-1+1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", "'\u{fffd}=1"),
            ("\r=1", "'\u{fffd}=1"),
            ("a\u{1b}[2J\u{202e}", "a\u{fffd}[2J\u{fffd}"),
        ] {
            assert_eq!(of(text), safe, "{text:?}");
        }
        assert_eq!(&*cell(b"\xff"), "\u{fffd}".as_bytes());
    }

    #[test]
    fn the_nearest_name_is_near() {
        assert_eq!(nearest("vmsat", ["vmstat", "iostat"]), Some("vmstat"));
        assert_eq!(nearest("frequenzy", ["events", "frequency"]), Some("frequency"));
        assert_eq!(nearest("xyz", ["vmstat", "iostat"]), None);
    }
}

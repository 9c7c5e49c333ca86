//! Text from a host, made safe to show.

pub use autoprof_protocol::text::{HostText, is_unprintable, one_line, printable};

/// Takes out of all texts of a JSON value what acts on a terminal. What a run was told to do (its test, arguments and
/// commands) stays as it is: it is run, and escaped where it is shown.
pub(crate) fn sanitize(value: &mut serde_json::Value) {
    const KEPT: [&str; 5] = ["invocation", "args", "test", "options", "env"];
    match value {
        serde_json::Value::String(text) => {
            if let std::borrow::Cow::Owned(safe) = printable(text) {
                *text = safe;
            }
        }
        serde_json::Value::Array(values) => values.iter_mut().for_each(sanitize),
        serde_json::Value::Object(members) => {
            members.iter_mut().filter(|(key, _)| !KEPT.contains(&key.as_str())).for_each(|(_, value)| sanitize(value));
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
    fn the_nearest_name_is_near() {
        assert_eq!(nearest("vmsat", ["vmstat", "iostat"]), Some("vmstat"));
        assert_eq!(nearest("frequenzy", ["events", "frequency"]), Some("frequency"));
        assert_eq!(nearest("xyz", ["vmstat", "iostat"]), None);
    }
}

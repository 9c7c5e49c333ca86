//! Text from a host, made safe to show.

/// Longest text from a host that is kept for a message.
const LONGEST: usize = 600;

/// One line, trimmed and shortened, in which control characters (terminal escapes among them) cannot act.
#[must_use]
pub fn one_line(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty()) {
        if !out.is_empty() {
            out.push_str("; ");
        }
        out.extend(line.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }));
    }
    if let Some((at, _)) = out.char_indices().nth(LONGEST) {
        out.truncate(at);
        out.push('…');
    }
    out
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

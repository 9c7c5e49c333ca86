//! The words of a configuration line, and the small grammars of their values, as OpenSSH reads them.

/// What separates words on a line. A form feed counts only at the end of a line.
pub(crate) const WHITESPACE: [char; 4] = [' ', '\t', '\r', '\n'];

/// A line without what OpenSSH strips at its end; the first character stays, whatever it is.
pub(crate) fn strip_end(line: &str) -> &str {
    // As in C, a zero byte ends the text.
    let line = line.split('\0').next().unwrap_or_default();
    let stripped = line.trim_end_matches(|c| WHITESPACE.contains(&c) || c == '\u{c}');
    let first = line.chars().next().map_or(0, char::len_utf8);
    &line[..stripped.len().max(first)]
}

/// Takes words from the front of a line: separated by white space, by double quotes, or by one `=`.
///
/// Keywords and the criteria of `Match` are read this way; all other values by [`split`].
#[derive(Debug, Clone)]
pub(crate) struct Delimited<'a>(Option<&'a str>);

impl<'a> Delimited<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self(Some(text))
    }

    /// What has not been taken yet; none: the last word was taken, or a quote was not closed.
    pub(crate) fn rest(&self) -> Option<&'a str> {
        self.0
    }

    /// The next word; none at the end, and where a quote is not closed.
    pub(crate) fn next(&mut self) -> Option<String> {
        let text = self.0?;
        let Some(at) = text.find(|c| WHITESPACE.contains(&c) || c == '"' || c == '=') else {
            self.0 = None;
            return Some(text.to_owned());
        };
        let (word, rest) = text.split_at(at);
        if let Some(quoted) = rest.strip_prefix('"') {
            // The word goes on inside the quotes, and ends with them.
            let Some((inside, after)) = quoted.split_once('"') else {
                self.0 = None;
                return None;
            };
            self.0 = Some(after.trim_start_matches(WHITESPACE));
            return Some(format!("{word}{inside}"));
        }
        let mut after = rest[1..].trim_start_matches(WHITESPACE);
        if !rest.starts_with('=')
            && let Some(value) = after.strip_prefix('=')
        {
            after = value.trim_start_matches(WHITESPACE);
        }
        self.0 = Some(after);
        Some(word.to_owned())
    }
}

/// Splits a value into words at blanks and tabs: single and double quotes, `\` before a quote, a `\` or a blank, and
/// `#` at the beginning of a word for a comment. None where a quote is not closed.
pub(crate) fn split(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(&c) = chars.peek() {
        if c == ' ' || c == '\t' {
            chars.next();
            continue;
        }
        if c == '#' {
            break;
        }
        let (mut word, mut quote) = (String::new(), None);
        while let Some(&c) = chars.peek() {
            if quote.is_none() && (c == ' ' || c == '\t') {
                break;
            }
            chars.next();
            match (c, quote) {
                ('\\', _) => {
                    let escaped =
                        chars.next_if(|next| matches!(next, '\'' | '"' | '\\') || (quote.is_none() && *next == ' '));
                    word.push(escaped.unwrap_or('\\'));
                }
                ('"' | '\'', None) => quote = Some(c),
                (c, Some(open)) if c == open => quote = None,
                (c, _) => word.push(c),
            }
        }
        if quote.is_some() {
            return None;
        }
        words.push(word);
    }
    Some(words)
}

/// Whether a text matches a pattern of `*` and `?`; brackets are only brackets.
pub(crate) fn matches(text: &str, pattern: &str) -> bool {
    let (text, pattern) = (text.as_bytes(), pattern.as_bytes());
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == b'?' || *c == text[t] => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, t) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

/// Whether a text matches a comma-separated list of patterns; one that begins with `!` and matches refuses it.
pub(crate) fn matches_list(text: &str, list: &str, lower: bool) -> bool {
    /// Longer patterns match nothing in OpenSSH.
    const LONGEST: usize = 1023;
    let mut positive = false;
    // A comma at the end begins no further pattern.
    let list = list.strip_suffix(',').unwrap_or(list);
    for pattern in list.split(',').filter(|_| !list.is_empty()) {
        let (negated, pattern) = pattern.strip_prefix('!').map_or((false, pattern), |rest| (true, rest));
        if pattern.len() >= LONGEST {
            return false;
        }
        let pattern = if lower { pattern.to_ascii_lowercase() } else { pattern.to_owned() };
        if matches(text, &pattern) {
            if negated {
                return false;
            }
            positive = true;
        }
    }
    positive
}

/// As [`matches_list`] for names of hosts, which know no upper case.
pub(crate) fn matches_host(host: &str, list: &str) -> bool {
    matches_list(&host.to_ascii_lowercase(), list, true)
}

/// A decimal number at the front of a text, as `strtol` reads it: with blanks and a sign before it.
fn leading_number(text: &str) -> Option<(i64, &str)> {
    let digits = text.trim_start_matches([' ', '\t', '\n', '\r', '\u{b}', '\u{c}']);
    let (negative, digits) = match digits.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, digits.strip_prefix('+').unwrap_or(digits)),
    };
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    if end == 0 {
        return None;
    }
    let value = digits[..end].parse::<i64>().unwrap_or(i64::MAX);
    Some((if negative { -value } else { value }, &digits[end..]))
}

/// A whole number from `least` to `most`.
pub(crate) fn number(text: &str, least: i64, most: i64) -> Option<i64> {
    leading_number(text).filter(|(value, rest)| rest.is_empty() && (least..=most).contains(value)).map(|(v, _)| v)
}

/// A time such as `90`, `1m30s` or `2h`, in seconds.
pub(crate) fn seconds(text: &str) -> Option<i64> {
    const MOST: i64 = i32::MAX as i64;
    let mut rest = text;
    if rest.is_empty() {
        return None;
    }
    let mut total = 0i64;
    while !rest.is_empty() {
        let (value, after) = leading_number(rest)?;
        let mut after = after.chars();
        let unit = match after.next().map(|c| c.to_ascii_lowercase()) {
            None | Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3600,
            Some('d') => 86_400,
            Some('w') => 7 * 86_400,
            Some(_) => return None,
        };
        if value < 0 || value > MOST / unit {
            return None;
        }
        total += value * unit;
        if total > MOST {
            return None;
        }
        rest = after.as_str();
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delimited(text: &str) -> Vec<String> {
        let mut words = Delimited::new(text);
        std::iter::from_fn(|| words.next()).collect()
    }

    #[test]
    fn keywords_end_at_blanks_quotes_and_one_equals_sign() {
        assert_eq!(delimited("Port 22"), ["Port", "22"]);
        assert_eq!(delimited("Port=22"), ["Port", "22"]);
        assert_eq!(delimited("Port \t= \t22"), ["Port", "22"]);
        assert_eq!(delimited("Port==22"), ["Port", "", "22"]);
        assert_eq!(delimited("host \"a b\"c"), ["host", "a b", "c"]);
        assert_eq!(delimited("\"unclosed"), [""; 0]);
    }

    #[test]
    fn values_are_split_as_openssh_splits_them() {
        let ok = |text: &str, expected: &[&str]| assert_eq!(split(text).unwrap(), expected, "{text}");
        ok("a b\tc", &["a", "b", "c"]);
        ok("'a b' \"c 'd'\" e\"f g\"h", &["a b", "c 'd'", "ef gh"]);
        ok(r#"a\ b "c\"d" 'e\'f' g\h "i\ j" k\\"#, &["a b", "c\"d", "e'f", r"g\h", r"i\ j", r"k\"]);
        ok("id#1 # comment", &["id#1"]);
        ok("a #b 'unclosed", &["a"]);
        ok("'' \"\"", &["", ""]);
        assert_eq!(split("'a"), None);
        assert_eq!(split("it's"), None);
    }

    #[test]
    fn times_have_units() {
        for (text, expected) in [
            ("0", Some(0)),
            ("10", Some(10)),
            ("1m30s", Some(90)),
            ("1H", Some(3600)),
            ("1w2d", Some(777_600)),
            ("1m+30", Some(90)),
            ("", None),
            ("m", None),
            ("-1", None),
            ("5x", None),
            ("99999999999", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }

    #[test]
    fn lists_refuse_before_they_take() {
        assert!(matches_list("web1", "db*,web*", false));
        assert!(!matches_list("web1", "web*,!web1", false));
        assert!(!matches_list("web1", "!db1", false));
        assert!(matches_host("WEB1", "web?"));
        assert!(!matches_list("WEB1", "web?", false));
    }
}

//! Words and values as Python reads them: `shlex`, `ast.literal_eval`, `str.splitlines` and the scalars of PyYAML.
//!
//! Ansible's INI inventories are defined by these functions, odd corners included.
use super::vars::{NotText, Value};

/// Splits at what Python takes for the end of a line.
pub(super) fn lines(text: &str) -> impl Iterator<Item = &str> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    let ends = ['\n', '\r', '\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{85}', '\u{2028}', '\u{2029}'];
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(at) = text.find(ends) else {
            rest = None;
            return Some(text);
        };
        let end = if text[at..].starts_with("\r\n") { 2 } else { text[at..].chars().next().map_or(1, char::len_utf8) };
        rest = Some(&text[at + end..]);
        Some(&text[..at])
    })
}

/// Words as `shlex.split(line, comments=True)` gives them; none where a quote is not closed.
///
/// Unlike a shell's, `#` begins a comment within a word, too.
pub(super) fn words(line: &str) -> Option<Vec<String>> {
    let (mut out, mut word): (Vec<String>, Option<String>) = (Vec::new(), None);
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\r' | '\n' => out.extend(word.take()),
            '#' => break,
            '\\' => word.get_or_insert_default().push(chars.next()?),
            '\'' | '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        end if end == c => break,
                        '\\' if c == '"' => match chars.next()? {
                            escaped @ ('"' | '\\') => word.push(escaped),
                            other => word.extend(['\\', other]),
                        },
                        inner => word.push(inner),
                    }
                }
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    out.extend(word);
    Some(out)
}

/// A value of an INI inventory: what `ast.literal_eval` makes of it, else the text.
pub(super) fn value(text: &str) -> Value {
    let mut reader = Reader { rest: text.trim_start_matches([' ', '\t']), depth: 0 };
    match reader.list_or_one() {
        Some(value) if reader.at_end() => value,
        _ => Value::Text(text.to_owned()),
    }
}

/// Deepest brackets in brackets of one value.
const MAX_DEPTH: usize = 32;

struct Reader<'t> {
    rest: &'t str,
    depth: usize,
}

impl Reader<'_> {
    fn skip(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\u{c}']);
    }

    fn at_end(&mut self) -> bool {
        self.skip();
        self.rest.is_empty() || self.rest.starts_with('#')
    }

    fn eat(&mut self, c: char) -> bool {
        self.skip();
        let after = self.rest.strip_prefix(c);
        self.rest = after.unwrap_or(self.rest);
        after.is_some()
    }

    /// One value, or several after commas, which are a tuple.
    fn list_or_one(&mut self) -> Option<Value> {
        let one = self.one()?;
        if !self.eat(',') {
            return Some(one);
        }
        while !self.at_end() && !self.rest.starts_with(')') {
            self.one()?;
            if !self.eat(',') {
                break;
            }
        }
        Some(Value::Other(NotText::List))
    }

    fn one(&mut self) -> Option<Value> {
        self.skip();
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        let value = match self.rest.chars().next()? {
            '(' => self.parenthesis(),
            '[' => self.items(']').map(|()| Value::Other(NotText::List)),
            '{' => self.items('}').map(|()| Value::Other(NotText::Map)),
            '0'..='9' | '.' | '+' | '-' => self.number(),
            _ => self.word().or_else(|| self.string()),
        };
        self.depth -= 1;
        value
    }

    fn parenthesis(&mut self) -> Option<Value> {
        self.eat('(');
        if self.eat(')') {
            return Some(Value::Other(NotText::List));
        }
        let inner = self.list_or_one()?;
        self.eat(')').then_some(inner)
    }

    fn items(&mut self, end: char) -> Option<()> {
        self.rest = &self.rest[1..];
        while !self.eat(end) {
            self.one()?;
            if end == '}' && self.eat(':') {
                self.one()?;
            }
            if !self.eat(',') {
                return self.eat(end).then_some(());
            }
        }
        Some(())
    }

    fn word(&mut self) -> Option<Value> {
        let word = |(name, value): (&str, Value)| Some((self.rest.strip_prefix(name)?, value));
        let known =
            [("None", Value::Null), ("True", Value::Scalar("True".into())), ("False", Value::Scalar("False".into()))];
        let (rest, value) = known.into_iter().find_map(word)?;
        if rest.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '\'' || c == '"') {
            return None;
        }
        self.rest = rest;
        Some(value)
    }

    fn number(&mut self) -> Option<Value> {
        let negative = self.rest.starts_with('-');
        if negative || self.rest.starts_with('+') {
            self.rest = &self.rest[1..];
            self.skip();
        }
        let end = number_end(self.rest)?;
        let (text, rest) = self.rest.split_at(end);
        if rest.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '.') {
            return None;
        }
        self.rest = rest;
        let plain = text.replace('_', "").to_ascii_lowercase();
        let sign = if negative { "-" } else { "" };
        let radix = |prefix, radix| plain.strip_prefix(prefix).map(|digits| u128::from_str_radix(digits, radix).ok());
        if let Some(number) = radix("0x", 16).or_else(|| radix("0o", 8)).or_else(|| radix("0b", 2)) {
            return Some(Value::Scalar(format!("{sign}{}", number?)));
        }
        if plain.bytes().all(|b| b.is_ascii_digit()) {
            let digits = plain.trim_start_matches('0');
            return Some(Value::Scalar(if digits.is_empty() { "0".into() } else { format!("{sign}{digits}") }));
        }
        let float: f64 = plain.parse().ok()?;
        Some(Value::Scalar(python_float(if negative { -float } else { float })))
    }

    /// One string, or several beside each other, which are one.
    fn string(&mut self) -> Option<Value> {
        let (mut out, mut bytes) = (String::new(), None);
        loop {
            self.skip();
            let quote = self.rest.find(['\'', '"']).filter(|at| *at <= 2);
            let Some(quote) = quote.filter(|at| self.rest[..*at].bytes().all(|b| b.is_ascii_alphabetic())) else {
                bytes?;
                return Some(Value::Text(out));
            };
            let prefix = self.rest[..quote].to_ascii_lowercase();
            let (raw, is_bytes) = match prefix.as_str() {
                "" | "u" => (false, false),
                "r" => (true, false),
                "b" => (false, true),
                "br" | "rb" => (true, true),
                _ => return None,
            };
            // Text and bytes beside each other are an error.
            if bytes.replace(is_bytes).is_some_and(|before| before != is_bytes) {
                return None;
            }
            self.rest = &self.rest[quote..];
            self.quoted(raw, &mut out)?;
        }
    }

    fn quoted(&mut self, raw: bool, out: &mut String) -> Option<()> {
        let single = &self.rest[..1];
        let triple = single.repeat(3);
        let end = if self.rest.starts_with(&triple) { triple } else { single.to_owned() };
        let mut rest = &self.rest[end.len()..];
        loop {
            if let Some(after) = rest.strip_prefix(end.as_str()) {
                self.rest = after;
                return Some(());
            }
            let c = rest.chars().next()?;
            rest = &rest[c.len_utf8()..];
            if c != '\\' {
                out.push(c);
                continue;
            }
            let escaped = rest.chars().next()?;
            rest = &rest[escaped.len_utf8()..];
            if raw {
                out.extend(['\\', escaped]);
                continue;
            }
            let mut code = |digits: usize| {
                let hex = rest.get(..digits)?;
                rest = &rest[digits..];
                char::from_u32(u32::from_str_radix(hex, 16).ok()?)
            };
            match escaped {
                '\\' | '\'' | '"' => out.push(escaped),
                'a' => out.push('\u{7}'),
                'b' => out.push('\u{8}'),
                'f' => out.push('\u{c}'),
                'n' => out.push('\n'),
                'r' => out.push('\r'),
                't' => out.push('\t'),
                'v' => out.push('\u{b}'),
                'x' => out.push(code(2)?),
                'u' => out.push(code(4)?),
                'U' => out.push(code(8)?),
                'N' => return None,
                '0'..='7' => {
                    let more = rest.bytes().take(2).take_while(|b| (b'0'..=b'7').contains(b)).count();
                    let octal = format!("{escaped}{}", &rest[..more]);
                    rest = &rest[more..];
                    out.push(char::from_u32(u32::from_str_radix(&octal, 8).ok()?)?);
                }
                other => out.extend(['\\', other]),
            }
        }
    }
}

/// Where a number of Python's ends: digits with single underscores between them, a fraction, an exponent.
fn number_end(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let digits = |from: usize, is: fn(&u8) -> bool| {
        let mut at = from;
        while bytes.get(at).is_some_and(is)
            || (at > from && bytes.get(at) == Some(&b'_') && bytes.get(at + 1).is_some_and(is))
        {
            at += 1;
        }
        at
    };
    let lower = text.get(..2).unwrap_or_default().to_ascii_lowercase();
    let prefixed: Option<fn(&u8) -> bool> = match lower.as_str() {
        "0x" => Some(u8::is_ascii_hexdigit),
        "0o" => Some(|b| (b'0'..=b'7').contains(b)),
        "0b" => Some(|b| matches!(b, b'0' | b'1')),
        _ => None,
    };
    if let Some(is) = prefixed {
        let from = if bytes.get(2) == Some(&b'_') { 3 } else { 2 };
        return Some(digits(from, is)).filter(|end| *end > from);
    }
    let whole = digits(0, u8::is_ascii_digit);
    let mut end = whole;
    if bytes.get(end) == Some(&b'.') {
        end = digits(end + 1, u8::is_ascii_digit);
    }
    if end == 0 || (whole == 0 && end == 1) {
        return None;
    }
    if bytes.get(end).is_some_and(|b| b.eq_ignore_ascii_case(&b'e')) {
        let signed = usize::from(bytes.get(end + 1).is_some_and(|b| matches!(b, b'+' | b'-')));
        let exponent = digits(end + 1 + signed, u8::is_ascii_digit);
        if exponent > end + 1 + signed {
            return Some(exponent);
        }
    }
    // A whole number does not begin with 0: 022 is no number, and so the text that was written.
    let leading_zero = end == whole && text.starts_with('0') && text[..end].bytes().any(|b| !matches!(b, b'0' | b'_'));
    (!leading_zero).then_some(end)
}

/// A float as Python writes it.
fn python_float(x: f64) -> String {
    if x.is_infinite() {
        return if x > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let shortest = format!("{x:e}");
    let exponent: i32 = shortest.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0);
    if x != 0.0 && !(-4..16).contains(&exponent) {
        let digits = shortest.split('e').next().unwrap_or_default();
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let plain = format!("{x}");
    if plain.contains('.') { plain } else { plain + ".0" }
}

/// A scalar of YAML 1.1 without quotes, as PyYAML reads it.
pub(super) fn yaml_plain(text: &str) -> Value {
    let scalar = |text: &str| Value::Scalar(text.to_owned());
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return scalar("True"),
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => return scalar("False"),
        _ => {}
    }
    let (sign, digits) = match text.strip_prefix(['+', '-']) {
        Some(rest) => (if text.starts_with('-') { "-" } else { "" }, rest),
        None => ("", text),
    };
    let signed = |number: u128| Value::Scalar(if number == 0 { "0".into() } else { format!("{sign}{number}") });
    let only = |text: &str, of: &str| {
        !text.is_empty() && text.chars().all(|c| c == '_' || of.contains(c.to_ascii_lowercase()))
    };
    let plain = digits.replace('_', "");
    let number = |digits: &str, radix| u128::from_str_radix(digits, radix).ok();
    let whole = match digits.get(..2) {
        Some("0b") if only(&digits[2..], "01") => number(&plain[2..], 2),
        Some("0x") if only(&digits[2..], "0123456789abcdef") => number(&plain[2..], 16),
        Some(_) if digits.starts_with('0') && only(&digits[1..], "01234567") => number(&plain, 8),
        _ if digits == "0" || (!digits.starts_with(['0', '_']) && only(digits, "0123456789")) => number(&plain, 10),
        _ if is_sexagesimal(digits) => {
            plain.split(':').try_fold(0u128, |sum, part| sum.checked_mul(60)?.checked_add(part.parse().ok()?))
        }
        _ => None,
    };
    if let Some(number) = whole {
        return signed(number);
    }
    let is_float = digits.contains('.')
        && digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && float_mantissa(digits).is_some_and(|mantissa| {
            only(mantissa, "0123456789.") && mantissa.matches('.').count() == 1 && mantissa != "."
        });
    match plain.parse::<f64>() {
        Ok(float) if is_float => scalar(&python_float(if sign == "-" { -float } else { float })),
        _ => Value::Text(text.to_owned()),
    }
}

/// What is before the exponent, which has a sign in YAML 1.1.
fn float_mantissa(text: &str) -> Option<&str> {
    match text.split_once(['e', 'E']) {
        None => Some(text),
        Some((mantissa, exponent)) => {
            let digits = exponent.strip_prefix(['+', '-'])?;
            (!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())).then_some(mantissa)
        }
    }
}

/// `1:30`, which is 90.
fn is_sexagesimal(text: &str) -> bool {
    let mut parts = text.split(':');
    let first = parts.next().unwrap_or_default();
    let mut count = 0;
    let fine = parts.all(|part| {
        count += 1;
        matches!(part.as_bytes(), [b'0'..=b'9'] | [b'0'..=b'5', b'0'..=b'9'])
    });
    fine && count > 0
        && first.starts_with(|c: char| ('1'..='9').contains(&c))
        && first.bytes().all(|b| b.is_ascii_digit() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_what_python_makes_of_them() {
        let text = |text: &str| Value::Text(text.into());
        let scalar = |text: &str| Value::Scalar(text.into());
        for (written, read) in [
            ("root", text("root")),
            ("'ops'", text("ops")),
            ("\"a\" 'b' # both", text("ab")),
            ("root # not a comment", text("root # not a comment")),
            ("2222 # a comment", scalar("2222")),
            ("022", text("022")),
            ("0x16", scalar("22")),
            ("1_000", scalar("1000")),
            ("1__0", text("1__0")),
            ("10.0.0.1", text("10.0.0.1")),
            ("1e3", scalar("1000.0")),
            ("1.50", scalar("1.5")),
            ("1e16", scalar("1e+16")),
            ("-5", scalar("-5")),
            ("None", Value::Null),
            ("None2", text("None2")),
            ("True", scalar("True")),
            ("true", text("true")),
            ("(5)", scalar("5")),
            ("1, 2", Value::Other(NotText::List)),
            ("['a', 'b']", Value::Other(NotText::List)),
            ("{'a': 1}", Value::Other(NotText::Map)),
            ("[a, b]", text("[a, b]")),
            ("'it''s'", text("its")),
            ("r'\\n'", text("\\n")),
            ("'\\x41\\101\\n\\q'", text("AA\n\\q")),
            ("'open", text("'open")),
            ("", text("")),
        ] {
            assert_eq!(value(written), read, "{written}");
        }
        assert_eq!(value(&"(".repeat(100_000)), text(&"(".repeat(100_000)));
    }

    #[test]
    fn words_are_what_shlex_makes_of_them() {
        let split = |line: &str| words(line).unwrap();
        assert_eq!(split("h a='b c' d=\"e\\\"f\" g=h\\ i # j"), ["h", "a=b c", "d=e\"f", "g=h i"]);
        assert_eq!(split("h user=a#b c=d"), ["h", "user=a"]);
        assert_eq!(split("h a='#' b=\"\\n\""), ["h", "a=#", "b=\\n"]);
        assert_eq!(words("h a='"), None);
    }

    #[test]
    fn scalars_of_yaml_are_what_pyyaml_makes_of_them() {
        for (written, read) in [
            ("010", "8"),
            ("0x10", "16"),
            ("0b11", "3"),
            ("1:30", "90"),
            ("yes", "True"),
            ("Off", "False"),
            ("1_000", "1000"),
            ("1.50", "1.5"),
            ("1.0e+3", "1000.0"),
            ("-7", "-7"),
        ] {
            assert_eq!(yaml_plain(written), Value::Scalar(read.into()), "{written}");
        }
        for written in ["1e3", "08", "0o10", "1.2.3.4", "10.0.0.1", "y", "web-1", ".", "1:75", "_1"] {
            assert_eq!(yaml_plain(written), Value::Text(written.into()), "{written}");
        }
        assert_eq!(yaml_plain("~"), Value::Null);
    }

    #[test]
    fn lines_end_where_python_ends_them() {
        assert_eq!(lines("a\r\nb\rc\u{2028}d\n").collect::<Vec<_>>(), ["a", "b", "c", "d"]);
    }
}

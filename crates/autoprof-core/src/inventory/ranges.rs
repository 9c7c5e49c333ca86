//! Names of hosts in an inventory: ranges (`web[01:09:2]`, `db-[a:f]`) and ports.
//!
//! Source: ansible/parsing/utils/addresses.py and `expand_hostname_range` of ansible/plugins/inventory/__init__.py.
use std::net::Ipv6Addr;

use crate::host::MAX_EXPANSION;

/// A range that cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot expand {pattern:?}: {reason}")]
pub struct BadRange {
    /// What was written.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// The names that a pattern stands for, and the port that follows it.
pub(super) fn hosts(pattern: &str) -> Result<(Vec<String>, Option<u64>), BadRange> {
    let bad = |reason| BadRange { pattern: pattern.to_owned(), reason };
    let (name, port) = port(pattern);
    if port.is_none() && pattern.ends_with(':') {
        return Err(bad("a port must follow the colon"));
    }
    let mut out = Vec::new();
    expand("", name, &mut out).map_err(bad)?;
    Ok((out, port))
}

/// Splits off a port, where what is before it is a name or an address; Ansible takes it for a part of the name else.
fn port(pattern: &str) -> (&str, Option<u64>) {
    let mut found = (pattern, None);
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    if let Some((inner, port)) = pattern.strip_prefix('[').and_then(|p| p.rsplit_once("]:"))
        && !inner.is_empty()
        && let Some(port) = number(port)
    {
        found = (inner, Some(port));
    }
    let outside_brackets = |text: &str| {
        let mut inside = false;
        text.chars().all(|c| match (inside, c) {
            (true, ']') => {
                inside = false;
                true
            }
            (false, '[') => {
                inside = true;
                true
            }
            (false, ':' | ']') => false,
            _ => true,
        }) && !inside
    };
    if let Some((before, port)) = found.0.rsplit_once(':')
        && outside_brackets(before)
        && let Some(port) = number(port)
    {
        found = (before, Some(port));
    }
    if is_hostname(found.0) || is_ipv6(found.0) { found } else { (pattern, None) }
}

/// Labels of letters, digits, `-`, `_` and ranges, with dots between them.
fn is_hostname(name: &str) -> bool {
    let mut rest = name;
    let (mut first, mut last) = (true, '.');
    loop {
        let Some(c) = rest.chars().next() else { return !first && !matches!(last, '_' | '-') };
        match c {
            '[' => {
                let Some((range, after)) = rest[1..].split_once(']') else { return false };
                if !is_range(range) {
                    return false;
                }
                (first, last, rest) = (false, ']', after);
                continue;
            }
            '.' if first || matches!(last, '_' | '-') => return false,
            '.' => first = true,
            '-' if first => return false,
            c if c.is_alphanumeric() || c == '_' || c == '-' => first = false,
            _ => return false,
        }
        last = c;
        rest = &rest[c.len_utf8()..];
    }
}

fn is_ipv6(name: &str) -> bool {
    let (mut plain, mut rest) = (String::new(), name);
    while let Some((before, after)) = rest.split_once('[') {
        let Some((range, after)) = after.split_once(']') else { return false };
        let hex = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
        let fine = matches!(range.split(':').collect::<Vec<_>>()[..], [a, b] | [a, b, _] if hex(a) && hex(b));
        if !fine {
            return false;
        }
        plain.extend([before, "0"]);
        rest = after;
    }
    plain.push_str(rest);
    plain.parse::<Ipv6Addr>().is_ok()
}

fn is_range(range: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let letter = |text: &str| text.len() == 1 && text.bytes().all(|b| b.is_ascii_alphabetic());
    let bounds = |a: &str, b: &str| (digits(a) && digits(b)) || (letter(a) && letter(b));
    match range.split(':').collect::<Vec<_>>()[..] {
        [a, b] => bounds(a, b),
        [a, b, step] => bounds(a, b) && digits(step),
        _ => false,
    }
}

/// All names of a pattern, the first range varying slowest.
fn expand(before: &str, pattern: &str, out: &mut Vec<String>) -> Result<(), &'static str> {
    let Some((head, rest)) = pattern.split_once('[') else {
        if pattern.contains(']') {
            return Err("] without [");
        }
        if out.len() >= MAX_EXPANSION {
            return Err("more than 100000 hosts");
        }
        out.push(format!("{before}{pattern}"));
        return Ok(());
    };
    let (range, tail) = rest.split_once(']').ok_or("[ without ]")?;
    if before.len() + pattern.len() > MAX_LENGTH {
        return Err("the name is too long");
    }
    for middle in members(range)? {
        expand(&format!("{before}{head}{middle}"), tail, out)?;
    }
    Ok(())
}

/// Longest pattern, in bytes.
const MAX_LENGTH: usize = 1024;

fn members(range: &str) -> Result<Vec<String>, &'static str> {
    const NOT_A_RANGE: &str = "brackets hold a range such as [01:50], [1:9:2] or [a:f]";
    let (low, high, step) = match range.split(':').collect::<Vec<_>>()[..] {
        [low, high] => (low, high, "1"),
        [low, high, step] => (low, high, step),
        _ => return Err(NOT_A_RANGE),
    };
    let low = if low.is_empty() { "0" } else { low };
    if high.is_empty() {
        return Err("the range has no end");
    }
    let number = |text: &str| text.parse::<u64>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
    let step = number(step).and_then(|step| usize::try_from(step).ok()).filter(|step| *step > 0);
    let step = step.ok_or("the step of a range is a number of at least 1")?;
    if let (Some(from), Some(to)) = (letter(low), letter(high)) {
        if from > to {
            return Err("the range runs backwards");
        }
        return Ok((from..=to).step_by(step).map(|nth| char::from(LETTERS[nth]).to_string()).collect());
    }
    let (Some(from), Some(to)) = (number(low), number(high)) else { return Err(NOT_A_RANGE) };
    let width = if low.len() > 1 && low.starts_with('0') { low.len() } else { 0 };
    if width > 0 && width != high.len() {
        return Err("with leading zeros both ends have the same number of digits");
    }
    if from > to {
        return Err("the range runs backwards");
    }
    if (to - from) / step as u64 >= MAX_EXPANSION as u64 {
        return Err("more than 100000 hosts");
    }
    Ok((from..=to).step_by(step).map(|n| format!("{n:0width$}")).collect())
}

const LETTERS: &[u8; 52] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

fn letter(text: &str) -> Option<usize> {
    let [letter] = text.as_bytes() else { return None };
    LETTERS.iter().position(|known| known == letter)
}

/// Whether a word has a range of an inventory's, and not of a command line's.
pub(super) fn has_range(word: &str) -> bool {
    word.split('[').skip(1).filter_map(|rest| rest.split_once(']')).any(|(inner, _)| is_range(inner))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(pattern: &str) -> Vec<String> {
        hosts(pattern).unwrap().0
    }

    #[test]
    fn ranges_have_strides_widths_and_letters() {
        assert_eq!(
            names("www[01:07:2].example.com").join(" "),
            "www01.example.com www03.example.com www05.example.com www07.example.com"
        );
        assert_eq!(names("r[1:2]n[a:b]"), ["r1na", "r1nb", "r2na", "r2nb"]);
        assert_eq!(names("n[:2]"), ["n0", "n1", "n2"]);
        assert_eq!(names("n[y:B]"), ["ny", "nz", "nA", "nB"]);
        for (pattern, why) in [
            ("n[3:1]", "backwards"),
            ("n[aa:ac]", "brackets hold a range"),
            ("n[1-3]", "brackets hold a range"),
            ("n[01:7]", "same number of digits"),
            ("n[1:3:0]", "step"),
            ("n[1:3", "[ without ]"),
            ("n1]", "] without ["),
            ("n[1:]", "no end"),
            ("n[1:9999999]", "more than 100000"),
            ("n[1:9999][1:9999]", "more than 100000"),
            ("web:", "a port must follow"),
        ] {
            let said = hosts(pattern).unwrap_err().to_string();
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn ports_follow_names_and_addresses() {
        let read = |pattern: &str| hosts(pattern).unwrap();
        assert_eq!(read("web:2222"), (vec!["web".into()], Some(2222)));
        assert_eq!(read("web[1:2]:2222"), (vec!["web1".into(), "web2".into()], Some(2222)));
        assert_eq!(read("[2001:db8::1]:22"), (vec!["2001:db8::1".into()], Some(22)));
        assert_eq!(read("2001:db8::1"), (vec!["2001:db8::1".into()], None));
        assert_eq!(read("[web]:22"), (vec!["web".into()], Some(22)));
        assert_eq!(read("root@web:22"), (vec!["root@web:22".into()], None), "Ansible takes it for a name");
    }

    proptest! {
        #[test]
        fn no_pattern_panics(pattern in "[a-z0-9\\[\\]:._@-]{0,24}") {
            let _ = hosts(&pattern);
        }
    }
}

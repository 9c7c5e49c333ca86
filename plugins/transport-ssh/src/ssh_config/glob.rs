//! Patterns of file names, as `glob(3)` expands them for `Include`.
use std::{ffi::OsString, fs, os::unix::ffi::OsStrExt, path::PathBuf};

/// More files than this are no configuration.
const MAX_MATCHES: usize = 10_000;

/// The files that a pattern names, sorted by name; a pattern without `*`, `?` and `[` names one file if it is there.
pub(crate) fn expand(pattern: &str) -> Result<Vec<PathBuf>, String> {
    let mut found = vec![if pattern.starts_with('/') { PathBuf::from("/") } else { PathBuf::new() }];
    let parts: Vec<&str> = pattern.split('/').filter(|part| !part.is_empty()).collect();
    for (at, part) in parts.iter().enumerate() {
        let last = at + 1 == parts.len();
        let mut next = Vec::new();
        for directory in found {
            if part.contains(['*', '?', '[']) {
                let here = if directory.as_os_str().is_empty() { PathBuf::from(".") } else { directory.clone() };
                // What cannot be listed has no matches.
                let names = fs::read_dir(here).into_iter().flatten().flatten().map(|entry| entry.file_name());
                let mut names: Vec<OsString> = names.filter(|name| fits(name.as_bytes(), part.as_bytes())).collect();
                names.sort();
                next.extend(names.into_iter().map(|name| directory.join(name)));
            } else {
                let path = directory.join(unescape(part));
                // A link that leads nowhere is there too.
                if !last || path.symlink_metadata().is_ok() {
                    next.push(path);
                }
            }
            if next.len() > MAX_MATCHES {
                return Err(format!("it matches more than {MAX_MATCHES} files"));
            }
        }
        if !last {
            next.retain(|path| path.is_dir());
        }
        found = next;
    }
    Ok(found)
}

fn unescape(part: &str) -> String {
    let mut out = String::new();
    let mut chars = part.chars();
    while let Some(c) = chars.next() {
        out.push(if c == '\\' { chars.next().unwrap_or(c) } else { c });
    }
    out
}

/// Whether a name fits a pattern with `*`, `?`, `[…]` and `\`; a dot at the beginning has to be written.
fn fits(name: &[u8], pattern: &[u8]) -> bool {
    if name.starts_with(b".") && !pattern.starts_with(b".") {
        return false;
    }
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        let step = match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
                continue;
            }
            Some(b'?') => Some(p + 1),
            Some(b'[') => match set(&pattern[p..], name[n]) {
                Some((true, length)) => Some(p + length),
                Some((false, _)) => None,
                None => (name[n] == b'[').then_some(p + 1),
            },
            Some(b'\\') if p + 1 < pattern.len() => (pattern[p + 1] == name[n]).then_some(p + 2),
            Some(c) => (*c == name[n]).then_some(p + 1),
            None => None,
        };
        match (step, star) {
            (Some(after), _) => (p, n) = (after, n + 1),
            (None, Some((at, from))) => {
                star = Some((at, from + 1));
                (p, n) = (at + 1, from + 1);
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

/// Whether a byte is in the set that a pattern begins with, and the set's length; none: the bracket is not closed.
fn set(pattern: &[u8], byte: u8) -> Option<(bool, usize)> {
    let negated = matches!(pattern.get(1), Some(b'!' | b'^'));
    let first = if negated { 2 } else { 1 };
    let (mut at, mut found) = (first, false);
    loop {
        let low = *pattern.get(at)?;
        if low == b']' && at > first {
            return Some((found != negated, at + 1));
        }
        match (pattern.get(at + 1), pattern.get(at + 2)) {
            (Some(b'-'), Some(high)) if *high != b']' => {
                found |= (low..=*high).contains(&byte);
                at += 3;
            }
            _ => {
                found |= low == byte;
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_as_in_a_shell() {
        for (name, pattern, expected) in [
            ("a.conf", "*.conf", true),
            (".a.conf", "*.conf", false),
            (".git", ".*", true),
            ("10-web", "[0-9]*", true),
            ("x-web", "[!0-9]*", true),
            ("ab", "a?", true),
            ("a[", "a[", true),
            ("a*", r"a\*", true),
            ("ab", r"a\*", false),
            ("]", "[]]", true),
        ] {
            assert_eq!(fits(name.as_bytes(), pattern.as_bytes()), expected, "{name} {pattern}");
        }
    }
}

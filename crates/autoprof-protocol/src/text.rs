//! Text from a host: a type that cannot reach a terminal as it is, and the characters that may not.
use std::{borrow::Cow, fmt};

use serde::{Deserialize, Serialize};

/// Longest text that is shown in a message, in characters.
const MAX_SHOWN: usize = 600;

/// Text that a host sent: nobody vouches for it.
///
/// It is displayed as one line of at most 600 characters in which nothing acts on a terminal. There is no way to the text
/// itself but [`as_untrusted_str`](Self::as_untrusted_str), whose name says what it is: such text is compared and parsed,
/// and never becomes part of a path or of a command that somebody is told to run.
///
/// ```
/// use autoprof_protocol::text::HostText;
/// let arch = HostText::from("x86\u{1b}[2J\u{202e}64");
/// assert_eq!(arch.to_string(), "x86\u{fffd}[2J\u{fffd}64");
/// assert!(arch != "x86_64");
/// ```
/// It does not turn into a `str` by itself:
/// ```compile_fail
/// use autoprof_protocol::text::HostText;
/// let raw: &str = &HostText::from("x");
/// ```
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct HostText(String);

impl HostText {
    /// The text as the host sent it: to be compared, parsed, or given back to the same host.
    #[must_use]
    pub fn as_untrusted_str(&self) -> &str {
        &self.0
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text with its lines, in which nothing acts on a terminal.
    #[must_use]
    pub fn printable(&self) -> String {
        printable(&self.0).into_owned()
    }

    /// Cuts the text off after so many characters.
    pub fn truncate_chars(&mut self, most: usize) {
        if let Some((at, _)) = self.0.char_indices().nth(most) {
            self.0.truncate(at);
        }
    }
}

impl fmt::Display for HostText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&one_line(&self.0))
    }
}

impl fmt::Debug for HostText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&one_line(&self.0), f)
    }
}

impl From<String> for HostText {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for HostText {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl PartialEq<str> for HostText {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl PartialEq<&str> for HostText {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

/// One line, trimmed and shortened, in which nothing acts on a terminal.
#[must_use]
pub fn one_line(text: &str) -> String {
    let mut out = String::new();
    let mut count = 0;
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty()) {
        let between = if out.is_empty() { "" } else { "; " };
        for c in between.chars().chain(line.chars()) {
            if count == MAX_SHOWN {
                out.push('…');
                return out;
            }
            out.push(if is_unprintable(c) { char::REPLACEMENT_CHARACTER } else { c });
            count += 1;
        }
    }
    out
}

/// The text with its lines and tabs, in which nothing acts on a terminal.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    let acts = |c: char| is_unprintable(c) && c != '\n' && c != '\t';
    if text.contains(acts) {
        Cow::Owned(text.chars().map(|c| if acts(c) { char::REPLACEMENT_CHARACTER } else { c }).collect())
    } else {
        Cow::Borrowed(text)
    }
}

/// Whether a character acts on a terminal, changes the order of the text around it, or cannot be seen.
///
/// Control characters (C0, DEL, C1), bidirectional controls, line and paragraph separators, zero-width characters and the
/// invisible operators, tags and variation selectors behind which text can be hidden.
#[must_use]
pub const fn is_unprintable(c: char) -> bool {
    matches!(
        c,
        '\0'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_text_is_displayed_without_what_acts_on_a_terminal() {
        let text = HostText::from("a\u{1b}[2Jb\r\n\n  \u{202e}c\u{2028} ");
        assert_eq!(text.to_string(), "a\u{fffd}[2Jb; \u{fffd}c");
        assert!(!format!("{text:?}").contains(is_unprintable));
        assert_eq!(HostText::from("a\tb\n\u{9b}c").printable(), "a\tb\n\u{fffd}c");
        assert_eq!(HostText::from("x".repeat(1 << 20)).to_string().chars().count(), MAX_SHOWN + 1);
        assert_eq!(serde_json::from_str::<HostText>(&serde_json::to_string(&text).unwrap()).unwrap(), text);
    }

    #[test]
    fn characters_that_act_on_a_terminal_are_known() {
        let bad = "\0\t\n\u{1b}\u{7f}\u{85}\u{9b}\u{61c}\u{200b}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202e}\u{2066}\u{2069}\u{feff}\u{e0041}";
        assert!(bad.chars().all(is_unprintable));
        assert!(!"aé漢 ü%~…\u{fffd}😀\u{a0}".chars().any(is_unprintable));
    }
}

//! Which characters may not reach a terminal or stand in a name.

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
    fn characters_that_act_on_a_terminal_are_known() {
        let bad = "\0\t\n\u{1b}\u{7f}\u{85}\u{9b}\u{61c}\u{200b}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202e}\u{2066}\u{2069}\u{feff}\u{e0041}";
        assert!(bad.chars().all(is_unprintable));
        assert!(!"aé漢 ü%~…\u{fffd}😀\u{a0}".chars().any(is_unprintable));
    }
}

//! Text that somebody else wrote, made fit for a log line.

use std::iter;

/// Longest foreign text shown, in characters: a virtual host has at most 255.
const MAX_CHARS: usize = 256;

/// The text without anything that could forge a line, move a terminal's cursor, hide a part or turn the reading
/// direction: each such character becomes U+FFFD, so that what was hidden shows as a gap. Cut, with an ellipsis, at
/// 256 characters.
pub fn clean(text: &str) -> String {
    clean_to(text, MAX_CHARS)
}

/// As [`clean`], cut at `max` characters; the ellipsis is one of them.
pub fn clean_to(text: &str, max: usize) -> String {
    let shown = |c: char| if is_unsafe(c) { char::REPLACEMENT_CHARACTER } else { c };
    if text.chars().nth(max).is_none() {
        return text.chars().map(shown).collect();
    }
    let ellipsis = iter::once('…').take(max);
    text.chars().take(max.saturating_sub(1)).map(shown).chain(ellipsis).collect()
}

/// Control characters, and those invisible ones that reorder, hide or separate what stands around them.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{00AD}'                      // soft hyphen
            | '\u{061C}'                    // Arabic letter mark
            | '\u{180E}'                    // Mongolian vowel separator
            | '\u{200B}'..='\u{200F}'       // zero-width characters, directional marks
            | '\u{2028}'..='\u{202E}'       // line and paragraph separators, directional embeddings and overrides
            | '\u{2060}'..='\u{206F}'       // word joiner, invisible operators, directional isolates
            | '\u{FEFF}'                    // byte order mark
            | '\u{FFF9}'..='\u{FFFB}'       // interlinear annotation
            | '\u{E0000}'..='\u{E007F}'     // tags
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_text_is_untouched() {
        for text in ["", "play.example.com", "Grüße, 世界 🙂", "a \"quoted\" \\ §c&c"] {
            assert_eq!(clean(text), text);
        }
    }

    #[test]
    fn control_and_bidirectional_characters_become_gaps() {
        assert_eq!(clean("a\nb\r\0\u{1b}[31m\u{7f}\u{85}"), "a�b���[31m��");
        for c in [
            '\u{061C}',
            '\u{200B}',
            '\u{200E}',
            '\u{200F}',
            '\u{2028}',
            '\u{2029}',
            '\u{202A}',
            '\u{202E}',
            '\u{2066}',
            '\u{2069}',
            '\u{FEFF}',
            '\u{E0041}',
        ] {
            assert_eq!(clean(&format!("a{c}b")), "a�b", "{:04X}", u32::from(c));
        }
    }

    #[test]
    fn long_text_is_cut_by_characters() {
        assert_eq!(clean(&"ä".repeat(256)), "ä".repeat(256));
        assert_eq!(clean(&"ä".repeat(257)), "ä".repeat(255) + "…");
        assert_eq!(clean_to("abcdef", 3), "ab…");
        assert_eq!(clean_to("abc", 3), "abc");
        assert_eq!(clean_to("abc", 0), "");
        assert_eq!(clean_to("", 0), "");
    }
}

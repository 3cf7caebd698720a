//! What other people typed, made harmless to show: one line, no control or direction tricks, no towers of accents, cut
//! between what a reader sees as letters.

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;
use unicode_segmentation::UnicodeSegmentation;

/// Longest line of chat, in graphemes: what a reader counts as characters.
pub const CHAT_GRAPHEMES_MAX: usize = 280;
/// Longest line of chat, in bytes of UTF-8. Family emoji take 25 bytes each, so this ends a line only where somebody tries hard.
pub const CHAT_BYTES_MAX: usize = 2_048;
/// Longest name of a player or room, in graphemes.
pub const NAME_GRAPHEMES_MAX: usize = 24;
/// Longest name of a player or room, in bytes of UTF-8: what a [`Profile`](peerflock_proto::Profile) holds.
pub const NAME_BYTES_MAX: usize = peerflock_proto::Profile::NAME_BYTES_MAX;
/// Accents on one letter. Living languages stay below; "zalgo" text does not.
const MARKS_MAX: usize = 4;
/// Text longer than this is not looked at further: cleaning costs time, and its sender would choose how much.
const RAW_BYTES_MAX: usize = 16 * 1024;

/// A line of chat as it may be shown: at most [`CHAT_GRAPHEMES_MAX`], empty if nothing visible is left.
pub fn clean_line(raw: &str) -> String {
    cut(&visible(raw), CHAT_GRAPHEMES_MAX, CHAT_BYTES_MAX)
}

/// A player's or room's name as it may be shown: at most [`NAME_GRAPHEMES_MAX`], composed (NFC) so that one text has one
/// spelling, empty if nothing visible is left.
pub fn clean_name(raw: &str) -> String {
    let visible: String = visible(raw).nfc().collect();
    cut(&visible, NAME_GRAPHEMES_MAX, NAME_BYTES_MAX)
}

/// Whether `character` may be typed into one of our fields: anything but what [`clean_line`] strips.
pub fn may_be_typed(character: char) -> bool {
    !is_stripped(character) && !character.is_control()
}

/// One line without what cannot be seen: runs of white space become one space, and none is left at the ends.
fn visible(raw: &str) -> String {
    let raw = head(raw, RAW_BYTES_MAX);
    let mut line = String::with_capacity(raw.len());
    let mut marks = 0;
    for character in raw.chars() {
        if character.is_whitespace() {
            if !line.is_empty() && !line.ends_with(' ') {
                line.push(' ');
            }
            marks = 0;
        } else if character.is_control() || is_stripped(character) {
            // Gone, and it does not end a run of marks either.
        } else if is_combining_mark(character) {
            marks += 1;
            // A mark with no letter to stand on would climb onto whatever is shown before it.
            if marks <= MARKS_MAX && !line.is_empty() && !line.ends_with(' ') {
                line.push(character);
            }
        } else {
            marks = 0;
            line.push(character);
        }
    }
    // Joiners and variation selectors shape the letters around them; alone they show nothing.
    let line = line.trim_matches(|character: char| character == ' ' || is_joiner(character));
    if line.chars().all(|character| character == ' ' || is_joiner(character)) { String::new() } else { line.to_owned() }
}

/// Characters that turn text around, hide in it, or show nothing at all.
fn is_stripped(character: char) -> bool {
    matches!(character,
        '\u{00AD}'                                 // soft hyphen
        | '\u{034F}'                               // combining grapheme joiner
        | '\u{061C}' | '\u{200E}' | '\u{200F}'     // direction marks
        | '\u{202A}'..='\u{202E}'                  // direction embeddings and overrides
        | '\u{2066}'..='\u{2069}'                  // direction isolates
        | '\u{206A}'..='\u{206F}'                  // deprecated format controls
        | '\u{200B}' | '\u{2060}'..='\u{2064}' | '\u{FEFF}'            // zero width
        | '\u{115F}' | '\u{1160}' | '\u{3164}' | '\u{FFA0}' | '\u{2800}' // blank letters
        | '\u{17B4}' | '\u{17B5}' | '\u{180E}'
        | '\u{FFF9}'..='\u{FFFB}' | '\u{FFFC}'     // annotation, object
        | '\u{1D173}'..='\u{1D17A}'                // musical format controls
        | '\u{E0000}'..='\u{E0FFF}'                // tags and further variation selectors
        | '\u{E000}'..='\u{F8FF}' | '\u{F0000}'..='\u{10FFFF}'         // private use, noncharacters
    )
}

/// What joins letters or picks their variant: kept, for emoji and for Persian, but nothing by itself.
fn is_joiner(character: char) -> bool {
    matches!(character, '\u{200C}' | '\u{200D}' | '\u{FE00}'..='\u{FE0F}')
}

/// At most `graphemes_max` graphemes and `bytes_max` bytes of `text`, cut between graphemes.
fn cut(text: &str, graphemes_max: usize, bytes_max: usize) -> String {
    let end = text
        .grapheme_indices(true)
        .take(graphemes_max)
        .map(|(start, grapheme)| start + grapheme.len())
        .take_while(|end| *end <= bytes_max)
        .last()
        .unwrap_or(0);
    text[..end].trim_end().to_owned()
}

/// The first bytes of `text`, at most `bytes_max`, cut between characters.
fn head(text: &str, bytes_max: usize) -> Cow<'_, str> {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    Cow::Borrowed(&text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_stays_as_it_is() {
        for text in ["Hello, flock!", "Žluťoučký kůň", "नमस्ते दुनिया", "สวัสดีชาวโลก", "שלום", "👩‍👩‍👧‍👦 and 🏳️‍🌈", "می‌خواهم"]
        {
            assert_eq!(clean_line(text), text);
        }
    }

    #[test]
    fn a_line_is_one_line() {
        assert_eq!(clean_line("  one\n\ttwo\r\n\u{2028}three\u{a0} "), "one two three");
    }

    #[test]
    fn controls_and_direction_tricks_are_gone() {
        assert_eq!(clean_line("\u{202E}evil\u{2066}\u{200F}\u{1b}[31m\u{7}\u{feff}!\u{85}x"), "evil[31m! x");
        assert_eq!(clean_line("a\u{200B}\u{2060}b\u{E0041}c\u{F8FF}d"), "abcd");
    }

    #[test]
    fn what_shows_nothing_is_empty() {
        for text in ["", " \n ", "\u{200D}\u{FE0F}", "\u{3164}\u{2800}", "\u{301}\u{301}", "\u{202E}", "\u{200C} \u{200D}"] {
            assert_eq!(clean_line(text), "", "{text:?}");
            assert_eq!(clean_name(text), "", "{text:?}");
        }
    }

    #[test]
    fn towers_of_accents_are_cut_down() {
        let tower = format!("a{}b", "\u{335}".repeat(1_000));
        assert_eq!(clean_line(&tower), format!("a{}b", "\u{335}".repeat(MARKS_MAX)));
        // Hiding something between the marks does not restart the count.
        let hidden = format!("a{}", "\u{335}\u{200B}".repeat(50));
        assert_eq!(clean_line(&hidden).chars().count(), 1 + MARKS_MAX);
    }

    #[test]
    fn long_text_is_cut_between_letters() {
        let line = clean_line(&"é\u{301}".repeat(1_000));
        assert_eq!(line.graphemes(true).count(), CHAT_GRAPHEMES_MAX);
        let family = "👩‍👩‍👧‍👦";
        let families = clean_line(&family.repeat(500));
        assert!(families.len() <= CHAT_BYTES_MAX && families.len().is_multiple_of(family.len()), "{}", families.len());
        assert!(clean_line(&"x".repeat(1 << 20)).len() <= CHAT_BYTES_MAX);
        assert_eq!(clean_name(&"x".repeat(100)).len(), NAME_GRAPHEMES_MAX);
        assert!(clean_name(&family.repeat(24)).len() <= NAME_BYTES_MAX);
    }

    #[test]
    fn names_have_one_spelling() {
        assert_eq!(clean_name("Zoe\u{308}"), "Zoë");
    }

    proptest::proptest! {
        #[test]
        fn cleaning_is_harmless_and_done_once(text in "\\PC{0,60}|[\\x00-\\u{10FFFF}]{0,60}") {
            let line = clean_line(&text);
            proptest::prop_assert!(line.len() <= CHAT_BYTES_MAX);
            proptest::prop_assert!(!line.chars().any(|c| c.is_control() || is_stripped(c)));
            proptest::prop_assert_eq!(clean_line(&line), line);
        }
    }
}

//! Names of users and tools, fit to be shown: a file may hold anything.

/// `name` without what would break out of its line, act on a terminal or reorder what stands around it; such characters
/// are escaped (`\n`, `\u{1b}`).
///
/// In a log of CI, a line of its own could be a command to the machine that runs it.
pub(crate) fn printable(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for c in name.chars() {
        if disturbs(c) {
            text.extend(c.escape_default());
        } else {
            text.push(c);
        }
    }
    text
}

/// Whether `c` is a control character, a line separator, or a mark that makes a line read as something else than it says.
pub(crate) fn disturbs(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_people_are_left_alone_and_the_rest_is_escaped() {
        for name in ["o'brien \"q\" 100%", "😀 שלום", "a\u{200d}b", r"a\nb"] {
            assert_eq!(printable(name), name);
        }
        assert_eq!(
            printable("a\n::error::\u{1b}[31m\u{202e}\0"),
            r"a\n::error::\u{1b}[31m\u{202e}\u{0}"
        );
    }
}

//! Foreign text made fit for a terminal and a log.

use std::time::Duration;

use ureq::http::StatusCode;

/// The longest foreign text that fits a line, in characters.
const LINE: usize = 200;

/// `text` on one line, shortened; what a terminal would act on is escaped (`\u{1b}`).
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::new();
    for c in text.chars().take(LINE + 1) {
        if c.is_whitespace() { line.push(' ') } else { push_harmless(&mut line, c) }
    }
    if line.chars().count() > LINE {
        line = line.chars().take(LINE - 1).collect();
        line.push('…');
    }
    line
}

/// The first `limit` bytes of `body` as lines; what a terminal would act on is escaped (`\u{1b}`).
pub(crate) fn excerpt(body: &[u8], limit: usize) -> String {
    let cut = &body[..body.len().min(limit)];
    let mut text = String::with_capacity(cut.len());
    for c in String::from_utf8_lossy(cut).replace("\r\n", "\n").chars() {
        if matches!(c, '\n' | '\t') { text.push(c) } else { push_harmless(&mut text, c) }
    }
    if body.len() > limit {
        text.push('…');
    }
    text
}

fn push_harmless(text: &mut String, c: char) {
    // Marks that reorder text could make a line read as something else.
    let reorders =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let breaks = matches!(c, '\u{2028}' | '\u{2029}');
    // XML has no way to write these at all.
    let outside_xml = matches!(c, '\u{fffe}' | '\u{ffff}');
    if c.is_control() || reorders || breaks || outside_xml {
        text.extend(c.escape_unicode());
    } else {
        text.push(c);
    }
}

/// `200 OK`.
pub(crate) fn status_line(status: u16) -> String {
    let known = StatusCode::from_u16(status).ok().and_then(|code| code.canonical_reason());
    match known {
        Some(reason) => format!("{status} {reason}"),
        None => status.to_string(),
    }
}

/// `12 ms`, or `1.2 s` from a second on.
pub(crate) fn duration(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    match milliseconds {
        0..1000 => format!("{milliseconds} ms"),
        _ if milliseconds.is_multiple_of(1000) => format!("{} s", milliseconds / 1000),
        _ => format!("{:.1} s", duration.as_secs_f64()),
    }
}

/// `512 bytes`, `1.5 KiB`, `2.0 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    // Nobody reads a size beyond the precision of a double.
    #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
    let amount = bytes as f64;
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..1_048_576 => format!("{:.1} KiB", amount / 1024.0),
        _ => format!("{:.1} MiB", amount / 1_048_576.0),
    }
}

/// `1 asset`, `2 assets`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn terminal_commands_and_reordering_marks_are_escaped() {
        assert_eq!(one_line("a\u{1b}[31mb\r\nc\u{202e}d"), r"a\u{1b}[31mb  c\u{202e}d");
        assert_eq!(excerpt(b"a\x1b]0;x\x07\r\nb", 100), "a\\u{1b}]0;x\\u{7}\nb");
    }

    #[test]
    fn long_text_is_cut_and_says_so() {
        assert_eq!(one_line(&"x".repeat(500)).chars().count(), LINE);
        assert_eq!(excerpt(b"abcdef", 3), "abc…");
        assert_eq!(excerpt(b"abc", 3), "abc");
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(status_line(503), "503 Service Unavailable");
        assert_eq!(status_line(799), "799");
        assert_eq!(duration(Duration::from_micros(12_900)), "12 ms");
        assert_eq!(duration(Duration::from_millis(1250)), "1.2 s");
        assert_eq!(duration(Duration::from_secs(30)), "30 s");
        assert_eq!(size(1023), "1023 bytes");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(4 << 20), "4.0 MiB");
    }

    proptest! {
        #[test]
        fn no_body_makes_a_line_start_or_a_terminal_act(body in proptest::collection::vec(any::<u8>(), 0..4096)) {
            let text = excerpt(&body, 2048);
            prop_assert!(text.chars().all(|c| matches!(c, '\n' | '\t') || !c.is_control()));
            let line = one_line(&String::from_utf8_lossy(&body));
            prop_assert!(line.chars().all(|c| !c.is_control()));
        }
    }
}

//! What of a SQLite table is nowhere but in the text that made it: check constraints and some clauses of columns.

/// What is between the parentheses of each `CHECK` in a `CREATE TABLE` statement, sorted. White space and comments
/// count as one space.
pub(super) fn check_constraints(create_table: &str) -> Vec<String> {
    let tokens = tokens(create_table);
    let mut checks = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        if !token.eq_ignore_ascii_case("check") || tokens.get(at + 1) != Some(&"(") {
            continue;
        }
        let mut depth = 0;
        let end = tokens[at + 1..].iter().position(|token| {
            depth += match *token {
                "(" => 1,
                ")" => -1,
                _ => 0,
            };
            depth == 0
        });
        if let Some(end) = end {
            checks.push(joined(&tokens[at + 2..at + 1 + end]));
        }
    }
    checks.sort();
    checks
}

/// What changes how a column compares, what a key does about a conflict and when a foreign key is checked, each with the
/// column (or the first word of the table's constraint) where it stands, such as `username COLLATE NOCASE`.
pub(super) fn clauses(create_table: &str) -> Vec<String> {
    let tokens = tokens(create_table);
    let (mut depth, mut place) = (0, "");
    let mut clauses = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let next = tokens.get(at + 1).copied().unwrap_or_default();
        match *token {
            "(" => {
                depth += 1;
                if depth == 1 {
                    place = next;
                }
            }
            ")" => depth -= 1,
            "," if depth == 1 => place = next,
            _ => {}
        }
        let word = token.to_ascii_uppercase();
        if matches!(&*word, "COLLATE" | "CONFLICT" | "DEFERRABLE" | "INITIALLY") {
            let value = if word == "DEFERRABLE" { "" } else { next };
            let clause = format!("{place} {word} {}", value.to_ascii_uppercase());
            clauses.push(clause.trim_end().to_owned());
        }
    }
    clauses.sort();
    clauses
}

/// The tokens with a space between each two that people would put one between.
fn joined(tokens: &[&str]) -> String {
    let mut text = String::new();
    for token in tokens {
        if !text.is_empty() && !text.ends_with('(') && !matches!(*token, ")" | ",") {
            text.push(' ');
        }
        text.push_str(token);
    }
    text
}

/// Words, quoted texts and single signs, without comments and white space.
fn tokens(sql: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = sql.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if let Some(comment) = rest.strip_prefix("--") {
            rest = comment.split_once('\n').map_or("", |(_, after)| after).trim_start();
            continue;
        } else if let Some(comment) = rest.strip_prefix("/*") {
            rest = comment.split_once("*/").map_or("", |(_, after)| after).trim_start();
            continue;
        } else if let Some(end) = closing_quote(first) {
            // A doubled quote is read as the start of another text, which leads to the same end.
            rest[1..].find(end).map_or(rest.len(), |at| at + 2)
        } else if is_of_word(first) {
            rest.find(|c| !is_of_word(c)).unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        let (token, after) = rest.split_at(length);
        tokens.push(token);
        rest = after.trim_start();
    }
    tokens
}

const fn closing_quote(opening: char) -> Option<char> {
    match opening {
        '\'' | '"' | '`' => Some(opening),
        '[' => Some(']'),
        _ => None,
    }
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn checks_are_found_wherever_they_stand() {
        let sql = "CREATE TABLE \"check\" (
            a TEXT check(a <> ')' AND length( a ) > 1), -- CHECK (never)
            [check (b)] INT /* CHECK (nor this) */, `c``d` TEXT,
            CONSTRAINT two CHECK  (a IN ('it''s (', 'CHECK (x)'))
        )";
        assert_eq!(
            check_constraints(sql),
            ["a < > ')' AND length (a) > 1", "a IN ('it' 's (', 'CHECK (x)')"]
        );
    }

    #[test]
    fn clauses_are_told_with_their_column() {
        let sql = "CREATE TABLE t (
            a TEXT collate nocase UNIQUE ON CONFLICT replace, -- b COLLATE RTRIM
            b BIGINT CHECK (b > 1) REFERENCES t (a) DEFERRABLE INITIALLY DEFERRED
        )";
        assert_eq!(
            clauses(sql),
            ["a COLLATE NOCASE", "a CONFLICT REPLACE", "b DEFERRABLE", "b INITIALLY DEFERRED"]
        );
    }

    #[test]
    fn what_is_not_closed_ends_with_the_text() {
        for sql in ["CHECK (", "CHECK ('", "CHECK", "/*", "--", "[", "CHECK (a"] {
            assert_eq!(check_constraints(sql), Vec::<String>::new());
        }
    }

    proptest! {
        #[test]
        fn any_text_can_be_read(sql in ".*") {
            check_constraints(&sql);
            clauses(&sql);
        }

        #[test]
        fn layout_is_no_difference(space in "[ \n\t]{1,3}|/\\*.?\\*/|--.?\n") {
            let sql = format!("CREATE TABLE t (a INT{space}CHECK{space}(a{space}>{space}1){space})");
            prop_assert_eq!(check_constraints(&sql), ["a > 1"]);
        }
    }
}

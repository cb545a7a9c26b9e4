//! `data/access_tests.toml`: what must be so about effective access.
//!
//! ```toml
//! [[assert]]
//! users = ["user_a"]            # or "admins", "active", "everyone"
//! tool = "Invoice Generator"
//! has = false
//! because = "left the billing team"
//! ```

use std::{collections::BTreeMap, ops::Range};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// What must be so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Assertion {
    /// Where it stands in the file.
    pub(crate) line: usize,
    pub(crate) users: Users,
    pub(crate) tool: String,
    /// Whether all of them may use it, or none of them.
    pub(crate) has: bool,
    pub(crate) because: String,
}

/// Whom an assertion is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Users {
    Named(Vec<String>),
    Group(Group),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    /// Active users with admin rights.
    Admins,
    /// Active users.
    Active,
    /// All users, also inactive ones, who may use nothing.
    Everyone,
}

/// Something that is wrong with the file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Problem {
    pub(crate) line: usize,
    pub(crate) what: String,
}

const KEYS: [&str; 4] = ["users", "tool", "has", "because"];

/// Reads the file's text.
///
/// # Errors
///
/// Returns everything that is wrong with it, by line.
pub(crate) fn parse(text: &str) -> Result<Vec<Assertion>, Vec<Problem>> {
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader { text, problems: Vec::new() };
    for error in errors {
        let at = error.span().unwrap_or_default();
        reader.problem(&at, error.message());
    }
    // What follows a syntax error was only guessed, and would be complained about for no reason.
    let assertions =
        if reader.problems.is_empty() { reader.document(document.get_ref()) } else { Vec::new() };
    if reader.problems.is_empty() {
        return Ok(assertions);
    }
    reader.problems.sort();
    Err(reader.problems)
}

/// Collects what is wrong while it reads.
struct Reader<'a> {
    text: &'a str,
    problems: Vec<Problem>,
}

type Fields<'a> = BTreeMap<&'a str, &'a Spanned<DeValue<'a>>>;

impl Reader<'_> {
    fn line(&self, at: &Range<usize>) -> usize {
        let before = self.text.as_bytes().iter().take(at.start);
        before.filter(|byte| **byte == b'\n').count() + 1
    }

    fn problem(&mut self, at: &Range<usize>, what: impl Into<String>) {
        let line = self.line(at);
        self.problems.push(Problem { line, what: what.into() });
    }

    fn document(&mut self, document: &DeTable) -> Vec<Assertion> {
        for key in document.keys().filter(|key| key.get_ref() != "assert") {
            self.problem(
                &key.span(),
                format!("unknown key `{}`, expected [[assert]]", key.get_ref()),
            );
        }
        let Some(value) = document.get("assert") else {
            self.problem(&(0..0), "there is no [[assert]]");
            return Vec::new();
        };
        if matches!(value.get_ref(), DeValue::Array(tables) if tables.is_empty()) {
            self.problem(&value.span(), "there is no [[assert]]");
        }
        let DeValue::Array(tables) = value.get_ref() else {
            self.problem(&value.span(), "`assert` must be written as [[assert]]");
            return Vec::new();
        };
        tables.iter().filter_map(|table| self.assertion(table)).collect()
    }

    fn assertion(&mut self, table: &Spanned<DeValue>) -> Option<Assertion> {
        let at = table.span();
        let DeValue::Table(fields) = table.get_ref() else {
            self.problem(&at, "an assertion must be written as [[assert]]");
            return None;
        };
        for key in fields.keys().filter(|key| !KEYS.contains(&key.get_ref().as_ref())) {
            let known = KEYS.join(", ");
            let what = format!("unknown key `{}`, expected one of {known}", key.get_ref());
            self.problem(&key.span(), what);
        }
        let fields: Fields =
            fields.iter().map(|(key, value)| (key.get_ref().as_ref(), value)).collect();
        let users = self.field(&fields, &at, "users").and_then(|value| self.users(value));
        let tool = self.field(&fields, &at, "tool").and_then(|value| self.text(value, "tool"));
        let because =
            self.field(&fields, &at, "because").and_then(|value| self.text(value, "because"));
        let has = self.field(&fields, &at, "has").and_then(|value| self.switch(value));
        Some(Assertion {
            line: self.line(&at),
            users: users?,
            tool: tool?,
            has: has?,
            because: because?,
        })
    }

    fn field<'a>(
        &mut self,
        fields: &Fields<'a>,
        at: &Range<usize>,
        key: &str,
    ) -> Option<&'a Spanned<DeValue<'a>>> {
        let value = fields.get(key).copied();
        if value.is_none() {
            self.problem(at, format!("this assertion has no `{key}`"));
        }
        value
    }

    fn users(&mut self, value: &Spanned<DeValue>) -> Option<Users> {
        const EXPECTED: &str =
            "`users` must be a list of user names, or \"admins\", \"active\" or \"everyone\"";
        match value.get_ref() {
            DeValue::String(group) => match group.as_ref() {
                "admins" => Some(Users::Group(Group::Admins)),
                "active" => Some(Users::Group(Group::Active)),
                "everyone" => Some(Users::Group(Group::Everyone)),
                _ => {
                    self.problem(&value.span(), EXPECTED);
                    None
                }
            },
            DeValue::Array(names) if !names.is_empty() => {
                let names: Vec<Option<String>> =
                    names.iter().map(|name| self.text(name, "users")).collect();
                names.into_iter().collect::<Option<_>>().map(Users::Named)
            }
            _ => {
                self.problem(&value.span(), EXPECTED);
                None
            }
        }
    }

    fn text(&mut self, value: &Spanned<DeValue>, key: &str) -> Option<String> {
        match value.get_ref() {
            DeValue::String(text) if text.contains('\0') => {
                self.problem(
                    &value.span(),
                    format!("`{key}` must not have a NUL in it: no name has"),
                );
                None
            }
            DeValue::String(text) if !text.trim().is_empty() => Some(text.to_string()),
            _ => {
                self.problem(&value.span(), format!("`{key}` must be text that is not empty"));
                None
            }
        }
    }

    fn switch(&mut self, value: &Spanned<DeValue>) -> Option<bool> {
        match value.get_ref() {
            DeValue::Boolean(has) => Some(*has),
            _ => {
                self.problem(&value.span(), "`has` must be true or false");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> String {
        let problems = parse(text).unwrap_err();
        let lines: Vec<String> =
            problems.iter().map(|Problem { line, what }| format!("{line}: {what}")).collect();
        lines.join("\n")
    }

    #[test]
    fn names_and_groups_are_read_with_their_line() {
        let text = "\n[[assert]]\nusers = [\"a\", \"b\"]\ntool = \"T\"\nhas = false\nbecause = \"x\"\n\
                    \n[[assert]]\nusers = \"active\"\ntool = \"T\"\nhas = true\nbecause = \"y\"\n";
        let read = parse(text).unwrap();
        assert_eq!(read[0].users, Users::Named(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!((read[0].line, read[0].has), (2, false));
        assert_eq!(read[1].users, Users::Group(Group::Active));
        assert_eq!((read[1].line, read[1].has), (8, true));
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let text = "title = \"x\"\n\n[[assert]]\nusers = [\"a\", \"\"]\ntool = 7\nhas = \"no\"\nwhy = \"\"\n\
                    \n[[assert]]\nusers = \"admin\"\ntool = \"T\"\nhas = true\nbecause = \"y\"\n\
                    \n[[assert]]\nusers = []\n";
        insta::assert_snapshot!(problems(text), @r#"
        1: unknown key `title`, expected [[assert]]
        3: this assertion has no `because`
        4: `users` must be text that is not empty
        5: `tool` must be text that is not empty
        6: `has` must be true or false
        7: unknown key `why`, expected one of users, tool, has, because
        10: `users` must be a list of user names, or "admins", "active" or "everyone"
        15: this assertion has no `because`
        15: this assertion has no `has`
        15: this assertion has no `tool`
        16: `users` must be a list of user names, or "admins", "active" or "everyone"
        "#);
    }

    #[test]
    fn all_syntax_errors_are_named() {
        insta::assert_snapshot!(problems("[[assert]]\nusers = \ntool = T\n"), @r"
        2: string values must be quoted, expected literal string
        3: invalid boolean, expected `true`
        ");
    }

    #[test]
    fn a_file_that_asserts_nothing_proves_nothing() {
        insta::assert_snapshot!(
            problems("[[assert]]\nusers = [\"a\\u0000\"]\ntool = \"T\"\nhas = true\nbecause = \"b\"\n"),
            @"2: `users` must not have a NUL in it: no name has"
        );
        insta::assert_snapshot!(problems("# later\n"), @"1: there is no [[assert]]");
        insta::assert_snapshot!(problems("assert = true"), @"1: `assert` must be written as [[assert]]");
        insta::assert_snapshot!(problems("assert = []"), @"1: there is no [[assert]]");
    }

    #[test]
    fn the_shipped_file_is_well_formed() {
        assert!(parse(include_str!("../../../data/access_tests.toml")).unwrap().len() >= 2);
    }
}

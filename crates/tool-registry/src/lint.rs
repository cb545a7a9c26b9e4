//! What a well-formed file can still get wrong.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    fmt,
    path::{Path, PathBuf},
};

use crate::definition::{File, RawDeprecation};

/// The app's own pages, which a tool at their route would never be reached behind; also everything below them.
pub const RESERVED_ROUTES: [&str; 10] = [
    "/",
    "/login",
    "/logout",
    "/dashboard",
    "/account",
    "/admin",
    "/health",
    "/ready",
    "/metrics",
    "/static",
];

/// Everything that is wrong with a file, by line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    file: PathBuf,
    problems: Vec<Problem>,
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub kind: ProblemKind,
}

/// What can be wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[non_exhaustive]
pub enum ProblemKind {
    /// A tool or a deprecated tool without a name.
    #[error("the name is empty")]
    EmptyName,
    /// A name that looks like another one.
    #[error("the name {name:?} begins or ends with white space")]
    UntrimmedName {
        /// The name.
        name: String,
    },
    /// A name with a character that cannot be seen, or that steers a terminal or the direction of text.
    #[error("the name {name:?} has a character that cannot be seen")]
    HiddenCharacter {
        /// The name.
        name: String,
    },
    /// Two tools of one name.
    #[error("the name `{name}` is already taken in line {first}")]
    DuplicateName {
        /// The name.
        name: String,
        /// Where it was first given.
        first: usize,
    },
    /// A route that is no path under the app's address.
    #[error("the route `{route}` must start with one `/`")]
    Route {
        /// The route.
        route: String,
    },
    /// A route that a browser would change, cut or take for another address.
    #[error(
        "the route {route:?} may only have letters, digits, `/`, `-`, `_`, `~` and `.`, and no part `.` or `..`"
    )]
    RouteText {
        /// The route.
        route: String,
    },
    /// A route of the app itself.
    #[error("the route `{route}` is the app's own")]
    ReservedRoute {
        /// The route.
        route: String,
    },
    /// Two tools at one route.
    #[error("the route `{route}` is already taken in line {first}")]
    DuplicateRoute {
        /// The route.
        route: String,
        /// Where it was first given.
        first: usize,
    },
    /// A tool is both defined and deprecated.
    #[error("`{name}` is deprecated here but still defined in line {defined}")]
    StillDefined {
        /// The tool.
        name: String,
        /// Where it is defined.
        defined: usize,
    },
    /// A rename leads nowhere.
    #[error("`{name}` is renamed to `{target}`, which is neither defined nor deprecated")]
    UnknownTarget {
        /// The old name.
        name: String,
        /// What the file says is the new one.
        target: String,
    },
    /// Renames lead back to where they began.
    #[error("these renames go in a circle: {}", .names.iter().chain(.names.first()).map(String::as_str).collect::<Vec<_>>().join(" -> "))]
    Cycle {
        /// The names in the circle, each once.
        names: Vec<String>,
    },
    /// `true` instead of a new name or `false`.
    #[error("`{name}` must be a new name, or false for a deleted tool")]
    MeaninglessTrue {
        /// The old name.
        name: String,
    },
}

impl Problems {
    /// All problems, by line.
    #[must_use]
    pub fn as_slice(&self) -> &[Problem] {
        &self.problems
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Problem { line, kind }) in self.problems.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{}:{line}: {kind}", self.file.display())?;
        }
        Ok(())
    }
}

impl Error for Problems {}

/// Finds everything that is wrong with `file`, which was parsed from `text` and is called `name`.
pub(crate) fn lint(file: &File, text: &str, name: &Path) -> Problems {
    let mut linter = Linter { text, problems: Vec::new() };
    let defined = linter.tools(file);
    linter.deprecations(file, &defined);
    linter.cycles(file);
    let mut problems = linter.problems;
    problems.sort();
    Problems { file: name.to_owned(), problems }
}

/// Whether `c` is a control character, or one without a shape of its own that makes two names look alike or turns the text
/// around it. The joiner of emoji is none of these.
#[must_use]
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0001}')
}

/// Whether browsers leave the path as it is, and the app sees what the file says.
fn is_plain_path(route: &str) -> bool {
    route.chars().all(|c| c.is_ascii_alphanumeric() || "/-_.~".contains(c))
        && !route.split('/').any(|part| matches!(part, "." | ".."))
}

fn is_reserved(route: &str) -> bool {
    let first = |route: &str| route.split('/').nth(1).map(str::to_owned);
    RESERVED_ROUTES.iter().any(|reserved| first(reserved) == first(route))
}

struct Linter<'a> {
    text: &'a str,
    problems: Vec<Problem>,
}

impl Linter<'_> {
    fn line(&self, offset: usize) -> usize {
        let before = self.text.as_bytes().iter().take(offset);
        1 + before.filter(|byte| **byte == b'\n').count()
    }

    fn report(&mut self, line: usize, kind: ProblemKind) {
        self.problems.push(Problem { line, kind });
    }

    fn name(&mut self, line: usize, name: &str) {
        if name.trim().is_empty() {
            self.report(line, ProblemKind::EmptyName);
        } else if name.trim() != name {
            self.report(line, ProblemKind::UntrimmedName { name: name.to_owned() });
        } else if name.chars().any(is_hidden) {
            self.report(line, ProblemKind::HiddenCharacter { name: name.to_owned() });
        }
    }

    /// Checks the tools; returns the line of each name.
    fn tools<'f>(&mut self, file: &'f File) -> BTreeMap<&'f str, usize> {
        let mut names = BTreeMap::new();
        let mut routes = BTreeMap::new();
        for tool in &file.tool {
            let line = self.line(tool.name.span().start);
            let name = tool.name.get_ref().as_str();
            self.name(line, name);
            if let Some(first) = names.get(name) {
                let kind = ProblemKind::DuplicateName { name: name.to_owned(), first: *first };
                self.report(line, kind);
            } else {
                names.insert(name, line);
            }

            let line = self.line(tool.route.span().start);
            let route = tool.route.get_ref().as_str();
            // Two slashes begin the address of another host.
            if !route.starts_with('/') || route.starts_with("//") {
                self.report(line, ProblemKind::Route { route: route.to_owned() });
            } else if !is_plain_path(route) {
                self.report(line, ProblemKind::RouteText { route: route.to_owned() });
            } else if is_reserved(route) {
                self.report(line, ProblemKind::ReservedRoute { route: route.to_owned() });
            }
            if let Some(first) = routes.get(route) {
                let kind = ProblemKind::DuplicateRoute { route: route.to_owned(), first: *first };
                self.report(line, kind);
            } else {
                routes.insert(route, line);
            }
        }
        names
    }

    fn deprecations(&mut self, file: &File, defined: &BTreeMap<&str, usize>) {
        for (old, new) in &file.deprecated {
            let line = self.line(old.span().start);
            let name = old.get_ref();
            self.name(line, name);
            if let Some(defined) = defined.get(name.as_str()) {
                let kind = ProblemKind::StillDefined { name: name.clone(), defined: *defined };
                self.report(line, kind);
            }
            match new.get_ref() {
                RawDeprecation::Target(target) => {
                    let known = defined.contains_key(target.as_str())
                        || file.deprecated.contains_key(target.as_str());
                    if !known {
                        let (name, target) = (name.clone(), target.clone());
                        self.report(line, ProblemKind::UnknownTarget { name, target });
                    }
                }
                RawDeprecation::Switch(true) => {
                    self.report(line, ProblemKind::MeaninglessTrue { name: name.clone() });
                }
                RawDeprecation::Switch(false) => {}
            }
        }
    }

    /// Reports each circle once; names that only lead into one are settled with it.
    fn cycles(&mut self, file: &File) {
        let mut settled: BTreeSet<&str> = BTreeSet::new();
        for start in file.deprecated.keys() {
            let mut path: Vec<&str> = Vec::new();
            let mut next = Some(start.get_ref().as_str());
            while let Some(name) = next {
                if settled.contains(name) {
                    break;
                }
                if let Some(begin) = path.iter().position(|seen| *seen == name) {
                    let names: Vec<String> =
                        path.iter().skip(begin).map(|n| (*n).to_owned()).collect();
                    let line = file
                        .deprecated
                        .get_key_value(name)
                        .map_or(1, |(key, _)| self.line(key.span().start));
                    self.report(line, ProblemKind::Cycle { names });
                    break;
                }
                path.push(name);
                next = file.deprecated.get(name).and_then(|new| new.get_ref().target());
            }
            settled.extend(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use crate::Definitions;

    use super::*;

    fn problems(text: &str) -> String {
        let error = Definitions::parse(text, Path::new("tools.toml")).unwrap_err();
        assert_eq!(error.to_string(), "the tool definitions in tools.toml are not consistent");
        error.source().unwrap().to_string()
    }

    #[test]
    fn all_problems_are_reported_at_once_with_their_lines() {
        let text = r#"
[[tool]]
name = "Mail"
description = ""
route = "/mail"
is_default = false
is_active = true

[[tool]]
name = "Mail"
description = ""
route = "/mail"
is_default = false
is_active = true

[[tool]]
name = " "
description = ""
route = "blank"
is_default = false
is_active = true

[[tool]]
name = "Calls "
description = ""
route = "//calls.example"
is_default = false
is_active = true

[deprecated]
"Mail" = false
"Post" = "Letters"
"" = "Mail"
"Fax" = true
"a" = "b"
"b" = "c"
"c" = "b"
"self" = "self"
"#;
        insta::assert_snapshot!(problems(text), @r#"
        tools.toml:10: the name `Mail` is already taken in line 3
        tools.toml:12: the route `/mail` is already taken in line 5
        tools.toml:17: the name is empty
        tools.toml:19: the route `blank` must start with one `/`
        tools.toml:24: the name "Calls " begins or ends with white space
        tools.toml:26: the route `//calls.example` must start with one `/`
        tools.toml:31: `Mail` is deprecated here but still defined in line 3
        tools.toml:32: `Post` is renamed to `Letters`, which is neither defined nor deprecated
        tools.toml:33: the name is empty
        tools.toml:34: `Fax` must be a new name, or false for a deleted tool
        tools.toml:36: these renames go in a circle: b -> c -> b
        tools.toml:38: these renames go in a circle: self -> self
        "#);
    }

    #[test]
    fn names_and_routes_that_mislead_are_refused() {
        // As they stand in the file, with its escapes.
        let text: String = [
            (r"A\u001b[31m", "/a"),
            (r"B\u202eb", "/b"),
            (r"C\u200b", "/c"),
            ("D", r"/\\evil.example"),
            ("E", "/e?x=1"),
            ("F", "/ü"),
            ("G", "/g/../login"),
            ("H", "/login"),
            ("I", "/static/app.css"),
            ("J", "/"),
            (r#"Ünïcode \U0001f469\u200d\U0001f4bb 100 % \"quoted\""#, "/login-help/v1.2"),
        ]
        .map(|(name, route)| {
            format!(
                "[[tool]]\nname = \"{name}\"\nroute = \"{route}\"\n\
                 description = \"\"\nis_default = false\nis_active = true\n"
            )
        })
        .concat();
        insta::assert_snapshot!(problems(&text), @r#"
        tools.toml:2: the name "A\u{1b}[31m" has a character that cannot be seen
        tools.toml:8: the name "B\u{202e}b" has a character that cannot be seen
        tools.toml:14: the name "C\u{200b}" has a character that cannot be seen
        tools.toml:21: the route "/\\evil.example" may only have letters, digits, `/`, `-`, `_`, `~` and `.`, and no part `.` or `..`
        tools.toml:27: the route "/e?x=1" may only have letters, digits, `/`, `-`, `_`, `~` and `.`, and no part `.` or `..`
        tools.toml:33: the route "/ü" may only have letters, digits, `/`, `-`, `_`, `~` and `.`, and no part `.` or `..`
        tools.toml:39: the route "/g/../login" may only have letters, digits, `/`, `-`, `_`, `~` and `.`, and no part `.` or `..`
        tools.toml:45: the route `/login` is the app's own
        tools.toml:51: the route `/static/app.css` is the app's own
        tools.toml:57: the route `/` is the app's own
        "#);
    }

    #[test]
    fn a_rename_to_a_deleted_tool_is_a_deletion_and_no_problem() {
        let text = "tool = []\n[deprecated]\na = \"b\"\nb = false\n";
        assert!(Definitions::parse(text, Path::new("tools.toml")).is_ok());
    }
}

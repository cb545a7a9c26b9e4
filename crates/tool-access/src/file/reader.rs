//! Reads a file in one pass, in memory that depends on how many users and tools there are and not on the file's size.

use std::{fmt, fs::File, io::BufReader, path::Path};

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::{
    FORMAT, FactList, FileHeader, FileLayout, MOST_FACT_BYTES, MOST_NAME_BYTES, MOST_TOOLS,
    VERSION,
    error::{FileProblem, ReadAccessFileError},
    guard::{Fault, Guard},
    header::{self, Seen},
    list::{Text, Texts, check_name},
};
use crate::facts::{Facts, Roster, ToolFacts, UserSet};

/// Something to find in a file, for a message that names its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Needle {
    User(String),
    Tool(String),
    Fact { tool: String, list: FactList, user: String },
}

/// Reads `file`.
pub(crate) fn read(file: &Path) -> Result<(Facts, FileHeader), ReadAccessFileError> {
    read_with(file, Roster::default(), &mut |_| {})
}

/// Reads `file` into facts whose roster begins with `roster`; `see` is shown every byte.
pub(crate) fn read_with(
    file: &Path,
    roster: Roster,
    see: &mut dyn FnMut(&[u8]),
) -> Result<(Facts, FileHeader), ReadAccessFileError> {
    let mut reading = Reading::new(roster, None);
    match reading.run(file, see) {
        Ok(()) => Ok((reading.facts, reading.header)),
        Err(fault) => Err(explain(file, fault)),
    }
}

/// The line on which `needle` is, if it is there and the file is readable up to it.
pub(crate) fn locate(file: &Path, needle: &Needle) -> Option<usize> {
    let mut reading = Reading::new(Roster::default(), Some(needle));
    match reading.run(file, &mut |_| {}) {
        Err(fault) if reading.is_found => Some(fault.line),
        _ => None,
    }
}

/// Adds the line of the first entry where the problem is a second one.
fn explain(file: &Path, Fault { line, column, mut problem }: Fault) -> ReadAccessFileError {
    let line_of =
        |needle: Needle| locate(file, &needle).filter(|first| *first <= line).unwrap_or(0);
    match &mut problem {
        FileProblem::DuplicateTool { tool, first_line } => {
            *first_line = line_of(Needle::Tool(tool.clone()));
        }
        FileProblem::DuplicateUser { user, first_line } => {
            *first_line = line_of(Needle::User(user.clone()));
        }
        FileProblem::DuplicateFact { user, list, tool, first_line } => {
            let (list, tool, user) = (*list, tool.clone(), user.clone());
            *first_line = line_of(Needle::Fact { tool, list, user });
        }
        FileProblem::GrantedAndExcluded { user, tool, first_line } => {
            *first_line = [FactList::Excluded, FactList::Granted]
                .into_iter()
                .filter_map(|list| {
                    let (tool, user) = (tool.clone(), user.clone());
                    locate(file, &Needle::Fact { tool, list, user })
                })
                .min()
                .unwrap_or(0);
        }
        _ => {}
    }
    ReadAccessFileError { file: file.to_owned(), line, column, problem }
}

/// A pass over a file.
pub(crate) struct Reading<'n> {
    facts: Facts,
    header: FileHeader,
    seen: Seen,
    needle: Option<&'n Needle>,
    is_found: bool,
    /// The problem behind the error that serde carries out.
    pub(crate) problem: Option<FileProblem>,
    name_bytes: usize,
    fact_bytes: usize,
    grants: u64,
    stated_total: Option<u64>,
}

impl<'n> Reading<'n> {
    fn new(roster: Roster, needle: Option<&'n Needle>) -> Self {
        Self {
            facts: Facts { roster, ..Facts::default() },
            header: FileHeader::default(),
            seen: Seen::default(),
            needle,
            is_found: false,
            problem: None,
            name_bytes: 0,
            fact_bytes: 0,
            grants: 0,
            stated_total: None,
        }
    }

    fn run(&mut self, file: &Path, see: &mut dyn FnMut(&[u8])) -> Result<(), Fault> {
        let whole = |problem| Fault { line: 0, column: 0, problem };
        let opened = File::open(file).map_err(|error| whole(error.into()))?;
        if opened.metadata().is_ok_and(|metadata| metadata.is_dir()) {
            return Err(whole(std::io::Error::from(std::io::ErrorKind::IsADirectory).into()));
        }
        let mut fault = None;
        let reader = BufReader::with_capacity(1 << 16, Guard::new(opened, see, &mut fault));
        let mut parser = serde_json::Deserializer::from_reader(reader);
        let result = Document(self).deserialize(&mut parser).and_then(|()| parser.end());
        drop(parser);
        let Err(error) = result else { return Ok(()) };
        if let Some(fault) = fault {
            return Err(fault);
        }
        let (line, column) = (error.line(), error.column());
        let problem = self.problem.take().unwrap_or_else(|| syntax(error));
        Err(if line == 0 { whole(problem) } else { Fault { line, column, problem } })
    }

    fn found(&mut self, is_needle: impl Fn(&Needle) -> bool) -> Result<(), FileProblem> {
        match self.needle {
            Some(needle) if is_needle(needle) => {
                self.is_found = true;
                Err(FileProblem::Syntax("found".to_owned()))
            }
            _ => Ok(()),
        }
    }

    fn count_name(&mut self, name: &str) -> Result<(), FileProblem> {
        // What a name takes besides its bytes: two pointers with lengths, an ordinal, and the counters of sharing.
        self.name_bytes += name.len() + 64;
        if self.name_bytes > MOST_NAME_BYTES {
            return Err(FileProblem::TooMany { what: "bytes of names", limit: MOST_NAME_BYTES });
        }
        Ok(())
    }

    fn intern(&mut self, name: &str) -> Result<(u32, bool), FileProblem> {
        check_name(name)?;
        let (ordinal, is_new) = self.facts.roster.insert(name);
        if is_new {
            self.count_name(name)?;
        }
        Ok((ordinal, is_new))
    }

    fn scope_user(&mut self, name: &str) -> Result<(), FileProblem> {
        self.found(|needle| matches!(needle, Needle::User(user) if user == name))?;
        let (ordinal, _) = self.intern(name)?;
        if !self.facts.users.get_or_insert_default().insert(ordinal) && self.needle.is_none() {
            return Err(FileProblem::DuplicateUser { user: name.to_owned(), first_line: 0 });
        }
        Ok(())
    }

    fn begin_tool(&mut self, name: &str) -> Result<(), FileProblem> {
        self.found(|needle| matches!(needle, Needle::Tool(tool) if tool == name))?;
        check_name(name)?;
        if self.facts.tools.contains_key(name) {
            return Err(FileProblem::DuplicateTool { tool: name.to_owned(), first_line: 0 });
        }
        self.count_name(name)?;
        if self.facts.tools.len() == MOST_TOOLS {
            return Err(FileProblem::TooMany { what: "tools", limit: MOST_TOOLS });
        }
        Ok(())
    }

    fn fact(
        &mut self,
        name: &str,
        tool: &str,
        list: FactList,
        facts: &mut ToolFacts,
    ) -> Result<(), FileProblem> {
        self.found(|needle| match needle {
            Needle::Fact { tool: t, list: l, user } => user == name && *l == list && t == tool,
            _ => false,
        })?;
        let ordinal = if self.facts.users.is_some() {
            let known = self.facts.roster.find(name);
            known
                .filter(|user| self.facts.users.as_ref().is_some_and(|users| users.contains(*user)))
                .ok_or_else(|| FileProblem::OutsideScope { user: name.to_owned() })?
        } else {
            self.intern(name)?.0
        };
        let (own, other) = match list {
            FactList::Excluded => (&mut facts.excluded, &facts.granted),
            FactList::Granted => (&mut facts.granted, &facts.excluded),
        };
        if self.needle.is_some() {
            return Ok(());
        }
        if other.as_ref().is_some_and(|set| set.contains(ordinal)) {
            return Err(FileProblem::GrantedAndExcluded {
                user: name.to_owned(),
                tool: tool.to_owned(),
                first_line: 0,
            });
        }
        if !own.get_or_insert_default().insert(ordinal) {
            return Err(FileProblem::DuplicateFact {
                user: name.to_owned(),
                list,
                tool: tool.to_owned(),
                first_line: 0,
            });
        }
        Ok(())
    }

    fn end_tool(&mut self, name: &str, facts: ToolFacts) -> Result<(), FileProblem> {
        let sets = [facts.excluded.as_ref(), facts.granted.as_ref()];
        self.fact_bytes += sets.into_iter().flatten().map(UserSet::bytes).sum::<usize>();
        if self.fact_bytes > MOST_FACT_BYTES {
            return Err(FileProblem::TooMany { what: "bytes of facts", limit: MOST_FACT_BYTES });
        }
        self.facts.tools.insert(name.to_owned(), facts);
        Ok(())
    }

    /// A grant of the flat format; the same one twice is one grant, as that format has no order to check.
    fn flat_grant(
        &mut self,
        FlatGrant { user, by_email, tool }: FlatGrant,
    ) -> Result<(), FileProblem> {
        let missing = |key| FileProblem::MissingKey { key };
        let user = user.ok_or_else(|| missing("username"))?;
        let tool = tool.ok_or_else(|| missing("tool_name"))?;
        self.found(|needle| matches!(needle, Needle::Tool(t) if *t == tool))?;
        check_name(&user)?;
        check_name(&tool)?;
        if !self.facts.tools.contains_key(&tool) {
            self.begin_tool(&tool)?;
            // Every tool may come to need a bit for every user.
            self.fact_bytes = self.facts.tools.len() * (self.facts.roster.len() / 8);
            self.end_tool(&tool, ToolFacts::default())?;
        }
        let ordinal = if by_email {
            let (ordinal, is_new) = self.facts.emails.insert(&user);
            if is_new {
                self.count_name(&user)?;
            }
            ordinal
        } else {
            self.intern(&user)?.0
        };
        if let Some(facts) = self.facts.tools.get_mut(&tool) {
            if by_email {
                facts.granted_by_email.insert(ordinal);
            } else {
                facts.granted.get_or_insert_default().insert(ordinal);
            }
        }
        self.grants += 1;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), FileProblem> {
        self.header.layout = self.seen.layout()?;
        if let Some(stated) = self.stated_total
            && stated != self.grants
        {
            return Err(FileProblem::WrongTotal { stated, counted: self.grants });
        }
        if self.header.layout == FileLayout::Flat {
            self.header.grants = Some(self.grants);
        }
        header::check_environment(&self.header)
    }
}

/// What serde found, in words that say what to do.
fn syntax(error: serde_json::Error) -> FileProblem {
    if error.is_io() {
        return FileProblem::Io(error.into());
    }
    if error.is_eof() {
        return FileProblem::Truncated;
    }
    let text = error.to_string();
    if text.starts_with("invalid unicode code point") {
        return FileProblem::NotUtf8;
    }
    let position = format!(" at line {} column {}", error.line(), error.column());
    FileProblem::Syntax(text.strip_suffix(&position).unwrap_or(&text).to_owned())
}

/// The outermost object.
struct Document<'r, 'n>(&'r mut Reading<'n>);

impl<'de> DeserializeSeed<'de> for Document<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Document<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with `\"format\": \"{FORMAT}\"`, or a flat list of grants")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let reading = self.0;
        loop {
            let mut known = "";
            let mut on = |reading: &mut Reading<'_>, key: &str| {
                known = reading.seen.note(key)?;
                Ok(())
            };
            if map.next_key_seed(Text { reading: &mut *reading, on: &mut on })?.is_none() {
                break;
            }
            match known {
                "format" => map.next_value_seed(Text { reading, on: &mut on_format })?,
                "version" => {
                    let found: u64 = map.next_value()?;
                    if found != VERSION {
                        return Err(reading.stop(FileProblem::OtherVersion { found }));
                    }
                }
                "environment" => map.next_value_seed(Text { reading, on: &mut on_environment })?,
                "users" => {
                    reading.facts.users = Some(UserSet::default());
                    map.next_value_seed(Texts { reading, on: &mut |r, name| r.scope_user(name) })?;
                }
                "tools" => map.next_value_seed(Tools(&mut *reading))?,
                "exported_at" => map.next_value_seed(Text { reading, on: &mut |_, _| Ok(()) })?,
                "total_grants" => reading.stated_total = Some(map.next_value()?),
                _ => map.next_value_seed(Grants(&mut *reading))?,
            }
        }
        reading.finish().map_err(|problem| reading.stop(problem))
    }
}

fn on_format(_: &mut Reading<'_>, found: &str) -> Result<(), FileProblem> {
    if found == FORMAT { Ok(()) } else { Err(FileProblem::OtherFormat { found: found.to_owned() }) }
}

fn on_environment(reading: &mut Reading<'_>, name: &str) -> Result<(), FileProblem> {
    reading.header.environment = Some(name.to_owned());
    if reading.seen.has("format") { header::check_environment(&reading.header) } else { Ok(()) }
}

/// The object with the tools.
struct Tools<'r, 'n>(&'r mut Reading<'n>);

impl<'de> DeserializeSeed<'de> for Tools<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Tools<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with the tools by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let reading = self.0;
        loop {
            let mut name = String::new();
            let mut on = |reading: &mut Reading<'_>, key: &str| {
                name.push_str(key);
                reading.begin_tool(key)
            };
            if map.next_key_seed(Text { reading: &mut *reading, on: &mut on })?.is_none() {
                return Ok(());
            }
            let facts = map.next_value_seed(Tool { reading: &mut *reading, name: &name })?;
            reading.end_tool(&name, facts).map_err(|problem| reading.stop(problem))?;
        }
    }
}

/// The object of one tool.
struct Tool<'r, 'n, 't> {
    reading: &'r mut Reading<'n>,
    name: &'t str,
}

impl<'de> DeserializeSeed<'de> for Tool<'_, '_, '_> {
    type Value = ToolFacts;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<ToolFacts, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Tool<'_, '_, '_> {
    type Value = ToolFacts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `everyone`, `excluded` and `granted`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ToolFacts, A::Error> {
        let Self { reading, name } = self;
        let mut facts = ToolFacts::default();
        loop {
            let mut known = 0;
            let mut on = |_: &mut Reading<'_>, key: &str| {
                let (number, is_repeated) = match key {
                    "everyone" => (0, facts.everyone.is_some()),
                    "excluded" => (1, facts.excluded.is_some()),
                    "granted" => (2, facts.granted.is_some()),
                    _ => {
                        let expected = "`everyone`, `excluded` or `granted`";
                        return Err(FileProblem::UnknownKey { key: key.to_owned(), expected });
                    }
                };
                known = number;
                if is_repeated {
                    return Err(FileProblem::RepeatedKey { key: key.to_owned() });
                }
                Ok(())
            };
            if map.next_key_seed(Text { reading: &mut *reading, on: &mut on })?.is_none() {
                return Ok(facts);
            }
            let list = match known {
                0 => {
                    facts.everyone = Some(map.next_value()?);
                    continue;
                }
                1 => {
                    facts.excluded = Some(UserSet::default());
                    FactList::Excluded
                }
                _ => {
                    facts.granted = Some(UserSet::default());
                    FactList::Granted
                }
            };
            let mut on =
                |reading: &mut Reading<'_>, user: &str| reading.fact(user, name, list, &mut facts);
            map.next_value_seed(Texts { reading: &mut *reading, on: &mut on })?;
        }
    }
}

/// The flat list of grants.
struct Grants<'r, 'n>(&'r mut Reading<'n>);

impl<'de> DeserializeSeed<'de> for Grants<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Grants<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of grants")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Grant(&mut *self.0))?.is_some() {}
        Ok(())
    }
}

/// One grant of the flat list.
struct Grant<'r, 'n>(&'r mut Reading<'n>);

#[derive(Default)]
struct FlatGrant {
    user: Option<String>,
    by_email: bool,
    tool: Option<String>,
}

impl<'de> DeserializeSeed<'de> for Grant<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Grant<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a grant, such as {\"username\": \"alice\", \"tool_name\": \"Invoice Generator\"}",
        )
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let reading = self.0;
        let mut grant = FlatGrant::default();
        loop {
            let mut is_user = false;
            let mut on = |_: &mut Reading<'_>, key: &str| {
                is_user = matches!(key, "username" | "user" | "email");
                if !is_user && !matches!(key, "tool_name" | "tool") {
                    let expected = "`username`, `user` or `email`, and `tool_name` or `tool`";
                    return Err(FileProblem::UnknownKey { key: key.to_owned(), expected });
                }
                grant.by_email |= key == "email";
                let is_repeated = if is_user { grant.user.is_some() } else { grant.tool.is_some() };
                if is_repeated {
                    return Err(FileProblem::RepeatedKey { key: key.to_owned() });
                }
                Ok(())
            };
            if map.next_key_seed(Text { reading: &mut *reading, on: &mut on })?.is_none() {
                return reading.flat_grant(grant).map_err(|problem| reading.stop(problem));
            }
            let slot = if is_user { &mut grant.user } else { &mut grant.tool };
            let mut on = |_: &mut Reading<'_>, text: &str| {
                *slot = Some(text.to_owned());
                Ok(())
            };
            map.next_value_seed(Text { reading: &mut *reading, on: &mut on })?;
        }
    }
}

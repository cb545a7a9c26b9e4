//! Writes the canonical form: the same facts give the same bytes.

use std::io::{self, Write};

use omnitool_environment::EnvironmentName;

use super::{FORMAT, VERSION};
use crate::{Counts, facts::Facts};

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) counts: Counts,
    /// Grants left out because the user is excluded: the file says that once.
    pub(crate) without_effect: u64,
}

/// Writes `facts`, whose scope is everything that they hold.
pub(crate) fn write(
    facts: &Facts,
    environment: EnvironmentName,
    out: &mut dyn Write,
) -> io::Result<Written> {
    let users = facts.roster.sorted();
    // Each name is turned into JSON once, however often it is written.
    let mut names = Vec::with_capacity(facts.roster.len() * 16);
    let mut ends = Vec::with_capacity(users.len() + 1);
    ends.push(0);
    for user in &users {
        serde_json::to_writer(&mut names, facts.roster.name(*user))?;
        ends.push(names.len());
    }
    let quoted = |place: usize| &names[ends[place]..ends[place + 1]];
    let mut written = Written::default();

    write!(out, "{{\n  \"format\": \"{FORMAT}\",\n  \"version\": {VERSION},\n")?;
    write!(out, "  \"environment\": \"{environment}\",\n  \"users\": ")?;
    list(out, b"    ", (0..users.len()).map(quoted))?;
    out.write_all(b",\n  \"tools\": {")?;
    let mut separator: &[u8] = b"\n    ";
    for (name, tool) in &facts.tools {
        out.write_all(separator)?;
        separator = b",\n    ";
        serde_json::to_writer(&mut *out, name)?;
        let everyone = tool.everyone == Some(true);
        write!(out, ": {{\n      \"everyone\": {everyone},\n      \"excluded\": ")?;
        let places = |wanted: &dyn Fn(u32) -> bool| {
            (0..users.len()).filter(|place| wanted(users[*place])).collect::<Vec<_>>()
        };
        let excluded = places(&|user| tool.is_excluded(user));
        list(out, b"        ", excluded.iter().map(|place| quoted(*place)))?;
        out.write_all(b",\n      \"granted\": ")?;
        let granted = places(&|user| tool.is_granted(user) && !tool.is_excluded(user));
        list(out, b"        ", granted.iter().map(|place| quoted(*place)))?;
        out.write_all(b"\n    }")?;
        written.counts.wildcards += u64::from(everyone);
        written.counts.exclusions += excluded.len() as u64;
        written.counts.grants += granted.len() as u64;
        written.without_effect +=
            tool.granted.as_ref().map_or(0, |set| set.len()) - granted.len() as u64;
    }
    out.write_all(if facts.tools.is_empty() { b"}\n}\n" } else { b"\n  }\n}\n" })?;
    Ok(written)
}

/// A list with one item per line; `indent` is that of its items.
fn list<'a>(
    out: &mut dyn Write,
    indent: &[u8],
    items: impl Iterator<Item = &'a [u8]>,
) -> io::Result<()> {
    // A line at a time through the caller's buffer costs a call for each piece; this way it is one per item.
    let mut line = Vec::with_capacity(64);
    let mut is_empty = true;
    out.write_all(b"[")?;
    for item in items {
        line.clear();
        line.extend_from_slice(if is_empty { b"\n" } else { b",\n" });
        line.extend_from_slice(indent);
        line.extend_from_slice(item);
        out.write_all(&line)?;
        is_empty = false;
    }
    if !is_empty {
        line.clear();
        line.push(b'\n');
        line.extend_from_slice(&indent[2..]);
        out.write_all(&line)?;
    }
    out.write_all(b"]")
}

//! Reading a dump from beginning to end, without a server.
//!
//! `pg_restore` without a database prints the SQL that would restore one. What it prints of each table is a `COPY` line,
//! one line per row and `\.`, so that counting lines counts rows; a dump that is cut off or damaged does not come to its
//! end. Nothing is kept but the names of migrations and the stamp.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, Read as _},
    path::Path,
};

use omnitool_database::{Dialect, migration::Migrations};
use omnitool_environment::EnvironmentName;

use super::{
    contents::{LEDGER, STAMP_TABLE, label},
    programs::{Programs, RunError},
};
use crate::store::{Contents, InspectError};

/// What every dump of `pg_dump --format=custom` begins with.
const MAGIC: &[u8] = b"PGDMP";
/// As much of a line as is ever looked at; rows can be much longer.
const LINE_START: usize = 128 * 1024;

/// Reads the dump `file` to its end.
pub(super) fn inspect(programs: &Programs, file: &Path) -> Result<Contents, InspectError> {
    let mut reader = Reader::default();
    let list = programs.pg_restore().arg("--list").arg(file).read(|list| reader.list(list));
    let read = list.and_then(|()| {
        programs
            .pg_restore()
            .arg("--data-only")
            .arg("--file=-")
            .arg(file)
            .read(|script| reader.script(script))
    });
    read.map_err(|error| failure(file, error))?;
    reader.contents().map_err(|problem| damaged(file, problem))
}

/// Who owns something in the dump `file`: roles that must be there to restore it as it was.
pub(super) fn owners(programs: &Programs, file: &Path) -> Result<Vec<String>, RunError> {
    let mut owners = Vec::new();
    programs.pg_restore().arg("--list").arg(file).read(|list| {
        for line in list.lines() {
            // `217; 1259 16386 TABLE public users omnitool`; comments begin with a semicolon.
            let line = line?;
            let owner = line.rsplit(' ').next().unwrap_or_default().to_owned();
            if !line.starts_with(';') && !owner.is_empty() && !owners.contains(&owner) {
                owners.push(owner);
            }
        }
        Ok(())
    })?;
    Ok(owners)
}

/// What can be said without `pg_restore`, which would say it less clearly.
pub(super) fn check_file(file: &Path) -> Result<(), InspectError> {
    let reach = |source| InspectError::Reach { file: file.to_owned(), source };
    let metadata = std::fs::symlink_metadata(file).map_err(reach)?;
    let found = if metadata.is_dir() {
        Some("a folder")
    } else if metadata.is_symlink() {
        Some("a symbolic link")
    } else if metadata.is_file() {
        None
    } else {
        Some("a device or a pipe")
    };
    if let Some(found) = found {
        return Err(InspectError::NotAFile { file: file.to_owned(), found });
    }
    let mut start = Vec::new();
    std::fs::File::open(file)
        .and_then(|file| file.take(512).read_to_end(&mut start))
        .map_err(reach)?;
    match what_begins_with(&start) {
        None => Ok(()),
        Some(found) => Err(InspectError::NotADatabase { file: file.to_owned(), found }),
    }
}

/// What a file is that begins with `start` and is no dump.
fn what_begins_with(start: &[u8]) -> Option<&'static str> {
    let text = String::from_utf8_lossy(start);
    if start.starts_with(MAGIC) {
        None
    } else if start.is_empty() {
        Some("empty")
    } else if start.starts_with(b"SQLite format 3\0") {
        Some("a SQLite database, not a PostgreSQL dump")
    } else if text.contains("PostgreSQL database dump") || text.contains("\nSET ") {
        Some("a plain SQL script; only what pg_dump --format=custom makes can be restored")
    } else if start.get(257..262) == Some(b"ustar") {
        Some("a tar archive; only what pg_dump --format=custom makes can be restored")
    } else {
        Some("no PostgreSQL dump")
    }
}

fn failure(file: &Path, error: RunError) -> InspectError {
    match error {
        RunError::Failed { message, .. } => damaged(file, message),
        RunError::Read { source, .. } if source.kind() == io::ErrorKind::InvalidData => {
            damaged(file, source.to_string())
        }
        error => InspectError::Program { file: file.to_owned(), source: error.into() },
    }
}

fn damaged(file: &Path, problem: String) -> InspectError {
    InspectError::Damaged { file: file.to_owned(), problem }
}

/// What was found so far.
#[derive(Default)]
struct Reader {
    /// Tables with data, by the list.
    listed: usize,
    /// Tables with data, by the script.
    copied: usize,
    rows: BTreeMap<String, u64>,
    applied: Vec<String>,
    stamp: Option<String>,
}

/// The table whose rows come.
struct Copy {
    label: String,
    /// The column whose values are wanted, where the table is one of ours.
    wanted: Option<usize>,
    rows: u64,
}

impl Reader {
    fn list(&mut self, list: &mut dyn BufRead) -> io::Result<()> {
        for line in list.lines() {
            let line = line?;
            if !line.starts_with(';') && line.contains(" TABLE DATA ") {
                self.listed += 1;
            }
        }
        Ok(())
    }

    fn script(&mut self, script: &mut dyn BufRead) -> io::Result<()> {
        let mut table: Option<Copy> = None;
        let mut line = Vec::with_capacity(LINE_START);
        while read_line(script, &mut line)? {
            match &mut table {
                None => table = parse_copy(&line),
                Some(copy) if line != b"\\." => {
                    copy.rows += 1;
                    if let Some(column) = copy.wanted {
                        let text = String::from_utf8_lossy(&line);
                        let value = text.split('\t').nth(column).unwrap_or_default().to_owned();
                        if copy.label == LEDGER {
                            self.applied.push(value);
                        } else {
                            self.stamp = Some(value);
                        }
                    }
                }
                Some(copy) => {
                    self.copied += 1;
                    if copy.label != LEDGER {
                        *self.rows.entry(std::mem::take(&mut copy.label)).or_default() += copy.rows;
                    }
                    table = None;
                }
            }
        }
        match table {
            None => Ok(()),
            Some(Copy { label, .. }) => {
                let problem = format!("it ends within the rows of {label}");
                Err(io::Error::new(io::ErrorKind::InvalidData, problem))
            }
        }
    }

    fn contents(self) -> Result<Contents, String> {
        let Self { listed, copied, rows, mut applied, stamp } = self;
        if listed != copied {
            return Err(format!(
                "it lists the data of {listed} tables and holds that of {copied}; only what pg_dump writes without \
                 --inserts can be read"
            ));
        }
        let stamp = match stamp {
            Some(text) => Some(text.parse::<EnvironmentName>().map_err(|error| error.to_string())?),
            None => None,
        };
        applied.sort_unstable();
        let migrations = Migrations::embedded(Dialect::Postgres).map_err(|it| it.to_string())?;
        let is_known =
            |version: &String| migrations.iter().any(|migration| migration.version() == *version);
        Ok(Contents {
            rows,
            schema_version: applied.last().cloned(),
            pending: migrations
                .iter()
                .filter(|migration| !applied.contains(&migration.version()))
                .map(|migration| migration.name.to_owned())
                .collect(),
            unknown: applied.iter().filter(|version| !is_known(version)).cloned().collect(),
            stamp,
        })
    }
}

/// Reads a line without its end into `line`, and of a long one only its start. False at the end of the text.
fn read_line(text: &mut dyn BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let mut any = false;
    loop {
        let piece = text.fill_buf()?;
        if piece.is_empty() {
            return Ok(any);
        }
        any = true;
        let end = piece.iter().position(|byte| *byte == b'\n');
        let room = LINE_START.saturating_sub(line.len());
        let length = end.unwrap_or(piece.len());
        line.extend_from_slice(&piece[..length.min(room)]);
        text.consume(end.map_or(length, |end| end + 1));
        if end.is_some() {
            return Ok(true);
        }
    }
}

/// `COPY public."a b" (x, y) FROM stdin;`
fn parse_copy(line: &[u8]) -> Option<Copy> {
    let line = std::str::from_utf8(line).ok()?;
    let rest = line.strip_prefix("COPY ")?.strip_suffix(" FROM stdin;")?;
    let (schema, rest) = take_name(rest)?;
    let (name, rest) = take_name(rest.strip_prefix('.')?)?;
    let label = label(&schema, &name);
    let wanted = match label.as_str() {
        LEDGER => Some("version"),
        STAMP_TABLE => Some("environment"),
        _ => None,
    };
    let columns = rest.trim().trim_start_matches('(').trim_end_matches(')');
    let wanted = wanted.and_then(|wanted| columns.split(", ").position(|column| column == wanted));
    Some(Copy { label, wanted, rows: 0 })
}

/// The name that `text` begins with, plain or in quotes, and the rest.
fn take_name(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(['.', ' ']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut name = String::new();
    let mut rest = quoted;
    loop {
        let (part, after) = rest.split_once('"')?;
        name += part;
        match after.strip_prefix('"') {
            // A doubled quote is part of the name.
            Some(after) => {
                name.push('"');
                rest = after;
            }
            None => return Some((name, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(script: &str) -> io::Result<Reader> {
        let mut reader = Reader::default();
        reader.script(&mut script.as_bytes())?;
        Ok(reader)
    }

    #[test]
    fn rows_migrations_and_the_stamp_are_found() {
        let reader = read(
            "SET x = y;\n\
             COPY public.users (id, name) FROM stdin;\n1\tCOPY public.x (a) FROM stdin;\n2\t\\\\.\n\\.\n\n\
             COPY public.__diesel_schema_migrations (version, run_on) FROM stdin;\n2026\tx\n2025\ty\n\\.\n\
             COPY public.environment_stamp (id, environment, stamped_at) FROM stdin;\n1\tstaging\tx\n\\.\n\
             COPY other.\"a \"\" b.c\" (id) FROM stdin;\n\\.\n",
        )
        .unwrap();
        let rows: Vec<(&str, u64)> =
            reader.rows.iter().map(|(name, rows)| (name.as_str(), *rows)).collect();
        assert_eq!(rows, [("environment_stamp", 1), ("other.a \" b.c", 0), ("users", 2)]);
        assert_eq!(reader.applied, ["2026", "2025"]);
        assert_eq!(reader.stamp.as_deref(), Some("staging"));
        assert_eq!(reader.copied, 4);
    }

    #[test]
    fn a_script_that_ends_within_rows_is_no_whole_one() {
        let Err(error) = read("COPY public.users (id) FROM stdin;\n1\n") else {
            panic!("must be refused")
        };
        assert_eq!(error.to_string(), "it ends within the rows of users");
    }

    #[test]
    fn what_is_no_dump_is_called_by_its_name() {
        assert_eq!(what_begins_with(b"PGDMP\x01\x0e"), None);
        let plain = b"--\n-- PostgreSQL database dump\n--\n";
        assert!(what_begins_with(plain).unwrap().starts_with("a plain SQL script"));
        assert!(what_begins_with(b"SQLite format 3\0").unwrap().starts_with("a SQLite database"));
        assert_eq!(what_begins_with(b"hello"), Some("no PostgreSQL dump"));
    }

    proptest! {
        #[test]
        fn only_the_start_of_a_line_is_kept(lengths in prop::collection::vec(0..300_000_usize, 0..5)) {
            let text: String = lengths.iter().map(|length| "x".repeat(*length) + "\n").collect();
            let mut source = text.as_bytes();
            let mut line = Vec::new();
            let mut found = Vec::new();
            while read_line(&mut source, &mut line).unwrap() {
                prop_assert!(line.len() <= LINE_START);
                found.push(line.len());
            }
            let expected: Vec<usize> = lengths.iter().map(|length| (*length).min(LINE_START)).collect();
            prop_assert_eq!(found, expected);
        }
    }
}

//! What the program prints.

use std::fmt::Write as _;

use omnitool_backup::heroku::HerokuBackups;
use omnitool_backup::{
    BackupId, BrokenBackup, Catalog, Listing, Manifest, Method, PruneFailure, PrunePlan, Pruned,
};
use omnitool_cli::{Failure, Format, Outcome, print_json};
use omnitool_environment::EnvironmentName;
use serde::Serialize;

const TIME: &str = "%Y-%m-%d %H:%M:%S";

/// What became of one backup's check.
#[derive(Serialize)]
pub(crate) struct Checked {
    id: BackupId,
    verified: bool,
    /// What was done to find out.
    #[serde(skip_serializing_if = "Option::is_none")]
    how: Option<Method>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// Where backups are.
pub(crate) enum Place<'a> {
    /// In a folder of this machine.
    Folder(&'a Catalog),
    /// With the database of an app on Heroku.
    Heroku(&'a HerokuBackups),
}

impl Place<'_> {
    const fn environment(&self) -> EnvironmentName {
        match self {
            Self::Folder(catalog) => catalog.environment(),
            Self::Heroku(backups) => backups.environment(),
        }
    }

    fn file(&self, backup: &Manifest) -> String {
        match self {
            Self::Folder(catalog) => catalog.file(backup).display().to_string(),
            Self::Heroku(_) => format!("{} in {self}", backup.id),
        }
    }
}

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Folder(catalog) => catalog.folder().display().fmt(f),
            Self::Heroku(backups) => {
                write!(f, "{} of the app {} on Heroku", backups.database().name, backups.app())
            }
        }
    }
}

/// What became of a prune plan.
pub(crate) enum Applied {
    /// Nothing: it was a dry run.
    Not,
    /// It was carried out.
    With(Pruned),
}

impl Checked {
    pub(crate) fn new<E: std::error::Error + 'static>(
        id: BackupId,
        result: Result<Manifest, E>,
    ) -> Self {
        match result {
            Ok(backup) => {
                let how = backup.verified.map(|verified| verified.how);
                Self { id, verified: true, how, problem: None }
            }
            Err(error) => Self { id, verified: false, how: None, problem: Some(chain(&error)) },
        }
    }
}

impl From<BrokenBackup> for Checked {
    fn from(BrokenBackup { id, problem }: BrokenBackup) -> Self {
        Self { id, verified: false, how: None, problem: Some(problem) }
    }
}

pub(crate) fn captured(
    place: &Place<'_>,
    backup: Manifest,
    format: Format,
) -> Result<Outcome, Failure> {
    #[derive(Serialize)]
    struct Report {
        summary: String,
        id: BackupId,
        file: String,
        backup: Manifest,
    }
    let Manifest { id, environment, size, rows, verified, .. } = &backup;
    let summary = match verified.as_ref().map(|verified| verified.how) {
        Some(Method::Reported) => {
            format!("Captured {id} of {environment}: {size} bytes, verified as far as Heroku says")
        }
        _ => format!(
            "Captured {id} of {environment}: {} rows in {} tables, {size} bytes, verified",
            rows.values().sum::<u64>(),
            rows.len()
        ),
    };
    let (id, file) = (*id, place.file(&backup));
    match format {
        Format::Text => print(&format!("[SUCCESS] {summary}\n{file}\n"))?,
        Format::Json => print_json(&Report { summary, id, file, backup })?,
    }
    Ok(Outcome::Done)
}

pub(crate) fn list(
    place: &Place<'_>,
    listing: Listing,
    format: Format,
) -> Result<Outcome, Failure> {
    #[derive(Serialize)]
    struct Report {
        summary: String,
        environment: EnvironmentName,
        folder: String,
        backups: Vec<Manifest>,
        broken: Vec<BrokenBackup>,
    }
    let Listing { backups, broken } = listing;
    let (environment, folder) = (place.environment(), place.to_string());
    let mut summary = format!("{} of {environment} in {folder}", count(backups.len(), "backup"));
    if !broken.is_empty() {
        summary += &format!(", and {} that cannot be used", broken.len());
    }
    if format == Format::Json {
        print_json(&Report { summary, environment, folder, backups, broken })?;
        return Ok(Outcome::Done);
    }
    let mut text = format!("{summary}\n");
    if !backups.is_empty() {
        let head =
            ["id", "taken (UTC)", "kind", "size", "rows", "schema", "release", "verified (UTC)"];
        text += &table(head, backups.iter().map(row).collect());
    }
    for BrokenBackup { id, problem } in broken {
        let _ = writeln!(text, "{id}  cannot be used: {}", one_line(&problem));
    }
    print(&text)?;
    Ok(Outcome::Done)
}

/// A text from a manifest on one line of its own.
fn one_line(text: &str) -> String {
    text.replace('\n', "\u{fffd}")
}

fn row(backup: &Manifest) -> [String; 8] {
    let verified = match &backup.verified {
        Some(verified) => verified.when.format(TIME).to_string(),
        None => "no".to_owned(),
    };
    [
        backup.id.to_string(),
        backup.created_at.format(TIME).to_string(),
        backup.kind.to_string(),
        backup.size.to_string(),
        backup.rows.values().sum::<u64>().to_string(),
        backup.schema_version.as_deref().map_or_else(|| "none".to_owned(), one_line),
        backup.release.as_deref().map_or_else(|| "-".to_owned(), one_line),
        if backup.pinned { format!("{verified} pinned") } else { verified },
    ]
}

/// Columns as wide as what is in them; the last one ends where its text ends.
fn table<const N: usize>(head: [&str; N], rows: Vec<[String; N]>) -> String {
    let widths: [usize; N] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].len());
        cells.chain([head[column].len()]).max().unwrap_or_default()
    });
    let mut text = String::new();
    for row in [head.map(ToOwned::to_owned)].iter().chain(&rows) {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
    }
    text
}

pub(crate) fn show(
    place: &Place<'_>,
    backup: Manifest,
    format: Format,
) -> Result<Outcome, Failure> {
    #[derive(Serialize)]
    struct Report {
        summary: String,
        file: String,
        backup: Manifest,
    }
    let file = place.file(&backup);
    let taken = backup.created_at.format(TIME);
    let summary = format!("{} of {}, taken {taken} UTC", backup.id, backup.environment);
    if format == Format::Json {
        print_json(&Report { summary, file, backup })?;
        return Ok(Outcome::Done);
    }
    let Manifest {
        kind,
        size,
        sha256,
        encrypted_to,
        schema_version,
        release,
        rows,
        pinned,
        verified,
        ..
    } = backup;
    let verified = match verified {
        Some(verified) => format!("{} UTC ({})", verified.when.format(TIME), verified.how.as_str()),
        None => "no".to_owned(),
    };
    let mut text = format!(
        "{summary}\n\
         file      {file}\n\
         kind      {kind}\n\
         size      {size} bytes\n\
         sha256    {}\n\
         encrypted {}\n\
         schema    {}\n\
         release   {}\n\
         pinned    {}\n\
         verified  {verified}\n",
        if sha256.is_empty() { "not known: it was never downloaded" } else { &sha256 },
        if encrypted_to.is_empty() { "no".to_owned() } else { one_line(&encrypted_to.join(", ")) },
        schema_version.as_deref().map_or_else(|| "none".to_owned(), one_line),
        release.as_deref().map_or_else(|| "not recorded".to_owned(), one_line),
        if pinned { "yes" } else { "no" },
    );
    for (table, count) in rows {
        let _ = writeln!(text, "rows      {}: {count}", one_line(&table));
    }
    print(&text)?;
    Ok(Outcome::Done)
}

/// A backup is in a database of its own.
pub(crate) fn copied(
    backup: &Manifest,
    database: &str,
    format: Format,
) -> Result<Outcome, Failure> {
    #[derive(Serialize)]
    struct Report<'a> {
        summary: String,
        id: BackupId,
        database: &'a str,
    }
    let Manifest { id, environment, created_at, .. } = backup;
    let taken = created_at.format(TIME);
    let summary =
        format!("Restored {id} of {environment}, taken {taken} UTC, into the database {database}");
    match format {
        Format::Text => print(&format!("[SUCCESS] {summary}\n"))?,
        Format::Json => print_json(&Report { summary, id: *id, database })?,
    }
    Ok(Outcome::Done)
}

/// There is no such database any more.
pub(crate) fn copy_dropped(format: Format) -> Result<Outcome, Failure> {
    #[derive(Serialize)]
    struct Report {
        summary: &'static str,
    }
    let summary = "No database of a rehearsal is left";
    match format {
        Format::Text => print(&format!("{summary}\n"))?,
        Format::Json => print_json(&Report { summary })?,
    }
    Ok(Outcome::Done)
}

pub(crate) fn pinned(backup: Manifest, format: Format) -> Result<Outcome, Failure> {
    #[derive(Serialize)]
    struct Report {
        summary: String,
        id: BackupId,
        pinned: bool,
    }
    let Manifest { id, pinned, environment, .. } = backup;
    let summary = if pinned {
        format!("Pinned {id} of {environment}: it is never pruned")
    } else {
        format!("Unpinned {id} of {environment}: it is pruned when its time comes")
    };
    match format {
        Format::Text => print(&format!("{summary}\n"))?,
        Format::Json => print_json(&Report { summary, id, pinned })?,
    }
    Ok(Outcome::Done)
}

pub(crate) fn verified(
    environment: EnvironmentName,
    mut checked: Vec<Checked>,
    format: Format,
) -> Result<Outcome, Failure> {
    #[derive(Serialize)]
    struct Report {
        status: &'static str,
        summary: String,
        environment: EnvironmentName,
        backups: Vec<Checked>,
    }
    checked.sort_by_key(|checked| checked.id);
    let bad = checked.iter().filter(|checked| !checked.verified).count();
    let good = checked.len() - bad;
    let summary = format!("{} of {environment} verified, {bad} bad", count(good, "backup"));
    let (status, outcome) =
        if bad == 0 { ("done", Outcome::Done) } else { ("failed", Outcome::Failed) };
    if format == Format::Json {
        print_json(&Report { status, summary, environment, backups: checked })?;
        return Ok(outcome);
    }
    let mut text = String::new();
    for Checked { id, verified: _, how, problem } in checked {
        let _ = match problem {
            None if how == Some(Method::Digest) => {
                writeln!(
                    text,
                    "{id}  verified by its SHA-256 only: it is encrypted, and no --identity was named"
                )
            }
            None if how == Some(Method::Reported) => {
                writeln!(text, "{id}  verified as far as Heroku says: it was not downloaded")
            }
            None if how == Some(Method::RestoredDump) => {
                writeln!(text, "{id}  verified by restoring it into a scratch database")
            }
            None => writeln!(text, "{id}  verified"),
            Some(problem) => writeln!(text, "{id}  BAD: {}", one_line(&problem)),
        };
    }
    let _ = writeln!(text, "{summary}");
    print(&text)?;
    Ok(outcome)
}

pub(crate) fn pruned(
    environment: EnvironmentName,
    plan: PrunePlan,
    applied: Applied,
    format: Format,
) -> Result<Outcome, Failure> {
    #[derive(Serialize)]
    struct Report {
        status: &'static str,
        summary: String,
        environment: EnvironmentName,
        plan: PrunePlan,
        failed: Vec<String>,
    }
    let (summary, failed) = match applied {
        Applied::Not => {
            let going =
                removed_text(plan.remove.len(), plan.old_databases.len(), plan.leftovers.len());
            (format!("Dry run: {going} of {environment} would be removed; nothing was"), Vec::new())
        }
        Applied::With(Pruned { removed, dropped, leftovers, failed }) => {
            let gone = removed_text(removed.len(), dropped.len(), leftovers.len());
            let left = count(plan.keep.len() + plan.broken.len(), "backup");
            let mut summary = format!("Removed {gone} of {environment}; {left} left");
            if !failed.is_empty() {
                summary += &format!("; {} could not be removed", failed.len());
            }
            let failed = failed
                .iter()
                .map(|PruneFailure { name, error }| format!("{name}: {}", chain(error)))
                .collect();
            (summary, failed)
        }
    };
    let (status, outcome) =
        if failed.is_empty() { ("done", Outcome::Done) } else { ("failed", Outcome::Failed) };
    match format {
        Format::Text => {
            let mut text = plan.to_string();
            for failure in &failed {
                let _ = writeln!(text, "FAILED  {failure}");
            }
            print(&format!("{text}{summary}\n"))?;
        }
        Format::Json => print_json(&Report { status, summary, environment, plan, failed })?,
    }
    Ok(outcome)
}

fn removed_text(backups: usize, old_databases: usize, leftovers: usize) -> String {
    let mut parts = vec![count(backups, "backup")];
    if old_databases > 0 {
        parts.push(count(old_databases, "old database"));
    }
    if leftovers > 0 {
        parts.push(format!("{} of killed captures", count(leftovers, "file")));
    }
    parts.join(" and ")
}

/// Prints lines of text without what a terminal would obey: manifests and file names may come from others.
fn print(text: &str) -> Result<(), Failure> {
    let printable: String =
        text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect();
    omnitool_cli::print(&printable)
}

fn count(number: usize, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

/// An error with its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += ": ";
        text += &cause.to_string();
        source = cause.source();
    }
    text
}

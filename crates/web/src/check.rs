//! Whether the app could serve: what `omnitool check` says.

use std::{fmt, time::Instant};

use chrono::Utc;
use omnitool_database::{AnyConnection, Mode, migration, open, pool, stamp};
use omnitool_environment::{DatabaseUrl, EnvironmentName};
use omnitool_tool_access as access;
use serde::Serialize;

use crate::{
    app::{CONNECTION_WAIT, Settings},
    error::chain,
    page, store,
};

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// All in one line.
    pub summary: String,
    /// Whether the app could serve.
    pub status: Status,
    /// Each check in its order; one that could not be made for an earlier one is not listed.
    pub checks: Vec<Finding>,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check: `configuration`, `templates`, `database` or `schema`.
    pub id: &'static str,
    /// How it ended.
    pub status: Status,
    /// What it found, in a sentence.
    pub message: String,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// All is well.
    Ok,
    /// The app could not serve.
    Failed,
}

/// Checks what the app needs, in the database at `target` if that could be resolved.
///
/// # Errors
///
/// None: what fails is in the report.
pub fn check<E: std::error::Error>(
    target: Result<(Option<EnvironmentName>, DatabaseUrl), E>,
) -> Report {
    let mut findings = Vec::new();
    let environment = target.as_ref().ok().and_then(|(environment, _)| *environment);
    findings.push(Finding::new("templates", templates(environment)));
    match target {
        Err(error) => findings.insert(0, Finding::new("configuration", Err(chain(&error)))),
        Ok((environment, url)) => {
            let wanted =
                environment.map_or("the database's own".to_owned(), |name| name.to_string());
            let message = format!("environment {wanted}, database {url}");
            findings.insert(0, Finding::new("configuration", Ok(message)));
            findings.extend(database(environment, &url));
        }
    }
    Report::new(findings)
}

fn templates(environment: Option<EnvironmentName>) -> Result<String, String> {
    let environment = environment.unwrap_or(EnvironmentName::Local);
    let settings = Settings::new(environment, "<script>", DatabaseUrl::sqlite("check.db".as_ref()));
    let pages = page::samples(&settings);
    for (name, page) in &pages {
        if !page.starts_with("<!DOCTYPE html>") || !page.ends_with("</html>") {
            return Err(format!("the page `{name}` is not whole"));
        }
        if page.contains("<script>") {
            return Err(format!("the page `{name}` shows a text without escaping it"));
        }
    }
    Ok(format!("{} pages rendered", pages.len()))
}

fn database(environment: Option<EnvironmentName>, url: &DatabaseUrl) -> Vec<Finding> {
    let started = Instant::now();
    // A connection of its own says at once what is wrong; the pool would first wait for the database to come back.
    if let Err(error) = open(url, Mode::Read) {
        return vec![Finding::new("database", Err(chain(&error)))];
    }
    let mut conn = match pool::new(url, 1, CONNECTION_WAIT).get() {
        Ok(conn) => conn,
        Err(error) => return vec![Finding::new("database", Err(chain(&error)))],
    };
    let schema =
        migration::check_current(&mut conn).map_err(|error| chain(&error)).and_then(|version| {
            read_what_pages_need(&mut conn)?;
            Ok(format!("current, version {version}"))
        });
    let schema = Finding::new("schema", schema);
    let answered = format!("answered in {} ms", started.elapsed().as_millis());
    let database = match &schema.status {
        Status::Failed => Ok(answered),
        Status::Ok => stamp::check(&mut conn, environment)
            .map(|stamped| format!("{answered}, stamped {stamped}"))
            .map_err(|error| chain(&error)),
    };
    vec![Finding::new("database", database), schema]
}

/// The ledger says what was applied, and not what somebody has dropped since: asks what each page of a visitor who is
/// logged in asks.
fn read_what_pages_need(conn: &mut AnyConnection) -> Result<(), String> {
    let nobody = 0;
    store::find_viewer(conn, "", Utc::now().naive_utc()).map_err(|error| chain(&error))?;
    access::tools_for(conn, nobody).map_err(|error| chain(&error))?;
    Ok(())
}

impl Finding {
    fn new(id: &'static str, result: Result<String, String>) -> Self {
        match result {
            Ok(message) => Self { id, status: Status::Ok, message },
            Err(message) => Self { id, status: Status::Failed, message },
        }
    }
}

impl Report {
    fn new(checks: Vec<Finding>) -> Self {
        let failed: Vec<&str> = checks
            .iter()
            .filter(|finding| finding.status == Status::Failed)
            .map(|finding| finding.id)
            .collect();
        let (status, summary) = if failed.is_empty() {
            (Status::Ok, format!("the app can serve: {} checks passed", checks.len()))
        } else {
            (Status::Failed, format!("the app cannot serve: {} failed", failed.join(", ")))
        };
        Self { summary, status, checks }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Finding { id, status, message } in &self.checks {
            let status = match status {
                Status::Ok => "ok",
                Status::Failed => "FAILED",
            };
            writeln!(f, "{status:<8}{id:<15}{message}")?;
        }
        writeln!(f, "\n{}", self.summary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_is_whole_and_escapes_what_it_shows() {
        assert_eq!(templates(None), Ok("21 pages rendered".to_owned()));
    }
}

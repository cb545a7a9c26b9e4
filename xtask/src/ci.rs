//! `cargo xtask ci`.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use omnitool_cli::{Failure, Outcome, print};

use crate::{
    arrows, heroku_conformance, lint_migrations, lint_workflows,
    project::Project,
    terminal::{heading, seconds},
    test,
};

/// Whether a part of the checks passed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Passed,
    Failed,
}

/// Runs every part, also after one that failed, so that one run tells all.
pub(crate) fn run(project: &Project) -> Result<Outcome, Failure> {
    type Part = (&'static str, fn(&Project) -> Result<Verdict, Failure>);
    let parts: [Part; 9] = [
        ("format", format),
        ("clippy", clippy),
        ("rustdoc", rustdoc),
        ("arrows", arrows),
        ("migrations", migrations),
        ("workflows", workflows),
        ("test", tests),
        ("heroku", heroku),
        ("tls", tls),
    ];
    let mut results: Vec<(&str, Verdict, Duration)> = Vec::new();
    for (name, part) in parts {
        print(&heading(name))?;
        let started = Instant::now();
        let verdict = part(project)?;
        let took = started.elapsed();
        print(&line(name, verdict, took))?;
        results.push((name, verdict, took));
    }
    print(&heading("all parts"))?;
    for (name, verdict, took) in &results {
        print(&line(name, *verdict, *took))?;
    }
    let failed = results.iter().any(|(_, verdict, _)| *verdict == Verdict::Failed);
    Ok(if failed { Outcome::Failed } else { Outcome::Done })
}

fn line(name: &str, verdict: Verdict, took: Duration) -> String {
    let verdict = match verdict {
        Verdict::Passed => "passed",
        Verdict::Failed => "FAILED",
    };
    format!("{verdict}  {name:<10}{:>8}\n", seconds(took))
}

fn verdict(command: &mut Command) -> Result<Verdict, Failure> {
    Ok(if command.status()?.success() { Verdict::Passed } else { Verdict::Failed })
}

fn format(project: &Project) -> Result<Verdict, Failure> {
    verdict(project.cargo().args(["fmt", "--all", "--check"]))
}

fn clippy(project: &Project) -> Result<Verdict, Failure> {
    verdict(
        project
            .cargo()
            .args(["clippy", "--quiet", "--workspace", "--all-targets", "--locked"])
            .args(["--", "-D", "warnings"]),
    )
}

fn rustdoc(project: &Project) -> Result<Verdict, Failure> {
    verdict(
        project
            .cargo()
            .args(["doc", "--quiet", "--workspace", "--locked", "--no-deps"])
            .arg("--document-private-items")
            .env("RUSTDOCFLAGS", "-D warnings"),
    )
}

fn arrows(project: &Project) -> Result<Verdict, Failure> {
    let problems = arrows::check(&project.metadata()?)?;
    for problem in &problems {
        print(&format!("{problem}\n"))?;
    }
    Ok(if problems.is_empty() { Verdict::Passed } else { Verdict::Failed })
}

fn migrations(project: &Project) -> Result<Verdict, Failure> {
    Ok(match lint_migrations::run(project)? {
        Outcome::Done => Verdict::Passed,
        _ => Verdict::Failed,
    })
}

fn workflows(project: &Project) -> Result<Verdict, Failure> {
    Ok(match lint_workflows::run(project)? {
        Outcome::Done => Verdict::Passed,
        _ => Verdict::Failed,
    })
}

fn tests(project: &Project) -> Result<Verdict, Failure> {
    // All that is wrong is said at once.
    let status = test::test(project, &["--no-fail-fast".into()])?;
    Ok(if status.success() { Verdict::Passed } else { Verdict::Failed })
}

/// Says so where there is no Node.js, which Heroku's own tool needs.
fn heroku(project: &Project) -> Result<Verdict, Failure> {
    Ok(match heroku_conformance::run(project)? {
        Outcome::Done => Verdict::Passed,
        _ => Verdict::Failed,
    })
}

/// The tests of encrypted connections need another build of the database crate, with OpenSSL from source.
fn tls(project: &Project) -> Result<Verdict, Failure> {
    let arguments = ["-p", "omnitool-database", "--features", "tls", "--test", "it", "tls"];
    let status = test::test(project, &arguments.map(Into::into))?;
    Ok(if status.success() { Verdict::Passed } else { Verdict::Failed })
}

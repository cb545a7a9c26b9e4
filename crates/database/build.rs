//! Compiles the migrations in: `migrations/{sqlite,postgres}/NAME/{up.sql,down.sql,metadata.toml}` as a table of their texts.

use std::{
    env,
    error::Error,
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../migrations");
    let mut code = String::new();
    for (constant, dialect) in [("SQLITE", "sqlite"), ("POSTGRES", "postgres")] {
        let folder = root.join(dialect);
        println!("cargo::rerun-if-changed={}", folder.display());
        writeln!(code, "pub(super) const {constant}: &[Migration] = &[")?;
        for name in names(&folder)? {
            entry(&mut code, &folder.join(&name), &name)?;
        }
        writeln!(code, "];")?;
    }
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("migrations.rs"), code)?;
    Ok(())
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn entry(code: &mut String, folder: &Path, name: &str) -> Result<(), Box<dyn Error>> {
    let [up, down] = ["up.sql", "down.sql"].map(|file| folder.join(file));
    for file in [&up, &down] {
        if !file.is_file() {
            return Err(format!("there is no {}", file.display()).into());
        }
    }
    let run_in_transaction = run_in_transaction(&folder.join("metadata.toml"))?;
    writeln!(
        code,
        "    Migration {{ name: {name:?}, up: include_str!({up:?}), down: include_str!({down:?}), \
         run_in_transaction: {run_in_transaction} }},"
    )?;
    Ok(())
}

/// Reads the one setting that diesel has for a migration, and refuses anything else rather than not doing it.
fn run_in_transaction(file: &Path) -> Result<bool, Box<dyn Error>> {
    if !file.exists() {
        return Ok(true);
    }
    let mut value = true;
    for line in fs::read_to_string(file)?.lines().map(str::trim) {
        match line.replace(' ', "").as_str() {
            "run_in_transaction=false" => value = false,
            "run_in_transaction=true" => value = true,
            other if other.is_empty() || other.starts_with('#') => {}
            _ => return Err(format!("{}: cannot understand `{line}`", file.display()).into()),
        }
    }
    Ok(value)
}

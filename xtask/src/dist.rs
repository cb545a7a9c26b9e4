//! `cargo xtask dist`.

use std::{
    io,
    path::{Path, PathBuf},
};

use clap::Args;
use fs_err as fs;
use omnitool_cli::{Failure, Format, Outcome, print, print_json, write_atomically};
use omnitool_pipeline::{Artifact, ArtifactSource, Origin, pack_artifact};
use serde::Serialize;

use crate::project::{Connections, Profile, Project};

/// The flags of `cargo xtask dist`.
#[derive(Args, Debug)]
pub(crate) struct DistArgs {
    /// Build programs that reach PostgreSQL on other machines, encrypted; builds OpenSSL, with make and perl
    #[arg(long)]
    tls: bool,

    /// Pack these built programs instead of building them
    #[arg(long, value_name = "DIR", conflicts_with = "tls")]
    programs: Option<PathBuf>,

    /// Put the artifact here, too, with its SHA-256 beside it
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,

    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl DistArgs {
    pub(crate) const fn format(&self) -> Format {
        self.format
    }
}

/// The release artifact, as it is printed.
#[derive(Serialize)]
struct Packed<'a> {
    summary: String,
    file: PathBuf,
    sha256: &'a str,
    size: u64,
    commit: Option<&'a str>,
}

/// Builds the programs and packs the release artifact, as a deployment does.
pub(crate) fn run(project: &Project, args: &DistArgs) -> Result<Outcome, Failure> {
    let programs = match &args.programs {
        Some(folder) => std::path::absolute(folder)?,
        None => {
            let connections = if args.tls { Connections::Encrypted } else { Connections::Plain };
            project.build_programs(Profile::Release, connections)?
        }
    };
    let source =
        ArtifactSource { programs, root: project.root().to_owned(), revision: project.revision() };
    let artifact = pack_artifact(&source, &project.artifacts())?;
    let Artifact { file, sha256, size, revision, origin } = &artifact;
    let file = match &args.output {
        Some(folder) => copy(file, sha256, folder)?,
        None => file.clone(),
    };
    let how = match origin {
        Origin::Reused => "unchanged since it was packed",
        Origin::Packed | Origin::Found => "packed",
    };
    let packed = Packed {
        summary: format!("artifact {how}: {}", project.shown(&file)),
        file: file.clone(),
        sha256,
        size: *size,
        commit: revision.as_ref().map(|revision| revision.commit.as_str()),
    };
    match args.format {
        Format::Json => print_json(&packed)?,
        Format::Text => print(&format!("{}\nsha256 {sha256}, {size} bytes\n", packed.summary))?,
    }
    Ok(Outcome::Done)
}

/// Copies the artifact into `folder`, with a file that `sha256sum --check` reads.
fn copy(artifact: &Path, sha256: &str, folder: &Path) -> Result<PathBuf, Failure> {
    fs::create_dir_all(folder)?;
    let name = format!("omnitool-{}.tar.gz", sha256.get(..12).unwrap_or(sha256));
    let file = folder.join(&name);
    let mut source = fs::File::open(artifact)?;
    write_atomically(&file, |target| io::copy(&mut source, target).map(drop))?;
    let text = format!("{sha256}  {name}\n");
    write_atomically(&folder.join(format!("{name}.sha256")), |target| {
        target.write_all(text.as_bytes())
    })?;
    Ok(file)
}

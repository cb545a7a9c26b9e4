//! Installs Debian's packages where that is possible without a password.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use omnitool_cli::Failure;

/// Whether this is Debian, or a system with its package manager.
pub(crate) fn is_here() -> bool {
    Path::new("/usr/bin/apt-get").exists()
}

/// Who can run the package manager.
#[derive(Debug, PartialEq, Eq)]
enum Installer {
    Root,
    Sudo,
}

/// Installs `packages`, since `missing` was not found; says no where it may not.
pub(crate) fn install(missing: &str, packages: &[&str]) -> Result<bool, Failure> {
    let Some(installer) = installer() else { return Ok(false) };
    let install = [&["install", "-q", "-y"], packages].concat();
    for arguments in [["update", "-q"].as_slice(), &install] {
        let mut command = match installer {
            Installer::Root => Command::new("apt-get"),
            Installer::Sudo => {
                let mut sudo = Command::new("sudo");
                sudo.args(["-n", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
                sudo
            }
        };
        let shown = format!("apt-get {}", arguments.join(" "));
        omnitool_cli::print(&format!("no {missing} was found, so this runs `{shown}`\n"))?;
        let status = command
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .status()?;
        if !status.success() {
            return Err(Failure::failed(format!("`{shown}` ended with {status}"))
                .hint(format!("install by hand: {}", packages.join(" "))));
        }
    }
    Ok(true)
}

fn installer() -> Option<Installer> {
    let output = |program: &str, arguments: &[&str]| {
        Command::new(program).args(arguments).stdin(Stdio::null()).output().ok()
    };
    if output("id", &["-u"])?.stdout.trim_ascii() == b"0" {
        return Some(Installer::Root);
    }
    output("sudo", &["-n", "true"])?.status.success().then_some(Installer::Sudo)
}

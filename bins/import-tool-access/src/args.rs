//! The flags.

use std::{path::PathBuf, str::FromStr};

use clap::{Parser, ValueEnum};
use omnitool_cli::{Format, TargetArgs};
use omnitool_tool_access::{FactKind, Mode, RemovalLimit};

const EXAMPLES: &str = "\
merge      adds what the target lacks and removes nothing, ever; what the target has against the file is listed
sync       also removes that, inside the file's scope (its users and tools), up to --max-removals
overwrite  also removes everything that is not in the file; refused on production

It is one transaction: all of it happens, or nothing. Running it again changes nothing. Exclusions win over grants.

Examples:
  import-tool-access --source data/tool_access_exports/local_tool_access.json --mode merge --dry-run
  import-tool-access --source data/tool_access_exports/local_tool_access.json --mode merge
  import-tool-access --source local_tool_access.json --mode sync --user user_a --tool 'Invoice Generator' --confirm
  import-tool-access --source local_tool_access.json --mode sync --plan-out plan.json
  import-tool-access --plan plan.json --confirm

Exit codes: 0 done, 1 failed or refused and nothing changed, 2 wrong usage, 3 changes are pending (--detailed-exitcode)";

/// Bring who may use which tool from an export into the database
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) target: TargetArgs,

    /// The export, or a flat list of grants of an older system
    #[arg(long, env = "TOOL_ACCESS_SOURCE", value_name = "FILE", required_unless_present = "plan")]
    pub(crate) source: Option<PathBuf>,

    /// What may be done to the target
    #[arg(long, env = "TOOL_ACCESS_MODE", value_enum, default_value_t)]
    pub(crate) mode: ModeArg,

    /// Show what would change, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Exit with 3 where --dry-run or --plan-out finds something to change
    #[arg(long)]
    pub(crate) detailed_exitcode: bool,

    /// Refuse where the file has users that the target does not have, instead of skipping them
    #[arg(long)]
    pub(crate) strict: bool,

    /// Do what removes facts: needed where a sync or an overwrite finds any to remove
    #[arg(long)]
    pub(crate) confirm: bool,

    /// How many facts may be removed, as a number or as a part of the scope's, such as 40% [default: 25%, at least 10]
    #[arg(long, value_name = "N|N%", value_parser = parse_limit)]
    pub(crate) max_removals: Option<RemovalLimit>,

    /// Allow to overwrite production
    #[arg(long)]
    pub(crate) allow_production: bool,

    /// Only facts about this user; can be repeated
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Vec<String>,

    /// Only facts about this tool; can be repeated
    #[arg(long, value_name = "NAME")]
    pub(crate) tool: Vec<String>,

    /// Only facts of this kind
    #[arg(long, value_enum, value_name = "KIND")]
    pub(crate) fact: Option<FactArg>,

    /// The tool definitions with the older names of tools [default: data/tools.toml as it was when this was built]
    #[arg(long, value_name = "FILE")]
    pub(crate) tools: Option<PathBuf>,

    /// Change nothing, and save the plan with all its changes
    #[arg(long, value_name = "FILE", conflicts_with = "plan")]
    pub(crate) plan_out: Option<PathBuf>,

    /// Apply exactly this saved plan; refused where the target's facts changed since
    #[arg(long, value_name = "FILE", conflicts_with_all = ["source", "mode", "dry_run", "strict", "max_removals", "user", "tool", "fact"])]
    pub(crate) plan: Option<PathBuf>,

    /// The deployment's run, for the history
    #[arg(long, env = "OMNITOOL_RUN_ID", value_name = "ID")]
    pub(crate) run_id: Option<String>,

    /// List unknown users, and all changes instead of the first
    #[arg(short, long)]
    pub(crate) verbose: bool,

    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

/// The modes as a flag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModeArg {
    /// Add; remove nothing
    #[default]
    Merge,
    /// Also remove what the target has against the file, inside the file's scope
    Sync,
    /// Also remove everything that is not in the file
    Overwrite,
}

/// The kinds of fact as a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FactArg {
    /// This user may use the tool
    Grant,
    /// Everyone may
    Wildcard,
    /// This user must not
    Exclusion,
}

impl From<FactArg> for FactKind {
    fn from(kind: FactArg) -> Self {
        match kind {
            FactArg::Grant => Self::Grant,
            FactArg::Wildcard => Self::Wildcard,
            FactArg::Exclusion => Self::Exclusion,
        }
    }
}

impl From<ModeArg> for Mode {
    fn from(mode: ModeArg) -> Self {
        match mode {
            ModeArg::Merge => Self::Merge,
            ModeArg::Sync => Self::Sync,
            ModeArg::Overwrite => Self::Overwrite,
        }
    }
}

fn parse_limit(text: &str) -> Result<RemovalLimit, String> {
    let wrong = || "expected a number of facts, or a percentage up to 100%".to_owned();
    match text.strip_suffix('%') {
        None => u64::from_str(text).map(RemovalLimit::Facts).map_err(|_| wrong()),
        Some(percent) => match u8::from_str(percent) {
            Ok(percent @ 0..=100) => Ok(RemovalLimit::Percent(percent)),
            _ => Err(wrong()),
        },
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_limit_is_a_number_or_a_percentage() {
        assert_eq!(parse_limit("7"), Ok(RemovalLimit::Facts(7)));
        assert_eq!(parse_limit("40%"), Ok(RemovalLimit::Percent(40)));
        for text in ["", "%", "-1", "101%", "many"] {
            assert!(parse_limit(text).is_err(), "{text}");
        }
    }
}

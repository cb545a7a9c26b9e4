//! Check 3: the tools are those of the definitions.

use std::collections::BTreeMap;

use omnitool_database::AnyConnection;
use omnitool_tool_registry::{Definitions, Deprecation, ToolDefinition};

use super::{CheckError, Context, Verdict};
use crate::{Finding, report::quantity, store};

/// How many names the one-line message lists.
const NAMED: usize = 10;

pub(super) fn definitions_match(
    conn: &mut AnyConnection,
    context: &Context,
) -> Result<Verdict, CheckError> {
    let tools = store::list_tools(conn)?;
    let definitions = context.subject.definitions;
    let difference = Difference::between(definitions, &tools);
    if difference.is_empty() {
        let count = definitions.tools().len() as u64;
        return Ok(Verdict::passed(format!("{} as defined", quantity(count, "tool"))));
    }
    Ok(Verdict {
        message: difference.message(),
        findings: difference.findings(&context.sync_tools()),
    })
}

/// What distinguishes the database's tools from the definitions.
#[derive(Debug, Default, PartialEq, Eq)]
struct Difference {
    /// Defined, but not in the database.
    missing: Vec<String>,
    /// In both, with what is different.
    different: Vec<(String, String)>,
    /// In the database although deprecated, with what becomes of it.
    deprecated: Vec<(String, String)>,
    /// In the database only.
    extra: Vec<String>,
    /// Of those, the active ones whose route another active tool has, with what they share.
    shared: Vec<(String, String)>,
}

impl Difference {
    fn between(definitions: &Definitions, tools: &[ToolDefinition]) -> Self {
        let mut difference = Self::default();
        let found: BTreeMap<&str, &ToolDefinition> =
            tools.iter().map(|tool| (tool.name.as_str(), tool)).collect();
        let defined: BTreeMap<&str, &ToolDefinition> =
            definitions.tools().iter().map(|tool| (tool.name.as_str(), tool)).collect();
        for (name, wanted) in &defined {
            match found.get(name) {
                None => difference.missing.push((*name).to_owned()),
                Some(tool) => difference
                    .different
                    .extend(differing_fields(tool, wanted).map(|text| ((*name).to_owned(), text))),
            }
        }
        for name in found.keys().filter(|name| !defined.contains_key(*name)) {
            let name = (*name).to_owned();
            match definitions.deprecated().get(&name) {
                Some(Deprecation::RenamedTo(new)) => {
                    difference.deprecated.push((name, format!("is now `{new}`")));
                }
                Some(Deprecation::Deleted) => {
                    difference.deprecated.push((name, "is to be deleted".to_owned()));
                }
                None => {
                    difference.shared.extend(shared_route(found[name.as_str()], tools));
                    difference.extra.push(name);
                }
            }
        }
        difference
    }

    const fn is_empty(&self) -> bool {
        // What shares a route is one of `extra`.
        let Self { missing, different, deprecated, extra, shared: _ } = self;
        missing.is_empty() && different.is_empty() && deprecated.is_empty() && extra.is_empty()
    }

    /// `Missing: … Different: … Deprecated: … Extra: …`, without what there is none of.
    fn message(&self) -> String {
        let Self { missing, different, deprecated, extra, shared } = self;
        let names = |pairs: &[(String, String)]| -> Vec<String> {
            pairs.iter().map(|(name, _)| name.clone()).collect()
        };
        let parts: Vec<String> = [
            ("Missing", missing.clone()),
            ("Different", names(different)),
            ("Deprecated", names(deprecated)),
            ("Extra", extra.clone()),
            ("At another one's route", names(shared)),
        ]
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(label, names)| format!("{label}: {}", list(&names)))
        .collect();
        parts.join(" ")
    }

    fn findings(self, sync: &str) -> Vec<Finding> {
        let Self { missing, different, deprecated, extra, shared } = self;
        let with_why = |pairs: Vec<(String, String)>| -> Vec<String> {
            pairs.into_iter().map(|(name, why)| format!("{name} {why}")).collect()
        };
        let count = |names: usize, what: &str| quantity(names as u64, what);
        let mut findings = Vec::new();
        if !missing.is_empty() {
            let what = format!("{} missing", count(missing.len(), "defined tool"));
            findings.push(Finding::critical(what).rows(missing).repair(sync));
        }
        if !different.is_empty() {
            let what = format!("{} not as defined", count(different.len(), "tool"));
            findings.push(Finding::critical(what).rows(with_why(different)).repair(sync));
        }
        if !deprecated.is_empty() {
            let what = format!("{} still there", count(deprecated.len(), "deprecated tool"));
            findings.push(Finding::critical(what).rows(with_why(deprecated)).repair(sync));
        }
        if !shared.is_empty() {
            let what = format!(
                "{} at the route of another one, so that whoever may use it could open that one",
                count(shared.len(), "tool")
            );
            findings.push(Finding::critical(what).rows(with_why(shared)).repair(format!(
                "deprecate it in {}, as `\"Old Name\" = \"New Name\"` where it was renamed, and run: {sync}",
                Definitions::DEFAULT_FILE
            )));
        }
        if !extra.is_empty() {
            let what = format!("{} in the database only", count(extra.len(), "tool"));
            findings.push(Finding::warning(what).rows(extra).repair(format!(
                "nothing needs to be done; to settle it, define or deprecate it in {} and run: {sync}",
                Definitions::DEFAULT_FILE
            )));
        }
        findings
    }
}

/// Which route `tool` shares with another active one, if it does and is active itself.
fn shared_route(tool: &ToolDefinition, tools: &[ToolDefinition]) -> Option<(String, String)> {
    let other = tools.iter().find(|other| {
        other.name != tool.name && other.is_active && tool.is_active && other.route == tool.route
    })?;
    Some((tool.name.clone(), format!("has the route `{}` of `{}`", tool.route, other.name)))
}

fn list(names: &[String]) -> String {
    let shown = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// What is different, or `None` where nothing is.
fn differing_fields(tool: &ToolDefinition, wanted: &ToolDefinition) -> Option<String> {
    let ToolDefinition { name: _, description, route, is_default, is_active } = tool;
    let mut fields = Vec::new();
    for (field, is, should) in
        [("description", description, &wanted.description), ("route", route, &wanted.route)]
    {
        if is != should {
            fields.push(format!("has the {field} `{is}`, defined `{should}`"));
        }
    }
    for (field, is, should) in [
        ("is_default", is_default, &wanted.is_default),
        ("is_active", is_active, &wanted.is_active),
    ] {
        if is != should {
            fields.push(format!("has {field} = {is}, defined {should}"));
        }
    }
    (!fields.is_empty()).then(|| fields.join("; "))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn definitions(text: &str) -> Definitions {
        Definitions::parse(text, Path::new("tools.toml")).unwrap()
    }

    fn tool(name: &str, route: &str) -> ToolDefinition {
        ToolDefinition {
            name: name.to_owned(),
            description: String::new(),
            route: route.to_owned(),
            is_default: false,
            is_active: true,
        }
    }

    fn defined() -> Definitions {
        definitions(
            r#"
            [[tool]]
            name = "Alpha"
            description = ""
            route = "/alpha"
            is_default = false
            is_active = true

            [[tool]]
            name = "Beta"
            description = ""
            route = "/beta"
            is_default = true
            is_active = true

            [deprecated]
            "Old Alpha" = "Alpha"
            "Gone" = false
            "#,
        )
    }

    #[test]
    fn every_kind_of_difference_is_told_apart() {
        let tools =
            [tool("Extra", "/e"), tool("Gone", "/g"), tool("Old Alpha", "/o"), tool("Beta", "/b")];
        let difference = Difference::between(&defined(), &tools);
        insta::assert_snapshot!(
            difference.message(),
            @"Missing: Alpha Different: Beta Deprecated: Gone, Old Alpha Extra: Extra"
        );
        assert_eq!(
            difference.different[0].1,
            "has the route `/b`, defined `/beta`; has is_default = false, defined true"
        );
    }

    #[test]
    fn a_long_list_is_cut() {
        let names: Vec<String> = (0..12).map(|n| n.to_string()).collect();
        assert_eq!(list(&names), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more");
    }
}

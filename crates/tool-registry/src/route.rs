//! Routes that two tools would share.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use crate::{definition::ToolDefinition, store::ToolRow};

/// What happens to a tool whose route is that of another one, which is active and not defined. Whoever may use one of two
/// tools at a route could open the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SharedRoutes {
    /// The synchronization is refused: most likely the other one was renamed, and nobody said so.
    #[default]
    Refuse,
    /// The tool stays as it is, or is not made: the other one is of a newer build, and this is an older one.
    LeaveOut,
}

/// A defined tool that has, or would get, the route of one that is only in the database.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct SharedRoute {
    /// The defined tool.
    pub tool: String,
    /// The other one.
    pub other: String,
    /// Their route.
    pub route: String,
}

impl SharedRoute {
    /// What whoever is refused does next.
    pub const NEXT_STEP: &str = "say under [deprecated] of the tools' file what became of the other one, \"Its Name\" = \"The Tool\" \
                                 where it was renamed, or give the tool another route";
}

impl fmt::Display for SharedRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tool, other, route } = self;
        write!(f, "`{tool}` at {route}, which is `{other}`'s")
    }
}

/// The active tools that are only in the database, by route.
pub(crate) struct Taken<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Taken<'a> {
    pub(crate) fn new(unmanaged: impl IntoIterator<Item = &'a ToolRow>) -> Self {
        let active = unmanaged.into_iter().filter(|row| row.is_active);
        Self(active.map(|row| (row.route.as_str(), row.name.as_str())).collect())
    }

    /// The tool whose route this one has, too.
    pub(crate) fn by_another(&self, definition: &ToolDefinition) -> Option<SharedRoute> {
        let other = self.0.get(definition.route.as_str()).filter(|_| definition.is_active)?;
        Some(SharedRoute {
            tool: definition.name.clone(),
            other: (*other).to_owned(),
            route: definition.route.clone(),
        })
    }
}

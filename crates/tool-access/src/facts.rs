//! All facts of a file or a database, in little memory: each name once, and one bit per user and tool.

use std::{
    collections::{BTreeMap, HashMap},
    rc::Rc,
};

mod user_set;

pub(crate) use user_set::UserSet;

/// Users by name. An ordinal is a user's place in it.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    names: Vec<Rc<str>>,
    ordinals: HashMap<Rc<str>, u32>,
}

impl Roster {
    pub(crate) fn find(&self, name: &str) -> Option<u32> {
        self.ordinals.get(name).copied()
    }

    /// The user's ordinal, and whether the name is new.
    pub(crate) fn insert(&mut self, name: &str) -> (u32, bool) {
        if let Some(ordinal) = self.find(name) {
            return (ordinal, false);
        }
        let ordinal = u32::try_from(self.names.len()).expect("the reader limits how many names");
        let name: Rc<str> = name.into();
        self.names.push(Rc::clone(&name));
        self.ordinals.insert(name, ordinal);
        (ordinal, true)
    }

    pub(crate) fn name(&self, ordinal: u32) -> &str {
        &self.names[ordinal as usize]
    }

    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    /// Ordinals in the order of the names' bytes.
    pub(crate) fn sorted(&self) -> Vec<u32> {
        let mut ordinals: Vec<u32> = (0..).take(self.names.len()).collect();
        // Names of a database come sorted already, which this sort notices.
        ordinals.sort_by(|a, b| self.name(*a).cmp(self.name(*b)));
        ordinals
    }
}

/// What is said about one tool. `None` means that nothing is said, which is not the same as an empty list.
#[derive(Debug, Default)]
pub(crate) struct ToolFacts {
    pub(crate) everyone: Option<bool>,
    pub(crate) excluded: Option<UserSet>,
    pub(crate) granted: Option<UserSet>,
    /// Grants of flat files that name users by their contact address; ordinals in [`Facts::emails`].
    pub(crate) granted_by_email: UserSet,
}

/// Facts about users and tools by name.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) roster: Roster,
    /// The users that these facts speak for, or `None` where no scope is given.
    pub(crate) users: Option<UserSet>,
    pub(crate) tools: BTreeMap<String, ToolFacts>,
    pub(crate) emails: Roster,
}

impl ToolFacts {
    pub(crate) fn is_granted(&self, user: u32) -> bool {
        self.granted.as_ref().is_some_and(|set| set.contains(user))
    }

    pub(crate) fn is_excluded(&self, user: u32) -> bool {
        self.excluded.as_ref().is_some_and(|set| set.contains(user))
    }
}

//! All facts of a file or a database, in little memory: each name once, and one bit per user and tool.

use std::{
    collections::BTreeMap,
    fmt,
    hash::{BuildHasher as _, RandomState},
};

use hashbrown::HashTable;

mod user_set;

pub(crate) use user_set::UserSet;

/// Users by name. An ordinal is a user's place in it.
///
/// There may be as many users as a company has, so a name costs its bytes and some ten more: all names are one text, and
/// the table that finds them holds ordinals, not names.
#[derive(Default)]
pub(crate) struct Roster {
    text: String,
    /// Where each name ends in the text.
    ends: Vec<usize>,
    ordinals: HashTable<u32>,
    hasher: RandomState,
}

impl Roster {
    pub(crate) fn find(&self, name: &str) -> Option<u32> {
        let is_it = |ordinal: &u32| self.name(*ordinal) == name;
        self.ordinals.find(self.hasher.hash_one(name), is_it).copied()
    }

    /// The user's ordinal, and whether the name is new.
    pub(crate) fn insert(&mut self, name: &str) -> (u32, bool) {
        if let Some(ordinal) = self.find(name) {
            return (ordinal, false);
        }
        let ordinal = u32::try_from(self.ends.len()).expect("the reader limits how many names");
        self.text.push_str(name);
        self.ends.push(self.text.len());
        let (text, ends, hasher) = (&self.text, &self.ends, &self.hasher);
        let hash_again = |ordinal: &u32| hasher.hash_one(nth_name(text, ends, *ordinal));
        self.ordinals.insert_unique(hasher.hash_one(name), ordinal, hash_again);
        (ordinal, true)
    }

    pub(crate) fn name(&self, ordinal: u32) -> &str {
        nth_name(&self.text, &self.ends, ordinal)
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Ordinals in the order of the names' bytes.
    pub(crate) fn sorted(&self) -> Vec<u32> {
        let mut ordinals: Vec<u32> = (0..).take(self.ends.len()).collect();
        // Names of a database come sorted already, which this sort notices.
        ordinals.sort_by(|a, b| self.name(*a).cmp(self.name(*b)));
        ordinals
    }
}

fn nth_name<'a>(text: &'a str, ends: &[usize], ordinal: u32) -> &'a str {
    let ordinal = ordinal as usize;
    let start = ordinal.checked_sub(1).map_or(0, |before| ends[before]);
    &text[start..ends[ordinal]]
}

impl fmt::Debug for Roster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries((0..).take(self.len()).map(|ordinal| self.name(ordinal))).finish()
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

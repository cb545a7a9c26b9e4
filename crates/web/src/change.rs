//! What an admin's change of access does, as a value: planned, shown, and then applied as it was shown.

use std::{collections::HashSet, time::Duration};

use omnitool_database::{AnyConnection, read_snapshot, write_transaction};
use omnitool_tool_access::{Change, lock_facts};
use sha2::{Digest as _, Sha256};

use crate::{
    session::{Admin, AdminError},
    store::{
        self,
        fact::{Reach, UserFacts, Users},
        history::EventRow,
        tool::ToolRow,
        user::Filter,
    },
    token,
};

/// How long a change waits for others, in all: an admin is told so, and nothing happens later.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// How many names a plan lists; all are counted.
const MOST_LISTED: usize = 50;
/// The most characters in a reason.
const MAX_REASON: usize = 500;

/// What an admin wants to be so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Wish {
    /// Everyone may use the tool, but for those who are excluded.
    Everyone,
    /// Only those with a grant may.
    NotEveryone,
    /// Everyone may, and the chosen users must not.
    EveryoneExcept,
    Grant,
    Revoke,
    Exclude,
    Include,
}

/// Whom the wish is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Selection {
    /// Nobody in particular.
    Nobody,
    /// These, by name.
    Named(Vec<String>),
    /// Whom the filter matches.
    Matching(Filter),
}

/// A wish about a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Wish {
        tool_id: i64,
        wish: Wish,
        selection: Selection,
    },
    /// The opposite of what was done under this key of the history.
    Undo {
        run: i64,
    },
}

/// Names, of which only the first are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) count: u64,
    pub(crate) first: Vec<String>,
}

/// What a change does.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) struct Plan {
    pub(crate) tool: ToolRow,
    /// What becomes of the wildcard.
    pub(crate) everyone: Option<Change>,
    /// The users whose fact changes, by key.
    grants: Vec<i64>,
    revocations: Vec<i64>,
    exclusions: Vec<i64>,
    inclusions: Vec<i64>,
    /// The same by name, as many as are shown.
    pub(crate) granted: Names,
    pub(crate) revoked: Names,
    pub(crate) excluded: Names,
    pub(crate) included: Names,
    /// Chosen users for whom it is so already.
    pub(crate) already: u64,
    /// Users for whom a later change stays that changed again what is undone.
    pub(crate) kept: Names,
    /// Whether it stays so for everyone.
    pub(crate) keeps_everyone: bool,
    /// Who may use the tool then, and may not now.
    pub(crate) gain: Names,
    /// Who may use the tool now, and may not then.
    pub(crate) lose: Names,
    /// Users who are excluded already and stay so, where everyone is let in.
    pub(crate) stay_excluded: Names,
    /// The keys of these three, of whom only some are named.
    gaining: Keys,
    losing: Keys,
    staying: Keys,
}

/// Keys, of which only a digest is kept: there may be as many as there are users.
#[derive(Clone, Debug, Default)]
struct Keys(Sha256);

/// Why there is no plan, or it was not applied; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    #[error("there is no such tool")]
    UnknownTool,
    #[error("there is nothing under this key that can be undone")]
    NothingToUndo,
    #[error("no user is named")]
    NobodyNamed,
    #[error("there are users of these names neither here nor elsewhere")]
    UnknownUsers(Names),
    #[error("the reason is longer than {MAX_REASON} characters")]
    LongReason,
    /// Facts or users have changed since the plan was shown.
    #[error("the plan is not what was shown")]
    Stale(Box<Plan>),
    #[error("whoever asked for it is no admin any more")]
    Admin(#[from] AdminError),
    #[error("the database refused")]
    Query(#[from] diesel::result::Error),
}

impl Names {
    pub(crate) fn add(&mut self, name: &str) {
        self.count += 1;
        if self.first.len() < MOST_LISTED {
            self.first.push(name.to_owned());
        }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl Keys {
    /// Takes the next key; users are seen in the order of theirs.
    fn add(&mut self, key: i64) {
        self.0.update(key.to_be_bytes());
    }

    fn digest(&self) -> [u8; 32] {
        self.0.clone().finalize().into()
    }
}

impl PartialEq for Keys {
    fn eq(&self, other: &Self) -> bool {
        self.digest() == other.digest()
    }
}

impl Eq for Keys {}

impl Plan {
    pub(crate) fn new(tool: ToolRow, everyone: Option<Change>) -> Self {
        Self {
            tool,
            everyone,
            grants: Vec::new(),
            revocations: Vec::new(),
            exclusions: Vec::new(),
            inclusions: Vec::new(),
            granted: Names::default(),
            revoked: Names::default(),
            excluded: Names::default(),
            included: Names::default(),
            already: 0,
            kept: Names::default(),
            keeps_everyone: false,
            gain: Names::default(),
            lose: Names::default(),
            stay_excluded: Names::default(),
            gaining: Keys::default(),
            losing: Keys::default(),
            staying: Keys::default(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.everyone.is_none() && self.changes().iter().all(|(_, keys)| keys.is_empty())
    }

    /// What changes for whom.
    fn changes(&self) -> [(Change, &[i64]); 4] {
        [
            (Change::Grant, &self.grants),
            (Change::Revoke, &self.revocations),
            (Change::Exclude, &self.exclusions),
            (Change::Include, &self.inclusions),
        ]
    }

    /// Whether something is left as a later change made it.
    pub(crate) const fn keeps(&self) -> bool {
        self.keeps_everyone || !self.kept.is_empty()
    }

    /// Whether somebody has to be asked why.
    pub(crate) const fn excludes(&self) -> bool {
        !self.exclusions.is_empty()
    }

    /// Tells plans apart that change different facts, let other people in or out, or leave others excluded.
    pub(crate) fn fingerprint(&self) -> String {
        let mut digest = Sha256::new();
        digest.update(self.tool.id.to_be_bytes());
        digest.update(self.everyone.map_or("", Change::as_str));
        for (change, keys) in self.changes() {
            digest.update(change.as_str());
            digest.update((keys.len() as u64).to_be_bytes());
            keys.iter().for_each(|key| digest.update(key.to_be_bytes()));
        }
        // Each of one length, so that nobody slips from one list into the next.
        for keys in [&self.gaining, &self.losing, &self.staying] {
            digest.update(keys.digest());
        }
        token::hex(&digest.finalize())
    }

    /// Takes a user into account of whom `wanted` should become so.
    fn see(&mut self, user: &UserFacts, was_for_everyone: bool, wanted: Option<Change>) {
        let change = wanted.filter(|change| changes(user, *change));
        self.already += u64::from(wanted.is_some() && change.is_none());
        let (mut is_granted, mut is_excluded) = (user.is_granted, user.is_excluded);
        match change {
            Some(Change::Grant) => {
                is_granted = true;
                self.grants.push(user.id);
                self.granted.add(&user.username);
            }
            Some(Change::Revoke) => {
                is_granted = false;
                self.revocations.push(user.id);
                self.revoked.add(&user.username);
            }
            Some(Change::Exclude) => {
                is_excluded = true;
                self.exclusions.push(user.id);
                self.excluded.add(&user.username);
            }
            Some(Change::Include) => {
                is_excluded = false;
                self.inclusions.push(user.id);
                self.included.add(&user.username);
            }
            Some(Change::GrantEveryone | Change::RevokeEveryone) | None => {}
        }
        let is_for_everyone = match self.everyone {
            Some(Change::GrantEveryone) => true,
            Some(Change::RevokeEveryone) => false,
            _ => was_for_everyone,
        };
        let may = |everyone, granted, excluded: bool| {
            self.tool.is_active && user.is_active && (everyone || granted) && !excluded
        };
        match (
            may(was_for_everyone, user.is_granted, user.is_excluded),
            may(is_for_everyone, is_granted, is_excluded),
        ) {
            (false, true) => {
                self.gain.add(&user.username);
                self.gaining.add(user.id);
            }
            (true, false) => {
                self.lose.add(&user.username);
                self.losing.add(user.id);
            }
            _ => {}
        }
        if self.everyone == Some(Change::GrantEveryone) && user.is_excluded && is_excluded {
            self.stay_excluded.add(&user.username);
            self.staying.add(user.id);
        }
    }
}

/// Whether `change` would change anything for the user.
const fn changes(user: &UserFacts, change: Change) -> bool {
    match change {
        Change::Grant => !user.is_granted,
        Change::Revoke => user.is_granted,
        Change::Exclude => !user.is_excluded,
        Change::Include => user.is_excluded,
        Change::GrantEveryone | Change::RevokeEveryone => false,
    }
}

/// The change that takes `change` back.
const fn inverse(change: Change) -> Change {
    match change {
        Change::Grant => Change::Revoke,
        Change::Revoke => Change::Grant,
        Change::Exclude => Change::Include,
        Change::Include => Change::Exclude,
        Change::GrantEveryone => Change::RevokeEveryone,
        Change::RevokeEveryone => Change::GrantEveryone,
    }
}

impl Wish {
    /// The name that forms have.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Everyone => "everyone",
            Self::NotEveryone => "not-everyone",
            Self::EveryoneExcept => "everyone-except",
            Self::Grant => "grant",
            Self::Revoke => "revoke",
            Self::Exclude => "exclude",
            Self::Include => "include",
        }
    }

    /// What the wildcard should become.
    const fn of_everyone(self) -> Option<Change> {
        match self {
            Self::Everyone | Self::EveryoneExcept => Some(Change::GrantEveryone),
            Self::NotEveryone => Some(Change::RevokeEveryone),
            Self::Grant | Self::Revoke | Self::Exclude | Self::Include => None,
        }
    }

    /// What should become so for each chosen user.
    const fn of_user(self) -> Option<Change> {
        match self {
            Self::Grant => Some(Change::Grant),
            Self::Revoke => Some(Change::Revoke),
            Self::Exclude | Self::EveryoneExcept => Some(Change::Exclude),
            Self::Include => Some(Change::Include),
            Self::Everyone | Self::NotEveryone => None,
        }
    }
}

/// What `request` would do. Reads only.
pub(crate) fn plan(conn: &mut AnyConnection, request: &Request) -> Result<Plan, ChangeError> {
    read_snapshot(conn, |conn| plan_now(conn, request))
}

/// Does what was shown, in one transaction, and returns its key in the history; none where there was nothing to do.
///
/// Fails where that would not be what was shown, by `fingerprint`.
pub(crate) fn apply(
    conn: &mut AnyConnection,
    request: &Request,
    reason: Option<&str>,
    fingerprint: &str,
    admin: &Admin,
) -> Result<Option<i64>, ChangeError> {
    if reason.is_some_and(|reason| reason.chars().count() > MAX_REASON) {
        return Err(ChangeError::LongReason);
    }
    write_transaction(conn, |conn| {
        lock_facts(conn, LONGEST_WAIT)?;
        admin.check(conn)?;
        let plan = plan_now(conn, request)?;
        if plan.fingerprint() != fingerprint {
            return Err(ChangeError::Stale(Box::new(plan)));
        }
        if plan.is_empty() {
            return Ok(None);
        }
        let run = store::fact::insert_run(conn, &admin.viewer.username)?;
        if let Some(change) = plan.everyone {
            store::fact::change_wildcard(conn, run, plan.tool.id, change)?;
        }
        for (change, keys) in plan.changes() {
            store::fact::change_users(conn, run, plan.tool.id, change, keys, reason)?;
        }
        Ok(Some(run))
    })
}

fn plan_now(conn: &mut AnyConnection, request: &Request) -> Result<Plan, ChangeError> {
    match request {
        Request::Wish { tool_id, wish, selection } => plan_wish(conn, *tool_id, *wish, selection),
        Request::Undo { run } => plan_undo(conn, *run),
    }
}

fn plan_wish(
    conn: &mut AnyConnection,
    tool_id: i64,
    wish: Wish,
    selection: &Selection,
) -> Result<Plan, ChangeError> {
    let tool = store::tool::find_tool(conn, tool_id)?.ok_or(ChangeError::UnknownTool)?;
    let keys = match selection {
        Selection::Named(names) => resolve(conn, names)?,
        Selection::Nobody | Selection::Matching(_) => Vec::new(),
    };
    let users = match selection {
        Selection::Matching(filter) => Users::Matching(filter),
        Selection::Named(_) | Selection::Nobody => Users::Keys(&keys),
    };
    // Also an exception needs one: whoever means everyone says so.
    let needs_users = wish.of_user().is_some();
    if needs_users && keys.is_empty() && !matches!(selection, Selection::Matching(_)) {
        return Err(ChangeError::NobodyNamed);
    }
    let is_for_everyone = store::fact::has_wildcard(conn, tool_id)?;
    let everyone = wish.of_everyone().filter(|change| changes_wildcard(is_for_everyone, *change));
    let mut plan = Plan::new(tool, everyone);
    plan.already += u64::from(wish.of_everyone().is_some() && everyone.is_none());
    let reach = if everyone.is_some() { Reach::Everybody } else { Reach::Selected };
    store::fact::each_user(conn, tool_id, users, reach, |user| {
        let wanted = wish.of_user().filter(|_| user.is_selected);
        plan.see(&user, is_for_everyone, wanted);
    })?;
    Ok(plan)
}

fn plan_undo(conn: &mut AnyConnection, run: i64) -> Result<Plan, ChangeError> {
    let entry = store::history::find_run(conn, run)?.ok_or(ChangeError::NothingToUndo)?;
    // What programs do is undone by them: an import by another import.
    if entry.admin.is_none() {
        return Err(ChangeError::NothingToUndo);
    }
    let events = store::history::list_run_events(conn, run)?;
    let tool_id = events.first().map(|event| event.tool_id).ok_or(ChangeError::NothingToUndo)?;
    if events.iter().any(|event| event.tool_id != tool_id) {
        return Err(ChangeError::NothingToUndo);
    }
    let tool = store::tool::find_tool(conn, tool_id)?.ok_or(ChangeError::UnknownTool)?;
    let is_for_everyone = store::fact::has_wildcard(conn, tool_id)?;
    let opposite = |event: &EventRow| event.change.map(inverse);
    // What was changed again later has reasons of its own, and may look the same by now.
    let later: HashSet<(i64, Change)> =
        store::history::list_later_changes(conn, run, tool_id)?.into_iter().collect();
    let is_later = |user_id: i64, change: Change| {
        later.contains(&(user_id, change)) || later.contains(&(user_id, inverse(change)))
    };
    let of_everyone = events.iter().find(|event| event.user_id == store::fact::EVERYONE);
    let undone_everyone = of_everyone.and_then(opposite);
    let wanted_everyone =
        undone_everyone.filter(|change| !is_later(store::fact::EVERYONE, *change));
    let everyone = wanted_everyone.filter(|change| changes_wildcard(is_for_everyone, *change));
    let mut wanted: Vec<(i64, Change)> = events
        .iter()
        .filter(|event| event.user_id != store::fact::EVERYONE)
        .filter_map(|event| Some((event.user_id, opposite(event)?)))
        .collect();
    wanted.sort_unstable_by_key(|(user_id, _)| *user_id);
    let keys: Vec<i64> = wanted.iter().map(|(user_id, _)| *user_id).collect();
    let mut plan = Plan::new(tool, everyone);
    plan.already += u64::from(wanted_everyone.is_some() && everyone.is_none());
    plan.keeps_everyone = undone_everyone.is_some() && wanted_everyone.is_none();
    // A statement cannot name any number of keys; then everybody is looked at.
    let (users, reach) = if everyone.is_some() || keys.len() > store::fact::MOST_KEYS {
        (Users::Keys(&[]), Reach::Everybody)
    } else {
        (Users::Keys(&keys), Reach::Selected)
    };
    store::fact::each_user(conn, tool_id, users, reach, |user| {
        let at = wanted.binary_search_by_key(&user.id, |(user_id, _)| *user_id);
        let undone = at.ok().map(|at| wanted[at].1);
        let wanted = undone.filter(|change| !is_later(user.id, *change));
        if undone.is_some() && wanted.is_none() {
            plan.kept.add(&user.username);
        }
        plan.see(&user, is_for_everyone, wanted);
    })?;
    Ok(plan)
}

fn changes_wildcard(is_for_everyone: bool, change: Change) -> bool {
    (change == Change::GrantEveryone) != is_for_everyone
}

/// The keys of users by name; all must be known, since a mistyped exception would let somebody in.
fn resolve(conn: &mut AnyConnection, names: &[String]) -> Result<Vec<i64>, ChangeError> {
    let found = store::user::find_user_ids(conn, names)?;
    let mut unknown = Names::default();
    let known: HashSet<&str> = found.iter().map(|(_, name)| name.as_str()).collect();
    names.iter().filter(|name| !known.contains(name.as_str())).for_each(|name| unknown.add(name));
    if !unknown.is_empty() {
        return Err(ChangeError::UnknownUsers(unknown));
    }
    let mut keys: Vec<i64> = found.into_iter().map(|(id, _)| id).collect();
    keys.sort_unstable();
    keys.dedup();
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tool() -> ToolRow {
        ToolRow {
            id: 1,
            name: "Invoice Generator".to_owned(),
            description: String::new(),
            route: "/invoice_generator".to_owned(),
            is_default: false,
            is_active: true,
        }
    }

    fn user(id: i64, [is_active, is_granted, is_excluded]: [bool; 3]) -> UserFacts {
        let username = format!("user_{id}");
        UserFacts { id, username, is_active, is_granted, is_excluded, is_selected: true }
    }

    #[test]
    fn everyone_except_lets_all_in_but_the_chosen_and_those_who_were_out_before() {
        let mut plan = Plan::new(tool(), Some(Change::GrantEveryone));
        plan.see(&user(1, [true, false, false]), false, Some(Change::Exclude));
        plan.see(&user(2, [true, false, false]), false, None);
        plan.see(&user(3, [true, true, false]), false, None);
        plan.see(&user(4, [true, false, true]), false, None);
        plan.see(&user(5, [false, false, false]), false, None);
        assert_eq!(plan.excluded.first, ["user_1"]);
        assert_eq!(plan.gain.first, ["user_2"]);
        assert_eq!(plan.stay_excluded.first, ["user_4"]);
        assert!(plan.lose.is_empty() && plan.excludes());
    }

    #[test]
    fn a_plan_is_another_one_where_others_gain_lose_or_stay_excluded() {
        let shown = |facts: &[[bool; 3]]| {
            let mut plan = Plan::new(tool(), Some(Change::GrantEveryone));
            (1..).zip(facts).for_each(|(id, facts)| plan.see(&user(id, *facts), false, None));
            (plan.gain.count, plan.stay_excluded.count, plan.fingerprint())
        };
        let (free, excluded) = ([true, false, false], [true, false, true]);
        let (gain, stay, before) = shown(&[free, excluded]);
        let (same_gain, same_stay, after) = shown(&[excluded, free]);
        assert_eq!((gain, stay), (same_gain, same_stay));
        assert_ne!(before, after);

        // Nobody gains in either: only who stays excluded differs.
        let granted = [true, true, false];
        let out = [true, true, true];
        assert_ne!(shown(&[granted, out]).2, shown(&[out, granted]).2);

        let lost = |facts: &[[bool; 3]]| {
            let mut plan = Plan::new(tool(), Some(Change::RevokeEveryone));
            (1..).zip(facts).for_each(|(id, facts)| plan.see(&user(id, *facts), true, None));
            (plan.lose.count, plan.fingerprint())
        };
        let (before, after) = (lost(&[free, granted]), lost(&[granted, free]));
        assert_eq!(before.0, after.0);
        assert_ne!(before.1, after.1);
        assert_eq!(lost(&[free, granted]), before);
    }

    proptest! {
        #[test]
        fn gains_and_losses_are_what_the_facts_say(
            facts in prop::collection::vec(any::<[bool; 3]>(), 0..30),
            was_for_everyone: bool,
            everyone in prop::sample::select(vec![None, Some(Change::GrantEveryone), Some(Change::RevokeEveryone)]),
            wanted in prop::sample::select(vec![None, Some(Change::Grant), Some(Change::Revoke), Some(Change::Exclude), Some(Change::Include)]),
        ) {
            let mut plan = Plan::new(tool(), everyone);
            let mut expected = (0, 0);
            for (id, facts) in (1..).zip(&facts) {
                plan.see(&user(id, *facts), was_for_everyone, wanted);
                let [active, granted, excluded] = *facts;
                let before = active && (granted || was_for_everyone) && !excluded;
                let granted = (granted || wanted == Some(Change::Grant)) && wanted != Some(Change::Revoke);
                let excluded = (excluded || wanted == Some(Change::Exclude)) && wanted != Some(Change::Include);
                let everyone = everyone.map_or(was_for_everyone, |change| change == Change::GrantEveryone);
                let after = active && (granted || everyone) && !excluded;
                expected.0 += u64::from(after && !before);
                expected.1 += u64::from(before && !after);
            }
            prop_assert_eq!((plan.gain.count, plan.lose.count), expected);
            let changed: usize = plan.changes().iter().map(|(_, keys)| keys.len()).sum();
            let asked = if wanted.is_some() { facts.len() } else { 0 };
            prop_assert_eq!(changed as u64 + plan.already, asked as u64);
        }

        #[test]
        fn whatever_was_done_is_undone_by_its_opposite(facts: [bool; 3], change in prop::sample::select(vec![Change::Grant, Change::Revoke, Change::Exclude, Change::Include])) {
            let mut user = user(1, facts);
            let before = user.clone();
            prop_assume!(changes(&user, change));
            for change in [change, inverse(change)] {
                match change {
                    Change::Grant => user.is_granted = true,
                    Change::Revoke => user.is_granted = false,
                    Change::Exclude => user.is_excluded = true,
                    _ => user.is_excluded = false,
                }
            }
            prop_assert_eq!(user, before);
        }
    }
}

//! An app's releases as Heroku counts them, and which of ours each of them is.

use std::{collections::BTreeMap, fmt};

use omnitool_heroku::{Heroku, HerokuError, Release, ReleaseStatus};

use super::HerokuPlatformError;
use crate::{Artifact, ReleaseId};

/// The most that Heroku lists at once.
const MOST: usize = 1000;
/// How many digits of an artifact's SHA-256 tell it from others.
const DIGITS: usize = 12;
const DEPLOY: &str = "Deploy ";
const PROMOTE: &str = "Promote ";
const ROLLBACK: &str = "Rollback to v";

/// What Heroku knows a release of ours by: its number and its artifact, as a slug's `commit` and in a release's description.
///
/// A build's release is described by the first eight letters of it only, which have the number in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Label {
    pub(super) release: ReleaseId,
    pub(super) artifact: String,
}

impl Label {
    pub(super) fn new(release: ReleaseId, artifact: &Artifact) -> Self {
        let digits = artifact.sha256.get(..DIGITS).unwrap_or(&artifact.sha256);
        Self { release, artifact: digits.to_owned() }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let (release, artifact) = text.split_once('-')?;
        let is_hash = !artifact.is_empty()
            && artifact.len() <= DIGITS
            && artifact.bytes().all(|byte| byte.is_ascii_hexdigit());
        let release = release.parse().ok()?;
        is_hash.then(|| Self { release, artifact: artifact.to_owned() })
    }

    fn of(description: &str) -> Option<Self> {
        Self::parse(description.strip_prefix(DEPLOY)?)
    }

    /// The description of the release that is made for it.
    pub(super) fn description(&self) -> String {
        format!("{DEPLOY}{self}")
    }

    /// Whether both are of one artifact, as far as their digits go.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.release == other.release
            && (self.artifact.starts_with(&other.artifact)
                || other.artifact.starts_with(&self.artifact))
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.release, self.artifact)
    }
}

/// The releases of an app.
#[derive(Debug)]
pub(super) struct Ledger {
    /// Newest first.
    releases: Vec<Release>,
    /// Of which release of ours a slug is.
    slugs: BTreeMap<String, Label>,
}

impl Ledger {
    pub(super) fn read(heroku: &Heroku, app: &str) -> Result<Self, HerokuError> {
        let mut ledger = Self::new(heroku.releases(app, MOST)?);
        // The description of a promoted slug is of the app that it came from.
        let promoted: Vec<String> = ledger
            .releases
            .iter()
            .filter(|release| release.description.starts_with(PROMOTE))
            .filter_map(|release| release.slug.as_ref().map(|slug| slug.id.clone()))
            .filter(|slug| !ledger.slugs.contains_key(slug))
            .collect();
        for slug in promoted {
            if ledger.slugs.contains_key(&slug) {
                continue;
            }
            let commit = heroku.slug(app, &slug)?.commit;
            if let Some(label) = commit.as_deref().and_then(Label::parse) {
                ledger.slugs.insert(slug, label);
            }
        }
        Ok(ledger)
    }

    fn new(releases: Vec<Release>) -> Self {
        let slugs = releases
            .iter()
            .filter_map(|release| {
                Some((release.slug.as_ref()?.id.clone(), Label::of(&release.description)?))
            })
            .collect();
        Self { releases, slugs }
    }

    /// The newest version; 0 where there is none.
    pub(super) fn newest_version(&self) -> u64 {
        self.releases.first().map_or(0, |release| release.version)
    }

    /// The release that dynos run, where it has code.
    pub(super) fn current(&self) -> Option<&Release> {
        self.releases.iter().find(|release| release.current && release.slug.is_some())
    }

    /// The release of this version.
    pub(super) fn version(&self, version: u64) -> Option<&Release> {
        self.releases.iter().find(|release| release.version == version)
    }

    pub(super) fn label(&self, release: &Release) -> Option<&Label> {
        self.slugs.get(&release.slug.as_ref()?.id)
    }

    fn number(&self, release: &Release) -> Option<ReleaseId> {
        self.label(release).map(|label| label.release)
    }

    /// The release of ours that dynos run.
    pub(super) fn serving(&self) -> Option<ReleaseId> {
        self.number(self.current()?)
    }

    /// The newest release of ours, whether it serves or not.
    pub(super) fn newest(&self) -> Option<ReleaseId> {
        self.slugs.values().map(|label| label.release).max()
    }

    /// What Heroku made for `label`, newest first: one for each attempt.
    pub(super) fn attempts(&self, label: &Label) -> impl Iterator<Item = &Release> {
        self.releases.iter().filter(move |release| self.is_attempt(release, label))
    }

    fn is_attempt(&self, release: &Release, label: &Label) -> bool {
        self.made(release).is_some_and(|found| found.is_same(label))
    }

    /// What was deployed with `release`, where something was.
    fn made(&self, release: &Release) -> Option<Label> {
        if release.description.starts_with(PROMOTE) {
            self.label(release).cloned()
        } else {
            Label::of(&release.description)
        }
    }

    /// The releases whose release phases still run, oldest first.
    pub(super) fn pending(&self) -> impl Iterator<Item = &Release> {
        self.releases.iter().rev().filter(|release| release.status == ReleaseStatus::Pending)
    }

    /// The artifact of `release`, where that is another one than `label`'s.
    pub(super) fn other_artifact(&self, label: &Label) -> Option<&Label> {
        self.slugs.values().find(|other| other.release == label.release && !other.is_same(label))
    }

    /// The newest version of `release` that can be rolled back to.
    pub(super) fn eligible(&self, release: ReleaseId) -> Option<&Release> {
        self.releases.iter().find(|found| {
            found.status == ReleaseStatus::Succeeded && self.number(found) == Some(release)
        })
    }

    /// The release of ours that served when `release` was made.
    pub(super) fn before(&self, release: ReleaseId) -> Option<ReleaseId> {
        let first = self.releases.iter().rposition(|found| self.number(found) == Some(release))?;
        self.releases[first..]
            .iter()
            .filter(|found| found.status == ReleaseStatus::Succeeded)
            .filter_map(|found| self.number(found))
            .find(|number| *number != release)
    }

    /// A release after the version `known` that is none of `own`.
    pub(super) fn foreign(&self, known: u64, own: &Own<'_>) -> Option<&Release> {
        self.releases
            .iter()
            .filter(|release| release.version > known)
            .find(|release| !own.is_own(self, release))
    }

    /// Fails where a release after the version `known` is none of `own`.
    pub(super) fn check(
        &self,
        app: &str,
        known: u64,
        own: &Own<'_>,
    ) -> Result<(), HerokuPlatformError> {
        self.foreign(known, own).map_or(Ok(()), |release| {
            Err(HerokuPlatformError::Foreign {
                app: app.to_owned(),
                version: release.version,
                description: release.description.clone(),
            })
        })
    }
}

/// What the releases of a run look like, also those that it made before it died.
pub(super) struct Own<'a> {
    /// What it makes. Whether that is of its own artifact is looked at apart.
    pub(super) release: Option<ReleaseId>,
    /// The variables that it sets.
    pub(super) variables: &'a [String],
    /// The version that it goes back to where its release does not serve.
    pub(super) noted: Option<u64>,
    /// Whether it gives the app another database.
    pub(super) attaches: bool,
}

impl Own<'_> {
    fn is_own(&self, ledger: &Ledger, release: &Release) -> bool {
        let Self { release: own, variables, noted, attaches } = self;
        let text = release.description.as_str();
        let back = text.strip_prefix(ROLLBACK).map(|version| version.parse().ok());
        let set = text.strip_prefix("Set ").and_then(|rest| rest.strip_suffix(" config vars"));
        match (back, set) {
            (Some(back), _) => back.is_some() && back == *noted,
            (_, Some(set)) => {
                set.split(", ").all(|name| variables.iter().any(|known| known == name))
            }
            _ if is_attachment(text) => *attaches,
            _ => own.is_some() && ledger.made(release).map(|label| label.release) == *own,
        }
    }
}

/// Whether this describes a change of the add-ons, also one that Heroku Postgres makes by itself.
fn is_attachment(text: &str) -> bool {
    ["Attach ", "Detach "].iter().any(|begins| text.starts_with(begins))
        || text.ends_with(" by heroku-postgresql")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn release(
        version: u64,
        description: &str,
        slug: Option<&str>,
        status: &str,
        current: bool,
    ) -> Release {
        let slug = slug.map(|id| json!({ "id": id }));
        serde_json::from_value(json!({
            "id": format!("id-{version}"), "version": version, "status": status,
            "description": description, "current": current, "slug": slug,
        }))
        .unwrap()
    }

    fn ledger() -> Ledger {
        Ledger::new(vec![
            release(9, "Rollback to v4", Some("a"), "succeeded", true),
            release(8, "Deploy 0003-c3", Some("c"), "failed", false),
            release(7, "Set OMNITOOL_ENV, OTHER config vars", Some("b"), "succeeded", false),
            release(6, "Deploy 0002-b2", Some("b"), "succeeded", false),
            release(5, "Set OMNITOOL_ENV config vars", Some("a"), "succeeded", false),
            release(4, "Deploy 0001-a1", Some("a"), "succeeded", false),
            release(3, "Deploy 1a2b3c4d", Some("x"), "succeeded", false),
            release(2, "Attach DATABASE", None, "succeeded", false),
        ])
    }

    fn id(text: &str) -> ReleaseId {
        text.parse().unwrap()
    }

    #[test]
    fn a_release_is_known_by_its_slug_whatever_it_is_called() {
        let ledger = ledger();
        assert_eq!(ledger.serving(), Some(id("0001")));
        assert_eq!(ledger.newest(), Some(id("0003")));
        assert_eq!(ledger.eligible(id("0001")).unwrap().version, 9);
        assert_eq!(ledger.eligible(id("0002")).unwrap().version, 7);
        assert!(ledger.eligible(id("0003")).is_none());
        assert_eq!(ledger.before(id("0002")), Some(id("0001")));
        assert_eq!(ledger.before(id("0001")), None);
    }

    #[test]
    fn what_somebody_else_did_is_found() {
        let ledger = ledger();
        let variables = ["OMNITOOL_ENV".to_owned()];
        let own = Own {
            release: Some(id("0003")),
            variables: &variables,
            noted: Some(4),
            attaches: false,
        };
        let found = |known| ledger.foreign(known, &own).map(|release| release.version);
        assert_eq!(found(7), None);
        assert_eq!(found(6), Some(7));
        let other = Own { noted: Some(3), ..own };
        assert_eq!(ledger.foreign(7, &other).map(|release| release.version), Some(9));
    }

    #[test]
    fn another_database_is_the_run_s_own_only_where_it_gives_the_app_one() {
        let ledger = Ledger::new(ledger().releases.split_off(7));
        for (attaches, found) in [(true, None), (false, Some(2))] {
            let own = Own { release: None, variables: &[], noted: None, attaches };
            let foreign = ledger.foreign(1, &own).map(|release| release.version);
            assert_eq!(foreign, found);
        }
    }

    #[test]
    fn a_label_survives_what_heroku_makes_of_it() {
        let whole = Label::parse("0003-0123456789ab").unwrap();
        assert!(Label::parse("0003-012").unwrap().is_same(&whole));
        for text in ["0003", "3-ab", "0003-", "0003-xyz", "1a2b3c4d", "0003-0123456789abc"] {
            assert_eq!(Label::parse(text), None, "{text}");
        }
    }
}

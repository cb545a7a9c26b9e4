//! Encrypted backups.

use std::path::PathBuf;

use age::{secrecy::ExposeSecret as _, x25519};
use omnitool_backup::{
    BackupId, Catalog, Keys, Kind, Manifest, Method, PlanRollbackError, RehearsalHooks,
    UnsealError, VerifyError, Wanted, capture, verify,
};
use omnitool_testing::fixture;

use crate::Site;

/// A site whose backups are encrypted, with a catalog that can read them.
struct Sealed {
    site: Site,
    /// As it is on the machine that takes backups: with recipients only.
    blind: Catalog,
    identity: PathBuf,
}

impl Sealed {
    fn new() -> Self {
        let mut site = Site::new();
        let key = x25519::Identity::generate();
        let identity = site.elsewhere("backup.key");
        std::fs::write(&identity, key.to_string().expose_secret()).unwrap();
        let recipients = vec![key.to_public().to_string().parse().unwrap()];
        let blind = site.catalog.clone().with_keys(Keys { recipients, identity: None });
        let keys = Keys { recipients: Vec::new(), identity: Some(identity.clone()) };
        site.catalog = site.catalog.with_keys(keys);
        Self { site, blind, identity }
    }

    fn capture(&self) -> Manifest {
        capture(&self.blind, &*self.site.store, Kind::Manual, None, &mut |_| ()).unwrap()
    }

    /// The names of all files in the folder of the backups.
    fn files(&self) -> Vec<String> {
        let folder = std::fs::read_dir(self.blind.folder()).unwrap();
        let mut names: Vec<String> =
            folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    }

    /// Whether any file in the folder of the backups has these bytes.
    fn shows(&self, text: &str) -> bool {
        self.files().iter().any(|name| {
            let bytes = std::fs::read(self.blind.folder().join(name)).unwrap();
            bytes.windows(text.len()).any(|window| window == text.as_bytes())
        })
    }
}

fn check(sealed: &Sealed, catalog: &Catalog, id: BackupId) -> Result<Manifest, VerifyError> {
    let hooks = &mut RehearsalHooks { progress: &mut |_| (), check: &mut |_| Ok(()) };
    verify(catalog, &*sealed.site.store, id, Some(hooks))
}

#[test]
fn nothing_of_an_encrypted_backup_lies_there_in_clear() {
    let sealed = Sealed::new();
    let backup = sealed.capture();
    assert!(backup.file.ends_with(".sqlite3.age"), "{}", backup.file);
    assert_eq!(sealed.files(), [backup.file.as_str(), "b001.json", "last-id"]);
    assert!(!sealed.shows("password_hash") && !sealed.shows("SQLite format"));
    let manifest = std::fs::read_to_string(sealed.blind.folder().join("b001.json")).unwrap();
    assert!(manifest.contains("\"version\": 2") && manifest.contains("\"age1"), "{manifest}");
    // The digests are of the file that lies there.
    let file = sealed.blind.file(&backup);
    assert_eq!(std::fs::metadata(&file).unwrap().len(), backup.size);
}

#[test]
fn an_encrypted_backup_is_restored_and_undone_and_its_safety_backup_is_encrypted() {
    let sealed = Sealed::new();
    let site = &sealed.site;
    let then = site.dump();
    sealed.capture();
    fixture::user(&mut site.db.connection(), "bob_the_builder");
    let now = site.dump();
    let safety = site.rollback(&Wanted::Latest).unwrap();
    assert_eq!(site.dump(), then);
    assert!(!site.catalog.find(safety).unwrap().encrypted_to.is_empty());
    assert!(!sealed.shows("bob_the_builder") && !sealed.shows("SQLite format"));
    site.rollback(&Wanted::BeforeLastRollback);
    assert_eq!(site.dump(), now);
    // As a file from elsewhere.
    let copy = site.elsewhere("copy.age");
    std::fs::copy(site.catalog.file(&site.catalog.find(BackupId::new(1)).unwrap()), &copy).unwrap();
    site.rollback(&Wanted::File(copy));
    assert_eq!(site.dump(), then);
    assert_eq!(site.beside(), ["omnitool.db"]);
    assert!(sealed.files().iter().all(|name| !name.contains("unsealed")), "{:?}", sealed.files());
}

#[test]
fn without_an_identity_only_the_digest_is_compared_and_nothing_is_restored() {
    let sealed = Sealed::new();
    let backup = sealed.capture();
    let checked = check(&sealed, &sealed.blind, backup.id).unwrap();
    assert_eq!(checked.verified.unwrap().how, Method::Digest);
    let checked = check(&sealed, &sealed.site.catalog, backup.id).unwrap();
    assert_eq!(checked.verified.unwrap().how, Method::OpenedCopy);

    let mut blind = Site::new();
    blind.catalog = sealed.blind.clone();
    let before = blind.dump();
    let error = blind.plan(&Wanted::Latest).unwrap_err();
    assert!(
        matches!(
            error,
            PlanRollbackError::Verify(VerifyError::Unseal(UnsealError::NoIdentity { .. }))
        ),
        "{error:?}"
    );
    assert_eq!(blind.dump(), before);

    // Found to be bad, it is not good again because it is still the same file.
    let file = sealed.blind.file(&backup);
    let good = std::fs::read(&file).unwrap();
    let mut bad = good.clone();
    bad[300] ^= 1;
    std::fs::write(&file, bad).unwrap();
    let error = check(&sealed, &sealed.blind, backup.id).unwrap_err();
    assert!(matches!(error, VerifyError::Changed { what: "SHA-256", .. }), "{error:?}");
    std::fs::write(&file, good).unwrap();
    assert!(check(&sealed, &sealed.blind, backup.id).is_err());
    assert!(check(&sealed, &sealed.site.catalog, backup.id).unwrap().verified.is_some());
}

#[test]
fn another_key_opens_nothing_and_takes_nothing_away() {
    let sealed = Sealed::new();
    let backup = sealed.capture();
    let key = x25519::Identity::generate();
    std::fs::write(&sealed.identity, key.to_string().expose_secret()).unwrap();
    let error = check(&sealed, &sealed.site.catalog, backup.id).unwrap_err();
    assert!(matches!(error, VerifyError::Unseal(UnsealError::Decrypt { .. })), "{error:?}");
    assert!(sealed.blind.find(backup.id).unwrap().verified.is_some());
    std::fs::remove_file(&sealed.identity).unwrap();
    let error = check(&sealed, &sealed.site.catalog, backup.id).unwrap_err();
    assert!(matches!(error, VerifyError::Unseal(UnsealError::ReadIdentity { .. })), "{error:?}");
}

#[test]
fn what_a_killed_run_left_decrypted_is_a_leftover() {
    let sealed = Sealed::new();
    sealed.capture();
    let left =
        [".unsealed-x", "b007.partial", "b007.partial.age", "b008-20261123T000000Z-x.sqlite3.age"];
    for name in left {
        std::fs::write(sealed.blind.folder().join(name), "alice").unwrap();
    }
    let retention = omnitool_backup::Retention {
        last: std::num::NonZeroUsize::MIN,
        daily: 0,
        weekly: 0,
        monthly: 0,
    };
    let site = &sealed.site;
    let plan = omnitool_backup::PrunePlan::load(&site.catalog, &*site.store, &retention).unwrap();
    assert_eq!(plan.leftovers, left);
    assert!(plan.apply(&site.catalog, &*site.store).failed.is_empty());
    assert!(!sealed.shows("alice"));
}

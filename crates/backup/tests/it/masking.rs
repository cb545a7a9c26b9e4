//! Masking copies of real databases.

use diesel::{connection::SimpleConnection as _, prelude::*, sql_types::Text};
use omnitool_backup::{
    for_url,
    masking::{
        MaskError, Masked, Masking, MaskingKey, MaskingPlan, MaskingRules, Rule, Schema, mask,
    },
    refresh::UnattachedCopy,
};
use omnitool_database::{
    AnyConnection, Dialect, Mode, open,
    schema::{user_session, users},
};
use omnitool_environment::EnvironmentName;
use omnitool_testing::{TestDatabase, fixture, on_both_databases};

const KEY: MaskingKey = MaskingKey::new([7; 32]);

fn shipped() -> Masking {
    Masking::Rules(MaskingRules::shipped().unwrap())
}

fn plan(conn: &mut AnyConnection) -> Result<MaskingPlan, String> {
    let schema = Schema::read(conn).unwrap();
    let newer = Schema::of_this_build().unwrap();
    MaskingPlan::new(&shipped(), &schema, &newer, conn.dialect()).map_err(|error| error.to_string())
}

/// Two people with everything that must go.
fn fill(conn: &mut AnyConnection) {
    let alice = fixture::user(conn, "alice");
    let user_a = fixture::user(conn, "user_a");
    let _nobody = fixture::user(conn, "no_contact");
    let tool = fixture::tool(conn, "Invoice Generator");
    fixture::grant(conn, alice, tool);
    fixture::exclude(conn, user_a, tool);
    conn.batch_execute(
        "UPDATE users SET email = username || '.real@corp.example', phone_number = '+49 170 555' || id, \
             password_hash = '$argon2id$v=19$secret-of-' || username WHERE username <> 'no_contact'; \
         UPDATE tool_access_exclusion SET reason = 'has shouted at the customers'; \
         INSERT INTO user_session (token_sha256, user_id, expires_at) \
             SELECT 'session-token-of-' || username, id, '2030-01-01 00:00:00' FROM users",
    )
    .unwrap();
}

/// A copy of `db` beside another database of its kind.
struct Beside {
    copy: UnattachedCopy,
    _target: TestDatabase,
    _folder: tempfile::TempDir,
}

fn copy(db: &TestDatabase) -> Beside {
    let target = TestDatabase::stamped(db.dialect(), EnvironmentName::Staging);
    let folder = tempfile::tempdir().unwrap();
    let source = for_url(db.url()).unwrap();
    let copy = UnattachedCopy::make(&*source, target.url(), folder.path(), &mut |_| ()).unwrap();
    Beside { copy, _target: target, _folder: folder }
}

fn masked(db: &TestDatabase, masking: &Masking) -> (Beside, Result<Masked, MaskError>) {
    let beside = copy(db);
    let result = mask(&beside.copy, masking, &KEY);
    (beside, result)
}

type Person = (String, Option<String>, String, Option<String>);

fn people(beside: &Beside) -> Vec<Person> {
    let mut conn = open(beside.copy.url(), Mode::Read).unwrap();
    users::table
        .select((users::username, users::email, users::password_hash, users::phone_number))
        .order(users::id)
        .load(&mut conn)
        .unwrap()
}

fn every_column_is_classified(db: TestDatabase) {
    // Adding a column to the schema and forgetting data/masking.toml fails here.
    assert_eq!(plan(&mut db.connection()).map(|_| ()), Ok(()));
}

fn an_unclassified_column_is_named(db: TestDatabase) {
    let mut conn = db.connection();
    conn.batch_execute(
        "ALTER TABLE users ADD COLUMN nickname TEXT; CREATE TABLE notes (id BIGINT, body TEXT)",
    )
    .unwrap();
    assert_eq!(
        plan(&mut conn).unwrap_err(),
        "the masking rules do not fit the schema\n  column notes.body is not classified\n  \
         column notes.id is not classified\n  column users.nickname is not classified"
    );
    let (_beside, result) = masked(&db, &shipped());
    assert!(matches!(result.unwrap_err(), MaskError::Plan(_)));
}

/// The same on both systems: one computes the hash in SQL, the other one in this program.
fn personal_data_goes_and_the_rest_stays(db: TestDatabase) {
    fill(&mut db.connection());
    let (beside, result) = masked(&db, &shipped());
    let Masked { changed, deleted, searched, .. } = result.unwrap();
    assert_eq!(changed["users"], 3);
    assert_eq!(deleted["user_session"], 3);
    assert!(searched > 6, "{searched}");
    let text = |text: &str| Some(text.to_owned());
    let person = |name: &str, email, phone| (name.to_owned(), email, "!".to_owned(), phone);
    assert_eq!(
        people(&beside),
        [
            person("alice", text("user-1-98f5f5e0@example.invalid"), text("+999 1 7617")),
            person("user_a", text("user-2-c3fbe403@example.invalid"), text("+999 2 7039")),
            person("no_contact", None, None),
        ]
    );
    let mut conn = open(beside.copy.url(), Mode::Read).unwrap();
    assert_eq!(user_session::table.count().get_result(&mut conn), Ok(0_i64));
    let reason: Value = diesel::sql_query("SELECT reason AS value FROM tool_access_exclusion")
        .get_result(&mut conn)
        .unwrap();
    assert_eq!(reason.value, "(reason not copied)");
}

#[derive(QueryableByName)]
struct Value {
    #[diesel(sql_type = Text)]
    value: String,
}

fn a_value_that_somebody_wrote_elsewhere_is_found(db: TestDatabase) {
    let mut conn = db.connection();
    fill(&mut conn);
    conn.batch_execute(
        "UPDATE tools SET description = 'Ask Alice.Real@corp.example for help'; \
         INSERT INTO tool_access_run (program, admin) VALUES ('omnitool', 'USER_A.REAL@corp.example')",
    )
    .unwrap();
    let (_beside, result) = masked(&db, &shipped());
    let error = result.unwrap_err();
    assert_eq!(
        error.to_string(),
        "values of masked columns are still in tool_access_run.admin (from users.email), tools.description (from users.email)"
    );
    assert!(!format!("{error:?}").to_lowercase().contains("corp.example"));
}

fn without_masking_credentials_still_go(db: TestDatabase) {
    fill(&mut db.connection());
    let (beside, result) = masked(&db, &Masking::CredentialsOnly);
    result.unwrap();
    let people = people(&beside);
    assert_eq!(people[0].1.as_deref(), Some("alice.real@corp.example"));
    assert!(people.iter().all(|(_, _, password, _)| password == "!"));
    let mut conn = open(beside.copy.url(), Mode::Read).unwrap();
    assert_eq!(user_session::table.count().get_result(&mut conn), Ok(0_i64));
}

fn rules_of_ones_own_can_hash(db: TestDatabase) {
    fill(&mut db.connection());
    let text = include_str!("../../../../data/masking.toml")
        .replace("username = \"keep\"", "username = \"hash\"")
        .replace("email = \"email\"", "email = \"name\"");
    let rules = MaskingRules::parse(&text, std::path::Path::new("masking.toml")).unwrap();
    let (beside, result) = masked(&db, &Masking::Rules(rules));
    let masked = result.unwrap();
    assert_eq!(masked.plan.rule("users", "username"), Some(&Rule::Hash));
    let people = people(&beside);
    assert_eq!(people[0].0, "fadefd76e1a357dcb702f180fd3b5144");
    assert_eq!(people[0].1.as_deref(), Some("Person 1-98f5"));
}

fn only_the_copy_can_be_masked(db: TestDatabase) {
    fill(&mut db.connection());
    let beside = copy(&db);
    let mut conn = open(beside.copy.url(), Mode::Write).unwrap();
    // As if another database had been put in its place.
    conn.batch_execute("DELETE FROM omnitool_unattached_copy").unwrap();
    drop(conn);
    let error = mask(&beside.copy, &shipped(), &KEY).unwrap_err().to_string();
    assert!(error.ends_with("is not the copy that was made"), "{error}");
    assert_eq!(people(&beside)[0].1.as_deref(), Some("alice.real@corp.example"));
}

/// Two rows are told apart by their keys, whatever those are.
fn unique_columns_stay_unique(db: TestDatabase) {
    let mut conn = db.connection();
    conn.batch_execute(
        "CREATE TABLE device (kind TEXT, number BIGINT, mail TEXT UNIQUE, phone TEXT UNIQUE, owner TEXT UNIQUE, \
             serial TEXT UNIQUE, PRIMARY KEY (kind, number)); \
         INSERT INTO device WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 499) \
             SELECT 'kind-' || (i % 7), i, 'mail-of-' || i || '@corp.example', '+49 170 ' || i, 'owner number ' || i, \
             'serial-number-' || i FROM n",
    )
    .unwrap();
    let text = include_str!("../../../../data/masking.toml").to_owned()
        + "[tables.device]\nkind = \"keep\"\nnumber = \"keep\"\nmail = \"email\"\nphone = \"phone\"\n\
           owner = \"name\"\nserial = \"hash\"\n";
    let rules = MaskingRules::parse(&text, std::path::Path::new("masking.toml")).unwrap();
    let (beside, result) = masked(&db, &Masking::Rules(rules));
    assert_eq!(result.unwrap().changed["device"], 500);
    let mut conn = open(beside.copy.url(), Mode::Read).unwrap();
    for column in ["mail", "phone", "owner", "serial"] {
        let query = format!("SELECT CAST(count(DISTINCT {column}) AS TEXT) AS value FROM device");
        let count: Value = diesel::sql_query(query).get_result(&mut conn).unwrap();
        assert_eq!(count.value, "500", "{column}");
    }
}

on_both_databases!(
    unique_columns_stay_unique,
    every_column_is_classified,
    an_unclassified_column_is_named,
    personal_data_goes_and_the_rest_stays,
    a_value_that_somebody_wrote_elsewhere_is_found,
    without_masking_credentials_still_go,
    rules_of_ones_own_can_hash,
    only_the_copy_can_be_masked,
);

#[test]
fn nothing_that_was_masked_is_left_in_the_bytes_of_the_file() {
    let db = TestDatabase::stamped(Dialect::Sqlite, EnvironmentName::Production);
    let mut conn = db.connection();
    fill(&mut conn);
    // Statistics hold samples of indexed values.
    conn.batch_execute("ANALYZE").unwrap();
    let (beside, result) = masked(&db, &shipped());
    result.unwrap();
    let folder = beside.copy.url().sqlite_path().unwrap().parent().unwrap();
    for entry in std::fs::read_dir(folder).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        for secret in ["corp.example", "argon2id", "session-token", "shouted", "+49 170"] {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{secret}");
        }
    }
}

#[test]
fn the_copy_is_private_and_goes_away_with_its_value() {
    let db = TestDatabase::stamped(Dialect::Sqlite, EnvironmentName::Production);
    let beside = copy(&db);
    let file = beside.copy.url().sqlite_path().unwrap().to_owned();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    let Beside { copy, _folder, .. } = beside;
    drop(copy);
    assert_eq!(std::fs::read_dir(_folder.path()).unwrap().count(), 0);
}

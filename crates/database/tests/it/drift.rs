//! The live schema against what the migrations make.

use diesel::connection::SimpleConnection as _;
use omnitool_database::{
    Dialect, Mode,
    migration::{CompareSchemaError, Reversal, describe, drift, revert},
    open,
};
use omnitool_testing::{TestDatabase, fixture, on_both_databases};

fn found(db: &TestDatabase) -> Vec<String> {
    // A connection that may only read suffices.
    let mut conn = open(db.url(), Mode::Read).unwrap();
    drift(&mut conn).unwrap().iter().map(ToString::to_string).collect()
}

fn what_the_migrations_made_is_as_they_make_it(db: TestDatabase) {
    assert_eq!(found(&db), Vec::<String>::new());
    revert(&mut db.connection(), 2).unwrap();
    let error = drift(&mut db.connection()).unwrap_err();
    assert!(matches!(error, CompareSchemaError::NotCurrent(_)), "{error:?}");
}

fn each_difference_is_named(db: TestDatabase) {
    let [lost_key, column_type] = match db.dialect() {
        Dialect::Sqlite => [
            "DROP TABLE tool_access_everyone; CREATE TABLE tool_access_everyone ( \
             tool_id BIGINT PRIMARY KEY NOT NULL REFERENCES tools (id) ON DELETE CASCADE, \
             granted_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, \
             origin TEXT NOT NULL CHECK (origin IN ('default', 'import', 'admin', 'luck'))) WITHOUT ROWID;",
            "BIGINT",
        ],
        Dialect::Postgres => [
            "ALTER TABLE tool_access DROP CONSTRAINT tool_access_user_id_fkey; \
             ALTER TABLE users DROP CONSTRAINT users_email_key; \
             ALTER TABLE tool_access_exclusion DROP CONSTRAINT tool_access_exclusion_origin_check; \
             ALTER TABLE users ALTER COLUMN password_hash DROP NOT NULL; \
             ALTER TABLE users ALTER COLUMN is_admin DROP DEFAULT; \
             ALTER TABLE tools ALTER COLUMN route TYPE VARCHAR(20);",
            "bigint",
        ],
    };
    db.connection()
        .batch_execute(&format!(
            "CREATE TABLE notes (id BIGINT CHECK (id > 0)); DROP TABLE environment_stamp; DROP INDEX user_session_user_id; \
             CREATE INDEX extra ON tools (route); ALTER TABLE tools ADD COLUMN stars {column_type} NOT NULL DEFAULT 5 CHECK (stars IN (1, 5)); \
             ALTER TABLE user_session DROP COLUMN created_at; \
             DROP VIEW effective_tool_access; \
             CREATE VIEW effective_tool_access AS \
             SELECT users.id AS user_id, tools.id AS tool_id FROM users CROSS JOIN tools; {lost_key}"
        ))
        .unwrap();
    let found = found(&db);
    let (view, found): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|line| line.contains("view "));
    assert!(view[0].starts_with("view effective_tool_access: definition is `"), "{view:?}");
    assert_eq!(view.len(), 1, "{view:?}");
    match db.dialect() {
        Dialect::Sqlite => insta::assert_snapshot!(found.join("\n"), @r"
        table environment_stamp is missing
        table notes is made by no migration
        table tool_access_everyone: check (origin IN ('default', 'import', 'admin')) is missing
        table tool_access_everyone: check (origin IN ('default', 'import', 'admin', 'luck')) is made by no migration
        table tools: check (stars IN (1, 5)) is made by no migration
        table tools: column stars is made by no migration
        table tools: index extra is made by no migration
        table user_session: column created_at is missing
        table user_session: index user_session_user_id is missing
        "),
        Dialect::Postgres => insta::assert_snapshot!(found.join("\n"), @r"
        table environment_stamp is missing
        table notes is made by no migration
        table tool_access: foreign key (user_id) is missing
        table tool_access_exclusion: check tool_access_exclusion_origin_check is missing
        table tools: check tools_stars_check is made by no migration
        table tools: column route is `character varying(20) NOT NULL`, the migrations make `text NOT NULL`
        table tools: column stars is made by no migration
        table tools: index extra is made by no migration
        table user_session: column created_at is missing
        table user_session: index user_session_user_id is missing
        table users: column is_admin is `boolean NOT NULL`, the migrations make `boolean NOT NULL DEFAULT false`
        table users: column password_hash is `text`, the migrations make `text NOT NULL`
        table users: unique key (email) is missing
        "),
    }
}

#[test]
fn what_makes_a_sqlite_table_compare_or_refer_otherwise_is_named() {
    let db = TestDatabase::migrated(Dialect::Sqlite);
    db.connection()
        .batch_execute(
            "DROP TABLE user_event; CREATE TABLE user_event ( \
                id INTEGER PRIMARY KEY NOT NULL, \
                happened_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, \
                author TEXT COLLATE NOCASE NOT NULL CHECK (author <> ''), \
                user_id BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE ON UPDATE CASCADE \
                    DEFERRABLE INITIALLY DEFERRED, \
                change TEXT NOT NULL ON CONFLICT IGNORE CHECK (change <> ''), previous TEXT); \
             CREATE INDEX user_event_user_id ON user_event (user_id)",
        )
        .unwrap();
    insta::assert_snapshot!(found(&db).join("\n"), @r"
    table user_event: clause author COLLATE NOCASE is made by no migration
    table user_event: clause change CONFLICT IGNORE is made by no migration
    table user_event: clause user_id DEFERRABLE is made by no migration
    table user_event: clause user_id INITIALLY DEFERRED is made by no migration
    table user_event: foreign key (user_id) is `REFERENCES users (id) ON DELETE CASCADE ON UPDATE CASCADE`, the migrations make `REFERENCES users (id) ON DELETE CASCADE`
    ");
}

#[test]
fn what_makes_a_postgres_table_hide_or_drop_rows_is_named() {
    let db = TestDatabase::migrated(Dialect::Postgres);
    db.connection()
        .batch_execute(
            "ALTER TABLE tool_access DISABLE TRIGGER ALL; \
             ALTER TABLE tool_access_exclusion ENABLE ROW LEVEL SECURITY; \
             CREATE RULE deaf AS ON INSERT TO tool_access_exclusion DO INSTEAD NOTHING; \
             ALTER TABLE tools ADD CONSTRAINT one EXCLUDE USING btree (route WITH =)",
        )
        .unwrap();
    insta::assert_snapshot!(found(&db).join("\n"), @r"
    table tool_access: foreign key triggers is made by no migration
    table tool_access_exclusion: row security is made by no migration
    table tool_access_exclusion: rule deaf is made by no migration
    table tools: exclusion one is made by no migration
    ");
}

fn a_reversal_says_what_it_loses(db: TestDatabase) {
    let mut conn = db.connection();
    fixture::user(&mut conn, "alice");
    let names = omnitool_database::migration::names(db.dialect()).unwrap();
    let all = Reversal::plan(&mut open(db.url(), Mode::Read).unwrap(), names.len()).unwrap();
    assert_eq!(all.migrations.len(), names.len());
    assert_eq!(all.schema_version, None);
    let lines: Vec<String> = all.losses.iter().map(ToString::to_string).collect();
    assert!(lines.contains(&"table users: 1 row".to_owned()), "{lines:?}");
    assert!(lines.contains(&"table tool_access: 0 rows".to_owned()), "{lines:?}");
    assert!(Reversal::plan(&mut conn, names.len() + 1).is_err());

    // Somebody else reverts in between: the plan is no longer true.
    let one = Reversal::plan(&mut conn, 1).unwrap();
    let options = omnitool_database::migration::Options::default();
    assert_eq!(one.apply(&mut conn, &options).unwrap(), one.migrations);
    let error = one.apply(&mut conn, &options).unwrap_err();
    assert!(error.to_string().contains("changed since the plan was made"), "{error}");
}

on_both_databases!(
    what_the_migrations_made_is_as_they_make_it,
    each_difference_is_named,
    a_reversal_says_what_it_loses,
);

/// With `OMNITOOL_BLESS` set, writes the file anew from what the migrations make.
#[test]
fn the_schema_expected_on_postgres_is_what_the_migrations_make() {
    let db = TestDatabase::migrated(Dialect::Postgres);
    let made = describe(&mut db.connection()).unwrap();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/migration/postgres-schema.txt");
    if std::env::var_os("OMNITOOL_BLESS").is_some() {
        std::fs::write(file, &made).unwrap();
    }
    let expected = std::fs::read_to_string(file).unwrap();
    assert_eq!(expected, made, "run this test once with OMNITOOL_BLESS=1");
}

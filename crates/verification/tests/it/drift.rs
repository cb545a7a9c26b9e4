//! Check 2: the live schema against the migrations.

use std::process::Command;

use diesel::connection::SimpleConnection as _;
use omnitool_database::{Dialect, migration};
use omnitool_testing::{TestDatabase, on_both_databases};
use omnitool_verification::{Finding, Outcome};

use crate::setup::Setup;

/// The view as it was before there were exclusions.
const WITHOUT_EXCLUSIONS: &str = "DROP VIEW effective_tool_access; \
    CREATE VIEW effective_tool_access AS SELECT users.id AS user_id, tools.id AS tool_id \
    FROM users CROSS JOIN tools WHERE users.is_active AND tools.is_active AND ( \
        EXISTS (SELECT 1 FROM tool_access \
            WHERE tool_access.user_id = users.id AND tool_access.tool_id = tools.id ) \
        OR EXISTS ( SELECT 1 FROM tool_access_everyone WHERE tool_access_everyone.tool_id = tools.id ) )";

/// Runs the command that a finding names, with the database's own shell.
fn repair(setup: &Setup, finding: &Finding) {
    let repair = finding.repair.as_deref().unwrap();
    let command = repair.split_once("it holds: ").map_or(repair, |(_, command)| command);
    let output = Command::new("sh")
        .args(["-c", command])
        .env("DATABASE_URL", setup.db.url().expose())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {text}");
}

fn a_view_without_its_exclusions_fails_check_2(db: TestDatabase) {
    let setup = Setup::clean(db);
    setup.conn().batch_execute(WITHOUT_EXCLUSIONS).unwrap();
    let text = setup.only_trouble("schema-version", Outcome::Failed);
    let row =
        text.lines().find(|line| line.starts_with("- view effective_tool_access: definition "));
    // What the migrations make and the view lacks is in the row, not only in the command.
    let (is, lacks) = row.expect(&text).split_once(", where the migrations make ").expect(&text);
    assert!(lacks.contains("tool_access_exclusion"), "{text}");
    assert!(!is.contains("tool_access_exclusion"), "{text}");
    repair(&setup, &setup.verify().checks[1].findings[0]);
    assert_eq!(setup.verify().summary, "12 checks: 12 passed");
}

fn differences_are_named_and_their_commands_repair_them(db: TestDatabase) {
    let setup = Setup::clean(db);
    let (type_name, more) = match setup.db.dialect() {
        Dialect::Sqlite => (
            "BIGINT",
            "CREATE TRIGGER spy AFTER DELETE ON tools BEGIN DELETE FROM users; END; \
             DROP TRIGGER tool_access_event_tool_deleted",
        ),
        Dialect::Postgres => (
            "bigint",
            "ALTER TABLE tool_access DROP CONSTRAINT tool_access_user_id_fkey; \
             ALTER TABLE tool_access DROP CONSTRAINT tool_access_origin_check; \
             ALTER TABLE tools DROP CONSTRAINT tools_name_check; \
             ALTER TABLE tools ADD CONSTRAINT tools_name_check CHECK (name <> 'x'); \
             ALTER TABLE tools ADD CONSTRAINT extra_check CHECK (route <> ''); \
             ALTER TABLE users DROP CONSTRAINT users_email_key; \
             ALTER TABLE users ALTER COLUMN password_hash DROP NOT NULL; \
             ALTER TABLE users ALTER COLUMN is_admin DROP DEFAULT; \
             ALTER TABLE users ALTER COLUMN email TYPE VARCHAR(50)",
        ),
    };
    setup
        .conn()
        .batch_execute(&format!(
            "CREATE TABLE notes (id BIGINT); DROP INDEX user_session_user_id; \
             CREATE INDEX extra ON tools (route); \
             ALTER TABLE tools ADD COLUMN stars {type_name} NOT NULL DEFAULT 5; {more}"
        ))
        .unwrap();
    let text = setup.only_trouble("schema-version", Outcome::Failed);
    match setup.db.dialect() {
        Dialect::Sqlite => insta::assert_snapshot!(text, @r"
        4 parts of the schema not as the migrations make it; 2 parts of the schema made by no migration
        Critical: 4 parts of the schema not as the migrations make it
        - table tools: index extra is made by no migration
        - table tools: trigger spy is made by no migration
        - table tools: trigger tool_access_event_tool_deleted is missing
        - table user_session: index user_session_user_id is missing
        repair: sqlite3 -bail [DATABASE] 'BEGIN; DROP INDEX extra; DROP TRIGGER spy; CREATE TRIGGER tool_access_event_tool_deleted AFTER DELETE ON tools BEGIN DELETE FROM tool_access_event WHERE tool_id = OLD.id; END; CREATE INDEX user_session_user_id ON user_session (user_id); COMMIT'
        Critical: 2 parts of the schema made by no migration
        - table notes is made by no migration
        - table tools: column stars is made by no migration
        repair: cargo xtask new-migration NAME, to keep it; or remove it with all that it holds: sqlite3 -bail [DATABASE] 'BEGIN; DROP TABLE notes; ALTER TABLE tools DROP COLUMN stars; COMMIT'
        "),
        Dialect::Postgres => insta::assert_snapshot!(text, @r#"
        10 parts of the schema not as the migrations make it; 2 parts of the schema made by no migration
        Critical: 10 parts of the schema not as the migrations make it
        - table tool_access: check tool_access_origin_check is missing
        - table tool_access: foreign key (user_id) is missing
        - table tools: check extra_check is made by no migration
        - table tools: check tools_name_check is `CHECK ((name <> 'x'::text))`, the migrations make `CHECK ((name <> ''::text))`
        - table tools: index extra is made by no migration
        - table user_session: index user_session_user_id is missing
        - table users: column email is `character varying(50)`, the migrations make `text COLLATE "C"`
        - table users: column is_admin is `boolean NOT NULL`, the migrations make `boolean NOT NULL DEFAULT false`
        - table users: column password_hash is `text`, the migrations make `text NOT NULL`
        - table users: unique key (email) is missing
        repair: psql "$DATABASE_URL" --command 'ALTER TABLE tool_access ADD CONSTRAINT tool_access_origin_check CHECK ((origin = ANY (ARRAY['\''default'\''::text, '\''import'\''::text, '\''admin'\''::text]))); ALTER TABLE tool_access ADD FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE; ALTER TABLE tools DROP CONSTRAINT extra_check; ALTER TABLE tools DROP CONSTRAINT tools_name_check, ADD CONSTRAINT tools_name_check CHECK ((name <> '\'''\''::text)); DROP INDEX extra; CREATE INDEX user_session_user_id ON user_session USING btree (user_id); ALTER TABLE users ALTER COLUMN email TYPE text COLLATE "C"; ALTER TABLE users ALTER COLUMN is_admin SET DEFAULT false; ALTER TABLE users ALTER COLUMN password_hash SET NOT NULL; ALTER TABLE users ADD UNIQUE (email)'
        Critical: 2 parts of the schema made by no migration
        - table notes is made by no migration
        - table tools: column stars is made by no migration
        repair: cargo xtask new-migration NAME, to keep it; or remove it with all that it holds: psql "$DATABASE_URL" --command 'DROP TABLE notes; ALTER TABLE tools DROP COLUMN stars'
        "#),
    }
    for finding in &setup.verify().checks[1].findings {
        repair(&setup, finding);
    }
    assert_eq!(setup.verify().summary, "12 checks: 12 passed");
}

#[test]
fn a_type_that_the_view_reads_is_repaired_without_the_view() {
    let setup = Setup::clean(TestDatabase::migrated(Dialect::Postgres));
    let (drop, forgetful) = WITHOUT_EXCLUSIONS.split_once("; ").unwrap();
    let (name, query) = migration::postgres_views().remove(0);
    let same = format!("CREATE VIEW {name} AS {query}");
    // As somebody does who wants another type: without the view, which is made anew, as it was or not.
    for create in [&*same, forgetful] {
        let retype = "ALTER TABLE tools ALTER COLUMN route TYPE VARCHAR(50)";
        setup.conn().batch_execute(&format!("{drop}; {retype}; {create}")).unwrap();
        let report = setup.verify();
        let findings = &report.checks[1].findings;
        assert_eq!(findings.len(), 1, "{findings:?}");
        repair(&setup, &findings[0]);
        assert_eq!(setup.verify().summary, "12 checks: 12 passed");
    }
}

#[test]
fn what_hides_or_drops_rows_is_named_and_its_command_repairs_it() {
    let setup = Setup::clean(TestDatabase::migrated(Dialect::Postgres));
    setup
        .conn()
        .batch_execute(
            "ALTER TABLE tool_access DISABLE TRIGGER ALL; \
             ALTER TABLE tool_access_exclusion ENABLE ROW LEVEL SECURITY; \
             CREATE RULE deaf AS ON INSERT TO tool_access_exclusion DO INSTEAD NOTHING; \
             ALTER TABLE tools ADD CONSTRAINT one EXCLUDE USING btree (route WITH =)",
        )
        .unwrap();
    insta::assert_snapshot!(setup.only_trouble("schema-version", Outcome::Failed), @r#"
    4 parts of the schema not as the migrations make it
    Critical: 4 parts of the schema not as the migrations make it
    - table tool_access: foreign key triggers is made by no migration
    - table tool_access_exclusion: row security is made by no migration
    - table tool_access_exclusion: rule deaf is made by no migration
    - table tools: exclusion one is made by no migration
    repair: psql "$DATABASE_URL" --command 'ALTER TABLE tool_access ENABLE TRIGGER ALL; ALTER TABLE tool_access_exclusion DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY; DROP RULE deaf ON tool_access_exclusion; ALTER TABLE tools DROP CONSTRAINT one'
    "#);
    repair(&setup, &setup.verify().checks[1].findings[0]);
    assert_eq!(setup.verify().summary, "12 checks: 12 passed");
}

fn what_is_lost_is_only_in_a_backup(db: TestDatabase) {
    let setup = Setup::clean(db);
    setup
        .conn()
        .batch_execute(
            "ALTER TABLE user_session DROP COLUMN created_at; DROP TABLE tool_access_event",
        )
        .unwrap();
    insta::allow_duplicates! {
        insta::assert_snapshot!(setup.only_trouble("schema-version", Outcome::Failed), @r"
        2 parts of the schema that cannot be made right in place
        Critical: 2 parts of the schema that cannot be made right in place
        - table tool_access_event is missing
        - table user_session: column created_at is missing
        repair: rollback-migration --env local
        ");
    }
}

on_both_databases!(
    a_view_without_its_exclusions_fails_check_2,
    differences_are_named_and_their_commands_repair_them,
    what_is_lost_is_only_in_a_backup,
);

//! Saved plans.

use omnitool_environment::EnvironmentName;
use omnitool_testing::{TestDatabase, on_both_databases};
use omnitool_tool_access::{
    ImportError, ImportRequest, Mode, OverwriteProduction, SavedPlan, SavedPlanError,
    apply_saved_plan, save_import_plan,
};
use tempfile::NamedTempFile;

use crate::world::{
    LOCAL, exclusion, exported, facts, file, grant, people, plan_json, put, request, wildcard,
};

const USERS: [&str; 2] = ["alice", "bob"];
const TOOLS: [&str; 2] = ["Email Templates", "Invoice Generator"];

/// A target, and a saved plan of a sync that adds and removes one fact of each kind.
fn saved(db: &TestDatabase) -> NamedTempFile {
    let mut conn = db.connection();
    people(&mut conn, &USERS, &TOOLS);
    put(
        &mut conn,
        [
            grant("alice", "Invoice Generator"),
            exclusion("bob", "Invoice Generator"),
            wildcard("Email Templates"),
        ],
    );
    let source = TestDatabase::migrated(db.dialect());
    let mut from = source.connection();
    people(&mut from, &USERS, &TOOLS);
    put(
        &mut from,
        [
            grant("bob", "Email Templates"),
            exclusion("alice", "Email Templates"),
            wildcard("Invoice Generator"),
        ],
    );
    let export = file(exported(&mut from));
    let before = facts(&mut conn);
    let mut bytes = Vec::new();
    let sync = request(export.path(), Mode::Sync);
    let plan = save_import_plan(&mut conn, LOCAL, &sync, &mut bytes).unwrap();
    assert_eq!((plan.added.total(), plan.removed.total()), (3, 3));
    assert_eq!(facts(&mut conn), before);
    file(bytes)
}

fn apply(db: &TestDatabase, plan: &NamedTempFile) -> Result<(), ImportError> {
    let saved = SavedPlan::load(plan.path()).map_err(ImportError::Saved)?;
    let refuse = OverwriteProduction::Refuse;
    let applied = apply_saved_plan(&mut db.connection(), LOCAL, &saved, refuse, None)?;
    let (mut applied, mut planned) = (plan_json(&applied), plan_json(saved.plan()));
    for plan in [&mut applied, &mut planned] {
        plan["foreign_keys"].take();
    }
    assert_eq!(applied, planned);
    Ok(())
}

fn a_saved_plan_does_exactly_what_it_says(db: TestDatabase) {
    let plan = saved(&db);
    apply(&db, &plan).unwrap();
    let expected = [
        grant("bob", "Email Templates"),
        exclusion("alice", "Email Templates"),
        wildcard("Invoice Generator"),
    ];
    assert_eq!(facts(&mut db.connection()), expected.into());
    // The facts are not those that it was made from any more.
    let error = apply(&db, &plan).unwrap_err();
    assert!(matches!(error, ImportError::Saved(SavedPlanError::Stale)));
}

fn a_plan_is_refused_when_anything_changed(db: TestDatabase) {
    let plan = saved(&db);
    // Even a grant that has no effect.
    put(&mut db.connection(), [grant("bob", "Invoice Generator")]);
    let before = facts(&mut db.connection());
    let error = apply(&db, &plan).unwrap_err();
    assert!(matches!(error, ImportError::Saved(SavedPlanError::Stale)));
    assert_eq!(facts(&mut db.connection()), before);
}

fn a_damaged_or_foreign_plan_is_refused(db: TestDatabase) {
    let plan = saved(&db);
    let before = facts(&mut db.connection());
    let text = std::fs::read_to_string(plan.path()).unwrap();
    let cases = [
        text.replace("[\"grant\",\"bob\",\"Email Templates\"],", ""),
        text.replace("[\"grant\",\"bob\"", "[\"grant\",\"carl\""),
        // As many as before, but not those that somebody looked at.
        text.replace("[\"grant\",\"bob\"", "[\"grant\",\"alice\""),
        text.replace("\"present\":0", "\"present\":1"),
        text.replace("\"version\": 1", "\"version\": 2"),
        text.replace("tool-access-plan", "tool-access"),
        text[..text.len() / 2].to_owned(),
        String::new(),
    ];
    for case in cases {
        assert_ne!(case, text);
        let error = apply(&db, &file(case)).unwrap_err();
        assert!(matches!(error, ImportError::Saved(_)), "{error}");
        assert_eq!(facts(&mut db.connection()), before);
    }
    let saved = SavedPlan::load(plan.path()).unwrap();
    let (staging, refuse) = (EnvironmentName::Staging, OverwriteProduction::Refuse);
    let error = apply_saved_plan(&mut db.connection(), staging, &saved, refuse, None).unwrap_err();
    assert!(matches!(error, ImportError::Saved(SavedPlanError::Environment { .. })));
}

fn an_unreadable_export_saves_no_plan(db: TestDatabase) {
    let broken = file("{");
    let mut bytes = Vec::new();
    let merge = ImportRequest::merge(broken.path());
    save_import_plan(&mut db.connection(), LOCAL, &merge, &mut bytes).unwrap_err();
    assert!(bytes.is_empty());
}

on_both_databases!(
    a_saved_plan_does_exactly_what_it_says,
    a_plan_is_refused_when_anything_changed,
    a_damaged_or_foreign_plan_is_refused,
    an_unreadable_export_saves_no_plan,
);

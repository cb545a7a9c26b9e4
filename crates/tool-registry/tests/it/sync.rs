//! The transaction.

use std::error::Error as _;

use diesel::connection::SimpleConnection as _;
use omnitool_database::AnyConnection;
use omnitool_testing::{TestDatabase, fixture, on_both_databases};
use omnitool_tool_registry::{Options, SyncToolsError};

use crate::state::{State, definitions};

fn a_refused_step_leaves_the_database_unchanged(db: TestDatabase) {
    let mut conn = db.connection();
    let user = fixture::user(&mut conn, "alice");
    for tool in ["Old", "Deleted"] {
        let tool = fixture::tool(&mut conn, tool);
        fixture::grant(&mut conn, user, tool);
    }
    let refuse = match conn {
        AnyConnection::Sqlite(_) => {
            "CREATE TRIGGER refuse BEFORE INSERT ON tools WHEN NEW.name = 'Second'
             BEGIN SELECT RAISE(ABORT, 'no more tools'); END"
        }
        AnyConnection::Postgres(_) => {
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION 'no more tools'; END $$;
             CREATE TRIGGER refuse BEFORE INSERT ON tools FOR EACH ROW
             WHEN (NEW.name = 'Second') EXECUTE FUNCTION refuse()"
        }
    };
    conn.batch_execute(refuse).unwrap();
    let before = State::read(&mut conn);

    let defined =
        definitions(&["New", "First", "Second"], &[("Old", Some("New")), ("Deleted", None)]);
    let error = omnitool_tool_registry::sync(&mut conn, &defined, Options::default()).unwrap_err();
    assert!(matches!(error, SyncToolsError::Apply { .. }));
    assert_eq!(error.to_string(), "the database refused `Creating new tool: Second`");
    assert_eq!(error.source().unwrap().to_string(), "no more tools");
    assert_eq!(State::read(&mut conn), before);
}

fn of_many_at_once_one_changes_everything_and_the_others_nothing(db: TestDatabase) {
    let mut conn = db.connection();
    let user = fixture::user(&mut conn, "alice");
    for tool in ["Old", "New", "Deleted"] {
        let tool = fixture::tool(&mut conn, tool);
        fixture::grant(&mut conn, user, tool);
    }
    let defined = definitions(&["New", "Another"], &[("Old", Some("New")), ("Deleted", None)]);
    let changed: usize = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut conn = db.connection();
                    let plan =
                        omnitool_tool_registry::sync(&mut conn, &defined, Options::default());
                    usize::from(!plan.unwrap().is_empty())
                })
            })
            .collect();
        runs.into_iter().map(|run| run.join().unwrap()).sum()
    });
    assert_eq!(changed, 1);
}

on_both_databases!(
    a_refused_step_leaves_the_database_unchanged,
    of_many_at_once_one_changes_everything_and_the_others_nothing,
);

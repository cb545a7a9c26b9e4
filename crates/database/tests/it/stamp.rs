use omnitool_database::{
    Mode, connect,
    stamp::{self, CheckStampError},
};
use omnitool_environment::EnvironmentName::{Local, Production, Staging};
use omnitool_testing::{TestDatabase, on_both_databases};

fn a_stamp_is_replaced_and_never_doubled(db: TestDatabase) {
    let mut conn = db.connection();
    stamp::write(&mut conn, Staging).unwrap();
    stamp::write(&mut conn, Production).unwrap();
    assert_eq!(stamp::read(&mut conn).unwrap(), Some(Production));
}

fn another_environment_is_refused(db: TestDatabase) {
    assert_eq!(connect(db.url(), None, Mode::Read).unwrap().1, Local);
    assert_eq!(connect(db.url(), Some(Local), Mode::Write).unwrap().1, Local);
    let Err(error) = connect(db.url(), Some(Production), Mode::Write) else {
        panic!("must be refused");
    };
    assert_eq!(
        error.to_string(),
        "this database is stamped `local`, but `production` was asked for"
    );
}

fn a_database_without_a_stamp_is_refused(db: TestDatabase) {
    use diesel::prelude::*;
    use omnitool_database::schema::environment_stamp;
    let mut conn = db.connection();
    diesel::delete(environment_stamp::table).execute(&mut conn).unwrap();
    let error = stamp::check(&mut conn, Some(Local)).unwrap_err();
    assert!(matches!(error, CheckStampError::Missing));
}

on_both_databases!(
    a_stamp_is_replaced_and_never_doubled,
    another_environment_is_refused,
    a_database_without_a_stamp_is_refused,
);

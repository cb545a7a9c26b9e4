//! Plans are values that decide everything.

use omnitool_environment::{DatabaseUrl, EnvironmentName};
use omnitool_pipeline::{
    CommandLine, DatabaseState, DeployOptions, Home, Plan, ReleaseId, Site, Situation, Todo,
};

fn site() -> Site {
    Site {
        environment: EnvironmentName::Staging,
        home: Home::Local {
            database_url: DatabaseUrl::sqlite("/project/.omnitool/staging/omnitool.db".as_ref()),
        },
        root: "/project".into(),
        base_url: "http://127.0.0.1:5001".parse().unwrap(),
    }
}

fn release(text: &str) -> ReleaseId {
    text.parse().unwrap()
}

#[test]
fn the_first_deployment_has_nothing_to_back_up() {
    let situation =
        Situation { serving: None, newest: None, database: DatabaseState::Missing, heroku: None };
    let build = CommandLine::new("cargo", "/project").arguments(["build", "--locked"]);
    let options = DeployOptions { build: Some(build), ..DeployOptions::default() };
    insta::assert_snapshot!(Plan::staging(&site(), &situation, options), @r"
    Deploy release 0001 to staging on the local platform, where nothing serves
      address    http://127.0.0.1:5001/
      project    /project
      variables  OMNITOOL_ENV=staging DATABASE_URL=*** PORT=5001 OMNITOOL_RELEASE=0001

    tests          run all tests
                   skipped: not asked for with --tests
    build          build the programs and the release artifact
                   $ cargo build --locked
                   pack the programs and data/ into the release artifact
    backup         back up the database
                   skipped: there is no database yet
    refresh        copy production's data
                   skipped: not asked for with --refresh-data
    config         set the variables
                   set the variables that differ
    release        migrate the database, then serve the new release
                   unpack the artifact as release 0001
                   $ migrate-db --tools data/tools.toml --env staging --format json   (in release 0001)
                   $ omnitool create-user --demo-users --env staging --format json   (in release 0001)
                   $ omnitool check --env staging --format json   (in release 0001)
                   switch to release 0001: stop the app that serves, start the new one
                   remove releases older than the newest 5
    import-access  import who may use what
                   $ import-tool-access --source data/tool_access_exports/local_tool_access.json --mode merge --env staging --format json   (in release 0001)
    verify         check the database
                   $ verify-migration --expect-access data/tool_access_exports/local_tool_access.json --env staging --format json   (in release 0001)
    smoke          check the running app
                   $ smoke-tests --url http://127.0.0.1:5001 --timeout 30 --expect-release 0001 --env staging --format json
    prune-backups  remove old backups (a failure is a warning)
                   $ backup-database --folder /project/data/backups prune --keep 10 --env staging --format json
    summary        sum up (always)
                   say what has changed, and how to go back
    ");
}

#[test]
fn a_later_deployment_backs_up_first() {
    let situation = Situation {
        serving: Some(release("0007")),
        newest: Some(release("0008")),
        database: DatabaseState::Present,
        heroku: None,
    };
    let tests = CommandLine::new("cargo", "/project").arguments(["xtask", "test"]);
    let options = DeployOptions { tests: Some(tests), ..DeployOptions::default() };
    insta::assert_snapshot!(Plan::staging(&site(), &situation, options), @r"
    Deploy release 0009 to staging on the local platform, over release 0007
      address    http://127.0.0.1:5001/
      project    /project
      variables  OMNITOOL_ENV=staging DATABASE_URL=*** PORT=5001 OMNITOOL_RELEASE=0009

    tests          run all tests
                   $ cargo xtask test
    build          build the programs and the release artifact
                   pack the programs and data/ into the release artifact
                   $ migrate-db --status --env staging --format json
    backup         back up the database
                   $ backup-database --folder /project/data/backups capture --kind before-deploy --release 0009 --env staging --format json
    refresh        copy production's data
                   skipped: not asked for with --refresh-data
    config         set the variables
                   set the variables that differ
    release        migrate the database, then serve the new release
                   unpack the artifact as release 0009
                   $ migrate-db --tools data/tools.toml --env staging --format json   (in release 0009)
                   $ omnitool create-user --demo-users --env staging --format json   (in release 0009)
                   $ omnitool check --env staging --format json   (in release 0009)
                   switch to release 0009: stop the app that serves, start the new one
                   remove releases older than the newest 5
    import-access  import who may use what
                   $ import-tool-access --source data/tool_access_exports/local_tool_access.json --mode merge --env staging --format json   (in release 0009)
    verify         check the database
                   $ verify-migration --expect-access data/tool_access_exports/local_tool_access.json --env staging --format json   (in release 0009)
    smoke          check the running app
                   $ smoke-tests --url http://127.0.0.1:5001 --timeout 30 --expect-release 0009 --env staging --format json
    prune-backups  remove old backups (a failure is a warning)
                   $ backup-database --folder /project/data/backups prune --keep 10 --env staging --format json
    summary        sum up (always)
                   say what has changed, and how to go back
    ");
}

#[test]
fn a_fingerprint_changes_with_what_a_step_does_and_with_nothing_else() {
    let plan = |newest| {
        let situation =
            Situation { serving: None, newest, database: DatabaseState::Present, heroku: None };
        Plan::staging(&site(), &situation, DeployOptions::default())
    };
    let (one, same, other) = (plan(None), plan(None), plan(Some(release("0004"))));
    for ((a, b), c) in one.steps().iter().zip(same.steps()).zip(other.steps()) {
        assert_eq!(one.fingerprint(a), same.fingerprint(b));
        let names_release = match &a.todo {
            Todo::Run(actions) => actions.iter().any(|action| action.to_string().contains("0001")),
            Todo::Skip(_) => false,
        };
        assert_eq!(one.fingerprint(a) != other.fingerprint(c), names_release, "{}", a.id);
    }
}

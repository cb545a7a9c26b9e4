//! Help, and flags that are refused.

use crate::project::{Project, stderr, stdout};

#[test]
fn help_names_every_command() {
    let project = Project::with_scripts();
    insta::assert_snapshot!(stdout(&project.xtask(&["--help"])), @r"
    omnitool's own commands: deployments, tests, checks

    Usage: cargo xtask [OPTIONS] <COMMAND>

    Commands:
      deploy-staging      Put a new release on staging: the whole pipeline, in order
      deploy-production   Put the release that passed staging on production: the whole pipeline, in
                          order
      rehearse            Try on a copy of production's newest backup what a deployment would do to it
      rollback            Go back: say what code, schema and data would each lose, and do the one that
                          is chosen
      deployments         Show runs: all, one, or how two differ
      dev                 Serve the app with demo data from this working copy, until Ctrl-C
      stop                Stop an environment's app on this machine
      test                Run all tests, with a PostgreSQL server
      bench               Measure the programs beside the raw limits
      new-migration       Make the files of a new migration, for both dialects
      lint-migrations     Check that PostgreSQL's migrations neither block the app nor break the release
                          that still serves
      lint-workflows      Check that the workflows are valid and safe, and their scripts sound
      dist                Build the programs and pack the release artifact
      doctor              Look for what is missing or wrong here and on Heroku, each with its repair;
                          changes nothing
      heroku-conformance  Prove the emulated Heroku by Heroku's own command line tool, where Node.js is
      ci                  Run what must hold before a change lands: format, lints, docs, dependency
                          arrows, tests
      help                Print this message or the help of the given subcommand(s)

    Options:
          --root <DIR>  The project's root [default: where this program was built]
      -h, --help        Print help

    Examples:
      cargo xtask deploy-staging          build, migrate, serve and check a release on this machine
      cargo xtask deploy-staging --plan   show what that would do
      cargo xtask deploy-staging --platform heroku
                                          the same on Heroku, with a token in HEROKU_API_KEY
      cargo xtask dev                     the app with demo data, until Ctrl-C
      cargo xtask test                    all tests, on SQLite and PostgreSQL
      cargo xtask test -p omnitool-cli    some tests; arguments go to `cargo test`

    Exit codes: 0 done, 1 failed or refused, 2 wrong usage; `test` exits as `cargo test` does
    ");
}

#[test]
fn help_of_a_deployment_names_every_flag() {
    let project = Project::with_scripts();
    insta::assert_snapshot!(stdout(&project.xtask(&["deploy-staging", "--help"])), @r"
    Put a new release on staging: the whole pipeline, in order

    Usage: cargo xtask deploy-staging [OPTIONS]

    Options:
          --plan
              Show all steps and stop

          --root <DIR>
              The project's root [default: where this program was built]

          --tests
              Run all tests first

          --platform <PLATFORM>
              Where the environment runs: local or heroku
              
              [env: OMNITOOL_PLATFORM=]
              [default: local]

          --resume [<RUN>]
              Go on with a run that stopped, after its last good step [default: the newest one]

          --from <STEP>
              With --resume: begin with this step, also where it was done

          --skip <STEP>
              Leave out this step (repeat for several)

          --reason <TEXT>
              Why a step is left out, for the journal

          --skip-backup <REASON>
              Take no backup, and say why

          --freeze-override <REASON>
              Deploy although the environment is frozen, and say why

          --auto-rollback
              After a failure put back the release and the database as they were

          --wait[=<SECONDS>]
              Wait while another run holds the environment, at most this many seconds [default: as long
              as it takes]

          --refresh-data
              Replace staging's data by a masked copy of production's

          --build
              With --platform heroku: let Heroku build the commit's sources instead of uploading
              programs

          --programs <DIR>
              Use these built programs instead of building them

          --profile <PROFILE>
              How the programs are built

              Possible values:
              - release: Fast programs
              - dev:     Fast builds
              
              [default: release]

      -h, --help
              Print help (see a summary with '-h')
    ");
}

#[test]
fn a_platform_that_the_environment_is_not_on_is_refused() {
    let project = Project::with_scripts();
    let output = project.xtask(&["deploy-staging", "--platform", "heroku"]);
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(text.contains("has no section [staging.heroku]; add it"), "{text}");
    for (command, flag) in [("deploy-staging", "--build"), ("deploy-production", "--promote")] {
        let output = project.xtask(&[command, flag]);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    }
    project.is_untouched();
}

#[test]
fn an_unknown_platform_or_environment_is_wrong_usage() {
    let project = Project::with_scripts();
    for arguments in [["deploy-staging", "--platform=cloud"], ["stop", "qa"]] {
        let output = project.xtask(&arguments);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains("(known: "), "{}", stderr(&output));
    }
    project.is_untouched();
}

#[test]
fn a_root_that_is_none_is_named() {
    let project = Project::with_scripts();
    let output = project.xtask(&["stop", "staging", "--root", "/nowhere/at/all"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("cannot use /nowhere/at/all as the project's root"));
}

use omnitool_testing::TestProject;

#[test]
fn help_lists_the_checks() {
    let project = TestProject::new();
    let mut command = project.command(env!("CARGO_BIN_EXE_verify-migration"));
    command.arg("--help");
    insta::assert_snapshot!(project.output(command).success(), @r"
    Check after a deployment that the database is what this release expects and that the app works with
    it

    Usage: verify-migration [OPTIONS]

    Options:
          --env <ENV>
              The environment: local, staging or production [default: the database's stamp, else local]
              
              [env: OMNITOOL_ENV=]

          --database-url <URL>
              The database [default: data/environments.toml]. Prefer the variable: flags show in process
              lists
              
              [env: DATABASE_URL]

      -v, --verbose
              Show what each check proves and what it saw

          --tools <FILE>
              The tool definitions to compare with [default: those that this program was built with]

          --only <CHECK>
              Run only these checks, by id or number

          --skip <CHECK>
              Do not run these checks, by id or number

          --deep
              Read every row, also where a foreign key already proves that there are no orphans

          --expect-access <FILE>
              The export that access has to match (check 10) [default: none]

          --access-tests <FILE>
              Assertions about access (check 11) [default: data/access_tests.toml, where there is one]

          --last-backup <MANIFEST>
              The manifest of the backup whose rows have to be there still (check 12) [default: the
              environment's newest verified one in data/backups]

          --max-loss <PERCENT>
              How many of a hundred rows of a table may be lost since that backup (check 12)
              
              [default: 10]

          --format <FORMAT>
              How the report is written

              Possible values:
              - text:   For people
              - json:   One JSON document
              - junit:  JUnit XML, for CI systems
              - github: Annotations of a GitHub Actions run
              
              [default: text]

          --output <FILE>
              Write the report to this file, and the text for people to stdout

      -h, --help
              Print help (see a summary with '-h')

      -V, --version
              Print version

    Checks:
       1 database-connectivity  Database connectivity
       2 schema-version         Schema version
       3 tool-definitions       Tool definitions match
       4 orphaned-tools         No orphaned tool_access (invalid tools)
       5 orphaned-users         No orphaned tool_access (invalid users)
       6 default-tools          Default tools assigned to all users (only warns)
       7 table-counts           Table counts (only warns)
       8 application            Application imports correctly
       9 environment-stamp      Environment stamp
      10 expected-access        Access matches the deployed export
      11 access-assertions      Access assertions hold
      12 rows-since-backup      No rows lost since the last backup

    Examples:
      verify-migration --env local
      verify-migration --env staging --verbose
      verify-migration --only orphaned-tools,orphaned-users --deep
      verify-migration --env staging --expect-access data/tool_access_exports/local_tool_access.json
      verify-migration --format junit --output verification.xml

    Exit codes: 0 all checks passed (warnings allowed), 1 a critical check failed or could not be run, 2
    wrong usage
    ");
}

use omnitool_testing::TestProject;

use crate::PROGRAM;

fn help(arguments: &[&str]) -> String {
    let project = TestProject::new();
    let mut command = project.command(PROGRAM);
    command.args(arguments);
    let help = project.output(command).success();
    // clap indents empty lines, which nobody sees and editors remove.
    help.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[test]
fn help_shows_the_commands() {
    insta::assert_snapshot!(help(&["--help"]), @r#"
    The app: people log in and see the tools that they may use

    Usage: omnitool [OPTIONS] <COMMAND>

    Commands:
      serve        Run the app
      check        Check that the app could serve
      create-user  Make a user, or the demo users
      explain      Explain why a user may use a tool, or why not
      help         Print this message or the help of the given subcommand(s)

    Options:
          --env <ENV>
              The environment: local, staging or production [default: the database's stamp, else local]

              [env: OMNITOOL_ENV=]

          --database-url <URL>
              The database [default: data/environments.toml]. Prefer the variable: flags show in process
              lists

              [env: DATABASE_URL]

          --format <FORMAT>
              How to print the result

              Possible values:
              - text: For people
              - json: For programs: one JSON document on stdout, failures included

              [default: text]

      -h, --help
              Print help (see a summary with '-h')

      -V, --version
              Print version

    Examples:
      omnitool serve --env local
      omnitool check --env staging --format json
      omnitool create-user alice --email alice@example.com
      omnitool create-user --demo-users --env local
      omnitool explain user_a "Invoice Generator"

    Exit codes: 0 done, or the app could serve; 1 failed or refused, 2 wrong usage
    "#);
}

#[test]
fn serve_explains_itself() {
    insta::assert_snapshot!(help(&["serve", "--help"]), @r#"
    Run the app

    Usage: omnitool serve [OPTIONS]

    Options:
          --listen <ADDR:PORT>
              Where to listen [default: 0.0.0.0:$PORT, else the environment's base URL in
              data/environments.toml]

          --release <ID>
              The release that runs, as /health says it

              [env: OMNITOOL_RELEASE=]
              [default: dev]

          --access-files <DIR>
              The folder with the environments' export files, which the access matrix is compared with

              [default: data/tool_access_exports]

          --env <ENV>
              The environment: local, staging or production [default: the database's stamp, else local]

              [env: OMNITOOL_ENV=]

          --journals <DIR>
              The folder with the journals of deployments [default: .omnitool/ENV/runs]

          --backups <DIR>
              The folder with a folder of backups per environment [default: data/backups]

          --database-url <URL>
              The database [default: data/environments.toml]. Prefer the variable: flags show in process
              lists

              [env: DATABASE_URL]

          --format <FORMAT>
              How to print the result

              Possible values:
              - text: For people
              - json: For programs: one JSON document on stdout, failures included

              [default: text]

          --metrics-token <TOKEN>
              Whoever sends this as a bearer token may read /metrics; without it, only programs on this
              machine may

              [env: OMNITOOL_METRICS_TOKEN]

      -h, --help
              Print help (see a summary with '-h')

    Prints `listening on http://ADDR:PORT` once it is ready. Ctrl-C and SIGTERM end it as soon as the
    requests that are under way are answered. Each request is logged to stderr; with RUST_LOG=warn,
    only what fails.

    Examples:
      omnitool serve
      omnitool serve --env staging --listen 127.0.0.1:8080
      OMNITOOL_RELEASE=0007 omnitool serve --env staging
    "#);
}

#[test]
fn check_explains_itself() {
    insta::assert_snapshot!(help(&["check", "--help"]), @r#"
    Check that the app could serve

    Usage: omnitool check [OPTIONS]

    Options:
          --env <ENV>
              The environment: local, staging or production [default: the database's stamp, else local]

              [env: OMNITOOL_ENV=]

          --database-url <URL>
              The database [default: data/environments.toml]. Prefer the variable: flags show in process
              lists

              [env: DATABASE_URL]

          --format <FORMAT>
              How to print the result

              Possible values:
              - text: For people
              - json: For programs: one JSON document on stdout, failures included

              [default: text]

      -h, --help
              Print help (see a summary with '-h')

    Checks: configuration, templates (every page renders), database (it answers and is this
    environment's), schema (it is the one of this build). Nothing is written.

    Examples:
      omnitool check
      omnitool check --env staging --format json
    "#);
}

#[test]
fn create_user_explains_itself() {
    insta::assert_snapshot!(help(&["create-user", "--help"]), @r#"
    Make a user, or the demo users

    Usage: omnitool create-user [OPTIONS] [NAME]

    Arguments:
      [NAME]
              The user's unique name

    Options:
          --admin
              The user administers others

          --email <EMAIL>
              The user's contact address

          --password-stdin
              Read the password from stdin instead of generating one

          --demo-users
              Make the demo users instead, in a database without users

          --env <ENV>
              The environment: local, staging or production [default: the database's stamp, else local]

              [env: OMNITOOL_ENV=]

          --database-url <URL>
              The database [default: data/environments.toml]. Prefer the variable: flags show in process
              lists

              [env: DATABASE_URL]

          --format <FORMAT>
              How to print the result

              Possible values:
              - text: For people
              - json: For programs: one JSON document on stdout, failures included

              [default: text]

      -h, --help
              Print help (see a summary with '-h')

    The user is granted the default tools. Without --password-stdin, a password is generated and
    printed this once; it is stored nowhere.

    Demo users are admin (an admin), alice, user_a, user_b and user_c. They are made only in a
    database without users, and neither in production nor on Heroku.

    Examples:
      omnitool create-user alice --email alice@example.com
      omnitool create-user admin --admin --env staging
      read -rs PASSWORD && printf %s "$PASSWORD" | omnitool create-user bob --password-stdin
      omnitool create-user --demo-users --env local
    "#);
}

#[test]
fn explain_explains_itself() {
    insta::assert_snapshot!(help(&["explain", "--help"]), @r#"
    Explain why a user may use a tool, or why not

    Usage: omnitool explain [OPTIONS] <USER> <TOOL>

    Arguments:
      <USER>
              The user's name

      <TOOL>
              The tool's name

    Options:
          --env <ENV>
              The environment: local, staging or production [default: the database's stamp, else local]

              [env: OMNITOOL_ENV=]

          --database-url <URL>
              The database [default: data/environments.toml]. Prefer the variable: flags show in process
              lists

              [env: DATABASE_URL]

          --format <FORMAT>
              How to print the result

              Possible values:
              - text: For people
              - json: For programs: one JSON document on stdout, failures included

              [default: text]

      -h, --help
              Print help (see a summary with '-h')

    Shows what decides, each fact with its origin, and what changed. Nothing is written.

    Examples:
      omnitool explain user_a "Invoice Generator"
      omnitool explain alice "Email Templates" --env staging --format json
    "#);
}

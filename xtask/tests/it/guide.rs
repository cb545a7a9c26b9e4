//! `docs/workflow.md`: every command in it is executed, in its order, with the real programs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use omnitool_pipeline::PROGRAMS;
use omnitool_testing::write_program;

use crate::{
    heroku::{PRODUCTION, STAGING, World},
    project::{free_port, stderr, stdout},
};

const XTASK: &str = env!("CARGO_BIN_EXE_xtask");
const FENCE: &str = "```";

/// A part of the guide that does something.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    /// Commands.
    Run(String),
    /// Commands for an emulated Heroku.
    OnHeroku(String),
    /// Commands that are not run here, and why.
    NotHere(String),
    /// `data/tools.toml` is edited.
    Edit { what: String, text: String },
    /// Something that a person does.
    ByHand(String),
}

fn guide() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/workflow.md");
    fs::read_to_string(file).unwrap()
}

fn parts(guide: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut lines = guide.lines();
    while let Some(line) = lines.next() {
        let block = |lines: &mut std::str::Lines<'_>| -> String {
            lines.take_while(|line| *line != FENCE).map(|line| format!("{line}\n")).collect()
        };
        if let Some((_, rest)) = line.split_once("<!-- by hand: ") {
            parts.push(Part::ByHand(rest.trim_end_matches(" -->").to_owned()));
        } else if let Some(what) = line.strip_prefix("<!-- edit: ") {
            let what = what.trim_end_matches(" -->").to_owned();
            let text = if what.starts_with("without") {
                String::new()
            } else {
                assert_eq!(lines.next(), Some("```toml"), "an edit shows what is edited");
                block(&mut lines)
            };
            parts.push(Part::Edit { what, text });
        } else if let Some(language) = line.strip_prefix(FENCE) {
            let text = block(&mut lines);
            match language.split_once(' ') {
                None if language == "sh" => parts.push(Part::Run(text)),
                Some(("sh", "heroku")) => parts.push(Part::OnHeroku(text)),
                Some(("sh", why)) => parts.push(Part::NotHere(format!("{why}\n{text}"))),
                _ => panic!("nobody runs or applies this block: {line}\n{text}"),
            }
        }
    }
    parts
}

/// A working copy in a temporary folder, as it is before the first scenario, with a repository to push to.
struct WorkingCopy {
    folder: tempfile::TempDir,
    staging: u16,
    /// What commands get besides.
    variables: Vec<(&'static str, String)>,
}

impl WorkingCopy {
    fn new() -> Self {
        Self::on("", Vec::new())
    }

    /// With these sections in `data/environments.toml`, and these variables.
    fn on(sections: &str, variables: Vec<(&'static str, String)>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let copy = Self { folder, staging: free_port(), variables };
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for folder in ["data", "migrations"] {
            let mut command = Command::new("cp");
            command.arg("-r").arg(root.join(folder)).arg(copy.root());
            assert!(command.status().unwrap().success());
        }
        let _ = fs::remove_dir_all(copy.root().join("data/backups"));
        for file in [".gitignore", "Procfile"] {
            fs::copy(root.join(file), copy.root().join(file)).unwrap();
        }
        let environments = [
            ("local", "local", free_port()),
            ("staging.local", "staging", copy.staging),
            ("production.local", "production", free_port()),
        ];
        let environments = environments.map(|(section, name, port)| {
            format!(
                "[{section}]\ndatabase_url = \"sqlite:.omnitool/{name}/omnitool.db\"\n\
                 base_url = \"http://127.0.0.1:{port}\"\n"
            )
        });
        copy.write("data/environments.toml", &(environments.concat() + sections));
        // The guide comes to Heroku after all scenarios.
        if sections.is_empty() {
            copy.before_the_scenarios();
        }
        copy.stand_in_for_a_build();
        let cargo = format!(
            "case \"$1 $2\" in\n\"build --release\") exit 0;;\n\
             \"xtask deploy-staging\" | \"xtask rollback\") shift; exec {XTASK} \"$@\" --root {root} --programs {programs};;\n\
             \"xtask \"*) shift; exec {XTASK} \"$@\" --root {root};;\n\
             \"run --release\") program=$4; shift 5; exec {programs}/$program \"$@\";;\n\
             esac\necho \"nobody expected: cargo $*\" >&2\nexit 1\n",
            root = copy.root().display(),
            programs = copy.programs().display(),
        );
        copy.command("cargo", &cargo);
        let setup = "git init --quiet --initial-branch main . && git init --quiet --bare ../origin.git\n\
             git remote add origin ../origin.git && git add . && git commit --quiet -m start\n\
             git push --quiet origin main";
        copy.run(setup);
        copy
    }

    /// The programs as a build would make them from this copy, whose tools are not those that they were built with. They
    /// are scripts, which are packed faster than programs with debugging symbols.
    fn stand_in_for_a_build(&self) {
        for program in PROGRAMS {
            let real = Path::new(XTASK).with_file_name(program);
            assert!(real.is_file(), "run `cargo build --workspace --bins` first");
            let real = real.display();
            let script = match program {
                "import-tool-access" | "migrate-db" | "sync-tools" | "verify-migration" => format!(
                    "case \" $* \" in *\" --tools \"*) exec {real} \"$@\";; esac\n\
                     exec {real} \"$@\" --tools data/tools.toml"
                ),
                _ => format!("exec {real} \"$@\""),
            };
            self.command(&format!("programs/{program}"), &script);
        }
    }

    fn command(&self, name: &str, script: &str) {
        write_program(&self.commands().join(name), script);
    }

    /// `Invoice Generator` is not there yet, and two tools still are.
    fn before_the_scenarios(&self) {
        self.edit("without \"Invoice Generator\"", "");
        let old = "[[tool]]\nname = \"Email Templates management\"\ndescription = \"Templates\"\n\
                   route = \"/email_templates\"\nis_default = true\nis_active = true\n";
        self.edit("instead of \"Email Templates\"", old);
        let calculator = "[[tool]]\nname = \"Old Calculator\"\ndescription = \"Adds\"\n\
                          route = \"/old_calculator\"\nis_default = true\nis_active = true\n";
        self.edit("add", calculator);
        let tools = self.read("data/tools.toml");
        let kept = tools.lines().filter(|line| {
            !line.starts_with("\"Email Templates management\" =")
                && !line.starts_with("\"Old Calculator\" =")
        });
        self.write("data/tools.toml", &kept.map(|line| format!("{line}\n")).collect::<String>());
        // The export as it was then.
        let file = "data/tool_access_exports/local_tool_access.json";
        let export =
            self.read(file).replace("\"Email Templates\":", "\"Email Templates management\":");
        let from = export.find("    \"Invoice Generator\": {").unwrap();
        let until = from + export[from..].find("    },\n").unwrap() + "    },\n".len();
        self.write(file, &format!("{}{}", &export[..from], &export[until..]));
    }

    fn root(&self) -> PathBuf {
        let root = self.folder.path().join("omnitool");
        fs::create_dir_all(&root).unwrap();
        root.canonicalize().unwrap()
    }

    fn commands(&self) -> PathBuf {
        self.folder.path().join("commands")
    }

    fn programs(&self) -> PathBuf {
        self.commands().join("programs")
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.root().join(file)).unwrap()
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.root().join(file), text).unwrap();
    }

    /// Edits `data/tools.toml`.
    fn edit(&self, what: &str, text: &str) {
        const FILE: &str = "data/tools.toml";
        let tools = self.read(FILE);
        let edited = if what == "add" {
            match text.strip_prefix("[deprecated]\n") {
                Some(lines) => {
                    tools.replace("\n[deprecated]\n", &format!("\n[deprecated]\n{lines}"))
                }
                None => tools.replace("\n[deprecated]\n", &format!("\n{text}\n[deprecated]\n")),
            }
        } else {
            let name = what.trim_start_matches("instead of ").trim_start_matches("without ");
            let from = tools.find(&format!("[[tool]]\nname = {name}\n"));
            let from = from.unwrap_or_else(|| panic!("{name} is not in {FILE}"));
            let until = tools[from + 1..].find("\n[").unwrap() + from + 2;
            let block = if text.is_empty() { String::new() } else { format!("{text}\n") };
            format!("{}{block}{}", &tools[..from], &tools[until..])
        };
        assert_ne!(edited, tools, "{what} changes nothing");
        self.write(FILE, &edited);
    }

    /// What a person does in the app.
    fn by_hand(&self, what: &str) {
        assert_eq!(what, "everyone may use \"Invoice Generator\", and user_a is excluded from it");
        let facts = r#"{"format":"omnitool.tool-access","version":1,"environment":"local","users":["user_a"],
            "tools":{"Invoice Generator":{"everyone":true,"excluded":["user_a"],"granted":[]}}}"#;
        fs::write(self.folder.path().join("by-hand.json"), facts).unwrap();
        self.run("import-tool-access --env local --source ../by-hand.json --tools data/tools.toml");
    }

    fn output(&self, text: &str) -> Output {
        let path = format!(
            "{}:{}/programs:{}",
            self.commands().display(),
            self.commands().display(),
            std::env::var("PATH").unwrap()
        );
        let text = text.replace("127.0.0.1:5001", &format!("127.0.0.1:{}", self.staging));
        let temporary = text.replace("/tmp/", &format!("{}/", self.folder.path().display()));
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", &temporary]).current_dir(self.root());
        for name in
            ["DATABASE_URL", "OMNITOOL_ENV", "OMNITOOL_PLATFORM", "RUST_LOG", "GITHUB_ACTIONS"]
        {
            command.env_remove(name);
        }
        for (name, value) in [
            ("PATH", path.as_str()),
            ("HOME", self.folder.path().to_str().unwrap()),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_AUTHOR_NAME", "ann"),
            ("GIT_AUTHOR_EMAIL", "ann@example.com"),
            ("GIT_COMMITTER_NAME", "ann"),
            ("GIT_COMMITTER_EMAIL", "ann@example.com"),
        ] {
            command.env(name, value);
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.output().unwrap()
    }

    /// Runs commands that have to succeed, and returns what they print.
    fn run(&self, text: &str) -> String {
        let output = self.output(text);
        assert!(output.status.success(), "{text}\n{}{}", stdout(&output), stderr(&output));
        stdout(&output)
    }
}

impl Drop for WorkingCopy {
    fn drop(&mut self) {
        for environment in ["staging", "production"] {
            let stop = ["stop", environment, "--root"];
            let _ = Command::new(XTASK).args(stop).arg(self.root()).output();
        }
    }
}

#[test]
fn every_command_of_the_guide_works_in_its_order() {
    let copy = WorkingCopy::new();
    let mut printed = String::new();
    for part in parts(&guide()) {
        match part {
            Part::Run(text) => printed.push_str(&copy.run(&text)),
            Part::Edit { what, text } => copy.edit(&what, &text),
            Part::ByHand(what) => copy.by_hand(&what),
            Part::OnHeroku(_) | Part::NotHere(_) => {}
        }
    }
    // What the guide promises about what is printed.
    for line in [
        "Creating new tool: Invoice Generator",
        "Tool Synchronization Completed.",
        "[SUCCESS] Successfully exported ",
    ] {
        assert!(printed.contains(line), "{line}\n{printed}");
    }
    // And about who may use the tool, in both environments.
    let ask = |user: &str| {
        let text =
            format!("omnitool explain {user} 'Invoice Generator' --env staging --format json");
        stdout(&copy.output(&text)).replace([' ', '\n'], "")
    };
    assert!(ask("user_a").contains(r#""may_use":false"#), "{}", ask("user_a"));
    assert!(ask("alice").contains(r#""may_use":true"#), "{}", ask("alice"));
}

#[test]
fn every_command_of_the_guide_for_heroku_works_in_its_order() {
    let world = World::new();
    let variables = world.project.variables.iter().cloned().chain([world.rehearsal()]).collect();
    let copy = WorkingCopy::on(&world.sections(), variables);
    let mut count = 0;
    for part in parts(&guide()) {
        if let Part::OnHeroku(text) = part {
            copy.run(&text);
            count += text.lines().count();
        }
    }
    assert_eq!(count, 13);
    assert_eq!(
        world.releases(STAGING).last().unwrap(),
        "Rollback to v3 succeeded",
        "{:?}",
        world.releases(STAGING)
    );
    assert_eq!(world.releases(PRODUCTION).last().unwrap(), "Deploy 0002 succeeded");
}

/// What the documents say of Heroku's own tool is proven by that tool: `cargo xtask heroku-conformance`.
#[test]
fn every_command_of_heroku_s_own_tool_is_one_that_the_conformance_test_runs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let tests = fs::read_to_string(root.join("xtask/src/heroku_conformance.rs")).unwrap();
    let mut seen = 0;
    for file in ["docs/workflow.md", "docs/heroku.md"] {
        let text = fs::read_to_string(root.join(file)).unwrap();
        for line in text.lines().filter_map(|line| line.strip_prefix("heroku ")) {
            let command = line.split_whitespace().next().unwrap();
            seen += 1;
            // A token is made by the true service only.
            if command == "authorizations:create" {
                continue;
            }
            assert!(tests.contains(&format!("\"{command}\"")), "{file}: heroku {line}");
        }
    }
    assert!(seen > 3);
}

#[test]
fn what_is_not_run_here_says_why() {
    let parts = parts(&guide());
    let not_here: Vec<&str> = parts
        .iter()
        .filter_map(|part| match part {
            Part::NotHere(text) => Some(text.trim_end()),
            _ => None,
        })
        .collect();
    insta::assert_snapshot!(not_here.join("\n--\n"), @r"
    not here: the linter comes from PyPI, and the tests are all tests
    cargo xtask lint-migrations
    cargo xtask test -p omnitool-database
    --
    heroku tool
    heroku releases -a omnitool-by-xdv-staging
    heroku run -x -a omnitool-by-xdv-staging -- bin/verify-migration --env staging --verbose
    heroku logs -n 100 -a omnitool-by-xdv-staging
    ");
}

#[test]
fn every_link_of_the_guide_leads_somewhere() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let guide = guide();
    for target in guide.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
        assert!(file.is_empty() || docs.join(file).exists(), "{target}: no file");
        if file.is_empty() {
            let is_heading = |line: &str| {
                let Some(text) = line.strip_prefix("## ") else { return false };
                text.to_lowercase().replace([':', ','], "").replace(' ', "-") == anchor
            };
            assert!(guide.lines().any(is_heading), "{target}: no heading");
        }
    }
}

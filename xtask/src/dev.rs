//! `cargo xtask dev`.

use std::{
    io::{self, Read as _, Seek as _},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use clap::Args;
use fs_err as fs;
use omnitool_cli::{Failure, Interrupt, Outcome, print};
use omnitool_environment::EnvironmentName;
use omnitool_pipeline::{
    AppSpec, Credential, LocalPlatform, Place, ProgramCall, ProgramOutput, RunningApp, Site,
    Stream, Variable, Watch, check_required_data, run_program,
};

use crate::{
    project::{Connections, Profile, Project, look},
    terminal::{credentials_text, heading},
};

/// The flags of `cargo xtask dev`.
#[derive(Args, Debug)]
pub(crate) struct DevArgs {
    /// Use these built programs instead of building them
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
}

/// What the app's releases are numbered by everywhere else.
const RELEASE: &str = "dev";

/// Makes the local database, starts the app, and follows its log until Ctrl-C.
pub(crate) fn run(project: &Project, args: &DevArgs) -> Result<Outcome, Failure> {
    let site = project.site(EnvironmentName::Local)?;
    check_required_data(project.root())?;
    let programs = match &args.programs {
        Some(folder) => std::path::absolute(folder)?,
        None => project.build_programs(Profile::Dev, Connections::Plain)?,
    };
    let folder = LocalPlatform::folder(project.root(), &site);
    let _lock = project.lock(&folder, "cargo xtask dev", None, None)?;
    let platform = LocalPlatform::new(&site)?;
    let app = platform.app();
    look(&platform)?;
    if let Some(running) = app.running()? {
        app.stop(&running)?;
    }
    let interrupt = Interrupt::install()?;
    let mut variables = site.variables();
    variables.push(Variable::plain("OMNITOOL_RELEASE", RELEASE));
    let credentials = prepare(&site, &programs, &variables, &interrupt)?;
    // Whatever happens next, nothing else can show them again.
    print(&credentials_text(&credentials))?;

    let log = Log::at_its_end(app.log())?;
    let spec = AppSpec {
        program: programs.join("omnitool"),
        folder: project.root().to_owned(),
        variables,
        release: RELEASE.to_owned(),
        listen: platform.listen(),
    };
    let mut ignore = |_, _: &str| {};
    let running = app.start(&spec, &Watch::new(&|| interrupt.is_set(), &mut ignore))?;
    print(&heading(&format!("The app serves at {} until Ctrl-C", site.base_url)))?;
    let followed = follow(log, &platform, &running, &interrupt);
    app.stop(&running)?;
    print("the app was stopped\n")?;
    followed.map(|()| Outcome::Done)
}

/// Brings the local database up to date, and returns the users that were made.
fn prepare(
    site: &Site,
    programs: &Path,
    variables: &[Variable],
    interrupt: &Interrupt,
) -> Result<Vec<Credential>, Failure> {
    let calls = [
        site.migrate(Place::Here),
        site.create_demo_users(Place::Here),
        site.import_access(Place::Here),
    ];
    let mut made = Vec::new();
    for call in calls {
        let ProgramOutput { summary, credentials, .. } =
            call_program(&call, site, programs, variables, interrupt).inspect_err(|_| {
                // The users are there although a later program failed.
                let _ = print(&credentials_text(&made));
            })?;
        made.extend(credentials);
        print(&format!("{:<20} {summary}\n", call.program))?;
    }
    Ok(made)
}

fn call_program(
    call: &ProgramCall,
    site: &Site,
    programs: &Path,
    variables: &[Variable],
    interrupt: &Interrupt,
) -> Result<ProgramOutput, Failure> {
    let mut ignore = |_: Stream, _: &str| {};
    let interrupted = || interrupt.is_set();
    let mut watch = Watch::new(&interrupted, &mut ignore);
    Ok(run_program(call, programs, &site.root, variables, &mut watch)?)
}

/// Prints what the app logs, until somebody wants to stop or the app ends.
fn follow(
    mut log: Log,
    platform: &LocalPlatform,
    running: &RunningApp,
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    loop {
        let alive = platform.app().running()?.as_ref() == Some(running);
        // Read after the look, so that an app's last words are printed, too.
        print(&log.news()?)?;
        if interrupt.is_set() {
            return Ok(());
        }
        if !alive {
            return Err(Failure::failed("the app has ended by itself"));
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// A log that is read as it grows.
struct Log {
    file: PathBuf,
    position: u64,
}

impl Log {
    fn at_its_end(file: &Path) -> io::Result<Self> {
        let position = match fs::metadata(file) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        Ok(Self { file: file.to_owned(), position })
    }

    fn news(&mut self) -> io::Result<String> {
        let mut file = fs::File::open(&self.file)?;
        file.seek(io::SeekFrom::Start(self.position))?;
        let mut bytes = Vec::new();
        self.position += file.read_to_end(&mut bytes)? as u64;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

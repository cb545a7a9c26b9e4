//! Dynos: real processes in a folder with the app's slug and its config vars.

use std::{
    collections::BTreeMap,
    io::Read as _,
    net::{TcpListener, TcpStream},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    thread,
    time::Duration,
};

use chrono::Utc;

use crate::{
    FaultKind, Shared,
    console::{Feed, Manner},
    world::{Dyno, Release, secret, uuid},
};

/// Between two looks at a dyno that comes up.
const GLANCE: Duration = Duration::from_millis(20);
/// How long a dyno that does not listen has to live to count as up.
const LIVES: Duration = Duration::from_secs(2);

/// What a dyno runs.
pub(crate) struct Plan {
    /// The dyno.
    pub(crate) id: String,
    pub(crate) app: String,
    pub(crate) process_type: String,
    pub(crate) command: String,
    pub(crate) variables: BTreeMap<String, String>,
    pub(crate) size: String,
    pub(crate) attach: bool,
    pub(crate) time_to_live: Option<u64>,
}

impl Shared {
    /// The folder of a slug, unpacked at the first use.
    pub(crate) fn slug_folder(&self, slug: &str, blob: &str) -> Result<PathBuf, String> {
        let folder = self.folder.join("slugs").join(slug);
        let _one_at_a_time = self.unpacking.lock();
        if folder.join("app").is_dir() {
            return Ok(folder.join("app"));
        }
        let file = self.world().blobs.get(blob).cloned().ok_or("the slug has no bytes")?;
        let partial = self.folder.join("slugs").join(format!("{slug}.partial"));
        let _ = std::fs::remove_dir_all(&partial);
        std::fs::create_dir_all(partial.join("app")).map_err(|error| error.to_string())?;
        unpack(&file, &partial).map_err(|error| format!("the slug cannot be unpacked: {error}"))?;
        std::fs::rename(&partial, &folder).map_err(|error| error.to_string())?;
        Ok(folder.join("app"))
    }

    /// Where a dyno of the release works, and what variables it gets.
    fn place(
        &self,
        app: &str,
        release: &Release,
    ) -> Result<(PathBuf, BTreeMap<String, String>), String> {
        let (slug, mut variables) = {
            let world = self.world();
            let app = world.app(app).ok_or("the app is gone")?;
            let slug = release.slug.as_deref().and_then(|slug| app.slug(slug)).cloned();
            let mut variables = release.config.clone();
            // Attachments are of the app, not of the release.
            variables.extend(world.config_of(app));
            (slug, variables)
        };
        variables.insert("HEROKU_RELEASE_VERSION".to_owned(), format!("v{}", release.version));
        let folder = match slug {
            Some(slug) => self.slug_folder(&slug.id, &slug.blob)?,
            None => self.folder.clone(),
        };
        Ok((folder, variables))
    }

    /// Starts a one-off dyno, and returns its name.
    pub(crate) fn start_one_off(self: &Arc<Self>, plan: Plan) -> Result<String, String> {
        let manner = {
            let faults = &mut self.world().faults;
            if faults.happens(&FaultKind::SplitConsole) {
                Manner::Split
            } else if faults.happens(&FaultKind::CoalesceConsole) {
                Manner::Coalesced
            } else if faults.happens(&FaultKind::DropConsole) {
                Manner::Dropped
            } else {
                Manner::Normal
            }
        };
        let feed = Arc::new(Feed::new(manner));
        let (name, release, never, kill, twice) = {
            let mut world = self.world();
            let never = world.faults.happens(&FaultKind::NeverStart);
            let kill = world.faults.kill();
            let twice = world.faults.happens(&FaultKind::RunTwice);
            let secret = secret();
            let console = self.console();
            let app = world.app_mut(&plan.app).ok_or("the app is gone")?;
            let release = app.current().cloned().ok_or("the app has no release")?;
            app.next_dyno += 1;
            let name = format!("{}.{}", plan.process_type, 1000 + app.next_dyno);
            let attach_url =
                plan.attach.then(|| format!("rendezvous://localhost:{}/{secret}", console.port()));
            app.dynos.push(Dyno {
                id: plan.id.clone(),
                name: name.clone(),
                process_type: plan.process_type.clone(),
                command: plan.command.clone(),
                state: "starting",
                release: (release.id.clone(), release.version),
                size: plan.size.clone(),
                process: None,
                port: None,
                attach_url,
                created_at: Utc::now(),
            });
            world.consoles.insert(secret, Arc::clone(&feed));
            (name, release, never, kill, twice)
        };
        let shared = Arc::clone(self);
        let dyno = name.clone();
        thread::spawn(move || {
            if never {
                return;
            }
            if twice {
                let _ = shared.run_dyno(&plan, &dyno, &release, None, &mut |_| {});
            }
            feed.up();
            let status =
                shared.run_dyno(&plan, &dyno, &release, kill, &mut |bytes| feed.write(bytes));
            shared.note_end(&plan.app, &dyno, &status);
            feed.end();
        });
        Ok(name)
    }

    fn note_end(&self, app: &str, dyno: &str, status: &Result<ExitStatus, String>) {
        let mut world = self.world();
        let source = format!("heroku[{dyno}]");
        let code = match status {
            Ok(status) => status.code().unwrap_or(128 + status.signal().unwrap_or(0)),
            Err(_) => 1,
        };
        world.log(app, &source, &format!("Process exited with status {code}"));
        let end = if code == 0 { "complete" } else { "crashed" };
        world.log(app, &source, &format!("State changed from up to {end}"));
        if let Some(app) = world.app_mut(app) {
            app.dynos.retain(|found| found.name != dyno);
        }
    }

    /// Says that a dyno's process runs; returns whether there still is such a dyno.
    fn note_start(&self, plan: &Plan, process: u32) -> bool {
        let mut world = self.world();
        let dyno = world
            .app_mut(&plan.app)
            .and_then(|app| app.dynos.iter_mut().find(|dyno| dyno.id == plan.id));
        let Some(dyno) = dyno.filter(|_| !self.has_ended()) else { return false };
        // A process that answers visitors is up once it can.
        if dyno.port.is_none() {
            dyno.state = "up";
        }
        dyno.process = Some(process);
        true
    }

    /// Runs a dyno's command to its end.
    fn run_dyno(
        &self,
        plan: &Plan,
        dyno: &str,
        release: &Release,
        kill: Option<u64>,
        see: &mut dyn FnMut(&[u8]),
    ) -> Result<ExitStatus, String> {
        let (folder, mut variables) = self.place(&plan.app, release)?;
        variables.extend(plan.variables.clone());
        variables.insert("DYNO".to_owned(), dyno.to_owned());
        let mut child =
            spawn(&folder, &resolve(self, &plan.app, release, &plan.command), &variables)?;
        let id = child.id();
        if !self.note_start(plan, id) {
            // It was stopped before it had begun.
            kill_group(id);
        }
        let limit = kill.map(Duration::from_millis).or(plan.time_to_live.map(Duration::from_secs));
        if kill == Some(0) {
            kill_group(id);
        } else if let Some(limit) = limit {
            thread::spawn(move || {
                thread::sleep(limit);
                kill_group(id);
            });
        }
        let mut output = child.stdout.take().ok_or("no output")?;
        let mut buffer = [0; 4096];
        let mut line = Vec::new();
        loop {
            match output.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(length) => {
                    see(&buffer[..length]);
                    line.extend_from_slice(&buffer[..length]);
                    while let Some(end) = line.iter().position(|byte| *byte == b'\n') {
                        let text: Vec<u8> = line.drain(..=end).collect();
                        let text = String::from_utf8_lossy(&text).trim_end().to_owned();
                        self.world().log(&plan.app, &format!("app[{dyno}]"), &text);
                    }
                }
            }
        }
        child.wait().map_err(|error| error.to_string())
    }

    /// Runs a release's `release` process, if it has one; returns whether it went well.
    pub(crate) fn run_release_phase(
        self: &Arc<Self>,
        app: &str,
        release: &Release,
        command: &str,
    ) -> bool {
        let plan = Plan {
            id: uuid(),
            app: app.to_owned(),
            process_type: "release".to_owned(),
            command: command.to_owned(),
            variables: BTreeMap::new(),
            size: "Basic".to_owned(),
            attach: false,
            time_to_live: Some(3600),
        };
        let name = {
            let mut world = self.world();
            let Some(app) = world.app_mut(app) else { return false };
            app.next_dyno += 1;
            let name = format!("release.{}", 1000 + app.next_dyno);
            app.dynos.push(Dyno {
                id: plan.id.clone(),
                name: name.clone(),
                process_type: "release".to_owned(),
                command: command.to_owned(),
                state: "starting",
                release: (release.id.clone(), release.version),
                size: "Basic".to_owned(),
                process: None,
                port: None,
                attach_url: None,
                created_at: Utc::now(),
            });
            name
        };
        let output = release.output.clone();
        let status = self.run_dyno(&plan, &name, release, None, &mut |bytes| {
            if let Some(output) = &output {
                let text = String::from_utf8_lossy(bytes).into_owned();
                self.world().outputs.entry(output.clone()).or_default().push_str(&text);
            }
        });
        self.note_end(app, &name, &status);
        let fails = self.world().faults.happens(&FaultKind::FailReleasePhase);
        status.is_ok_and(|status| status.success()) && !fails
    }

    /// Stops the web dynos of an app, and starts those of its current release.
    pub(crate) fn restart_web(self: &Arc<Self>, app: &str) {
        self.stop_dynos(app, |dyno| !matches!(dyno.process_type.as_str(), "run" | "release"));
        let Some((release, commands)) = ({
            let world = self.world();
            world.app(app).and_then(|app| {
                let release = app.current()?.clone();
                let slug = app.slug(release.slug.as_deref()?)?;
                let commands: Vec<(String, String, u32)> = slug
                    .process_types
                    .iter()
                    .filter(|(process_type, _)| *process_type != "release")
                    .map(|(process_type, command)| {
                        let quantity = app.formation.get(process_type).copied().unwrap_or(0);
                        (process_type.clone(), command.clone(), quantity)
                    })
                    .collect();
                Some((release, commands))
            })
        }) else {
            return;
        };
        for (process_type, command, quantity) in commands {
            for number in 1..=quantity {
                self.start_permanent(app, &release, &process_type, number, &command);
            }
        }
    }

    fn start_permanent(
        self: &Arc<Self>,
        app: &str,
        release: &Release,
        process_type: &str,
        number: u32,
        command: &str,
    ) {
        let name = format!("{process_type}.{number}");
        let (id, port) = (uuid(), free_port());
        if let Some(app) = self.world().app_mut(app) {
            app.dynos.push(Dyno {
                id: id.clone(),
                name: name.clone(),
                process_type: process_type.to_owned(),
                command: command.to_owned(),
                state: "starting",
                release: (release.id.clone(), release.version),
                size: "Basic".to_owned(),
                process: None,
                port: Some(port),
                attach_url: None,
                created_at: Utc::now(),
            });
        }
        let plan = Plan {
            id,
            app: app.to_owned(),
            process_type: process_type.to_owned(),
            command: command.to_owned(),
            variables: BTreeMap::from([("PORT".to_owned(), port.to_string())]),
            size: "Basic".to_owned(),
            attach: false,
            time_to_live: None,
        };
        self.watch_port(app, &name, port);
        let (shared, release) = (Arc::clone(self), release.clone());
        thread::spawn(move || {
            let status = shared.run_dyno(&plan, &name, &release, None, &mut |_| {});
            let mut world = shared.world();
            let code = status.ok().and_then(|status| status.code()).unwrap_or(137);
            world.log(
                &plan.app,
                &format!("heroku[{name}]"),
                &format!("Process exited with status {code}"),
            );
            // One that was replaced is gone from the list, or has another release.
            if let Some(app) = world.app_mut(&plan.app)
                && let Some(dyno) = app.dynos.iter_mut().find(|dyno| {
                    dyno.name == name && dyno.release.0 == release.id && dyno.port == Some(port)
                })
            {
                dyno.state = "crashed";
            }
        });
    }

    /// Calls a permanent dyno up once its port answers, or, since not all of them listen, once it has lived for a while.
    fn watch_port(self: &Arc<Self>, app: &str, name: &str, port: u16) {
        let (shared, app, name) = (Arc::clone(self), app.to_owned(), name.to_owned());
        thread::spawn(move || {
            let mut lived = Duration::ZERO;
            loop {
                thread::sleep(GLANCE);
                let answers = TcpStream::connect(("127.0.0.1", port)).is_ok();
                let mut world = shared.world();
                let dyno = world.app_mut(&app).and_then(|app| {
                    app.dynos.iter_mut().find(|dyno| dyno.name == name && dyno.port == Some(port))
                });
                match dyno {
                    Some(dyno) if dyno.state == "starting" => {
                        lived += if dyno.process.is_some() { GLANCE } else { Duration::ZERO };
                        if answers || lived > LIVES {
                            dyno.state = "up";
                            return;
                        }
                    }
                    _ => return,
                }
            }
        });
    }

    /// Stops dynos, and waits until they are gone.
    pub(crate) fn stop_dynos(&self, app: &str, which: impl Fn(&Dyno) -> bool) {
        let processes: Vec<u32> = {
            let mut world = self.world();
            let Some(app) = world.app_mut(app) else { return };
            let found = app
                .dynos
                .iter()
                .filter(|dyno| which(dyno))
                .filter_map(|dyno| dyno.process)
                .collect();
            app.dynos.retain(|dyno| !which(dyno));
            found
        };
        for process in processes {
            kill_group(process);
        }
    }
}

/// Unpacks a gzipped tarball, in a process of its own: whatever another thread starts meanwhile has, for a moment, a copy of
/// every open file of this process, and a program that is open for writing cannot be executed.
pub(crate) fn unpack(file: &Path, into: &Path) -> Result<(), String> {
    let output = Command::new("tar")
        .args(["--extract", "--gzip", "--no-same-owner", "--file"])
        .arg(file)
        .arg("--directory")
        .arg(into)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

/// A bare process type is replaced by its command.
fn resolve(shared: &Shared, app: &str, release: &Release, command: &str) -> String {
    let world = shared.world();
    let (first, rest) = command.split_once(' ').unwrap_or((command, ""));
    let found = world
        .app(app)
        .and_then(|app| app.slug(release.slug.as_deref()?))
        .and_then(|slug| slug.process_types.get(first));
    match found {
        Some(found) => format!("{found} {rest}"),
        None => command.to_owned(),
    }
}

fn spawn(
    folder: &Path,
    command: &str,
    variables: &BTreeMap<String, String>,
) -> Result<Child, String> {
    Command::new("/bin/sh")
        .args(["-c", &format!("exec 2>&1\n{command}")])
        .current_dir(folder)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", folder)
        .envs(variables)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|error| format!("the dyno cannot be started: {error}"))
}

pub(crate) fn kill_group(process: u32) {
    let _ = Command::new("kill")
        .args(["-KILL", "--", &format!("-{process}")])
        .stderr(Stdio::null())
        .status();
}

/// A port for a dyno, from below those that the system gives to connections: one of these could take it before the dyno
/// listens, and whoever asks whether the dyno is there could even be connected to themselves.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    // Emulators of several processes begin at several places.
    let begin = std::process::id().wrapping_mul(211) % u32::from(COUNT);
    let offset = u16::try_from(begin).unwrap_or(0);
    (0..COUNT)
        .map(|_| FIRST + (offset + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .unwrap_or(0)
}

//! A running app and its visitors.

use std::{net::SocketAddr, sync::mpsc, thread::JoinHandle, time::Duration};

use diesel::{QueryableByName, RunQueryDsl as _, sql_types::BigInt};
use omnitool_environment::EnvironmentName;
use omnitool_testing::{Dialect, TestDatabase};
use omnitool_web::{App, Front, NewUser, Password, Role, Server, Settings, create_user};
use ureq::{Agent, http::Response};

pub(crate) const PASSWORD: &str = "a long enough password";

/// An app on a free port, which ends with this value.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    pub(crate) fn start(db: &TestDatabase) -> Self {
        Self::behind(db, Front::Nothing)
    }

    pub(crate) fn behind(db: &TestDatabase, front: Front) -> Self {
        Self::with(Settings { front, ..settings(db) })
    }

    pub(crate) fn with(settings: Settings) -> Self {
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let (ready, wait) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            omnitool_web::block_on(async {
                let server = Server::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
                ready.send(server.address()).unwrap();
                let app = App::new(settings);
                server.serve(&app, async { stopped.await.unwrap_or_default() }).await;
            })
            .unwrap();
        });
        let address = wait.recv().unwrap();
        Self { address, stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn visitor(&self) -> Visitor {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(Duration::from_secs(30)))
            .build();
        Visitor { agent: config.new_agent(), base: format!("http://{}", self.address) }
    }

    /// A visitor who is logged in.
    pub(crate) fn log_in(&self, username: &str) -> Visitor {
        let visitor = self.visitor();
        let answer = visitor.log_in(username, PASSWORD);
        assert_eq!((answer.status, answer.location()), (303, Some("/dashboard")), "{username}");
        visitor
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the app panicked");
        }
    }
}

/// A browser, as far as the app can tell: it keeps cookies and follows no redirect by itself.
pub(crate) struct Visitor {
    agent: Agent,
    pub(crate) base: String,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: ureq::http::HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    fn read(mut response: Response<ureq::Body>) -> Self {
        let body = response.body_mut().read_to_string().unwrap();
        Self { status: response.status().as_u16(), headers: response.headers().clone(), body }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn location(&self) -> Option<&str> {
        self.header("location")
    }

    pub(crate) fn cookies(&self) -> Vec<&str> {
        self.headers.get_all("set-cookie").iter().map(|value| value.to_str().unwrap()).collect()
    }

    /// The hidden field of the page's first form.
    pub(crate) fn form_token(&self) -> &str {
        let (_, rest) = self.body.split_once("name=\"form_token\" value=\"").unwrap();
        rest.split_once('"').unwrap().0
    }

    /// The hidden field of this name.
    pub(crate) fn hidden(&self, name: &str) -> &str {
        let field = format!("name=\"{name}\" value=\"");
        let found = self.body.split_once(&field);
        let (_, rest) = found.unwrap_or_else(|| panic!("no field {name}: {}", self.body));
        rest.split_once('"').unwrap().0
    }

    /// The text of the element with this id, without tags.
    pub(crate) fn text(&self, id: &str) -> String {
        let found = self.body.split_once(&format!("id=\"{id}\""));
        let (before, rest) = found.unwrap_or_else(|| panic!("no element {id}: {}", self.body));
        let name = before.rsplit_once('<').unwrap().1.split(' ').next().unwrap();
        let rest = rest.split_once('>').unwrap().1;
        let content = rest.split_once(&format!("</{name}>")).unwrap().0;
        let mut text = String::new();
        let mut is_tag = false;
        for c in content.chars() {
            match c {
                '<' => is_tag = true,
                '>' => is_tag = false,
                c if !is_tag => text.push(c),
                _ => {}
            }
        }
        text
    }

    pub(crate) fn has(&self, id: &str) -> bool {
        self.body.contains(&format!("id=\"{id}\""))
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

impl Visitor {
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.get_with(path, &[])
    }

    pub(crate) fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = self.agent.get(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Answer::read(request.call().unwrap())
    }

    pub(crate) fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        self.post_with(path, fields, &[])
    }

    /// Posts to `path` with the form token of this visitor's session.
    pub(crate) fn send(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let token = self.get("/account").form_token().to_owned();
        let mut all = vec![("form_token", &*token)];
        all.extend(fields);
        self.post(path, &all)
    }

    /// Asks what a change would do, and does it. Returns the page that showed it, and the answer.
    pub(crate) fn change(&self, path: &str, fields: &[(&str, &str)]) -> (Answer, Answer) {
        let shown = self.send(path, fields);
        assert_eq!(shown.status, 200, "{}", shown.body);
        let fingerprint = shown.hidden("fingerprint").to_owned();
        let mut all = fields.to_vec();
        all.push(("fingerprint", &fingerprint));
        let answer = self.send(path, &all);
        (shown, answer)
    }

    pub(crate) fn post_with(
        &self,
        path: &str,
        fields: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut request = self.agent.post(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Answer::read(request.send_form(fields.iter().copied()).unwrap())
    }

    pub(crate) fn log_in(&self, username: &str, password: &str) -> Answer {
        self.log_in_to(username, password, "")
    }

    pub(crate) fn log_in_to(&self, username: &str, password: &str, next: &str) -> Answer {
        let page = self.get("/login");
        assert_eq!(page.status, 200);
        let fields = [
            ("form_token", page.form_token()),
            ("username", username),
            ("password", password),
            ("next", next),
        ];
        self.post("/login", &fields)
    }
}

/// An app that reads nothing but the database.
pub(crate) fn settings(db: &TestDatabase) -> Settings {
    Settings::new(EnvironmentName::Local, "0001", db.url().clone())
}

/// A user who can log in with [`PASSWORD`].
pub(crate) fn user(db: &TestDatabase, username: &str) -> i64 {
    make(db, username, Role::User)
}

/// An admin who can log in with [`PASSWORD`].
pub(crate) fn admin(db: &TestDatabase, username: &str) -> i64 {
    make(db, username, Role::Admin)
}

fn make(db: &TestDatabase, username: &str, role: Role) -> i64 {
    let user = NewUser {
        username: username.to_owned(),
        email: None,
        role,
        password: Password::new(PASSWORD.to_owned().into()).unwrap(),
    };
    create_user(&mut db.connection(), &user).unwrap().id
}

/// Returns when so many wait for locks that a transaction of the test holds.
pub(crate) fn wait_for_locks(db: &TestDatabase, number: i64) {
    let sql = "SELECT count(*) AS number FROM pg_stat_activity \
               WHERE datname = current_database() AND wait_event_type = 'Lock'";
    // SQLite has no list of who waits; by then they do.
    for _ in 0..15 {
        std::thread::sleep(Duration::from_millis(100));
        if db.dialect() == Dialect::Postgres {
            let waits: Waits = diesel::sql_query(sql).get_result(&mut db.connection()).unwrap();
            if waits.number >= number {
                return;
            }
        }
    }
}

#[derive(QueryableByName)]
struct Waits {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

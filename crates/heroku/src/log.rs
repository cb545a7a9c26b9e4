//! Logs: best effort, but the only place where a detached process's exit status is.

use std::io::{BufRead as _, BufReader};

use serde_json::json;

use crate::{
    Dyno, Heroku, HerokuError, LogSession,
    call::{Api, Call},
};

/// Lines of a log, oldest first.
pub type LogLines = Vec<String>;

impl Heroku {
    /// The last lines of an app's log, or of one dyno's.
    ///
    /// # Errors
    ///
    /// Fails where there is no such app.
    pub fn log(&self, app: &str, dyno: Option<&str>, lines: u32) -> Result<LogLines, HerokuError> {
        let mut body = json!({ "lines": lines, "tail": false });
        if let Some(dyno) = dyno {
            body["dyno"] = json!(dyno);
        }
        let call =
            Call::new(Api::Platform, "POST", &["apps", app, "log-sessions"]).sdk().json(&body);
        // A session that nobody reads ends by itself.
        let session: LogSession = self.create(&call, &mut || Ok(None))?;
        let response = self.open_signed(session.logplex_url.expose(), "log")?;
        let reader =
            BufReader::new(response.into_body().into_with_config().limit(16 << 20).reader());
        let mut found = Vec::new();
        // The server closes at the end, and does not always do so cleanly.
        for line in reader.lines().map_while(Result::ok) {
            match line.strip_prefix("data:") {
                Some(data) => found.push(data.strip_prefix(' ').unwrap_or(data).to_owned()),
                None if line.is_empty()
                    || line.starts_with("id:")
                    || line.starts_with("event:") => {}
                // Without server-sent events it is plain text.
                None => found.push(line),
            }
        }
        Ok(found)
    }

    /// The exit status that the log has for a dyno; none where it has none (yet). Names come again: what the log says of an
    /// earlier dyno of that name does not count.
    ///
    /// # Errors
    ///
    /// Fails where there is no such app.
    pub fn exit_status_in_log(&self, app: &str, dyno: &Dyno) -> Result<Option<i32>, HerokuError> {
        let marker = format!(" heroku[{}]: Process exited with status ", dyno.name);
        let lines = self.log(app, Some(&dyno.name), 1500)?;
        let Some(made) = second(&dyno.created_at) else { return Ok(None) };
        Ok(lines.iter().rev().find_map(|line| {
            let (when, status) = line.split_once(&marker)?;
            let is_later = second(when).is_some_and(|when| when >= made);
            is_later.then(|| status.trim().parse().ok())?
        }))
    }
}

/// A time up to its second. All are in UTC and of one width, so that they can be compared as texts.
fn second(time: &str) -> Option<&str> {
    let second = time.get(..19)?;
    let is_time = second.bytes().enumerate().all(|(at, byte)| match at {
        4 | 7 => byte == b'-',
        10 => byte == b'T',
        13 | 16 => byte == b':',
        _ => byte.is_ascii_digit(),
    });
    let is_utc = time.ends_with('Z') || time.ends_with("+00:00");
    (is_time && is_utc).then_some(second)
}

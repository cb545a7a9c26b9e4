//! Programs in one-off dynos, whose answer comes through a console together with everything else that they print.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher as _, Hasher as _},
    os::unix::process::ExitStatusExt as _,
    process::ExitStatus,
};

use omnitool_heroku::{Heroku, HerokuError, OneOff, RunOutcome};

use super::HerokuPlatformError;
use crate::{
    PlatformError, ProgramCall, ProgramOutput, ReleaseId, RunProgramError, Stream, Watch,
    chain::chain, program::understand_answer,
};

/// How many lines of stderr an error quotes.
const TAIL: usize = 12;
/// Keeps the answer apart until the program has ended: a console has one stream for stdout and stderr. The first argument is
/// what stands between the two.
const SCRIPT: &str = "answer=$(mktemp) || exit 70\n\"$@\" > \"$answer\"\nstatus=$?\n\
                      printf '\\n%s\\n' \"$0\"\ncat \"$answer\"\nrm -f \"$answer\"\nexit $status";

/// Runs `call` in a dyno of its own, of the release that serves.
pub(super) fn run(
    heroku: &Heroku,
    app: &str,
    release: ReleaseId,
    call: &ProgramCall,
    watch: &mut Watch<'_>,
) -> Result<ProgramOutput, RunProgramError> {
    let ProgramCall { program, arguments, place: _, variables, purpose, limit } = call;
    let path = format!("bin/{program}");
    let marker = marker();
    let words: Vec<&str> = ["sh", "-c", SCRIPT, &marker, &path]
        .into_iter()
        .chain(arguments.iter().map(String::as_str))
        .collect();
    let number = release.to_string();
    // Heroku shows these in its dashboard, so that secrets are none of them: the app's own are there anyway.
    let mut shown = vec![("OMNITOOL_RELEASE", number.as_str())];
    shown.extend(
        variables.iter().filter(|one| !one.is_secret()).map(|one| (one.name(), one.expose())),
    );
    let command = OneOff { arguments: &words, variables: &shown, size: None, limit: *limit };
    let stop = watch.interrupted();
    let mut console = Console { marker: &marker, line: Vec::new(), answer: None, tail: Vec::new() };
    let outcome = heroku
        .run_until(app, &command, &mut |bytes| console.take(bytes, watch), stop)
        .map_err(|error| match error {
            HerokuError::Refused { .. } => {
                PlatformError::from(HerokuPlatformError::from(error)).into()
            }
            // The dyno may be there all the same.
            error => {
                let (dyno, why) = (format!("a dyno of {app}"), chain(&error));
                RunProgramError::Unknown { program, dyno, why }
            }
        })?;
    console.end(watch);
    let Console { answer, tail, .. } = console;
    let status = match outcome {
        RunOutcome::Exited(status) => ExitStatus::from_raw(status << 8),
        RunOutcome::Unknown { dyno, why } => {
            return Err(RunProgramError::Unknown { program, dyno, why });
        }
    };
    let text = String::from_utf8_lossy(&answer.unwrap_or_default()).into_owned();
    understand_answer(program, *purpose, status, &text, tail)
}

/// Something that no program prints by chance.
fn marker() -> String {
    let part = || RandomState::new().build_hasher().finish();
    format!("omnitool-answer-{:016x}{:016x}:", part(), part())
}

/// Takes what comes through the console apart.
struct Console<'a> {
    marker: &'a str,
    line: Vec<u8>,
    answer: Option<Vec<u8>>,
    tail: Vec<String>,
}

impl Console<'_> {
    fn take(&mut self, bytes: &[u8], watch: &mut Watch<'_>) {
        for byte in bytes {
            match (&mut self.answer, byte) {
                (Some(answer), byte) => answer.push(*byte),
                (None, b'\n') => self.end_line(watch),
                (None, byte) => self.line.push(*byte),
            }
        }
    }

    fn end_line(&mut self, watch: &mut Watch<'_>) {
        let line = std::mem::take(&mut self.line);
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches('\r');
        if text == self.marker {
            self.answer = Some(Vec::new());
        } else if !text.is_empty() {
            watch.line(Stream::Stderr, text);
            if self.tail.len() == TAIL {
                self.tail.remove(0);
            }
            self.tail.push(text.to_owned());
        }
    }

    fn end(&mut self, watch: &mut Watch<'_>) {
        if self.answer.is_none() {
            self.end_line(watch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_what_comes_after_the_marker_however_it_is_cut() {
        let whole = b"a log line\r\nanother\r\n\r\nMARK\r\n{\"summary\":\r\n\"ok\"}\r\n";
        for size in [1, 3, 7, whole.len()] {
            let mut lines = Vec::new();
            let mut see = |_: Stream, line: &str| lines.push(line.to_owned());
            let mut watch = Watch::new(&|| false, &mut see);
            let mut console = Console { marker: "MARK", line: vec![], answer: None, tail: vec![] };
            whole.chunks(size).for_each(|piece| console.take(piece, &mut watch));
            console.end(&mut watch);
            let answer: serde_json::Value =
                serde_json::from_slice(&console.answer.unwrap()).unwrap();
            assert_eq!(answer["summary"], "ok");
            assert_eq!(lines, ["a log line", "another"]);
        }
    }
}

//! Faults that are asked for, and wait for their moment.

use serde::{Deserialize, Serialize};

/// Something that goes wrong, so many times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// What.
    pub kind: FaultKind,
    /// The method that it is for; all where there is none.
    #[serde(default)]
    pub method: Option<String>,
    /// A part of the path that it is for, or all of it behind a `=`; all paths where it is empty. Faults that are not about requests ignore it.
    #[serde(default)]
    pub path: String,
    /// How often.
    #[serde(default = "once")]
    pub times: u32,
}

const fn once() -> u32 {
    1
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// The answer is this status, and nothing has happened.
    Status(u16),
    /// What was asked for happens, and the connection closes without an answer.
    LoseAnswer,
    /// What was asked for happens, and the answer is this status, as of a gateway that gave up.
    LateStatus(u16),
    /// The answer is an HTML page that is labelled as JSON, and nothing has happened.
    Html,
    /// The answer's bytes come one by one, with so many milliseconds between them.
    Drip(u64),
    /// The next backup, restore or copy fails.
    FailTransfer,
    /// The next restore fails, with the database empty.
    FailRestore,
    /// The next backup, restore or copy ends with warnings.
    WarnTransfer,
    /// The next build fails.
    FailBuild,
    /// The next release phase fails, whatever its command does.
    FailReleasePhase,
    /// The next one-off dyno never starts.
    NeverStart,
    /// The next one-off dyno is killed after so many milliseconds.
    Kill(u64),
    /// The next one-off dyno's command runs twice.
    RunTwice,
    /// The next console sends its bytes one by one.
    SplitConsole,
    /// The next console sends the greeting and all output at once.
    CoalesceConsole,
    /// The next console closes before the command's last line.
    DropConsole,
    /// Followers stay behind.
    FollowerBehind,
    /// The addresses of databases that an app's config has lead to where nobody listens, as if only the app could reach them.
    Unreachable,
    /// The next rollback brings back the address of a database that the app used before, as config vars of add-ons do.
    OldDatabase,
    /// The next address of a backup has expired.
    ExpiredUrl,
}

impl FaultKind {
    /// Whether it is about a request, and not about what happens later.
    #[must_use]
    pub const fn is_of_request(&self) -> bool {
        matches!(
            self,
            Self::Status(_) | Self::LoseAnswer | Self::LateStatus(_) | Self::Html | Self::Drip(_)
        )
    }
}

/// The faults that are still to come.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<Fault>);

impl Faults {
    pub(crate) fn add(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn all(&self) -> &[Fault] {
        &self.0
    }

    /// The fault for a request, used up by one.
    pub(crate) fn for_request(&mut self, method: &str, path: &str) -> Option<FaultKind> {
        self.take(|fault| {
            fault.kind.is_of_request()
                && fault.method.as_deref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(method))
                && match fault.path.strip_prefix('=') {
                    Some(whole) => path == whole,
                    None => path.contains(&fault.path),
                }
        })
    }

    /// Whether a fault of this kind is to happen now, used up by one.
    pub(crate) fn happens(&mut self, kind: &FaultKind) -> bool {
        self.take(|fault| fault.kind == *kind).is_some()
    }

    /// After how many milliseconds the next dyno is to be killed.
    pub(crate) fn kill(&mut self) -> Option<u64> {
        match self.take(|fault| matches!(fault.kind, FaultKind::Kill(_))) {
            Some(FaultKind::Kill(after)) => Some(after),
            _ => None,
        }
    }

    fn take(&mut self, is_it: impl Fn(&Fault) -> bool) -> Option<FaultKind> {
        let at = self.0.iter().position(is_it)?;
        let kind = self.0[at].kind.clone();
        self.0[at].times = self.0[at].times.saturating_sub(1);
        if self.0[at].times == 0 {
            self.0.remove(at);
        }
        Some(kind)
    }
}

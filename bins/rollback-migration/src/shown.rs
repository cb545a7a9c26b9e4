//! Progress on a terminal.

use omnitool_backup::{Progress, Step};
use omnitool_cli::{ProgressBar, progress_bar, spinner};

/// Shows how far a step has come, where a person looks at it.
pub(crate) struct Shown {
    bar: ProgressBar,
    step: Option<Step>,
}

impl Shown {
    pub(crate) fn new(label: &str) -> Self {
        Self { bar: spinner(label), step: None }
    }

    pub(crate) fn update(&mut self, Progress { step, done, total }: Progress) {
        if self.step.replace(step) != Some(step) {
            self.bar.finish_and_clear();
            self.bar = match total {
                Some(total) => progress_bar(step.as_str(), total),
                None => spinner(step.as_str()),
            };
        }
        self.bar.set_position(done);
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

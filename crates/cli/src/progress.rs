//! Progress on stderr, only where a person looks at it.

use std::time::Duration;

use indicatif::{ProgressDrawTarget, ProgressStyle};

/// A progress bar; it draws nothing unless stderr is a terminal.
pub use indicatif::ProgressBar;

/// A bar over `total` bytes.
#[must_use]
pub fn progress_bar(label: &str, total: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
    // The template is a constant; a wrong one would only lose the layout.
    if let Ok(style) =
        ProgressStyle::with_template("{msg} [{bar:30}] {binary_bytes}/{binary_total_bytes} {eta}")
    {
        bar.set_style(style);
    }
    bar.with_message(label.to_owned())
}

/// A sign of life for work of unknown length.
#[must_use]
pub fn spinner(label: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr())
        .with_message(label.to_owned());
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

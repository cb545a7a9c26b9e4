//! Logs go to stderr, at the level of `RUST_LOG`.

use std::io::IsTerminal as _;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

/// Starts the logs at `level`, or at what `RUST_LOG` says.
pub(crate) fn start(level: LevelFilter) {
    let wanted = std::env::var("RUST_LOG").unwrap_or_default();
    let (targets, malformed) = match wanted.parse::<Targets>() {
        Ok(targets) if !wanted.trim().is_empty() => (targets, None),
        Ok(_) => (Targets::new().with_default(level), None),
        Err(error) => (Targets::new().with_default(level), Some(error)),
    };
    let colours = std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colours);
    // Only a second call fails, and the first one's logs are as good.
    let _ = tracing_subscriber::registry().with(lines).with(targets).try_init();
    if let Some(error) = malformed {
        tracing::warn!("RUST_LOG is not understood and was ignored: {error}");
    }
}

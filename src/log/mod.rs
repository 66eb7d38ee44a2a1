//! Log lines to stderr, for people or for machines. Each process of a cluster writes its own. `limit` keeps one cause from
//! drowning the others; `output` keeps a stderr that nobody reads from making anybody wait.
//!
//! Neighbours: `master` and `worker` start it from the configuration, and let it tell what it has left out; everybody logs
//! with `tracing`.

mod limit;
mod output;

use crate::config::{LogFormat, LogLevel};
use limit::Limit;
use output::Output;
use std::io::{IsTerminal, stderr};
use std::sync::{Arc, OnceLock};
use std::time::Instant;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::{Layered, SubscriberExt};
use tracing_subscriber::{Registry, fmt, reload};

/// What can be asked of the log of this process, once it is started.
static LOG: OnceLock<Started> = OnceLock::new();

struct Started {
    level: reload::Handle<LevelFilter, Registry>,
    limit: Limit,
    output: Arc<Output>,
}

/// What writes, without how.
type Base = Layered<Limit, Layered<reload::Layer<LevelFilter, Registry>, Registry>>;

/// Starts logging. A program that has installed a subscriber of its own keeps it.
pub(crate) fn init(format: LogFormat, level: LogLevel) {
    let (filter, handle) = reload::Layer::new(filter_of(level));
    let limit = Limit::default();
    let base: Base = tracing_subscriber::registry().with(filter).with(limit.clone());
    let output = Arc::new(Output::new(stderr(), format));
    // a log that cannot be written (its reader died, the disk is full) must end nobody
    let lines = fmt::layer().log_internal_errors(false).with_writer(Arc::clone(&output)).with_target(false);
    let installed = match format {
        LogFormat::Text => {
            tracing::subscriber::set_global_default(base.with(lines.with_ansi(stderr().is_terminal())))
        }
        LogFormat::Json => {
            tracing::subscriber::set_global_default(base.with(lines.json().flatten_event(true)))
        }
    };
    if installed.is_ok() {
        LOG.get_or_init(|| Started { level: handle, limit, output });
    }
}

fn filter_of(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// From now on so much is logged. Does nothing where the program has a subscriber of its own.
pub(crate) fn set_level(level: LogLevel) {
    if let Some(log) = LOG.get() {
        // fails only when the subscriber is gone, and that never goes
        let _ = log.level.reload(filter_of(level));
    }
}

/// Says how many lines were left out, of the causes that have had their second. To be called about once a second.
pub(crate) fn tell_left_out() {
    if let Some(log) = LOG.get() {
        log.limit.tell(Instant::now());
        log.output.tell();
    }
}

/// When that is due; `None` if nothing was left out.
pub(crate) fn next_deadline() -> Option<Instant> {
    LOG.get().and_then(|log| log.limit.next_deadline())
}

/// The process is about to exit: what was left out is told now.
pub(crate) fn finish() {
    if let Some(log) = LOG.get() {
        log.limit.tell_all();
        log.output.tell();
    }
}

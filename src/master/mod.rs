//! The master: binds, starts workers, supervises them, and never serves a request. Reading order: `listeners`,
//! `generation` and `spawn` (what it makes), `lifecycle` and `throttle` (what it decides, pure), `watchdog` and `recycling`
//! (what it makes of what it sees of workers, pure), `event_loop` (where it waits and performs), `evidence` (what it finds
//! out about a worker that stands still), `pool` (what the program wants), `ask` (what others want), `history`
//! (what they are told), `control` (how they reach it), `report` (what it says), `latency` (what the
//! workers measured, in files), `service_manager`
//! (what systemd is told), `config_reader` (what is read at a reload), `on_giveup` (who is woken up), `pid_file`.
//!
//! Neighbours: `cluster` runs it; it talks to workers through `ipc` and imports nothing of `worker`.

mod access_log;
mod ask;
mod config_reader;
pub(crate) mod control;
mod event_loop;
mod evidence;
mod generation;
mod history;
mod latency;
pub mod lifecycle;
pub(crate) mod listeners;
mod on_giveup;
mod orphans;
mod pid_file;
mod pool;
mod recycling;
mod report;
mod service_manager;
mod spawn;
pub mod throttle;
mod watchdog;

pub use pool::Pool;

use crate::error::{Error, Result};
use crate::event::Event;
use crate::log;
use crate::sys::process;
use config_reader::{ConfigReader, Read};
use control::Sockets;
use event_loop::EventLoop;
use generation::Generation;
use latency::LatencyFiles;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use pid_file::PidFile;
use spawn::Spawner;

/// Runs this process as the master until it has stopped. It has its configuration from `read`, now and at each reload.
///
/// # Errors
/// Why it could not run, or that it gave up.
pub(crate) fn run(read: Read, on_event: Box<dyn FnMut(&Event)>, pool: &Pool) -> Result<()> {
    let (config, origins) = read()?;
    let inherited = listeners::inherited()?;
    log::init(config.log_format, config.log_level);
    process::set_name("uringd-master");
    process::set_title(&title());
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    if cfg!(panic = "abort") {
        tracing::warn!(
            "built with panic=abort: a panic in a handler is a crash of its worker, whatever --on-panic says"
        );
    }
    raise_descriptor_limit();
    let signals = event_loop::block_signals()?;
    let spawner = Spawner::new()?;
    let first = Generation::first(config, origins, inherited)?;
    let _pid_file = first.config.pid_file.as_deref().map(PidFile::write).transpose()?;
    let latency_files = LatencyFiles::open(&first.config, pool.book())?;
    let served: Vec<_> = first.bound.iter().map(|bound| bound.address.clone()).collect();
    let sockets = Sockets::open(&first.config, &served, pool)?;
    let reader = ConfigReader::new(read)?;
    let outcome = EventLoop::new(first, reader, spawner, signals, on_event, pool.open()?, pool.book()).run();
    sockets.finish();
    latency_files.finish();
    log::finish();
    outcome
}

/// Must be made before it is set: it is written over the arguments.
fn title() -> String {
    let arguments = std::env::args_os().skip(1).map(|argument| format!(" {}", argument.to_string_lossy()));
    format!("uringd: master{}", arguments.collect::<String>())
}

/// The soft limit is for programs that use select(2); workers inherit what we have. `Config` has checked that the
/// hard limit suffices.
fn raise_descriptor_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(errno) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        let error = Error::io("raise the soft limit of descriptors", errno);
        tracing::warn!("{error}");
    }
}

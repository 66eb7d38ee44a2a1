//! A worker: one thread, one ring, one handler. `run` is a worker process's life from exec to exit, `run_alone` the same
//! loop in a process that has no master; reading order after that: `event_loop`, `connections`, `queue`, `listeners`,
//! `control`, `backlog`, `drain`, `timers`, `service`, `tasks`, `clock`, `meter`, `journal`, `identity`.
//!
//! Neighbours: `cluster` starts it in a process that a master marked, `server` in any; `ring`, `http`, `ipc` and
//! `handler` are what it is made of. It imports nothing of `master`.

mod backlog;
mod clock;
mod connections;
mod control;
mod drain;
mod event_loop;
mod identity;
mod journal;
mod listeners;
mod meter;
mod queue;
mod service;
mod tasks;
mod timers;

pub(crate) use control::Master;

/// What works without a ring, for tests of handlers.
pub(crate) mod unconnected {
    pub use super::backlog::Backlog;
    pub use super::event_loop::Owed;
    pub use super::queue::{Next, Queue};
    pub use super::service::{Guarded, Outcome, resolve};
    pub use super::tasks::{Progress, TaskId, Tasks};
}

pub use identity::Worker;

use crate::config::{OnPanic, WorkerSettings};
use crate::error::{Error, Result};
use crate::files::Files;
use crate::handler::{Around, Handler, IntoHandler, Mailbox};
use crate::http::chain;
use crate::ipc::message::{PROTOCOL_VERSION, RingReport, Start, ToMaster, ToWorker};
use crate::ipc::{Channel, Received};
use crate::ring::{Ring, kernel_release};
use crate::stats::Area;
use crate::sys::{process, signal};
use crate::{config, log};
use control::Control;
use event_loop::EventLoop;
use journal::Journal;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// Runs this process as a worker and gives its exit code. A uringd master says in `start` how to serve; another
/// kind says nothing, and then `own_settings` do, with the file of the access log.
///
/// # Errors
/// What keeps it from serving; the master was told.
pub(crate) fn run<H: IntoHandler>(
    channel: OwnedFd,
    stats: Option<OwnedFd>,
    master: Master,
    own_settings: impl FnOnce() -> Result<(WorkerSettings, Option<OwnedFd>)>,
    make: impl FnOnce(Worker) -> H,
) -> Result<i32> {
    signal::ignore_the_masters();
    let mut channel = Channel::from_fd(channel).map_err(|e| Error::io("use the channel to the master", e))?;
    let ring = match Ring::new() {
        Ok(ring) => ring,
        Err(cause) => {
            say(&mut channel, &ToMaster::Refused { cause: cause.clone() });
            return Err(Error::Ring(cause));
        }
    };
    say(&mut channel, &ToMaster::Online { protocol: PROTOCOL_VERSION, ring: report(&ring) });
    let (start, heard, access_log) = match master {
        Master::Uringd { .. } => {
            let (start, heard) = wait_for_start(&mut channel)?;
            (start, heard, None)
        }
        Master::Foreign { .. } => {
            let (settings, access_log) = own_settings()?;
            let start = Start { id: 0, slot: 0, core: None, listeners: Vec::new(), settings };
            (start, Vec::new(), access_log)
        }
    };
    let journal = start.settings.access_log.map(|format| Journal::new(format, start.slot, access_log));
    let area = area(stats)?;
    serve(Origin { channel, master, start, heard }, ring, area, journal, make)
}

/// Who has started this worker, and what it has said so far.
struct Origin {
    channel: Channel,
    master: Master,
    start: Start,
    heard: Vec<Received>,
}

fn serve<H: IntoHandler>(
    Origin { mut channel, master, start, heard }: Origin,
    mut ring: Ring,
    area: Area,
    journal: Option<Journal>,
    make: impl FnOnce(Worker) -> H,
) -> Result<i32> {
    log::init(start.settings.log_format, start.settings.log_level);
    let settled = settle_in(&start, master).and_then(|wake| {
        let slots = register_slots(&mut ring, &start.settings)?;
        let files = start.settings.files.as_ref().map(|settings| {
            let doing = || format!("serve the files below {}", settings.root.display());
            Files::with_settings(settings).map_err(|error| Error::io(doing(), error))
        });
        Ok((wake, slots, files.transpose()?))
    });
    let (wake, slots, files) = match settled {
        Ok(settled) => settled,
        Err(error) => {
            say(
                &mut channel,
                &match &error {
                    Error::Ring(cause) => ToMaster::Refused { cause: cause.clone() },
                    error => ToMaster::Failed { problem: error.to_string() },
                },
            );
            return Err(error);
        }
    };
    let mailbox = Mailbox::open().map_err(|e| Error::io("make an eventfd", e))?;
    service::install_hook();
    let worker = Worker::new(start.id, start.slot, start.core, files, Arc::clone(&mailbox), area.clone());
    let backlog = worker.backlog();
    // a log line and an event are one line each
    let one_line = |text: String| text.lines().map(str::trim).collect::<Vec<_>>().join("; ");
    let make = || make(worker).into_handler().map_err(|error| one_line(chain(&*error)));
    let made = service::guard(|| "the factory".to_owned(), make);
    let handler = match made.unwrap_or_else(|| Err("the program's factory panicked".into())) {
        Ok(handler) => handler,
        Err(problem) => {
            say(&mut channel, &ToMaster::Failed { problem: problem.clone() });
            return Err(Error::Factory { problem });
        }
    };
    // a factory that panics has failed to start, which the master is told in any case
    if start.settings.on_panic == OnPanic::Abort {
        service::abort_on_panic();
    }
    let control = Control::new(channel, wake, master, start.settings.kill_timeout, heard, backlog);
    let event_loop = EventLoop::new(ring, control, mailbox, start.settings, slots, area, handler);
    let code = event_loop.with_journal(journal).run();
    log::finish();
    code
}

/// Runs a worker's loop on this thread, for a program that has no master, until `stop` has been rung and the loop has
/// drained. Touches nothing of the process but its panic hook.
///
/// # Errors
/// What keeps it from serving.
pub(crate) fn run_alone<H: Handler>(
    (settings, access_log): (WorkerSettings, Option<OwnedFd>),
    core: Option<usize>,
    listeners: Vec<OwnedFd>,
    stop: Arc<EventFd>,
    handler: H,
) -> Result<()> {
    let mut ring = Ring::new().map_err(Error::Ring)?;
    let slots = register_slots(&mut ring, &settings)?;
    core.into_iter().for_each(pin);
    service::install_hook();
    let _around = Around::remember();
    let mailbox = Mailbox::open().map_err(|e| Error::io("make an eventfd", e))?;
    let control = Control::alone(listeners, stop);
    let journal = settings.access_log.map(|format| Journal::new(format, 0, access_log));
    let event_loop = EventLoop::new(ring, control, mailbox, settings, slots, area(None)?, handler);
    event_loop.with_journal(journal).run().map(|_| ())
}

/// The memory that this worker's numbers go to: what its master reads, or its own where nobody does.
fn area(inherited: Option<OwnedFd>) -> Result<Area> {
    let attached = inherited.map(|memory| Area::attach(&memory));
    let area = attached.unwrap_or_else(|| Area::create().map(|(area, _)| area));
    area.map_err(|e| Error::io("map the memory of the statistics", e))
}

/// Beyond the limit of connections, for those that are handed over.
fn register_slots(ring: &mut Ring, settings: &WorkerSettings) -> Result<u32> {
    let slots = settings.max_connections + config::DESCRIPTOR_RESERVE as u32;
    ring.register_slots(slots).map_err(Error::Ring)?;
    Ok(slots)
}

fn pin(core: usize) {
    if !core_affinity::set_for_current(core_affinity::CoreId { id: core }) {
        tracing::warn!(core, "cannot pin to this core; running unpinned");
    }
}

/// Everything about the process itself: its name, its core, its user, its signals.
fn settle_in(start: &Start, master: Master) -> Result<EventFd> {
    process::set_name(&format!("uringd-w{}", start.slot));
    start.core.into_iter().for_each(pin);
    if let Some(user) = &start.settings.user {
        process::become_user(user.uid, user.gid, &user.groups)
            .map_err(|e| Error::io(format!("become user {}", user.name), e))?;
    }
    let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
        .map_err(|e| Error::io("make an eventfd", e))?;
    signal::on_terminate(master.pid(), start.settings.kill_timeout, wake.as_fd())
        .map_err(|e| Error::io("catch SIGTERM", e))?;
    // after the switch of user, which clears it; and then look whether the master died before it was armed
    process::terminate_with_parent();
    if process::parent() != master.pid() {
        return Err(Error::Channel { peer: "master", problem: "it died while this worker started".into() });
    }
    Ok(wake)
}

/// Gives what else came as well: the first listener, most likely, or what the program has told this worker already.
fn wait_for_start(channel: &mut Channel) -> Result<(Start, Vec<Received>)> {
    let broken = |problem: String| Error::Channel { peer: "master", problem };
    let mut others = Vec::new();
    loop {
        let mut fds = [PollFd::new(channel.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(Error::io("wait for the master", errno)),
        }
        let mut heard = channel.receive().map_err(|e| Error::io("hear the master", e))?.into_iter();
        while let Some(received) = heard.next() {
            match received {
                Received::Closed => return Err(broken("it is gone".into())),
                Received::Broken(error) => return Err(broken(error.to_string())),
                received => match ToWorker::read(&received).map_err(broken)? {
                    Some(ToWorker::Start(start)) => {
                        others.extend(heard);
                        return Ok((start, others));
                    }
                    // told to leave before there was anything to leave
                    Some(ToWorker::Drain { .. }) => std::process::exit(0),
                    _ => others.push(received),
                },
            }
        }
    }
}

fn report(ring: &Ring) -> RingReport {
    let own = |names: &[&'static str]| names.iter().map(|name| (*name).to_owned()).collect();
    RingReport {
        kernel: kernel_release(),
        using: own(&ring.features().using),
        missing: own(&ring.features().missing),
    }
}

fn say(channel: &mut Channel, message: &ToMaster) {
    // a master that does not hear is gone, which the next read says
    let _ = channel.send_to_master(message);
}

//! What a program's factory is told about the worker that it makes a handler for.
//!
//! Neighbours: `worker::run` makes one; `cluster` hands it to the factory.

use super::backlog::Backlog;
use crate::error::{Error, Result};
use crate::event::Message;
use crate::files::Files;
use crate::handler::{Mail, Mailbox};
use crate::ipc::{WAITING_MAX, node};
use crate::stats::{Area, Stats};
use crate::sys::process;
use serde::Serialize;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::{fmt, io};

/// The worker process in which a factory makes its handler. Clones are cheap and name the same worker; other threads may
/// have one.
#[derive(Clone)]
pub struct Worker(Arc<Inner>);

struct Inner {
    id: u32,
    slot: usize,
    core: Option<usize>,
    files: Mutex<Option<Files>>,
    mailbox: Arc<Mailbox>,
    backlog: Arc<Backlog>,
    area: Area,
}

impl Worker {
    pub(crate) fn new(
        id: u32,
        slot: usize,
        core: Option<usize>,
        files: Option<Files>,
        mailbox: Arc<Mailbox>,
        area: Area,
    ) -> Worker {
        let (files, backlog) = (Mutex::new(files), Arc::default());
        Worker(Arc::new(Inner { id, slot, core, files, mailbox, backlog, area }))
    }

    /// How much of what this worker sends has not left yet.
    pub(crate) fn backlog(&self) -> Arc<Backlog> {
        Arc::clone(&self.0.backlog)
    }

    /// Identifies this worker process; a replacement has another one (Node's `worker.id`).
    pub fn id(&self) -> u32 {
        self.0.id
    }

    /// Its place in the pool, `0..workers`; a replacement takes its predecessor's.
    pub fn slot(&self) -> usize {
        self.0.slot
    }

    /// The core it is pinned to.
    pub fn core(&self) -> Option<usize> {
        self.0.core
    }

    /// What this worker process has done so far: what the turn of its loop before this one has told. The pool's numbers are
    /// the master's to give ([`Pool::stats`](crate::Pool::stats)).
    pub fn stats(&self) -> Stats {
        self.0.area.read()
    }

    /// The files that `--root` asks for, the first time this is called; `None` without that option.
    pub fn files(&self) -> Option<Files> {
        self.0.files.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Sends a message to the master, where it is an [`Event::Message`](crate::Event::Message), or a `message` event in
    /// a Node master. Messages arrive in the order in which they were sent. They leave at the end of the loop's turn; a
    /// master that is gone does not hear them. An object whose `act` is `"suicide"` asks for this worker's replacement, as
    /// it does in Node programs.
    ///
    /// # Errors
    /// It has no form in JSON, it is longer than 8 MiB, or it is an object whose `cmd` begins with `NODE_`, a prefix that
    /// the channel keeps for itself. And when 16 MiB of messages wait already, each counted with 128 octets more,
    /// because the master does not read as fast as this worker sends: nothing of this one was sent then.
    pub fn send(&self, value: impl Serialize) -> Result<()> {
        let message = Message::new(value)?;
        if !self.0.backlog.admit(node::check(&message)?) {
            let problem =
                format!("{} MiB of messages wait already for the master to read them", WAITING_MAX >> 20);
            return Err(Error::Message { done: "sent", problem });
        }
        self.0.mailbox.put(Mail::ToMaster(message));
        Ok(())
    }

    /// Starts a thread for work that would block the loop. A worker's own thread is pinned to one core and threads
    /// inherit that; this one may run on any.
    ///
    /// # Errors
    /// Those of [`std::thread::Builder::spawn`].
    pub fn spawn_thread<T: Send + 'static>(
        &self,
        name: impl Into<String>,
        run: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<JoinHandle<T>> {
        thread::Builder::new().name(name.into()).spawn(|| {
            process::unpin_thread();
            run()
        })
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { id, slot, core, .. } = &*self.0;
        f.debug_struct("Worker")
            .field("id", id)
            .field("slot", slot)
            .field("core", core)
            .finish_non_exhaustive()
    }
}

//! What a program's factory is told about the worker that it makes a handler for.
//!
//! Neighbours: `worker::run` makes one; `cluster` hands it to the factory.

use crate::error::Result;
use crate::event::Message;
use crate::files::Files;
use crate::handler::{Mail, Mailbox};
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
}

impl Worker {
    pub(crate) fn new(
        id: u32,
        slot: usize,
        core: Option<usize>,
        files: Option<Files>,
        mailbox: Arc<Mailbox>,
    ) -> Worker {
        Worker(Arc::new(Inner { id, slot, core, files: Mutex::new(files), mailbox }))
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

    /// The files that `--root` asks for, the first time this is called; `None` without that option.
    pub fn files(&self) -> Option<Files> {
        self.0.files.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Sends a message to the master, where it is an [`Event::Message`](crate::Event::Message), and a `message` event in
    /// a Node master. It leaves at the end of the loop's turn; a master that is gone does not hear it.
    ///
    /// # Errors
    /// It has no form in JSON, or is an object whose `cmd` begins with `NODE_`, a prefix that the channel keeps for itself.
    pub fn send(&self, value: impl Serialize) -> Result<()> {
        self.0.mailbox.put(Mail::ToMaster(Message::new(value)?));
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

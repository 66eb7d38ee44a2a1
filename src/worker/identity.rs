//! What a program's factory is told about the worker that it makes a handler for.
//!
//! Neighbours: `worker::run` makes one; `cluster` hands it to the factory.

use crate::files::Files;

/// The worker process in which a factory makes its handler.
#[derive(Debug)]
pub struct Worker {
    pub(super) id: u32,
    pub(super) slot: usize,
    pub(super) core: Option<usize>,
    pub(super) files: Option<Files>,
}

impl Worker {
    /// Identifies this worker process; a replacement has another one (Node's `worker.id`).
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Its place in the pool, `0..workers`; a replacement takes its predecessor's.
    pub fn slot(&self) -> usize {
        self.slot
    }

    /// The core it is pinned to.
    pub fn core(&self) -> Option<usize> {
        self.core
    }

    /// The files that `--root` asks for, the first time this is called; `None` without that option.
    pub fn files(&mut self) -> Option<Files> {
        self.files.take()
    }
}

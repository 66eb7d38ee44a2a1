//! The programmer's side: a request comes in, a reply goes out. Whether it goes now or later is decided per request.
//!
//! Neighbours: `cluster` takes the factory that makes handlers; `worker` calls them.

use crate::http::{Request, Response, Status};
use std::time::Duration;

/// Answers requests. Made by the factory once in each worker process and called on that process's only thread, so it
/// needs neither `Send` nor `Sync` and may keep state in plain fields.
///
/// A handler that blocks, blocks its worker: other workers go on, this one's connections wait.
pub trait Handler: 'static {
    /// Answers one request. A panic answers 500, is logged, and has the worker replaced.
    fn handle(&mut self, request: &Request<'_>) -> Reply;
}

impl<F, R> Handler for F
where
    F: FnMut(&Request<'_>) -> R + 'static,
    R: Into<Reply>,
{
    fn handle(&mut self, request: &Request<'_>) -> Reply {
        self(request).into()
    }
}

/// What a handler gives.
pub enum Reply {
    /// The answer.
    Now(Response),
    /// The answer comes later; this connection waits for it, all others go on.
    Later(Later),
}

/// A reply that comes when a time has passed.
pub struct Later {
    pub(crate) after: Duration,
    pub(crate) make: Box<dyn FnOnce() -> Response>,
}

impl Reply {
    /// Answers after this time with what `make` then gives. Dropped uncalled if the client is gone by then.
    pub fn after(time: Duration, make: impl FnOnce() -> Response + 'static) -> Reply {
        Reply::Later(Later { after: time, make: Box::new(make) })
    }
}

impl From<Response> for Reply {
    fn from(response: Response) -> Reply {
        Reply::Now(response)
    }
}

impl From<Status> for Reply {
    fn from(status: Status) -> Reply {
        Reply::Now(status.into())
    }
}

/// What a factory is told about the worker it makes a handler for.
#[derive(Debug, Clone)]
pub struct Worker {
    pub(crate) id: u32,
    pub(crate) slot: usize,
    pub(crate) core: Option<usize>,
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
}

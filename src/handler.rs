//! The programmer's side: a request comes in, a reply goes out. Whether it goes now or later is decided per request.
//!
//! Neighbours: `cluster` takes the factory that makes handlers; `files` is one; `worker` calls them, and hears through
//! its `Mailbox` of promises that were kept on other threads.

use crate::http::{Admission, Request, Response, Status};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::cell::{Cell, RefCell};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{fmt, io, mem};

/// Answers requests. Made by the factory once in each worker process and called on that process's only thread, so it
/// needs neither `Send` nor `Sync` and may keep state in plain fields.
///
/// A handler that blocks, blocks its worker: other workers go on, this one's connections wait.
pub trait Handler: 'static {
    /// Answers one request. A panic answers 500, is logged, and has the worker replaced.
    fn handle(&mut self, request: &Request<'_>) -> Reply;

    /// Looks at the head of a request that has content, before any of that is read. What it does not refuse is
    /// collected, up to `--max-body`, and then handled. A handler that takes no content from a client says so here, and
    /// neither of them wastes time on it.
    fn admit(&mut self, head: &Request<'_>) -> Admission {
        let _ = head;
        Admission::Collect
    }
}

/// A handler that is chosen at start.
impl Handler for Box<dyn Handler> {
    fn handle(&mut self, request: &Request<'_>) -> Reply {
        (**self).handle(request)
    }

    fn admit(&mut self, head: &Request<'_>) -> Admission {
        (**self).admit(head)
    }
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

/// A reply that is still to come.
pub struct Later(pub(crate) Pending);

pub(crate) enum Pending {
    /// When a time has passed.
    After { time: Duration, make: Box<dyn FnOnce() -> Response> },
    /// When the promise of this number is kept.
    Promised(u64),
}

/// The duty to answer, for another thread: who holds it answers with [`Promise::keep`]. Dropped without that, it
/// answers `500 Internal Server Error`, so that no client waits for nobody. Where the client has gone meanwhile the
/// answer is dropped.
#[must_use = "a promise that is dropped answers 500"]
pub struct Promise {
    number: u64,
    mailbox: Arc<Mailbox>,
    kept: bool,
}

/// Where promises that were kept wait for the worker's loop.
pub(crate) struct Mailbox {
    kept: Mutex<Vec<(u64, Response)>>,
    wake: EventFd,
}

thread_local! {
    /// The worker whose loop runs on this thread.
    static MAILBOX: RefCell<Option<Arc<Mailbox>>> = const { RefCell::new(None) };
    static PROMISES: Cell<u64> = const { Cell::new(0) };
    static TURN_MS: Cell<u64> = const { Cell::new(0) };
}

impl Reply {
    /// Answers after this time with what `make` then gives. Dropped uncalled if the client is gone by then.
    pub fn after(time: Duration, make: impl FnOnce() -> Response + 'static) -> Reply {
        Reply::Later(Later(Pending::After { time, make: Box::new(make) }))
    }

    /// Answers when another thread does: give it the promise, return the reply. This connection waits, all others go
    /// on.
    ///
    /// # Panics
    /// On a thread that is not a worker's: only a handler can promise.
    pub fn promise() -> (Promise, Reply) {
        let mailbox = MAILBOX.with_borrow(Clone::clone).expect("called by a handler");
        let number = PROMISES.get() + 1;
        PROMISES.set(number);
        (Promise { number, mailbox, kept: false }, Reply::Later(Later(Pending::Promised(number))))
    }
}

impl Promise {
    /// Answers.
    pub fn keep(mut self, response: impl Into<Response>) {
        self.kept = true;
        self.mailbox.put(self.number, response.into());
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if !self.kept {
            self.mailbox.put(self.number, Status::INTERNAL_SERVER_ERROR.into());
        }
    }
}

impl fmt::Debug for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Promise({})", self.number)
    }
}

impl Mailbox {
    /// Makes the mailbox of the worker whose loop runs on this thread.
    pub(crate) fn open() -> io::Result<Arc<Mailbox>> {
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let mailbox = Arc::new(Mailbox { kept: Mutex::default(), wake });
        MAILBOX.set(Some(Arc::clone(&mailbox)));
        Ok(mailbox)
    }

    /// Readable when there is something to take.
    pub(crate) fn wake_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// What has been answered since this was last called.
    pub(crate) fn take(&self) -> Vec<(u64, Response)> {
        // first the bell, then the box: what is put in between rings again
        let _ = self.wake.read();
        mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn put(&self, number: u64, response: Response) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).push((number, response));
        // full only if it has been rung 2^64 times
        let _ = self.wake.write(1);
    }
}

/// When this turn of the worker's loop began, in milliseconds on a clock of its own: the time, for what needs it in
/// every request.
pub(crate) fn turn_ms() -> u64 {
    TURN_MS.get()
}

/// For the loop.
pub(crate) fn set_turn_ms(now: u64) {
    TURN_MS.set(now);
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

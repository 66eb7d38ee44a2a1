//! What a handler gives: an answer, a failure, or the word that the answer comes later.
//!
//! Neighbours: made by handlers; `worker::service` takes it apart. `mailbox` carries what other threads answer.

use super::mailbox::{Mail, Mailbox};
use crate::http::{Response, Status};
use std::cell::Cell;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What a handler gives. Made from a [`Response`], a [`Status`], text, octets, from a [`Result`] of any of these (the
/// error is logged, the client gets an empty `500 Internal Server Error`), or by the functions here if it comes later.
///
/// ```
/// use uringd::{Reply, Request, Response, Status};
///
/// fn handle(request: &Request<'_>) -> Reply {
///     match request.path() {
///         "/" => "hello".into(),
///         "/data" => std::fs::read("data").map(Response::bytes).into(),
///         _ => Status::NOT_FOUND.into(),
///     }
/// }
/// ```
#[derive(Debug)]
#[must_use = "a client waits for it"]
pub struct Reply(pub(crate) Kind);

pub(crate) enum Kind {
    /// The answer.
    Now(Response),
    /// There is none, for this reason.
    Failed(Box<dyn Error>),
    /// The answer comes later; this connection waits for it, all others go on.
    Later(Later),
}

/// Where a reply that comes later will come from.
pub(crate) enum Later {
    /// When a time has passed.
    After { time: Duration, make: Box<dyn FnOnce() -> Response> },
    /// The promise of this number.
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

thread_local! {
    static PROMISES: Cell<u64> = const { Cell::new(0) };
}

impl Reply {
    /// Answers after this time with what `make` then gives. Dropped uncalled if the client is gone by then.
    pub fn after(time: Duration, make: impl FnOnce() -> Response + 'static) -> Reply {
        Reply(Kind::Later(Later::After { time, make: Box::new(make) }))
    }

    /// Answers when another thread does: give it the promise, return the reply. This connection waits, all others go
    /// on.
    ///
    /// # Panics
    /// On a thread that is not a worker's: only a handler can promise.
    pub fn promise() -> (Promise, Reply) {
        let mailbox = Mailbox::here().expect("called by a handler");
        let number = PROMISES.get() + 1;
        PROMISES.set(number);
        (Promise { number, mailbox, kept: false }, Reply(Kind::Later(Later::Promised(number))))
    }
}

impl Promise {
    /// Answers.
    pub fn keep(mut self, response: impl Into<Response>) {
        self.kept = true;
        self.mailbox.put(Mail::Kept(self.number, response.into()));
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if !self.kept {
            self.mailbox.put(Mail::Kept(self.number, Status::INTERNAL_SERVER_ERROR.into()));
        }
    }
}

impl<T, E> From<Result<T, E>> for Reply
where
    T: Into<Reply>,
    E: Into<Box<dyn Error>>,
{
    fn from(result: Result<T, E>) -> Reply {
        match result {
            Ok(reply) => reply.into(),
            Err(error) => Reply(Kind::Failed(error.into())),
        }
    }
}

macro_rules! from_what_a_response_is_made_of {
    ($($kind:ty,)*) => {
        $(impl From<$kind> for Reply {
            #[inline]
            fn from(value: $kind) -> Reply {
                Reply(Kind::Now(value.into()))
            }
        })*
    };
}

from_what_a_response_is_made_of! {
    Response,
    Status,
}

impl fmt::Debug for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Promise({})", self.number)
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Now(response) => write!(f, "Now({response:?})"),
            Kind::Failed(error) => write!(f, "Failed({error})"),
            Kind::Later(_) => f.write_str("Later"),
        }
    }
}

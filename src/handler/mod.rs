//! The programmer's side: a request comes in, a reply goes out. Whether it goes now or later is decided per request.
//!
//! `factory` is what makes handlers, `reply` what a handler gives, `mailbox` how other threads reach the worker's loop
//! (promises are kept through it), `local` what futures of a handler wait for, `file` what they can do with files.
//!
//! Neighbours: `cluster` takes the factory that makes handlers; `files` is one; `worker` calls them.

mod factory;
mod file;
mod local;
mod mailbox;
mod reply;

pub use factory::IntoHandler;
pub use file::{File, read_file};
pub(crate) use local::{Local, Wish};
pub use local::{Sleep, sleep};
pub(crate) use mailbox::{Mail, Mailbox};
pub(crate) use reply::{Claim, Kind, Later, LaterReply, Producer};
pub use reply::{IntoReply, Promise, Reply};

use crate::event::Message;
use crate::http::{Admission, Request};
use std::cell::Cell;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

/// Answers requests. Made by the factory once in each worker process and called on that process's only thread, so it
/// needs neither `Send` nor `Sync` and may keep state in plain fields.
///
/// A closure over `&Request` that gives anything that becomes a [`Reply`] is a handler. A type of your own can say more:
/// what it does with bodies, messages and the end of its worker.
///
/// A handler that blocks, blocks its worker: other workers go on, this one's connections wait.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not answer requests",
    label = "not a handler",
    note = "a closure must say what it takes, `|request: &Request<'_>| ...`, and give what becomes a `Reply`: a \
            `Response`, a `Status`, text, bytes, or a `Result` of one of them"
)]
pub trait Handler: 'static {
    /// Answers one request. A panic answers 500, is logged, and has the worker replaced, unless `--on-panic` has it
    /// otherwise.
    fn handle(&mut self, request: &Request<'_>) -> Reply;

    /// Looks at the head of a request that has content, before any of that is read, and says what is to become of it.
    /// By default it is collected, up to `--max-body`, and the request is then handled.
    fn admit(&mut self, head: &Request<'_>) -> Admission {
        let _ = head;
        Admission::Collect
    }

    /// The master has sent a message ([`Pool::send`](crate::Pool::send), or `worker.send` of a Node master). A panic in this
    /// or in the methods below is what it is in [`handle`](Self::handle).
    fn message(&mut self, message: Message) {
        let _ = message;
    }

    /// The master has sent a connected socket with a message ([`Pool::send_socket`](crate::Pool::send_socket), or
    /// `worker.send` of a Node master). What is given back is served as a client like any other;
    /// a handler that keeps the socket has it for itself.
    fn socket(&mut self, socket: OwnedFd, message: Message) -> Option<OwnedFd> {
        let _ = message;
        Some(socket)
    }

    /// This worker is about to drain: it accepts no more and finishes what it has. Called once, before the listeners are
    /// closed.
    fn before_drain(&mut self) {}

    /// The last connection is gone and the process is about to exit. Not called in a worker that is killed, or that
    /// does not finish within the kill timeout, which this call counts towards.
    fn after_drain(&mut self) {}
}

/// A handler that is chosen at start.
impl Handler for Box<dyn Handler> {
    fn handle(&mut self, request: &Request<'_>) -> Reply {
        (**self).handle(request)
    }

    fn admit(&mut self, head: &Request<'_>) -> Admission {
        (**self).admit(head)
    }

    fn message(&mut self, message: Message) {
        (**self).message(message);
    }

    fn socket(&mut self, socket: OwnedFd, message: Message) -> Option<OwnedFd> {
        (**self).socket(socket, message)
    }

    fn before_drain(&mut self) {
        (**self).before_drain();
    }

    fn after_drain(&mut self) {
        (**self).after_drain();
    }
}

impl<F, R> Handler for F
where
    F: FnMut(&Request<'_>) -> R + 'static,
    R: IntoReply,
{
    fn handle(&mut self, request: &Request<'_>) -> Reply {
        self(request).into_reply()
    }
}

/// A handler whose requests' bodies all come in pieces ([`Request::pieces`]): for a closure, which cannot say so itself.
///
/// ```
/// use uringd::{InPieces, Reply, Request, Response};
///
/// let count = InPieces(|request: &Request<'_>| {
///     let mut pieces = request.pieces();
///     Reply::later(async move {
///         let mut octets = 0;
///         while let Some(piece) = pieces.next().await {
///             octets += piece?.len();
///         }
///         std::io::Result::Ok(Response::text(octets.to_string()))
///     })
/// });
/// # let _: Box<dyn uringd::Handler> = Box::new(count);
/// ```
#[derive(Debug)]
pub struct InPieces<H>(pub H);

impl<H: Handler> Handler for InPieces<H> {
    fn handle(&mut self, request: &Request<'_>) -> Reply {
        self.0.handle(request)
    }

    fn admit(&mut self, head: &Request<'_>) -> Admission {
        match self.0.admit(head) {
            Admission::Collect => Admission::Pieces,
            other => other,
        }
    }

    fn message(&mut self, message: Message) {
        self.0.message(message);
    }

    fn socket(&mut self, socket: OwnedFd, message: Message) -> Option<OwnedFd> {
        self.0.socket(socket, message)
    }

    fn before_drain(&mut self) {
        self.0.before_drain();
    }

    fn after_drain(&mut self) {
        self.0.after_drain();
    }
}

/// What stands for the loop of this thread, remembered while another loop runs here: within one of its handlers, or before
/// there is any. Put back when this is dropped.
pub(crate) struct Around {
    mailbox: Option<Arc<Mailbox>>,
    local: Option<Rc<Local>>,
}

impl Around {
    pub fn remember() -> Around {
        Around { mailbox: Mailbox::here(), local: Local::find_here() }
    }
}

impl Drop for Around {
    fn drop(&mut self) {
        Mailbox::set_here(self.mailbox.take());
        Local::set_here(self.local.take());
    }
}

/// When a turn of the worker's loop is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn {
    /// When it began, in milliseconds on a clock of the process's own.
    pub ms: u64,
    /// The Date of its answers, in seconds since the epoch: never after the wall clock's or that of a later turn, unless
    /// somebody sets the clock back. The end of time where there has been no loop.
    pub second: u64,
}

thread_local! {
    static TURN: Cell<Turn> = const { Cell::new(Turn { ms: 0, second: u64::MAX }) };
}

/// This turn: the time, for what needs it in every request.
#[inline]
pub(crate) fn turn() -> Turn {
    TURN.get()
}

/// When this turn began; see [`Turn::ms`].
#[inline]
pub(crate) fn turn_ms() -> u64 {
    turn().ms
}

/// For the loop.
#[inline]
pub(crate) fn set_turn_ms(ms: u64) {
    TURN.set(Turn { ms, ..turn() });
}

/// For the loop.
pub(crate) fn set_turn_second(second: u64) {
    TURN.set(Turn { second, ..turn() });
}

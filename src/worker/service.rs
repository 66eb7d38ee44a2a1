//! Calls the handler and survives it: a panic becomes a 500, a log entry and the wish to be replaced.
//!
//! Neighbours: `event_loop` lends one to each exchange it feeds; the handler is the program's.

use super::event_loop::Owed;
use super::tasks::{Progress, Tasks};
use crate::handler::{Handler, Kind, Later, LaterResponse, Producer, chain};
use crate::http::{Admission, Answer, Request, Response, Service, Status};
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::error::Error;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};

/// See the module's comment.
pub struct Guarded<'a, H> {
    pub handler: &'a mut H,
    /// Where futures run.
    pub tasks: &'a mut Tasks,
    /// Where the source of a reply that comes later is left for the loop.
    pub owed: &'a mut Option<Owed>,
    /// Set when the handler panicked.
    pub panicked: &'a mut bool,
}

/// What the hook saw of a panic; the unwinding itself carries only the message.
struct Seen {
    message: String,
    location: String,
    backtrace: Backtrace,
}

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
    static ABORTS: Cell<bool> = const { Cell::new(false) };
    static SEEN: RefCell<Option<Seen>> = const { RefCell::new(None) };
}

/// Installs the hook that notes the panics of guarded calls; others are printed as ever.
pub fn install_hook() {
    let default = panic::take_hook();
    panic::set_hook(Box::new(move |info| if GUARDED.get() { note(info) } else { default(info) }));
}

/// From now on a panic ends the process, once it is logged (`--on-panic abort`): nothing of the program runs after it, and
/// nobody is answered.
pub fn abort_on_panic() {
    ABORTS.set(true);
}

fn note(info: &PanicHookInfo<'_>) {
    let message = info.payload_as_str().unwrap_or("a payload that is no text").to_owned();
    let location = info.location().map_or_else(|| "unknown".to_owned(), ToString::to_string);
    SEEN.set(Some(Seen { message, location, backtrace: Backtrace::force_capture() }));
}

/// Runs a piece of the program's code; a panic in it is logged with what it was doing, and gives `None`.
///
/// `AssertUnwindSafe`: the handler's state may be halfway through a change. That is why the worker asks to be
/// replaced; until then it answers as well as it can.
pub fn guard<T>(doing: impl FnOnce() -> String, call: impl FnOnce() -> T) -> Option<T> {
    GUARDED.set(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(call));
    GUARDED.set(false);
    outcome.map_err(|_| mourn(&doing())).ok()
}

#[cold]
fn mourn(doing: &str) {
    report(doing);
    if ABORTS.get() {
        std::process::abort();
    }
}

#[cold]
fn report(request: &str) {
    if let Some(Seen { message, location, backtrace }) = SEEN.take() {
        tracing::error!(request, panic = message, location, %backtrace, "panic in the handler");
    }
}

#[cold]
fn failed(request: &Request<'_>, error: &dyn Error) -> Response {
    let request = request_line(request);
    tracing::error!(request, error = chain(error), "the handler failed");
    Response::status(Status::INTERNAL_SERVER_ERROR)
}

fn request_line(request: &Request<'_>) -> String {
    format!("{} {}", request.method().as_str(), request.target())
}

impl<H: Handler> Guarded<'_, H> {
    /// `None` if the handler panicked.
    #[inline]
    fn guarded<T>(&mut self, request: &Request<'_>, call: impl FnOnce(&mut H) -> T) -> Option<T> {
        let outcome = guard(|| request_line(request), || call(self.handler));
        *self.panicked |= outcome.is_none();
        outcome
    }

    /// What is ready at once is an answer like any other.
    fn begin(&mut self, future: LaterResponse) -> Answer {
        match self.tasks.begin(future) {
            (_, Progress::Answered(response)) => Answer::Now(response),
            (id, Progress::Waiting) => {
                *self.owed = Some(Owed::Task(id));
                Answer::Later
            }
            (_, Progress::Over { panicked }) => {
                *self.panicked |= panicked;
                Answer::Now(Status::INTERNAL_SERVER_ERROR.into())
            }
        }
    }

    fn produce(&mut self, response: &Response, producer: Producer) {
        let Some(watch) = response.watch() else {
            return tracing::error!("Reply::stream was given a response that Response::channel did not make");
        };
        if let Progress::Over { panicked: true } = self.tasks.produce(producer, watch) {
            *self.panicked = true;
        }
    }
}

impl<H: Handler> Service for Guarded<'_, H> {
    fn admit(&mut self, head: &Request<'_>) -> Admission {
        self.guarded(head, |handler| handler.admit(head))
            .unwrap_or_else(|| Admission::Answer(Status::INTERNAL_SERVER_ERROR.into()))
    }

    #[inline]
    fn call(&mut self, request: &Request<'_>) -> Answer {
        match self.guarded(request, |handler| handler.handle(request).0) {
            Some(Kind::Now(response)) => Answer::Now(response),
            Some(Kind::Later(Later::Future(future))) => self.begin(future),
            Some(Kind::Later(Later::Promised(number))) => {
                *self.owed = Some(Owed::Promise(number));
                Answer::Later
            }
            Some(Kind::Stream(response, producer)) => {
                self.produce(&response, producer);
                Answer::Now(response)
            }
            Some(Kind::Failed(error)) => Answer::Now(failed(request, &*error)),
            None => Answer::Now(Response::status(Status::INTERNAL_SERVER_ERROR)),
        }
    }
}

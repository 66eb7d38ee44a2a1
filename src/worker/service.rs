//! Calls the handler and survives it: a panic becomes a 500, a log entry and the wish to be replaced.
//!
//! Neighbours: `event_loop` lends one to each exchange it feeds; the handler is the program's.

use super::event_loop::Owed;
use super::tasks::{Progress, Tasks};
use crate::event::LoopPhase;
use crate::handler::{Handler, Kind, Later, Producer, Reply};
use crate::http::{self, Admission, Answer, Request, Response, Service, Status};
use crate::stats::{Area, Before};
use std::any::Any;
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::error::Error;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::Once;

/// See the module's comment.
pub struct Guarded<'a, H> {
    pub handler: &'a mut H,
    /// Where futures run.
    pub tasks: &'a mut Tasks,
    /// Where the source of a reply that comes later is left for the loop.
    pub owed: &'a mut Option<Owed>,
    /// Set when the handler panicked.
    pub panicked: &'a mut bool,
    /// Where it stands which request the handler has.
    pub area: &'a Area,
}

/// What the hook saw of a panic; the unwinding itself carries only the message.
struct Seen {
    message: String,
    location: String,
    backtrace: Backtrace,
}

const NO_TEXT: &str = "a payload that is no text";

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
    static PANICS: Cell<u64> = const { Cell::new(0) };
    static ABORTS: Cell<bool> = const { Cell::new(false) };
    static SEEN: RefCell<Option<Seen>> = const { RefCell::new(None) };
}

/// Has the panics of guarded calls noted; all others go to the hook that was there before, as do those that no log
/// would show. A hook is the whole process's: it is installed once, however many loops run here.
pub fn install_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| if is_logged() { note(info) } else { before(info) }));
    });
}

fn is_logged() -> bool {
    GUARDED.get() && tracing::enabled!(tracing::Level::ERROR)
}

/// From now on a panic ends the process, once it is logged (`--on-panic abort`): nothing of the program runs after it, and
/// nobody is answered.
pub fn abort_on_panic() {
    ABORTS.set(true);
}

fn note(info: &PanicHookInfo<'_>) {
    let message = info.payload_as_str().unwrap_or(NO_TEXT).to_owned();
    let location = info.location().map_or_else(|| "unknown".to_owned(), ToString::to_string);
    SEEN.set(Some(Seen { message, location, backtrace: Backtrace::force_capture() }));
}

/// Runs a piece of the program's code; a panic in it is logged with what it was doing, and gives `None`.
///
/// `AssertUnwindSafe`: the handler's state may be halfway through a change. That is why the worker asks to be
/// replaced; until then it answers as well as it can.
pub fn guard<T>(doing: impl FnOnce() -> String, call: impl FnOnce() -> T) -> Option<T> {
    // a handler may serve as well, with a loop of its own
    let around = GUARDED.replace(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(call));
    GUARDED.set(around);
    outcome.map_err(|payload| mourn(&doing(), &*payload)).ok()
}

/// How many panics of the program this thread has survived.
#[inline]
pub fn panics() -> u64 {
    PANICS.get()
}

#[cold]
fn mourn(doing: &str, payload: &(dyn Any + Send)) {
    PANICS.set(PANICS.get() + 1);
    report(doing, payload);
    if ABORTS.get() {
        std::process::abort();
    }
}

#[cold]
fn report(request: &str, payload: &(dyn Any + Send)) {
    match SEEN.take() {
        Some(Seen { message, location, backtrace }) => {
            tracing::error!(request, panic = message, location, %backtrace, "panic in the handler");
        }
        // the program has put a hook of its own in the place of ours
        None => tracing::error!(request, panic = text_of(payload), "panic in the handler"),
    }
}

fn text_of(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or(NO_TEXT)
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

    #[inline]
    fn note(&self, phase: LoopPhase, request: &Request<'_>) -> Before {
        self.area.hand_over(phase, request.method().as_word(), request.target().as_bytes())
    }

    fn answer_otherwise(&mut self, reply: Reply, request: &Request<'_>) -> Answer {
        match resolve(reply, self.tasks, self.panicked, &|| Some(request_line(request))) {
            Outcome::Now(response) => Answer::Now(response),
            Outcome::Owed(owed) => {
                *self.owed = Some(owed);
                Answer::Later
            }
        }
    }
}

/// What a reply comes to.
pub enum Outcome {
    Now(Response),
    Owed(Owed),
}

/// Takes a reply apart: begins what it has to be waited for. A future that is ready at once is an answer like any other.
/// `panicked` is set if the program's code did; `request` is the line that names it in the log.
pub fn resolve(
    reply: Reply,
    tasks: &mut Tasks,
    panicked: &mut bool,
    request: &dyn Fn() -> Option<String>,
) -> Outcome {
    match reply.0 {
        Kind::Now(response) => Outcome::Now(response),
        Kind::Failed(error) => Outcome::Now(failed(error, panicked, request)),
        Kind::Stream(response, producer) => Outcome::Now(produce(response, producer, tasks, panicked)),
        Kind::Later(Later::Promised(claim)) => Outcome::Owed(Owed::Promise(claim)),
        Kind::Later(Later::Future(future)) => match tasks.begin(future) {
            (_, Progress::Answered(reply)) => resolve(reply, tasks, panicked, request),
            (id, Progress::Waiting) => Outcome::Owed(Owed::Task(id)),
            (_, Progress::Over { panicked: has }) => {
                *panicked |= has;
                Outcome::Now(Status::INTERNAL_SERVER_ERROR.into())
            }
        },
    }
}

/// Formatting an error, and dropping it, is the program's code too.
#[cold]
fn failed(error: Box<dyn Error>, panicked: &mut bool, request: &dyn Fn() -> Option<String>) -> Response {
    let line = request();
    let doing = || format!("the error of {}", line.as_deref().unwrap_or("a reply that came later"));
    let answered = guard(doing, || {
        let error = error;
        http::failed(&*error, line.as_deref())
    });
    *panicked |= answered.is_none();
    answered.unwrap_or_else(|| Response::empty(Status::INTERNAL_SERVER_ERROR))
}

/// One that panics before anything has been sent is answered like any other panic.
fn produce(response: Response, producer: Producer, tasks: &mut Tasks, panicked: &mut bool) -> Response {
    let Some(watch) = response.watch() else {
        tracing::error!("Reply::stream was given a response that Response::channel did not make");
        return response;
    };
    match tasks.produce(producer, watch) {
        Progress::Over { panicked: true } => {
            *panicked = true;
            Status::INTERNAL_SERVER_ERROR.into()
        }
        _ => response,
    }
}

impl<H: Handler> Service for Guarded<'_, H> {
    fn admit(&mut self, head: &Request<'_>) -> Admission {
        let before = self.note(LoopPhase::Admitting, head);
        let admission = self.guarded(head, |handler| handler.admit(head));
        self.area.leave(before);
        admission.unwrap_or_else(|| Admission::Answer(Status::INTERNAL_SERVER_ERROR.into()))
    }

    #[inline]
    fn call(&mut self, request: &Request<'_>) -> Answer {
        let before = self.note(LoopPhase::Handling, request);
        let answer = match self.guarded(request, |handler| handler.handle(request)) {
            Some(Reply(Kind::Now(response))) => Answer::Now(response),
            Some(reply) => self.answer_otherwise(reply, request),
            None => Answer::Now(Response::status(Status::INTERNAL_SERVER_ERROR)),
        };
        self.area.leave(before);
        answer
    }
}

//! What a handler gives: an answer, a failure, or the word that the answer comes later.
//!
//! Neighbours: made by handlers; `worker::service` takes it apart. `mailbox` carries what other threads answer.

use super::mailbox::{Mail, Mailbox};
use crate::http::{Gone, Response, Status, chain};
use bytes::Bytes;
use std::borrow::Cow;
use std::cell::Cell;
use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::{fmt, io};

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

/// What a closure may give as a [`Handler`](crate::Handler): whatever becomes a [`Reply`]. A type of your own does with
/// `impl From<Yours> for Reply`, and in no other way.
#[diagnostic::on_unimplemented(
    message = "a handler gives `{Self}`, which becomes no `Reply`",
    label = "what is answered is no reply",
    note = "what becomes a `Reply`: a `Response`, a `Status` or its number, text, octets, `Json`, a `Result` of one of these; and \
            a future, by `Reply::later`",
    note = "the error of a `Result` must become a `Box<dyn Error>` (it implements `std::error::Error`), or be a `Response` or a \
            `Status`"
)]
pub trait IntoReply: sealed::Sealed {
    /// The reply.
    fn into_reply(self) -> Reply;
}

// what is wrong is said by the trait, not by the list of all that `Reply` is made from
#[diagnostic::do_not_recommend]
impl<T: Into<Reply>> IntoReply for T {
    #[inline]
    fn into_reply(self) -> Reply {
        self.into()
    }
}

pub(crate) enum Kind {
    /// The answer.
    Now(Response),
    /// There is none, for this reason.
    Failed(Box<dyn Error>),
    /// The answer comes later; this connection waits for it, all others go on.
    Later(Later),
    /// The answer, whose content this makes.
    Stream(Response, Producer),
}

/// A future that answers.
pub(crate) type LaterReply = Pin<Box<dyn Future<Output = Reply>>>;

/// A future that makes an answer's content.
pub(crate) type Producer = Pin<Box<dyn Future<Output = ()>>>;

/// Where a reply that comes later will come from.
pub(crate) enum Later {
    /// This, when it is done.
    Future(LaterReply),
    /// A promise.
    Promised(Claim),
}

/// What is left of a promise on this side, for as long as somebody waits for its answer.
#[derive(Debug)]
pub(crate) struct Claim {
    pub number: u64,
    _wanted: Arc<()>,
}

/// The duty to answer, for another thread: who holds it answers with [`Promise::keep`]. Dropped without that, it
/// answers `500 Internal Server Error`, so that no client waits for nobody. Where the client has gone meanwhile the
/// answer is dropped.
#[must_use = "a promise that is dropped answers 500"]
pub struct Promise {
    number: u64,
    mailbox: Arc<Mailbox>,
    /// As long as there is a claim.
    wanted: Weak<()>,
    kept: bool,
}

thread_local! {
    static PROMISES: Cell<u64> = const { Cell::new(0) };
}

impl Reply {
    /// Answers with what a future gives. It runs on the worker's own loop, between other connections' requests, so it
    /// may hold state of this worker and must not block; it may wait for [`sleep`](crate::sleep),
    /// [`read_file`](crate::read_file), a [`File`](crate::File), the pieces of a request's body, or whatever wakes it from
    /// another thread. It is dropped when the client is gone. One that does not wait costs no more than a call.
    ///
    /// ```
    /// use std::time::Duration;
    /// use uringd::{Reply, Request, Response};
    ///
    /// fn handle(request: &Request<'_>) -> Reply {
    ///     let name = request.path().to_owned(); // a future cannot keep the request itself
    ///     Reply::later(async move {
    ///         uringd::sleep(Duration::from_millis(100)).await;
    ///         Response::text(format!("{name}, a moment later"))
    ///     })
    /// }
    /// ```
    ///
    /// What it gives may be any reply, one that comes later still included: here a file is looked for first, and then
    /// streamed.
    ///
    /// ```
    /// use uringd::{File, Reply, Request, Response, Status};
    ///
    /// fn handle(_: &Request<'_>) -> Reply {
    ///     Reply::later(async {
    ///         let Ok(file) = File::open("story.txt").await else {
    ///             return Status::NOT_FOUND.into();
    ///         };
    ///         let (mut sender, response) = Response::channel();
    ///         Reply::stream(response.with_content_type("text/plain"), async move {
    ///             let mut offset = 0;
    ///             loop {
    ///                 let piece = file.read_at(16 * 1024, offset).await?;
    ///                 if piece.is_empty() {
    ///                     sender.finish();
    ///                     return Ok(());
    ///                 }
    ///                 offset += piece.len() as u64;
    ///                 sender.send(piece).await?;
    ///             }
    ///         })
    ///     })
    /// }
    /// ```
    ///
    /// "Gone" means that the client has reset its connection, which is seen when it is read from: not while it is ahead by
    /// 64 KiB of content that nobody takes, or 32 KiB of further requests. One that has only finished sending may still
    /// be reading: it is waited for `--send-timeout`. One whose request turns out broken or too slow in the middle of its
    /// content is answered (400, 408), and the future is dropped as well.
    pub fn later<F>(future: F) -> Reply
    where
        F: Future + 'static,
        F::Output: IntoReply,
    {
        Reply(Kind::Later(Later::Future(Box::pin(async move { future.await.into_reply() }))))
    }

    /// Answers with a response made by [`Response::channel`](crate::Response::channel), and runs a future that holds its
    /// sender on the worker's own loop, until it is done or the client is gone. An error cuts the answer off in the middle
    /// and is logged (but not [`Gone`]).
    ///
    /// ```
    /// use std::time::Duration;
    /// use uringd::{Reply, Request, Response};
    ///
    /// fn countdown(_: &Request<'_>) -> Reply {
    ///     let (mut sender, response) = Response::channel();
    ///     Reply::stream(response.with_content_type("text/plain"), async move {
    ///         for n in (1..=3).rev() {
    ///             sender.send(format!("{n}\n")).await?;
    ///             uringd::sleep(Duration::from_secs(1)).await;
    ///         }
    ///         sender.finish();
    ///         Ok(())
    ///     })
    /// }
    /// ```
    pub fn stream<F>(response: Response, producer: F) -> Reply
    where
        F: Future<Output = Result<(), Box<dyn Error>>> + 'static,
    {
        let producer = async move {
            match producer.await {
                Err(error) if !is_gone(&*error) => {
                    tracing::error!(
                        error = chain(&*error),
                        "a stream failed; its connection is closed in the middle"
                    );
                }
                _ => {}
            }
        };
        Reply(Kind::Stream(response, Box::pin(producer)))
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
        let wanted = Arc::new(());
        let promise = Promise { number, mailbox, wanted: Arc::downgrade(&wanted), kept: false };
        (promise, Reply(Kind::Later(Later::Promised(Claim { number, _wanted: wanted }))))
    }
}

impl Promise {
    /// Somebody still waits for the answer. If not, the client is gone (or the reply was dropped) and will not come back:
    /// work that is not begun yet need not be.
    pub fn is_wanted(&self) -> bool {
        self.wanted.strong_count() > 0
    }

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

/// It is nobody's fault: there is no client any more.
fn is_gone(error: &(dyn Error + 'static)) -> bool {
    error.is::<Gone>() || error.downcast_ref::<io::Error>().is_some_and(is_gone_io)
}

fn is_gone_io(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Gone>())
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

impl<T: Into<Reply>> From<Result<T, Response>> for Reply {
    fn from(result: Result<T, Response>) -> Reply {
        result.map_or_else(Reply::from, Into::into)
    }
}

impl<T: Into<Reply>> From<Result<T, Status>> for Reply {
    fn from(result: Result<T, Status>) -> Reply {
        result.map_or_else(Reply::from, Into::into)
    }
}

#[cfg(feature = "json")]
impl<T: serde::Serialize> From<crate::http::Json<T>> for Reply {
    #[track_caller]
    fn from(json: crate::http::Json<T>) -> Reply {
        Reply(Kind::Now(json.into()))
    }
}

#[cfg(feature = "json")]
impl From<crate::http::JsonError> for Reply {
    fn from(error: crate::http::JsonError) -> Reply {
        Reply(Kind::Now(error.into()))
    }
}

#[cfg(feature = "http")]
impl<B: Into<Bytes>> From<::http::Response<B>> for Reply {
    #[track_caller]
    fn from(response: ::http::Response<B>) -> Reply {
        Reply(Kind::Now(response.into()))
    }
}

macro_rules! from_what_a_response_is_made_of {
    ($($kind:ty,)*) => {
        $(impl From<$kind> for Reply {
            #[inline]
            #[track_caller]
            fn from(value: $kind) -> Reply {
                Reply(Kind::Now(value.into()))
            }
        })*
    };
}

from_what_a_response_is_made_of! {
    Response,
    Status,
    u16,
    &'static str,
    String,
    Cow<'static, str>,
    &'static [u8],
    Vec<u8>,
    Bytes,
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
            Kind::Stream(response, _) => write!(f, "Stream({response:?})"),
        }
    }
}

mod sealed {
    use super::Reply;

    pub trait Sealed {}

    impl<T: Into<Reply>> Sealed for T {}
}

//! What becomes a response: statuses, text, octets, and a result of any of these, whose error is logged.
//!
//! Neighbours: for handlers, whose replies are made of these (`handler::reply`); `json` and `interop` convert what
//! comes from there; `worker` logs failures through `failed`, with the request at hand.

use super::response::{Response, Status};
use bytes::Bytes;
use std::borrow::Cow;
use std::error::Error;
use std::iter;

/// As [`Response::status`].
impl From<Status> for Response {
    #[inline]
    fn from(status: Status) -> Response {
        Response::status(status)
    }
}

/// As [`Response::status`]: a number that is no status is logged and answers an empty `500 Internal Server Error`.
impl From<u16> for Response {
    #[track_caller]
    fn from(code: u16) -> Response {
        Response::status(code)
    }
}

/// The response of a `Result<T, E>`: that of what is [`Ok`]; for an error an empty `500 Internal Server Error`, and a
/// line in the log that has the error and what caused it. A [`JsonError`](crate::JsonError), also as the cause of
/// another, is the client's and answers `400 Bad Request`.
///
/// `E` is any error, `Box<dyn Error>`, text, `anyhow::Error`. (A `Box<dyn Error + Send + Sync>` must first become a
/// `Box<dyn Error>`, with `as`: the standard library has no conversion.) Where the error is an answer itself, `E` is
/// [`Response`] or [`Status`].
///
/// ```
/// use uringd::{Request, Response, Status};
///
/// fn motd(_: &Request<'_>) -> std::io::Result<String> {
///     std::fs::read_to_string("/etc/motd")
/// }
///
/// fn page(request: &Request<'_>) -> Result<Response, Status> {
///     let number: u64 = request.query_value("n").and_then(|n| n.parse().ok()).ok_or(Status::BAD_REQUEST)?;
///     Ok(Response::text(format!("page {number}")))
/// }
///
/// assert_eq!(Response::from(Err::<String, _>(Status::BAD_REQUEST)).code(), 400);
/// assert_eq!(Response::from(Err::<String, _>("the disk is gone")).code(), 500);
/// ```
impl<T, E> From<Result<T, E>> for Response
where
    T: Into<Response>,
    E: Into<Box<dyn Error>>,
{
    fn from(result: Result<T, E>) -> Response {
        result.map_or_else(|error| failed(&*error.into(), None), Into::into)
    }
}

impl<T: Into<Response>> From<Result<T, Response>> for Response {
    fn from(result: Result<T, Response>) -> Response {
        result.map_or_else(|refusal| refusal, Into::into)
    }
}

impl<T: Into<Response>> From<Result<T, Status>> for Response {
    fn from(result: Result<T, Status>) -> Response {
        result.map_or_else(Response::status, Into::into)
    }
}

macro_rules! content {
    ($make:ident: $($kind:ty,)*) => {
        $(#[doc = concat!("As [`Response::", stringify!($make), "`].")]
        impl From<$kind> for Response {
            #[inline]
            fn from(content: $kind) -> Response {
                Response::$make(content)
            }
        })*
    };
}

content! { text: &'static str, String, }
content! { bytes: &'static [u8], Vec<u8>, Bytes, }

/// As [`Response::text`].
impl From<Cow<'static, str>> for Response {
    fn from(text: Cow<'static, str>) -> Response {
        match text {
            Cow::Borrowed(text) => Response::text(text),
            Cow::Owned(text) => Response::text(text),
        }
    }
}

/// What the client gets where a handler failed. The log gets the error with its causes, and which request it was
/// (`GET /path`) where that is known.
#[cold]
pub(crate) fn failed(error: &(dyn Error + 'static), request: Option<&str>) -> Response {
    #[cfg(feature = "json")]
    if let Some(refusal) = causes(error).find_map(super::json::refusal) {
        return refusal;
    }
    tracing::error!(request, error = chain(error), "a handler failed");
    Response::empty(Status::INTERNAL_SERVER_ERROR)
}

/// An error and its causes, on one line.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    causes(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// An error, and what caused it.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    iter::successors(Some(error), |&error| error.source())
}

#[cfg(test)]
mod tests {
    use super::super::response::logged;
    use super::*;
    use std::io;

    /// Status, content, media type.
    type Given<'a> = (u16, &'a str, Option<&'a str>);
    /// Fails with it, somehow.
    type Fail = fn(Own) -> Response;

    fn given(response: &Response) -> Given<'_> {
        let body = std::str::from_utf8(response.body().unwrap()).unwrap();
        (response.code(), body, response.header("Content-Type"))
    }

    #[test]
    fn what_becomes_a_response() {
        let (text, octets) = (Some("text/plain; charset=utf-8"), Some("application/octet-stream"));
        let table: [(Response, Given<'_>); 15] = [
            (Status::NOT_FOUND.into(), (404, "Not Found", text)),
            (Status::NO_CONTENT.into(), (204, "", None)),
            (Status::RESET_CONTENT.into(), (205, "", None)),
            (404.into(), (404, "Not Found", text)),
            (299.into(), (299, "", None)),
            ("a".into(), (200, "a", text)),
            ("a".to_owned().into(), (200, "a", text)),
            (Cow::Borrowed("a").into(), (200, "a", text)),
            (Cow::<str>::Owned("a".to_owned()).into(), (200, "a", text)),
            (Bytes::from("a").into(), (200, "a", octets)),
            (b"a".to_vec().into(), (200, "a", octets)),
            (b"a".as_slice().into(), (200, "a", octets)),
            (Ok::<_, io::Error>("a").into(), (200, "a", text)),
            (Ok::<_, Status>(Ok::<_, Response>("a")).into(), (200, "a", text)),
            (Err::<String, _>(Response::text("no").with_status(403)).into(), (403, "no", text)),
        ];
        for (response, expected) in &table {
            assert_eq!(given(response), *expected, "{response:?}");
        }
    }

    #[derive(Debug, displaydoc::Display, thiserror::Error)]
    enum Own {
        /// no order {0}
        Missing(u32, #[source] io::Error),
    }

    #[test]
    fn a_failure_is_an_empty_500_and_a_line_in_the_log() {
        let missing = || Own::Missing(7, io::Error::other("the disk is gone"));
        let unlike: Result<String, Box<dyn Error + Send + Sync>> = Err("late".into());
        let table: [(Fail, &str); 6] = [
            (|own| Err::<String, _>(own).into(), "no order 7: the disk is gone"),
            (|own| Err::<String, Box<dyn Error>>(own.into()).into(), "no order 7: the disk is gone"),
            (
                |own| Err::<String, _>(anyhow::Error::new(own).context("GET")).into(),
                "GET: no order 7: the disk is gone",
            ),
            (|own| Err::<String, _>(own.to_string()).into(), "no order 7"),
            (|_| Err::<String, _>("no").into(), "no"),
            (
                |_| Err::<u16, _>(io::Error::from_raw_os_error(2)).into(),
                "No such file or directory (os error 2)",
            ),
        ];
        for (fail, line) in table {
            let (response, log) = logged(|| fail(missing()));
            assert_eq!(given(&response), (500, "", None), "{line}");
            assert_eq!(log, format!("ERROR a handler failed error={line:?}\n"));
        }
        let (response, log) = logged(|| Response::from(unlike.map_err(|error| error as Box<dyn Error>)));
        assert_eq!((response.code(), log.as_str()), (500, "ERROR a handler failed error=\"late\"\n"));
    }

    #[test]
    fn a_failure_names_the_request_where_it_is_known() {
        let (_, log) = logged(|| failed(&io::Error::other("two\nlines"), Some("GET /a")));
        assert_eq!(log, "ERROR a handler failed request=\"GET /a\" error=\"two\\nlines\"\n");
    }
}

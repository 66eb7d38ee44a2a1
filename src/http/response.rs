//! A response, and how its head is written: status line, Server, Date, then what the response brings, then its framing.
//!
//! Neighbours: made by handlers and by `files`, written by `exchange`; what is too long to be copied behind its head
//! is handed to `worker` as `Rest`.

use super::date::Date;
use super::pipe::{self, Pieces, Sender, Watch};
use super::request::{Version, visible};
use crate::sys::file::MappedFile;
use bytes::Bytes;
use std::borrow::Cow;
use std::fmt;
use std::io;
use std::ops::Range;
use std::panic::Location;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, PoisonError};

/// A final status code, 200 to 599 (RFC 9110 section 15): one of IANA's registry by its name here, any other by its
/// number. One that is not in the registry has no reason phrase (RFC 9112 section 4 allows that, and clients ignore it).
///
/// ```
/// use uringd::Status;
///
/// assert_eq!(Status::try_from(404), Ok(Status::NOT_FOUND));
/// assert_eq!(Status::try_from(299).unwrap().reason(), "");
/// assert!(Status::try_from(103).is_err(), "interim: the server sends those");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Status(u16);

/// Why a number is no [`Status`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, displaydoc::Display, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidStatus {
    /// {0} is an interim status, which only the server sends; a handler gives the final one, 200 to 599
    Interim(u16),
    /// {0} is no status code of HTTP; a handler gives one from 200 to 599
    OutOfRange(u16),
}

/// An answer. The length, the date and the connection's fate are written by the server.
#[derive(Debug)]
#[must_use = "a response is sent only if a handler gives it"]
pub struct Response {
    status: Status,
    /// It was made with what cannot be sent; nothing makes it another answer than the empty `500` that it is now.
    faulty: bool,
    /// Not written when empty; one that is made at run time stands among the headers.
    content_type: &'static str,
    headers: Vec<(Cow<'static, str>, Bytes)>,
    /// Field lines that were put together and checked before, each with its CRLF in front.
    prepared: Option<Bytes>,
    body: Body,
}

/// The content of an answer.
enum Body {
    Bytes(Bytes),
    Standing(Arc<Standing>),
    File(FileRange),
    Stream(Stream),
    Pipe(Pieces),
}

/// A `200 OK` that is given again and again: put together whole once a second, with its date, and sent from where it
/// lies. One stretch of memory that stays in the cache costs a server less than a head and a content that is copied
/// behind it (16 KiB, 64 connections: 9 % of the CPU time of a request) or sent from a second place (12 %).
#[derive(Debug)]
pub(crate) struct Standing {
    fields: Bytes,
    content: Bytes,
    /// For which second, and the octets.
    whole: Mutex<(u64, Bytes)>,
}

/// A part of a file.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FileRange {
    /// Which file.
    pub file: Arc<MappedFile>,
    /// Which octets of it.
    pub range: Range<u64>,
}

/// What a stream is made of; asked for the next one when the one before has been taken by the client.
pub struct Stream(Option<Box<dyn Iterator<Item = io::Result<Bytes>> + Send>>);

impl Stream {
    /// Of any pieces.
    pub fn new(pieces: impl Iterator<Item = io::Result<Bytes>> + Send + 'static) -> Stream {
        Stream(Some(Box::new(pieces)))
    }
}

impl Iterator for Stream {
    type Item = io::Result<Bytes>;

    fn next(&mut self) -> Option<io::Result<Bytes>> {
        self.0.as_mut()?.next()
    }
}

/// Wherever an answer ends up that is not sent, or not to its end: the program's own code must not unwind from there.
impl Drop for Stream {
    fn drop(&mut self) {
        let pieces = self.0.take();
        if panic::catch_unwind(AssertUnwindSafe(|| drop(pieces))).is_err() {
            tracing::error!("a stream panicked when it was dropped");
        }
    }
}

/// Content that was not copied behind its head: it is sent from where it is.
#[non_exhaustive]
pub enum Rest {
    /// In memory.
    Bytes(Bytes),
    /// In a file.
    File(FileRange),
    /// Made piece by piece.
    Stream {
        /// Where it comes from.
        pieces: Stream,
        /// Each piece is a chunk (HTTP/1.1); otherwise the close ends it.
        chunked: bool,
    },
    /// The same, but the next piece may be still to come.
    Pipe {
        /// Where it comes from.
        pieces: Pieces,
        /// As above.
        chunked: bool,
    },
}

/// What the request and the connection's fate add to an answer.
#[derive(Debug, Clone, Copy)]
pub struct Framing<'a> {
    pub connection: ConnectionField,
    pub version: Version,
    /// The request was a HEAD: GET's fields and no content (RFC 9110 section 9.3.2).
    pub head_only: bool,
    pub date: &'a Date,
}

/// What is said of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionField {
    /// Nothing changes, nothing is said.
    Silent,
    /// `Connection: close`.
    Close,
    /// `Connection: keep-alive`, which HTTP/1.0 clients need to hear.
    KeepAlive,
}

/// The interim answer to a client that asked before it sends its content (RFC 9110 section 15.2.1).
pub(super) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Bodies beyond this are not copied behind their head but sent from where they are.
pub(crate) const COPIED_BODY_OCTETS_MAX: usize = 4 * 1024;

/// Most heads are shorter; the buffer grows for those that are not.
const HEAD_OCTETS_USUAL: usize = 256;

/// Field names that the server alone writes: two of a kind would contradict each other.
const OWN_FIELDS: [&str; 7] =
    ["connection", "content-length", "date", "keep-alive", "server", "transfer-encoding", "upgrade"];

/// Where a final status code stands in tables of them.
const fn place(code: u16) -> usize {
    (code - FINAL_CODES.start) as usize
}

/// RFC 9110 section 15: a status code outside of 100 to 599 is invalid, and below 200 it is interim.
const FINAL_CODES: Range<u16> = 200..600;

macro_rules! statuses {
    ($($name:ident = $code:literal $reason:literal,)*) => {
        impl Status {
            $(#[doc = concat!("`", $code, " ", $reason, "`")]
            pub const $name: Status = Status($code);)*
        }

        /// Whole status lines, so that each is one copy; empty where the registry has none.
        static LINES: [&str; (FINAL_CODES.end - FINAL_CODES.start) as usize] = {
            let mut lines = [""; _];
            $(assert!(lines[place($code)].is_empty(), "one line a code");
            lines[place($code)] = concat!("HTTP/1.1 ", $code, " ", $reason, "\r\n");)*
            lines
        };
    };
}

// the final codes of https://www.iana.org/assignments/http-status-codes but for the unused 306 and 418
statuses! {
    OK = 200 "OK",
    CREATED = 201 "Created",
    ACCEPTED = 202 "Accepted",
    NON_AUTHORITATIVE_INFORMATION = 203 "Non-Authoritative Information",
    NO_CONTENT = 204 "No Content",
    RESET_CONTENT = 205 "Reset Content",
    PARTIAL_CONTENT = 206 "Partial Content",
    MULTI_STATUS = 207 "Multi-Status",
    ALREADY_REPORTED = 208 "Already Reported",
    IM_USED = 226 "IM Used",
    MULTIPLE_CHOICES = 300 "Multiple Choices",
    MOVED_PERMANENTLY = 301 "Moved Permanently",
    FOUND = 302 "Found",
    SEE_OTHER = 303 "See Other",
    NOT_MODIFIED = 304 "Not Modified",
    USE_PROXY = 305 "Use Proxy",
    TEMPORARY_REDIRECT = 307 "Temporary Redirect",
    PERMANENT_REDIRECT = 308 "Permanent Redirect",
    BAD_REQUEST = 400 "Bad Request",
    UNAUTHORIZED = 401 "Unauthorized",
    PAYMENT_REQUIRED = 402 "Payment Required",
    FORBIDDEN = 403 "Forbidden",
    NOT_FOUND = 404 "Not Found",
    METHOD_NOT_ALLOWED = 405 "Method Not Allowed",
    NOT_ACCEPTABLE = 406 "Not Acceptable",
    PROXY_AUTHENTICATION_REQUIRED = 407 "Proxy Authentication Required",
    REQUEST_TIMEOUT = 408 "Request Timeout",
    CONFLICT = 409 "Conflict",
    GONE = 410 "Gone",
    LENGTH_REQUIRED = 411 "Length Required",
    PRECONDITION_FAILED = 412 "Precondition Failed",
    CONTENT_TOO_LARGE = 413 "Content Too Large",
    URI_TOO_LONG = 414 "URI Too Long",
    UNSUPPORTED_MEDIA_TYPE = 415 "Unsupported Media Type",
    RANGE_NOT_SATISFIABLE = 416 "Range Not Satisfiable",
    EXPECTATION_FAILED = 417 "Expectation Failed",
    MISDIRECTED_REQUEST = 421 "Misdirected Request",
    UNPROCESSABLE_CONTENT = 422 "Unprocessable Content",
    LOCKED = 423 "Locked",
    FAILED_DEPENDENCY = 424 "Failed Dependency",
    TOO_EARLY = 425 "Too Early",
    UPGRADE_REQUIRED = 426 "Upgrade Required",
    PRECONDITION_REQUIRED = 428 "Precondition Required",
    TOO_MANY_REQUESTS = 429 "Too Many Requests",
    FIELDS_TOO_LARGE = 431 "Request Header Fields Too Large",
    UNAVAILABLE_FOR_LEGAL_REASONS = 451 "Unavailable For Legal Reasons",
    INTERNAL_SERVER_ERROR = 500 "Internal Server Error",
    NOT_IMPLEMENTED = 501 "Not Implemented",
    BAD_GATEWAY = 502 "Bad Gateway",
    SERVICE_UNAVAILABLE = 503 "Service Unavailable",
    GATEWAY_TIMEOUT = 504 "Gateway Timeout",
    VERSION_NOT_SUPPORTED = 505 "HTTP Version Not Supported",
    VARIANT_ALSO_NEGOTIATES = 506 "Variant Also Negotiates",
    INSUFFICIENT_STORAGE = 507 "Insufficient Storage",
    LOOP_DETECTED = 508 "Loop Detected",
    NOT_EXTENDED = 510 "Not Extended",
    NETWORK_AUTHENTICATION_REQUIRED = 511 "Network Authentication Required",
}

impl Status {
    /// The three digits.
    pub fn code(self) -> u16 {
        self.0
    }

    /// The reason phrase; empty if the registry has none.
    pub fn reason(self) -> &'static str {
        self.line().get("HTTP/1.1 200 ".len()..).map_or("", str::trim_ascii_end)
    }

    /// The whole status line; empty if the registry has none.
    #[inline]
    fn line(self) -> &'static str {
        LINES[place(self.0)]
    }

    #[inline]
    fn write_line(self, out: &mut Vec<u8>) {
        let line = self.line();
        if line.is_empty() {
            return self.write_line_without_reason(out);
        }
        out.extend_from_slice(line.as_bytes());
    }

    /// RFC 9112 section 4: a server MUST send the space even when the reason phrase is absent.
    #[cold]
    fn write_line_without_reason(self, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("HTTP/1.1 {} \r\n", self.0).as_bytes());
    }

    /// RFC 9110 sections 15.3.5, 15.3.6 and 15.4.5: three of them never have content.
    #[inline]
    fn has_content(self) -> bool {
        !matches!(self, Status::NO_CONTENT | Status::RESET_CONTENT | Status::NOT_MODIFIED)
    }
}

impl TryFrom<u16> for Status {
    type Error = InvalidStatus;

    #[inline]
    fn try_from(code: u16) -> Result<Status, InvalidStatus> {
        match code {
            100..200 => Err(InvalidStatus::Interim(code)),
            _ if FINAL_CODES.contains(&code) => Ok(Status(code)),
            _ => Err(InvalidStatus::OutOfRange(code)),
        }
    }
}

impl Response {
    fn new(status: Status, content_type: &'static str, body: Body) -> Response {
        Response { status, faulty: false, content_type, headers: Vec::new(), prepared: None, body }
    }

    /// `200 OK` with this text. A [`Bytes`] that is kept and cloned costs no allocation per request.
    #[inline]
    pub fn text(body: impl Into<Bytes>) -> Response {
        Response::new(Status::OK, "text/plain; charset=utf-8", Body::Bytes(body.into()))
    }

    /// `200 OK` with these octets, as `application/octet-stream`; see [`Response::with_content_type`].
    pub fn bytes(body: impl Into<Bytes>) -> Response {
        Response::new(Status::OK, "application/octet-stream", Body::Bytes(body.into()))
    }

    /// This status, with its reason phrase as text; [empty](Response::empty) where there is none, or no content (`204`,
    /// `205`, `304`).
    ///
    /// A number will do: one that is no [`Status`] is the program's fault, the answer becomes an empty `500 Internal
    /// Server Error`, and the log says where it was given.
    ///
    /// ```
    /// use uringd::{Response, Status};
    ///
    /// assert_eq!(Response::status(Status::NOT_FOUND).body().unwrap(), "Not Found");
    /// assert_eq!(Response::status(404).code(), 404);
    /// assert_eq!(Response::status(42).code(), 500);
    /// ```
    #[track_caller]
    #[inline]
    pub fn status<S>(status: S) -> Response
    where
        S: TryInto<Status>,
        S::Error: fmt::Display,
    {
        match status.try_into() {
            Ok(status) if status.has_content() && !status.reason().is_empty() => {
                Response { status, ..Response::text(status.reason()) }
            }
            Ok(status) => Response::new(status, "", Body::Bytes(Bytes::new())),
            Err(problem) => Response::fault(problem),
        }
    }

    /// This status and no content: `Content-Length: 0`, but for `204` and `304`, which must not say so of themselves
    /// (RFC 9110 section 8.6). What is no status is answered as by [`Response::status`].
    ///
    /// ```
    /// use uringd::{Response, Status};
    ///
    /// let elsewhere = Response::empty(Status::SEE_OTHER).with_header("Location", "/orders/1");
    /// ```
    #[track_caller]
    #[inline]
    pub fn empty<S>(status: S) -> Response
    where
        S: TryInto<Status>,
        S::Error: fmt::Display,
    {
        Response::new(Status::OK, "", Body::Bytes(Bytes::new())).with_status(status)
    }

    /// `405 Method Not Allowed` with the methods that are (RFC 9110 section 15.5.6: MUST generate Allow), such as
    /// `"GET, HEAD"`.
    pub fn not_allowed(allow: &'static str) -> Response {
        Response::status(Status::METHOD_NOT_ALLOWED).with_header("Allow", allow)
    }

    /// `200 OK` with these octets of a file, sent from a mapping in bounded pieces: however long it is and however
    /// slow its readers are, it takes no memory of its own. A file that is truncated meanwhile ends this answer, short
    /// and with the connection.
    ///
    /// # Panics
    /// If the range is not one of the file's.
    pub fn file(file: Arc<MappedFile>, range: Range<u64>) -> Response {
        assert!(range.start <= range.end && range.end <= file.len(), "{range:?} of {} octets", file.len());
        let body = match range.is_empty() {
            true => Body::Bytes(Bytes::new()),
            false => Body::File(FileRange { file, range }),
        };
        Response::new(Status::OK, "application/octet-stream", body)
    }

    /// `200 OK` with content that is made piece by piece. The next piece is asked for when the client has taken the
    /// one before: a client that does not read makes nobody work. Its length is not known: chunked to HTTP/1.1 clients,
    /// ended by the close to HTTP/1.0 ones. An error ends the connection in the middle, so that no client takes the
    /// answer for whole.
    pub fn stream<I>(pieces: I) -> Response
    where
        I: IntoIterator<Item = io::Result<Bytes>>,
        I::IntoIter: Send + 'static,
    {
        Response::new(Status::OK, "application/octet-stream", Body::Stream(Stream::new(pieces.into_iter())))
    }

    /// `200 OK` with content that another thread, or a future, makes bit by bit: the sender may be taken anywhere. A
    /// client that does not read makes the sender wait. Framed, ended and cut off as with [`Response::stream`].
    ///
    /// ```
    /// use uringd::{Request, Response, Worker};
    ///
    /// // a thread for each answer does where few are asked for; otherwise send them to one that is there
    /// fn lines(worker: &Worker, _: &Request<'_>) -> std::io::Result<Response> {
    ///     let (mut sender, response) = Response::channel();
    ///     worker.spawn_thread("lines", move || {
    ///         for n in 0..10 {
    ///             if sender.blocking_send(format!("line {n}\n")).is_err() {
    ///                 return; // the client is gone
    ///             }
    ///         }
    ///         sender.finish();
    ///     })?;
    ///     Ok(response.with_content_type("text/plain"))
    /// }
    /// ```
    pub fn channel() -> (Sender, Response) {
        let (sender, pieces) = pipe::pipe();
        (sender, Response::new(Status::OK, "application/octet-stream", Body::Pipe(pieces)))
    }

    /// An answer whose field lines have been put together before, each with its CRLF in front.
    pub(crate) fn prepared(status: Status, fields: Bytes, body: Bytes) -> Response {
        Response { prepared: Some(fields), ..Response::new(status, "", Body::Bytes(body)) }
    }

    /// An answer that stands ready.
    #[inline]
    pub(crate) fn standing(standing: Arc<Standing>) -> Response {
        Response::new(Status::OK, "", Body::Standing(standing))
    }

    /// The same with this status. What is none is answered as by [`Response::status`].
    #[track_caller]
    #[inline]
    pub fn with_status<S>(self, status: S) -> Response
    where
        S: TryInto<Status>,
        S::Error: fmt::Display,
    {
        match status.try_into() {
            Ok(_) if self.faulty => self,
            Ok(status) => Response { status, ..self },
            Err(problem) => Response::fault(problem),
        }
    }

    /// The same with this media type, such as `text/html; charset=utf-8`; with none if it is empty. What no field may
    /// have is answered as by [`Response::with_header`].
    #[track_caller]
    pub fn with_content_type(self, value: impl Into<Cow<'static, str>>) -> Response {
        match value.into() {
            _ if self.faulty => self,
            value if !is_field_value(value.as_bytes()) => Response::unfit("Content-Type"),
            Cow::Borrowed(content_type) => Response { content_type, ..self.without_content_type() },
            Cow::Owned(value) => {
                let mut response = self.without_content_type();
                if !value.is_empty() {
                    response.headers.push((Cow::Borrowed("Content-Type"), value.into()));
                }
                response
            }
        }
    }

    fn without_content_type(mut self) -> Response {
        self.headers.retain(|(name, _)| name != "Content-Type");
        if let Body::Standing(standing) = &self.body {
            self.prepared = Some(standing.fields.clone());
            self.body = Body::Bytes(standing.content.clone());
        }
        self.prepared = self.prepared.filter(|fields| !fields.is_empty()).map(without_content_type);
        Response { content_type: "", ..self }
    }

    /// The same with one more header field. `Content-Type` replaces what there was; fields that the server writes
    /// itself (the length, the date, the connection's fate) are left out.
    ///
    /// A name that is no token or a value with control characters in it would let whoever chose it write fields or
    /// answers of his own: then the answer becomes an empty `500 Internal Server Error`, whatever is added to it later,
    /// and the log says why and where.
    #[track_caller]
    pub fn with_header(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Bytes>) -> Response {
        let (name, value) = (name.into(), value.into());
        if self.faulty {
            return self;
        }
        if !is_token(name.as_bytes()) || !is_field_value(&value) {
            return Response::unfit(&name);
        }
        if name.eq_ignore_ascii_case("content-type") {
            return match String::from_utf8(value.into()) {
                Ok(value) => self.with_content_type(value),
                Err(_) => Response::unfit(&name),
            };
        }
        if !OWN_FIELDS.iter().any(|own| name.eq_ignore_ascii_case(own)) {
            self.headers.push((name, value));
        }
        self
    }

    #[cold]
    #[track_caller]
    fn unfit(name: &str) -> Response {
        Response::fault(format_args!("the header field {name:?} has characters that no field may have"))
    }

    /// The program asked for what cannot be sent: its author reads why and where, the client an empty 500.
    #[cold]
    #[track_caller]
    pub(super) fn fault(problem: impl fmt::Display) -> Response {
        let (problem, location) = (problem.to_string(), Location::caller().to_string());
        tracing::error!(problem, location, "an answer cannot be sent; the client gets an empty 500");
        let empty = Response::new(Status::INTERNAL_SERVER_ERROR, "", Body::Bytes(Bytes::new()));
        Response { faulty: true, ..empty }
    }

    pub(crate) fn with_range(mut self, file: Arc<MappedFile>, range: Range<u64>) -> Response {
        self.body = Response::file(file, range).body;
        self
    }

    /// The status code; [`Response::status`] makes an answer.
    pub fn code(&self) -> u16 {
        self.status.0
    }

    /// The first header field of this name (names are case-insensitive), if its value is visible ASCII; see
    /// [`Response::headers`].
    ///
    /// ```
    /// use uringd::Response;
    ///
    /// let response = Response::text("hello").with_header("ETag", "\"a\"");
    /// assert_eq!(response.header("content-type"), Some("text/plain; charset=utf-8"));
    /// assert_eq!(response.header("etag"), Some("\"a\""));
    /// ```
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers()
            .find(|(other, _)| other.eq_ignore_ascii_case(name))
            .and_then(|(_, value)| visible(value))
    }

    /// The header fields, in the order in which they will be written. What the server writes itself (the length, the
    /// date, the connection's fate, its name) is not known yet and not among them.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let standing = match &self.body {
            Body::Standing(standing) => &standing.fields[..],
            _ => &[],
        };
        let added = self.headers.iter().map(|(name, value)| (name.as_ref(), value.as_ref()));
        let is_written = !self.content_type.is_empty() && self.status.has_content();
        let content_type = is_written.then_some(("Content-Type", self.content_type.as_bytes()));
        field_lines(self.prepared.as_deref().unwrap_or_default())
            .chain(field_lines(standing))
            .filter_map(|line| field_of(line))
            .chain(added)
            .chain(content_type)
    }

    /// The content, as it would be sent for a GET; `None` for a file or a stream.
    pub fn body(&self) -> Option<&Bytes> {
        match &self.body {
            Body::Bytes(bytes) => Some(bytes),
            Body::Standing(standing) => Some(&standing.content),
            Body::File(_) | Body::Stream(_) | Body::Pipe(_) => None,
        }
    }

    /// For tests of those who send it.
    #[cfg(test)]
    pub(crate) fn into_pieces(self) -> Pieces {
        match self.body {
            Body::Pipe(pieces) => pieces,
            _ => panic!("a response of `Response::channel`"),
        }
    }

    /// Says whether its content is still wanted, if that is made bit by bit.
    pub(crate) fn watch(&self) -> Option<Watch> {
        match &self.body {
            Body::Pipe(pieces) => Some(pieces.watch()),
            _ => None,
        }
    }

    /// It can be sent as it stands.
    #[inline]
    fn stands(&self, framing: &Framing<'_>) -> Option<&Arc<Standing>> {
        match &self.body {
            Body::Standing(standing)
                if framing.connection == ConnectionField::Silent
                    && !framing.head_only
                    && self.status == Status::OK
                    && self.headers.is_empty() =>
            {
                Some(standing)
            }
            _ => None,
        }
    }

    /// Only the close can end it for a client of this version (RFC 9112 section 6.3).
    #[inline]
    pub(super) fn ends_with_close(&self, version: Version) -> bool {
        matches!(self.body, Body::Stream(_) | Body::Pipe(_))
            && version == Version::Http10
            && self.status.has_content()
    }

    /// How long its content is, where that is in memory.
    pub(super) fn length(&self) -> Option<u64> {
        self.body().map(|content| content.len() as u64)
    }

    /// How much of the content [`Response::write`] puts behind the head; the rest is what it gives.
    #[inline]
    pub(super) fn copied(&self, head_only: bool) -> u64 {
        match &self.body {
            _ if head_only || !self.status.has_content() => 0,
            Body::Bytes(bytes) if bytes.len() <= COPIED_BODY_OCTETS_MAX => bytes.len() as u64,
            _ => 0,
        }
    }

    /// Writes the head, and the content behind it unless that is to be sent from where it is.
    #[inline]
    #[doc(hidden)]
    pub fn write(self, out: &mut Vec<u8>, framing: Framing<'_>) -> Option<Rest> {
        if let Some(standing) = self.stands(&framing) {
            return Some(Rest::Bytes(standing.whole(framing.date)));
        }
        let copied = match &self.body {
            Body::Bytes(bytes) if bytes.len() <= COPIED_BODY_OCTETS_MAX => bytes.len(),
            _ => 0,
        };
        let prepared = self.prepared.as_deref().unwrap_or_default();
        out.reserve(HEAD_OCTETS_USUAL + prepared.len() + copied);
        self.status.write_line(out);
        out.extend_from_slice(framing.date.lines());
        match framing.connection {
            ConnectionField::Silent => {}
            ConnectionField::Close => out.extend_from_slice(b"\r\nConnection: close"),
            ConnectionField::KeepAlive => out.extend_from_slice(b"\r\nConnection: keep-alive"),
        }
        if !prepared.is_empty() {
            out.extend_from_slice(prepared);
        }
        if let Body::Standing(standing) = &self.body {
            out.extend_from_slice(&standing.fields);
        }
        for (name, value) in &self.headers {
            for part in [b"\r\n".as_slice(), name.as_bytes(), b": ", value] {
                out.extend_from_slice(part);
            }
        }
        if !self.status.has_content() {
            // RFC 9110 section 15.3.6 wants it of a 205; section 8.6: a server MUST NOT send Content-Length with 204
            if self.status == Status::RESET_CONTENT {
                write_length(0, out);
            }
            out.extend_from_slice(b"\r\n\r\n");
            return None;
        }
        if !self.content_type.is_empty() {
            out.extend_from_slice(b"\r\nContent-Type: ");
            out.extend_from_slice(self.content_type.as_bytes());
        }
        self.body.write(out, framing)
    }
}

impl Standing {
    /// With these field lines (each with its CRLF in front) and this content.
    pub(crate) fn new(fields: Bytes, content: Bytes) -> Standing {
        Standing { fields, content, whole: Mutex::new((0, Bytes::new())) }
    }

    fn whole(&self, date: &Date) -> Bytes {
        let mut whole = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        if whole.0 != date.second() || whole.1.is_empty() {
            *whole = (date.second(), self.put_together(date));
        }
        whole.1.clone()
    }

    #[cold]
    fn put_together(&self, date: &Date) -> Bytes {
        let mut out = Vec::with_capacity(
            HEAD_OCTETS_USUAL + date.lines().len() + self.fields.len() + self.content.len(),
        );
        for part in [Status::OK.line().as_bytes(), date.lines(), &self.fields] {
            out.extend_from_slice(part);
        }
        write_length(self.content.len() as u64, &mut out);
        out.extend_from_slice(b"\r\n\r\n");
        out.extend_from_slice(&self.content);
        out.into()
    }
}

impl Body {
    /// The field that says where the content ends, the empty line, and the content.
    #[inline]
    fn write(self, out: &mut Vec<u8>, framing: Framing<'_>) -> Option<Rest> {
        let chunked = framing.version == Version::Http11;
        match &self {
            Body::Bytes(bytes) => write_length(bytes.len() as u64, out),
            Body::Standing(standing) => write_length(standing.content.len() as u64, out),
            Body::File(FileRange { range, .. }) => write_length(range.end - range.start, out),
            Body::Stream(_) | Body::Pipe(_) if chunked => {
                out.extend_from_slice(b"\r\nTransfer-Encoding: chunked")
            }
            Body::Stream(_) | Body::Pipe(_) => {}
        }
        out.extend_from_slice(b"\r\n\r\n");
        match self {
            _ if framing.head_only => None,
            Body::Bytes(bytes) if bytes.len() <= COPIED_BODY_OCTETS_MAX => {
                out.extend_from_slice(&bytes);
                None
            }
            Body::Bytes(bytes) => Some(Rest::Bytes(bytes)),
            Body::Standing(standing) => Some(Rest::Bytes(standing.content.clone())),
            Body::File(range) => Some(Rest::File(range)),
            Body::Stream(pieces) => Some(Rest::Stream { pieces, chunked }),
            Body::Pipe(pieces) => Some(Rest::Pipe { pieces, chunked }),
        }
    }
}

fn write_length(octets: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\nContent-Length: ");
    out.extend_from_slice(itoa::Buffer::new().format(octets).as_bytes());
}

/// RFC 9110 section 5.6.2.
fn is_token(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|c| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(c))
}

/// RFC 9110 section 5.5: visible characters, space, tab and obs-text.
fn is_field_value(value: &[u8]) -> bool {
    value.iter().all(|&c| c == b'\t' || !c.is_ascii_control())
}

/// The lines of a prepared stretch, each of which has its CRLF in front.
fn field_lines(mut fields: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let rest = fields.strip_prefix(b"\r\n")?;
        let end = memchr::memmem::find(rest, b"\r\n").unwrap_or(rest.len());
        fields = &rest[end..];
        Some(&rest[..end])
    })
}

fn field_of(line: &[u8]) -> Option<(&str, &[u8])> {
    let colon = memchr::memchr(b':', line)?;
    Some((std::str::from_utf8(&line[..colon]).ok()?, line[colon + 1..].trim_ascii_start()))
}

fn without_content_type(fields: Bytes) -> Bytes {
    let is_kept =
        |line: &&[u8]| field_of(line).is_none_or(|(name, _)| !name.eq_ignore_ascii_case("content-type"));
    let kept = field_lines(&fields).filter(is_kept);
    kept.flat_map(|line| [b"\r\n".as_slice(), line]).flatten().copied().collect()
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Body::Bytes(bytes) => write!(f, "{} octets", bytes.len()),
            Body::Standing(standing) => write!(f, "{} octets", standing.content.len()),
            Body::File(part) => write!(f, "octets {:?} of a file", part.range),
            Body::Stream(_) | Body::Pipe(_) => f.write_str("a stream"),
        }
    }
}

impl fmt::Debug for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rest::Bytes(bytes) => write!(f, "{} octets", bytes.len()),
            Rest::File(part) => write!(f, "octets {:?} of a file", part.range),
            Rest::Stream { chunked, .. } | Rest::Pipe { chunked, .. } => {
                write!(f, "a stream, chunked: {chunked}")
            }
        }
    }
}

/// For tests of those who make answers.
#[cfg(test)]
impl Response {
    /// What of which file is its content.
    pub(crate) fn file_range(&self) -> Option<&FileRange> {
        match &self.body {
            Body::File(range) => Some(range),
            Body::Bytes(_) | Body::Standing(_) | Body::Stream(_) | Body::Pipe(_) => None,
        }
    }
}

/// What a piece of code gives, and what it says to the log meanwhile.
#[cfg(test)]
pub(super) fn logged<T>(run: impl FnOnce() -> T) -> (T, String) {
    use std::io::{Read, Seek};
    use std::sync::LazyLock;
    // while there is one subscriber alone, a line of the program that is reached for the first time asks that of its own
    // thread whether it is ever heard, and most tests have none
    static SECOND: LazyLock<tracing::Dispatch> =
        LazyLock::new(|| tracing::Dispatch::new(tracing_subscriber::registry()));
    LazyLock::force(&SECOND);
    let mut log = tempfile::tempfile().unwrap();
    let writer = Arc::new(log.try_clone().unwrap());
    let subscriber = tracing_subscriber::fmt().without_time().with_target(false).with_ansi(false);
    let given = tracing::subscriber::with_default(subscriber.with_writer(writer).finish(), run);
    let mut text = String::new();
    log.rewind().and_then(|()| log.read_to_string(&mut text)).unwrap();
    (given, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::{Duration, SystemTime};

    fn written(
        response: Response,
        connection: ConnectionField,
        version: Version,
        head_only: bool,
    ) -> (String, Option<Rest>) {
        let mut out = Vec::new();
        let date = Date::render(SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777), true).0;
        let rest = response.write(&mut out, Framing { connection, version, head_only, date: &date });
        (String::from_utf8(out).unwrap(), rest)
    }

    fn plainly(response: Response) -> String {
        written(response, ConnectionField::Silent, Version::Http11, false).0
    }

    const HEAD: &str = "HTTP/1.1 200 OK\r\nServer: uringd\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n";

    #[test]
    fn an_answer_octet_by_octet() {
        let text = "Content-Type: text/plain; charset=utf-8\r\nContent-Length: 2\r\n\r\n";
        let with =
            |connection, head_only| written(Response::text("hi"), connection, Version::Http11, head_only).0;
        assert_eq!(with(ConnectionField::Silent, false), format!("{HEAD}{text}hi"));
        assert_eq!(with(ConnectionField::Silent, true), format!("{HEAD}{text}"));
        assert_eq!(with(ConnectionField::Close, false), format!("{HEAD}Connection: close\r\n{text}hi"));
        assert_eq!(with(ConnectionField::KeepAlive, true), format!("{HEAD}Connection: keep-alive\r\n{text}"));
    }

    #[test]
    fn a_refused_method_is_told_what_is_allowed() {
        assert!(plainly(Response::not_allowed("GET, HEAD")).contains("\r\nAllow: GET, HEAD\r\n"));
    }

    #[test]
    fn no_content_has_neither_body_nor_length() {
        for status in [Status::NO_CONTENT, Status::NOT_MODIFIED] {
            let response = Response::text("not to be seen").with_status(status).with_header("ETag", "\"a\"");
            let head = plainly(response);
            assert!(!head.contains("Content-") && head.ends_with("ETag: \"a\"\r\n\r\n"), "{head}");
        }
    }

    #[test]
    fn a_standing_answer_is_the_one_that_would_be_written() {
        let (fields, content) = (Bytes::from("\r\nETag: \"a\""), Bytes::from(vec![b'x'; 9000]));
        let standing = Arc::new(Standing::new(fields.clone(), content.clone()));
        let octets = |(head, rest): (String, Option<Rest>)| match rest {
            Some(Rest::Bytes(rest)) => [head.as_bytes(), &rest].concat(),
            _ => head.into_bytes(),
        };
        for connection in [ConnectionField::Silent, ConnectionField::Close] {
            for head_only in [false, true] {
                let with = |response| octets(written(response, connection, Version::Http11, head_only));
                let plain = with(Response::prepared(Status::OK, fields.clone(), content.clone()));
                assert!(
                    with(Response::standing(Arc::clone(&standing))) == plain,
                    "{connection:?} {head_only}"
                );
            }
        }
        let whole = |seconds| {
            standing.whole(&Date::render(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds), true).0)
        };
        assert_eq!(whole(1).as_ptr(), whole(1).as_ptr(), "put together once");
        assert!(whole(1) != whole(2), "and once more when the second turns");
    }

    #[test]
    fn a_long_body_is_not_copied() {
        let body = Bytes::from(vec![b'x'; COPIED_BODY_OCTETS_MAX + 1]);
        let with = |head_only| {
            written(Response::text(body.clone()), ConnectionField::Silent, Version::Http11, head_only)
        };
        let (head, rest) = with(false);
        assert!(head.ends_with("\r\n\r\n"));
        assert!(matches!(rest, Some(Rest::Bytes(rest)) if rest.as_ptr() == body.as_ptr()));
        assert!(with(true).1.is_none());
    }

    /// RFC 9112 sections 6.1 and 6.3: no transfer coding for HTTP/1.0, whose answers may end with the close.
    #[test]
    fn a_stream_is_chunked_where_the_client_knows_chunks() {
        let stream = || Response::stream([Ok(Bytes::from("a"))]);
        assert!(stream().ends_with_close(Version::Http10) && !stream().ends_with_close(Version::Http11));
        assert!(!stream().with_status(Status::NOT_MODIFIED).ends_with_close(Version::Http10));
        for (version, head_only, said) in
            [(Version::Http11, false, true), (Version::Http11, true, true), (Version::Http10, false, false)]
        {
            let (head, rest) = written(stream(), ConnectionField::Silent, version, head_only);
            assert_eq!(head.contains("\r\nTransfer-Encoding: chunked\r\n"), said, "{version:?}");
            assert!(!head.contains("Content-Length"));
            assert_eq!(rest.is_none(), head_only);
        }
    }

    #[test]
    fn a_header_cannot_end_its_field() {
        for (name, value) in [
            ("X", "a\r\nSet-Cookie: b"),
            ("X", "a\nb"),
            ("X", "a\0"),
            ("X: a\r\nY", "b"),
            ("", "b"),
            ("X ", "b"),
        ] {
            let head = plainly(Response::text("body").with_header(name, value));
            assert!(head.starts_with("HTTP/1.1 500 ") && !head.contains("Set-Cookie"), "{head}");
        }
        let head = plainly(Response::text("").with_content_type("text/html\r\nX: y"));
        assert!(head.starts_with("HTTP/1.1 500 "), "{head}");
    }

    #[test]
    fn what_the_server_writes_itself_is_written_once() {
        let mut response = Response::text("hi").with_header("content-type", "text/html");
        for name in ["Content-Length", "DATE", "Transfer-Encoding", "connection", "Server"] {
            response = response.with_header(name, "7");
        }
        let text = "Content-Type: text/html\r\nContent-Length: 2\r\n\r\n";
        assert_eq!(plainly(response), format!("{HEAD}{text}hi"));
    }

    /// RFC 9110 section 15, and IANA's registry of status codes.
    #[test]
    fn every_final_status_and_no_other_can_be_made() {
        for code in 0..=u16::MAX {
            let made = Status::try_from(code);
            match code {
                200..=599 => assert_eq!(made.unwrap().code(), code),
                100..=199 => assert_eq!(made, Err(InvalidStatus::Interim(code))),
                _ => assert_eq!(made, Err(InvalidStatus::OutOfRange(code))),
            }
        }
        let registered = (200..=599).filter(|code| !Status(*code).reason().is_empty()).count();
        assert_eq!(registered, 10 + 8 + 28 + 11);
    }

    /// RFC 9112 section 4: `status-line = HTTP-version SP status-code SP [ reason-phrase ] CRLF`.
    #[test]
    fn status_lines() {
        let table = [
            (200, "HTTP/1.1 200 OK\r\n", "OK"),
            (203, "HTTP/1.1 203 Non-Authoritative Information\r\n", "Non-Authoritative Information"),
            (226, "HTTP/1.1 226 IM Used\r\n", "IM Used"),
            (299, "HTTP/1.1 299 \r\n", ""),
            (306, "HTTP/1.1 306 \r\n", ""),
            (418, "HTTP/1.1 418 \r\n", ""),
            (511, "HTTP/1.1 511 Network Authentication Required\r\n", "Network Authentication Required"),
            (599, "HTTP/1.1 599 \r\n", ""),
        ];
        for (code, line, reason) in table {
            let response = Response::status(code);
            assert_eq!(response.body().unwrap(), reason);
            assert!(plainly(response).starts_with(line), "{code}");
            assert_eq!(Status(code).reason(), reason);
        }
    }

    #[test]
    fn an_empty_answer_has_a_length_where_it_may() {
        let head = |status: &str, more: &str| {
            format!(
                "HTTP/1.1 {status}\r\nServer: uringd\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT{more}\r\n\r\n"
            )
        };
        let zero = "\r\nContent-Length: 0";
        for (code, status, length) in [
            (200, "200 OK", zero),
            (404, "404 Not Found", zero),
            (299, "299 ", zero),
            // RFC 9110 section 15.3.6
            (205, "205 Reset Content", zero),
            (204, "204 No Content", ""),
            (304, "304 Not Modified", ""),
        ] {
            assert_eq!(plainly(Response::empty(code)), head(status, length));
        }
        for response in [Response::text("x"), Response::stream([Ok(Bytes::from("x"))])] {
            let (written, rest) =
                written(response.with_status(205), ConnectionField::Silent, Version::Http11, false);
            assert_eq!((written, rest.is_none()), (head("205 Reset Content", zero), true));
        }
    }

    #[test]
    fn what_cannot_be_sent_is_an_empty_500_and_a_log_line_that_says_where() {
        /// Makes one, and says in which line.
        type Make = fn() -> (Response, u32);
        let table: [(Make, &str); 8] = [
            (|| (Response::status(42), line!()), "42 is no status code of HTTP"),
            (|| (Response::empty(600), line!()), "600 is no status code of HTTP"),
            (|| (Response::from(0), line!()), "0 is no status code of HTTP"),
            (|| (Response::text("secret").with_status(103), line!()), "103 is an interim status"),
            (
                || (Response::text("secret").with_header("a b", "c"), line!()),
                r#"the header field \"a b\" has"#,
            ),
            (|| (Response::text("secret").with_header("X", "\n"), line!()), r#"the header field \"X\" has"#),
            (|| (Response::text("").with_header("content-type", "\n"), line!()), r#"\"content-type\" has"#),
            (|| (Response::text("").with_content_type("a\rb"), line!()), r#"\"Content-Type\" has"#),
        ];
        for (make, problem) in table {
            let ((response, line), log) = logged(make);
            assert_eq!((response.code(), response.body().unwrap().len()), (500, 0), "{problem}");
            assert!(log.contains(problem) && log.lines().count() == 1, "{log}");
            assert!(log.contains(&format!("location=\"src/http/response.rs:{line}:")), "{log}");
            let later = response.with_status(200).with_header("X", "y").with_content_type("text/html");
            assert_eq!((later.code(), later.headers().count()), (500, 0), "whatever is added later");
        }
    }

    #[test]
    fn the_fields_of_an_answer_are_those_that_are_written() {
        let fields = Bytes::from("\r\nContent-Type: text/css\r\nETag: \"a\"\r\nX: a: b");
        let standing = Arc::new(Standing::new(fields.clone(), Bytes::from("content")));
        let own = ["Server", "Date", "Content-Length"];
        for response in [
            Response::empty(204),
            Response::text("a").with_header("ETag", "\"a\"").with_header("etag", ""),
            Response::text("a").with_status(304).with_header("ETag", "\"a\""),
            Response::text("a").with_content_type("text/css".to_owned()).with_header("b", "\tc "),
            Response::prepared(Status::OK, fields.clone(), Bytes::new()).with_header("Y", "z"),
            Response::prepared(Status::OK, fields, Bytes::new()).with_content_type("text/html"),
            Response::standing(Arc::clone(&standing)),
            Response::standing(Arc::clone(&standing)).with_header("Y", "z"),
            Response::standing(standing).with_content_type("text/html".to_owned()),
        ] {
            let listed: Vec<(String, Vec<u8>)> = response
                .headers()
                .map(|(name, value)| (name.to_owned(), value.trim_ascii().to_vec()))
                .collect();
            let octets = octets(response, ConnectionField::Silent);
            let mut storage = [httparse::EMPTY_HEADER; 16];
            let mut head = httparse::Response::new(&mut storage);
            assert!(head.parse(&octets).unwrap().is_complete());
            let written: Vec<_> = head
                .headers
                .iter()
                .filter(|field| !own.contains(&field.name))
                .map(|field| (field.name.to_owned(), field.value.trim_ascii().to_vec()))
                .collect();
            assert_eq!(listed, written);
        }
    }

    #[test]
    fn a_field_is_found_by_its_name() {
        let fields = Bytes::from("\r\nContent-Type: text/css\r\nETag: \"a\"\r\nX: a: b");
        let response =
            Response::prepared(Status::OK, fields.clone(), Bytes::new()).with_header("Y", "\u{e9}");
        for (name, value) in [
            ("content-type", Some("text/css")),
            ("ETAG", Some("\"a\"")),
            ("X", Some("a: b")),
            ("Y", None),
            ("Content-Length", None),
        ] {
            assert_eq!(response.header(name), value, "{name}");
        }
        let standing = || Response::standing(Arc::new(Standing::new(fields.clone(), Bytes::from("content"))));
        assert_eq!(standing().header("etag"), Some("\"a\""));
        for retyped in
            [response.with_content_type("text/html"), standing().with_header("content-type", "text/html")]
        {
            let types: Vec<_> = retyped.headers().filter(|(name, _)| *name == "Content-Type").collect();
            assert_eq!(types, [("Content-Type", &b"text/html"[..])], "one, and the later one");
            assert_eq!(retyped.header("ETag"), Some("\"a\""));
        }
    }

    /// All of it, with the content that was not copied.
    fn octets(response: Response, connection: ConnectionField) -> Vec<u8> {
        let mut out = Vec::new();
        let date = Date::render(SystemTime::UNIX_EPOCH, true).0;
        let framing = Framing { connection, version: Version::Http11, head_only: false, date: &date };
        if let Some(Rest::Bytes(rest)) = response.write(&mut out, framing) {
            out.extend_from_slice(&rest);
        }
        out
    }

    /// What ends a line, a field or a string somewhere. One that is found makes the rest of the answer unimportant: few
    /// of what is tried have one.
    fn breaker() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec!["\r\n", "\n", "\r", "\0", "\x7f", "\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"])
    }

    fn name() -> impl Strategy<Value = String> {
        prop_oneof![
            12 => "[A-Za-z!#$%&'*+.^_`|~-]{1,12}",
            2 => "(?i)content-type|connection|content-length|date|transfer-encoding|set-cookie",
            1 => ("[a-z]{0,3}", breaker(), "[a-z]{0,3}").prop_map(|(a, breaker, b)| format!("{a}{breaker}{b}")),
            1 => "[a-z]{0,3}[ :()é]{1,2}[a-z]{0,3}",
            1 => any::<String>(),
        ]
    }

    fn value() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            12 => "[ -~\t]{0,20}".prop_map(String::into_bytes),
            2 => ("[a-z]{0,3}", breaker(), "[a-z: ]{0,9}").prop_map(|(a, breaker, b)| format!("{a}{breaker}{b}").into_bytes()),
            1 => prop::collection::vec(128u8.., 0..20),
            1 => prop::collection::vec(any::<u8>(), 0..20),
        ]
    }

    proptest! {
        /// RFC 9112 section 11.1: whoever chooses names, values and statuses, what is written is one response, and has
        /// no line that the server or the program did not write.
        #[test]
        fn nothing_that_is_given_becomes_a_second_response_or_a_line_of_its_own(
            code in prop_oneof![8 => 200u16..600, 1 => any::<u16>()],
            media_type in prop::option::of(prop_oneof![4 => "[a-z]/[a-z;= ]{1,9}", 1 => any::<String>()]),
            fields in prop::collection::vec((name(), value()), 0..6),
            body in prop::collection::vec(any::<u8>(), 0..20),
            close in any::<bool>(),
        ) {
            let mut response = Response::bytes(body.clone()).with_status(code);
            for (name, value) in fields.clone() {
                response = response.with_header(name, value);
            }
            if let Some(media_type) = media_type.clone() {
                response = response.with_content_type(media_type);
            }
            let (code, listed) = (response.code(), response.headers().count());
            let connection = if close { ConnectionField::Close } else { ConnectionField::Silent };
            let octets = octets(response, connection);

            let mut storage = [httparse::EMPTY_HEADER; 16];
            let mut head = httparse::Response::new(&mut storage);
            let end = match head.parse(&octets) {
                Ok(httparse::Status::Complete(end)) => end,
                other => panic!("{other:?}: {:?}", String::from_utf8_lossy(&octets)),
            };
            prop_assert_eq!((head.version, head.code), (Some(1), Some(code)));
            // the server's own, and no more than was given
            let length = head.headers.iter().filter(|field| field.name.eq_ignore_ascii_case("content-length")).collect::<Vec<_>>();
            prop_assert_eq!(head.headers.len(), 2 + usize::from(close) + length.len() + listed);
            prop_assert_eq!(octets[..end].split(|octet| *octet == b'\n').count(), head.headers.len() + 3);
            prop_assert_eq!(octets[..end].iter().filter(|octet| **octet == b'\r').count(), head.headers.len() + 2);
            let own = ["Server", "Date", "Connection", "Content-Length", "Content-Type"];
            for field in head.headers.iter().filter(|field| !own.contains(&field.name)) {
                let is_given = |(name, value): &(String, Vec<u8>)| {
                    name == field.name && value.trim_ascii() == field.value.trim_ascii()
                };
                prop_assert!(fields.iter().any(is_given), "{}", field.name);
            }
            // and where it ends is where the next one begins
            let content = match length[..] {
                [] => 0,
                [field] => std::str::from_utf8(field.value).unwrap().parse().unwrap(),
                _ => panic!("two lengths"),
            };
            prop_assert_eq!(length.is_empty(), code == 204 || code == 304);
            prop_assert_eq!(octets.len(), end + content);
            prop_assert!(content == 0 || octets[end..] == body);
        }
    }

    #[test]
    fn an_answer_is_no_larger_than_it_must_be() {
        assert!(
            size_of::<Response>() <= 120,
            "{}: it is moved several times a request",
            size_of::<Response>()
        );
    }
}

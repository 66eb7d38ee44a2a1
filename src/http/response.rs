//! A response, and how its head is written: status line, Server, Date, then what the response brings, then its framing.
//!
//! Neighbours: made by handlers and by `files`, written by `exchange`; what is too long to be copied behind its head
//! is handed to `worker` as `Rest`.

use super::date::Date;
use super::pipe::{self, Pieces, Sender, Watch};
use super::request::Version;
use crate::sys::file::MappedFile;
use bytes::Bytes;
use std::borrow::Cow;
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// A status code that uringd answers with (RFC 9110 section 15).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Status(u16);

/// An answer. The length, the date and the connection's fate are written by the server.
#[derive(Debug)]
pub struct Response {
    status: Status,
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
pub struct FileRange {
    /// Which file.
    pub file: Arc<MappedFile>,
    /// Which octets of it.
    pub range: Range<u64>,
}

/// What a stream is made of; asked for the next one when the one before has been taken by the client.
pub type Stream = Box<dyn Iterator<Item = io::Result<Bytes>> + Send>;

/// Content that was not copied behind its head: it is sent from where it is.
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
pub(super) struct Framing<'a> {
    pub connection: ConnectionField,
    pub version: Version,
    /// The request was a HEAD: GET's fields and no content (RFC 9110 section 9.3.2).
    pub head_only: bool,
    pub date: &'a Date,
}

/// What is said of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnectionField {
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

macro_rules! statuses {
    ($($name:ident = $code:literal $reason:literal,)*) => {
        impl Status {
            $(#[doc = concat!("`", $code, " ", $reason, "`")]
            pub const $name: Status = Status($code);)*

            /// The whole status line, so that it is one copy.
            #[inline]
            fn line(self) -> &'static [u8] {
                match self.0 {
                    $($code => concat!("HTTP/1.1 ", $code, " ", $reason, "\r\n").as_bytes(),)*
                    _ => unreachable!("statuses are made from this table only"),
                }
            }

            /// The reason phrase.
            pub fn reason(self) -> &'static str {
                match self.0 {
                    $($code => $reason,)*
                    _ => unreachable!("statuses are made from this table only"),
                }
            }
        }
    };
}

statuses! {
    OK = 200 "OK",
    CREATED = 201 "Created",
    ACCEPTED = 202 "Accepted",
    NO_CONTENT = 204 "No Content",
    PARTIAL_CONTENT = 206 "Partial Content",
    MOVED_PERMANENTLY = 301 "Moved Permanently",
    FOUND = 302 "Found",
    SEE_OTHER = 303 "See Other",
    NOT_MODIFIED = 304 "Not Modified",
    TEMPORARY_REDIRECT = 307 "Temporary Redirect",
    PERMANENT_REDIRECT = 308 "Permanent Redirect",
    BAD_REQUEST = 400 "Bad Request",
    UNAUTHORIZED = 401 "Unauthorized",
    FORBIDDEN = 403 "Forbidden",
    NOT_FOUND = 404 "Not Found",
    METHOD_NOT_ALLOWED = 405 "Method Not Allowed",
    NOT_ACCEPTABLE = 406 "Not Acceptable",
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
    UNPROCESSABLE_CONTENT = 422 "Unprocessable Content",
    TOO_MANY_REQUESTS = 429 "Too Many Requests",
    FIELDS_TOO_LARGE = 431 "Request Header Fields Too Large",
    INTERNAL_SERVER_ERROR = 500 "Internal Server Error",
    NOT_IMPLEMENTED = 501 "Not Implemented",
    BAD_GATEWAY = 502 "Bad Gateway",
    SERVICE_UNAVAILABLE = 503 "Service Unavailable",
    GATEWAY_TIMEOUT = 504 "Gateway Timeout",
    VERSION_NOT_SUPPORTED = 505 "HTTP Version Not Supported",
}

impl Status {
    /// The three digits.
    pub fn code(self) -> u16 {
        self.0
    }

    /// RFC 9110 sections 15.3.5 and 15.4.5: these never have content.
    fn has_content(self) -> bool {
        self != Status::NO_CONTENT && self != Status::NOT_MODIFIED
    }
}

impl Response {
    fn new(status: Status, content_type: &'static str, body: Body) -> Response {
        Response { status, content_type, headers: Vec::new(), prepared: None, body }
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

    /// This status, with its reason phrase for a body; nothing for `204` and `304`.
    pub fn status(status: Status) -> Response {
        let body = if status.has_content() { status.reason() } else { "" };
        Response::text(body).with_status(status)
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
        Response::new(Status::OK, "application/octet-stream", Body::Stream(Box::new(pieces.into_iter())))
    }

    /// `200 OK` with content that another thread, or a future, makes bit by bit: the sender may be taken anywhere. A
    /// client that does not read makes the sender wait. Framed, ended and cut off as with [`Response::stream`].
    ///
    /// ```
    /// use uringd::{Request, Response};
    ///
    /// fn handle(_: &Request<'_>) -> Response {
    ///     let (mut sender, response) = Response::channel();
    ///     std::thread::spawn(move || {
    ///         for n in 0..10 {
    ///             if sender.blocking_send(format!("line {n}\n")).is_err() {
    ///                 return; // the client is gone
    ///             }
    ///         }
    ///         sender.finish();
    ///     });
    ///     response.with_content_type("text/plain")
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

    /// The same with this status.
    pub fn with_status(mut self, status: Status) -> Response {
        self.status = status;
        self
    }

    /// The same with this media type, such as `text/html; charset=utf-8`.
    pub fn with_content_type(self, value: impl Into<Cow<'static, str>>) -> Response {
        match value.into() {
            value if !is_field_value(value.as_bytes()) => Response::unfit("Content-Type"),
            Cow::Borrowed(content_type) => Response { content_type, ..self.without_content_type() },
            Cow::Owned(value) => {
                let mut response = self.without_content_type();
                response.headers.push((Cow::Borrowed("Content-Type"), value.into()));
                response
            }
        }
    }

    fn without_content_type(mut self) -> Response {
        self.headers.retain(|(name, _)| name != "Content-Type");
        Response { content_type: "", ..self }
    }

    /// The same with one more header field. `Content-Type` replaces what there was; fields that the server writes
    /// itself (the length, the date, the connection's fate) are left out.
    ///
    /// A name that is no token or a value with control characters in it would let whoever chose it write fields or
    /// answers of his own: then the answer becomes a `500 Internal Server Error`, and the log says why.
    pub fn with_header(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Bytes>) -> Response {
        let (name, value) = (name.into(), value.into());
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
    fn unfit(name: &str) -> Response {
        tracing::error!(
            ?name,
            "a handler's header field has characters that no field may have; answered 500"
        );
        Response::status(Status::INTERNAL_SERVER_ERROR)
    }

    pub(crate) fn with_range(mut self, file: Arc<MappedFile>, range: Range<u64>) -> Response {
        self.body = Response::file(file, range).body;
        self
    }

    /// The status code.
    pub fn code(&self) -> u16 {
        self.status.0
    }

    /// The content, as it would be sent for a GET; `None` for a file or a stream.
    pub fn body(&self) -> Option<&Bytes> {
        match &self.body {
            Body::Bytes(bytes) => Some(bytes),
            Body::Standing(standing) => Some(&standing.content),
            Body::File(_) | Body::Stream(_) | Body::Pipe(_) => None,
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

    /// Writes the head, and the content behind it unless that is to be sent from where it is.
    #[inline]
    pub(super) fn write(self, out: &mut Vec<u8>, framing: Framing<'_>) -> Option<Rest> {
        if let Some(standing) = self.stands(&framing) {
            return Some(Rest::Bytes(standing.whole(framing.date)));
        }
        let copied = match &self.body {
            Body::Bytes(bytes) if bytes.len() <= COPIED_BODY_OCTETS_MAX => bytes.len(),
            _ => 0,
        };
        let prepared = self.prepared.as_deref().unwrap_or_default();
        out.reserve(HEAD_OCTETS_USUAL + prepared.len() + copied);
        out.extend_from_slice(self.status.line());
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
            // RFC 9110 section 8.6: a server MUST NOT send Content-Length with 204
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
        for part in [Status::OK.line(), date.lines(), &self.fields] {
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

impl From<Status> for Response {
    fn from(status: Status) -> Response {
        Response::status(status)
    }
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
    /// The first field of this name, as far as it is known before the answer is written.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        let prepared = std::str::from_utf8(self.prepared.as_deref().unwrap_or_default())
            .unwrap()
            .split("\r\n")
            .filter(|line| !line.is_empty());
        let standing = match &self.body {
            Body::Standing(standing) => std::str::from_utf8(&standing.fields).unwrap(),
            _ => "",
        };
        let prepared = prepared.chain(standing.split("\r\n").filter(|line| !line.is_empty()));
        let mut fields: Vec<(&str, &[u8])> = prepared
            .map(|line| line.split_once(": ").unwrap())
            .map(|(n, value)| (n, value.as_bytes()))
            .collect();
        fields.extend(self.headers.iter().map(|(n, value)| (n.as_ref(), value.as_ref())));
        fields.push(("Content-Type", self.content_type.as_bytes()));
        let found = fields.iter().find(|(n, value)| n.eq_ignore_ascii_case(name) && !value.is_empty())?;
        Some(String::from_utf8(found.1.to_vec()).unwrap())
    }

    /// What of which file is its content.
    pub(crate) fn file_range(&self) -> Option<&FileRange> {
        match &self.body {
            Body::File(range) => Some(range),
            Body::Bytes(_) | Body::Standing(_) | Body::Stream(_) | Body::Pipe(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
}

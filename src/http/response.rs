//! A response, and how it is written: status line, Server, Date, then what the response brings, then its length.
//!
//! Neighbours: made by handlers, written by `exchange`.

use super::date::Date;
use bytes::Bytes;

/// A status code that uringd answers with (RFC 9110 section 15).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Status(u16);

/// An answer. The length, the date and the connection's fate are written by the server.
#[derive(Debug, Clone)]
pub struct Response {
    status: Status,
    content_type: &'static str,
    headers: Vec<(&'static str, Bytes)>,
    body: Bytes,
}

/// What the connection's fate adds to an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnectionField {
    /// Nothing changes, nothing is said.
    Silent,
    /// `Connection: close`.
    Close,
    /// `Connection: keep-alive`, which HTTP/1.0 clients need to hear.
    KeepAlive,
}

/// Bodies beyond this are not copied behind their head but sent from where they are.
pub(super) const COPIED_BODY_OCTETS_MAX: usize = 16 * 1024;

/// Most heads are shorter; the buffer grows for those that are not.
const HEAD_OCTETS_USUAL: usize = 256;

macro_rules! statuses {
    ($($name:ident = $code:literal $reason:literal,)*) => {
        impl Status {
            $(#[doc = concat!("`", $code, " ", $reason, "`")]
            pub const $name: Status = Status($code);)*

            /// The whole status line, so that it is one copy.
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
    NO_CONTENT = 204 "No Content",
    BAD_REQUEST = 400 "Bad Request",
    FORBIDDEN = 403 "Forbidden",
    NOT_FOUND = 404 "Not Found",
    METHOD_NOT_ALLOWED = 405 "Method Not Allowed",
    REQUEST_TIMEOUT = 408 "Request Timeout",
    CONTENT_TOO_LARGE = 413 "Content Too Large",
    URI_TOO_LONG = 414 "URI Too Long",
    FIELDS_TOO_LARGE = 431 "Request Header Fields Too Large",
    INTERNAL_SERVER_ERROR = 500 "Internal Server Error",
    NOT_IMPLEMENTED = 501 "Not Implemented",
    SERVICE_UNAVAILABLE = 503 "Service Unavailable",
    VERSION_NOT_SUPPORTED = 505 "HTTP Version Not Supported",
}

impl Status {
    /// The three digits.
    pub fn code(self) -> u16 {
        self.0
    }
}

impl Response {
    /// `200 OK` with this text. A [`Bytes`] that is kept and cloned costs no allocation per request.
    pub fn text(body: impl Into<Bytes>) -> Response {
        Response {
            status: Status::OK,
            content_type: "text/plain; charset=utf-8",
            headers: Vec::new(),
            body: body.into(),
        }
    }

    /// This status, with its reason phrase for a body; nothing for `204`.
    pub fn status(status: Status) -> Response {
        let body = if status == Status::NO_CONTENT { "" } else { status.reason() };
        let mut response = Response::text(body).with_status(status);
        if status == Status::METHOD_NOT_ALLOWED {
            // RFC 9110 section 15.5.6: MUST generate Allow
            response = response.with_header("Allow", "GET, HEAD");
        }
        response
    }

    /// The same with another status.
    pub fn with_status(mut self, status: Status) -> Response {
        self.status = status;
        self
    }

    /// The same with one more header field.
    ///
    /// # Panics
    /// If the value has control characters in it, which would end the field early.
    pub fn with_header(mut self, name: &'static str, value: impl Into<Bytes>) -> Response {
        let value = value.into();
        assert!(
            !value.iter().any(|c| c.is_ascii_control() && *c != b'\t'),
            "control character in header field {name}"
        );
        self.headers.push((name, value));
        self
    }

    /// The status code.
    pub fn code(&self) -> u16 {
        self.status.0
    }

    /// The content, as it would be sent for a GET.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Writes head and body behind `out`. A body too long to be copied is given back to be sent from where it is.
    #[inline]
    pub(super) fn write(
        &self,
        out: &mut Vec<u8>,
        connection: ConnectionField,
        head_only: bool,
        date: &Date,
    ) -> Option<Bytes> {
        out.reserve(HEAD_OCTETS_USUAL + self.body.len().min(COPIED_BODY_OCTETS_MAX));
        out.extend_from_slice(self.status.line());
        out.extend_from_slice(date.lines());
        match connection {
            ConnectionField::Silent => {}
            ConnectionField::Close => out.extend_from_slice(b"\r\nConnection: close"),
            ConnectionField::KeepAlive => out.extend_from_slice(b"\r\nConnection: keep-alive"),
        }
        for (name, value) in &self.headers {
            for part in [b"\r\n".as_slice(), name.as_bytes(), b": ", value] {
                out.extend_from_slice(part);
            }
        }
        if self.status == Status::NO_CONTENT {
            // RFC 9110 section 8.6: a server MUST NOT send Content-Length with 204
            out.extend_from_slice(b"\r\n\r\n");
            return None;
        }
        out.extend_from_slice(b"\r\nContent-Type: ");
        out.extend_from_slice(self.content_type.as_bytes());
        out.extend_from_slice(b"\r\nContent-Length: ");
        out.extend_from_slice(itoa::Buffer::new().format(self.body.len()).as_bytes());
        out.extend_from_slice(b"\r\n\r\n");
        if head_only {
            return None;
        }
        if self.body.len() > COPIED_BODY_OCTETS_MAX {
            return Some(self.body.clone());
        }
        out.extend_from_slice(&self.body);
        None
    }
}

impl From<Status> for Response {
    fn from(status: Status) -> Response {
        Response::status(status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    fn written(response: &Response, connection: ConnectionField, head_only: bool) -> (String, Option<Bytes>) {
        let mut out = Vec::new();
        let date = Date::render(SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777)).0;
        let rest = response.write(&mut out, connection, head_only, &date);
        (String::from_utf8(out).unwrap(), rest)
    }

    const HEAD: &str = "HTTP/1.1 200 OK\r\nServer: uringd\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n";

    #[test]
    fn an_answer_octet_by_octet() {
        let text = "Content-Type: text/plain; charset=utf-8\r\nContent-Length: 2\r\n\r\n";
        let response = Response::text("hi");
        assert_eq!(written(&response, ConnectionField::Silent, false).0, format!("{HEAD}{text}hi"));
        assert_eq!(written(&response, ConnectionField::Silent, true).0, format!("{HEAD}{text}"));
        assert_eq!(
            written(&response, ConnectionField::Close, false).0,
            format!("{HEAD}Connection: close\r\n{text}hi")
        );
        assert_eq!(
            written(&response, ConnectionField::KeepAlive, true).0,
            format!("{HEAD}Connection: keep-alive\r\n{text}")
        );
    }

    #[test]
    fn a_refused_method_is_told_what_is_allowed() {
        assert!(
            written(&Status::METHOD_NOT_ALLOWED.into(), ConnectionField::Close, false)
                .0
                .contains("\r\nAllow: GET, HEAD\r\n")
        );
    }

    #[test]
    fn no_content_has_neither_body_nor_length() {
        let (head, _) = written(&Status::NO_CONTENT.into(), ConnectionField::Silent, false);
        assert!(!head.contains("Content-"), "{head}");
    }

    #[test]
    fn a_long_body_is_not_copied() {
        let body = Bytes::from(vec![b'x'; COPIED_BODY_OCTETS_MAX + 1]);
        let (head, rest) = written(&Response::text(body.clone()), ConnectionField::Silent, false);
        assert!(head.ends_with("\r\n\r\n"));
        assert_eq!(rest.unwrap().as_ptr(), body.as_ptr());
        assert!(written(&Response::text(body), ConnectionField::Silent, true).1.is_none());
    }

    #[test]
    #[should_panic(expected = "control character")]
    fn a_header_value_cannot_end_its_field() {
        let _ = Response::text("").with_header("X", "a\r\nSet-Cookie: b");
    }
}
